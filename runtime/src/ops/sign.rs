//! `sign`: elementwise sign.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, Tolerance};

unary_op! {
    /// -1, 0 or 1; zeros and NaN stay as they are.
    Sign = "sign", Unary::Sign, Tolerance::EXACT, Fill::AwayFromZero;
    flat
}
