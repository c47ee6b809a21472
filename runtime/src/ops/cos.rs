//! `cos`: elementwise cosine.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, Mul, Neg, Sin, Tolerance};

unary_op! {
    /// `y = cos(x)`, `x` in radians.
    Cos = "cos", Unary::Cos, Tolerance::relative(6e-7), Fill::Normal;
    |cx| {
        let sine = cx.add(Sin, &[cx.input(0)])?;
        let product = cx.add(Mul, &[cx.cotangent(), sine])?;
        cx.add(Neg, &[product])
    }
}
