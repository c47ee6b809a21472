#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "math.glsl"

// A chain of up to 16 elementwise functions over up to seven operands; one function with operands
// of any broadcast is the chain of one. The chain is in specialization constants, so that the
// driver keeps just what it computes.

// Operand i, two bits each: 0 one element for all, 1 the result's shape, 2 strides.
layout(constant_id = 1) const uint MODES = 0u;
// Dimensions of operands with strides.
layout(constant_id = 2) const uint RANK = 0u;
layout(constant_id = 3) const uint LENGTH = 1u;

// Instruction i: function, sources (operands from 0, registers from 8) and target, then parameters.
#define INSTRUCTION(i) \
    layout(constant_id = 4 + 3 * i) const uint CODE_##i = 0u; \
    layout(constant_id = 5 + 3 * i) const float FIRST_##i = 0.0; \
    layout(constant_id = 6 + 3 * i) const float SECOND_##i = 0.0;
INSTRUCTION(0) INSTRUCTION(1) INSTRUCTION(2) INSTRUCTION(3)
INSTRUCTION(4) INSTRUCTION(5) INSTRUCTION(6) INSTRUCTION(7)
INSTRUCTION(8) INSTRUCTION(9) INSTRUCTION(10) INSTRUCTION(11)
INSTRUCTION(12) INSTRUCTION(13) INSTRUCTION(14) INSTRUCTION(15)

layout(set = 0, binding = 0) readonly buffer In0 { float in0[]; };
layout(set = 0, binding = 1) readonly buffer In1 { float in1[]; };
layout(set = 0, binding = 2) readonly buffer In2 { float in2[]; };
layout(set = 0, binding = 3) readonly buffer In3 { float in3[]; };
layout(set = 0, binding = 4) readonly buffer In4 { float in4[]; };
layout(set = 0, binding = 5) readonly buffer In5 { float in5[]; };
layout(set = 0, binding = 6) readonly buffer In6 { float in6[]; };
layout(set = 0, binding = 7) writeonly buffer Out { float result[]; };

// p[0]: elements. With strides, p[1 ..]: for each dimension, the innermost first, its extent and the
// strides of operands 0, 1 and 2.
uint where(uint operand, uint i) {
    uint mode = (MODES >> (2u * operand)) & 3u;
    if (mode < 2u) { return mode * i; }
    uint offset = 0u;
    for (uint d = 0u; d < RANK; d++) {
        uint extent = p[1u + 4u * d];
        offset += (i % extent) * p[2u + 4u * d + operand];
        i /= extent;
    }
    return offset;
}

#define TWO_SQRT_2_PI 1.5957691
#define CUBIC 0.044715

float gelu_tanh_argument(float x) { return x * fma(x * x, TWO_SQRT_2_PI * CUBIC, TWO_SQRT_2_PI); }

// The greater (or, by negation, the lesser); NaN where either is.
float greater(float a, float b) { return is_nan(a) ? a : (is_nan(b) ? b : max(a, b)); }

// Function `f` of up to three arguments and two parameters. The numbers are those of
// launch/elementwise.rs.
float apply(uint f, float a, float b, float c, float first, float second) {
    precise float y = a;
    float slope;
    switch (f) {
    case 0u: return a;
    case 1u: return -a;
    case 2u: return abs(a);
    case 3u: y = a * a; return y;
    case 4u: return exact_div(1.0, a);
    case 5u: return exact_sqrt(a);
    case 6u: return 1.0 / exact_sqrt(a);
    case 7u: return fma(a, first, second);
    case 8u: return a < first ? first : (a > second ? second : a);
    case 9u: return pow_exact(a, first);
    case 10u: return floor(a);
    case 11u: return trunc(a);
    case 12u: return round_even(a);
    case 13u: return abs(a) > 0.0 ? copysign(1.0, a) : a;
    case 14u: return exp_exact(a);
    case 15u: return log_exact(a);
    case 16u: return sin_exact(a);
    case 17u: return cos_exact(a);
    case 18u: return tanh_exact(a);
    case 19u: return sigmoid(a);
    case 20u: return erf_exact(a);
    case 21u: return a < 0.0 ? 0.0 : a;
    case 22u: return a * sigmoid(a);
    case 23u: return max(a, 0.0) + log1p_exact(exp_neg_abs(a));
    case 24u: return a * normal_cdf(a);
    case 25u: return a * sigmoid(gelu_tanh_argument(a));
    case 32u: y = a + b; return y;
    case 33u: y = a - b; return y;
    case 34u: y = a * b; return y;
    case 35u: return exact_div(a, b);
    case 36u: return pow_exact(a, b);
    case 37u: return greater(a, b);
    case 38u: return -greater(-a, -b);
    case 39u: return float(a < b);
    case 40u: return float(a <= b);
    case 41u: return float(a > b);
    case 42u: return float(a >= b);
    case 43u: return float(a == b);
    case 44u: return a == b ? 0.0 : 1.0;
    case 45u: return a * sigmoid(a) * b;
    case 46u: return a > 0.0 ? b : 0.0;
    case 47u:
        a = clamp(a, -15.0, 15.0);
        return b * fma(a, exp2_below(a * a * (-0.5 * LOG2_E)) * 0.3989423, normal_cdf(a));
    case 48u:
        a = clamp(a, -15.0, 15.0);
        y = sigmoid_and_slope(gelu_tanh_argument(a), slope);
        return b * fma(a * slope, fma(a * a, 3.0 * TWO_SQRT_2_PI * CUBIC, TWO_SQRT_2_PI), y);
    case 49u:
        a = clamp(a, -110.0, 110.0);
        y = sigmoid_and_slope(a, slope);
        return b * fma(a, slope, y);
    case 50u: return (1.0 - a) * (1.0 + a) * b;
    case 51u: return (1.0 - a) * a * b;
    case 64u: return a != 0.0 ? b : c;
    }
    return NAN;
}

float operand(uint which, uint i) {
    i = where(which, i);
    switch (which) {
    case 0u: return in0[at[0] + i];
    case 1u: return in1[at[1] + i];
    case 2u: return in2[at[2] + i];
    case 3u: return in3[at[3] + i];
    case 4u: return in4[at[4] + i];
    case 5u: return in5[at[5] + i];
    case 6u: return in6[at[6] + i];
    }
    return 0.0;
}

float registers[4];

float source(uint which, uint i) {
    which &= 15u;
    return which < 8u ? operand(which, i) : (which < 12u ? registers[which & 3u] : 0.0);
}

float value;

void run(uint code, float first, float second, uint i) {
    value = apply(code & 0xffu, source(code >> 8, i), source(code >> 12, i), source(code >> 16, i), first, second);
    registers[(code >> 20) & 3u] = value;
}

#define RUN(n) if (n < LENGTH) { run(CODE_##n, FIRST_##n, SECOND_##n, i); }

void main() {
    // Four elements an invocation, a workgroup's width apart.
    uint first = group_number() * 4u * LANES + LANE;
    for (uint turn = 0u; turn < 4u; turn++) {
        uint i = first + turn * LANES;
        if (i >= p[0]) { return; }
        RUN(0) RUN(1) RUN(2) RUN(3) RUN(4) RUN(5) RUN(6) RUN(7)
        RUN(8) RUN(9) RUN(10) RUN(11) RUN(12) RUN(13) RUN(14) RUN(15)
        result[at[7] + i] = value;
    }
}
