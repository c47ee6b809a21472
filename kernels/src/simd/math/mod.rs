//! Elementary functions on vectors.
//!
//! Arguments are reduced as in Cody and Waite, "Software Manual for the Elementary Functions"
//! (1980); the polynomials are minimax fits of this project (weighted for relative error, then
//! rounded to f32). Each function states its greatest error in units in the last place (ULP) of
//! the correctly rounded result, which the tests measure over a sweep of all exponents on every
//! level. Infinities, NaN and subnormal numbers give what the mathematical function gives.

pub mod odd;

use super::Simd;
pub use odd::odd;

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
/// The bits of `2^(i/16)`, less `i` where a count of sixteenths has its whole powers: in the exponent.
#[rustfmt::skip]
const SIXTEENTHS: [u32; 16] = [
    0x3f80_0000, 0x3f7d_aac3, 0x3f7b_95c2, 0x3f79_c3d3,
    0x3f78_37f0, 0x3f76_f532, 0x3f75_fed7, 0x3f75_583f,
    0x3f75_04f3, 0x3f75_08a4, 0x3f75_672a, 0x3f76_248c,
    0x3f77_44fd, 0x3f78_ccdf, 0x3f7a_c0c7, 0x3f7d_257d,
];
/// Coefficients of `2^r` for |r| <= 1/32.
const EXP2_REST: [f32; 4] = [1.0, std::f32::consts::LN_2, 0.240_226_5, 0.055_504_1];
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
/// Numbers, each near those in 0.75..1.5 with the same four upper bits of the fraction, their
/// reciprocals and logarithms. They have 16 bits after the point, so that differences from them are
/// exact, and are chosen so that the others lose next to nothing in rounding.
#[rustfmt::skip]
const LOG_NEAR: ([f32; 16], [f32; 16], [f32; 16]) = (
    [
        1.0, 1.096_420_3, 1.152_923_6, 1.214_386,
        1.285_003_7, 1.348_358_2, 1.410_995_5, 1.467_742_9,
        0.767_196_66, 0.797_287, 0.829_742_43, 0.858_764_65,
        0.891_113_3, 0.921_218_9, 0.954_650_9, 1.0,
    ],
    [
        1.0, 0.912_059, 0.867_360_2, 0.823_461_4,
        0.778_207_9, 0.741_642_7, 0.708_719_5, 0.681_318_2,
        1.303_446_8, 1.254_253_5, 1.205_193_3, 1.164_463_4,
        1.122_191_8, 1.085_518_4, 1.047_503_4, 1.0,
    ],
    [
        0.0, 0.092_050_59, 0.142_300_96, 0.194_238_59,
        0.250_761_57, 0.298_887_67, 0.344_295_47, 0.383_725_8,
        -0.265_012_12, -0.226_540_58, -0.186_639_95, -0.152_260_38,
        -0.115_283_72, -0.082_057_625, -0.046_409_577, 0.0,
    ],
);
/// Coefficients of `(ln(1 + r) - r) / r^2` for r in [-1/30, 1/16].
const LOG_REST: [f32; 4] = [-0.499_999_97, 0.333_344_9, -0.250_137_9, 0.189_462_1];
/// ln(2) in two positive parts; the first has 17 bits, so its product with an exponent is exact.
const LN_2_POSITIVE: [f32; 2] = [0.693_138_1, 9.058_001_5e-6];
/// Coefficients of `(sin(r) - r) / r^3` in `r^2`, for |r| <= pi/2.
const SIN: [f32; 5] =
    [-0.166_666_67, 0.008_333_331, -0.000_198_408_66, 2.752_525_7e-6, -2.388_660_5e-8];
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

/// `n` and `r` with `x = n ln(2) + r`.
#[inline(always)]
fn reduce_exp<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN_2[0]), x);
    (n, s.fma(n, s.splat(-LN_2[1]), r))
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
    let (n, r) = reduce_exp(s, x);
    let r = low.map_or(r, |low| s.add(r, low));
    let em1 = s.fma(s.mul(r, r), polynomial(s, r, &EXP), r);
    s.ldexp(s.add(em1, s.splat(1.0)), n)
}

