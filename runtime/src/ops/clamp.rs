//! `clamp`: elementwise limits.

use tenon_kernels::unary::Unary;

use super::common::infer_unary;
use super::elementwise::{LEFT, unary_cases};
use super::{Attr, AttrReader, Attrs, Case, Eq, Fill, Mul, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `y = min(max(x, lo), hi)`; NaN stays. At the limits themselves the gradient passes.
#[derive(Clone, Copy, Debug)]
pub struct Clamp {
    /// The lower limit; -infinity for none.
    pub lo: f32,
    /// The upper limit, not below `lo`; infinity for none.
    pub hi: f32,
}

impl Op for Clamp {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("lo", Attr::from(self.lo)), ("hi", Attr::from(self.hi))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        infer_unary(Self::NAME, inputs)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        // What was not limited came through unchanged.
        let inside = cx.add(Eq, &[cx.input(0), cx.output(0)])?;
        let gradient = cx.add(Mul, &[cx.cotangent(), inside])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Unary(Unary::Clamp { lo: self.lo, hi: self.hi })
    }
}

impl OpKind for Clamp {
    const NAME: &'static str = "clamp";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let lo = attrs.bound_or("lo", f64::NEG_INFINITY)?;
        let hi = attrs.bound_or("hi", f64::INFINITY)?;
        if lo > hi {
            return Err(attrs.error("lo", format!("is {lo}, above `hi`, which is {hi}")));
        }
        Ok(Self { lo: lo as f32, hi: hi as f32 })
    }

    fn cases() -> Vec<Case> {
        unary_cases(Self { lo: -1.0, hi: 1.0 }, &Fill::Values(LEFT.to_vec()))
    }
}
