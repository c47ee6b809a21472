//! `recip`: elementwise reciprocal.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, Mul, Neg, Square, Tolerance};

unary_op! {
    /// `y = 1 / x`.
    Recip = "recip", Unary::Recip, Tolerance::EXACT, Fill::AwayFromZero;
    |cx| {
        let square = cx.add(Square, &[cx.output(0)])?;
        let product = cx.add(Mul, &[cx.cotangent(), square])?;
        cx.add(Neg, &[product])
    }
}
