//! Elementary functions on vectors.
//!
//! Arguments are reduced as in Cody and Waite, "Software Manual for the Elementary Functions"
//! (1980); the polynomials are minimax fits of this project (weighted for relative error, then
//! rounded to f32). Each function states its greatest error in units in the last place (ULP) of
//! the correctly rounded result, which the tests measure over a sweep of all exponents on every
//! level. Infinities, NaN and subnormal numbers give what the mathematical function gives.

use super::Simd;

/// Coefficients of `(e^r - 1 - r) / r^2` for |r| <= ln(2)/2.
const EXP: [f32; 6] =
    [0.5, 0.166_666_66, 0.041_666_288, 0.008_333_5, 0.001_394_510_5, 0.000_197_899_34];
/// Coefficients of `e^r` for |r| <= ln(2)/2.
const EXP_BELOW: [f32; 7] =
    [1.0, 1.0, 0.499_999_9, 0.166_664_2, 0.041_668_225, 0.008_374_816, 0.001_383_684_6];
/// Coefficients of `2^r` for |r| <= 1/2.
const EXP2: [f32; 6] = [
    1.0,
    std::f32::consts::LN_2 - 1.788_139_3e-7,
    0.240_222_42,
    0.055_507_336,
    0.009_671_513,
    0.001_326_472_7,
];
/// Coefficients of `(ln(1 + f) - f + f^2/2) / f^3` for `1 + f` in [sqrt(1/2), sqrt(2)].
pub(crate) const LOG: [f32; 8] = [
    0.333_333_3,
    -0.250_008_23,
    0.200_012_25,
    -0.166_233_53,
    0.142_017_84,
    -0.131_602_56,
    0.127_614_2,
    -0.076_341_08,
];
/// Coefficients of `(sin(r) - r) / r^3` in `r^2`, for |r| <= pi/2.
const SIN: [f32; 5] =
    [-0.166_666_67, 0.008_333_331, -0.000_198_408_66, 2.752_525_7e-6, -2.388_660_5e-8];
/// Coefficients of `erf(x) / x - 1` in `x^2`, for |x| <= 0.9.
const ERF_SMALL: [f32; 6] =
    [0.128_379_1, -0.376_125_25, 0.112_821_43, -0.026_778_976, 0.005_012_043_8, -0.000_609_072_2];
/// Coefficients of `-ln(1 - erf(x))` for x in [0.88, 4].
const ERF_LARGE: [f32; 8] = [
    -0.000_163_496_77,
    1.129_460_5,
    0.633_458_4,
    0.108_156_025,
    -0.025_038_373,
    0.004_139_994_7,
    -0.000_427_996_88,
    2.053_167_7e-5,
];
/// Coefficients of `-(1 + log2(cdf(-x))) / x` with the normal distribution's `cdf`, for x in
/// [0, 6]; beyond, the polynomial grows.
const NORMAL: [f32; 8] = [
    1.151_105_2,
    0.459_208_2,
    0.052_496_18,
    -0.007_063_42,
    0.000_136_936_36,
    0.000_186_180_24,
    -3.937_769_4e-5,
    2.834_912_7e-6,
];
/// ln(2) in two parts; the first has ten bits, so its product with an exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -0.000_212_194_44];
/// pi in four parts; the first three have eleven bits, so their products with 13 bits are exact.
const PI: [f32; 4] = [3.140_625, 0.000_967_502_6, 1.509_906_7e-7, 5.126_688e-12];
/// Greatest |x| that [`sin`] and [`cos`] reduce in vectors.
const VECTOR_ANGLE: f32 = 12_000.0;

/// `c[0] + c[1] x + c[2] x^2 + ...`.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, c: &[f32; N]) -> S::F {
    let mut sum = s.splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = s.fma(sum, x, s.splat(c[i]));
    }
    sum
}

/// `|a|` with the sign of `sign`.
#[inline(always)]
pub fn copysign<S: Simd>(s: S, a: S::F, sign: S::F) -> S::F {
    s.or(s.abs(a), s.and(sign, s.splat(-0.0)))
}

