#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "math.glsl"
#include "groups.glsl"

// Cross-entropy by rows of logits, whole or a strip of columns at a time; one workgroup a row.

// Which: the numbers of launch/loss.rs.
layout(constant_id = 1) const uint KIND = 0u;

layout(set = 0, binding = 0) buffer Logits { float x[]; };
layout(set = 0, binding = 1) readonly buffer Targets { int targets[]; };
// Of each row: greatest logit, sum of exponentials, target's logit, factor.
layout(set = 0, binding = 2) buffer Running { float running[]; };
layout(set = 0, binding = 3) readonly buffer Lse { float lse[]; };
// What the gradients are scaled by, and by how many rows they are divided.
layout(set = 0, binding = 4) readonly buffer Scale { float scale[]; };
layout(set = 0, binding = 5) readonly buffer Count { float count[]; };
layout(set = 0, binding = 6) buffer Dx { float dx[]; };

#define ROWS p[0]
#define COLS p[1]
// The strip's first column.
#define FIRST p[2]
#define IGNORE int(p[3])
// Whether the strip is the first.
#define FRESH p[4]
// Whether the scale is divided by the count, and whether there is one for each row.
#define MEAN p[5]
#define EACH_ROW p[6]
// Columns of dx.
#define WIDTH p[7]
// Classes: targets beyond them do not count.
#define CLASSES p[8]
// The first of these rows among those of targets and lse.
#define FIRST_ROW p[9]

#define EACH(c) for (uint c = LANE; c < COLS; c += LANES)

int target_of(uint row) {
    int t = targets[at[1] + FIRST_ROW + row];
    return t == IGNORE || t < 0 || uint(t) >= CLASSES ? -1 : t;
}

// Adds a strip to the running sums; with `keeps`, logits become exponentials and dx is brought to the
// new maximum.
void accumulate(uint row, bool keeps) {
    uint first = at[0] + row * COLS, of = at[2] + row * 4u;
    float before = FRESH != 0u ? -INFINITY : running[of];
    float old = FRESH != 0u ? 0.0 : running[of + 1u];
    float most = before;
    EACH(c) { most = max(most, x[first + c]); }
    most = group_max(most);
    int t = target_of(row) - int(FIRST);
    float hit = 0.0;
    if (LANE == 0u && t >= 0 && t < int(COLS)) { hit = x[first + uint(t)]; }
    barrier();
    float sum = 0.0;
    EACH(c) {
        float e = most == -INFINITY ? 0.0 : exp_weight(x[first + c] - most);
        if (keeps) { x[first + c] = e; }
        sum += e;
    }
    sum = group_sum(sum);
    float factor = before == -INFINITY ? 0.0 : exp_exact(before - most);
    if (keeps && FRESH == 0u && factor != 1.0) {
        for (uint c = LANE; c < WIDTH; c += LANES) { dx[at[6] + row * WIDTH + c] *= factor; }
    }
    if (LANE == 0u) {
        running[of] = most;
        running[of + 1u] = old * factor + sum;
        if (t >= 0 && t < int(COLS)) { running[of + 2u] = hit; }
    }
}

// Turns logits into gradients, in x or, from whole rows, in dx.
void gradient(uint row, bool apart) {
    uint first = row * COLS;
    int t = target_of(row);
    float sum = lse[at[3] + FIRST_ROW + row], by = scale[at[4] + (EACH_ROW != 0u ? FIRST_ROW + row : 0u)];
    if (MEAN != 0u) { by = exact_div(by, max(count[at[5]], 1.0)); }
    EACH(c) {
        float y = t < 0 ? 0.0 : exp_weight(x[at[0] + first + c] - sum) * by;
        if (t >= 0 && uint(t) == FIRST + c) { y -= by; }
        if (apart) { dx[at[6] + first + c] = y; } else { x[at[0] + first + c] = y; }
    }
}

void main() {
    uint row = group_number();
    if (row >= ROWS) { return; }
    switch (KIND) {
    case 0u: accumulate(row, false); break;
    case 1u: accumulate(row, true); break;
    case 2u: gradient(row, false); break;
    case 3u: gradient(row, true); break;
    }
}
