//! `reduce_max`: maxima along axes.

use tenon_kernels::reduce::Reduce;

use super::common::{all_f32, arity};
use super::reduce_sum::reduced;
use super::{Attr, AttrReader, Attrs, Case, Cost, Div, Eq, Fill, Mul, Op, OpKind, ReduceSum, Reshape, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{DType, TensorDesc};

/// The greatest element of `x` along `axes` (all of them where empty); `keepdims` leaves them as
/// ones. Equal maxima share the gradient equally, as in PyTorch's `amax`.
#[derive(Clone, Debug)]
pub struct ReduceMax {
    /// Axes; negative ones count from the end.
    pub axes: Vec<i64>,
    /// Whether reduced axes stay with size 1.
    pub keepdims: bool,
}

impl Op for ReduceMax {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("axes", Attr::Ints(self.axes.clone())), ("keepdims", self.keepdims.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        let (_, shape) = reduced(Self::NAME, &self.axes, self.keepdims, x.shape())?;
        Ok(vec![TensorDesc::new(DType::F32, shape)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (x, y) = (cx.input(0), cx.output(0));
        let shape = *cx.desc(x).shape();
        let (axes, kept) = reduced(Self::NAME, &self.axes, true, &shape)?;
        let top = cx.add(Reshape::to(&kept), &[y])?;
        let hits = cx.add(Eq, &[x, top])?;
        let axes = axes.into_iter().map(|a| a as i64).collect();
        let count = cx.add(ReduceSum { axes, keepdims: true }, &[hits])?;
        let dy = cx.add(Reshape::to(&kept), &[cx.cotangent()])?;
        let share = cx.add(Div, &[dy, count])?;
        let gradient = cx.add(Mul, &[hits, share])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let axes = reduced(Self::NAME, &self.axes, true, inputs[0].shape());
        Launch::Reduce { kind: Reduce::Max, axes: axes.map(|a| a.0).unwrap_or_default() }
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        Cost {
            flops: inputs[0].numel() as f64,
            bytes: (inputs[0].bytes() + outputs[0].bytes()) as f64,
        }
    }
}

impl OpKind for ReduceMax {
    const NAME: &'static str = "reduce_max";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            axes: attrs.ints("axes")?.unwrap_or_default(),
            keepdims: attrs.bool_or("keepdims", false)?,
        })
    }

    fn cases() -> Vec<Case> {
        let case = |axes: &[i64], keepdims| Case::new(Self { axes: axes.to_vec(), keepdims });
        vec![
            case(&[], false).filled(&[3, 5], Fill::Distinct),
            case(&[-1], true).filled(&[3, 17], Fill::Distinct),
            case(&[0, 2], false).filled(&[2, 3, 4], Fill::Distinct),
            case(&[-1], false).f32(&[4096, 1024]).bench_rows(),
        ]
    }
}
