//! `reduce_sum`: sums along axes.

use tenon_kernels::reduce::Reduce;

use super::common::{all_f32, arity, normalize_axes};
use super::{Attr, AttrReader, Attrs, Case, Cost, Op, OpKind, Reshape, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{DType, Shape, TensorDesc};

/// Sums `x` along `axes` (all of them where empty); `keepdims` leaves them as ones.
#[derive(Clone, Debug)]
pub struct ReduceSum {
    /// Axes; negative ones count from the end.
    pub axes: Vec<i64>,
    /// Whether reduced axes stay with size 1.
    pub keepdims: bool,
}

/// The axes a reduction runs over, and the shape it leaves.
///
/// # Errors
/// [`crate::Error::Attr`] for axes that are not there.
pub(super) fn reduced(
    op: &'static str,
    axes: &[i64],
    keepdims: bool,
    shape: &Shape,
) -> Result<(Vec<usize>, Shape)> {
    let all: Vec<i64> = (0..shape.len() as i64).collect();
    let axes = normalize_axes(op, if axes.is_empty() { &all } else { axes }, shape.len())?;
    let dims: Vec<usize> = (0..shape.len())
        .filter(|i| keepdims || !axes.contains(i))
        .map(|i| if axes.contains(&i) { 1 } else { shape[i] })
        .collect();
    Ok((axes, Shape::new(&dims)?))
}

impl Op for ReduceSum {
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
        let (_, kept) = reduced(Self::NAME, &self.axes, true, &shape)?;
        let gradient = cx.add(Reshape::to(&kept), &[cx.cotangent()])?;
        let gradient = cx.add(super::BroadcastTo { shape: shape.to_vec() }, &[gradient])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let axes = reduced(Self::NAME, &self.axes, true, inputs[0].shape());
        Launch::Reduce { kind: Reduce::Sum, axes: axes.map(|a| a.0).unwrap_or_default() }
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        Cost {
            flops: inputs[0].numel() as f64,
            bytes: (inputs[0].bytes() + outputs[0].bytes()) as f64,
        }
    }
}

impl OpKind for ReduceSum {
    const NAME: &'static str = "reduce_sum";
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
            case(&[0], false).f32(&[5, 9]),
            case(&[0, 2], false).f32(&[2, 3, 4, 5]),
            case(&[-1], false).f32(&[4096, 1024]).bench_rows(),
        ]
    }
}
