//! `conv_transpose2d`: transposed convolution, which is also the input gradient of `conv2d`.

use tenon_kernels::conv::{Axis, Conv, Conv2d as Kernel, Direction};

use super::common::shape_error;
use super::conv2d::{conv_cost, two_or_three};
use super::window::{Window, check_bias, pair};
use super::{
    AttrReader, Attrs, Case, Conv2d, Conv2dGradWeight, Cost, Op, OpKind, ReduceSum, Tolerance, Vjp,
};
use crate::backend::Launch;
use crate::error::Result;
use crate::tensor::TensorDesc;

/// The transposed convolution of `x [N, O, H', W']` by `w [O, C / groups, kh, kw]`, plus an
/// optional `bias [C]`: `[N, C, H, W]` with
/// `H = (H' - 1) * stride - top - bottom + dilation * (kh - 1) + output_padding + 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvTranspose2d {
    /// How the window of the convolution that this transposes slides.
    pub window: Window,
    /// Rows and columns past those that the windows reach; each less than the stride.
    pub output_padding: [usize; 2],
}

impl ConvTranspose2d {
    /// The kernel's view of the convolution that this transposes.
    ///
    /// # Errors
    /// [`crate::Error::Shape`].
    fn kernel(&self, inputs: &[&TensorDesc]) -> Result<Kernel> {
        let fail = |why: &str| shape_error(Self::NAME, inputs, why);
        let (x, w) = (inputs[0].shape(), inputs[1].shape());
        let groups = self.window.groups;
        if x.len() != 4 || w.len() != 4 {
            return Err(fail("x and the weight must have rank 4"));
        }
        if x[1] == 0 || x[1] != w[0] || w[0] % groups != 0 || w[1] == 0 {
            return Err(fail("channels must be those of the weight, a multiple of groups"));
        }
        let axis = |axis: usize| {
            let (output, kernel) = (x[axis + 2], w[axis + 2]);
            let reach = self.window.reach(axis, output, kernel)?;
            let input = (reach + self.output_padding[axis]).checked_sub(self.window.padded(axis))?;
            let axis = self.window.axis(axis, input, kernel)?;
            (axis.output == output && axis.input > 0).then_some(axis)
        };
        let axes: (Option<Axis>, Option<Axis>) = (axis(0), axis(1));
        let (Some(rows), Some(cols)) = axes else {
            return Err(fail("padding leaves nothing, or output padding is not below the stride"));
        };
        let (batch, out_channels) = (x[0], x[1]);
        Ok(Kernel { batch, in_channels: w[1] * groups, out_channels, groups, rows, cols })
    }
}

impl Op for ConvTranspose2d {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = self.window.named();
        attrs.push(("output_padding", self.output_padding[..].into()));
        attrs
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        two_or_three(Self::NAME, inputs)?;
        let shape = self.kernel(inputs)?;
        check_bias(Self::NAME, inputs, shape.in_channels)?;
        let dims = [shape.batch, shape.in_channels, shape.rows.input, shape.cols.input];
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<()> {
        let (x, w, dy) = (cx.input(0), cx.input(1), cx.cotangent());
        let kernel = [cx.desc(w).shape()[2], cx.desc(w).shape()[3]];
        if cx.wants(0) {
            let dx = cx.add(Conv2d { window: self.window }, &[dy, w])?;
            cx.set(0, dx);
        }
        if cx.wants(1) {
            // Of the convolution that this transposes, `dy` is the input and `x` the cotangent.
            let dw = cx.add(Conv2dGradWeight { window: self.window, kernel }, &[dy, x])?;
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
        Launch::Conv(Conv::Convolve(shape, Direction::InputGrad))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        conv_cost(self.kernel(inputs), inputs, outputs)
    }
}

impl OpKind for ConvTranspose2d {
    const NAME: &'static str = "conv_transpose2d";
    const TOLERANCE: Tolerance = Tolerance::scaled(1e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let window = Window::read(attrs)?;
        let output_padding = pair(attrs, "output_padding", [0, 0], 0)?;
        if (0..2).any(|i| output_padding[i] >= window.stride[i]) {
            return Err(attrs.error("output_padding", "must be less than the stride"));
        }
        Ok(Self { window, output_padding })
    }

    fn cases() -> Vec<Case> {
        let plain = Window::default();
        let case = |window, output_padding, x: [usize; 4], w: [usize; 4]| {
            Case::new(Self { window, output_padding }).f32(&x).f32(&w)
        };
        let odd = Window { stride: [3, 2], dilation: [2, 1], padding: [1, 0, 0, 1], groups: 2 };
        let double = Window { stride: [2; 2], padding: [1; 4], ..plain };
        vec![
            case(plain, [0, 0], [2, 3, 4, 3], [3, 2, 3, 2]).f32(&[2]),
            case(odd, [2, 1], [1, 4, 3, 4], [4, 1, 2, 3]).f32(&[2]),
            case(double, [1, 1], [1, 2, 3, 3], [2, 2, 3, 3]),
            case(Window { stride: [4; 2], ..plain }, [0, 0], [1, 1, 2, 2], [1, 1, 2, 2]),
            case(double, [1, 1], [64, 32, 14, 14], [32, 16, 3, 3]).bench(),
        ]
    }
}
