//! `rms_norm`: root-mean-square normalisation of the last axis.

use super::common::{all_f32, arity, shape_error};
use super::{
    Attr, AttrReader, Attrs, Case, Mul, Op, OpKind, ReduceSum, RmsNormGrad, Tolerance, Vjp,
};
use crate::backend::{Launch, Row};
use crate::error::Result;
use crate::graph::ValueId;
use crate::tensor::TensorDesc;

/// `y = x * rstd * weight` with `rstd = 1 / sqrt(mean(x^2) + eps)` (Zhang and Sennrich 2019).
/// Operands: `x` [..., n], `weight` [n]. Output 1 is `rstd` [..., 1].
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: f32,
}

/// The description of one number for each row of `x`: [..., 1].
pub(super) fn per_row(x: &TensorDesc) -> Result<TensorDesc> {
    let mut dims = x.shape().to_vec();
    *dims.last_mut().unwrap_or(&mut 1) = 1;
    TensorDesc::f32(&dims)
}

/// `sum(value)` over all axes but the last.
pub(super) fn sum_rows(cx: &mut Vjp<'_>, value: ValueId) -> Result<ValueId> {
    let rank = cx.desc(value).shape().len() as i64;
    if rank == 1 {
        return Ok(value);
    }
    cx.add(ReduceSum { axes: (0..rank - 1).collect(), keepdims: false }, &[value])
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::from(self.eps))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, weight] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        if x.shape().is_empty() || weight.shape()[..] != [x.cols()] || x.cols() == 0 {
            return Err(shape_error(Self::NAME, inputs, "the weight is not the last axis of x"));
        }
        Ok(vec![x.clone(), per_row(x)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (x, weight, rstd, dy) = (cx.input(0), cx.input(1), cx.output(1), cx.cotangent());
        if cx.wants(0) {
            let dx = cx.add(RmsNormGrad, &[x, weight, rstd, dy])?;
            cx.set(0, dx);
        }
        if cx.wants(1) {
            let hat = cx.add(Mul, &[x, rstd])?;
            let product = cx.add(Mul, &[dy, hat])?;
            let dw = sum_rows(cx, product)?;
            cx.set(1, dw);
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::RmsNorm { eps: self.eps })
    }
}

impl OpKind for RmsNorm {
    const NAME: &'static str = "rms_norm";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { eps: attrs.float_or("eps", 1e-6)? as f32 })
    }

    fn cases() -> Vec<Case> {
        let new = || Case::new(Self { eps: 1e-5 });
        vec![
            new().f32(&[3, 5]).f32(&[5]),
            new().f32(&[2, 3, 17]).f32(&[17]),
            new().f32(&[4]).f32(&[4]),
            new().f32(&[4096, 1024]).f32(&[1024]).bench_rows(),
        ]
    }
}