/// `n` and `e^r - 1` with `x + low = n ln(2) + r`.
#[inline(always)]
fn reduce_exp<S: Simd>(s: S, x: S::F, low: Option<S::F>) -> (S::F, S::F) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN_2[0]), x);
    let r = s.fma(n, s.splat(-LN_2[1]), r);
    let r = low.map_or(r, |low| s.add(r, low));
    let q = polynomial(s, r, &EXP);
    (n, s.fma(s.mul(r, r), q, r))
}

/// `e^x`, within 1 ULP.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    exp_of_sum(s, x, None)
}

/// `e^(x + low)` for `low` far smaller than `x`.
#[inline(always)]
fn exp_of_sum<S: Simd>(s: S, x: S::F, low: Option<S::F>) -> S::F {
    // At the bounds the result has long overflowed or vanished. NaN passes as second operand.
    let x = s.max(s.splat(-105.0), s.min(s.splat(90.0), x));
    let (n, em1) = reduce_exp(s, x, low);
    s.ldexp(s.add(em1, s.splat(1.0)), n)
}

/// `n` and `e^r`, within 1 ULP and a bit, with `x = n ln(2) + r`; `n` stays above -153.
#[inline(always)]
fn reduced_exp<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    // NaN passes as second operand.
    let x = s.max(s.splat(-105.0), x);
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN_2[0]), x);
    let r = s.fma(n, s.splat(-LN_2[1]), r);
    (n, polynomial(s, r, &EXP_BELOW))
}

/// `e^x` for `x <= 88`, within 2 ULP; 0 where the result is subnormal, on some levels.
///
/// Fewer operations than [`exp`], most of all on levels that scale by two products: softmax, whose
/// arguments are not above 0, asks for no more.
#[inline(always)]
pub fn exp_below<S: Simd>(s: S, x: S::F) -> S::F {
    let (n, e) = reduced_exp(s, x);
    s.ldexp_down(e, n)
}

/// `e^-|x|`, within 2 ULP.
#[inline(always)]
pub fn exp_neg_abs<S: Simd>(s: S, x: S::F) -> S::F {
    let (n, e) = reduced_exp(s, s.or(x, s.splat(-0.0)));
    s.ldexp(e, n)
}

/// `2^x` for `x <= 127`, within 3 ULP; 0 where the result is subnormal, on some levels.
///
/// Two thirds of the work of [`exp`]: the reduction is exact, and nothing guards the upper end.
#[inline(always)]
pub fn exp2_below<S: Simd>(s: S, x: S::F) -> S::F {
    // NaN passes as second operand.
    let x = s.max(s.splat(-252.0), x);
    let n = s.round(x);
    s.ldexp_down(polynomial(s, s.sub(x, n), &EXP2), n)
}

/// `e^x` for `x <= 0`, within 2e-7: what softmax asks for, whose greatest weight is 1.
#[inline(always)]
pub fn exp_weight<S: Simd>(s: S, x: S::F) -> S::F {
    exp2_below(s, s.mul(x, s.splat(std::f32::consts::LOG2_E)))
}

/// `e^x - 1`, within 2 ULP.
#[inline(always)]
pub fn expm1<S: Simd>(s: S, x: S::F) -> S::F {
    let bounded = s.max(s.splat(-30.0), s.min(s.splat(89.0), x));
    let (n, em1) = reduce_exp(s, bounded, None);
    // Half the power of two: 2^128 is not an f32.
    let half = s.exp2i(s.sub(n, s.splat(1.0)));
    let sum = s.fma(em1, half, s.sub(half, s.splat(0.5)));
    // Near zero the result is `x`, whose sign of zero the sum would lose.
    let tiny = s.lt(s.abs(x), s.splat(1e-8));
    s.select(tiny, x, s.add(sum, sum))
}

/// Splits a positive `x` into `(f, e)` with `x = (1 + f) 2^e` and `1 + f` in [sqrt(1/2), sqrt(2)).
#[inline(always)]
fn reduce_log<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let subnormal = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let normal = s.select(subnormal, s.mul(x, s.splat(8_388_608.0)), x);
    let (m, e) = s.frexp(normal);
    let e = s.sub(e, s.select(subnormal, s.splat(23.0), s.zero()));
    let low = s.lt(m, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let f = s.sub(m, s.splat(1.0));
    let f = s.add(f, s.select(low, m, s.zero()));
    (f, s.sub(e, s.select(low, s.splat(1.0), s.zero())))
}

