//! Arithmetic of two operands.

use super::binary_ops;
use crate::simd::math;
use crate::tolerance::Tolerance;

binary_ops! {
    /// `a + b`.
    Add, Tolerance::EXACT, |s, a, b| s.add(a, b), |a, b| a + b;
    /// `a - b`.
    Sub, Tolerance::EXACT, |s, a, b| s.sub(a, b), |a, b| a - b;
    /// `a * b`.
    Mul, Tolerance::EXACT, |s, a, b| s.mul(a, b), |a, b| a * b;
    /// `a / b`.
    Div, Tolerance::EXACT, |s, a, b| s.div(a, b), |a, b| a / b;
    /// `a^b` of IEEE 754 `pow`.
    Pow, Tolerance::ulps(8), |s, a, b| math::pow(s, a, b), |a, b| a.powf(b);
    /// The greater; NaN where either is. The vector maximum gives `b` for NaN.
    Max, Tolerance::EXACT,
        |s, a, b| s.select(s.eq(a, a), s.max(a, b), a),
        |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
    /// The lesser; NaN where either is. The vector minimum gives `b` for NaN.
    Min, Tolerance::EXACT,
        |s, a, b| s.select(s.eq(a, a), s.min(a, b), a),
        |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) };
}
