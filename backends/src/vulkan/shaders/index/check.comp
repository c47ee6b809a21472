#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// The position of the first index that is out of range, and the index; ~0 where all are in it. One
// workgroup.

layout(set = 0, binding = 0) readonly buffer Ids { int ids[]; };
layout(set = 0, binding = 1) writeonly buffer Found { uint found[]; };

shared uint first;

// p: indices, what they must be below, whether one value stands for none, and that value.
void main() {
    if (LANE == 0u) { first = ~0u; }
    barrier();
    for (uint i = LANE; i < p[0]; i += LANES) {
        int id = ids[at[0] + i];
        bool is_none = p[2] != 0u && id == int(p[3]);
        if (!is_none && (id < 0 || uint(id) >= p[1])) {
            atomicMin(first, i);
            break;
        }
    }
    barrier();
    if (LANE == 0u) {
        found[at[1]] = first;
        found[at[1] + 1u] = first == ~0u ? 0u : uint(ids[at[0] + first]);
    }
}
