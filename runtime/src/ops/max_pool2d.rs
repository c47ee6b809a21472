//! `max_pool2d`: the greatest of each window.

use tenon_kernels::conv::Conv;

use super::common::{all_f32, arity};
use super::window::{PoolWindow, pool_cost};
use super::{AttrReader, Attrs, Case, Cost, Fill, MaxPool2dGrad, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// The greatest element of each window of `x [N, C, H, W]`, and which of its plane's elements that
/// was (`i32`, row-major; the first of equals).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2d {
    /// The windows.
    pub window: PoolWindow,
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        self.window.named()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [x] = arity(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        let pool = self.window.pool(Self::NAME, inputs, x.shape())?;
        let dims = [x.shape()[0], x.shape()[1], pool.rows.output, pool.cols.output];
        Ok(vec![TensorDesc::f32(&dims)?, TensorDesc::i32(&dims)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let x = cx.desc(cx.input(0));
        let input = [x.shape()[2], x.shape()[3]];
        let back = MaxPool2dGrad { window: self.window, input };
        let dx = cx.add(back, &[cx.cotangent(), cx.output(1)])?;
        cx.set(0, dx);
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let pool = self.window.pool(Self::NAME, inputs, inputs[0].shape());
        Launch::Conv(Conv::MaxPool(pool.expect("inference accepted these operands")))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        pool_cost(&self.window, outputs[0].numel(), inputs, outputs)
    }
}

impl OpKind for MaxPool2d {
    const NAME: &'static str = "max_pool2d";
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { window: PoolWindow::read(attrs)? })
    }

    fn cases() -> Vec<Case> {
        let plain = PoolWindow::square(2);
        let case = |window, x: [usize; 4]| Case::new(Self { window }).filled(&x, Fill::Distinct);
        let wide = PoolWindow { kernel: [3, 2], stride: [2, 1], padding: [1, 0], ..plain };
        vec![
            case(plain, [2, 3, 4, 6]),
            case(PoolWindow { ceil_mode: true, ..wide }, [1, 2, 6, 5]),
            case(PoolWindow { dilation: [2, 3], ..wide }, [1, 2, 7, 6]),
            case(plain, [64, 16, 28, 28]).bench(),
        ]
    }
}
