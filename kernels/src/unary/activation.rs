//! Activations that consist of one or two functions.

use super::unary_ops;
use crate::reference;
use crate::simd::math::odd::{SILU_SLOPE, odd};
use crate::simd::{Simd, math};
use crate::tolerance::Tolerance;

unary_ops! {
    /// `max(x, 0)`; NaN stays.
    Relu, Tolerance::EXACT, |s, x| s.max(s.zero(), x), |x| if x < 0.0 { 0.0 } else { x };
    /// `x / (1 + e^-x)`. The absolute part is what `x` makes of a subnormal sigmoid's rounding.
    Silu, Tolerance::ulps(5).or_absolute(1e-42), |s, x| s.mul(x, math::sigmoid(s, x)), |x| x * reference::sigmoid(x);
    /// `ln(1 + e^x)`.
    Softplus, Tolerance::ulps(4), |s, x| softplus(s, x), |x| x.max(0.0) + (-x.abs()).exp().ln_1p();
}

/// `max(x, 0) + ln(1 + e^-|x|)`, which cannot overflow.
#[inline(always)]
fn softplus<S: Simd>(s: S, x: S::F) -> S::F {
    let rest = math::log1p_unit(s, math::exp_neg_abs(s, x));
    s.add(s.max(s.zero(), x), rest)
}

/// The derivative of [`Silu`], within 5e-7. By an exponential and a division the gradient ran at 55
/// instead of 85 GB/s in cache (AVX-512, Zen 5; on AVX2 at 22 instead of 26).
#[inline(always)]
pub(crate) fn silu_slope<S: Simd>(s: S, x: S::F) -> S::F {
    s.add(odd(s, x, &SILU_SLOPE), s.splat(0.5))
}
