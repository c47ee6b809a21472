//! `transpose`: permutes dimensions.

use tenon_kernels::movement::Layout;

use super::common::arity;
use super::moves::{gather_to, movable};
use super::{Attr, AttrReader, Attrs, Case, Fill, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, MAX_RANK, Shape, TensorDesc};

/// Dimension `i` of the output is dimension `perm[i]` of `x`, of any unquantized type.
#[derive(Clone, Debug)]
pub struct Transpose {
    /// Every dimension of the input once.
    pub perm: Vec<usize>,
}

impl Transpose {
    fn inverse(&self) -> Self {
        let mut perm = vec![0; self.perm.len()];
        for (i, &from) in self.perm.iter().enumerate() {
            perm[from] = i;
        }
        Self { perm }
    }
}

impl Op for Transpose {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("perm", Attr::from(&self.perm[..]))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        movable(Self::NAME, inputs)?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.shape().len()) {
            return Err(Error::Attr {
                op: Self::NAME.to_owned(),
                name: "perm".to_owned(),
                why: format!(
                    "must name every dimension of {} once, is {:?}",
                    x.shape(),
                    self.perm
                ),
            });
        }
        let dims: Vec<_> = self.perm.iter().map(|&i| x.shape()[i]).collect();
        Ok(vec![TensorDesc::new(x.dtype(), Shape::new(&dims)?)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let gradient = cx.add(self.inverse(), &[cx.cotangent()])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Launch {
        let own = inputs[0].shape().strides();
        let mut strides = [0; MAX_RANK];
        for (stride, &from) in strides.iter_mut().zip(&self.perm) {
            *stride = own[from];
        }
        gather_to(outputs[0], &Layout::new(0, &strides))
    }
}

impl OpKind for Transpose {
    const NAME: &'static str = "transpose";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { perm: attrs.usizes("perm")? })
    }

    fn cases() -> Vec<Case> {
        let case = |perm: &[usize]| Case::new(Self { perm: perm.to_vec() });
        vec![
            case(&[1, 0]).f32(&[3, 5]),
            case(&[2, 0, 1]).f32(&[2, 3, 4]),
            case(&[0, 2, 1, 3]).f32(&[2, 3, 4, 2]),
            case(&[]).f32(&[]),
            case(&[1, 0]).typed(DType::F16, &[17, 35], Fill::Normal),
            case(&[1, 0]).typed(DType::I8, &[17, 35], Fill::Index(9)),
            case(&[1, 0]).f32(&[2048, 2048]).bench(),
            case(&[0, 2, 1, 3]).f32(&[4, 256, 16, 64]).bench(),
        ]
    }
}
