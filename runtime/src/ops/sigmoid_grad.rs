//! `sigmoid_grad`: gradient of sigmoid.

use tenon_kernels::binary::Binary;

use super::elementwise::{SECOND_ORDER, binary_op};
use super::{Fill, Tolerance};

binary_op! {
    /// `dx = dy y (1 - y)` from the result `y` of sigmoid.
    SigmoidGrad = "sigmoid_grad", Binary::SigmoidGrad, Tolerance::relative(5e-7), Fill::Uniform(0.0, 1.0), Fill::Normal;
    none SECOND_ORDER
}
