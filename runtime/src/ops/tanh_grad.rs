//! `tanh_grad`: gradient of tanh.

use tenon_kernels::binary::Binary;

use super::elementwise::{SECOND_ORDER, binary_op};
use super::{Fill, Tolerance};

binary_op! {
    /// `dx = dy (1 - y^2)` from the result `y` of tanh.
    TanhGrad = "tanh_grad", Binary::TanhGrad, Tolerance::relative(5e-7), Fill::Uniform(-1.0, 1.0), Fill::Normal;
    none SECOND_ORDER
}