/// `e^-|x|`, within 2 ULP.
#[inline(always)]
pub fn exp_neg_abs<S: Simd>(s: S, x: S::F) -> S::F {
    // NaN passes as second operand.
    let (n, r) = reduce_exp(s, s.max(s.splat(-105.0), s.or(x, s.splat(-0.0))));
    s.ldexp(polynomial(s, r, &EXP_BELOW), n)
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

/// `e^x` for `x <= 0`, within 2e-7: what softmax asks for, whose greatest weight is 1; for `x` up to
/// 8, within 1e-6 of itself.
#[inline(always)]
pub fn exp_weight<S: Simd>(s: S, x: S::F) -> S::F {
    exp2_below(s, s.mul(x, s.splat(std::f32::consts::LOG2_E)))
}

/// [`exp_weight`] as two factors, so that a sum of weights takes no more than its multiply-adds; what
/// is subnormal is wrong, but less than the least normal number.
///
/// By a table (Tang 1989) and with powers of two as sums of integers: the units for additions and
/// roundings are the busiest on AVX-512, where scaling alone is two of their instructions.
#[inline(always)]
pub fn exp_factors<S: Simd>(s: S, x: S::F) -> [S::F; 2] {
    let log2_e = s.splat(std::f32::consts::LOG2_E);
    if !S::HAS_LOOKUP {
        let x = s.max(s.splat(-127.0), s.mul(x, log2_e));
        let n = s.round(x);
        return [polynomial(s, s.sub(x, n), &EXP2), s.exp2i(n)];
    }
    // The least is -127 in powers of two, whose second factor is 0. NaN passes as second operand.
    let x = s.max(s.splat(-127.0 * std::f32::consts::LN_2), x);
    // 1.5 * 2^19: a number added to it stands, in sixteenths, in the lowest bits.
    let shift = s.splat(786_432.0);
    let sixteenths = s.fma(x, log2_e, shift);
    let r = s.fma(x, log2_e, s.sub(shift, sixteenths));
    let power = s.lookup(&SIXTEENTHS.map(f32::from_bits), sixteenths);
    let power = s.add_i32(power, s.shift_left::<19>(sixteenths));
    [polynomial(s, r, &EXP2_REST), power]
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
///
/// By a table (Tang 1990): that of a number near it, of 15 in 0.75..1.5, and a series for what is left of the
/// quotient. Next to one the number is one, so that nothing cancels.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::F) -> S::F {
    let (m, e) = s.log_parts(x);
    // Four bits of the fraction.
    let near = s.shift_right::<19>(m);
    let r = s.mul(s.sub(m, s.lookup(&LOG_NEAR.0, near)), s.lookup(&LOG_NEAR.1, near));
    let y = s.fma(s.mul(r, r), polynomial(s, r, &LOG_REST), r);
    let y = s.add(s.lookup(&LOG_NEAR.2, near), y);
    // The smaller part is positive, so that an infinite exponent gives no NaN.
    s.fma(e, s.splat(LN_2_POSITIVE[0]), s.fma(e, s.splat(LN_2_POSITIVE[1]), y))
}

/// [`Simd::log_parts`] for levels without instructions for it.
#[inline(always)]
pub(super) fn log_parts<S: Simd>(s: S, x: S::F) -> (S::F, S::F) {
    let word = |bits: u32| s.splat(f32::from_bits(bits));
    let subnormal = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let normal = s.select(subnormal, s.mul(x, s.splat(8_388_608.0)), x);
    // Half a unit of the exponent more: it steps at 1.5 times a power of two.
    let bits = s.add_i32(normal, word(1 << 22));
    let m = s.add_i32(s.and(bits, word((1 << 23) - 1)), s.splat(0.75));
    let bias = s.select(subnormal, s.splat(150.0), s.splat(127.0));
    (m, log_limits(s, x, s.sub(s.convert_i32(s.shift_right::<23>(bits)), bias)))
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
    odd(s, x, &odd::TANH)
}

/// `1 / (1 + e^-x)`, within 3 ULP.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    // e^-|x| cannot overflow, so the far negative side keeps its relative error.
    let e = exp_neg_abs(s, x);
    let numerator = s.select(s.lt(x, s.zero()), e, s.splat(1.0));
    s.div(numerator, s.add(e, s.splat(1.0)))
}

/// Error function, within 3 ULP.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    odd(s, x, &odd::ERF)
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
