#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "exact.glsl"

// f32 as blocks of 32 codes, or rounded as these would have it. What each encoder computes is in
// kernels/src/quant, bit for bit. An invocation takes two blocks: whole words.

// A format's place in `Format::ALL`, or 10: the int8 codes of a matrix product.
layout(constant_id = 1) const uint FORMAT = 3u;
// Whether values are written instead of codes.
layout(constant_id = 2) const bool ROUNDS = false;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) writeonly buffer Y { uint y[]; };

// Elements; those of a row, whose last block may be short (of format 10); rows of a matrix; elements
// from one matrix, row and element to the next; from either operand's start to its first.
#define N p[0]
#define COLS p[1]
#define ROWS p[2]
#define NEXT_MATRIX p[3]
#define NEXT_ROW p[4]
#define NEXT p[5]
#define FIRST_X p[6]
#define FIRST_Y p[7]

uint words[17];

void put(uint place, uint value) { words[place >> 2] |= value << ((place & 3u) * 8u); }
void put16(uint place, uint value) {
    put(place, value & 255u);
    put(place + 1u, value >> 8);
}

float reciprocal(float v) { return v == 0.0 ? 0.0 : exact_div(1.0, v); }

// Toward zero, within 0 .. top, NaN as 0.
uint code_of(float v, float base, float inverse, float bias, float top) {
    precise float c = v - base;
    c = c * inverse;
    c = c + bias;
    return c > 0.0 ? uint(min(c, top)) : 0u;
}

void block(uint first, uint count, uint place) {
    float largest = 0.0, low = uintBitsToFloat(0x7f800000u), high = -low;
    for (uint i = 0u; i < count; i++) {
        float v = x[at[0] + FIRST_X + first + i * NEXT];
        if (abs(v) > abs(largest)) { largest = v; }
        low = min(low, v);
        high = max(high, v);
    }
    float d = 0.0, inverse = 0.0, m = 0.0, bias = 0.0, top = 15.0;
    uint size = 0u;
    switch (FORMAT) {
    case 3u: d = exact_div(abs(largest), 127.0); size = 34u; break;
    case 4u: d = largest / -8.0; bias = 8.5; size = 18u; break;
    case 5u: d = exact_div(high - low, 15.0); m = low; bias = 0.5; size = 20u; break;
    case 6u: d = largest / -16.0; bias = 16.5; top = 31.0; size = 22u; break;
    case 7u: d = exact_div(high - low, 31.0); m = low; bias = 0.5; top = 31.0; size = 24u; break;
    case 10u: d = exact_div(abs(largest), 127.0); break;
    }
    inverse = FORMAT == 10u ? (abs(largest) < 7.8886091e-31 ? 0.0 : exact_div(127.0, abs(largest))) : reciprocal(d);
    uint d_bits = f16_bits(d), m_bits = f16_bits(m);
    bool is_affine = FORMAT == 5u || FORMAT == 7u, has_fifth = FORMAT == 6u || FORMAT == 7u;
    float d_stored = FORMAT == 10u ? d : f16_value(d_bits), m_stored = f16_value(m_bits);
    if (!ROUNDS) {
        put16(place, d_bits);
        if (is_affine) { put16(place + 2u, m_bits); }
    }
    uint codes_at = place + (is_affine ? 4u : 2u);
    for (uint i = 0u; i < count; i++) {
        float v = x[at[0] + FIRST_X + first + i * NEXT];
        precise float value;
        uint code;
        if (FORMAT == 3u) {
            precise float scaled = v * inverse;
            float whole = trunc(scaled);
            int c = int(whole) + int((scaled - whole) * 2.0);
            value = float(c) * d_stored;
            code = uint(c) & 255u;
        } else if (FORMAT == 10u) {
            precise float scaled = v * inverse;
            value = round_even(scaled) * d_stored;
        } else {
            code = code_of(v, is_affine ? m : 0.0, inverse, bias, top);
            value = is_affine ? float(code) * d_stored : (float(code) - floor(bias)) * d_stored;
            if (is_affine) { value = value + m_stored; }
        }
        if (ROUNDS) {
            y[at[1] + FIRST_Y + first + i * NEXT] = floatBitsToUint(value);
        } else if (FORMAT == 3u) {
            put(codes_at + i, code);
        } else {
            if (has_fifth) { put(codes_at + i / 8u, ((code >> 4) & 1u) << (i & 7u)); }
            put(codes_at + (has_fifth ? 4u : 0u) + (i & 15u), (code & 15u) << ((i >> 4) * 4u));
        }
    }
}

void main() {
    uint pair = group_number() * LANES + LANE;
    uint row_blocks = (COLS + 31u) / 32u, blocks = N / COLS * row_blocks;
    if (2u * pair >= blocks) { return; }
    for (uint i = 0u; i < 17u; i++) { words[i] = 0u; }
    uint each = FORMAT == 3u ? 34u : (FORMAT == 4u ? 18u : (FORMAT == 5u ? 20u : (FORMAT == 6u ? 22u : 24u)));
    for (uint which = 0u; which < 2u && 2u * pair + which < blocks; which++) {
        uint of = 2u * pair + which, row = of / row_blocks, column = of % row_blocks * 32u;
        uint first = row / ROWS * NEXT_MATRIX + row % ROWS * NEXT_ROW + column * NEXT;
        block(first, min(32u, COLS - column), which * each);
    }
    if (!ROUNDS) {
        uint count = (min(2u, blocks - 2u * pair) * each + 3u) / 4u;
        for (uint i = 0u; i < count; i++) { y[at[1] + pair * each / 2u + i] = words[i]; }
    }
}
