#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// The sum of the parts of a product whose sums were cut, in order, with its bias and what is there.

// Bits as in gemm.comp: 8 bias, 16 add.
layout(constant_id = 1) const uint FLAGS = 0u;

layout(set = 0, binding = 0) readonly buffer Parts { float parts[]; };
layout(set = 0, binding = 1) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 2) buffer C { float result[]; };

// p: elements, columns, parts, elements from the operand's start to C and of its rows.
void main() {
    uint i = group_number() * LANES + LANE;
    if (i >= p[0]) { return; }
    float sum = 0.0;
    for (uint part = 0u; part < p[2]; part++) { sum += parts[at[0] + part * p[0] + i]; }
    if ((FLAGS & 8u) != 0u) { sum += bias[at[1] + i % p[1]]; }
    uint to = at[2] + p[3] + i / p[1] * p[4] + i % p[1];
    if ((FLAGS & 16u) != 0u) { sum += result[to]; }
    result[to] = sum;
}
