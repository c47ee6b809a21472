#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "math.glsl"
#include "philox.glsl"
#ifdef BLOCKS
#include "groups.glsl"
#endif

// Optimizer steps, a workgroup a block of 256 elements. Nothing is fused or reordered, so that states
// that are rounded at random get the CPU's codes. Definitions are in kernels/src/update.

// 0 accumulate, 1 SGD, 2 Adam.
layout(constant_id = 1) const uint KIND = 0u;
#ifdef BLOCKS
const uint STATES = 2u;
#else
// Of the states: 0 f32, 1 bf16; with BLOCKS 2, int8.
layout(constant_id = 2) const uint STATES = 0u;
#endif
// Bits: 1 momentum, 2 Nesterov, 4 decoupled decay.
layout(constant_id = 3) const uint FLAGS = 0u;

layout(set = 0, binding = 0) buffer P { float param[]; };
layout(set = 0, binding = 1) readonly buffer Grad { float grad[]; };
layout(set = 0, binding = 2) buffer First { uint first[]; };
layout(set = 0, binding = 3) buffer Second { uint second[]; };
#ifdef BLOCKS
layout(set = 0, binding = 4) buffer FirstScales { float first_scales[]; };
layout(set = 0, binding = 5) buffer SecondScales { float second_scales[]; };
// The learning rate, the step's number and the gradient's factor.
layout(set = 0, binding = 6) readonly buffer Scalars { float scalars[]; };
#define RATE scalars[at[6]]
#define STEP scalars[at[6] + 1u]
#define SCALE scalars[at[6] + 2u]
#define FIRST_SCALE first_scales[at[4] + block]
#define SECOND_SCALE second_scales[at[5] + block]
#else
// The learning rate, or what is kept of the total in an accumulation.
layout(set = 0, binding = 4) readonly buffer Rate { float rate[]; };
layout(set = 0, binding = 5) readonly buffer Step { float step_number[]; };
layout(set = 0, binding = 6) readonly buffer Scale { float scale_of[]; };
#define RATE rate[at[4]]
#define STEP step_number[at[5]]
#define SCALE scale_of[at[6]]
#define FIRST_SCALE 1.0
#define SECOND_SCALE 1.0
#endif

#define N p[0]
#define STREAM p[1]
#define MOMENTUM uintBitsToFloat(p[2])
#define DECAY uintBitsToFloat(p[3])
#define BETA1 uintBitsToFloat(p[4])
#define BETA2 uintBitsToFloat(p[5])
#define EPS uintBitsToFloat(p[6])
#define REST1 uintBitsToFloat(p[7])
#define REST2 uintBitsToFloat(p[8])
// Logarithms of the decays.
#define LOG1 uintBitsToFloat(p[9])
#define LOG2 uintBitsToFloat(p[10])
// Which of the tensor's elements is the first here: random numbers are by place.
#define FIRST p[11]

shared uint words[256];

// The integer that a code's bits begin to count from in an f32's, and what its lowest stands for.
uint origin(bool is_signed) { return (127u - (is_signed ? 15u : 31u)) << 3; }

float widen(uint word, float scale, uint i, bool is_signed) {
    precise float y;
    if (STATES == 0u) { return uintBitsToFloat(word); }
    if (STATES == 1u) { return uintBitsToFloat((word >> (i % 2u * 16u)) << 16); }
    uint code = (word >> (i % 4u * 8u)) & 255u;
    uint size = is_signed ? uint(abs(bitfieldExtract(int(code), 0, 8))) : code ^ 128u;
    float value = size == 0u ? 0.0 : uintBitsToFloat((size + origin(is_signed)) << 20);
    y = (is_signed && code > 127u ? -value : value) * scale;
    return y;
}

// The greatest magnitude of a block; NaN where any is not finite.
float largest(float x) {
#ifdef BLOCKS
    float most = group_max(abs(x) < INFINITY ? abs(x) : INFINITY);
    return most < INFINITY ? most : NAN;
#else
    return 0.0;
#endif
}

