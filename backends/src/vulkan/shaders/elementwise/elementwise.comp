#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "math.glsl"

// Elementwise functions. With CHAIN, up to 16 of them in a row over up to seven operands that have the
// result's shape or one element; without, one of up to three operands with any broadcast. Functions are
// in specialization constants, so that the driver keeps just what is computed. It inlines a copy of all
// functions wherever one is called before it drops any: a pipeline of 16 took lavapipe 0.5 s, so all but
// the first four run in a loop.

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
INSTRUCTION(0)
#ifdef CHAIN
INSTRUCTION(1) INSTRUCTION(2) INSTRUCTION(3)
INSTRUCTION(4) INSTRUCTION(5) INSTRUCTION(6) INSTRUCTION(7)
INSTRUCTION(8) INSTRUCTION(9) INSTRUCTION(10) INSTRUCTION(11)
INSTRUCTION(12) INSTRUCTION(13) INSTRUCTION(14) INSTRUCTION(15)
#endif

layout(set = 0, binding = 0) readonly buffer In0 { float in0[]; };
layout(set = 0, binding = 1) readonly buffer In1 { float in1[]; };
layout(set = 0, binding = 2) readonly buffer In2 { float in2[]; };
#ifdef CHAIN
#define RESULT at[7]
layout(set = 0, binding = 3) readonly buffer In3 { float in3[]; };
layout(set = 0, binding = 4) readonly buffer In4 { float in4[]; };
layout(set = 0, binding = 5) readonly buffer In5 { float in5[]; };
layout(set = 0, binding = 6) readonly buffer In6 { float in6[]; };
layout(set = 0, binding = 7) writeonly buffer Out { float result[]; };
#else
#define RESULT at[3]
layout(set = 0, binding = 3) writeonly buffer Out { float result[]; };
#endif

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

#ifdef CHAIN

// Operands from 0, registers from 8; the last is 0.
float cells[16];

void step(uint code, float first, float second) {
    float y = apply(code & 0xffu, cells[(code >> 8) & 15u], cells[(code >> 12) & 15u],
        cells[(code >> 16) & 15u], first, second);
    cells[8u + ((code >> 20) & 3u)] = y;
    cells[12] = y;
}

void rest() {
    uint codes[] = uint[](
        CODE_4, CODE_5, CODE_6, CODE_7, CODE_8, CODE_9, CODE_10, CODE_11, CODE_12, CODE_13, CODE_14, CODE_15);
    float firsts[] = float[](
        FIRST_4, FIRST_5, FIRST_6, FIRST_7, FIRST_8, FIRST_9, FIRST_10, FIRST_11, FIRST_12, FIRST_13,
        FIRST_14, FIRST_15);
    float seconds[] = float[](
        SECOND_4, SECOND_5, SECOND_6, SECOND_7, SECOND_8, SECOND_9, SECOND_10, SECOND_11, SECOND_12,
        SECOND_13, SECOND_14, SECOND_15);
    for (uint n = 4u; n < LENGTH; n++) { step(codes[n - 4u], firsts[n - 4u], seconds[n - 4u]); }
}

float compute(uint i) {
    cells[0] = in0[at[0] + (MODES & 3u) * i];
    cells[1] = in1[at[1] + ((MODES >> 2) & 3u) * i];
    cells[2] = in2[at[2] + ((MODES >> 4) & 3u) * i];
    cells[3] = in3[at[3] + ((MODES >> 6) & 3u) * i];
    cells[4] = in4[at[4] + ((MODES >> 8) & 3u) * i];
    cells[5] = in5[at[5] + ((MODES >> 10) & 3u) * i];
    cells[6] = in6[at[6] + ((MODES >> 12) & 3u) * i];
    cells[15] = 0.0;
    step(CODE_0, FIRST_0, SECOND_0);
    if (LENGTH > 1) { step(CODE_1, FIRST_1, SECOND_1); }
    if (LENGTH > 2) { step(CODE_2, FIRST_2, SECOND_2); }
    if (LENGTH > 3) { step(CODE_3, FIRST_3, SECOND_3); }
    if (LENGTH > 4) { rest(); }
    return cells[12];
}

#else

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

float compute(uint i) {
    uint operands = (CODE_0 >> 20) & 3u;
    float a = operands > 0u ? in0[at[0] + where(0u, i)] : 0.0;
    float b = operands > 1u ? in1[at[1] + where(1u, i)] : 0.0;
    float c = operands > 2u ? in2[at[2] + where(2u, i)] : 0.0;
    return apply(CODE_0 & 0xffu, a, b, c, FIRST_0, SECOND_0);
}

#endif

void main() {
    // Four elements an invocation, a workgroup's width apart.
    uint first = group_number() * 4u * LANES + LANE;
    for (uint turn = 0u; turn < 4u; turn++) {
        uint i = first + turn * LANES;
        if (i >= p[0]) { return; }
        result[RESULT + i] = compute(i);
    }
}
