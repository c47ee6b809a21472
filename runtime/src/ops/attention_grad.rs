//! `attention_grad`: the gradients of `attention`, by recomputation.

use super::attention::check;
use super::{Attention, AttrReader, Attrs, Case, Cost, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::ops::common::shape_error;
use crate::tensor::TensorDesc;

/// Gives `dq, dk, dv` from `q, k, v, out, dout, lse` and the mask, if there was one.
#[derive(Clone, Copy, Debug)]
pub struct AttentionGrad(
    /// The forward pass.
    pub Attention,
);

impl Op for AttentionGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        self.0.named()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        if !(6..=7).contains(&inputs.len()) {
            return Err(Error::Arity { op: Self::NAME, expected: "6 or 7", found: inputs.len() });
        }
        check(Self::NAME, inputs, inputs.get(6).copied())?;
        let [q, out, dout, lse] = [0, 3, 4, 5].map(|i| inputs[i].shape());
        if out != q || dout != q || **lse != [q[0], q[2], q[1]] {
            let why = "out and dout must have the shape of q, lse be [batch, heads, queries]";
            return Err(shape_error(Self::NAME, inputs, why));
        }
        Ok(inputs[..3].iter().map(|&d| d.clone()).collect())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: SECOND })
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::AttentionGrad(self.0.shape(inputs))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        // Five products where the forward pass has two.
        Cost { flops: 2.5 * self.0.shape(inputs).flops() as f64, bytes }
    }
}

/// Why a gradient op has no gradient of its own.
pub(super) const SECOND: &str = "second derivatives are not offered";

impl OpKind for AttentionGrad {
    const NAME: &'static str = "attention_grad";
    const GRADIENT: Gradient = Gradient::None(SECOND);
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self(Attention::read(attrs)?))
    }

    fn cases() -> Vec<Case> {
        let causal = Attention { causal: true, ..Attention::default() };
        let case = |op, [b, s, t, h, hk, d]: [usize; 6]| {
            let (q, k) = ([b, s, h, d], [b, t, hk, d]);
            let case = [q, k, k, q, q].iter().fold(Case::new(Self(op)), |case, dims| {
                case.fixed(dims, Fill::Normal)
            });
            case.fixed(&[b, h, s], Fill::Uniform(2.0, 3.0))
        };
        vec![
            case(Attention::default(), [2, 3, 7, 4, 2, 5]),
            case(causal, [1, 37, 37, 3, 1, 8]),
            case(Attention { window: Some(3), ..causal }, [1, 9, 12, 2, 2, 4]),
            case(Attention::default(), [2, 4, 6, 2, 2, 3]).fixed(&[2, 1, 4, 6], Fill::Normal),
            case(causal, [1, 3, 5, 2, 1, 300]),
            case(causal, [1, 512, 512, 9, 3, 64]).bench(),
        ]
    }
}
