#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#include "matrix.glsl"
#include "core.glsl"

// C = A B as in bytes.comp, by matrices of bytes with sums of 32 bits: exact, so the bits are the same.

#include "bytes.glsl"

const uint DEPTH = 64u;
// Words of a line of 64 steps, with 16 bytes to spare: neighbours lie in other banks.
const uint LINE = 20u;
const uint SLAB = SIDE * LINE;

// Rows of A and columns of B, then results on their way.
shared uint slab[2u * SLAB > STAGED ? 2u * SLAB : STAGED];

void main() {
    uint first_row = gl_WorkGroupID.y * SIDE, first_column = gl_WorkGroupID.x * SIDE;
    bool trans = (FLAGS & 1u) != 0u;
    SUMS(int) sums[TALL][WIDE];
    for (uint i = 0u; i < TALL; i++) {
        for (uint j = 0u; j < WIDE; j++) { sums[i][j] = SUMS(int)(0); }
    }
    for (uint k = 0u; k < K; k += DEPTH) {
        // Neighbours take what lies side by side.
        for (uint t = LANE; t < 1024u; t += 256u) {
            uint column = trans ? t / 16u : t % 64u, word = trans ? t % 16u : t / 64u;
            slab[t / 16u * LINE + t % 16u] = word_a(first_row + t / 16u, k + t % 16u * 4u);
            slab[SLAB + column * LINE + word] = word_b(first_column + column, k + word * 4u);
        }
        barrier();
        for (uint step = 0u; step < DEPTH; step += STEPS) {
            for (uint i = 0u; i < TALL; i++) {
                LEFT(int8_t) left;
                coopMatLoad(left, slab, matrix_row(i) * LINE + step / 4u, LINE, gl_CooperativeMatrixLayoutRowMajor);
                for (uint j = 0u; j < WIDE; j++) {
                    RIGHT(int8_t) right;
                    coopMatLoad(right, slab, SLAB + matrix_column(j) * LINE + step / 4u, LINE,
                        gl_CooperativeMatrixLayoutColumnMajor);
                    sums[i][j] = coopMatMulAdd(left, right, sums[i][j]);
                }
            }
        }
        barrier();
    }
    uint staged = gl_SubgroupID * RESULTS;
    for (uint i = 0u; i < TALL; i++) {
        for (uint j = 0u; j < WIDE; j++) {
            coopMatStore(sums[i][j], slab, staged, COLUMNS, gl_CooperativeMatrixLayoutRowMajor);
            barrier();
            for (uint t = gl_SubgroupInvocationID; t < RESULTS; t += SUBGROUP) {
                uint row = first_row + matrix_row(i) + t / COLUMNS;
                uint column = first_column + matrix_column(j) + t % COLUMNS;
                write_result(row, column, int(slab[staged + t]));
            }
            barrier();
        }
    }
}
