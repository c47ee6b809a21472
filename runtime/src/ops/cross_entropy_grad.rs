//! `cross_entropy_grad`: the gradient of `cross_entropy`.

use super::common::{all_f32, arity, shape_error};
use super::cross_entropy::{REDUCTIONS, attrs, check, loss_desc};
use super::{AttrReader, Attrs, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Reduction, Row};
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `(softmax(logits) - onehot(target)) * dloss`, each row's share of the reduction, from logits,
/// targets, the rows' logsumexp and the loss's cotangent.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropyGrad {
    /// Targets that do not count.
    pub ignore_index: i32,
    /// How rows became the loss.
    pub reduction: Reduction,
}

impl Op for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        attrs(self.ignore_index, self.reduction)
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [logits, _, lse, dloss] = arity(Self::NAME, inputs)?;
        check(Self::NAME, inputs)?;
        all_f32(Self::NAME, &[lse, dloss])?;
        let rows = logits.rows();
        if lse.shape()[..] != [rows] || *dloss != loss_desc(self.reduction, rows)? {
            return Err(shape_error(Self::NAME, inputs, "operands are not those of cross_entropy"));
        }
        Ok(vec![logits.clone()])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "second derivatives are not built" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::CrossEntropyGrad { ignore: self.ignore_index, reduction: self.reduction })
    }
}

impl OpKind for CrossEntropyGrad {
    const NAME: &'static str = "cross_entropy_grad";
    const GRADIENT: Gradient = Gradient::None("second derivatives are not built");
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            ignore_index: attrs.int_or("ignore_index", -100)? as i32,
            reduction: attrs.choice("reduction", REDUCTIONS)?,
        })
    }

    fn cases() -> Vec<Case> {
        let of = |reduction| Case::new(Self { ignore_index: 1, reduction });
        // A logsumexp above the logits keeps the probabilities below 1.
        let high = || Fill::Uniform(4.0, 5.0);
        vec![
            of(Reduction::Mean).f32(&[5, 7]).index(&[5], 7).fixed(&[5], high()).f32(&[]),
            of(Reduction::None).f32(&[3, 33]).index(&[3], 33).fixed(&[3], high()).f32(&[3]),
            of(Reduction::Mean)
                .f32(&[1024, 4096])
                .index(&[1024], 4096)
                .fixed(&[1024], high())
                .f32(&[])
                .bench_rows(),
        ]
    }
}