/// Natural logarithm, within 1 ULP.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::F) -> S::F {
    let (f, e) = reduce_log(s, x);
    let f2 = s.mul(f, f);
    let y = s.mul(s.mul(f2, f), polynomial(s, f, &LOG));
    let y = s.fma(e, s.splat(LN_2[1]), y);
    let y = s.fma(f2, s.splat(-0.5), y);
    let y = s.fma(e, s.splat(LN_2[0]), s.add(f, y));
    log_limits(s, x, y)
}

/// What a logarithm is at and beyond the ends of its range; elsewhere `y`.
#[inline(always)]
fn log_limits<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    let y = s.select(s.lt(x, s.splat(f32::INFINITY)), y, x);
    let y = s.select(s.lt(x, s.zero()), s.splat(f32::NAN), y);
    s.select(s.eq(x, s.zero()), s.splat(f32::NEG_INFINITY), y)
}

/// `ln(1 + x)` for `x` in 0..=1, within 2 ULP: what it is reduced by depends on `x` only, so that
/// neither the sum is split nor what it loses divided.
#[inline(always)]
pub fn log1p_unit<S: Simd>(s: S, x: S::F) -> S::F {
    // 1 + x is (1 + f) 2^e with 1 + f below the root of two, or above its half.
    let large = s.lt(s.splat(std::f32::consts::SQRT_2 - 1.0), x);
    let f = s.select(large, s.fma(x, s.splat(0.5), s.splat(-0.5)), x);
    let high = s.select(large, s.splat(LN_2[0]), s.zero());
    let low = s.select(large, s.splat(LN_2[1]), s.zero());
    let f2 = s.mul(f, f);
    let y = s.fma(s.mul(f2, f), polynomial(s, f, &LOG), low);
    let y = s.fma(f2, s.splat(-0.5), y);
    s.add(s.add(f, y), high)
}

/// Hyperbolic tangent, within 3 ULP.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    // tanh(10) rounds to one.
    let t = s.min(s.splat(10.0), s.abs(x));
    let e = expm1(s, s.add(t, t));
    copysign(s, s.div(e, s.add(e, s.splat(2.0))), x)
}

/// `1 / (1 + e^-x)`, within 3 ULP.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    // e^-|x| cannot overflow, so the far negative side keeps its relative error.
    let e = exp_neg_abs(s, x);
    let numerator = s.select(s.lt(x, s.zero()), e, s.splat(1.0));
    s.div(numerator, s.add(e, s.splat(1.0)))
}

/// The sigmoid `g` of `x`, within 4 ULP, and its slope `g (1 - g)`, within 6: without the
/// cancellation that `1 - g` has for large `x`.
#[inline(always)]
pub fn sigmoid_and_slope<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let one = s.splat(1.0);
    let e = exp_neg_abs(s, x);
    let r = s.div(one, s.add(e, one));
    let other = s.mul(e, r);
    (s.select(s.lt(x, s.zero()), other, r), s.mul(other, r))
}

/// Error function, within 2 ULP.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    // erf(4) rounds to one.
    let t = s.min(s.splat(4.0), s.abs(x));
    let small = s.fma(t, polynomial(s, s.mul(t, t), &ERF_SMALL), t);
    let tail = exp_below(s, s.neg(polynomial(s, t, &ERF_LARGE)));
    let large = s.sub(s.splat(1.0), tail);
    copysign(s, s.select(s.lt(t, s.splat(0.9)), small, large), x)
}

/// `a x + b`.
#[inline(always)]
fn line<S: Simd>(s: S, a: f32, x: S::F, b: f32) -> S::F {
    s.fma(s.splat(a), x, s.splat(b))
}

/// `(1 + erf(x / sqrt(2))) / 2`, the distribution function of normal numbers, within 1e-7.
#[inline(always)]
pub fn normal_cdf<S: Simd>(s: S, x: S::F) -> S::F {
    // Of the side below zero, where nothing cancels. NaN passes as second operand.
    let t = s.min(s.splat(16.0), s.abs(x));
    // In pairs of coefficients (Estrin 1960), which wait less for one another: 39 instead of 34 GB/s
    // of GELU in cache (AVX-512). The polynomials of exponentials gained nothing by it.
    let [a, b, c, d, e, f, g, h] = NORMAL;
    let t2 = s.mul(t, t);
    let low = s.fma(line(s, d, t, c), t2, line(s, b, t, a));
    let high = s.fma(line(s, h, t, g), t2, line(s, f, t, e));
    let bits = s.fma(t, s.fma(high, s.mul(t2, t2), low), s.splat(1.0));
    let tail = exp2_below(s, s.neg(bits));
    s.select(s.lt(x, s.zero()), tail, s.sub(s.splat(1.0), tail))
}

