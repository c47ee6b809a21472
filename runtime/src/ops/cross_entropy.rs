//! `cross_entropy`: the loss of a classifier from its logits.

use super::common::{all_f32, arity, dtype_is, shape_error};
use super::{AttrReader, Attrs, Case, CrossEntropyGrad, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Reduction, Row};
use crate::error::Result;
use crate::tensor::{DType, TensorDesc};

/// `logsumexp(logits) - logits[target]` of each row, for logits [rows, classes] and i32 targets
/// [rows]. Rows whose target is `ignore_index` count nothing; a mean over no row is 0. Output 0 is
/// a scalar, or [rows] without a reduction; output 1 is each row's logsumexp.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// Targets that do not count.
    pub ignore_index: i32,
    /// How rows become a loss.
    pub reduction: Reduction,
}

pub(super) const REDUCTIONS: &[(&str, Reduction)] =
    &[("mean", Reduction::Mean), ("sum", Reduction::Sum), ("none", Reduction::None)];

/// The attributes that forward and backward share.
pub(super) fn attrs(ignore_index: i32, reduction: Reduction) -> Attrs {
    let name = REDUCTIONS.iter().find(|r| r.1 == reduction).map_or("mean", |r| r.0);
    vec![("ignore_index", ignore_index.into()), ("reduction", name.into())]
}

/// Refuses anything but logits [r, c] and targets [r].
pub(super) fn check(op: &'static str, inputs: &[&TensorDesc]) -> Result<()> {
    all_f32(op, &inputs[..1])?;
    dtype_is(op, 1, inputs[1], DType::I32, "i32")?;
    match (&inputs[0].shape()[..], &inputs[1].shape()[..]) {
        (&[rows, classes], &[targets]) if rows == targets && classes > 0 => Ok(()),
        _ => Err(shape_error(op, inputs, "takes logits [rows, classes] and targets [rows]")),
    }
}

/// The shape of the loss.
pub(super) fn loss_desc(reduction: Reduction, rows: usize) -> Result<TensorDesc> {
    if reduction == Reduction::None { TensorDesc::f32(&[rows]) } else { TensorDesc::f32(&[]) }
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        attrs(self.ignore_index, self.reduction)
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [logits, _] = arity(Self::NAME, inputs)?;
        check(Self::NAME, inputs)?;
        let rows = logits.rows();
        Ok(vec![loss_desc(self.reduction, rows)?, TensorDesc::f32(&[rows])?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let Self { ignore_index, reduction } = *self;
        let operands = [cx.input(0), cx.input(1), cx.output(1), cx.cotangent()];
        let dx = cx.add(CrossEntropyGrad { ignore_index, reduction }, &operands)?;
        cx.set(0, dx);
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::CrossEntropy { ignore: self.ignore_index, reduction: self.reduction })
    }
}

impl OpKind for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            ignore_index: attrs.int_or("ignore_index", -100)? as i32,
            reduction: attrs.choice("reduction", REDUCTIONS)?,
        })
    }

    fn cases() -> Vec<Case> {
        let of = |ignore_index, reduction| Case::new(Self { ignore_index, reduction });
        vec![
            of(-100, Reduction::Mean).f32(&[5, 7]).index(&[5], 7),
            of(1, Reduction::Mean).f32(&[9, 3]).index(&[9], 3),
            of(-100, Reduction::Sum).f32(&[4, 33]).index(&[4], 33),
            of(0, Reduction::None).f32(&[6, 4]).index(&[6], 4),
            of(-100, Reduction::Mean).f32(&[1024, 4096]).index(&[1024], 4096).bench_rows(),
        ]
    }
}
