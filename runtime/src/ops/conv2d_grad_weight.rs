//! `conv2d_grad_weight`: the weight gradient of `conv2d`.

use tenon_kernels::conv::{Conv, Conv2d as Kernel};

use super::attention_grad::SECOND;
use super::common::{all_f32, arity, shape_error};
use super::conv2d::conv_cost;
use super::window::{Window, pair};
use super::{AttrReader, Attrs, Case, Cost, Fill, Gradient, Op, OpKind, Tolerance, Vjp};
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::tensor::TensorDesc;

/// `dw [O, C / groups, kh, kw]` from `x [N, C, H, W]` and `dy [N, O, H', W']`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dGradWeight {
    /// How the window slides.
    pub window: Window,
    /// Rows and columns of the weight.
    pub kernel: [usize; 2],
}

impl Conv2dGradWeight {
    /// The kernel's view of the operands.
    ///
    /// # Errors
    /// [`Error::Shape`].
    fn shape(&self, inputs: &[&TensorDesc]) -> Result<Kernel> {
        let (x, dy) = (inputs[0].shape(), inputs[1].shape());
        let fail = |why: &str| shape_error(Self::NAME, inputs, why);
        if x.len() != 4 || dy.len() != 4 || x[1] % self.window.groups != 0 {
            return Err(fail("x and dy must have rank 4, and channels be a multiple of groups"));
        }
        let w = [dy[1], x[1] / self.window.groups, self.kernel[0], self.kernel[1]];
        let shape = self.window.conv(Self::NAME, inputs, x, &w)?;
        if [shape.batch, shape.rows.output, shape.cols.output] != [dy[0], dy[2], dy[3]] {
            return Err(fail("dy does not have the shape of this convolution's output"));
        }
        Ok(shape)
    }
}

impl Op for Conv2dGradWeight {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = self.window.named();
        attrs.push(("kernel", self.kernel[..].into()));
        attrs
    }

    fn infer(&self, inputs: &[&TensorDesc]) -> Result<Vec<TensorDesc>> {
        arity::<2>(Self::NAME, inputs)?;
        all_f32(Self::NAME, inputs)?;
        let shape = self.shape(inputs)?;
        let per_group = shape.in_channels / shape.groups;
        let dims = [shape.out_channels, per_group, shape.rows.kernel, shape.cols.kernel];
        Ok(vec![TensorDesc::f32(&dims)?])
    }

    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Err(Error::NoGradient { op: Self::NAME, reason: SECOND })
    }

    fn launch(&self, inputs: &[&TensorDesc], _: &[&TensorDesc]) -> Launch {
        let shape = self.shape(inputs).expect("inference accepted these operands");
        Launch::Conv(Conv::GradWeight(shape))
    }

    fn cost(&self, inputs: &[&TensorDesc], outputs: &[&TensorDesc]) -> Cost {
        conv_cost(self.shape(inputs), inputs, outputs)
    }
}

impl OpKind for Conv2dGradWeight {
    const NAME: &'static str = "conv2d_grad_weight";
    const GRADIENT: Gradient = Gradient::None(SECOND);
    const TOLERANCE: Tolerance = Tolerance::scaled(2e-5);

    fn parse(attrs: &mut AttrReader<'_>) -> Result<Self> {
        Ok(Self { window: Window::read(attrs)?, kernel: pair(attrs, "kernel", [0, 0], 1)? })
    }

    fn cases() -> Vec<Case> {
        let plain = Window::default();
        let same = Window { padding: [1; 4], ..plain };
        let case = |window, kernel, x: [usize; 4], dy: [usize; 4]| {
            Case::new(Self { window, kernel }).fixed(&x, Fill::Normal).fixed(&dy, Fill::Normal)
        };
        vec![
            case(plain, [3, 2], [2, 3, 5, 6], [2, 4, 3, 5]),
            case(same, [3, 3], [9, 2, 4, 7], [9, 5, 4, 7]),
            case(Window { groups: 3, ..same }, [3, 3], [2, 3, 5, 5], [2, 3, 5, 5]),
            case(Window { stride: [2; 2], ..same }, [3, 3], [2, 3, 6, 5], [2, 7, 3, 3]),
            case(same, [3, 3], [64, 16, 28, 28], [64, 32, 28, 28]).bench(),
        ]
    }
}
