#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// Rows added to the rows of a table that ids name. A workgroup takes a row whose id appears first
// there and adds all rows of that id, in order: the same bits at every run.

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer Ids { int ids[]; };
layout(set = 0, binding = 2) buffer Y { float y[]; };

shared bool is_later;

// p: rows, columns, rows of the table here, the first of them.
void main() {
    uint row = group_number();
    if (row >= p[0]) { return; }
    int id = ids[at[1] + row];
    if (LANE == 0u) { is_later = id < 0 || uint(id) - p[3] >= p[2]; }
    barrier();
    bool seen = false;
    for (uint before = LANE; before < row; before += LANES) { seen = seen || ids[at[1] + before] == id; }
    if (seen) { is_later = true; }
    barrier();
    if (is_later) { return; }
    for (uint c = LANE; c < p[1]; c += LANES) {
        uint to = at[2] + (uint(id) - p[3]) * p[1] + c;
        float sum = y[to];
        for (uint from = row; from < p[0]; from++) {
            if (ids[at[1] + from] == id) { sum += x[at[0] + from * p[1] + c]; }
        }
        y[to] = sum;
    }
}
