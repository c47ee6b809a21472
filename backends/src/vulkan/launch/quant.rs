//! Weight formats from f32.

use tenon_kernels::quant::Format;
use tenon_runtime::DType;

use super::gemm::format_code;
use super::{Binding, Job, LANES, read, word, write};
use crate::vulkan::shader::Shader;

/// The number of int8 codes with a scale for 32, a matrix product's, in the shaders.
pub(super) const INT8: u32 = 10;
/// Elements of an invocation.
const EACH: usize = 64;

/// The formats that are encoded here; those of 256 elements fit their scales by a search.
fn code(format: Format) -> Option<u32> {
    match format {
        Format::Q8_0 | Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 => {
            Some(format_code(format))
        }
        _ => None,
    }
}

pub(super) fn encode(job: &mut Job<'_>, format: Format) -> Option<()> {
    if format.is_float() {
        return super::cast::launch(job);
    }
    run(job, code(format)?, false)
}

pub(super) fn round_trip(job: &mut Job<'_>, format: Format) -> Option<()> {
    match format {
        Format::F32 if job.inputs[0] == job.outputs[0] => Some(()),
        Format::F32 => super::elementwise::copy(job, job.inputs[0], job.outputs[0]),
        Format::F16 | Format::BF16 => {
            let n = job.input(0).numel();
            let (x, y, dtype) = (job.reads(0), job.writes(0), DType::from_format(format));
            let rounded = job.scratch(n.div_ceil(2));
            super::cast::run(job, n, [DType::F32, dtype], [x, write(rounded)])?;
            super::cast::run(job, n, [dtype, DType::F32], [read(rounded), y])
        }
        _ => run(job, code(format)?, true),
    }
}

fn run(job: &mut Job<'_>, code: u32, rounds: bool) -> Option<()> {
    let (n, cols) = (job.input(0).numel(), job.input(0).cols());
    let operands = [job.reads(0), job.writes(0)];
    dispatch(job, [code, u32::from(rounds)], [n, cols, n, 0, cols, 1], 0, operands)
}

/// Rows as blocks of int8 codes with an f32 scale for 32 elements of each, or rounded as these have
/// them. Elements, those of a row, rows of a matrix, and elements from one matrix, row and element to
/// the next; then from the start to the first.
pub(super) fn int8(
    job: &mut Job<'_>,
    rounds: bool,
    shape: [usize; 6],
    first: usize,
    operands: [Binding; 2],
) -> Option<()> {
    dispatch(job, [INT8, u32::from(rounds)], shape, first, operands)
}

fn dispatch(
    job: &mut Job<'_>,
    [code, rounds]: [u32; 2],
    shape: [usize; 6],
    first: usize,
    operands: [Binding; 2],
) -> Option<()> {
    let [n, cols, ..] = shape;
    let params = shape.iter().chain([&first]).map(|&x| word(x)).collect::<Option<Vec<u32>>>()?;
    if cols == 0 {
        return Some(());
    }
    let blocks = n / cols * cols.div_ceil(32);
    let groups = blocks.div_ceil(EACH / 32).div_ceil(LANES as usize);
    job.run(Shader::Quantize, &[LANES, code, rounds], &params, &operands, groups)
}
