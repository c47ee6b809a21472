//! To integers and signs.

use super::unary_ops;
use crate::simd::math;
use crate::tolerance::Tolerance;

unary_ops! {
    /// The greatest integer not above `x`.
    Floor, Tolerance::EXACT, |s, x| math::floor(s, x), |x| x.floor();
    /// `x` without its fraction.
    Trunc, Tolerance::EXACT, |s, x| math::trunc(s, x), |x| x.trunc();
    /// The nearest integer, ties to even.
    Round, Tolerance::EXACT, |s, x| math::round(s, x), |x| x.round_ties_even();
    /// -1, 0 or 1; zeros and NaN stay as they are.
    Sign, Tolerance::EXACT,
        |s, x| s.select(s.lt(s.zero(), s.abs(x)), math::copysign(s, s.splat(1.0), x), x),
        |x| if x == 0.0 { x } else { x.signum() };
}
