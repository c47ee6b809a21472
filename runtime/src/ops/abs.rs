//! `abs`: elementwise absolute value.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, Mul, Sign, Tolerance};

unary_op! {
    /// `y = |x|`; the gradient at 0 is 0.
    Abs = "abs", Unary::Abs, Tolerance::EXACT, Fill::AwayFromZero;
    |cx| {
        let sign = cx.add(Sign, &[cx.input(0)])?;
        cx.add(Mul, &[cx.cotangent(), sign])
    }
}
