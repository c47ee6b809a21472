//! Convolutions and average pooling, forward and backward.
//!
//! The gradient toward the input is a transposed convolution, or, where the target has none of the
//! kind, a convolution of the spread gradient with the turned filter. The gradient toward the filter
//! is a convolution of the input, whose images and channels trade places, with the output's gradient
//! as the filter: a stride becomes a dilation, and the other way round.

use tenon_kernels::conv::pool::{Divisor, Pool2d};
use tenon_kernels::conv::{Axis, Conv, Conv2d, Direction};
use tenon_runtime::Result;

use super::{Builder, batch_norm, no};
use crate::npu::graph::ValueId;
use crate::npu::op::{Op, Window};
use crate::npu::table::Target;

pub(super) fn lower(b: &mut Builder, kind: &Conv, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
    let one = match *kind {
        Conv::Convolve(ref shape, Direction::Forward) => convolve(b, inputs, window(shape)),
        Conv::Convolve(ref shape, Direction::InputGrad) => {
            let dx = input_grad(b, shape, inputs[0], inputs[1])?;
            match inputs.get(2) {
                Some(&bias) => {
                    let bias = b.reshape(bias, &[1, shape.in_channels, 1, 1])?;
                    b.add(dx, bias)
                }
                None => Ok(dx),
            }
        }
        Conv::GradWeight(ref shape) => grad_weight(b, shape, inputs[0], inputs[1]),
        Conv::AvgPool(ref pool, divisor) => avg_pool(b, pool, divisor, inputs[0]),
        Conv::AvgPoolGrad(ref pool, divisor) => avg_pool_grad(b, pool, divisor, inputs[0]),
        Conv::MaxPool(_) | Conv::MaxPoolGrad(_) => {
            no("pooling by maxima runs on the CPU: accelerators do not say where a maximum was")
        }
        Conv::Normalize { momentum: Some(_), running: true, .. } => {
            no("running statistics are overwritten on the CPU")
        }
        Conv::Normalize { ref shape, eps, running, affine, .. } => {
            let pair = |at: usize| [inputs[at], inputs[at + 1]];
            let given = running.then(|| pair(1));
            let affine = affine.then(|| pair(if running { 3 } else { 1 }));
            return batch_norm::forward(b, shape, eps, given, affine, inputs[0]);
        }
        Conv::NormalizeGrad { ref shape, training, .. } => {
            return batch_norm::backward(b, shape, training, inputs);
        }
    };
    Ok(vec![one?])
}

