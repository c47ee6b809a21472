//! `dropout`: zeroes elements at random and scales the rest.

use std::sync::Arc;

use super::common::{all_f32, arity, dtype_is, shape_error};
use super::{AttrReader, Attrs, Case, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{DType, TensorDesc};

/// `y = x / (1 - p)` with probability `1 - p`, else 0 (Srivastava et al. 2014). Operands: `x` and
/// an i32 scalar seed that differs from step to step; `stream` tells the dropouts of a graph apart.
/// The mask is made from them by the counter-based generator, so the gradient makes it again.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of zero.
    pub p: f32,
    /// Number of this dropout in its graph.
    pub stream: u32,
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("p", self.p.into()), ("stream", self.stream.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, seed] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, &inputs[..1])?;
        dtype_is(Self::NAME, 1, seed, DType::I32, "i32")?;
        if seed.numel() != 1 {
            return Err(shape_error(Self::NAME, inputs, "the seed is a scalar"));
        }
        Ok(vec![x.clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let dx = cx.add(*self, &[cx.cotangent(), cx.input(1)])?;
        cx.set(0, dx);
        Ok(())
    }

    fn evaluating(&self) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self { p: 0.0, ..*self }))
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Dropout { keep: 1.0 - self.p, stream: self.stream }
    }
}

impl OpKind for Dropout {
    const NAME: &'static str = "dropout";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let p = attrs.float_or("p", 0.5)? as f32;
        if !(0.0..=1.0).contains(&p) {
            return Err(attrs.error("p", "must lie in 0..=1"));
        }
        let stream = attrs.usize_or("stream", 0)?;
        let stream = u32::try_from(stream).map_err(|_| attrs.error("stream", "is too large"))?;
        Ok(Self { p, stream })
    }

    fn cases() -> Vec<Case> {
        let of = |p| Case::new(Self { p, stream: 3 });
        vec![
            of(0.5).f32(&[3, 5]).index(&[], 1000),
            of(0.0).f32(&[7]).index(&[], 1000),
            of(1.0).f32(&[7]).index(&[], 1000),
            of(0.1).f32(&[70_001]).index(&[], 1000).bench(),
        ]
    }
}
