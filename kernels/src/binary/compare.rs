//! Comparisons, which give 1 or 0; with NaN only "not equal" holds.

use super::binary_ops;
use crate::simd::Simd;
use crate::tolerance::Tolerance;

/// 1 where the mask holds, else 0.
#[inline(always)]
fn truth<S: Simd>(s: S, m: S::M) -> S::F {
    s.select(m, s.splat(1.0), s.zero())
}

binary_ops! {
    /// 1 where `a < b`, else 0.
    Lt, Tolerance::EXACT, |s, a, b| truth(s, s.lt(a, b)), |a, b| f64::from(a < b);
    /// 1 where `a <= b`, else 0.
    Le, Tolerance::EXACT, |s, a, b| truth(s, s.le(a, b)), |a, b| f64::from(a <= b);
    /// 1 where `a > b`, else 0.
    Gt, Tolerance::EXACT, |s, a, b| truth(s, s.lt(b, a)), |a, b| f64::from(a > b);
    /// 1 where `a >= b`, else 0.
    Ge, Tolerance::EXACT, |s, a, b| truth(s, s.le(b, a)), |a, b| f64::from(a >= b);
    /// 1 where `a == b`, else 0.
    Eq, Tolerance::EXACT, |s, a, b| truth(s, s.eq(a, b)), |a, b| f64::from(a == b);
    /// 1 where `a != b`, else 0.
    Ne, Tolerance::EXACT,
        |s, a, b| s.select(s.eq(a, b), s.zero(), s.splat(1.0)),
        |a, b| f64::from(a != b);
}
