#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// Elements in another type; one of the two is f32. An invocation takes four elements, so that it
// writes whole words of any type.

// Types: 0 f32, 1 f16, 2 bf16, 3 i8, 4 u8, 5 i32.
layout(constant_id = 1) const uint FROM = 0u;
layout(constant_id = 2) const uint TO = 0u;

layout(set = 0, binding = 0) readonly buffer X { uint x[]; };
layout(set = 0, binding = 1) writeonly buffer Y { uint y[]; };

float load(uint i) {
    switch (FROM) {
    case 0u: return uintBitsToFloat(x[at[0] + i]);
    case 1u: return f16_value((x[at[0] + i / 2u] >> (i % 2u * 16u)) & 0xffffu);
    case 2u: return uintBitsToFloat((x[at[0] + i / 2u] >> (i % 2u * 16u)) << 16);
    case 3u: return float(bitfieldExtract(int(x[at[0] + i / 4u]), int(i % 4u * 8u), 8));
    case 4u: return float((x[at[0] + i / 4u] >> (i % 4u * 8u)) & 255u);
    case 5u: return float(int(x[at[0] + i]));
    }
    return 0.0;
}

// Toward zero and limited to the type's range, NaN as 0.
uint integer(float v, float low, float high) {
    if (!(v == v)) { return 0u; }
    return v >= high ? uint(int(high)) : uint(int(max(v, low)));
}

uint bits(float v) {
    switch (TO) {
    case 0u: return floatBitsToUint(v);
    case 1u: return f16_bits(v);
    case 2u: return bf16_bits(v);
    case 3u: return integer(v, -128.0, 127.0) & 255u;
    case 4u: return integer(v, 0.0, 255.0);
    case 5u:
        // 2^31 is a float, 2^31 - 1 is none.
        return v >= 2147483648.0 ? 0x7fffffffu : (v <= -2147483648.0 ? 0x80000000u : integer(v, -2147483648.0, 2147483520.0));
    }
    return 0u;
}

// p: elements.
void main() {
    uint first = (group_number() * LANES + LANE) * 4u;
    if (first >= p[0]) { return; }
    uint of[4];
    for (uint k = 0u; k < 4u; k++) { of[k] = first + k < p[0] ? bits(load(first + k)) : 0u; }
    uint to = at[1];
    if (TO == 0u || TO == 5u) {
        for (uint k = 0u; k < 4u && first + k < p[0]; k++) { y[to + first + k] = of[k]; }
    } else if (TO == 3u || TO == 4u) {
        y[to + first / 4u] = of[0] | (of[1] << 8) | (of[2] << 16) | (of[3] << 24);
    } else {
        y[to + first / 2u] = of[0] | (of[1] << 16);
        if (first + 2u < p[0]) { y[to + first / 2u + 1u] = of[2] | (of[3] << 16); }
    }
}
