//! Parity with the references on every level.

use super::batch_norm::{BatchNorm, Normalize, NormalizeGrad, normalize, normalize_grad};
use super::implicit::Implicit;
use super::pool::{self, Divisor, Pool2d};
use super::reference::{self, AVG_TOLERANCE, CONV_TOLERANCE, NORM_TOLERANCE};
use super::{
    Axis, Conv2d, Direct, Direction, WeightGrad, convolve, grad_weight, pack_weight, sum_parts,
};
use crate::Isa;

/// Numbers in (-1, 1) from a seed (splitmix64).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let most = want.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * most, "{what}[{i}]: {g} for {w} (greatest {most})");
    }
}

/// Tasks in the order given, or backwards.
fn order(n: usize, reverse: bool) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| if reverse { n - 1 - i } else { i })
}

fn run_direct(
    isa: Isa,
    shape: Conv2d,
    direction: Direction,
    (src, weight, bias): (&[f32], &[f32], Option<&[f32]>),
    reverse: bool,
) -> Vec<f32> {
    let (channels, rows, cols) = match direction {
        Direction::Forward => (shape.out_channels, shape.rows.output, shape.cols.output),
        Direction::InputGrad => (shape.in_channels, shape.rows.input, shape.cols.input),
    };
    let mut dst = vec![f32::NAN; shape.batch * channels * rows * cols];
    let mut packed = vec![f32::NAN; shape.packed_len(direction)];
    let args = Direct {
        shape,
        direction,
        src: src.as_ptr(),
        weight: weight.as_ptr(),
        packed: packed.as_mut_ptr(),
        bias: bias.map(<[f32]>::as_ptr),
        dst: dst.as_mut_ptr(),
    };
    let mut scratch = vec![f32::NAN; shape.scratch(direction)];
    for task in order(shape.pack_tasks(direction), reverse) {
        // SAFETY: every buffer above has the size its shape states.
        unsafe { pack_weight(isa, &args, task) };
    }
    for task in order(shape.tasks(direction), reverse) {
        // SAFETY: every buffer above has the size its shape states.
        unsafe { convolve(isa, &args, task, &mut scratch) };
    }
    dst
}

fn run_weight(isa: Isa, shape: Conv2d, x: &[f32], dy: &[f32], reverse: bool) -> Vec<f32> {
    let mut parts = vec![f32::NAN; shape.weight_parts() * shape.weight_len()];
    let (x, dy) = (x.as_ptr(), dy.as_ptr());
    let args = WeightGrad { shape, x, dy, parts: parts.as_mut_ptr() };
    let mut scratch = vec![f32::NAN; shape.weight_scratch()];
    for task in order(shape.weight_tasks(), reverse) {
        // SAFETY: every buffer above has the size its shape states.
        unsafe { grad_weight(isa, &args, task, &mut scratch) };
    }
    let mut dw = vec![f32::NAN; shape.weight_len()];
    for task in order(shape.sum_tasks(), reverse) {
        // SAFETY: as above, and every weight task has ended.
        unsafe { sum_parts(isa, &args, dw.as_mut_ptr(), task) };
    }
    dw
}

fn check_conv(shape: Conv2d) {
    let x = noise(shape.batch * shape.in_channels * shape.rows.input * shape.cols.input, 1);
    let w = noise(shape.weight_len(), 2);
    let dy = noise(shape.batch * shape.out_channels * shape.rows.output * shape.cols.output, 3);
    let bias = noise(shape.in_channels.max(shape.out_channels), 4);
    let mut y = reference::conv(&shape, &x, &w);
    let plane = shape.rows.output * shape.cols.output;
    for (i, y) in y.iter_mut().enumerate() {
        *y += bias[i / plane % shape.out_channels];
    }
    let dx = reference::conv_grad_input(&shape, &w, &dy);
    let dw = reference::conv_grad_weight(&shape, &x, &dy);
    for isa in Isa::available() {
        let name = format!("{} {shape:?}", isa.name());
        let got = run_direct(isa, shape, Direction::Forward, (&x, &w, Some(&bias)), false);
        close(&format!("{name} y"), &got, &y, CONV_TOLERANCE);
        let got = run_direct(isa, shape, Direction::InputGrad, (&dy, &w, None), false);
        close(&format!("{name} dx"), &got, &dx, CONV_TOLERANCE);
        let got = run_weight(isa, shape, &x, &dy, false);
        close(&format!("{name} dw"), &got, &dw, CONV_TOLERANCE);
    }
}

