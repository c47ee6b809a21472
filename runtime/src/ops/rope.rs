//! `rope`: rotary position embedding.

use tenon_kernels::row::rope::Layout;

use super::common::{all_f32, arity, shape_error};
use super::{AttrReader, Attrs, Case, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Row};
use crate::error::Result;
use crate::tensor::TensorDesc;

/// Turns each pair of a head by the angle of its position (Su et al. 2021): `x` [batch, seq,
/// heads, dim], `cos` and `sin` [seq, half] with `2 half <= dim`; elements past `2 half` stay. The
/// tables are taken as constants: they get no gradient.
#[derive(Clone, Copy, Debug)]
pub struct Rope {
    /// Which elements turn together.
    pub layout: Layout,
    /// Whether to turn back.
    pub inverse: bool,
}

const LAYOUTS: &[(&str, Layout)] = &[("half", Layout::Half), ("interleaved", Layout::Interleaved)];

impl Op for Rope {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        let layout = LAYOUTS.iter().find(|l| l.1 == self.layout).map_or("half", |l| l.0);
        vec![("layout", layout.into()), ("inverse", self.inverse.into())]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x, cos, sin] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        match (&x.shape()[..], &cos.shape()[..]) {
            (&[_, seq, _, dim], &[seq2, half])
                if seq == seq2 && 2 * half <= dim && cos == sin =>
            {
                Ok(vec![x.clone()])
            }
            _ => Err(shape_error(
                Self::NAME,
                inputs,
                "takes x [batch, seq, heads, dim] and tables [seq, half] with 2 half <= dim",
            )),
        }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        if cx.wants(0) {
            let back = Self { inverse: !self.inverse, ..*self };
            let dx = cx.add(back, &[cx.cotangent(), cx.input(1), cx.input(2)])?;
            cx.set(0, dx);
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Row(Row::Rope { layout: self.layout, inverse: self.inverse })
    }
}

impl OpKind for Rope {
    const NAME: &'static str = "rope";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self {
            layout: attrs.choice("layout", LAYOUTS)?,
            inverse: attrs.bool_or("inverse", false)?,
        })
    }

    fn cases() -> Vec<Case> {
        let table = || super::Fill::Uniform(-1.0, 1.0);
        let of = |layout, inverse, dims: [usize; 4], half: usize| {
            let case = Case::new(Self { layout, inverse }).f32(&dims);
            case.fixed(&[dims[1], half], table()).fixed(&[dims[1], half], table())
        };
        vec![
            of(Layout::Half, false, [2, 3, 2, 8], 4),
            of(Layout::Interleaved, false, [1, 5, 3, 10], 5),
            of(Layout::Interleaved, true, [2, 3, 1, 12], 4),
            of(Layout::Half, true, [1, 2, 2, 34], 17),
            of(Layout::Interleaved, false, [1, 2048, 9, 64], 32).bench(),
        ]
    }
}
