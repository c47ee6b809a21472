//! `broadcast_to`: repeats along axes of size 1 and new outer axes.

use tenon_kernels::movement::Layout;

use super::common::{arity, shape_error, unbroadcast};
use super::moves::{gather_to, movable};
use super::{Attr, AttrReader, Attrs, Case, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::{MAX_RANK, Shape, TensorDesc};

/// Repeats `x` to `shape` by NumPy's broadcasting rule.
#[derive(Clone, Debug)]
pub struct BroadcastTo {
    /// The output's dimensions.
    pub shape: Vec<usize>,
}

impl Op for BroadcastTo {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("shape", Attr::from(&self.shape[..]))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        movable(Self::NAME, inputs)?;
        let shape = Shape::new(&self.shape)?;
        if x.shape().broadcast(&shape) != Some(shape) {
            let why = format!("cannot be broadcast to {shape}");
            return Err(shape_error(Self::NAME, inputs, why));
        }
        Ok(vec![TensorDesc::new(x.dtype(), shape)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let shape = *cx.desc(cx.input(0)).shape();
        let gradient = unbroadcast(cx, cx.cotangent(), &shape)?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Launch {
        let shape = inputs[0].shape();
        let own = shape.strides();
        let mut strides = [0; MAX_RANK];
        let outer = self.shape.len() - shape.len();
        for i in (0..shape.len()).filter(|&i| shape[i] != 1) {
            strides[outer + i] = own[i];
        }
        gather_to(outputs[0], &Layout::new(0, &strides))
    }
}

impl OpKind for BroadcastTo {
    const NAME: &'static str = "broadcast_to";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { shape: attrs.usizes("shape")? })
    }

    fn cases() -> Vec<Case> {
        vec![
            Case::new(Self { shape: vec![2, 3, 4] }).f32(&[3, 1]),
            Case::new(Self { shape: vec![5] }).f32(&[]),
            Case::new(Self { shape: vec![64, 1024, 64] }).f32(&[1, 64]).bench(),
        ]
    }
}
