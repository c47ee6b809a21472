#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"

// Convolution as a matrix product whose operands are found by index: C = A B with the taps, or the
// positions, as the sums' steps. No patch matrix is built. A workgroup of 16 by 16 invocations owns 64
// by 64 results of one group of channels.
//
// mode        rows of C       columns of C           steps
// 0 forward   out channels    images x positions     in channels x taps
// 1 input     in channels     images x positions     out channels x taps
// 2 weight    out channels    in channels x taps     images x positions

layout(constant_id = 1) const uint MODE = 0u;
layout(constant_id = 2) const bool BIAS = false;

layout(set = 0, binding = 0) readonly buffer A { float a[]; };
layout(set = 0, binding = 1) readonly buffer B { float b[]; };
layout(set = 0, binding = 2) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 3) writeonly buffer C { float result[]; };

#define BATCH p[0]
// Channels of a group, of x and of y, and groups.
#define INPUTS p[1]
#define OUTPUTS p[2]
#define GROUPS p[3]
// Of rows and columns: positions of x, of y, taps, stride, dilation, padding.
#define IN_Y p[4]
#define OUT_Y p[5]
#define TAPS_Y p[6]
#define STRIDE_Y p[7]
#define DILATION_Y p[8]
#define PAD_Y p[9]
#define IN_X p[10]
#define OUT_X p[11]
#define TAPS_X p[12]
#define STRIDE_X p[13]
#define DILATION_X p[14]
#define PAD_X p[15]
// Steps of a part, and parts, of the weight's gradient.
#define PART p[16]
#define PARTS p[17]

const uint DEPTH = 16u;

shared float slab_a[DEPTH * 68u];
shared float slab_b[DEPTH * 68u];

uint group;

// x (or its gradient) at an image, a channel of the group and an output position and tap; 0 outside.
bool input_place(uint image, uint channel, uint oy, uint ox, uint ky, uint kx, out uint i) {
    int y = int(oy * STRIDE_Y + ky * DILATION_Y) - int(PAD_Y), x = int(ox * STRIDE_X + kx * DILATION_X) - int(PAD_X);
    i = ((image * GROUPS + group) * INPUTS + channel) * IN_Y * IN_X + uint(y) * IN_X + uint(x);
    return y >= 0 && x >= 0 && y < int(IN_Y) && x < int(IN_X);
}

// y (or its gradient) that a tap reaches from an input position.
bool output_place(uint image, uint channel, uint iy, uint ix, uint ky, uint kx, out uint i) {
    int y = int(iy + PAD_Y) - int(ky * DILATION_Y), x = int(ix + PAD_X) - int(kx * DILATION_X);
    if (y < 0 || x < 0 || uint(y) % STRIDE_Y != 0u || uint(x) % STRIDE_X != 0u) { return false; }
    uint oy = uint(y) / STRIDE_Y, ox = uint(x) / STRIDE_X;
    i = ((image * GROUPS + group) * OUTPUTS + channel) * OUT_Y * OUT_X + oy * OUT_X + ox;
    return oy < OUT_Y && ox < OUT_X;
}

uint weight_at(uint o, uint c, uint tap) { return ((group * OUTPUTS + o) * INPUTS + c) * TAPS_Y * TAPS_X + tap; }

// In mode 2 operand 0 is x and operand 1 dy; else operand 0 is what is convolved, 1 the weight.
float load_a(uint row, uint step) {
    uint taps = TAPS_Y * TAPS_X;
    if (MODE == 2u) {
        uint plane = OUT_Y * OUT_X;
        return b[at[1] + ((step / plane * GROUPS + group) * OUTPUTS + row) * plane + step % plane];
    }
    uint c = step / taps, tap = step % taps;
    return b[at[1] + (MODE == 0u ? weight_at(row, c, tap) : weight_at(c, row, tap))];
}

