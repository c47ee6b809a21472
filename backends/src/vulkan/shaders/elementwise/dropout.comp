#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "philox.glsl"

// y = x scale where the sequence's number is below `keep`, else 0; four elements an invocation, the
// words of a block.

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer Seed { uint seed[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };

// p: elements, keep, scale, stream.
void main() {
    uint block = group_number() * LANES + LANE;
    if (block >= (p[0] + 3u) / 4u) { return; }
    uvec4 words = philox(uvec4(block, 0u, p[3], 0u), uvec2(seed[at[1]], 0u));
    for (uint k = 0u; k < 4u && 4u * block + k < p[0]; k++) {
        uint i = 4u * block + k;
        y[at[2] + i] = unit(words[k]) < uintBitsToFloat(p[1]) ? x[at[0] + i] * uintBitsToFloat(p[2]) : 0.0;
    }
}
