//! `round`: elementwise rounding to nearest.

use tenon_kernels::unary::Unary;

use super::elementwise::{LEFT, unary_op};
use super::{Fill, Tolerance};

unary_op! {
    /// The nearest integer, ties to even.
    Round = "round", Unary::Round, Tolerance::EXACT, Fill::Values(LEFT.to_vec());
    flat
}
