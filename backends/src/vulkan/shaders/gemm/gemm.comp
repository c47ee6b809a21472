#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef HALF
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
#endif
#include "core.glsl"

// C = op(A) op(B), A of f32, B in any weight format: forward (NT), toward the input (NN) and toward
// the weight (TN). A workgroup of 16 by 16 invocations owns a tile of C; each sums TM by TN of its
// elements in registers, over slabs of DEPTH steps of A and B in shared memory, in one fixed order.

#include "product.glsl"

// Rows and columns of an invocation, multiples of 4.
layout(constant_id = 3) const uint TM = 4u;
layout(constant_id = 4) const uint TN = 4u;
layout(constant_id = 5) const uint DEPTH = 16u;

const uint BM = 16u * TM;
const uint BN = 16u * TN;

// Padded by one so that columns lie in different banks.
shared vec4 slab_a[DEPTH * (BM / 4u + 1u)];
shared QUAD slab_b[DEPTH * (BN / 4u + 1u)];

void main() {
    uint first_row = gl_WorkGroupID.y * BM, first_column = gl_WorkGroupID.x * BN;
    uint index = gl_WorkGroupID.z / PARTS, part = gl_WorkGroupID.z % PARTS;
    find(index);
    uint base_c = FIRST_C + (part * (gl_NumWorkGroups.z / PARTS) + index) * M * N;
    uint begin = part * PART, end = min(K, begin + PART);

    uint tx = LANE % 16u, ty = LANE / 16u;
    vec4 sums[TM][TN / 4u];
    for (uint i = 0u; i < TM; i++) {
        for (uint j = 0u; j < TN / 4u; j++) { sums[i][j] = vec4(0.0); }
    }
    const uint stride_a = BM / 4u + 1u, stride_b = BN / 4u + 1u;
    for (uint k = begin; k < end; k += DEPTH) {
        for (uint t = LANE; t < BM * DEPTH / 4u; t += 256u) {
            if (TRANS_A) {
                uint row = t / (BM / 4u), quad = t % (BM / 4u);
                slab_a[row * stride_a + quad] = rounded(load_a(k + row, first_row + 4u * quad, end, M));
            } else {
                uint quad = t % (DEPTH / 4u), row = t / (DEPTH / 4u);
                vec4 v = rounded(load_a(first_row + row, k + 4u * quad, M, end));
                uint to = 4u * quad * stride_a + row / 4u;
                slab_a[to][row % 4u] = v.x;
                slab_a[to + stride_a][row % 4u] = v.y;
                slab_a[to + 2u * stride_a][row % 4u] = v.z;
                slab_a[to + 3u * stride_a][row % 4u] = v.w;
            }
        }
        for (uint t = LANE; t < BN * DEPTH / 4u; t += 256u) {
            if (TRANS_B) {
                uint quad = t % (DEPTH / 4u), row = t / (DEPTH / 4u);
                QUAD v = rounded(load_b(first_column + row, k + 4u * quad, N, end));
                uint to = 4u * quad * stride_b + row / 4u;
                slab_b[to][row % 4u] = v.x;
                slab_b[to + stride_b][row % 4u] = v.y;
                slab_b[to + 2u * stride_b][row % 4u] = v.z;
                slab_b[to + 3u * stride_b][row % 4u] = v.w;
            } else {
                uint row = t / (BN / 4u), quad = t % (BN / 4u);
                slab_b[row * stride_b + quad] = rounded(load_b(k + row, first_column + 4u * quad, end, N));
            }
        }
        barrier();
        for (uint step = 0u; step < DEPTH; step++) {
            vec4 right[TN / 4u];
            for (uint j = 0u; j < TN / 4u; j++) { right[j] = vec4(slab_b[step * stride_b + j * 16u + tx]); }
            for (uint i = 0u; i < TM / 4u; i++) {
                vec4 left = slab_a[step * stride_a + i * 16u + ty];
                for (uint j = 0u; j < TN / 4u; j++) {
                    sums[4u * i][j] = fma(vec4(left.x), right[j], sums[4u * i][j]);
                    sums[4u * i + 1u][j] = fma(vec4(left.y), right[j], sums[4u * i + 1u][j]);
                    sums[4u * i + 2u][j] = fma(vec4(left.z), right[j], sums[4u * i + 2u][j]);
                    sums[4u * i + 3u][j] = fma(vec4(left.w), right[j], sums[4u * i + 3u][j]);
                }
            }
        }
        barrier();
    }
    for (uint i = 0u; i < TM; i++) {
        uint row = first_row + (i / 4u) * 64u + ty * 4u + i % 4u;
        if (row >= M) { continue; }
        for (uint j = 0u; j < TN / 4u; j++) {
            uint column = first_column + j * 64u + tx * 4u;
            uint to = at[3] + base_c + row * LDC + column;
            vec4 y = sums[i][j];
            if (VEC_C) {
                if (column >= N) { continue; }
                if (BIAS) {
                    uint c = at[2] + column;
                    y += vec4(bias[c], bias[c + 1u], bias[c + 2u], bias[c + 3u]);
                }
                if (ADD) { y += result4[to / 4u]; }
                result4[to / 4u] = y;
            } else {
                for (uint c = 0u; c < 4u; c++) {
                    if (column + c >= N) { break; }
                    float z = y[c];
                    if (BIAS) { z += bias[at[2] + column + c]; }
                    if (ADD) { z += result[to + c]; }
                    result[to + c] = z;
                }
            }
        }
    }
}
