//! `add`: elementwise sum with broadcasting.

use tenon_kernels::binary::Binary;

use super::common::{arity, infer_broadcast, unbroadcast};
use super::{AttrReader, Case, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `z = x + y`; the operands broadcast by NumPy's rule.
#[derive(Clone, Copy, Debug)]
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        arity::<2>(Self::NAME, inputs)?;
        infer_broadcast(Self::NAME, inputs)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        for i in 0..2 {
            if cx.wants(i) {
                let shape = *cx.desc(cx.input(i)).shape();
                let gradient = unbroadcast(cx, cx.cotangent(), &shape)?;
                cx.set(i, gradient);
            }
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Binary(Binary::Add)
    }
}

impl OpKind for Add {
    const NAME: &'static str = "add";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new(Self).f32(&[3, 5]).f32(&[3, 5]),
            Case::new(Self).f32(&[4, 1, 3]).f32(&[2, 1]),
            Case::new(Self).f32(&[]).f32(&[7]),
            Case::new(Self).f32(&[1 << 22]).f32(&[1 << 22]).bench(),
        ]
    }
}