fn conv(channels: (usize, usize, usize), rows: Axis, cols: Axis) -> Conv2d {
    let (in_channels, out_channels, groups) = channels;
    Conv2d { batch: 3, in_channels, out_channels, groups, rows, cols }
}

#[test]
fn convolves_with_every_stride_dilation_and_padding() {
    for kernel in [1, 2, 3, 5] {
        for stride in [1, 2, 3] {
            for dilation in [1, 2, 3] {
                for pad in [(0, 0), (1, 2), (3, 0)] {
                    let rows = Axis::new(13, kernel, stride, dilation, pad).unwrap();
                    let cols = Axis::new(17, kernel.min(3), stride, dilation, pad).unwrap();
                    check_conv(conv((3, 5, 1), rows, cols));
                }
            }
        }
    }
}

#[test]
fn convolves_with_different_axes() {
    let rows = Axis::new(9, 3, 3, 2, (2, 1)).unwrap();
    let cols = Axis::new(20, 4, 2, 1, (0, 3)).unwrap();
    check_conv(conv((4, 6, 2), rows, cols));
    check_conv(conv((4, 6, 2), cols, rows));
}

#[test]
fn convolves_groups_and_many_channels() {
    let rows = Axis::new(7, 3, 1, 1, (1, 1)).unwrap();
    let cols = Axis::new(8, 3, 2, 1, (1, 1)).unwrap();
    for channels in [(1, 1, 1), (8, 8, 8), (6, 12, 6), (70, 70, 1), (66, 33, 3), (40, 150, 1)] {
        check_conv(conv(channels, rows, cols));
    }
}

#[test]
fn convolves_channels_that_fill_tiles() {
    let axis = |n, kernel, stride, dilation, pad| {
        Axis::new(n, kernel, stride, dilation, (pad, pad)).unwrap()
    };
    let both = [Direction::Forward, Direction::InputGrad];
    // Channels, kernel, stride, dilation, padding, and which directions are gemm's product.
    for (channels, kernel, stride, dilation, pad, takes) in [
        ((130, 100, 1), 3, 1, 1, 1, [true, true]),
        ((96, 20, 1), 3, 1, 2, 2, [false, true]),
        ((200, 192, 2), 2, 1, 1, 0, [true, true]),
        ((20, 70, 1), 3, 2, 1, 1, [true, false]),
        ((30, 65, 1), 1, 1, 1, 0, [true, true]),
        ((32, 48, 2), 1, 1, 1, 1, [true, true]),
        ((30, 65, 1), 1, 2, 1, 0, [true, true]),
        ((16, 20, 1), 1, 3, 1, 1, [true, true]),
    ] {
        let rows = axis(7, kernel, stride, dilation, pad);
        let shape = conv(channels, rows, axis(9, kernel, stride, dilation, pad));
        assert_eq!(both.map(|d| Implicit::of(&shape, d).is_some()), takes, "{shape:?}");
        check_conv(shape);
        check_conv(Conv2d { batch: 1, rows: axis(20, kernel, stride, dilation, pad), ..shape });
    }
}

#[test]
fn convolves_one_channel_to_one() {
    for (kernel, stride, dilation, pad) in [
        (3, 1, 1, (1, 1)),
        (3, 2, 1, (1, 1)),
        (5, 1, 2, (0, 3)),
        (2, 2, 3, (2, 0)),
        (3, 3, 1, (1, 0)),
    ] {
        for (rows, cols) in [(9, 7), (14, 16), (30, 37), (70, 150)] {
            let rows = Axis::new(rows, kernel, stride, dilation, pad).unwrap();
            let cols = Axis::new(cols, kernel, stride, dilation, pad).unwrap();
            check_conv(conv((5, 5, 5), rows, cols));
        }
    }
}

