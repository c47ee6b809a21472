//! Weight formats from f32.

use tenon_kernels::quant::Format;

use super::gemm::format_code;
use super::{Binding, Job, LANES, word};
use crate::vulkan::shader::Shader;

/// The number of int8 codes with a scale for 32, a matrix product's, in the shader.
const INT8: u32 = 10;
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
    run(job, code(format)?, false, job.input(0).cols())
}

pub(super) fn round_trip(job: &mut Job<'_>, format: Format) -> Option<()> {
    run(job, code(format)?, true, job.input(0).cols())
}

fn run(job: &mut Job<'_>, code: u32, rounds: bool, cols: usize) -> Option<()> {
    let (x, y, n) = (job.reads(0), job.writes(0), job.input(0).numel());
    dispatch(job, [code, u32::from(rounds)], [n, cols], [x, y])
}

/// Rounds rows of `cols` elements to int8 codes with a scale for 32 of them.
pub(super) fn int8(job: &mut Job<'_>, [n, cols]: [usize; 2], operands: [Binding; 2]) -> Option<()> {
    dispatch(job, [INT8, 1], [n, cols], operands)
}

fn dispatch(
    job: &mut Job<'_>,
    [code, rounds]: [u32; 2],
    [n, cols]: [usize; 2],
    operands: [Binding; 2],
) -> Option<()> {
    let params = [word(n)?, word(cols.max(1))?];
    let groups = n.div_ceil(EACH).max(n / cols.max(1)).div_ceil(LANES as usize);
    job.run(Shader::Quantize, &[LANES, code, rounds], &params, &operands, groups)
}
