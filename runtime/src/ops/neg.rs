//! `neg`: elementwise negation.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, Tolerance};

unary_op! {
    /// `y = -x`.
    Neg = "neg", Unary::Neg, Tolerance::EXACT, Fill::Normal;
    |cx| cx.add(Self, &[cx.cotangent()])
}
