//! `trunc`: elementwise rounding toward zero.

use tenon_kernels::unary::Unary;

use super::elementwise::{LEFT, unary_op};
use super::{Fill, Tolerance};

unary_op! {
    /// `x` without its fraction.
    Trunc = "trunc", Unary::Trunc, Tolerance::EXACT, Fill::Values(LEFT.to_vec());
    flat
}
