//! Convolution, pooling and batch normalisation as their definitions read, in f64.

use super::batch_norm::BatchNorm;
use super::pool::{Divisor, Pool2d};
use super::{Axis, Conv2d};

/// Greatest error of a convolution, relative to the greatest magnitude in its result.
///
/// A sum of `n` rounded products errs by less than `n * 2^-24` of its absolute sum.
pub const CONV_TOLERANCE: f32 = 1e-5;
/// Greatest error of an average, relative to the greatest input. Maxima are exact.
pub const AVG_TOLERANCE: f32 = 1e-6;
/// Greatest error of a normalisation, relative to the greatest magnitude in its result.
pub const NORM_TOLERANCE: f32 = 2e-5;

impl Axis {
    /// The input that tap `k` of output `o` reads, if it is not padding.
    fn input_of(&self, o: usize, k: usize) -> Option<usize> {
        let at = (o * self.stride + k * self.dilation).checked_sub(self.pad)?;
        (at < self.input).then_some(at)
    }

    /// Every pair of an output and a tap, with the input it reads.
    fn reads(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        (0..self.output)
            .flat_map(move |o| (0..self.kernel).map(move |k| (o, k)))
            .filter_map(move |(o, k)| self.input_of(o, k).map(|i| (o, k, i)))
    }
}

/// Calls `visit` with the indices into `x`, the weight and `y` of every multiply-add.
fn each_product(shape: &Conv2d, mut visit: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let (rows, cols) = (&shape.rows, &shape.cols);
    let columns: Vec<_> = cols.reads().collect();
    for n in 0..shape.batch {
        for o in 0..shape.out_channels {
            for c in 0..inputs {
                let channel = o / outputs * inputs + c;
                for (oy, ky, iy) in rows.reads() {
                    for &(ox, kx, ix) in &columns {
                        let x = (n * shape.in_channels + channel) * rows.input + iy;
                        let w = (o * inputs + c) * rows.kernel + ky;
                        let y = (n * shape.out_channels + o) * rows.output + oy;
                        visit(x * cols.input + ix, w * cols.kernel + kx, y * cols.output + ox);
                    }
                }
            }
        }
    }
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

fn product(a: f32, b: f32) -> f64 {
    f64::from(a) * f64::from(b)
}

/// `y` of a convolution without bias.
#[must_use]
pub fn conv(shape: &Conv2d, x: &[f32], w: &[f32]) -> Vec<f32> {
    let len = shape.batch * shape.out_channels * shape.rows.output * shape.cols.output;
    let mut y = vec![0.0; len];
    each_product(shape, |xi, wi, yi| y[yi] += product(x[xi], w[wi]));
    narrow(&y)
}

/// Gradient of `x`.
#[must_use]
pub fn conv_grad_input(shape: &Conv2d, w: &[f32], dy: &[f32]) -> Vec<f32> {
    let len = shape.batch * shape.in_channels * shape.rows.input * shape.cols.input;
    let mut dx = vec![0.0; len];
    each_product(shape, |xi, wi, yi| dx[xi] += product(dy[yi], w[wi]));
    narrow(&dx)
}

/// Gradient of the weight.
#[must_use]
pub fn conv_grad_weight(shape: &Conv2d, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dw = vec![0.0; shape.weight_len()];
    each_product(shape, |xi, wi, yi| dw[wi] += product(dy[yi], x[xi]));
    narrow(&dw)
}

/// The inputs of every window of one plane, in window order, with the index of its result.
fn windows(shape: &Pool2d) -> impl Iterator<Item = (usize, Vec<usize>)> + '_ {
    let (rows, cols) = (&shape.rows, &shape.cols);
    (0..rows.output * cols.output).map(move |o| {
        let cells = (0..rows.kernel).filter_map(move |k| rows.input_of(o / cols.output, k));
        let cell = move |y: usize| {
            (0..cols.kernel)
                .filter_map(move |k| cols.input_of(o % cols.output, k))
                .map(move |x| y * cols.input + x)
        };
        (o, cells.flat_map(cell).collect())
    })
}

/// Max pooling: the results and their indices.
#[must_use]
pub fn max_pool(shape: &Pool2d, x: &[f32]) -> (Vec<f32>, Vec<i32>) {
    let (mut y, mut indices) = (Vec::new(), Vec::new());
    for plane in x.chunks(shape.rows.input * shape.cols.input) {
        for (_, cells) in windows(shape) {
            let mut best = cells[0];
            for &cell in &cells[1..] {
                if plane[cell] > plane[best] || plane[cell].is_nan() {
                    best = cell;
                }
            }
            y.push(plane[best]);
            indices.push(best as i32);
        }
    }
    (y, indices)
}

