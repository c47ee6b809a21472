//! `affine`: elementwise multiple and offset by numbers of the graph.

use tenon_kernels::unary::Unary;

use super::common::infer_unary;
use super::elementwise::scale;
use super::{Attr, AttrReader, Attrs, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `y = mul x + add`.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    /// The factor.
    pub mul: f32,
    /// The summand.
    pub add: f32,
}

impl Op for Affine {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("mul", Attr::from(self.mul)), ("add", Attr::from(self.add))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        infer_unary(Self::NAME, inputs)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let gradient = scale(cx, cx.cotangent(), self.mul)?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Unary(Unary::Affine { mul: self.mul, add: self.add })
    }
}

impl OpKind for Affine {
    const NAME: &'static str = "affine";
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-7);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let (mul, add) = (attrs.float_or("mul", 1.0)?, attrs.float_or("add", 0.0)?);
        Ok(Self { mul: mul as f32, add: add as f32 })
    }

    fn cases() -> Vec<Case> {
        super::elementwise::unary_cases(Self { mul: -1.75, add: 0.5 }, &Fill::Normal)
    }
}
