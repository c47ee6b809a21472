#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "exact.glsl"
#include "philox.glsl"

// y = x + scale z, with z standard normal, bit for bit as kernels/src/random/normal.rs makes it: every
// product and every sum is rounded. Two elements an invocation, the words of a block.

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer Step { float number[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };

float multiply_add(float a, float b, float c) {
    precise float product = a * b;
    precise float sum = product + c;
    return sum;
}

// ln(x) of x in (0, 1].
float log_of_unit(float x) {
    uint bits = floatBitsToUint(x) - 0x3f3504f3u;
    float exponent = float(int(bits) >> 23);
    precise float f = uintBitsToFloat((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0;
    precise float f2 = f * f;
    precise float f3 = f2 * f;
    float q = -0.07634108;
    q = multiply_add(q, f, 0.1276142);
    q = multiply_add(q, f, -0.13160256);
    q = multiply_add(q, f, 0.14201784);
    q = multiply_add(q, f, -0.16623353);
    q = multiply_add(q, f, 0.20001225);
    q = multiply_add(q, f, -0.25000823);
    q = multiply_add(q, f, 0.3333333);
    precise float half_square = 0.5 * f2;
    precise float tail = multiply_add(f3, q, -half_square);
    precise float rest = f + tail;
    return multiply_add(exponent, 0.6931472, rest);
}

float normal(uint radius, uint angle) {
    precise float size = -2.0 * log_of_unit(1.0 - unit(radius));
    // A device may take the root of 0 by way of infinity.
    size = size == 0.0 ? size : exact_sqrt(size);
    precise float turns = 4.0 * unit(angle);
    precise float nearest = turns + 0.5;
    int quarter = int(nearest);
    precise float d = turns - float(quarter);
    precise float d2 = d * d;
    precise float wave;
    if ((quarter & 1) == 0) {
        float q = -0.000025202043;
        q = multiply_add(q, d2, 0.0009192603);
        q = multiply_add(q, d2, -0.02086348);
        q = multiply_add(q, d2, 0.2536695);
        q = multiply_add(q, d2, -1.2337006);
        wave = multiply_add(q, d2, 1.0);
    } else {
        float q = 0.00016044118;
        q = multiply_add(q, d2, -0.004681754);
        q = multiply_add(q, d2, 0.07969263);
        q = multiply_add(q, d2, -0.6459641);
        q = multiply_add(q, d2, 1.5707964);
        wave = d * q;
    }
    precise float z = size * wave;
    return uintBitsToFloat(floatBitsToUint(z) ^ (uint((quarter + 1) & 2) << 30));
}

// The lower 32 bits of a whole number.
uint whole(float v) {
    if (!(v > 0.0)) { return 0u; }
    if (v < 4294967296.0) { return uint(v); }
    uint b = floatBitsToUint(v), shift = (b >> 23) - 150u;
    return shift < 32u ? ((b & 0x7fffffu) | 0x800000u) << shift : 0u;
}

// p: elements, scale, both halves of the seed, stream.
void main() {
    uint block = group_number() * LANES + LANE;
    if (block >= (p[0] + 1u) / 2u) { return; }
    uvec4 words = philox(uvec4(block, 0u, p[4], whole(number[at[1]])), uvec2(p[2], p[3]));
    for (uint k = 0u; k < 2u && 2u * block + k < p[0]; k++) {
        uint i = 2u * block + k;
        float z = normal(words[2u * k], words[2u * k + 1u]);
        y[at[2] + i] = multiply_add(uintBitsToFloat(p[1]), z, x[at[0] + i]);
    }
}
