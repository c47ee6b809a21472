#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// Rows of a table in any weight format, decoded: those that ids name, or all in order.

layout(constant_id = 1) const uint FORMAT = 0u;
layout(constant_id = 2) const bool BY_ID = false;

layout(set = 0, binding = 0) readonly buffer Table { uint table[]; };
layout(set = 0, binding = 1) readonly buffer Ids { int ids[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };

uint word_at(uint i) { return table[at[0] + i]; }
#include "quant.glsl"

// p: rows of the result, columns, bytes of a stored row; rows of the table here, the first of them, and
// whether others are elsewhere: rows that do not exist are zeros, unless another dispatch has them.
void main() {
    uint quads = (p[1] + 3u) / 4u;
    uint i = group_number() * LANES + LANE, row = i / quads, c = i % quads * 4u;
    if (row >= p[0]) { return; }
    uint from = BY_ID ? uint(ids[at[1] + row]) - p[4] : row;
    bool is_there = from < p[3];
    if (!is_there && p[5] != 0u) { return; }
    vec4 v = vec4(0.0);
    if (is_there && FORMAT > 2u) { v = codes_elements(from * p[2], c); }
    for (uint k = 0u; k < 4u && c + k < p[1]; k++) {
        if (is_there && FORMAT <= 2u) { v[k] = float_element(from * p[1] + c + k); }
        y[at[2] + row * p[1] + c + k] = v[k];
    }
}
