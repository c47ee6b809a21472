#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// C = A op(B) of few rows of A. An invocation sums four columns over every SLICES'th four steps where B
// is stored [n, k], else every SLICES'th step; slices are joined by a tree: always the same order.

#include "product.glsl"

layout(constant_id = 3) const uint ROWS = 1u;
layout(constant_id = 4) const uint SLICES = 32u;

const uint ITEMS = 256u / SLICES;

shared vec4 joined[256];

vec4 sums[ROWS];

void stored_columns(uint slice, uint column) {
    for (uint k = 4u * slice; k < K; k += 4u * SLICES) {
        vec4 right[4];
        for (uint c = 0u; c < 4u; c++) { right[c] = rounded(load_b(column + c, k, N, K)); }
        for (uint row = 0u; row < ROWS; row++) {
            vec4 left = rounded(load_a(row, k, M, K));
            for (uint c = 0u; c < 4u; c++) {
                float sum = fma(left.x, right[c].x, sums[row][c]);
                sum = fma(left.y, right[c].y, sum);
                sum = fma(left.z, right[c].z, sum);
                sums[row][c] = fma(left.w, right[c].w, sum);
            }
        }
    }
}

void stored_rows(uint slice, uint column) {
    for (uint k = slice; k < K; k += SLICES) {
        vec4 right = rounded(load_b(k, column, K, N));
        for (uint row = 0u; row < ROWS; row++) {
            float left = a[at[0] + base_a + row * LDA + k];
            sums[row] = fma(vec4(ROUND ? bf16_round(left) : left), right, sums[row]);
        }
    }
}

void store(uint row, uint column, vec4 y) {
    uint to = at[3] + FIRST_C + (gl_WorkGroupID.z * M + row) * LDC + column;
    for (uint c = 0u; c < 4u && column + c < N; c++) {
        float z = y[c];
        if (BIAS) { z += bias[at[2] + column + c]; }
        if (ADD) { z += result[to + c]; }
        result[to + c] = z;
    }
}

void main() {
    find(gl_WorkGroupID.z);
    uint slice = TRANS_B ? LANE % SLICES : LANE / ITEMS;
    uint item = TRANS_B ? LANE / SLICES : LANE % ITEMS;
    uint column = (gl_WorkGroupID.x * ITEMS + item) * 4u, place = slice * ITEMS + item;
    for (uint row = 0u; row < ROWS; row++) { sums[row] = vec4(0.0); }
    if (TRANS_B) { stored_columns(slice, column); } else { stored_rows(slice, column); }
    for (uint row = 0u; row < ROWS; row++) {
        joined[place] = sums[row];
        for (uint width = SLICES / 2u; width > 0u; width /= 2u) {
            barrier();
            if (slice < width) { joined[place] += joined[place + width * ITEMS]; }
        }
        if (slice == 0u) { store(row, column, joined[place]); }
        barrier();
    }
}
