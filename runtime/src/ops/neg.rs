//! `neg`: elementwise negation.

use tenon_kernels::unary::Unary;

use super::common::infer_unary;
use super::{AttrReader, Case, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `y = -x`.
#[derive(Clone, Copy, Debug)]
pub struct Neg;

impl Op for Neg {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        infer_unary(Self::NAME, inputs)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let gradient = cx.add(Self, &[cx.cotangent()])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Unary(Unary::Neg)
    }
}

impl OpKind for Neg {
    const NAME: &'static str = "neg";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        vec![Case::new(Self).f32(&[3, 5]), Case::new(Self).f32(&[1 << 22]).bench()]
    }
}
