#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "groups.glsl"

// Sums, maxima and sums of squares along axes. Of a workgroup's invocations `ACROSS` share a result;
// what they sum is added up in a fixed tree. Where there are many terms they are cut into parts, and
// a second pass sums the parts.

// 0 sum, 1 max, 2 sum of squares.
layout(constant_id = 1) const uint KIND = 0u;
layout(constant_id = 2) const uint ACROSS = 1u;
// Whether neighbouring invocations take neighbouring terms rather than results.
layout(constant_id = 3) const bool ALONG = false;
// Axes of the results and of the terms.
layout(constant_id = 4) const uint KEPT = 1u;
layout(constant_id = 5) const uint REDUCED = 1u;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) writeonly buffer Y { float y[]; };

// Results, terms, terms of a part, what results are multiplied by.
#define RESULTS p[0]
#define TERMS p[1]
#define PART p[2]
#define FACTOR uintBitsToFloat(p[3])
// Of parts' results, elements to the first.
#define FIRST_Y p[4]

// Where the result or term of that number lies: axes are size and stride, the innermost first.
uint offset(uint i, uint axis, uint axes) {
    uint o = 0u;
    for (uint d = axis; d < axis + axes; d++) {
        uint size = p[5u + 2u * d];
        o += i % size * p[6u + 2u * d];
        i /= size;
    }
    return o;
}

void main() {
    uint many = LANES / ACROSS;
    uint mine = ALONG ? LANE % ACROSS : LANE / many, which = ALONG ? LANE / ACROSS : LANE % many;
    uint result = gl_WorkGroupID.x * many + which, part = gl_WorkGroupID.y;
    uint begin = part * PART, end = min(TERMS, begin + PART);
    float total = KIND == 1u ? -uintBitsToFloat(0x7f800000u) : 0.0;
    if (result < RESULTS) {
        uint base = at[0] + offset(result, 0u, KEPT);
        // Blocks of 64 terms keep the error of a long sum small.
        for (uint from = begin + mine; from < end; from += 64u * ACROSS) {
            float sum = 0.0;
            for (uint t = from; t < min(end, from + 64u * ACROSS); t += ACROSS) {
                float v = x[base + offset(t, KEPT, REDUCED)];
                if (KIND == 1u) {
                    // NaN is passed over.
                    if (v > total) { total = v; }
                } else {
                    sum += KIND == 2u ? v * v : v;
                }
            }
            if (KIND != 1u) { total += sum; }
        }
    }
    if (!ALONG && ACROSS > 1u) {
        // Those that share a result become neighbours.
        lanes_of[which * ACROSS + mine] = total;
        barrier();
        total = lanes_of[LANE];
        result = gl_WorkGroupID.x * many + LANE / ACROSS;
    }
    total = join(total, ACROSS, KIND == 1u);
    if (LANE % ACROSS == 0u && result < RESULTS) {
        y[at[1] + FIRST_Y + part * RESULTS + result] = total * FACTOR;
    }
}
