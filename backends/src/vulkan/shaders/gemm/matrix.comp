#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "matrix.glsl"
#include "core.glsl"

// C = op(A) op(B) as in gemm.comp, by matrices of f16 with sums in f32: 64 by 64 results a workgroup.
//
// Halves hold an f32 in two pieces of 11 bits, the first and what it leaves: three products, of all
// pieces but both second ones, miss at most 3 * 2^-22 of |a||b|. Operands of 11 bits or fewer are one
// piece. Both operands count in units, powers of two, so that the largest number so far is between
// 2^14 and 2^15, and what is 2^40 times smaller than it is lost. Infinities come out as NaN.

#include "product.glsl"

// Whether an operand is in two pieces.
const bool TWO_A = (FLAGS & 256u) != 0u;
const bool TWO_B = (FLAGS & 512u) != 0u;

const uint DEPTH = 32u;
// Words of a line of a slab, which is stored as the operand is, with 16 bytes to spare: neighbours lie
// in other banks. Then groups of four of a line, and words of a piece.
const uint LINE_A = (TRANS_A ? SIDE : DEPTH) / 2u + 4u;
const uint LINE_B = (TRANS_B ? DEPTH : SIDE) / 2u + 4u;
const uint QUADS_A = (TRANS_A ? SIDE : DEPTH) / 4u;
const uint QUADS_B = (TRANS_B ? DEPTH : SIDE) / 4u;
const uint PIECE_A = (TRANS_A ? DEPTH : SIDE) * LINE_A;
const uint PIECE_B = (TRANS_B ? SIDE : DEPTH) * LINE_B;
const uint SLAB_A = TWO_A ? 2u * PIECE_A : PIECE_A;
const uint SLABS = SLAB_A + (TWO_B ? 2u * PIECE_B : PIECE_B);
const int LAYOUT_A = TRANS_A ? gl_CooperativeMatrixLayoutColumnMajor : gl_CooperativeMatrixLayoutRowMajor;
const int LAYOUT_B = TRANS_B ? gl_CooperativeMatrixLayoutColumnMajor : gl_CooperativeMatrixLayoutRowMajor;
// Groups of four that an invocation brings of each operand.
const uint EACH = SIDE * DEPTH / 4u / 256u;

// Both operands, then results on their way.
shared uint slab[SLABS > STAGED ? SLABS : STAGED];
// The largest finite magnitudes of A and B so far, as bits.
shared uint largest[2];

uint larger(uint most, vec4 v) {
    for (uint c = 0u; c < 4u; c++) {
        uint size = floatBitsToUint(v[c]) & 0x7fffffffu;
        if (size < 0x7f800000u) { most = max(most, size); }
    }
    return most;
}

// The unit of numbers of which that is the largest, as an exponent; the least, of zeros, is -126.
int unit_of(uint most) { return max(int(most >> 23), 15) - 141; }
float power(int exponent) { return uintBitsToFloat(uint(exponent + 127) << 23); }

// Four numbers as pieces.
void put(vec4 v, uint to, uint piece, bool two) {
    uvec2 first = uvec2(packHalf2x16(v.xy), packHalf2x16(v.zw));
    slab[to] = first.x;
    slab[to + 1u] = first.y;
    if (two) {
        v -= vec4(unpackHalf2x16(first.x), unpackHalf2x16(first.y));
        slab[to + piece] = packHalf2x16(v.xy);
        slab[to + piece + 1u] = packHalf2x16(v.zw);
    }
}

// Where in their slabs the matrices of operands begin.
uint left_at(uint i, uint step) {
    return TRANS_A ? step * LINE_A + matrix_row(i) / 2u : matrix_row(i) * LINE_A + step / 2u;
}
uint right_at(uint j, uint step) {
    return SLAB_A + (TRANS_B ? matrix_column(j) * LINE_B + step / 2u : step * LINE_B + matrix_column(j) / 2u);
}

