//! `pow_scalar`: elementwise power with one exponent.

use tenon_kernels::unary::Unary;

use super::common::infer_unary;
use super::elementwise::{scale, unary_cases};
use super::{Attr, AttrReader, Attrs, Case, Fill, Mul, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `y = x^exponent` as IEEE 754 `pow` has it.
#[derive(Clone, Copy, Debug)]
pub struct PowScalar {
    /// The exponent.
    pub exponent: f32,
}

impl PowScalar {
    /// The kernel: the commonest exponents have exact ones, some ten times as fast as the power.
    fn kernel(self) -> Unary {
        match self.exponent {
            -1.0 => Unary::Recip,
            1.0 => Unary::Affine { mul: 1.0, add: 0.0 },
            2.0 => Unary::Square,
            exponent => Unary::PowScalar { exponent },
        }
    }
}

impl Op for PowScalar {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        vec![("exponent", Attr::from(self.exponent))]
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        infer_unary(Self::NAME, inputs)
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        // x^0 is constant, even at 0, where the formula would give 0 * infinity.
        if self.exponent != 0.0 {
            let power = cx.add(Self { exponent: self.exponent - 1.0 }, &[cx.input(0)])?;
            let product = cx.add(Mul, &[cx.cotangent(), power])?;
            let gradient = scale(cx, product, self.exponent)?;
            cx.set(0, gradient);
        }
        Ok(())
    }

    fn launch(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        Launch::Unary(self.kernel())
    }
}

impl OpKind for PowScalar {
    const NAME: &'static str = "pow_scalar";
    const TOLERANCE: Tolerance = Tolerance::relative(2e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { exponent: attrs.float_or("exponent", 2.0)? as f32 })
    }

    fn cases() -> Vec<Case> {
        let mut cases = unary_cases(Self { exponent: 2.5 }, &Fill::Uniform(0.3, 2.5));
        cases.extend([-1.0, 0.0, 1.0, 2.0, 3.0].map(|exponent| {
            Case::new(Self { exponent }).filled(&[4, 7], Fill::AwayFromZero)
        }));
        cases
    }
}
