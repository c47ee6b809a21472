//! `linear_cross_entropy_both`: a language model's head, loss, and the loss's gradients, with the
//! logits computed once.

use tenon_kernels::gemm::Precision;

use super::common::{all_f32, arity, shape_error};
use super::linear_cross_entropy::{check, cost};
use super::matmul::{PRECISIONS, precision_name};
use super::{AttrReader, Attrs, Case, Cost, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, LinearLoss, LossPart};
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

const REASON: &str = "it is made after differentiation, from ops that have one";

/// From `x`, `W`, targets and the loss's cotangent: what `linear_cross_entropy` gives, then `dx`
/// and, where `wants_weight`, `dW` as `linear_cross_entropy_grad` gives them.
///
/// Toward `x` alone, each strip of logits becomes exponentials relative to the greatest logit so
/// far, which are multiplied into `dx` at once and rescaled where a later strip holds a greater one,
/// as attention does it (Dao et al. 2022). `dW` has no such way, since rescaling goes by rows: the
/// logits of [`LinearLoss::kept_rows`] rows wait for their sums, block by block.
#[derive(Clone, Copy, Debug)]
pub struct LinearCrossEntropyBoth {
    /// Targets that do not count.
    pub ignore_index: i32,
    /// What operands are rounded to.
    pub precision: Precision,
    /// Whether to make `dW`.
    pub wants_weight: bool,
}

impl Op for LinearCrossEntropyBoth {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("ignore_index", self.ignore_index.into()),
            ("precision", precision_name(self.precision).into()),
            ("wants_weight", self.wants_weight.into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, w, _, dloss] = arity(Self::NAME, inputs)?;
        check(Self::NAME, inputs)?;
        all_f32(Self::NAME, &[dloss])?;
        if dloss.numel() != 1 {
            return Err(shape_error(Self::NAME, inputs, "the loss's cotangent is not one number"));
        }
        let mut outputs = vec![TensorDesc::f32(&[])?, TensorDesc::f32(&[x.rows()])?, x.clone()];
        if self.wants_weight {
            outputs.push(TensorDesc::f32(w.shape())?);
        }
        Ok(outputs)
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: REASON })
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let rows = inputs[0].rows();
        Launch::LinearLoss(LinearLoss {
            ignore_index: self.ignore_index,
            precision: self.precision,
            part: if self.wants_weight {
                LossPart::Blocks { rows: LinearLoss::kept_rows(rows) }
            } else {
                LossPart::Both
            },
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        cost(if self.wants_weight { 3.0 } else { 2.0 }, inputs, outputs)
    }
}

impl OpKind for LinearCrossEntropyBoth {
    const NAME: &'static str = "linear_cross_entropy_both";
    const GRADIENT: Gradient = Gradient::None(REASON);
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            ignore_index: attrs.int_or("ignore_index", -100)? as i32,
            precision: attrs.choice("precision", PRECISIONS)?,
            wants_weight: attrs.bool_or("wants_weight", false)?,
        })
    }

    fn cases() -> Vec<Case> {
        let q4 = DType::from_name("q4_1").unwrap_or(DType::F32);
        let of = |ignore_index, wants_weight| {
            Case::new(Self { ignore_index, precision: Precision::F32, wants_weight })
        };
        let half = || Fill::Values(vec![0.5]);
        vec![
            of(-100, false).f32(&[5, 7]).f32(&[11, 7]).index(&[5], 11).fixed(&[], half()),
            of(2, false).f32(&[9, 4]).f32(&[3, 4]).index(&[9], 3).fixed(&[], half()),
            of(-100, false)
                .f32(&[3, 64])
                .typed(q4, &[5000, 64], Fill::Normal)
                .index(&[3], 5000)
                .fixed(&[], half()),
            of(-100, true).f32(&[5, 7]).f32(&[11, 7]).index(&[5], 11).fixed(&[], half()),
            // Two blocks of rows, the second shorter; two strips.
            of(2, true).f32(&[73, 8]).f32(&[2500, 8]).index(&[73], 3).fixed(&[], half()),
            of(-100, false)
                .f32(&[256, 576])
                .typed(q4, &[16_384, 576], Fill::Normal)
                .index(&[256], 16_384)
                .fixed(&[], half())
                .bench(),
            of(-100, true)
                .f32(&[256, 576])
                .f32(&[16_384, 576])
                .index(&[256], 16_384)
                .fixed(&[], half())
                .bench(),
        ]
    }
}
