//! Kernels over rows of the last axis; losses are in [`super::loss`].

use tenon_kernels::row::rope::Layout;
use tenon_runtime::backend::Row;

use super::{Binding, Job, LANES, word};
use crate::vulkan::shader::Shader;

/// The invocations for rows of so many columns: none is idle where a row is short.
pub(super) fn lanes(cols: usize) -> u32 {
    cols.next_power_of_two().clamp(32, 256) as u32
}

pub(super) fn launch(job: &mut Job<'_>, kind: &Row) -> Option<()> {
    let has = |i: usize| u32::from(job.inputs.len() > i);
    let input = |i: usize| job.reads(if job.inputs.len() > i { i } else { 0 });
    let x = input(0);
    let y = |i: usize| job.writes(i);
    // Number of the kernel, which optional operands there are, eps, in1 to in4, y, out1, out2.
    let (kind, has, eps, inputs, outputs): (u32, u32, f32, [Binding; 4], Vec<Binding>) = match *kind
    {
        Row::Softmax => (0, 0, 0.0, [x; 4], vec![y(0)]),
        Row::LogSoftmax => (1, 0, 0.0, [x; 4], vec![y(0)]),
        Row::SoftmaxGrad => (2, 0, 0.0, [input(1), x, x, x], vec![y(0)]),
        Row::LogSoftmaxGrad => (3, 0, 0.0, [input(1), x, x, x], vec![y(0)]),
        Row::LayerNorm { eps } => {
            (4, has(1) | has(2) << 1, eps, [input(1), input(2), x, x], vec![y(0), y(1), y(2)])
        }
        Row::LayerNormGrad => {
            (5, has(4), 0.0, [input(4), input(1), input(2), input(3)], vec![y(0)])
        }
        Row::RmsNorm { eps } => (6, 1, eps, [input(1), x, x, x], vec![y(0), y(1)]),
        Row::AddRmsNorm { eps } => (7, 1, eps, [input(2), input(1), x, x], vec![y(1), y(2), y(0)]),
        Row::RmsNormGrad => (8, 1, 0.0, [input(1), input(2), input(3), x], vec![y(0)]),
        Row::Rope { layout, inverse } => return rope(job, layout, inverse),
        Row::CrossEntropy { ignore, reduction } => {
            return super::loss::cross_entropy(job, ignore, reduction);
        }
        Row::CrossEntropyGrad { ignore, reduction } => {
            return super::loss::cross_entropy_grad(job, ignore, reduction);
        }
    };
    let cols = job.input(0).cols();
    let rows = job.input(0).numel() / cols.max(1);
    let mut bindings = vec![x];
    bindings.extend(inputs);
    bindings.extend(outputs);
    let params = [word(rows)?, word(cols)?, eps.to_bits()];
    job.run(Shader::Row, &[lanes(cols), kind, has], &params, &bindings, rows)
}

fn rope(job: &mut Job<'_>, layout: Layout, inverse: bool) -> Option<()> {
    let &[batch, seq, heads, dim] = &job.input(0).shape()[..] else { return None };
    let pairs = job.input(1).cols();
    let rows = batch * seq * heads;
    let flags = u32::from(layout == Layout::Interleaved) | u32::from(inverse) << 1;
    let params = [word(rows)?, word(seq)?, word(heads)?, word(dim)?, word(pairs)?];
    let bindings = [job.reads(0), job.reads(1), job.reads(2), job.writes(0)];
    let groups = (rows * (dim - pairs)).div_ceil(LANES as usize);
    job.run(Shader::Rope, &[LANES, flags], &params, &bindings, groups)
}
