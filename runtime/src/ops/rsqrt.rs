//! `rsqrt`: elementwise reciprocal square root.

use tenon_kernels::unary::Unary;

use super::elementwise::{scale, unary_op};
use super::{Fill, Mul, Square, Tolerance};

unary_op! {
    /// `y = 1 / sqrt(x)`.
    Rsqrt = "rsqrt", Unary::Rsqrt, Tolerance::relative(3e-7), Fill::Uniform(0.1, 3.0);
    |cx| {
        let square = cx.add(Square, &[cx.output(0)])?;
        let cube = cx.add(Mul, &[square, cx.output(0)])?;
        let product = cx.add(Mul, &[cx.cotangent(), cube])?;
        scale(cx, product, -0.5)
    }
}
