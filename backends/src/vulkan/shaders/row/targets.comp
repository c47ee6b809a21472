#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// The end of a head and loss in one pass: dx of exponentials becomes the gradient. Each row is divided
// by its sum and loses its target's row of W.

layout(constant_id = 1) const uint FORMAT = 0u;

layout(set = 0, binding = 0) readonly buffer Running { float running[]; };
layout(set = 0, binding = 1) readonly buffer Targets { int targets[]; };
layout(set = 0, binding = 2) readonly buffer Scale { float scale[]; };
layout(set = 0, binding = 3) readonly buffer Count { float count[]; };
layout(set = 0, binding = 4) readonly buffer W { uint w[]; };
layout(set = 0, binding = 5) buffer Dx { float dx[]; };

uint word_at(uint i) { return w[at[4] + i]; }
#include "quant.glsl"

// p: rows, columns, ignored target, classes, bytes of a row of W.
void main() {
    uint quads = (p[1] + 3u) / 4u;
    uint i = group_number() * LANES + LANE, row = i / quads, c = i % quads * 4u;
    if (row >= p[0]) { return; }
    int t = targets[at[1] + row];
    bool is_in = t != int(p[2]) && t >= 0 && uint(t) < p[3];
    float by = scale[at[2]] / max(count[at[3] + 1u], 1.0);
    float share = by / running[at[0] + 4u * row + 1u];
    vec4 v = vec4(0.0);
    if (is_in && FORMAT > 2u) { v = codes_elements(uint(t) * p[4], c); }
    for (uint k = 0u; k < 4u && c + k < p[1]; k++) {
        uint to = at[5] + row * p[1] + c + k;
        float e = v[k];
        if (is_in && FORMAT <= 2u) { e = float_element(uint(t) * p[1] + c + k); }
        dx[to] = is_in ? dx[to] * share - by * e : 0.0;
    }
}
