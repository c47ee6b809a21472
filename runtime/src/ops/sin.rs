//! `sin`: elementwise sine.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Cos, Fill, Mul, Tolerance};

unary_op! {
    /// `y = sin(x)`, `x` in radians.
    Sin = "sin", Unary::Sin, Tolerance::relative(6e-7), Fill::Normal;
    |cx| {
        let slope = cx.add(Cos, &[cx.input(0)])?;
        cx.add(Mul, &[cx.cotangent(), slope])
    }
}