/// `sin(pi (x/pi - q))` times (-1)^`q`, for `q` an integer, or half of one for the cosine.
#[inline(always)]
fn sine_of_rest<S: Simd>(s: S, x: S::F, q: S::F, flips: S::F) -> S::F {
    let mut r = x;
    for part in PI {
        r = s.fma(q, s.splat(-part), r);
    }
    let r2 = s.mul(r, r);
    let sine = s.fma(s.mul(r2, r), polynomial(s, r2, &SIN), r);
    // An odd number of flips differs from its nearest multiple of two.
    let even = s.mul(s.round(s.mul(flips, s.splat(0.5))), s.splat(2.0));
    s.select(s.eq(even, flips), sine, s.neg(sine))
}

/// `y`, but recomputed by `f` in every lane where |x| is too large for the vector reduction.
#[inline(always)]
fn far_angles<S: Simd>(s: S, x: S::F, y: S::F, f: fn(f32) -> f32) -> S::F {
    // Widest level in lanes.
    const LANES: usize = 16;
    let size = s.select(s.eq(x, x), s.abs(x), s.zero());
    if s.max_lane(size) <= VECTOR_ANGLE {
        return y;
    }
    let mut lanes = ([0.0; LANES], [0.0; LANES]);
    // SAFETY: no level has more lanes than the arrays.
    unsafe {
        s.store(lanes.0.as_mut_ptr(), x);
        s.store(lanes.1.as_mut_ptr(), y);
    }
    for (x, y) in lanes.0.into_iter().zip(&mut lanes.1) {
        if x.abs() > VECTOR_ANGLE {
            *y = f(x);
        }
    }
    // SAFETY: as above.
    unsafe { s.load(lanes.1.as_ptr()) }
}

/// Sine of an angle in radians, within 3 ULP (in the far range, as good as the standard library).
#[inline(always)]
pub fn sin<S: Simd>(s: S, x: S::F) -> S::F {
    let q = s.round(s.mul(x, s.splat(std::f32::consts::FRAC_1_PI)));
    let y = sine_of_rest(s, x, q, q);
    let y = s.select(s.lt(s.abs(x), s.splat(1e-4)), x, y);
    far_angles(s, x, y, f32::sin)
}

/// Cosine of an angle in radians, within 3 ULP (in the far range, as good as the standard
/// library).
#[inline(always)]
pub fn cos<S: Simd>(s: S, x: S::F) -> S::F {
    // cos(x) = -sin(x - pi/2 - n pi) (-1)^n
    let n = s.round(s.fma(x, s.splat(std::f32::consts::FRAC_1_PI), s.splat(-0.5)));
    let q = s.add(n, s.splat(0.5));
    let y = sine_of_rest(s, x, q, s.add(n, s.splat(1.0)));
    far_angles(s, x, y, f32::cos)
}

/// The product of two vectors as a rounded high part and the remainder.
///
/// Without fused multiply-add the factors are split in halves (Dekker 1971).
#[inline(always)]
fn exact_product<S: Simd>(s: S, a: S::F, b: S::F) -> (S::F, S::F) {
    let mask = s.splat(f32::from_bits(0xffff_f000));
    let (ah, bh) = (s.and(a, mask), s.and(b, mask));
    let (al, bl) = (s.sub(a, ah), s.sub(b, bh));
    let p = s.mul(a, b);
    let rest = s.sub(s.mul(ah, bh), p);
    let rest = s.add(s.add(rest, s.mul(ah, bl)), s.mul(al, bh));
    (p, s.add(rest, s.mul(al, bl)))
}

