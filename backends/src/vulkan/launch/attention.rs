//! Attention, forward and backward.

use tenon_kernels::attention::Attention;

use super::{Binding, Job, LANES, read, word, write};
use crate::vulkan::shader::Shader;

/// Queries and keys of a tile.
const TILE: usize = 32;
/// Widest head: in the backward pass its sums take a quarter as many registers of an invocation.
const MOST_DIM: usize = 512;

/// Constants and parameters of all the shaders, and the mask, which is input `at`.
fn common(job: &Job<'_>, shape: &Attention, at: usize) -> Option<([u32; 3], Vec<u32>, Binding)> {
    if shape.dim > MOST_DIM {
        return None;
    }
    let has_mask = job.inputs.len() > at;
    let flags =
        u32::from(shape.causal) | u32::from(shape.window.is_some()) << 1 | u32::from(has_mask) << 2;
    let mut params =
        [shape.queries, shape.keys, shape.heads, shape.kv_heads, shape.dim].map(word).to_vec();
    params.push(Some(shape.scale.to_bits()));
    params.push(word(shape.window.unwrap_or(0).min(shape.queries + shape.keys)));
    for back in [3, 2, 1] {
        let stride = if has_mask {
            let (sizes, strides) = (job.input(at).shape(), job.input(at).shape().strides());
            let axis = sizes.len().checked_sub(back + 1);
            axis.filter(|&axis| sizes[axis] > 1).map_or(0, |axis| strides[axis])
        } else {
            0
        };
        params.push(word(stride));
    }
    let constants = [LANES, flags, word(shape.dim.div_ceil(TILE))?];
    let mask = job.reads(if has_mask { at } else { 0 });
    Some((constants, params.into_iter().collect::<Option<_>>()?, mask))
}

pub(super) fn launch(job: &mut Job<'_>, shape: &Attention) -> Option<()> {
    let (constants, params, mask) = common(job, shape, 3)?;
    let [q, k, v] = [0, 1, 2].map(|i| job.reads(i));
    let bindings = [q, k, v, mask, job.writes(0), job.writes(1)];
    let grid = [shape.queries.div_ceil(TILE), shape.heads, shape.batch];
    job.grid(Shader::Attention, &constants, &params, &bindings, grid)
}

pub(super) fn grad(job: &mut Job<'_>, shape: &Attention) -> Option<()> {
    let (constants, params, mask) = common(job, shape, 6)?;
    let [q, k, v, out, dout, lse] = [0, 1, 2, 3, 4, 5].map(|i| job.reads(i));
    let of_rows = shape.batch * shape.heads * shape.queries;
    let rows = job.scratch(2 * of_rows);
    let delta = [word(of_rows)?, word(shape.queries)?, word(shape.heads)?, word(shape.dim)?];
    let groups = of_rows.div_ceil(LANES as usize / 8);
    job.run(Shader::AttentionDelta, &[LANES], &delta, &[out, dout, lse, write(rows)], groups)?;
    let inputs = [q, k, v, mask, dout, read(rows)];
    let mut bindings = inputs.to_vec();
    bindings.push(job.writes(0));
    let grid = [shape.queries.div_ceil(TILE), shape.heads, shape.batch];
    job.grid(Shader::AttentionQueries, &constants, &params, &bindings, grid)?;
    let mut bindings = inputs.to_vec();
    bindings.extend([job.writes(1), job.writes(2)]);
    let grid = [shape.keys.div_ceil(TILE), shape.kv_heads, shape.batch];
    job.grid(Shader::AttentionKeys, &constants, &params, &bindings, grid)
}
