//! `clip_scale`: the factor that clips gradients to a norm.

use super::common::{all_f32, arity, shape_error};
use super::{AttrReader, Attrs, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `scale * min(1, max_norm / (norm * scale + 1e-6))` from the scalars `norm` and `scale`: as
/// PyTorch's `clip_grad_norm_` for gradients that are multiplied by `scale` anyway.
#[derive(Clone, Copy, Debug)]
pub struct ClipScale {
    /// The largest norm.
    pub max_norm: f32,
}

impl Op for ClipScale {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("max_norm", self.max_norm.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [norm, scale] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        if norm.numel() != 1 || scale.numel() != 1 {
            return Err(shape_error(Self::NAME, inputs, "takes two scalars"));
        }
        Ok(vec![TensorDesc::f32(&[])?])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "it measures gradients" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::ClipScale { max_norm: self.max_norm }
    }
}

impl OpKind for ClipScale {
    const NAME: &'static str = "clip_scale";
    const GRADIENT: Gradient = Gradient::None("it measures gradients");
    const TOLERANCE: Tolerance = Tolerance::relative(1e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let max_norm = attrs.float_or("max_norm", 1.0)? as f32;
        if max_norm > 0.0 {
            Ok(Self { max_norm })
        } else {
            Err(attrs.error("max_norm", "must be above 0"))
        }
    }

    fn cases() -> Vec<Case> {
        let of = |norm| {
            let case = Case::new(Self { max_norm: 1.0 }).fixed(&[], Fill::Values(vec![norm]));
            case.fixed(&[], Fill::Values(vec![0.5]))
        };
        vec![of(10.0), of(0.1)]
    }
}
