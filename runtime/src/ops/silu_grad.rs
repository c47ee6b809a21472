//! `silu_grad`: gradient of silu.

use tenon_kernels::binary::Binary;

use super::elementwise::{SECOND_ORDER, binary_op};
use super::{Fill, Tolerance};

binary_op! {
    /// `dx = dy silu'(x)`.
    SiluGrad = "silu_grad", Binary::SiluGrad, Tolerance::scaled(1e-6), Fill::Normal, Fill::Normal;
    none SECOND_ORDER
}
