//! `floor`: elementwise rounding down.

use tenon_kernels::unary::Unary;

use super::elementwise::{LEFT, unary_op};
use super::{Fill, Tolerance};

unary_op! {
    /// The greatest integer not above `x`.
    Floor = "floor", Unary::Floor, Tolerance::EXACT, Fill::Values(LEFT.to_vec());
    flat
}
