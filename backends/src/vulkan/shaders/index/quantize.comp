#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef STORAGE
#extension GL_EXT_shader_8bit_storage : require
#extension GL_EXT_shader_16bit_storage : require
#endif
#include "core.glsl"
#include "exact.glsl"

// f32 as blocks of 32 codes, or rounded as these would have it. What each encoder computes is in
// kernels/src/quant, bit for bit. An invocation takes two blocks: whole words.

// A format's place in `Format::ALL`, or 10: the codes of a matrix product, signed bytes with an f32 scale.
layout(constant_id = 1) const uint FORMAT = 3u;
// Whether values are written instead of codes.
layout(constant_id = 2) const bool ROUNDS = false;

const bool AFFINE = FORMAT == 5u || FORMAT == 7u;
const bool HAS_FIFTH = FORMAT == 6u || FORMAT == 7u;
// Bytes of a block, and of what comes before its codes.
const uint HEAD = AFFINE || FORMAT == 10u ? 4u : 2u;
const uint SIZE = HEAD + (FORMAT == 3u || FORMAT == 10u ? 32u : 16u) + (HAS_FIFTH ? 4u : 0u);

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) writeonly buffer Y { uint y[]; };

// Elements; those of a row, whose last block may be short (of format 10); rows of a matrix; elements
// from one matrix, row and element to the next; from the start to the first.
#define N p[0]
#define COLS p[1]
#define ROWS p[2]
#define NEXT_MATRIX p[3]
#define NEXT_ROW p[4]
#define NEXT p[5]
#define FIRST p[6]

// Bytes at places of block number `block`: at once where a device stores bytes, else by words of both.
uint block;
#ifdef STORAGE
layout(set = 0, binding = 1) writeonly buffer Y16 { uint16_t y16[]; };
layout(set = 0, binding = 1) writeonly buffer Y8 { uint8_t y8[]; };

void put(uint place, uint value) { y8[4u * at[1] + block * SIZE + place] = uint8_t(value); }
void put16(uint place, uint value) { y16[2u * at[1] + (block * SIZE + place) / 2u] = uint16_t(value); }
#else
uint words[18];

void put(uint place, uint value) {
    place += block % 2u * SIZE;
    words[place >> 2] |= value << ((place & 3u) * 8u);
}
void put16(uint place, uint value) {
    place += block % 2u * SIZE;
    words[place >> 2] |= value << ((place & 2u) * 8u);
}
#endif

float reciprocal(float v) { return v == 0.0 ? 0.0 : exact_div(1.0, v); }

// What codes are counted from and the steps' inverse; what is added before they are cut, and their
// greatest; the step and the least value as they are stored.
float least, inverse, bias, top, step_stored, least_stored;

// Toward zero, within 0 .. top, NaN as 0.
uint limited(float v) {
    precise float c = v - least;
    c = c * inverse;
    c = c + bias;
    return c > 0.0 ? uint(min(c, top)) : 0u;
}

// A value's code, and the value that this stands for.
uint code_of(float v, out float value) {
    precise float scaled = v * inverse, of_code = 0.0;
    uint code = 0u;
    if (FORMAT == 3u) {
        float whole = trunc(scaled);
        int c = int(whole) + int((scaled - whole) * 2.0);
        of_code = float(c) * step_stored;
        code = uint(c) & 255u;
    } else if (FORMAT == 10u) {
        float whole = round_even(scaled);
        of_code = whole * step_stored;
        code = uint(int(whole)) & 255u;
    } else {
        code = limited(v);
        of_code = (AFFINE ? float(code) : float(code) - floor(bias)) * step_stored;
        if (AFFINE) { of_code = of_code + least_stored; }
    }
    value = of_code;
    return code;
}