#[test]
fn convolves_bands_of_large_images() {
    let rows = Axis::new(90, 3, 2, 1, (1, 1)).unwrap();
    let cols = Axis::new(120, 5, 1, 1, (2, 2)).unwrap();
    let shape = Conv2d { batch: 1, ..conv((20, 36, 1), rows, cols) };
    assert!(shape.tasks(Direction::Forward) > 1 && shape.tasks(Direction::InputGrad) > 1);
    check_conv(shape);
    check_conv(Conv2d { in_channels: 36, groups: 36, ..shape });
}

#[test]
fn sums_partial_weight_gradients() {
    let axis = Axis::new(6, 3, 1, 1, (1, 1)).unwrap();
    for channels in [(2, 5, 1), (3, 3, 3)] {
        let shape = Conv2d { batch: 37, ..conv(channels, axis, axis) };
        assert!(shape.weight_parts() > 1);
        check_conv(shape);
    }
}

#[test]
fn transposed_convolution_fills_what_no_tap_reaches() {
    // Output padding: an input longer than the outputs' windows cover.
    let axis = |input, output| Axis { input, output, kernel: 2, stride: 4, dilation: 1, pad: 1 };
    check_conv(conv((2, 3, 1), axis(17, 4), axis(15, 4)));
}

#[test]
fn bits_do_not_depend_on_the_order_of_tasks() {
    let axis = Axis::new(40, 3, 1, 1, (1, 1)).unwrap();
    let shape = Conv2d { batch: 5, ..conv((12, 70, 1), axis, axis) };
    let x = noise(5 * 12 * 1600, 1);
    let w = noise(shape.weight_len(), 2);
    let dy = noise(5 * 70 * 1600, 3);
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for isa in Isa::available() {
        for direction in [Direction::Forward, Direction::InputGrad] {
            let src = if direction == Direction::Forward { &x } else { &dy };
            let run = |reverse| run_direct(isa, shape, direction, (src, &w, None), reverse);
            assert_eq!(bits(&run(false)), bits(&run(true)));
        }
        let run = |reverse| run_weight(isa, shape, &x, &dy, reverse);
        assert_eq!(bits(&run(false)), bits(&run(true)));
    }
}

fn pools() -> Vec<Pool2d> {
    let mut pools = Vec::new();
    for (kernel, stride, dilation, pad) in
        [(1, 1, 1, 0), (2, 2, 1, 0), (3, 2, 1, 1), (3, 1, 1, 1), (3, 3, 2, 1), (2, 1, 3, 0)]
    {
        for ceil in [false, true] {
            let axis = |n| Axis::pooled(n, kernel, stride, dilation, pad, ceil).unwrap();
            pools.push(Pool2d { planes: 3, rows: axis(11), cols: axis(38) });
        }
    }
    let axis = |n| Axis::pooled(n, 2, 2, 1, 0, false).unwrap();
    pools.push(Pool2d { planes: 100, rows: axis(28), cols: axis(28) });
    pools
}