/// Zeros after the last input, or how many inputs no window reaches.
fn after(axis: &Axis) -> (usize, usize) {
    let reach = (axis.output - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
    let have = axis.input + axis.pad;
    (reach.saturating_sub(have), have.saturating_sub(reach))
}

fn window(shape: &Conv2d) -> Window {
    let Conv2d { rows, cols, groups, .. } = shape;
    Window {
        stride: [rows.stride, cols.stride],
        dilation: [rows.dilation, cols.dilation],
        pad: [[rows.pad, after(rows).0], [cols.pad, after(cols).0]],
        groups: *groups,
    }
}

/// A convolution. NNAPI's takes no dilation in groups.
fn convolve(b: &mut Builder, inputs: &[ValueId], window: Window) -> Result<ValueId> {
    let channels = b.shape(inputs[0])[1];
    let is_grouped = window.groups > 1 && window.groups < channels;
    if matches!(b.target, Target::Nnapi(_)) && is_grouped && window.dilation != [1, 1] {
        return no("dilation in groups");
    }
    b.graph.add(Op::Conv(window), inputs)
}

fn input_grad(b: &mut Builder, shape: &Conv2d, dy: ValueId, w: ValueId) -> Result<ValueId> {
    let Conv2d { batch, in_channels, rows, cols, groups, .. } = *shape;
    // Inputs that no window reaches have no gradient.
    let unread = [after(&rows).1, after(&cols).1];
    let size = [rows.input.saturating_sub(unread[0]), cols.input.saturating_sub(unread[1])];
    if rows.input <= unread[0] || cols.input <= unread[1] {
        return no("no input is read");
    }
    let window = window(shape);
    let is_plain = groups == 1 && window.dilation == [1, 1];
    let fits = (0..2).all(|i| {
        let axis = if i == 0 { rows } else { cols };
        window.positions(i, size[i], axis.kernel) == Some(axis.output)
    });
    let dx = if fits && (is_plain || !matches!(b.target, Target::Nnapi(_))) {
        b.graph.add(Op::ConvTranspose { window, size }, &[dy, w])?
    } else {
        by_turned_filter(b, shape, dy, w, size)?
    };
    debug_assert_eq!(b.shape(dx)[..2], [batch, in_channels]);
    b.pad(dx, &[[0, 0], [0, 0], [0, unread[0]], [0, unread[1]]])
}

/// The gradient with zeros between its positions, convolved with the filter that is turned by half.
fn by_turned_filter(
    b: &mut Builder,
    shape: &Conv2d,
    dy: ValueId,
    w: ValueId,
    size: [usize; 2],
) -> Result<ValueId> {
    let Conv2d { batch, in_channels, out_channels, groups, rows, cols } = *shape;
    let planes = batch * out_channels;
    let mut spread = b.reshape(dy, &[planes, rows.output, cols.output])?;
    spread = between(b, spread, [planes, rows.output], cols.output, rows.stride)?;
    let height = (rows.output - 1) * rows.stride + 1;
    spread = between(b, spread, [planes * height, cols.output], 1, cols.stride)?;
    let width = (cols.output - 1) * cols.stride + 1;
    spread = b.reshape(spread, &[batch, out_channels, height, width])?;
    let around = |axis: &Axis, size: usize, spread: usize| {
        let extent = (axis.kernel - 1) * axis.dilation;
        let before = extent.checked_sub(axis.pad)?;
        Some([before, (size + extent).checked_sub(before + spread)?])
    };
    let (Some(top), Some(left)) = (around(&rows, size[0], height), around(&cols, size[1], width))
    else {
        return no("more padding than the filter reaches");
    };
    let (inputs, outputs) = (in_channels / groups, out_channels / groups);
    let taps = rows.kernel * cols.kernel;
    let filter = b.reshape(w, &[groups, outputs, inputs, taps])?;
    let filter = b.transpose(filter, &[3, 0, 2, 1])?;
    let filter = b.reshape(filter, &[taps, in_channels * outputs])?;
    let turned: Vec<i32> = (0..taps as i32).rev().collect();
    let turned = b.graph.integers(&[taps], &turned)?;
    let filter = b.graph.add(Op::Gather, &[filter, turned])?;
    let filter = b.transpose(filter, &[1, 0])?;
    let filter = b.reshape(filter, &[in_channels, outputs, rows.kernel, cols.kernel])?;
    let window = Window {
        stride: [1, 1],
        dilation: [rows.dilation, cols.dilation],
        pad: [top, left],
        groups,
    };
    convolve(b, &[spread, filter], window)
}

/// `stride - 1` zeros between the positions of the second axis of [outer, n, inner].
fn between(
    b: &mut Builder,
    x: ValueId,
    [outer, n]: [usize; 2],
    inner: usize,
    stride: usize,
) -> Result<ValueId> {
    if stride == 1 {
        return Ok(x);
    }
    let x = b.reshape(x, &[outer * n, inner])?;
    let x = b.pad(x, &[[0, 0], [0, (stride - 1) * inner]])?;
    let x = b.reshape(x, &[outer, n * stride, inner])?;
    b.slice(x, &[0, 0, 0], &[outer, (n - 1) * stride + 1, inner])
}

fn grad_weight(b: &mut Builder, shape: &Conv2d, x: ValueId, dy: ValueId) -> Result<ValueId> {
    let Conv2d { batch, in_channels, out_channels, groups, rows, cols } = *shape;
    let inputs = in_channels / groups;
    let x = b.reshape(x, &[batch, groups, inputs, rows.input * cols.input])?;
    let x = b.transpose(x, &[2, 1, 0, 3])?;
    let x = b.reshape(x, &[inputs, groups * batch, rows.input, cols.input])?;
    let filter = b.transpose(dy, &[1, 0, 2, 3])?;
    let pad = window(shape).pad;
    let window = Window {
        stride: [rows.dilation, cols.dilation],
        dilation: [rows.stride, cols.stride],
        pad,
        groups,
    };
    let dw = convolve(b, &[x, filter], window)?;
    // Inputs that no window reaches are met by taps that there are not.
    let dw = b.slice(dw, &[0; 4], &[inputs, out_channels, rows.kernel, cols.kernel])?;
    b.transpose(dw, &[1, 0, 2, 3])
}

fn pool_window(pool: &Pool2d) -> Result<(Window, [usize; 2])> {
    let Pool2d { rows, cols, .. } = *pool;
    if rows.dilation != 1 || cols.dilation != 1 {
        return no("a dilated window");
    }
    let pad = [[rows.pad, after(&rows).0], [cols.pad, after(&cols).0]];
    let window = Window { stride: [rows.stride, cols.stride], dilation: [1, 1], pad, groups: 1 };
    Ok((window, [rows.kernel, cols.kernel]))
}

/// What each window's sum is divided by, [1, 1, rows, cols].
fn divisors(b: &mut Builder, pool: &Pool2d, divisor: Divisor) -> Result<ValueId> {
    let count = |axis: &Axis, at: usize| {
        let start = (at * axis.stride) as i64 - axis.pad as i64;
        let (low, high) = match divisor {
            Divisor::Inside => (0, axis.input as i64),
            _ => (-(axis.pad as i64), (axis.input + axis.pad) as i64),
        };
        ((start + axis.kernel as i64).min(high) - start.max(low)) as f32
    };
    let mut all = Vec::new();
    for i in 0..pool.rows.output {
        for j in 0..pool.cols.output {
            all.push(match divisor {
                Divisor::Fixed(n) => n as f32,
                _ => count(&pool.rows, i) * count(&pool.cols, j),
            });
        }
    }
    let shares: Vec<f32> = all.iter().map(|n| 1.0 / n).collect();
    b.graph.floats(&[1, 1, pool.rows.output, pool.cols.output], &shares)
}

fn avg_pool(b: &mut Builder, pool: &Pool2d, divisor: Divisor, x: ValueId) -> Result<ValueId> {
    let (mut window, kernel) = pool_window(pool)?;
    let x = b.reshape(x, &[1, pool.planes, pool.rows.input, pool.cols.input])?;
    let has_pad = window.pad != [[0; 2]; 2];
    if divisor == Divisor::Inside || divisor == Divisor::Padded && !has_pad {
        return b.graph.add(Op::AvgPool { window, kernel }, &[x]);
    }
    // Means over zeros as well, and then by the right number.
    let x = b.pad(x, &[[0, 0], [0, 0], window.pad[0], window.pad[1]])?;
    window.pad = [[0; 2]; 2];
    let mean = b.graph.add(Op::AvgPool { window, kernel }, &[x])?;
    let shares = divisors(b, pool, divisor)?;
    let shares = b.scale(shares, (kernel[0] * kernel[1]) as f32)?;
    b.mul(mean, shares)
}

fn avg_pool_grad(b: &mut Builder, pool: &Pool2d, divisor: Divisor, dy: ValueId) -> Result<ValueId> {
    pool_window(pool)?;
    let Pool2d { planes, rows, cols } = *pool;
    let dy = b.reshape(dy, &[planes, 1, rows.output, cols.output])?;
    let shares = divisors(b, pool, divisor)?;
    let dy = b.mul(dy, shares)?;
    let ones = b.filled(&[1, 1, rows.kernel, cols.kernel], 1.0)?;
    let shape = Conv2d { batch: planes, in_channels: 1, out_channels: 1, groups: 1, rows, cols };
    input_grad(b, &shape, dy, ones)
}