float load_b(uint step, uint column) {
    uint taps = TAPS_Y * TAPS_X, i;
    bool is_in;
    if (MODE == 0u) {
        uint tap = step % taps, plane = OUT_Y * OUT_X, place = column % plane;
        is_in = input_place(column / plane, step / taps, place / OUT_X, place % OUT_X, tap / TAPS_X, tap % TAPS_X, i);
    } else if (MODE == 1u) {
        uint tap = step % taps, plane = IN_Y * IN_X, place = column % plane;
        is_in = output_place(column / plane, step / taps, place / IN_X, place % IN_X, tap / TAPS_X, tap % TAPS_X, i);
    } else {
        uint tap = column % taps, plane = OUT_Y * OUT_X, place = step % plane;
        is_in = input_place(step / plane, column / taps, place / OUT_X, place % OUT_X, tap / TAPS_X, tap % TAPS_X, i);
    }
    return is_in ? a[at[0] + i] : 0.0;
}

void main() {
    group = gl_WorkGroupID.z / PARTS;
    uint part = gl_WorkGroupID.z % PARTS;
    uint taps = TAPS_Y * TAPS_X;
    uint m = MODE == 1u ? INPUTS : OUTPUTS;
    uint n = MODE == 0u ? BATCH * OUT_Y * OUT_X : (MODE == 1u ? BATCH * IN_Y * IN_X : INPUTS * taps);
    uint k = MODE == 0u ? INPUTS * taps : (MODE == 1u ? OUTPUTS * taps : BATCH * OUT_Y * OUT_X);
    uint begin = part * PART, end = min(k, begin + PART);
    uint first_row = gl_WorkGroupID.y * 64u, first_column = gl_WorkGroupID.x * 64u;
    uint tx = LANE % 16u, ty = LANE / 16u;
    vec4 sums[4];
    for (uint i = 0u; i < 4u; i++) { sums[i] = vec4(0.0); }
    for (uint from = begin; from < end; from += DEPTH) {
        // Neighbouring invocations take neighbouring steps of A, and columns of B where that is how
        // they lie.
        for (uint t = LANE; t < 64u * DEPTH; t += 256u) {
            uint row = t / DEPTH, step = t % DEPTH;
            bool is_in = first_row + row < m && from + step < end;
            slab_a[step * 68u + row] = is_in ? load_a(first_row + row, from + step) : 0.0;
        }
        for (uint t = LANE; t < 64u * DEPTH; t += 256u) {
            uint column = MODE == 2u ? t / DEPTH : t % 64u, step = MODE == 2u ? t % DEPTH : t / 64u;
            bool is_in = first_column + column < n && from + step < end;
            slab_b[step * 68u + column] = is_in ? load_b(from + step, first_column + column) : 0.0;
        }
        barrier();
        for (uint step = 0u; step < DEPTH; step++) {
            uint l = step * 68u + ty * 4u, r = step * 68u + tx * 4u;
            vec4 right = vec4(slab_b[r], slab_b[r + 1u], slab_b[r + 2u], slab_b[r + 3u]);
            for (uint i = 0u; i < 4u; i++) { sums[i] = fma(vec4(slab_a[l + i]), right, sums[i]); }
        }
        barrier();
    }
    for (uint i = 0u; i < 4u; i++) {
        uint row = first_row + ty * 4u + i;
        if (row >= m) { continue; }
        for (uint j = 0u; j < 4u; j++) {
            uint column = first_column + tx * 4u + j, to;
            if (column >= n) { break; }
            if (MODE == 2u) {
                to = part * GROUPS * m * n + (group * m + row) * n + column;
            } else {
                uint plane = MODE == 0u ? OUT_Y * OUT_X : IN_Y * IN_X;
                to = ((column / plane * GROUPS + group) * m + row) * plane + column % plane;
            }
            result[at[3] + to] = sums[i][j] + (BIAS ? bias[at[2] + group * m + row] : 0.0);
        }
    }
}