void main() {
    uint first_row = gl_WorkGroupID.y * SIDE, first_column = gl_WorkGroupID.x * SIDE;
    uint index = gl_WorkGroupID.z / PARTS, part = gl_WorkGroupID.z % PARTS;
    find(index);
    uint base_c = FIRST_C + (part * (gl_NumWorkGroups.z / PARTS) + index) * M * N;
    uint begin = part * PART, end = min(K, begin + PART);

    SUMS(float) sums[TALL][WIDE];
    for (uint i = 0u; i < TALL; i++) {
        for (uint j = 0u; j < WIDE; j++) { sums[i][j] = SUMS(float)(0.0); }
    }
    // What the sums count in.
    int unit = -252;
    if (LANE < 2u) { largest[LANE] = 0u; }
    for (uint k = begin; k < end; k += DEPTH) {
        vec4 some_a[EACH], some_b[EACH];
        uint most_a = 0u, most_b = 0u;
        for (uint i = 0u; i < EACH; i++) {
            uint t = LANE + 256u * i;
            uint line = t / QUADS_A, column = t % QUADS_A * 4u;
            some_a[i] = rounded(
                TRANS_A ? load_a(k + line, first_row + column, end, M) : load_a(first_row + line, k + column, M, end));
            most_a = larger(most_a, some_a[i]);
            line = t / QUADS_B;
            column = t % QUADS_B * 4u;
            some_b[i] = rounded(
                TRANS_B ? load_b(first_column + line, k + column, N, end) : load_b(k + line, first_column + column, end, N));
            most_b = larger(most_b, some_b[i]);
        }
        // Nobody multiplies any more, and zeros are there.
        barrier();
        atomicMax(largest[0], most_a);
        atomicMax(largest[1], most_b);
        barrier();
        int unit_a = unit_of(largest[0]), unit_b = unit_of(largest[1]);
        for (uint i = 0u; i < EACH; i++) {
            uint t = LANE + 256u * i;
            put(some_a[i] * power(-unit_a), t / QUADS_A * LINE_A + t % QUADS_A * 2u, PIECE_A, TWO_A);
            put(some_b[i] * power(-unit_b), SLAB_A + t / QUADS_B * LINE_B + t % QUADS_B * 2u, PIECE_B, TWO_B);
        }
        barrier();
        if (unit != unit_a + unit_b) {
            float less = power(max(unit - unit_a - unit_b, -126));
            unit = unit_a + unit_b;
            for (uint i = 0u; i < TALL; i++) {
                for (uint j = 0u; j < WIDE; j++) { sums[i][j] = sums[i][j] * less; }
            }
        }
        for (uint step = 0u; step < DEPTH; step += STEPS) {
            for (uint i = 0u; i < TALL; i++) {
                LEFT(float16_t) left, left_rest;
                coopMatLoad(left, slab, left_at(i, step), LINE_A, LAYOUT_A);
                if (TWO_A) { coopMatLoad(left_rest, slab, left_at(i, step) + PIECE_A, LINE_A, LAYOUT_A); }
                for (uint j = 0u; j < WIDE; j++) {
                    RIGHT(float16_t) right;
                    if (TWO_B) {
                        coopMatLoad(right, slab, right_at(j, step) + PIECE_B, LINE_B, LAYOUT_B);
                        sums[i][j] = coopMatMulAdd(left, right, sums[i][j]);
                    }
                    coopMatLoad(right, slab, right_at(j, step), LINE_B, LAYOUT_B);
                    if (TWO_A) { sums[i][j] = coopMatMulAdd(left_rest, right, sums[i][j]); }
                    sums[i][j] = coopMatMulAdd(left, right, sums[i][j]);
                }
            }
        }
    }
    uint staged = gl_SubgroupID * RESULTS;
    for (uint i = 0u; i < TALL; i++) {
        for (uint j = 0u; j < WIDE; j++) {
            barrier();
            coopMatStore(sums[i][j], slab, staged, COLUMNS, gl_CooperativeMatrixLayoutRowMajor);
            barrier();
            for (uint t = gl_SubgroupInvocationID; t < RESULTS; t += SUBGROUP) {
                uint row = first_row + matrix_row(i) + t / COLUMNS;
                uint column = first_column + matrix_column(j) + t % COLUMNS;
                if (row >= M || column >= N) { continue; }
                // In two steps, for one might be beyond f32.
                float y = uintBitsToFloat(slab[staged + t]) * power(unit / 2) * power(unit - unit / 2);
                uint to = at[3] + base_c + row * LDC + column;
                if (BIAS) { y += bias[at[2] + column]; }
                if (ADD) { y += result[to]; }
                result[to] = y;
            }
        }
    }
}