/// The sum of two vectors as a rounded high part and the remainder (Knuth).
#[inline(always)]
fn exact_sum<S: Simd>(s: S, a: S::F, b: S::F) -> (S::F, S::F) {
    let sum = s.add(a, b);
    let part = s.sub(sum, a);
    (sum, s.add(s.sub(a, s.sub(sum, part)), s.sub(b, part)))
}

/// `ln(x)` of a positive finite `x` as high and low part, to about 2^-29 of itself.
#[inline(always)]
fn log_in_two<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let (f, e) = reduce_log(s, x);
    let (f2, f2_low) = exact_product(s, f, f);
    let cubic = s.mul(s.mul(f2, f), polynomial(s, f, &LOG));
    let half = s.splat(-0.5);
    let (high, low) = exact_sum(s, f, s.mul(f2, half));
    let low = s.add(low, s.fma(f2_low, half, s.fma(e, s.splat(LN_2[1]), cubic)));
    let (high, lost) = exact_sum(s, s.mul(e, s.splat(LN_2[0])), high);
    exact_sum(s, high, s.add(low, lost))
}

/// `x^y` of IEEE 754 `pow`, within 8 ULP; within 2 where the result is in [1e-3, 1e3].
#[inline(always)]
pub fn pow<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    let one = s.splat(1.0);
    let size = s.abs(x);
    let (log_high, log_low) = log_in_two(s, size);
    let log_high = log_limits(s, size, log_high);
    let (p, p_low) = exact_product(s, y, log_high);
    let p_low = s.fma(y, log_low, p_low);
    // Where the power over- or underflows, and at infinite arguments, the remainder means nothing.
    let ordinary = s.lt(s.abs(p), s.splat(110.0));
    let p_low = s.select(ordinary, p_low, s.zero());
    let p = s.mul(y, log_high);
    let power = exp_of_sum(s, p, Some(p_low));

    // |x| = 1 to an infinite power is one, not e^(infinity * 0).
    let power = s.select(s.eq(size, one), s.select(s.eq(y, y), one, y), power);
    let power = signed_power(s, x, y, power);
    let power = s.select(s.eq(x, one), one, power);
    s.select(s.eq(y, s.zero()), one, power)
}

/// The power of a negative base from that of its absolute value.
#[inline(always)]
fn signed_power<S: Simd>(s: S, x: S::F, y: S::F, power: S::F) -> S::F {
    let integer = s.eq(floor(s, y), y);
    let half = s.mul(y, s.splat(0.5));
    // Half of an odd number is no integer; floats from 2^24 on are even.
    let odd = s.select(s.eq(floor(s, half), half), s.zero(), s.splat(-0.0));
    let odd = s.select(integer, odd, s.zero());
    let signed = s.xor(power, s.and(odd, x));
    let undefined = s.select(integer, s.zero(), s.splat(f32::NAN));
    // Infinite bases have their powers at every exponent.
    let finite = s.lt(s.splat(f32::NEG_INFINITY), x);
    let undefined = s.select(finite, undefined, s.zero());
    s.select(s.lt(x, s.zero()), s.add(signed, undefined), signed)
}

/// The nearest integer, ties to even.
#[inline(always)]
pub fn round<S: Simd>(s: S, x: S::F) -> S::F {
    // From 2^22 on halves are the only fractions; from 2^23 on every float is an integer.
    let size = s.abs(x);
    let small = s.round(size);
    let two_23 = s.splat(8_388_608.0);
    let large = s.sub(s.add(size, two_23), two_23);
    let rounded = s.select(s.lt(size, s.splat(4_194_304.0)), small, large);
    let rounded = s.select(s.lt(size, two_23), rounded, size);
    copysign(s, rounded, x)
}

/// The greatest integer not above `x`.
#[inline(always)]
pub fn floor<S: Simd>(s: S, x: S::F) -> S::F {
    let near = round(s, x);
    let floor = s.sub(near, s.select(s.lt(x, near), s.splat(1.0), s.zero()));
    copysign(s, floor, x)
}

/// `x` without its fraction.
#[inline(always)]
pub fn trunc<S: Simd>(s: S, x: S::F) -> S::F {
    let size = s.abs(x);
    let near = round(s, size);
    let trunc = s.sub(near, s.select(s.lt(size, near), s.splat(1.0), s.zero()));
    copysign(s, trunc, x)
}

#[cfg(test)]
mod tests;
