#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
#include "core.glsl"
#include "dot.glsl"

// C = A B of int8 codes in blocks of 32 along the sums: exact sums of a block, f32 beyond, in order. A
// is rows of blocks, an f32 scale and 32 signed bytes each; so is B, column by column, or the codes of
// a weight as it is stored. 64 by 64 results a workgroup of 16 by 16 invocations.

// B's: 3 Q8_0, 4 Q4_0, 5 Q4_1, 8 Q4_K, 10 as A.
layout(constant_id = 1) const uint FORMAT = 10u;
// Bits as in gemm.comp: 8 bias, 16 add.
layout(constant_id = 2) const uint FLAGS = 0u;

layout(set = 0, binding = 0) readonly buffer A { uint a[]; };
layout(set = 0, binding = 1) readonly buffer B { uint b[]; };
layout(set = 0, binding = 2) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 3) buffer C { float result[]; };

// Sizes; blocks of a row; bytes of a column of B; from the operand's start bytes to B and elements to C;
// elements of a row of C; then as in gemm.comp up to four leading axes: size, words of A and bytes of B.
#define M p[0]
#define N p[1]
#define BLOCKS p[2]
#define ROW_B p[3]
#define FIRST_B p[4]
#define FIRST_C p[5]
#define LDC p[6]
#define AXES p[7]

uint word_at(uint i) { return b[at[1] + i]; }
#include "quant.glsl"

// Of each row of A and column of B: a block's words, its scale, and B's least value.
shared uint slab_a[8 * 65];
shared uint slab_b[8 * 65];
shared float scales_a[64];
shared float scales_b[64];
shared float least_b[64];

const uint BYTES = FORMAT == 3u ? 34u : (FORMAT == 4u ? 18u : (FORMAT == 5u ? 20u : 36u));
const bool AFFINE = FORMAT == 5u || FORMAT == 8u;

// Where block `i` of a column begins; of Q4_K, the block of eight with it.
uint block_at(uint i) { return FORMAT == 8u ? i / 8u * 144u : i * BYTES; }

// Word s of block `i`, which is at `byte`, as signed bytes.
uint codes_at(uint byte, uint i, uint s) {
    if (FORMAT == 10u) { return word_at(byte / 4u + 1u + s); }
    if (FORMAT == 3u) { return load32(byte + 2u + 4u * s); }
    if (FORMAT == 8u) { return (load32(byte + 16u + i % 8u / 2u * 32u + 4u * s) >> (i % 2u * 4u)) & 0x0f0f0f0fu; }
    uint q = (load32(byte + (AFFINE ? 4u : 2u) + s % 4u * 4u) >> (s / 4u * 4u)) & 0x0f0f0f0fu;
    // Less 8 each, which borrows of no neighbour's bits.
    return AFFINE ? q : ((q | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
}

// Its scale and least value.
vec2 scales_at(uint byte, uint i) {
    if (FORMAT == 10u) { return vec2(uintBitsToFloat(word_at(byte / 4u)), 0.0); }
    vec2 scales = vec2(f16_value(load16(byte)), AFFINE ? f16_value(load16(byte + 2u)) : 0.0);
    return FORMAT == 8u ? scales * vec2(q4_k_steps(byte, i % 8u)) * vec2(1.0, -1.0) : scales;
}

void main() {
    uint first_row = gl_WorkGroupID.y * 64u, first_column = gl_WorkGroupID.x * 64u;
    uint base_a = at[0], base_b = FIRST_B, rest = gl_WorkGroupID.z;
    for (uint d = 0u; d < AXES; d++) {
        uint size = p[8u + 3u * d];
        base_a += rest % size * p[9u + 3u * d];
        base_b += rest % size * p[10u + 3u * d];
        rest /= size;
    }
    uint tx = LANE % 16u, ty = LANE / 16u;
    vec4 sums[4];
    for (uint i = 0u; i < 4u; i++) { sums[i] = vec4(0.0); }
    for (uint block = 0u; block < BLOCKS; block++) {
        for (uint t = LANE; t < 512u; t += 256u) {
            uint s = t % 8u, of = t / 8u, row = first_row + of, column = first_column + of;
            uint from_a = base_a + (row * BLOCKS + block) * 9u, from_b = base_b + column * ROW_B + block_at(block);
            slab_a[s * 65u + of] = row < M ? a[from_a + 1u + s] : 0u;
            slab_b[s * 65u + of] = column < N ? codes_at(from_b, block, s) : 0u;
            if (s == 0u) {
                scales_a[of] = row < M ? uintBitsToFloat(a[from_a]) : 0.0;
                vec2 of_b = column < N ? scales_at(from_b, block) : vec2(0.0);
                scales_b[of] = of_b.x;
                if (AFFINE) { least_b[of] = of_b.y; }
            }
        }
        barrier();
        ivec4 dots[4], of_a = ivec4(0);
        for (uint i = 0u; i < 4u; i++) { dots[i] = ivec4(0); }
        for (uint s = 0u; s < 8u; s++) {
            QUAD right[4];
            for (uint j = 0u; j < 4u; j++) { right[j] = quad(slab_b[s * 65u + tx + 16u * j]); }
            for (uint i = 0u; i < 4u; i++) {
                QUAD left = quad(slab_a[s * 65u + ty + 16u * i]);
                for (uint j = 0u; j < 4u; j++) { dots[i][j] += dot4(left, right[j]); }
                if (AFFINE) { of_a[i] += dot4(left, quad(0x01010101u)); }
            }
        }
        for (uint i = 0u; i < 4u; i++) {
            float scale = scales_a[ty + 16u * i];
            for (uint j = 0u; j < 4u; j++) {
                uint column = tx + 16u * j;
                sums[i][j] = fma(float(dots[i][j]), scale * scales_b[column], sums[i][j]);
                if (AFFINE) { sums[i][j] = fma(float(of_a[i]) * scale, least_b[column], sums[i][j]); }
            }
        }
        barrier();
    }
    for (uint i = 0u; i < 4u; i++) {
        for (uint j = 0u; j < 4u; j++) {
            uint row = first_row + ty + 16u * i, column = first_column + tx + 16u * j;
            if (row >= M || column >= N) { continue; }
            uint to = at[3] + FIRST_C + (gl_WorkGroupID.z * M + row) * LDC + column;
            float y = sums[i][j];
            if ((FLAGS & 8u) != 0u) { y += bias[at[2] + column]; }
            if ((FLAGS & 16u) != 0u) { y += result[to]; }
            result[to] = y;
        }
    }
}
