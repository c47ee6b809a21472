//! Another element type, and random numbers.

use tenon_runtime::DType;

use super::{Binding, Job, LANES, word};
use crate::vulkan::shader::Shader;

/// Elements of an invocation: whole words of any type.
const EACH: usize = 4;

/// A type's number in the shader.
fn code(dtype: DType) -> Option<u32> {
    match dtype {
        DType::F32 => Some(0),
        DType::F16 => Some(1),
        DType::BF16 => Some(2),
        DType::I8 => Some(3),
        DType::U8 => Some(4),
        DType::I32 => Some(5),
        DType::Quant(_) => None,
    }
}

pub(super) fn launch(job: &mut Job<'_>) -> Option<()> {
    let types = [job.input(0).dtype(), job.output(0).dtype()];
    if !types.contains(&DType::F32) {
        return None;
    }
    let (n, operands) = (job.input(0).numel(), [job.reads(0), job.writes(0)]);
    run(job, n, types, operands)
}

/// Casts `n` elements from one type to another.
pub(super) fn run(
    job: &mut Job<'_>,
    n: usize,
    [from, to]: [DType; 2],
    operands: [Binding; 2],
) -> Option<()> {
    let groups = n.div_ceil(EACH * LANES as usize);
    job.run(Shader::Cast, &[LANES, code(from)?, code(to)?], &[word(n)?], &operands, groups)
}

pub(super) fn dropout(job: &mut Job<'_>, keep: f32, stream: u32) -> Option<()> {
    let n = job.input(0).numel();
    let scale = if keep > 0.0 { 1.0 / keep } else { 0.0 };
    let params = [word(n)?, keep.to_bits(), scale.to_bits(), stream];
    let bindings = [job.reads(0), job.reads(1), job.writes(0)];
    let groups = n.div_ceil(EACH * LANES as usize);
    job.run(Shader::Dropout, &[LANES], &params, &bindings, groups)
}

pub(super) fn noise(job: &mut Job<'_>, scale: f32, seed: u64, stream: u32) -> Option<()> {
    let n = job.input(0).numel();
    let params = [word(n)?, scale.to_bits(), seed as u32, (seed >> 32) as u32, stream];
    let bindings = [job.reads(0), job.reads(1), job.writes(0)];
    // Two words make a number.
    let groups = n.div_ceil(EACH / 2 * LANES as usize);
    job.run(Shader::Noise, &[LANES], &params, &bindings, groups)
}
