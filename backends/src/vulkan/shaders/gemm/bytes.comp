#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// C = A B of bytes with exact sums, times a scale of each row of A and column of B: 64 by 64 results a
// workgroup of 16 by 16 invocations.

// Bits: 1 B is stored [n, k], 2 one scale of A, 4 one of B, 8 bias.
layout(constant_id = 1) const uint FLAGS = 0u;

layout(set = 0, binding = 0) readonly buffer A { uint a[]; };
layout(set = 0, binding = 1) readonly buffer B { uint b[]; };
layout(set = 0, binding = 2) readonly buffer ScalesA { float scales_a[]; };
layout(set = 0, binding = 3) readonly buffer ScalesB { float scales_b[]; };
layout(set = 0, binding = 4) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 5) writeonly buffer C { float result[]; };

#define M p[0]
#define N p[1]
#define K p[2]

shared int slab_a[16 * 65];
shared int slab_b[16 * 65];

void main() {
    uint first_row = gl_WorkGroupID.y * 64u, first_column = gl_WorkGroupID.x * 64u;
    uint tx = LANE % 16u, ty = LANE / 16u;
    ivec4 sums[4];
    for (uint i = 0u; i < 4u; i++) { sums[i] = ivec4(0); }
    for (uint k = 0u; k < K; k += 16u) {
        for (uint t = LANE; t < 1024u; t += 256u) {
            uint row = first_row + t / 16u, step = k + t % 16u, i = row * K + step;
            int v = row < M && step < K ? bitfieldExtract(int(a[at[0] + i / 4u]), int(i % 4u * 8u), 8) : 0;
            slab_a[t % 16u * 65u + t / 16u] = v;
        }
        for (uint t = LANE; t < 1024u; t += 256u) {
            bool trans = (FLAGS & 1u) != 0u;
            uint c = trans ? t / 16u : t % 64u, s = trans ? t % 16u : t / 64u;
            uint column = first_column + c, step = k + s, i = trans ? column * K + step : step * N + column;
            int v = column < N && step < K ? bitfieldExtract(int(b[at[1] + i / 4u]), int(i % 4u * 8u), 8) : 0;
            slab_b[s * 65u + c] = v;
        }
        barrier();
        for (uint s = 0u; s < 16u; s++) {
            uint r = s * 65u + tx;
            ivec4 right = ivec4(slab_b[r], slab_b[r + 16u], slab_b[r + 32u], slab_b[r + 48u]);
            for (uint i = 0u; i < 4u; i++) { sums[i] += slab_a[s * 65u + ty + 16u * i] * right; }
        }
        barrier();
    }
    for (uint i = 0u; i < 4u; i++) {
        for (uint j = 0u; j < 4u; j++) {
            uint row = first_row + ty + 16u * i, column = first_column + tx + 16u * j;
            if (row >= M || column >= N) { continue; }
            precise float y = float(sums[i][j]) * scales_a[at[2] + ((FLAGS & 2u) != 0u ? 0u : row)];
            y = y * scales_b[at[3] + ((FLAGS & 4u) != 0u ? 0u : column)];
            if ((FLAGS & 8u) != 0u) { y = y + bias[at[4] + column]; }
            result[at[5] + row * N + column] = y;
        }
    }
}
