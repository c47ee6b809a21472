//! `square`: elementwise square.

use tenon_kernels::unary::Unary;

use super::elementwise::{scale, unary_op};
use super::{Fill, Mul, Tolerance};

unary_op! {
    /// `y = x^2`.
    Square = "square", Unary::Square, Tolerance::EXACT, Fill::Normal;
    |cx| {
        let slope = scale(cx, cx.input(0), 2.0)?;
        cx.add(Mul, &[cx.cotangent(), slope])
    }
}