#[test]
fn pools_by_maximum() {
    for shape in pools() {
        let mut x = noise(shape.planes * shape.rows.input * shape.cols.input, 5);
        // Ties, minus infinity and NaN, whose places PyTorch fixes.
        x.iter_mut().step_by(3).for_each(|x| *x = 0.5);
        x.iter_mut().skip(1).step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
        x[7] = f32::NAN;
        let (want, places) = reference::max_pool(&shape, &x);
        let dy = noise(want.len(), 6);
        let mut dwant = vec![0.0; x.len()];
        let (input, output) = (shape.rows.input * shape.cols.input, want.len() / shape.planes);
        for (i, &place) in places.iter().enumerate() {
            dwant[i / output * input + place as usize] += dy[i];
        }
        for isa in Isa::available() {
            let mut y = vec![0.0; want.len()];
            let mut indices = vec![0; want.len()];
            let mut dx = vec![f32::NAN; x.len()];
            for task in 0..shape.tasks() {
                let (y, indices) = (y.as_mut_ptr(), indices.as_mut_ptr());
                // SAFETY: every buffer has the size its shape states.
                unsafe {
                    pool::max_pool(isa, &shape, x.as_ptr(), y, indices, task);
                    pool::max_pool_grad(&shape, dy.as_ptr(), indices, dx.as_mut_ptr(), task);
                }
            }
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&want), "{} {shape:?}", isa.name());
            assert_eq!(indices, places, "{} {shape:?}", isa.name());
            assert_eq!(dx, dwant, "{} {shape:?}", isa.name());
        }
    }
}

#[test]
fn pools_by_average() {
    for shape in pools() {
        if shape.rows.dilation > 1 {
            continue;
        }
        let x = noise(shape.planes * shape.rows.input * shape.cols.input, 7);
        for by in [Divisor::Padded, Divisor::Inside, Divisor::Fixed(5)] {
            let want = reference::avg_pool(&shape, by, &x);
            let dy = noise(want.len(), 8);
            let dwant = reference::avg_pool_grad(&shape, by, &dy);
            for isa in Isa::available() {
                let mut y = vec![f32::NAN; want.len()];
                let mut dx = vec![f32::NAN; x.len()];
                for task in 0..shape.tasks() {
                    // SAFETY: every buffer has the size its shape states.
                    unsafe {
                        pool::avg_pool(isa, &shape, by, x.as_ptr(), y.as_mut_ptr(), task);
                        pool::avg_pool_grad(isa, &shape, by, dy.as_ptr(), dx.as_mut_ptr(), task);
                    }
                }
                close(&format!("{} {by:?} {shape:?}", isa.name()), &y, &want, AVG_TOLERANCE);
                close(&format!("{} {by:?} {shape:?} dx", isa.name()), &dx, &dwant, AVG_TOLERANCE);
            }
        }
    }
}

#[test]
fn an_average_over_a_last_window_counts_as_pytorch_does() {
    // One row of 4 with padding 1, kernel 3, stride 3, ceil: windows [-1, 2) and [2, 5).
    let cols = Axis::pooled(4, 3, 3, 1, 1, true).unwrap();
    let rows = Axis::pooled(1, 1, 1, 1, 0, false).unwrap();
    let shape = Pool2d { planes: 1, rows, cols };
    let x = [1.0, 2.0, 3.0, 4.0];
    for (by, want) in [(Divisor::Padded, [1.0, 7.0 / 3.0]), (Divisor::Inside, [1.5, 3.5])] {
        let mut y = [f32::NAN; 2];
        // SAFETY: the buffers have the sizes of the shape.
        unsafe { pool::avg_pool(Isa::best(), &shape, by, x.as_ptr(), y.as_mut_ptr(), 0) };
        close("average", &y, &want, AVG_TOLERANCE);
    }
    assert_eq!(Axis::pooled(4, 3, 1, 1, 2, false), None);
    assert_eq!(Axis::pooled(2, 5, 1, 1, 0, true), None);
}

struct Norm {
    y: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    running: (Vec<f32>, Vec<f32>),
    grads: [Vec<f32>; 3],
}

