//! An activation that gates a second operand.

use super::binary_ops;
use crate::reference;
use crate::simd::math;
use crate::tolerance::Tolerance;

binary_ops! {
    /// `silu(a) b`: the gated unit of Shazeer, arXiv 2002.05202, on gate `a`.
    SiluMul, Tolerance::ulps(6).or_absolute(1e-42),
        |s, a, b| s.mul(s.mul(a, math::sigmoid(s, a)), b),
        |a, b| a * reference::sigmoid(a) * b;
}
