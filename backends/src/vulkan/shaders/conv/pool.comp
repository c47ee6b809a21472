#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// Max and average pooling of planes, both ways.

// 0 max, 1 its gradient, 2 average, 3 its gradient.
layout(constant_id = 1) const uint KIND = 0u;
// What an average divides by: 0 the cells in the input and its padding, 1 those in the input, 2 DIVISOR.
layout(constant_id = 2) const uint BY = 0u;
layout(constant_id = 3) const float DIVISOR = 1.0;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) buffer Index { int index[]; };
layout(set = 0, binding = 2) buffer Y { float y[]; };

#define PLANES p[0]
#define IN_Y p[1]
#define OUT_Y p[2]
#define TAPS_Y p[3]
#define STRIDE_Y p[4]
#define DILATION_Y p[5]
#define PAD_Y p[6]
#define IN_X p[7]
#define OUT_X p[8]
#define TAPS_X p[9]
#define STRIDE_X p[10]
#define DILATION_X p[11]
#define PAD_X p[12]

bool is_nan(float v) { return (floatBitsToUint(v) & 0x7fffffffu) > 0x7f800000u; }

// Cells of window `o` along an axis that an average counts.
uint cells(uint o, uint stride, uint taps, uint size, uint pad) {
    uint begin = o * stride, end = begin + taps;
    if (BY == 0u) { return min(end, size + 2u * pad) - begin; }
    return min(end, size + pad) - max(begin, pad);
}

float divisor(uint oy, uint ox) {
    if (BY == 2u) { return DIVISOR; }
    return float(cells(oy, STRIDE_Y, TAPS_Y, IN_Y, PAD_Y) * cells(ox, STRIDE_X, TAPS_X, IN_X, PAD_X));
}

void forward(uint i) {
    uint ox = i % OUT_X, oy = i / OUT_X % OUT_Y, base = at[0] + i / OUT_X / OUT_Y * IN_Y * IN_X;
    float best = -uintBitsToFloat(0x7f800000u), sum = 0.0;
    int chosen = -1;
    for (uint ky = 0u; ky < TAPS_Y; ky++) {
        uint iy = oy * STRIDE_Y + ky * DILATION_Y - PAD_Y;
        if (iy >= IN_Y) { continue; }
        for (uint kx = 0u; kx < TAPS_X; kx++) {
            uint ix = ox * STRIDE_X + kx * DILATION_X - PAD_X;
            if (ix >= IN_X) { continue; }
            float v = x[base + iy * IN_X + ix];
            sum += v;
            if (chosen < 0 || v > best || is_nan(v)) {
                best = v;
                chosen = int(iy * IN_X + ix);
            }
        }
    }
    if (KIND == 0u) { index[at[1] + i] = chosen; }
    y[at[2] + i] = KIND == 0u ? best : sum / divisor(oy, ox);
}

// An average's gradient: the windows that an input lies in, in order.
void backward(uint i) {
    uint ix = i % IN_X, iy = i / IN_X % IN_Y, base = i / IN_X / IN_Y * OUT_Y * OUT_X;
    uint reach_y = (TAPS_Y - 1u) * DILATION_Y, reach_x = (TAPS_X - 1u) * DILATION_X;
    uint py = iy + PAD_Y, px = ix + PAD_X;
    uint first_y = py > reach_y ? (py - reach_y + STRIDE_Y - 1u) / STRIDE_Y : 0u;
    uint first_x = px > reach_x ? (px - reach_x + STRIDE_X - 1u) / STRIDE_X : 0u;
    float sum = 0.0;
    for (uint oy = first_y; oy < OUT_Y && oy * STRIDE_Y <= py; oy++) {
        if ((py - oy * STRIDE_Y) % DILATION_Y != 0u) { continue; }
        for (uint ox = first_x; ox < OUT_X && ox * STRIDE_X <= px; ox++) {
            if ((px - ox * STRIDE_X) % DILATION_X != 0u) { continue; }
            sum += x[at[0] + base + oy * OUT_X + ox] / divisor(oy, ox);
        }
    }
    y[at[2] + i] = sum;
}

shared int chosen[256];
shared float value[256];

// A maximum's gradient: a workgroup a plane, whose invocations each add to elements of their own, in
// the order of the results.
void scatter() {
    uint plane = group_number(), size = IN_Y * IN_X, results = OUT_Y * OUT_X;
    if (plane >= PLANES) { return; }
    for (uint i = LANE; i < size; i += LANES) { y[at[2] + plane * size + i] = 0.0; }
    for (uint first = 0u; first < results; first += LANES) {
        uint count = min(LANES, results - first);
        barrier();
        if (LANE < count) {
            chosen[LANE] = index[at[1] + plane * results + first + LANE];
            value[LANE] = x[at[0] + plane * results + first + LANE];
        }
        barrier();
        for (uint k = 0u; k < count; k++) {
            uint to = uint(chosen[k]);
            if (to % LANES == LANE && to < size) { y[at[2] + plane * size + to] += value[k]; }
        }
    }
}

void main() {
    if (KIND == 1u) {
        scatter();
        return;
    }
    uint i = group_number() * LANES + LANE;
    bool is_forward = KIND != 3u;
    if (i >= PLANES * (is_forward ? OUT_Y * OUT_X : IN_Y * IN_X)) { return; }
    if (is_forward) { forward(i); } else { backward(i); }
}
