//! `silu_mul`: gated linear unit by silu (SwiGLU).

use tenon_kernels::binary::Binary;

use super::elementwise::binary_op;
use super::{Fill, Mul, Silu, SiluGrad, Tolerance};

binary_op! {
    /// `z = silu(gate) up` (Shazeer, arXiv 2002.05202); the operands broadcast.
    SiluMul = "silu_mul", Binary::SiluMul, Tolerance::relative(1e-6), Fill::Normal, Fill::Normal;
    |cx| {
        let gradient = cx.add(Mul, &[cx.cotangent(), cx.input(1)])?;
        cx.add(SiluGrad, &[cx.input(0), gradient])
    },
    {
        let activated = cx.add(Silu, &[cx.input(0)])?;
        cx.add(Mul, &[cx.cotangent(), activated])
    }
}