// Finds the scale of a block whose first element is number `first`, and writes it where codes are.
void fit(uint first, uint count) {
    float largest = 0.0, low = INFINITY, high = -low;
    bool is_finite = true;
    for (uint i = 0u; i < count; i++) {
        float v = x[at[0] + FIRST + first + i * NEXT];
        is_finite = is_finite && abs(v) < INFINITY;
        if (abs(v) > abs(largest)) { largest = v; }
        low = min(low, v);
        high = max(high, v);
    }
    float d = 0.0;
    least = 0.0;
    bias = 0.0;
    top = 15.0;
    switch (FORMAT) {
    case 3u: d = exact_div(abs(largest), 127.0); break;
    case 4u: d = largest / -8.0; bias = 8.5; break;
    case 5u: d = exact_div(high - low, 15.0); least = low; bias = 0.5; break;
    case 6u: d = largest / -16.0; bias = 16.5; top = 31.0; break;
    case 7u: d = exact_div(high - low, 31.0); least = low; bias = 0.5; top = 31.0; break;
    case 10u: d = exact_div(abs(largest), 127.0); break;
    }
    if (FORMAT == 10u) {
        inverse = abs(largest) < 7.8886091e-31 ? 0.0 : exact_div(127.0, abs(largest));
        step_stored = is_finite ? d : NAN;
        if (ROUNDS) { return; }
        put16(0u, floatBitsToUint(step_stored) & 0xffffu);
        put16(2u, floatBitsToUint(step_stored) >> 16);
        return;
    }
    inverse = reciprocal(d);
    uint d_bits = f16_bits(d), least_bits = f16_bits(least);
    step_stored = f16_value(d_bits);
    least_stored = f16_value(least_bits);
    if (ROUNDS) { return; }
    put16(0u, d_bits);
    if (AFFINE) { put16(2u, least_bits); }
}

void round_block(uint first, uint count) {
    fit(first, count);
    for (uint i = 0u; i < count; i++) {
        float value;
        code_of(x[at[0] + FIRST + first + i * NEXT], value);
        y[at[1] + first + i * NEXT] = floatBitsToUint(value);
    }
}

// Element i's code.
uint code_at(uint first, uint i) {
    float unused;
    return code_of(x[at[0] + FIRST + first + i * NEXT], unused);
}

void encode_block(uint first, uint count) {
    fit(first, count);
    if (FORMAT == 3u || FORMAT == 10u) {
        for (uint i = 0u; i < 32u; i++) { put(HEAD + i, i < count ? code_at(first, i) : 0u); }
        return;
    }
    uint fifth = 0u;
    for (uint i = 0u; i < 16u; i++) {
        uint low = code_at(first, i), high = code_at(first, i + 16u);
        put(HEAD + (HAS_FIFTH ? 4u : 0u) + i, (low & 15u) | (high & 15u) << 4);
        fifth |= low >> 4 << i | high >> 4 << (i + 16u);
    }
    if (HAS_FIFTH) {
        put16(HEAD, fifth & 0xffffu);
        put16(HEAD + 2u, fifth >> 16);
    }
}

void main() {
    uint pair = group_number() * LANES + LANE;
    uint row_blocks = (COLS + 31u) / 32u, blocks = N / COLS * row_blocks;
    if (2u * pair >= blocks) { return; }
#ifndef STORAGE
    for (uint i = 0u; i < 18u; i++) { words[i] = 0u; }
#endif
    uint end = min(2u * pair + 2u, blocks);
    for (block = 2u * pair; block < end; block++) {
        uint row = block / row_blocks, column = block % row_blocks * 32u;
        uint first = row / ROWS * NEXT_MATRIX + row % ROWS * NEXT_ROW + column * NEXT;
        uint count = min(32u, COLS - column);
        if (ROUNDS) { round_block(first, count); } else { encode_block(first, count); }
    }
#ifndef STORAGE
    if (!ROUNDS) {
        uint count = ((end - 2u * pair) * SIZE + 3u) / 4u;
        for (uint i = 0u; i < count; i++) { y[at[1] + pair * SIZE / 2u + i] = words[i]; }
    }
#endif
}
