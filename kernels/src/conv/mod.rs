//! Convolution, pooling and batch statistics over images, `[batch, channels, rows, cols]`.
//!
//! | file | what |
//! |---|---|
//! | `axis` | one spatial axis: which kernel taps meet which source positions |
//! | `planes` | copies a band of an image, padded and split by stride, to scratch |
//! | `panels` | the product of packed weights with such a band |
//! | `direct` | convolution and its input gradient (transposed convolution) |
//! | `weight` | the weight gradient |
//! | `depthwise` | the same of one channel to one |
//! | `implicit`, `patches` | the same products for many channels, as gemm's |
//! | `implicit_weight` | the weight gradient likewise |
//! | `pool`, `average` | max and average pooling, both ways |
//! | `batch_norm` | batch and group normalisation, both ways |
//!
//! No patch matrix (im2col) is built. Where channels fill gemm's register tiles, its panels are packed
//! straight from the images. Elsewhere a strided convolution is a sum of stride-one convolutions
//! over the phases of its input, and its input gradient is one stride-one convolution for each
//! phase of its output; a stride-one convolution over a padded band reads the same memory, shifted,
//! for every tap. Scratch is therefore a slab of panels or one band, and the packed weight.
//!
//! GFLOP/s of one Zen 5 thread (its limit: 260 in the same run), 8 images; in brackets what the bands
//! alone reached:
//!
//! | image, channels, kernel | y | dx | dw |
//! |---|---|---|---|
//! | 56 x 56, 64 to 64, 3 x 3 | 209 | 211 | 225 |
//! | 28 x 28, 128 to 128, 3 x 3 | 225 (215) | 219 (211) | 222 |
//! | 14 x 14, 256 to 256, 3 x 3 | 232 (184) | 228 (184) | 215 |
//! | 7 x 7, 512 to 512, 3 x 3 | 214 (153) | 205 (152) | 182 |
//! | 56 x 56, 64 to 256, 1 x 1 | 224 (132) | 182 (111) | 164 (143) |
//! | 56 x 56, 256 to 64, 1 x 1 | 187 (110) | 231 (133) | 168 (94) |
//! | 14 x 14, 1024 to 256, 1 x 1 | 231 (118) | 234 (149) | 180 (116) |
//! | 56 x 56, 128 to 128, 3 x 3, stride 2 | 209 (153) | 172 | 155 (119) |
//! | 56 x 56, 256 to 512, 1 x 1, stride 2 | 220 (114) | 133 (113) | 151 (43) |
//!
//! What is missing at few channels is the halo, the last, partial tile of a line of results, and the
//! copies into the band and out of the sums; at many, packing, and in the weight gradient transposing.

mod average;
mod axis;
pub mod batch_norm;
mod depthwise;
mod direct;
mod implicit;
mod implicit_weight;
mod panels;
mod patches;
mod planes;
pub mod pool;
pub mod reference;
#[cfg(test)]
mod tests;
mod weight;

pub use axis::Axis;
use batch_norm::BatchNorm;
use depthwise::Depthwise;
pub use direct::{Direct, Direction, convolve, pack_weight};
use implicit::Implicit;
use pool::{Divisor, Pool2d};
pub use weight::{WeightGrad, grad_weight, sum_parts};

/// The shape of a convolution: `x` is `[batch, in_channels, rows.input, cols.input]`, `y` is
/// `[batch, out_channels, rows.output, cols.output]`, and the weight is
/// `[out_channels, in_channels / groups, rows.kernel, cols.kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Images.
    pub batch: usize,
    /// Channels of `x`, a multiple of `groups`.
    pub in_channels: usize,
    /// Channels of `y`, a multiple of `groups`.
    pub out_channels: usize,
    /// Independent slices of the channels.
    pub groups: usize,
    /// The vertical axis.
    pub rows: Axis,
    /// The horizontal axis.
    pub cols: Axis,
}

/// What a launch of this family computes, with the operands it reads and gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conv {
    /// A convolution in either direction: source, weight and perhaps bias; gives the destination.
    Convolve(Conv2d, Direction),
    /// The weight gradient: `x, dy`; gives `dw`.
    GradWeight(Conv2d),
    /// Max pooling: `x`; gives `y` and its indices.
    MaxPool(Pool2d),
    /// Its gradient: `dy, indices`; gives `dx`.
    MaxPoolGrad(Pool2d),
    /// Average pooling: `x`; gives `y`.
    AvgPool(Pool2d, Divisor),
    /// Its gradient: `dy`; gives `dx`.
    AvgPoolGrad(Pool2d, Divisor),
    /// Batch normalisation: `x`, running mean and variance if `running`, scale and shift if
    /// `affine`; gives `y`, mean and reciprocal standard deviation.
    Normalize {
        /// The shape.
        shape: BatchNorm,
        /// Share of the batch in the running statistics if training; `None` evaluates with them.
        momentum: Option<f32>,
        /// Added to the variance.
        eps: f32,
        /// Whether running statistics are operands.
        running: bool,
        /// Whether scale and shift are operands.
        affine: bool,
    },
    /// Its gradient: `x, mean, rstd, dy` and the scale if `affine`; gives `dx, dweight, dbias`.
    NormalizeGrad {
        /// The shape.
        shape: BatchNorm,
        /// Whether the statistics came from the batch.
        training: bool,
        /// Whether the scale is an operand.
        affine: bool,
    },
}

/// How a convolution is computed; a function of its shape only.
enum Way {
    /// As gemm's product.
    Implicit(Implicit),
    /// One channel to one.
    Depthwise(Depthwise),
    /// By bands of an image.
    Bands,
}

impl Way {
    fn of(shape: &Conv2d, direction: Direction) -> Self {
        let depthwise = || Depthwise::of(shape, direction).map_or(Self::Bands, Self::Depthwise);
        Implicit::of(shape, direction).map_or_else(depthwise, Self::Implicit)
    }
}

impl Conv2d {
    /// Elements of the weight.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.group_inputs() * self.taps()
    }

    /// Twice the multiply-adds of any of the three products.
    #[must_use]
    pub fn flops(&self) -> u64 {
        2 * (self.batch * self.rows.output * self.cols.output) as u64 * self.weight_len() as u64
    }

    fn taps(&self) -> usize {
        self.rows.kernel * self.cols.kernel
    }

    fn group_inputs(&self) -> usize {
        self.in_channels / self.groups
    }

    fn group_outputs(&self) -> usize {
        self.out_channels / self.groups
    }
}
