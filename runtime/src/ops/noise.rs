//! `noise`: adds normal numbers that anyone who has the seed can make again.

use super::common::{all_f32, arity, shape_error};
use super::{AttrReader, Attrs, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `y = x + scale * z` with `z` standard normal. Operands: `x` and an f32 scalar, the step's number,
/// a whole one. The numbers are those of the counter-based generator for the seed, the step, `stream`
/// and the element's place. The generator is no cipher: who sees many of its numbers may find the
/// seed.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Standard deviation.
    pub scale: f32,
    /// The seed.
    pub seed: u64,
    /// Number of this op in its graph.
    pub stream: u32,
}

impl Op for Noise {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![
            ("scale", self.scale.into()),
            ("seed", self.seed.cast_signed().into()),
            ("stream", self.stream.into()),
        ]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, step] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        if step.numel() != 1 {
            return Err(shape_error(Self::NAME, inputs, "the step's number is a scalar"));
        }
        Ok(vec![x.clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        cx.set(0, cx.cotangent());
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Noise { scale: self.scale, seed: self.seed, stream: self.stream }
    }
}

impl OpKind for Noise {
    const NAME: &'static str = "noise";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let scale = attrs.float_or("scale", 1.0)? as f32;
        let seed = attrs.int_or("seed", 0)?.cast_unsigned();
        let stream = attrs.usize_or("stream", 0)?;
        let stream = u32::try_from(stream).map_err(|_| attrs.error("stream", "is too large"))?;
        Ok(Self { scale, seed, stream })
    }

    fn cases() -> Vec<Case> {
        let of = |dims: &[usize], stream| {
            let step = Fill::Values(vec![3.0]);
            Case::new(Self { scale: 0.25, seed: 7, stream }).f32(dims).fixed(&[], step)
        };
        vec![of(&[3, 5], 1), of(&[70_001], 2), of(&[1 << 20], 3).bench()]
    }
}
