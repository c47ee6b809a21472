// Elementary functions, with the same polynomials as kernels/src/simd/math: what GLSL offers may
// err by as much as 3 + 2 |x| units in the last place. Errors are stated there.

#include "exact.glsl"

#define LOG2_E 1.44269504
#define LN2_HIGH 0.6933594
#define LN2_LOW -0.00021219444

// `sign`'s sign on |a|.
float copysign(float a, float sign) {
    return uintBitsToFloat((floatBitsToUint(a) & 0x7fffffffu) | (floatBitsToUint(sign) & 0x80000000u));
}

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

// 2^n for whole -126 <= n <= 127.
float exp2i(int n) { return uintBitsToFloat(uint(n + 127) << 23); }

// x 2^n in two steps, so that n may reach from -252 to 254.
float scale2(float x, int n) {
    int h = n / 2;
    return x * exp2i(h) * exp2i(n - h);
}

// n, and e^r - 1 with x + low = n ln(2) + r.
float reduce_exp(float x, float low, out int n) {
    float whole = round_even(x * LOG2_E);
    n = int(whole);
    precise float r = x - whole * LN2_HIGH;
    r = r - whole * LN2_LOW;
    r = r + low;
    float q = 0.00019789934;
    q = fma(q, r, 0.0013945105);
    q = fma(q, r, 0.0083335);
    q = fma(q, r, 0.041666288);
    q = fma(q, r, 0.16666666);
    q = fma(q, r, 0.5);
    return fma(r * r, q, r);
}

// e^(x + low) for low far smaller than x.
float exp_of_sum(float x, float low) {
    if (is_nan(x)) { return x; }
    int n;
    float em1 = reduce_exp(clamp(x, -105.0, 90.0), low, n);
    return scale2(em1 + 1.0, n);
}

float exp_exact(float x) { return exp_of_sum(x, 0.0); }

// 2^x for x <= 127.
float exp2_below(float x) {
    if (is_nan(x)) { return x; }
    x = max(x, -252.0);
    float n = round_even(x);
    float r = x - n;
    float q = 0.0013264727;
    q = fma(q, r, 0.009671513);
    q = fma(q, r, 0.055507336);
    q = fma(q, r, 0.24022242);
    q = fma(q, r, 0.6931472 - 1.7881393e-7);
    q = fma(q, r, 1.0);
    return scale2(q, int(n));
}

// e^x for x <= 0, within 2e-7: what softmax asks for.
float exp_weight(float x) { return exp2_below(x * LOG2_E); }

float exp_neg_abs(float x) { return exp_exact(-abs(x)); }

float expm1_exact(float x) {
    if (is_nan(x) || abs(x) < 1e-8) { return x; }
    int n;
    float em1 = reduce_exp(clamp(x, -30.0, 89.0), 0.0, n);
    float half_power = exp2i(n - 1);
    float sum = fma(em1, half_power, half_power - 0.5);
    return sum + sum;
}

// (f, e) with x = (1 + f) 2^e and 1 + f in [sqrt(1/2), sqrt(2)); x is positive and finite.
float reduce_log(float x, out float e) {
    float shift = 0.0;
    if (x < 1.17549435e-38) {
        x = x * 8388608.0;
        shift = 23.0;
    }
    uint b = floatBitsToUint(x);
    float m = uintBitsToFloat((b & 0x7fffffu) | 0x3f000000u);
    e = float(int(b >> 23) - 126) - shift;
    if (m < 0.70710678) {
        e = e - 1.0;
        return (m - 1.0) + m;
    }
    return m - 1.0;
}

float log_polynomial(float f) {
    float q = -0.07634108;
    q = fma(q, f, 0.1276142);
    q = fma(q, f, -0.13160256);
    q = fma(q, f, 0.14201784);
    q = fma(q, f, -0.16623353);
    q = fma(q, f, 0.20001225);
    q = fma(q, f, -0.25000823);
    return fma(q, f, 0.3333333);
}

// What a logarithm is at and beyond the ends of its range; elsewhere y.
float log_limits(float x, float y) {
    if (x == 0.0) { return -INFINITY; }
    if (x < 0.0) { return NAN; }
    return x < INFINITY ? y : x;
}

float log_exact(float x) {
    float e;
    float f = reduce_log(x, e);
    precise float f2 = f * f;
    float y = (f2 * f) * log_polynomial(f);
    y = fma(e, LN2_LOW, y);
    y = fma(f2, -0.5, y);
    precise float sum = f + y;
    sum = e * LN2_HIGH + sum;
    return log_limits(x, sum);
}

float log1p_exact(float x) {
    precise float w = x + 1.0;
    precise float lost = (x - (w - 1.0)) / w;
    float y = log_exact(w) + lost;
    return log_limits(w, abs(x) < 1e-8 ? x : y);
}

float tanh_exact(float x) {
    if (is_nan(x)) { return x; }
    float t = min(10.0, abs(x));
    float e = expm1_exact(t + t);
    return copysign(e / (e + 2.0), x);
}

