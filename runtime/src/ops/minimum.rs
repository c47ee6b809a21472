//! `minimum`: elementwise lesser of two.

use tenon_kernels::binary::Binary;

use super::elementwise::{LEFT, RIGHT, binary_op, share_of_extremum};
use super::{Fill, Le, Lt, Tolerance};

binary_op! {
    /// The lesser of `a` and `b`, NaN where either is; the operands broadcast. Where they are equal, each
    /// gets half of the gradient.
    Minimum = "minimum", Binary::Min, Tolerance::EXACT, Fill::Values(LEFT.to_vec()), Fill::Values(RIGHT.to_vec());
    |cx| share_of_extremum(cx, Lt, Le, [0, 1]),
    share_of_extremum(cx, Lt, Le, [1, 0])
}