/// What the average of window `o` divides by.
fn divisor(shape: &Pool2d, divisor: Divisor, o: usize, inside: usize) -> f64 {
    let extent = |axis: &Axis, o: usize| {
        let last = (o * axis.stride + axis.kernel).min(axis.input + 2 * axis.pad);
        last - o * axis.stride
    };
    let (y, x) = (o / shape.cols.output, o % shape.cols.output);
    match divisor {
        Divisor::Padded => (extent(&shape.rows, y) * extent(&shape.cols, x)) as f64,
        Divisor::Inside => inside as f64,
        Divisor::Fixed(n) => n as f64,
    }
}

/// Average pooling.
#[must_use]
pub fn avg_pool(shape: &Pool2d, by: Divisor, x: &[f32]) -> Vec<f32> {
    let mut y = Vec::new();
    for plane in x.chunks(shape.rows.input * shape.cols.input) {
        for (o, cells) in windows(shape) {
            let sum: f64 = cells.iter().map(|&i| f64::from(plane[i])).sum();
            y.push((sum / divisor(shape, by, o, cells.len())) as f32);
        }
    }
    y
}

/// Gradient of average pooling.
#[must_use]
pub fn avg_pool_grad(shape: &Pool2d, by: Divisor, dy: &[f32]) -> Vec<f32> {
    let input = shape.rows.input * shape.cols.input;
    let mut dx = vec![0.0; shape.planes * input];
    for (plane, dy) in dy.chunks(shape.rows.output * shape.cols.output).enumerate() {
        for (o, cells) in windows(shape) {
            for &i in &cells {
                dx[plane * input + i] += f64::from(dy[o]) / divisor(shape, by, o, cells.len());
            }
        }
    }
    narrow(&dx)
}

/// Results of a batch normalisation in training, without scale and shift.
#[derive(Clone, Debug, Default)]
pub struct Normalized {
    /// The normalised input.
    pub y: Vec<f32>,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Biased variance of each channel.
    pub var: Vec<f32>,
}

/// Values of channel `c`, as indices.
fn channel(shape: &BatchNorm, c: usize) -> impl Iterator<Item = usize> + Clone {
    let shape = *shape;
    (0..shape.batch * shape.len)
        .map(move |i| (i / shape.len * shape.channels + c) * shape.len + i % shape.len)
}

/// Normalises every channel by its own mean and variance.
#[must_use]
pub fn normalize(shape: &BatchNorm, x: &[f32], eps: f32) -> Normalized {
    let mut out = Normalized { y: vec![0.0; x.len()], ..Normalized::default() };
    let count = (shape.batch * shape.len) as f64;
    for c in 0..shape.channels {
        let values = channel(shape, c).map(|i| f64::from(x[i]));
        let mean = values.clone().sum::<f64>() / count;
        let var = values.map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        for i in channel(shape, c) {
            out.y[i] = ((f64::from(x[i]) - mean) / (var + f64::from(eps)).sqrt()) as f32;
        }
        out.mean.push(mean as f32);
        out.var.push(var as f32);
    }
    out
}

/// Gradients of `weight * h + bias` for `h` the normalised `x`: of `x`, `weight` and `bias`;
/// `fixed` gives mean and variance that do not depend on `x`.
#[must_use]
pub fn normalize_grad(
    shape: &BatchNorm,
    [x, weight, dy]: [&[f32]; 3],
    fixed: Option<(&[f32], &[f32])>,
    eps: f32,
) -> [Vec<f32>; 3] {
    let mut dx = vec![0.0; x.len()];
    let (mut dweight, mut dbias) = (Vec::new(), Vec::new());
    let count = (shape.batch * shape.len) as f64;
    let batch = normalize(shape, x, eps);
    let (means, vars) = fixed.unwrap_or((&batch.mean, &batch.var));
    for c in 0..shape.channels {
        let (mean, var) = (f64::from(means[c]), f64::from(vars[c]));
        let rstd = 1.0 / (var + f64::from(eps)).sqrt();
        let h = |i: usize| (f64::from(x[i]) - mean) * rstd;
        let sum: f64 = channel(shape, c).map(|i| f64::from(dy[i])).sum();
        let dot: f64 = channel(shape, c).map(|i| f64::from(dy[i]) * h(i)).sum();
        for i in channel(shape, c) {
            let moved = if fixed.is_some() { 0.0 } else { (sum + h(i) * dot) / count };
            dx[i] = (f64::from(weight[c]) * rstd * (f64::from(dy[i]) - moved)) as f32;
        }
        dweight.push(dot as f32);
        dbias.push(sum as f32);
    }
    [dx, dweight, dbias]
}
