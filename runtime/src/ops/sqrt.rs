//! `sqrt`: elementwise square root.

use tenon_kernels::unary::Unary;

use super::elementwise::{scale, unary_op};
use super::{Div, Fill, Tolerance};

unary_op! {
    /// `y = sqrt(x)`; NaN for negative `x`.
    Sqrt = "sqrt", Unary::Sqrt, Tolerance::EXACT, Fill::Uniform(0.1, 3.0);
    |cx| {
        let quotient = cx.add(Div, &[cx.cotangent(), cx.output(0)])?;
        scale(cx, quotient, 0.5)
    }
}
