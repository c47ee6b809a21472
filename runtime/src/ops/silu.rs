//! `silu`: sigmoid-weighted linear unit.

use tenon_kernels::unary::Unary;

use super::elementwise::unary_op;
use super::{Fill, SiluGrad, Tolerance};

unary_op! {
    /// `y = x sigmoid(x)` (Elfwing et al., arXiv 1702.03118).
    Silu = "silu", Unary::Silu, Tolerance::relative(1e-6), Fill::Normal;
    |cx| cx.add(SiluGrad, &[cx.input(0), cx.cotangent()])
}
