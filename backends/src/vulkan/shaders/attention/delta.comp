#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "groups.glsl"

// Of each head and query its log-sum-exp and the sum of dout times out: what the backward pass of
// attention reads of a row. Eight invocations a row.

layout(set = 0, binding = 0) readonly buffer Out { float o[]; };
layout(set = 0, binding = 1) readonly buffer Dout { float dout[]; };
layout(set = 0, binding = 2) readonly buffer Lse { float lse[]; };
layout(set = 0, binding = 3) writeonly buffer Rows { float rows[]; };

// p: rows [batch, heads, queries], queries, heads, width of a head.
void main() {
    uint row = group_number() * (LANES / 8u) + LANE / 8u, lane = LANE % 8u;
    float sum = 0.0;
    if (row < p[0]) {
        uint query = row % p[1], head = row / p[1] % p[2], batch = row / p[1] / p[2];
        uint first = ((batch * p[1] + query) * p[2] + head) * p[3];
        for (uint d = lane; d < p[3]; d += 8u) { sum += o[at[0] + first + d] * dout[at[1] + first + d]; }
    }
    sum = join(sum, 8u, false);
    if (lane == 0u && row < p[0]) {
        rows[at[3] + 2u * row] = lse[at[2] + row];
        rows[at[3] + 2u * row + 1u] = sum;
    }
}
