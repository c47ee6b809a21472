//! `group_norm`: normalisation by the statistics of groups of channels of each image.

use tenon_kernels::conv::Conv;
use tenon_kernels::conv::batch_norm::BatchNorm as Kernel;

use super::common::{all_f32, arity, shape_error};
use super::{
    AttrReader, Attrs, BatchNormGrad, Case, Cost, Op, OpKind, Reshape, Tolerance, Vjp,
};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// Normalises each of `groups` slices of the channels of each image of `x [N, C, ...]` (Wu and He,
/// 2018). Outputs: `y`, and the mean and reciprocal standard deviation of each slice, `[N * groups]`.
///
/// Scale and shift are a `mul` and an `add` that follow. One group is a layer norm over all but the
/// batch, as many as there are channels an instance norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Slices of the channels, which they divide.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl GroupNorm {
    /// A group norm is a batch norm of one image whose channels are all the slices.
    fn kernel(&self, inputs: &[&TensorDesc]) -> Result<Kernel> {
        match **inputs[0].shape() {
            [batch, channels, ref rest @ ..] if channels > 0 && channels % self.groups == 0 => {
                let len = channels / self.groups * rest.iter().product::<usize>();
                Ok(Kernel { batch: 1, channels: batch * self.groups, len })
            }
            _ => {
                let why = "x must be [batch, channels, ...] with channels a multiple of groups";
                Err(shape_error(Self::NAME, inputs, why))
            }
        }
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("groups", self.groups.into()), ("eps", self.eps.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        let slices = TensorDesc::f32(&[self.kernel(inputs)?.channels])?;
        Ok(vec![x.clone(), slices.clone(), slices])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (x, dy) = (cx.input(0), cx.cotangent());
        let desc = cx.desc(x);
        let Kernel { batch, channels, len } = self.kernel(&[&desc])?;
        let as_channels = Reshape::to(&[batch, channels, len]);
        let slices = cx.add(as_channels.clone(), &[x])?;
        let dslices = cx.add(as_channels, &[dy])?;
        let back = BatchNormGrad { training: true, affine: false };
        let dx = cx.add(back, &[slices, cx.output(1), cx.output(2), dslices])?;
        let dx = cx.add(Reshape::to(desc.shape()), &[dx])?;
        cx.set(0, dx);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Conv(Conv::Normalize {
            shape: self.kernel(inputs).expect("inference accepted these operands"),
            // No running statistics follow, so the share of the batch in them has no meaning.
            momentum: Some(0.0),
            eps: self.eps,
            running: false,
            affine: false,
        })
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
        Cost { flops: 6.0 * inputs[0].numel() as f64, bytes }
    }
}

impl OpKind for GroupNorm {
    const NAME: &'static str = "group_norm";
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let groups = attrs.usize_or("groups", 1)?;
        if groups == 0 {
            return Err(attrs.error("groups", "must be at least 1"));
        }
        Ok(Self { groups, eps: attrs.float_or("eps", 1e-5)? as f32 })
    }

    fn cases() -> Vec<Case> {
        let case = |groups, x: &[usize]| Case::new(Self { groups, eps: 1e-5 }).f32(x);
        vec![
            case(2, &[3, 4, 5, 2]),
            case(1, &[2, 3, 7]),
            case(6, &[2, 6, 9]),
            case(8, &[16, 64, 28, 28]).bench(),
        ]
    }
}
