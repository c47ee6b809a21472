#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// Rotary position embedding: pair i of each head turns by its position's angle i.

// Bits: 1 pairs are (2i, 2i + 1) instead of (i, i + half), 2 turns back.
layout(constant_id = 1) const uint FLAGS = 0u;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer Cos { float cosines[]; };
layout(set = 0, binding = 2) readonly buffer Sin { float sines[]; };
layout(set = 0, binding = 3) writeonly buffer Y { float y[]; };

// p: rows (positions of all sequences times heads), positions of a sequence, heads, elements of a
// head, pairs of one.
void main() {
    // The first `pairs` of a row's invocations turn a pair, the rest copy what does not turn.
    uint pairs = p[4], each = p[3] - pairs;
    uint i = group_number() * LANES + LANE;
    uint row = i / each, k = i % each;
    if (row >= p[0]) { return; }
    uint first = row * p[3];
    if (k >= pairs) {
        y[at[3] + first + k + pairs] = x[at[0] + first + k + pairs];
        return;
    }
    uint angle = (row / p[2] % p[1]) * pairs + k;
    float c = cosines[at[1] + angle], s = sines[at[2] + angle];
    if ((FLAGS & 2u) != 0u) { s = -s; }
    uint one = (FLAGS & 1u) != 0u ? 2u * k : k, other = (FLAGS & 1u) != 0u ? 2u * k + 1u : k + pairs;
    float a = x[at[0] + first + one], b = x[at[0] + first + other];
    y[at[3] + first + one] = a * c - b * s;
    y[at[3] + first + other] = fma(a, s, b * c);
}
