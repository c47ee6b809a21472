#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "math.glsl"
#include "groups.glsl"

// What one workgroup does at the end, or the beginning, of several launches.

// Which: the numbers of launch/loss.rs and launch/reduce.rs.
layout(constant_id = 1) const uint KIND = 0u;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer Targets { int targets[]; };
layout(set = 0, binding = 2) readonly buffer Other { float other[]; };
layout(set = 0, binding = 3) buffer Y { float y[]; };
layout(set = 0, binding = 4) writeonly buffer Lse { float lse[]; };

#define N p[0]
#define IGNORE int(p[1])
#define CLASSES p[2]
// Whether the sum is divided by the rows that count; 2: losses of rows are what is asked for.
#define MEAN p[3]
// The first row among those of targets and lse.
#define FIRST_ROW p[4]
#define FRESH p[5]

bool counts(uint row) {
    int t = targets[at[1] + row];
    return t != IGNORE && t >= 0 && uint(t) < CLASSES;
}

// The rows that count, as y[0].
void count_rows() {
    float n = 0.0;
    for (uint row = LANE; row < N; row += LANES) { n += float(counts(row)); }
    n = group_sum(n);
    if (LANE == 0u) { y[at[3]] = n; }
}

// Running sums of rows in x become lse; their losses are added up in y: [0] the sum, [1] the rows
// that count. Where they are asked for apart, y has one for each row.
void losses(bool apart) {
    float sum = 0.0, n = 0.0;
    for (uint row = LANE; row < N; row += LANES) {
        uint of = at[0] + row * 4u;
        float of_row = x[of] + log_exact(x[of + 1u]);
        lse[at[4] + FIRST_ROW + row] = of_row;
        bool is_in = counts(FIRST_ROW + row);
        float loss = is_in ? of_row - x[of + 2u] : 0.0;
        if (apart) { y[at[3] + FIRST_ROW + row] = loss; }
        sum += loss;
        n += float(is_in);
    }
    sum = group_sum(sum);
    n = group_sum(n);
    if (LANE == 0u && !apart) {
        if (FRESH == 0u) {
            sum += y[at[3]];
            n += y[at[3] + 1u];
        }
        y[at[3]] = sum;
        y[at[3] + 1u] = n;
    }
}

// The loss: x[0], divided by x[1] for the mean.
void loss() {
    if (LANE == 0u) {
        float sum = x[at[0]], n = x[at[0] + 1u];
        y[at[3]] = MEAN == 0u ? sum : (n > 0.0 ? sum / n : 0.0);
    }
}

// The root of the sum of partial sums.
void norm() {
    float sum = 0.0;
    for (uint i = LANE; i < N; i += LANES) { sum += x[at[0] + i]; }
    sum = group_sum(sum);
    if (LANE == 0u) { y[at[3]] = exact_sqrt(sum); }
}

// y = scale min(1, max / (norm scale + 1e-6)): norm in x, scale in other.
void clip() {
    if (LANE == 0u) {
        float scale = other[at[2]];
        float factor = uintBitsToFloat(p[1]) / (x[at[0]] * scale + 1e-6);
        y[at[3]] = scale * (factor < 1.0 ? factor : 1.0);
    }
}

// Three numbers in one buffer: x[0], targets[0], other[0].
void collect() {
    if (LANE == 0u) {
        y[at[3]] = x[at[0]];
        y[at[3] + 1u] = intBitsToFloat(targets[at[1]]);
        y[at[3] + 2u] = other[at[2]];
    }
}

void main() {
    switch (KIND) {
    case 0u: count_rows(); break;
    case 1u: losses(false); break;
    case 2u: losses(true); break;
    case 3u: loss(); break;
    case 4u: norm(); break;
    case 5u: clip(); break;
    case 6u: collect(); break;
    }
}
