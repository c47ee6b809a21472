//! `conv2d`: two-dimensional convolution.

use tenon_kernels::conv::{Conv, Conv2d as Kernel, Direction};

use super::window::{Window, check_bias};
use super::{
    AttrReader, Attrs, Case, Conv2dGradWeight, ConvTranspose2d, Cost, Op, OpKind, ReduceSum,
    Tolerance, Vjp,
};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `y = x * w + bias` (cross-correlation, as PyTorch's `conv2d`).
///
/// `x` is `[N, C, H, W]`, `w` is `[O, C / groups, kh, kw]`, the optional `bias` is `[O]`, and `y` is
/// `[N, O, H', W']` with `H' = (H + top + bottom - dilation * (kh - 1) - 1) / stride + 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conv2d {
    /// How the window slides.
    pub window: Window,
}

impl Conv2d {
    /// The kernel's view of the operands.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn kernel(&self, inputs: &[&TensorDesc]) -> Result<Kernel> {
        self.window.conv(Self::NAME, inputs, inputs[0].shape(), inputs[1].shape())
    }
}

/// Refuses all but an input, a weight and perhaps a bias.
///
/// # Errors
/// [`Error::Arity`].
pub(super) fn two_or_three(op: &'static str, inputs: &[&TensorDesc]) -> Result<()> {
    let fits = (2..=3).contains(&inputs.len());
    fits.then_some(()).ok_or(Error::Arity { op, expected: "2 or 3", found: inputs.len() })
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        self.window.named()
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        two_or_three(Self::NAME, inputs)?;
        let shape = self.kernel(inputs)?;
        check_bias(Self::NAME, inputs, shape.out_channels)?;
        let dims = [shape.batch, shape.out_channels, shape.rows.output, shape.cols.output];
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (x, w, dy) = (cx.input(0), cx.input(1), cx.cotangent());
        let (x_desc, w_desc, dy_desc) = (cx.desc(x), cx.desc(w), cx.desc(dy));
        let kernel = [w_desc.shape()[2], w_desc.shape()[3]];
        if cx.wants(0) {
            // What the last window leaves over becomes output padding.
            let rest = |axis: usize| {
                let (x, dy) = (x_desc.shape()[axis + 2], dy_desc.shape()[axis + 2]);
                let reach = self.window.reach(axis, dy, kernel[axis]);
                reach.map_or(0, |reach| x + self.window.padded(axis) - reach)
            };
            let back = ConvTranspose2d { window: self.window, output_padding: [rest(0), rest(1)] };
            let dx = cx.add(back, &[dy, w])?;
            cx.set(0, dx);
        }
        if cx.wants(1) {
            let dw = cx.add(Conv2dGradWeight { window: self.window, kernel }, &[x, dy])?;
            cx.set(1, dw);
        }
        if cx.input_count() > 2 && cx.wants(2) {
            let db = cx.add(ReduceSum { axes: vec![0, 2, 3], keepdims: false }, &[dy])?;
            cx.set(2, db);
        }
        Ok(())
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let shape = self.kernel(inputs).expect("inference accepted these operands");
        Launch::Conv(Conv::Convolve(shape, Direction::Forward))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        conv_cost(self.kernel(inputs), inputs, outputs)
    }
}

/// The cost of any of a convolution's three products.
pub(super) fn conv_cost(
    shape: Result<Kernel>,
    inputs: &[&TensorDesc],
    outputs: &[&TensorDesc],
) -> Cost {
    let bytes = inputs.iter().chain(outputs).map(|d| d.bytes() as f64).sum();
    Cost { flops: shape.map_or(0.0, |s| s.flops() as f64), bytes }
}

impl OpKind for Conv2d {
    const NAME: &'static str = "conv2d";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { window: Window::read(attrs)? })
    }

    fn cases() -> Vec<Case> {
        let plain = Window::default();
        let same = Window { padding: [1; 4], ..plain };
        let case = |window, x: [usize; 4], w: [usize; 4]| Case::new(Self { window }).f32(&x).f32(&w);
        vec![
            case(plain, [2, 3, 5, 6], [4, 3, 3, 2]).f32(&[4]),
            case(same, [1, 2, 4, 7], [3, 2, 3, 3]),
            case(Window { groups: 3, ..same }, [2, 3, 5, 5], [6, 1, 3, 3]).f32(&[6]),
            case(
                Window { stride: [3, 2], dilation: [2, 1], padding: [0, 2, 3, 1], groups: 2 },
                [2, 4, 9, 8],
                [2, 2, 3, 3],
            ),
            case(Window { stride: [2; 2], ..plain }, [1, 1, 6, 6], [1, 1, 1, 1]),
            // The last window leaves more over than the input has.
            case(Window { stride: [5; 2], padding: [0, 0, 2, 2], ..plain }, [1, 1, 1, 4], [1; 4]),
            case(same, [64, 16, 28, 28], [32, 16, 3, 3]).bench(),
            case(Window { groups: 64, ..same }, [64, 64, 28, 28], [64, 1, 3, 3]).bench(),
        ]
    }
}
