//! Products of int8 operands.

use super::{Job, LANES, word};
use crate::vulkan::shader::Shader;

/// Rows and columns of results of a workgroup.
const TILE: usize = 64;

pub(super) fn launch(job: &mut Job<'_>, trans_b: bool) -> Option<()> {
    let (m, n, k) = (job.output(0).rows(), job.output(0).cols(), job.input(0).cols());
    let single = |i: usize| u32::from(job.input(i).numel() == 1);
    let has_bias = job.inputs.len() > 4;
    let flags = u32::from(trans_b) | single(2) << 1 | single(3) << 2 | u32::from(has_bias) << 3;
    let bias = job.reads(if has_bias { 4 } else { 2 });
    let [a, b, scales_a, scales_b] = [0, 1, 2, 3].map(|i| job.reads(i));
    let bindings = [a, b, scales_a, scales_b, bias, job.writes(0)];
    let grid = [n.div_ceil(TILE), m.div_ceil(TILE), 1];
    let params = [word(m)?, word(n)?, word(k)?];
    match job.limits.matrices.and_then(|matrices| matrices.bytes) {
        Some(size) => {
            let constants = [&[LANES, flags, 0], &size[..]].concat();
            job.grid(Shader::BytesMatrix, &constants, &params, &bindings, grid)
        }
        None => job.grid(Shader::Bytes, &[LANES, flags], &params, &bindings, grid),
    }
}