float sigmoid(float x) {
    float e = exp_neg_abs(x);
    return (x < 0.0 ? e : 1.0) / (e + 1.0);
}

// The sigmoid g of x, and its slope g (1 - g) without cancellation.
float sigmoid_and_slope(float x, out float slope) {
    float e = exp_neg_abs(x);
    float r = 1.0 / (e + 1.0);
    float other = e * r;
    slope = other * r;
    return x < 0.0 ? other : r;
}

float erf_exact(float x) {
    if (is_nan(x)) { return x; }
    float t = min(4.0, abs(x)), t2 = t * t;
    if (t < 0.9) {
        float q = -0.0006090722;
        q = fma(q, t2, 0.0050120438);
        q = fma(q, t2, -0.026778976);
        q = fma(q, t2, 0.11282143);
        q = fma(q, t2, -0.37612525);
        q = fma(q, t2, 0.1283791);
        return copysign(fma(t, q, t), x);
    }
    float q = 2.0531677e-5;
    q = fma(q, t, -0.00042799688);
    q = fma(q, t, 0.0041399947);
    q = fma(q, t, -0.025038373);
    q = fma(q, t, 0.108156025);
    q = fma(q, t, 0.6334584);
    q = fma(q, t, 1.1294605);
    q = fma(q, t, -0.00016349677);
    return copysign(1.0 - exp_exact(-q), x);
}

// (1 + erf(x / sqrt(2))) / 2, within 1e-7.
float normal_cdf(float x) {
    if (is_nan(x)) { return x; }
    float t = min(16.0, abs(x));
    float q = 2.8349127e-6;
    q = fma(q, t, -3.9377694e-5);
    q = fma(q, t, 0.00018618024);
    q = fma(q, t, 0.00013693636);
    q = fma(q, t, -0.00706342);
    q = fma(q, t, 0.05249618);
    q = fma(q, t, 0.4592082);
    q = fma(q, t, 1.1511052);
    float tail = exp2_below(-fma(t, q, 1.0));
    return x < 0.0 ? tail : 1.0 - tail;
}

// sin(pi (x / pi - q)) (-1)^q for q an integer, or half of one for the cosine.
float sine_of_rest(float x, float q, float flips) {
    precise float r = x - q * 3.140625;
    r = r - q * 0.0009675026;
    r = r - q * 1.5099067e-7;
    r = r - q * 5.126688e-12;
    float r2 = r * r;
    float s = -2.3886605e-8;
    s = fma(s, r2, 2.7525257e-6);
    s = fma(s, r2, -0.00019840866);
    s = fma(s, r2, 0.008333331);
    s = fma(s, r2, -0.16666667);
    float sine = fma(r2 * r, s, r);
    return (int(flips) & 1) == 0 ? sine : -sine;
}

// Beyond |x| of 12000 the reduction loses digits.
float sin_exact(float x) {
    if (abs(x) < 1e-4 || is_nan(x)) { return x; }
    if (!(abs(x) < INFINITY)) { return NAN; }
    float q = round_even(x * 0.31830989);
    return sine_of_rest(x, q, q);
}

float cos_exact(float x) {
    if (is_nan(x)) { return x; }
    if (!(abs(x) < INFINITY)) { return NAN; }
    float n = round_even(fma(x, 0.31830989, -0.5));
    return sine_of_rest(x, n + 0.5, n + 1.0);
}

// ln(x) of a positive finite x in two parts.
float log_in_two(float x, out float low) {
    float e, f = reduce_log(x, e), f2, f2_low, high, lost;
    exact_product(f, f, f2, f2_low);
    float cubic = (f2 * f) * log_polynomial(f);
    exact_sum(f, f2 * -0.5, high, low);
    low = low + fma(f2_low, -0.5, fma(e, LN2_LOW, cubic));
    exact_sum(e * LN2_HIGH, high, high, lost);
    exact_sum(high, low + lost, high, low);
    return high;
}

// x^y of IEEE 754 pow.
float pow_exact(float x, float y) {
    if (y == 0.0 || x == 1.0) { return 1.0; }
    if (is_nan(x) || is_nan(y)) { return NAN; }
    float size = abs(x), log_low, power;
    if (size == 1.0) {
        power = 1.0;
    } else {
        float high = log_limits(size, log_in_two(size, log_low)), p, p_low;
        exact_product(y, high, p, p_low);
        p_low = abs(p) < 110.0 ? fma(y, log_low, p_low) : 0.0;
        power = exp_of_sum(y * high, p_low);
    }
    if (x < 0.0 || (x == 0.0 && (floatBitsToUint(x) >> 31) == 1u)) {
        bool integer = floor(y) == y;
        if (integer && floor(y * 0.5) != y * 0.5) { power = -power; }
        if (!integer && x < 0.0 && size < INFINITY) { power = NAN; }
    }
    return power;
}