// The bits that are stored of x, in the lowest of a word; `random` are 16.
uint narrow(float x, uint random, bool is_signed, out float scale) {
    scale = 0.0;
    if (STATES == 0u) { return floatBitsToUint(x); }
    if (STATES == 1u) {
        return is_nan(x) ? bf16_bits(x) : (floatBitsToUint(x) + random) >> 16;
    }
    float most = largest(x);
    if (is_nan(most)) {
        scale = NAN;
        return 0u;
    }
    uint exponent = clamp((floatBitsToUint(most) + (1u << 20)) >> 23, 32u, 253u);
    scale = uintBitsToFloat(exponent << 23);
    // The inverse of a power of two.
    precise float y = x * uintBitsToFloat((254u - exponent) << 23);
    float size = abs(y);
    uint whole = (floatBitsToUint(size) + (random << 4)) >> 20;
    int code = int(whole) - int(origin(is_signed));
    float least = uintBitsToFloat((origin(is_signed) + 1u) << 20);
    if (is_signed) {
        code = min(code, 127);
        if (size < least) {
            precise float draw = float(random) * (least / 65536.0);
            code = draw < size ? 1 : 0;
        }
        return uint(y < 0.0 ? -code : code) & 255u;
    }
    code = size == 0.0 ? 0 : clamp(code, 1, 255);
    return uint(code - 128) & 255u;
}

// Puts the bits of a block's elements together; false where this invocation has no word to write.
bool pack(uint bits, out uint word) {
    word = bits;
    if (STATES == 0u) { return true; }
    barrier();
    words[LANE] = bits;
    barrier();
    uint each = STATES == 1u ? 2u : 4u, width = 32u / each;
    if (LANE % each != 0u) { return false; }
    for (uint k = 1u; k < each; k++) { word |= words[LANE + k] << (k * width); }
    return true;
}

uint word_of(uint i) { return STATES == 0u ? i : (STATES == 1u ? i / 2u : i / 4u); }

void main() {
    uint block = group_number(), i = block * 256u + LANE;
    bool is_in = i < N;
    if (block * 256u >= N) { return; }
    float x = is_in ? param[at[0] + i] : 0.0, g = is_in ? grad[at[1] + i] : 0.0;
    if (KIND == 0u) {
        float keep = RATE;
        if (is_in) { param[at[0] + i] = keep == 0.0 ? g : fma(x, keep, g); }
        return;
    }
    // What is decayed in the gradient.
    precise float decay = KIND == 2u && (FLAGS & 4u) != 0u ? 0.0 : DECAY;
    float lr = RATE, number = STEP, scale = SCALE;
    precise float scaled = g * scale;
    g = x * decay;
    precise float slope = g + scaled;
    uint from = word_of(i), random = 0u;
    bool keeps = KIND == 2u || (FLAGS & 1u) != 0u;
    if (keeps && STATES != 0u) {
        // The step is a whole number in f32.
        uvec4 four = philox(uvec4((FIRST + i) / 4u, 0u, uint(number), 0u), uvec2(STREAM, 1u));
        random = four[i % 4u];
    }
    float m = 0.0, v = 0.0, scale_m = 0.0, scale_v = 0.0;
    if (keeps && is_in) { m = widen(first[at[2] + from], FIRST_SCALE, i, true); }
    precise float moved;
    if (KIND == 1u) {
        if (keeps) {
            precise float kept = m * MOMENTUM;
            kept = kept + slope;
            m = kept;
            precise float ahead = kept * MOMENTUM;
            ahead = ahead + slope;
            slope = (FLAGS & 2u) != 0u ? ahead : kept;
        }
        moved = slope * -lr;
        moved = moved + x;
    } else {
        if (is_in) { v = widen(second[at[3] + from], SECOND_SCALE, i, false); }
        precise float kept = m * BETA1, share = slope * REST1;
        kept = kept + share;
        precise float square = slope * slope;
        square = square * REST2;
        precise float second_kept = v * BETA2;
        second_kept = second_kept + square;
        m = kept;
        v = second_kept;
        // 1 - beta^t without the digits that the difference would lose.
        float correct1 = -expm1_exact(number * LOG1), correct2 = -expm1_exact(number * LOG2);
        precise float root = exact_sqrt(v) * exact_div(1.0, exact_sqrt(correct2));
        root = root + EPS;
        precise float by = exact_div(m, root) * exact_div(-lr, correct1);
        precise float shrink = lr * DECAY;
        shrink = (FLAGS & 4u) != 0u ? 1.0 - shrink : 1.0;
        shrink = x * shrink;
        moved = by + shrink;
    }
    if (is_in) { param[at[0] + i] = moved; }
    if (keeps) {
        uint word, bits = narrow(is_in ? m : 0.0, random & 0xffffu, true, scale_m);
        if (pack(bits, word) && is_in) { first[at[2] + from] = word; }
#ifdef BLOCKS
        if (LANE == 0u) { FIRST_SCALE = scale_m; }
#endif
    }
    if (KIND == 2u) {
        uint word, bits = narrow(is_in ? v : 0.0, random >> 16, false, scale_v);
        if (pack(bits, word) && is_in) { second[at[3] + from] = word; }
#ifdef BLOCKS
        if (LANE == 0u) { SECOND_SCALE = scale_v; }
#endif
    }
}
