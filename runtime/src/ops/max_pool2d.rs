//! `max_pool2d`: the greatest of each window.

use tenon_kernels::conv::Axis;
use tenon_kernels::conv::Conv;
use tenon_kernels::conv::pool::Pool2d;

use super::common::{all_f32, arity, shape_error};
use super::window::pair;
use super::{AttrReader, Attrs, Case, Cost, Fill, MaxPool2dGrad, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// Windows of a pooling over rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolWindow {
    /// Taps of the window.
    pub kernel: [usize; 2],
    /// Positions from one window to the next; the kernel by default.
    pub stride: [usize; 2],
    /// Padding on both sides, at most half the kernel; never a maximum.
    pub padding: [usize; 2],
    /// Positions from one tap to the next.
    pub dilation: [usize; 2],
    /// Whether a last window may end past the padding.
    pub ceil_mode: bool,
}

impl PoolWindow {
    /// Windows of `size` that do not overlap.
    #[must_use]
    pub fn square(size: usize) -> Self {
        Self {
            kernel: [size; 2],
            stride: [size; 2],
            padding: [0; 2],
            dilation: [1; 2],
            ceil_mode: false,
        }
    }

    pub(super) fn named(&self) -> Attrs {
        vec![
            ("kernel", self.kernel[..].into()),
            ("stride", self.stride[..].into()),
            ("padding", self.padding[..].into()),
            ("dilation", self.dilation[..].into()),
            ("ceil_mode", self.ceil_mode.into()),
        ]
    }

    /// Reads the attributes; only `kernel` must be there.
    ///
    /// # Errors
    /// [`crate::Error::Attr`].
    pub(super) fn read(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let kernel = pair(attrs, "kernel", [0, 0], 1)?;
        Ok(Self {
            kernel,
            stride: pair(attrs, "stride", kernel, 1)?,
            padding: pair(attrs, "padding", [0, 0], 0)?,
            dilation: pair(attrs, "dilation", [1, 1], 1)?,
            ceil_mode: attrs.bool_or("ceil_mode", false)?,
        })
    }

    /// The pooling of `[batch, channels, rows, cols]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the windows do not fit.
    pub(super) fn pool(
        &self,
        op: &'static str,
        inputs: &[&TensorDesc],
        x: &[usize],
    ) -> Result<Pool2d> {
        let fail = |why: &str| shape_error(op, inputs, why);
        let [batch, channels, height, width] = *x else {
            return Err(fail("x must be [batch, channels, rows, cols]"));
        };
        let axis = |i: usize, input| {
            let (kernel, stride, dilation) = (self.kernel[i], self.stride[i], self.dilation[i]);
            Axis::pooled(input, kernel, stride, dilation, self.padding[i], self.ceil_mode)
        };
        let (Some(rows), Some(cols)) = (axis(0, height), axis(1, width)) else {
            return Err(fail("no window fits, or padding exceeds half the kernel"));
        };
        if i32::try_from(height * width).is_err() {
            return Err(fail("a plane must have fewer than 2^31 elements"));
        }
        Ok(Pool2d { planes: batch * channels, rows, cols })
    }
}

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

/// One operation for each tap of each window.
pub(super) fn pool_cost(
    window: &PoolWindow,
    windows: usize,
    inputs: &[&TensorDesc],
    outputs: &[&TensorDesc],
) -> Cost {
    Cost {
        flops: windows as f64 * (window.kernel[0] * window.kernel[1]) as f64,
        bytes: inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum(),
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
