#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
#include "core.glsl"
#include "dot.glsl"

// C = A B of bytes with exact sums, times a scale of each row of A and column of B: 64 by 64 results a
// workgroup of 16 by 16 invocations.

#include "bytes.glsl"

// Words of four steps, 16 of each row of A and column of B.
shared uint slab_a[16 * 65];
shared uint slab_b[16 * 65];

void main() {
    uint first_row = gl_WorkGroupID.y * 64u, first_column = gl_WorkGroupID.x * 64u;
    uint tx = LANE % 16u, ty = LANE / 16u;
    ivec4 sums[4];
    for (uint i = 0u; i < 4u; i++) { sums[i] = ivec4(0); }
    for (uint k = 0u; k < K; k += 64u) {
        // Neighbours take what lies side by side.
        bool trans = (FLAGS & 1u) != 0u;
        for (uint t = LANE; t < 1024u; t += 256u) {
            uint c = trans ? t / 16u : t % 64u, s = trans ? t % 16u : t / 64u;
            slab_a[t % 16u * 65u + t / 16u] = word_a(first_row + t / 16u, k + t % 16u * 4u);
            slab_b[s * 65u + c] = word_b(first_column + c, k + s * 4u);
        }
        barrier();
        for (uint s = 0u; s < 16u; s++) {
            QUAD right[4];
            for (uint j = 0u; j < 4u; j++) { right[j] = quad(slab_b[s * 65u + tx + 16u * j]); }
            for (uint i = 0u; i < 4u; i++) {
                QUAD left = quad(slab_a[s * 65u + ty + 16u * i]);
                for (uint j = 0u; j < 4u; j++) { sums[i][j] += dot4(left, right[j]); }
            }
        }
        barrier();
    }
    for (uint i = 0u; i < 4u; i++) {
        for (uint j = 0u; j < 4u; j++) {
            write_result(first_row + ty + 16u * i, first_column + tx + 16u * j, sums[i][j]);
        }
    }
}
