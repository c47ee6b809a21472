// Operands of matrix products: where they lie, and four elements at a time as f32.

layout(constant_id = 1) const uint FORMAT = 0u;
// Bits: see launch/gemm.rs.
layout(constant_id = 2) const uint FLAGS = 0u;

const bool TRANS_A = (FLAGS & 1u) != 0u;
const bool TRANS_B = (FLAGS & 2u) != 0u;
const bool ROUND = (FLAGS & 4u) != 0u;
const bool BIAS = (FLAGS & 8u) != 0u;
const bool ADD = (FLAGS & 16u) != 0u;
// Whether rows of A, B and C are whole groups of four elements.
const bool VEC_A = (FLAGS & 32u) != 0u;
const bool VEC_B = (FLAGS & 64u) != 0u;
const bool VEC_C = (FLAGS & 128u) != 0u;

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

// Goes to product number `rest`.
void find(uint rest) {
    base_a = FIRST_A;
    base_b = FIRST_B;
    for (uint d = 0u; d < AXES; d++) {
        uint size = p[11u + 3u * d];
        base_a += rest % size * p[12u + 3u * d];
        base_b += rest % size * p[13u + 3u * d];
        rest /= size;
    }
}
