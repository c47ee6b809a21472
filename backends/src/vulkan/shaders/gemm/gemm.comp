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

layout(constant_id = 1) const uint FORMAT = 0u;
// Bits: see launch/gemm.rs.
layout(constant_id = 2) const uint FLAGS = 0u;
// Rows and columns of an invocation, multiples of 4.
layout(constant_id = 3) const uint TM = 4u;
layout(constant_id = 4) const uint TN = 4u;
layout(constant_id = 5) const uint DEPTH = 16u;

const bool TRANS_A = (FLAGS & 1u) != 0u;
const bool TRANS_B = (FLAGS & 2u) != 0u;
const bool ROUND = (FLAGS & 4u) != 0u;
const bool BIAS = (FLAGS & 8u) != 0u;
const bool ADD = (FLAGS & 16u) != 0u;
// Whether rows of A, B and C are whole groups of four elements.
const bool VEC_A = (FLAGS & 32u) != 0u;
const bool VEC_B = (FLAGS & 64u) != 0u;
const bool VEC_C = (FLAGS & 128u) != 0u;

const uint BM = 16u * TM;
const uint BN = 16u * TN;

layout(set = 0, binding = 0) readonly buffer A { float a[]; };
layout(set = 0, binding = 0) readonly buffer A4 { vec4 a4[]; };
#ifdef HALF
// B is of f16 and stays so in shared memory. Its elements are those of f32: sums have the same bits.
#define QUAD f16vec4
layout(set = 0, binding = 1) readonly buffer B { float16_t b[]; };
layout(set = 0, binding = 1) readonly buffer B4 { f16vec4 b4[]; };
#else
#define QUAD vec4
layout(set = 0, binding = 1) readonly buffer B { uint b[]; };
layout(set = 0, binding = 1) readonly buffer B4 { uvec4 b4[]; };
#endif
layout(set = 0, binding = 2) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 3) buffer C { float result[]; };
layout(set = 0, binding = 3) buffer C4 { vec4 result4[]; };

// Sizes; elements of a stored row of A, bytes of one of B; steps along k of a part; parts.
#define M p[0]
#define N p[1]
#define K p[2]
#define LDA p[3]
#define ROW_B p[4]
#define PART p[5]
#define PARTS p[6]
// Elements from the operand's start to A and C, bytes to B.
#define FIRST_A p[7]
#define FIRST_B p[8]
#define FIRST_C p[9]
// Products: up to four leading axes, the innermost first: size, elements of A and bytes of B from
// one to the next. p[10] is their number.
#define AXES p[10]
// Elements of a row of C.
#define LDC p[23]

uint base_a, base_b;

#ifndef HALF
uint word_at(uint i) { return b[at[1] + i]; }
#include "quant.glsl"
#endif

// Padded by one so that columns lie in different banks.
shared vec4 slab_a[DEPTH * (BM / 4u + 1u)];
shared QUAD slab_b[DEPTH * (BN / 4u + 1u)];

// Four elements from (row, column) of a stored matrix, zero from `rows` and `columns` on.
vec4 load_a(uint row, uint column, uint rows, uint columns) {
    vec4 v = vec4(0.0);
    if (row >= rows || column >= columns) { return v; }
    uint i = at[0] + base_a + row * LDA + column;
    if (VEC_A) { return a4[i / 4u]; }
    v.x = a[i];
    if (column + 1u < columns) { v.y = a[i + 1u]; }
    if (column + 2u < columns) { v.z = a[i + 2u]; }
    if (column + 3u < columns) { v.w = a[i + 3u]; }
    return v;
}

QUAD load_b(uint row, uint column, uint rows, uint columns) {
    QUAD v = QUAD(0.0);
    if (row >= rows || column >= columns) { return v; }
#ifdef HALF
    uint i = 2u * at[1] + (base_b + row * ROW_B) / 2u + column;
    if (VEC_B) { return b4[i / 4u]; }
    v.x = b[i];
    if (column + 1u < columns) { v.y = b[i + 1u]; }
    if (column + 2u < columns) { v.z = b[i + 2u]; }
    if (column + 3u < columns) { v.w = b[i + 3u]; }
#else
    if (FORMAT > 2u) { return codes_elements(base_b + row * ROW_B, column); }
    uint i = base_b + row * ROW_B;
    i = (FORMAT == 0u ? i / 4u : i / 2u) + column;
    if (VEC_B && FORMAT == 0u) { return uintBitsToFloat(b4[(at[1] + i) / 4u]); }
    v.x = float_element(i);
    if (column + 1u < columns) { v.y = float_element(i + 1u); }
    if (column + 2u < columns) { v.z = float_element(i + 2u); }
    if (column + 3u < columns) { v.w = float_element(i + 3u); }
#endif
    return v;
}

#ifdef HALF
f16vec4 rounded(f16vec4 v) { return v; }
#endif

vec4 rounded(vec4 v) {
    return ROUND ? vec4(bf16_round(v.x), bf16_round(v.y), bf16_round(v.z), bf16_round(v.w)) : v;
}

void main() {
    uint first_row = gl_WorkGroupID.y * BM, first_column = gl_WorkGroupID.x * BN;
    uint index = gl_WorkGroupID.z / PARTS, part = gl_WorkGroupID.z % PARTS;
    base_a = FIRST_A;
    base_b = FIRST_B;
    uint rest = index;
    for (uint d = 0u; d < AXES; d++) {
        uint size = p[11u + 3u * d];
        base_a += rest % size * p[12u + 3u * d];
        base_b += rest % size * p[13u + 3u * d];
        rest /= size;
    }
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
