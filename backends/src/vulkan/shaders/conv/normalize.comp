#version 450
#extension GL_GOOGLE_include_directive : require
#include "core.glsl"
#include "math.glsl"
#include "groups.glsl"

// Batch normalisation of [batch, channels, len] and its gradient, one workgroup a channel.

// Bits: 1 gradient, 2 training, 4 running statistics, 8 scale and shift.
layout(constant_id = 1) const uint FLAGS = 0u;

layout(set = 0, binding = 0) readonly buffer X { float x[]; };
// Running mean and variance; in the gradient mean and rstd.
layout(set = 0, binding = 1) buffer Mean { float mean_of[]; };
layout(set = 0, binding = 2) buffer Var { float var_of[]; };
layout(set = 0, binding = 3) readonly buffer Weight { float weight[]; };
// Shift; in the gradient dy.
layout(set = 0, binding = 4) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 5) writeonly buffer Y { float y[]; };
// Mean and rstd; in the gradient those of scale and shift.
layout(set = 0, binding = 6) writeonly buffer First { float first[]; };
layout(set = 0, binding = 7) writeonly buffer Second { float second[]; };

#define BATCH p[0]
#define CHANNELS p[1]
#define LEN p[2]
#define MOMENTUM uintBitsToFloat(p[3])
#define EPS uintBitsToFloat(p[4])

#define EACH(i) for (uint n = LANE, i; n < BATCH * LEN && (i = (n / LEN * CHANNELS + channel) * LEN + n % LEN, true); n += LANES)

void main() {
    uint channel = group_number();
    if (channel >= CHANNELS) { return; }
    float scale = (FLAGS & 8u) != 0u ? weight[at[3] + channel] : 1.0, count = float(BATCH * LEN);
    if ((FLAGS & 1u) != 0u) {
        float mean = mean_of[at[1] + channel], rstd = var_of[at[2] + channel];
        float plain = 0.0, weighted = 0.0;
        EACH(i) {
            float dy = bias[at[4] + i];
            plain += dy;
            weighted += dy * (x[at[0] + i] - mean);
        }
        plain = group_sum(plain);
        weighted = group_sum(weighted) * rstd;
        float share = (FLAGS & 2u) != 0u ? 1.0 / count : 0.0;
        EACH(i) {
            float centred = x[at[0] + i] - mean, dy = bias[at[4] + i] - plain * share;
            y[at[5] + i] = (dy - centred * (weighted * share * rstd)) * (rstd * scale);
        }
        if (LANE == 0u) {
            first[at[6] + channel] = weighted;
            second[at[7] + channel] = plain;
        }
        return;
    }
    bool runs = (FLAGS & 4u) != 0u;
    float mean = 0.0, var = 1.0;
    if (runs) {
        mean = mean_of[at[1] + channel];
        var = var_of[at[2] + channel];
    }
    if ((FLAGS & 2u) != 0u) {
        float old_mean = mean, old_var = var, sum = 0.0, squares = 0.0;
        EACH(i) { sum += x[at[0] + i]; }
        mean = group_sum(sum) / count;
        EACH(i) { float d = x[at[0] + i] - mean; squares += d * d; }
        squares = group_sum(squares);
        var = squares / count;
        if (runs && LANE == 0u) {
            mean_of[at[1] + channel] = old_mean * (1.0 - MOMENTUM) + mean * MOMENTUM;
            var_of[at[2] + channel] = old_var * (1.0 - MOMENTUM) + squares / (count - 1.0) * MOMENTUM;
        }
    }
    float rstd = 1.0 / exact_sqrt(var + EPS);
    float shift = (FLAGS & 8u) != 0u ? bias[at[4] + channel] : 0.0;
    EACH(i) { y[at[5] + i] = fma(x[at[0] + i] - mean, rstd * scale, shift); }
    if (LANE == 0u) {
        first[at[6] + channel] = mean;
        second[at[7] + channel] = rstd;
    }
}
