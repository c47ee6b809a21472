//! `adam`: a step of Adam.

use tenon_kernels::update::{BLOCK, StateFormat};

use super::{AttrReader, Attrs, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::{Launch, Update};
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};
use crate::train::{Moments, States};

/// Overwrites a parameter and its moments: operands are the parameter, its gradient, the first and
/// second moment as [`States`] stores them, and the scalars learning rate, step number (from 1) and
/// gradient scale. The rule is PyTorch's Adam; weight decay is an L2 penalty (Kingma and Ba 2015).
#[derive(Clone, Copy, Debug)]
pub struct Adam(pub Moments, pub States);

impl Op for Adam {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        [self.0.attrs(), self.1.attrs()].concat()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        self.1.check(Self::NAME, inputs, 2, 3)?;
        Ok(Vec::new())
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: "it is an update" })
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Update(Update::Adam { moments: self.0, states: self.1, decoupled: false })
    }

    fn mutates(&self) -> &'static [usize] {
        self.1.mutated(2)
    }
}

impl OpKind for Adam {
    const NAME: &'static str = "adam";
    const GRADIENT: Gradient = Gradient::None("it is an update");
    const TOLERANCE: Tolerance = Tolerance::scaled(4e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self(Moments::parse(attrs)?, States::parse(attrs)?))
    }

    fn cases() -> Vec<Case> {
        cases(Self)
    }
}

/// The cases of an op of this family.
pub(super) fn cases<K: Op>(op: fn(Moments, States) -> K) -> Vec<Case> {
    let case = |states, dims: &[usize]| {
        let case = Case::new(op(Moments::default(), states)).f32(dims).f32(dims);
        let case = match states.format {
            StateFormat::F32 => case.f32(dims).fixed(dims, Fill::Uniform(0.5, 2.0)),
            StateFormat::Bf16 => case.typed(DType::BF16, dims, Fill::Normal).typed(
                DType::BF16,
                dims,
                Fill::Uniform(0.5, 2.0),
            ),
            StateFormat::Int8 => {
                let scales = [dims.iter().product::<usize>().div_ceil(BLOCK)];
                let state = |case: Case| {
                    case.typed(DType::I8, dims, Fill::Uniform(-120.0, 120.0))
                        .fixed(&scales, Fill::Uniform(0.5, 2.0))
                };
                state(state(case))
            }
        };
        case.f32(&[]).fixed(&[], Fill::Values(vec![3.0])).f32(&[])
    };
    let formats = || StateFormat::ALL.iter().map(|&(_, format)| States { format, stream: 3 });
    let checked = formats().flat_map(|states| [[5, 7], [3, 200]].map(|dims| case(states, &dims)));
    checked.chain(formats().map(|states| case(states, &[1 << 22]).bench())).collect()
}
