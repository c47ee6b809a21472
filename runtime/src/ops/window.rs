//! What convolutions and poolings share: windows that slide over `[batch, channels, rows, cols]`.

use tenon_kernels::conv::pool::Pool2d;
use tenon_kernels::conv::{Axis, Conv2d};

use super::common::{all_f32, shape_error};
use super::{AttrReader, Attrs, Cost};
use crate::error::Result;
use crate::tensor::TensorDesc;

/// Greatest stride, dilation, padding or kernel size, so that their products cannot overflow.
const LIMIT: usize = 1 << 20;

/// Steps of a convolution's window over rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions from one window to the next, at least 1.
    pub stride: [usize; 2],
    /// Positions from one tap to the next, at least 1.
    pub dilation: [usize; 2],
    /// Zeros around the input: top, left, bottom, right.
    pub padding: [usize; 4],
    /// Independent slices of the channels, at least 1.
    pub groups: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { stride: [1; 2], dilation: [1; 2], padding: [0; 4], groups: 1 }
    }
}

/// Reads one size for both axes, or one each.
///
/// # Errors
/// [`crate::Error::Attr`] for another number of sizes, or one outside `least..=2^20`.
pub(super) fn pair(
    attrs: &mut AttrReader<'_>,
    name: &'static str,
    default: [usize; 2],
    least: usize,
) -> Result<[usize; 2]> {
    let sizes = attrs.usizes_or(name, &default)?;
    if sizes.iter().any(|v| !(least..=LIMIT).contains(v)) {
        return Err(attrs.error(name, format!("must lie in {least}..={LIMIT}")));
    }
    match *sizes {
        [both] => Ok([both; 2]),
        [rows, cols] => Ok([rows, cols]),
        _ => Err(attrs.error(name, "takes one size, or one for rows and one for columns")),
    }
}

impl Window {
    /// The attributes, as [`Window::read`] takes them.
    pub(super) fn named(&self) -> Attrs {
        vec![
            ("stride", self.stride[..].into()),
            ("padding", self.padding[..].into()),
            ("dilation", self.dilation[..].into()),
            ("groups", self.groups.into()),
        ]
    }

    /// Reads the attributes; all have defaults.
    ///
    /// # Errors
    /// [`crate::Error::Attr`].
    pub(super) fn read(attrs: &mut AttrReader<'_>) -> Result<Self> {
        let padding = attrs.usizes_or("padding", &[0])?;
        if padding.iter().any(|&v| v > LIMIT) {
            return Err(attrs.error("padding", format!("must not exceed {LIMIT}")));
        }
        let padding = match *padding {
            [all] => [all; 4],
            [rows, cols] => [rows, cols, rows, cols],
            [top, left, bottom, right] => [top, left, bottom, right],
            _ => {
                let why = "takes one size, two (rows, columns) or four (top, left, bottom, right)";
                return Err(attrs.error("padding", why));
            }
        };
        let groups = attrs.usize_or("groups", 1)?;
        if groups == 0 {
            return Err(attrs.error("groups", "must be at least 1"));
        }
        Ok(Self {
            stride: pair(attrs, "stride", [1, 1], 1)?,
            dilation: pair(attrs, "dilation", [1, 1], 1)?,
            padding,
            groups,
        })
    }

    /// One axis of a convolution from `input` positions with `kernel` taps; 0 is rows.
    pub(super) fn axis(&self, axis: usize, input: usize, kernel: usize) -> Option<Axis> {
        let padding = (self.padding[axis], self.padding[axis + 2]);
        if kernel > LIMIT {
            return None;
        }
        Axis::new(input, kernel, self.stride[axis], self.dilation[axis], padding)
    }

    /// Positions of the padded input that `output` windows of `kernel` taps reach.
    pub(super) fn reach(&self, axis: usize, output: usize, kernel: usize) -> Option<usize> {
        let last = output.checked_sub(1)?.checked_mul(self.stride[axis])?;
        let extent = kernel.checked_sub(1)?.checked_mul(self.dilation[axis])?;
        last.checked_add(extent)?.checked_add(1)
    }

    /// Padding before and after an axis together.
    pub(super) fn padded(&self, axis: usize) -> usize {
        self.padding[axis] + self.padding[axis + 2]
    }

    /// The convolution of `x [batch, channels, ..]` by `w [out, channels / groups, ..]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where they do not fit together.
    pub(super) fn conv(
        &self,
        op: &'static str,
        inputs: &[&TensorDesc],
        x: &[usize],
        w: &[usize],
    ) -> Result<Conv2d> {
        let fail = |why: &str| shape_error(op, inputs, why);
        let ([batch, channels, height, width], [out, per_group, rows, cols]) = (x, w) else {
            return Err(fail("x and the weight must have rank 4"));
        };
        let groups = self.groups;
        if *out == 0 || *channels == 0 || out % groups != 0 || *channels != per_group * groups {
            let why = "channels must be those of the weight times groups, and outputs a multiple";
            return Err(fail(why));
        }
        let axes = (self.axis(0, *height, *rows), self.axis(1, *width, *cols));
        let (Some(rows), Some(cols)) = axes else {
            return Err(fail("the dilated kernel does not fit into the padded input"));
        };
        Ok(Conv2d { batch: *batch, in_channels: *channels, out_channels: *out, groups, rows, cols })
    }
}

/// Checks the bias that may follow `x` and the weight.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`].
pub(super) fn check_bias(op: &'static str, inputs: &[&TensorDesc], channels: usize) -> Result<()> {
    all_f32(op, inputs)?;
    match inputs.get(2) {
        Some(bias) if **bias.shape() != [channels] => {
            Err(shape_error(op, inputs, "the bias must have one value for each output channel"))
        }
        _ => Ok(()),
    }
}

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
