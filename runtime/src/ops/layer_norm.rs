//! `layer_norm`: normalisation of the last axis to mean 0 and variance 1.

use super::common::{all_f32, shape_error};
use super::rms_norm::{per_row, sum_rows};
use super::{Attr, AttrReader, Attrs, Case, LayerNormGrad, Mul, Op, OpKind, Sub, Tolerance, Vjp};
use crate::backend::{Launch, Row};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `y = (x - mean) * rstd * weight + bias` (Ba, Kiros and Hinton 2016). Operands: `x` [..., n] and
/// perhaps `weight` [n], and then perhaps `bias` [n]. Outputs 1 and 2 are `mean` and `rstd`
/// [..., 1].
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("eps", Attr::from(self.eps))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let ([x] | [x, _] | [x, _, _]) = inputs else {
            let found = inputs.len();
            return Err(Error::Arity { op: Self::NAME, expected: "1 to 3", found });
        };
        all_f32(Self::NAME, inputs)?;
        if x.shape().is_empty() || x.cols() == 0 {
            return Err(shape_error(Self::NAME, inputs, "rows are empty"));
        }
        if inputs[1..].iter().any(|w| w.shape()[..] != [x.cols()]) {
            return Err(shape_error(Self::NAME, inputs, "weight or bias is not the last axis of x"));
        }
        Ok(vec![(*x).clone(), per_row(x)?, per_row(x)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (x, mean, rstd, dy) = (cx.input(0), cx.output(1), cx.output(2), cx.cotangent());
        let count = cx.input_count();
        if cx.wants(0) {
            let mut operands = vec![x, mean, rstd, dy];
            operands.extend((count > 1).then(|| cx.input(1)));
            let dx = cx.add(LayerNormGrad, &operands)?;
            cx.set(0, dx);
        }
        if count > 1 && cx.wants(1) {
            let centred = cx.add(Sub, &[x, mean])?;
            let hat = cx.add(Mul, &[centred, rstd])?;
            let product = cx.add(Mul, &[dy, hat])?;
            let dw = sum_rows(cx, product)?;
            cx.set(1, dw);
        }
        if count > 2 && cx.wants(2) {
            let db = sum_rows(cx, dy)?;
            cx.set(2, db);
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::LayerNorm { eps: self.eps })
    }
}

impl OpKind for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { eps: attrs.float_or("eps", 1e-5)? as f32 })
    }

    fn cases() -> Vec<Case> {
        let new = || Case::new(Self { eps: 1e-2 });
        vec![
            new().f32(&[3, 5]).f32(&[5]).f32(&[5]),
            new().f32(&[2, 3, 17]).f32(&[17]),
            new().f32(&[6]),
            new().f32(&[4096, 1024]).f32(&[1024]).f32(&[1024]).bench_rows(),
        ]
    }
}
