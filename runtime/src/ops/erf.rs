//! `erf`: elementwise error function.

use tenon_kernels::unary::Unary;

use super::elementwise::{scale, unary_op};
use super::{Exp, Fill, Mul, Neg, Square, Tolerance};

unary_op! {
    /// `y = erf(x)`.
    Erf = "erf", Unary::Erf, Tolerance::relative(5e-7), Fill::Normal;
    |cx| {
        // erf'(x) = 2/sqrt(pi) e^(-x^2)
        let square = cx.add(Square, &[cx.input(0)])?;
        let minus = cx.add(Neg, &[square])?;
        let gauss = cx.add(Exp, &[minus])?;
        let product = cx.add(Mul, &[cx.cotangent(), gauss])?;
        scale(cx, product, std::f32::consts::FRAC_2_SQRT_PI)
    }
}
