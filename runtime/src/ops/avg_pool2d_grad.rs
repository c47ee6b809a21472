//! `avg_pool2d_grad`: the gradient of `avg_pool2d`.

use tenon_kernels::conv::Conv;
use tenon_kernels::conv::pool::{Divisor, Pool2d};

use super::common::{all_f32, arity};
use super::max_pool2d_grad::pool_of_gradient;
use super::window::{PoolWindow, pair, pool_cost};
use super::{AttrReader, Attrs, AvgPool2d, Case, Cost, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// `dx [N, C, H, W]` from `dy [N, C, H', W']`: every element of a window gets its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2dGrad {
    /// The forward pass.
    pub pool: AvgPool2d,
    /// Rows and columns of its input.
    pub input: [usize; 2],
}

impl AvgPool2dGrad {
    fn shape(&self, inputs: &[&TensorDesc]) -> Result<Pool2d> {
        pool_of_gradient(Self::NAME, &self.pool.window, self.input, inputs)
    }
}

impl Op for AvgPool2dGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = self.pool.named();
        attrs.push(("input", self.input[..].into()));
        attrs
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [dy] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        self.shape(inputs)?;
        let dims = [dy.shape()[0], dy.shape()[1], self.input[0], self.input[1]];
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        // A linear map and its transpose: the gradient of one is the other.
        let gradient = cx.add(self.pool, &[cx.cotangent()])?;
        cx.set(0, gradient);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let shape = self.shape(inputs).expect("inference accepted these operands");
        Launch::Conv(Conv::AvgPoolGrad(shape, self.pool.divisor))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        pool_cost(&self.pool.window, inputs[0].numel(), inputs, outputs)
    }
}

impl OpKind for AvgPool2dGrad {
    const NAME: &'static str = "avg_pool2d_grad";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-6);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { pool: AvgPool2d::read(attrs)?, input: pair(attrs, "input", [0, 0], 1)? })
    }

    fn cases() -> Vec<Case> {
        let plain = PoolWindow::square(2);
        let over = PoolWindow { stride: [1, 2], padding: [1, 1], ceil_mode: true, ..plain };
        let case = |window, divisor, input, dy: [usize; 4]| {
            Case::new(Self { pool: AvgPool2d { window, divisor }, input }).f32(&dy)
        };
        vec![
            case(plain, Divisor::Padded, [4, 6], [2, 3, 2, 3]),
            case(over, Divisor::Inside, [3, 5], [1, 2, 4, 3]),
            case(plain, Divisor::Padded, [28, 28], [64, 16, 14, 14]).bench(),
        ]
    }
}
