//! Convolution, pooling and batch statistics.

use tenon_kernels::conv::pool::{Divisor, Pool2d};
use tenon_kernels::conv::{Axis, Conv, Conv2d, Direction};

use super::{Job, LANES, read, update, word, write};
use crate::vulkan::shader::Shader;

/// Rows and columns of results of a workgroup.
const TILE: usize = 64;
/// Workgroups that keep a device busy.
const BUSY: usize = 64;
/// Least steps of a part of a weight's gradient.
const PART: usize = 256;

/// Kinds of pooling, as `pool.comp` numbers them.
#[derive(Clone, Copy)]
enum Pool {
    Max,
    MaxGrad,
    Avg,
    AvgGrad,
}

pub(super) fn launch(job: &mut Job<'_>, conv: &Conv) -> Option<()> {
    match *conv {
        Conv::Convolve(ref shape, Direction::Forward) => product(job, shape, 0),
        Conv::Convolve(ref shape, Direction::InputGrad) => product(job, shape, 1),
        Conv::GradWeight(ref shape) => product(job, shape, 2),
        Conv::MaxPool(ref shape) => pool(job, shape, Pool::Max, None),
        Conv::MaxPoolGrad(ref shape) => pool(job, shape, Pool::MaxGrad, None),
        Conv::AvgPool(ref shape, by) => pool(job, shape, Pool::Avg, Some(by)),
        Conv::AvgPoolGrad(ref shape, by) => pool(job, shape, Pool::AvgGrad, Some(by)),
        Conv::Normalize { .. } => normalize(job, conv),
        Conv::NormalizeGrad { .. } => normalize_grad(job, conv),
    }
}

/// An axis in the shaders' order.
fn axis(of: &Axis) -> [usize; 6] {
    [of.input, of.output, of.kernel, of.stride, of.dilation, of.pad]
}

fn words(values: impl IntoIterator<Item = usize>) -> Option<Vec<u32>> {
    values.into_iter().map(word).collect()
}

/// Any of the three products; `mode` is the shader's.
fn product(job: &mut Job<'_>, shape: &Conv2d, mode: u32) -> Option<()> {
    let (inputs, outputs) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let taps = shape.rows.kernel * shape.cols.kernel;
    let to = shape.batch * shape.rows.output * shape.cols.output;
    let from = shape.batch * shape.rows.input * shape.cols.input;
    let (m, n, k) = match mode {
        0 => (outputs, to, inputs * taps),
        1 => (inputs, from, outputs * taps),
        _ => (outputs, inputs * taps, to),
    };
    let (down, across) = (m.div_ceil(TILE), n.div_ceil(TILE));
    let wanted = BUSY / (down * across * shape.groups).max(1);
    let parts = if mode == 2 { wanted.min(k / PART).max(1) } else { 1 };
    let part = k.div_ceil(parts).max(1);
    let parts = k.div_ceil(part).max(1);
    let mut params = words([shape.batch, inputs, outputs, shape.groups])?;
    params.extend(words(axis(&shape.rows).into_iter().chain(axis(&shape.cols)))?);
    params.extend(words([part, parts])?);
    let has_bias = mode < 2 && job.inputs.len() > 2;
    let bias = job.reads(if has_bias { 2 } else { 0 });
    let result = job.outputs[0];
    let sums = if parts > 1 { job.scratch(parts * shape.groups * m * n) } else { result };
    let bindings = [job.reads(0), job.reads(1), bias, write(sums)];
    let constants = [LANES, mode, u32::from(has_bias)];
    let grid = [across, down, shape.groups * parts];
    job.grid(Shader::Conv, &constants, &params, &bindings, grid)?;
    if parts > 1 {
        let all = shape.groups * m * n;
        let params = words([all, 1, parts, 0, 1])?;
        let bindings = [read(sums), read(sums), write(result)];
        job.run(Shader::Parts, &[LANES, 0], &params, &bindings, all.div_ceil(LANES as usize))?;
    }
    Some(())
}

fn pool(job: &mut Job<'_>, shape: &Pool2d, kind: Pool, by: Option<Divisor>) -> Option<()> {
    let (by, divisor) = match by {
        Some(Divisor::Inside) => (1, 1.0),
        Some(Divisor::Fixed(n)) => (2, n as f32),
        Some(Divisor::Padded) | None => (0, 1.0),
    };
    let constants = [LANES, kind as u32, by, divisor.to_bits()];
    let mut params = words([shape.planes])?;
    params.extend(words(axis(&shape.rows).into_iter().chain(axis(&shape.cols)))?);
    let (input, output) =
        (shape.rows.input * shape.cols.input, shape.rows.output * shape.cols.output);
    let (x, y) = (job.reads(0), job.writes(0));
    let (index, each) = match kind {
        Pool::Max => (job.writes(1), output),
        Pool::MaxGrad => (job.reads(1), 0),
        Pool::Avg => (x, output),
        Pool::AvgGrad => (x, input),
    };
    let y = if let Pool::MaxGrad = kind { update(job.outputs[0]) } else { y };
    let groups = match kind {
        // A workgroup a plane.
        Pool::MaxGrad => shape.planes,
        _ => (shape.planes * each).div_ceil(LANES as usize),
    };
    job.run(Shader::Pool, &constants, &params, &[x, index, y], groups)
}

/// Bits of the shader's flags.
const GRADIENT: u32 = 1;
const TRAINING: u32 = 2;
const RUNNING: u32 = 4;
const AFFINE: u32 = 8;

fn normalize(job: &mut Job<'_>, conv: &Conv) -> Option<()> {
    let Conv::Normalize { shape, momentum, eps, running, affine } = *conv else { return None };
    let x = job.reads(0);
    let flags = if momentum.is_some() { TRAINING } else { 0 }
        | if running { RUNNING } else { 0 }
        | if affine { AFFINE } else { 0 };
    let scale = if running { 3 } else { 1 };
    let statistic = |i: usize| match (running, momentum) {
        (false, _) => x,
        (true, None) => job.reads(i),
        (true, Some(_)) => update(job.inputs[i]),
    };
    let vector = |i: usize| if affine { job.reads(i) } else { x };
    let bindings = [
        x,
        statistic(1),
        statistic(2),
        vector(scale),
        vector(scale + 1),
        job.writes(0),
        job.writes(1),
        job.writes(2),
    ];
    let mut params = words([shape.batch, shape.channels, shape.len])?;
    params.extend([momentum.unwrap_or(0.0).to_bits(), eps.to_bits()]);
    job.run(Shader::Normalize, &[LANES, flags], &params, &bindings, shape.channels)
}

fn normalize_grad(job: &mut Job<'_>, conv: &Conv) -> Option<()> {
    let Conv::NormalizeGrad { shape, training, affine } = *conv else { return None };
    let flags = GRADIENT | if training { TRAINING } else { 0 } | if affine { AFFINE } else { 0 };
    let bindings = [
        job.reads(0),
        job.reads(1),
        job.reads(2),
        job.reads(if affine { 4 } else { 0 }),
        job.reads(3),
        job.writes(0),
        job.writes(1),
        job.writes(2),
    ];
    let mut params = words([shape.batch, shape.channels, shape.len])?;
    params.extend([0, 0]);
    job.run(Shader::Normalize, &[LANES, flags], &params, &bindings, shape.channels)
}
