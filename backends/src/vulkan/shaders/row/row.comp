#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "math.glsl"
#include "groups.glsl"

// Kernels over rows of the last axis, one workgroup a row. Formulas are in kernels/src/row.

// Which: the numbers of launch/row.rs.
layout(constant_id = 1) const uint KIND = 0u;
// Bits: 1 weight, 2 bias.
layout(constant_id = 2) const uint HAS = 0u;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
layout(set = 0, binding = 1) readonly buffer B1 { float in1[]; };
layout(set = 0, binding = 2) readonly buffer B2 { float in2[]; };
layout(set = 0, binding = 3) readonly buffer B3 { float in3[]; };
layout(set = 0, binding = 4) readonly buffer B4 { float in4[]; };
layout(set = 0, binding = 5) buffer Y { float y[]; };
layout(set = 0, binding = 6) writeonly buffer B6 { float out1[]; };
layout(set = 0, binding = 7) writeonly buffer B7 { float out2[]; };

#define ROWS p[0]
#define COLS p[1]
#define EPS uintBitsToFloat(p[2])

#define EACH(c) for (uint c = LANE; c < COLS; c += LANES)
#define X(c) x[at[0] + first + c]
#define Y(c) y[at[5] + first + c]

float weight(uint c) { return (HAS & 1u) != 0u ? in1[at[1] + c] : 1.0; }

void softmax(uint first, bool takes_log) {
    float most = -INFINITY;
    EACH(c) { most = max(most, X(c)); }
    most = group_max(most);
    float sum = 0.0;
    EACH(c) { sum += exp_weight(X(c) - most); }
    sum = group_sum(sum);
    float log_sum = log_exact(sum), scale = 1.0 / sum;
    EACH(c) { Y(c) = takes_log ? (X(c) - most) - log_sum : exp_weight(X(c) - most) * scale; }
}

// x is the forward pass's result, in1 dy.
void softmax_grad(uint first, bool of_log) {
    float dot = 0.0;
    EACH(c) { dot += of_log ? in1[at[1] + first + c] : X(c) * in1[at[1] + first + c]; }
    dot = group_sum(dot);
    EACH(c) {
        float dy = in1[at[1] + first + c];
        Y(c) = of_log ? dy - exp_exact(X(c)) * dot : X(c) * (dy - dot);
    }
}

// in1 weight, in2 bias; out1 mean, out2 rstd.
void layer_norm(uint row, uint first) {
    float sum = 0.0;
    EACH(c) { sum += X(c); }
    float mean = group_sum(sum) / float(COLS);
    float squares = 0.0;
    EACH(c) { float d = X(c) - mean; squares += d * d; }
    float rstd = 1.0 / exact_sqrt(group_sum(squares) / float(COLS) + EPS);
    EACH(c) {
        float shift = (HAS & 2u) != 0u ? in2[at[2] + c] : 0.0;
        Y(c) = fma((X(c) - mean) * rstd, weight(c), shift);
    }
    if (LANE == 0u) {
        out1[at[6] + row] = mean;
        out2[at[7] + row] = rstd;
    }
}

// in1 weight, in2 mean, in3 rstd, in4 dy.
void layer_norm_grad(uint row, uint first) {
    float mean = in2[at[2] + row], rstd = in3[at[3] + row];
    float total = 0.0, dot = 0.0;
    EACH(c) {
        float g = in4[at[4] + first + c] * weight(c);
        total += g;
        dot += g * ((X(c) - mean) * rstd);
    }
    total = group_sum(total) / float(COLS);
    dot = group_sum(dot) / float(COLS);
    EACH(c) {
        float hat = (X(c) - mean) * rstd;
        Y(c) = (in4[at[4] + first + c] * weight(c) - total - hat * dot) * rstd;
    }
}

// in1 weight, in2 what is added to x first, if `adds`; y the norm, out1 rstd, out2 the sum.
void rms_norm(uint row, uint first, bool adds) {
    float squares = 0.0;
    EACH(c) {
        float v = X(c);
        if (adds) {
            v += in2[at[2] + first + c];
            out2[at[7] + first + c] = v;
        }
        squares += v * v;
    }
    float rstd = 1.0 / exact_sqrt(group_sum(squares) / float(COLS) + EPS);
    EACH(c) {
        float v = X(c);
        if (adds) { v += in2[at[2] + first + c]; }
        Y(c) = v * rstd * weight(c);
    }
    if (LANE == 0u) { out1[at[6] + row] = rstd; }
}

// in1 weight, in2 rstd, in3 dy.
void rms_norm_grad(uint row, uint first) {
    float rstd = in2[at[2] + row], dot = 0.0;
    EACH(c) { dot += in3[at[3] + first + c] * weight(c) * X(c); }
    dot = group_sum(dot);
    float pull = -dot / float(COLS) * rstd * rstd * rstd;
    EACH(c) { Y(c) = fma(X(c), pull, in3[at[3] + first + c] * weight(c) * rstd); }
}

void main() {
    uint row = group_number(), first = row * COLS;
    if (row >= ROWS) { return; }
    switch (KIND) {
    case 0u: softmax(first, false); break;
    case 1u: softmax(first, true); break;
    case 2u: softmax_grad(first, false); break;
    case 3u: softmax_grad(first, true); break;
    case 4u: layer_norm(row, first); break;
    case 5u: layer_norm_grad(row, first); break;
    case 6u: rms_norm(row, first, false); break;
    case 7u: rms_norm(row, first, true); break;
    case 8u: rms_norm_grad(row, first); break;
    }
}
