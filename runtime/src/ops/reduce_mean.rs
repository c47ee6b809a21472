//! `reduce_mean`: means along axes.

use tenon_kernels::reduce::Reduce;

use super::common::{all_f32, arity};
use super::reduce_sum::reduced;
use super::{Attr, AttrReader, Attrs, BroadcastTo, Case, Cost, Mul, Op, OpKind, Reshape, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{DType, Tensor, TensorDesc};

/// The mean of `x` along `axes` (all of them where empty); `keepdims` leaves them as ones.
#[derive(Clone, Debug)]
pub struct ReduceMean {
    /// Axes; negative ones count from the end.
    pub axes: Vec<i64>,
    /// Whether reduced axes stay with size 1.
    pub keepdims: bool,
}

impl Op for ReduceMean {
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
        let shape = *cx.desc(cx.input(0)).shape();
        let (axes, kept) = reduced(Self::NAME, &self.axes, true, &shape)?;
        let terms: usize = axes.iter().map(|&a| shape[a]).product();
        let gradient = cx.add(Reshape::to(&kept), &[cx.cotangent()])?;
        let share = cx.constant(Tensor::from_slice(&[], &[1.0 / terms as f32])?);
        let gradient = cx.add(Mul, &[gradient, share])?;
        let gradient = cx.add(BroadcastTo { shape: shape.to_vec() }, &[gradient])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let axes = reduced(Self::NAME, &self.axes, true, inputs[0].shape());
        Launch::Reduce { kind: Reduce::Mean, axes: axes.map(|a| a.0).unwrap_or_default() }
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        Cost {
            flops: inputs[0].numel() as f64,
            bytes: (inputs[0].bytes() + outputs[0].bytes()) as f64,
        }
    }
}

impl OpKind for ReduceMean {
    const NAME: &'static str = "reduce_mean";
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
            case(&[], false).f32(&[3, 5]),
            case(&[-1], true).f32(&[3, 17]),
            case(&[0, 2], false).f32(&[2, 3, 4]),
            case(&[-1], false).f32(&[4096, 1024]).bench_rows(),
        ]
    }
}