fn run_norm(
    isa: Isa,
    shape: BatchNorm,
    [x, weight, bias, dy]: [&[f32]; 4],
    momentum: Option<f32>,
    eps: f32,
) -> Norm {
    let c = shape.channels;
    let mut out = Norm {
        y: vec![f32::NAN; x.len()],
        mean: vec![f32::NAN; c],
        rstd: vec![f32::NAN; c],
        running: (noise(c, 20), noise(c, 21).iter().map(|x| x.abs() + 0.1).collect()),
        grads: [vec![f32::NAN; x.len()], vec![f32::NAN; c], vec![f32::NAN; c]],
    };
    let args = Normalize {
        shape,
        x: x.as_ptr(),
        weight: Some(weight.as_ptr()),
        bias: Some(bias.as_ptr()),
        running: Some((out.running.0.as_mut_ptr(), out.running.1.as_mut_ptr())),
        momentum,
        eps,
        y: out.y.as_mut_ptr(),
        mean: out.mean.as_mut_ptr(),
        rstd: out.rstd.as_mut_ptr(),
    };
    let grad = NormalizeGrad {
        shape,
        x: x.as_ptr(),
        weight: Some(weight.as_ptr()),
        mean: out.mean.as_ptr(),
        rstd: out.rstd.as_ptr(),
        training: momentum.is_some(),
        dy: dy.as_ptr(),
        dx: out.grads[0].as_mut_ptr(),
        dweight: out.grads[1].as_mut_ptr(),
        dbias: out.grads[2].as_mut_ptr(),
    };
    for task in 0..shape.tasks() {
        // SAFETY: every buffer has the size its shape states; a task's channels are its own.
        unsafe {
            normalize(isa, &args, task);
            normalize_grad(isa, &grad, task);
        }
    }
    out
}

#[test]
fn normalizes_batches() {
    let (eps, momentum) = (0.1, 0.3);
    for (batch, channels, len) in
        [(2, 1, 1), (5, 37, 1), (300, 100, 1), (4, 3, 7), (3, 40, 16), (9, 5, 133), (2, 2, 30_000)]
    {
        let shape = BatchNorm { batch, channels, len };
        let mut x = noise(batch * channels * len, 11);
        x.iter_mut().for_each(|x| *x += 3.0);
        let (weight, bias) = (noise(channels, 12), noise(channels, 13));
        let dy = noise(x.len(), 14);
        let want = reference::normalize(&shape, &x, eps);
        for isa in Isa::available() {
            let name = format!("{} {shape:?}", isa.name());
            let close = |what: &str, got: &[f32], want: &[f32]| {
                close(&format!("{name} {what}"), got, want, NORM_TOLERANCE);
            };
            let inputs = [&x[..], &weight, &bias, &dy];
            let got = run_norm(isa, shape, inputs, Some(momentum), eps);
            let of = |i: usize| i / len % channels;
            let affine = |h: &[f32]| -> Vec<f32> {
                h.iter().enumerate().map(|(i, h)| h * weight[of(i)] + bias[of(i)]).collect()
            };
            close("y", &got.y, &affine(&want.y));
            close("mean", &got.mean, &want.mean);
            let rstd: Vec<f32> = want.var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
            close("rstd", &got.rstd, &rstd);
            let grads = reference::normalize_grad(&shape, [&x, &weight, &dy], None, eps);
            for (what, (got, want)) in
                ["dx", "dweight", "dbias"].iter().zip(got.grads.iter().zip(&grads))
            {
                close(what, got, want);
            }
            let old = run_norm(isa, shape, inputs, None, eps);
            let (mean, var) = (&old.running.0, &old.running.1);
            let count = (batch * len) as f32;
            let moved = |old: &[f32], new: &[f32], factor: f32| -> Vec<f32> {
                let mix =
                    |(old, new): (&f32, &f32)| old * (1.0 - momentum) + new * momentum * factor;
                old.iter().zip(new).map(mix).collect()
            };
            close("running mean", &got.running.0, &moved(mean, &want.mean, 1.0));
            close("running var", &got.running.1, &moved(var, &want.var, count / (count - 1.0)));
            let h: Vec<f32> =
                (0..x.len()).map(|i| (x[i] - mean[of(i)]) / (var[of(i)] + eps).sqrt()).collect();
            close("evaluated y", &old.y, &affine(&h));
            let fixed = Some((&mean[..], &var[..]));
            let grads = reference::normalize_grad(&shape, [&x, &weight, &dy], fixed, eps);
            close("evaluated dx", &old.grads[0], &grads[0]);
            close("evaluated dweight", &old.grads[1], &grads[1]);
        }
    }
}
