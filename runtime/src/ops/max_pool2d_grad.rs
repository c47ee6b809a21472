//! `max_pool2d_grad`: the gradient of `max_pool2d`.

use tenon_kernels::conv::Conv;
use tenon_kernels::conv::pool::Pool2d;

use super::attention_grad::SECOND;
use super::common::{arity, dtype_is, shape_error};
use super::window::{PoolWindow, pair};
use super::{AttrReader, Attrs, Case, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::{DType, TensorDesc};

/// `dx [N, C, H, W]`, where every `dy [N, C, H', W']` is added to the element that its index names
/// (one outside the plane is left out).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2dGrad {
    /// The windows of the forward pass.
    pub window: PoolWindow,
    /// Rows and columns of its input.
    pub input: [usize; 2],
}

/// The pooling whose output gradient is `inputs[0]`, over planes of `input`.
///
/// # Errors
/// [`Error::Shape`].
pub(super) fn pool_of_gradient(
    op: &'static str,
    window: &PoolWindow,
    input: [usize; 2],
    inputs: &[&TensorDesc],
) -> Result<Pool2d> {
    let dy = inputs[0].shape();
    let fail = || shape_error(op, inputs, "dy does not have the shape of this pooling's output");
    let [batch, channels, rows, cols] = **dy else { return Err(fail()) };
    let pool = window.pool(op, inputs, &[batch, channels, input[0], input[1]])?;
    if [pool.rows.output, pool.cols.output] == [rows, cols] { Ok(pool) } else { Err(fail()) }
}

impl MaxPool2dGrad {
    fn pool(&self, inputs: &[&TensorDesc]) -> Result<Pool2d> {
        pool_of_gradient(Self::NAME, &self.window, self.input, inputs)
    }
}

impl Op for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = self.window.named();
        attrs.push(("input", self.input[..].into()));
        attrs
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        let [dy, indices] = arity(Self::NAME, inputs)?;
        dtype_is(Self::NAME, 0, dy, DType::F32, "f32")?;
        dtype_is(Self::NAME, 1, indices, DType::I32, "i32")?;
        if indices.shape() != dy.shape() {
            return Err(shape_error(Self::NAME, inputs, "dy and indices must have one shape"));
        }
        self.pool(inputs)?;
        let dims = [dy.shape()[0], dy.shape()[1], self.input[0], self.input[1]];
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: SECOND })
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let pool = self.pool(inputs).expect("inference accepted these operands");
        Launch::Conv(Conv::MaxPoolGrad(pool))
    }
}

impl OpKind for MaxPool2dGrad {
    const NAME: &'static str = "max_pool2d_grad";
    const GRADIENT: Gradient = Gradient::None(SECOND);
    const TOLERANCE: Tolerance = Tolerance::EXACT;

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { window: PoolWindow::read(attrs)?, input: pair(attrs, "input", [0, 0], 1)? })
    }

    fn cases() -> Vec<Case> {
        let case = |input: [usize; 2], dy: [usize; 4]| {
            let window = PoolWindow::square(2);
            let bound = input[0] * input[1];
            Case::new(Self { window, input }).fixed(&dy, Fill::Normal).index(&dy, bound)
        };
        vec![
            case([4, 6], [2, 3, 2, 3]),
            case([5, 5], [1, 1, 2, 2]),
            case([28, 28], [64, 16, 14, 14]).bench(),
        ]
    }
}
