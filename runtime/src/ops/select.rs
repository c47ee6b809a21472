//! `select`: one of two values by a condition.

use super::common::{arity, infer_broadcast};
use super::elementwise::set_unbroadcast;
use super::{AttrReader, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{Tensor, TensorDesc};

/// `z = a` where `cond` is not 0, else `b`, from operands `(cond, a, b)`, which broadcast. What is
/// not taken has no influence, even where it is NaN. No gradient flows to `cond`.
#[derive(Clone, Copy, Debug)]
pub struct Select;

impl Op for Select {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        arity::<3>(Self::NAME, inputs)?;
        infer_broadcast(Self::NAME, inputs)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let zero = cx.constant(Tensor::from_slice(&[], &[0f32])?);
        for i in 1..3 {
            if cx.wants(i) {
                let sides =
                    if i == 1 { [cx.cotangent(), zero] } else { [zero, cx.cotangent()] };
                let gradient = cx.add(Self, &[cx.input(0), sides[0], sides[1]])?;
                set_unbroadcast(cx, i, gradient)?;
            }
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Select
    }
}

impl OpKind for Select {
    const NAME: &'static str = "select";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(_: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self)
    }

    fn cases() -> Vec<Case> {
        let case = |cond: &[usize], a: &[usize], b: &[usize]| {
            let condition = Fill::Values(vec![1.0, 0.0, 0.0, -2.0, 1.0]);
            Case::new(Self).fixed(cond, condition).f32(a).f32(b)
        };
        vec![
            case(&[3, 4], &[3, 4], &[3, 4]),
            case(&[4], &[3, 4], &[3, 1]),
            case(&[5, 1], &[], &[7]),
            case(&[1 << 22], &[1 << 22], &[1]).bench_rows(),
        ]
    }
}
