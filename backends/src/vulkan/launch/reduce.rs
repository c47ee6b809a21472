//! Reductions along axes, in two passes of a fixed order, the global norm and the factor it gives.

use tenon_kernels::reduce::Reduce;

use super::{Binding, Job, LANES, MAX_PARAMS, Place, read, word, write};
use crate::vulkan::shader::Shader;

/// Numbers of kernels of `reduce.comp`.
const SUM: u32 = 0;
const MAX: u32 = 1;
const SQUARES: u32 = 2;
/// Numbers of kernels of `finish.comp`.
const NORM: u32 = 4;
const CLIP: u32 = 5;
/// Most terms of a part: more are cut, where there are few results.
const PART: usize = 8192;
/// Workgroups that keep a device busy.
const BUSY: usize = 128;

/// One pass.
struct Pass<'a> {
    kind: u32,
    results: usize,
    terms: usize,
    /// Terms of a part.
    part: usize,
    factor: f32,
    /// Size and stride, the innermost first.
    kept: &'a [[usize; 2]],
    reduced: &'a [[usize; 2]],
    /// Of the result, elements to its first.
    first: usize,
}

impl Pass<'_> {
    fn run(&self, job: &mut Job<'_>, x: Binding, y: Binding) -> Option<()> {
        let along = self.reduced.first().is_some_and(|axis| axis[1] == 1);
        let terms = self.part.min(self.terms);
        // A row is shared by up to a whole workgroup; columns by as many as leave 32 of them.
        let most = if along { 256 } else { 8 };
        let across = terms.next_power_of_two().min(most).max(1);
        let factor = self.factor.to_bits();
        let mut params = vec![
            word(self.results)?,
            word(self.terms)?,
            word(self.part)?,
            factor,
            word(self.first)?,
        ];
        for axis in self.kept.iter().chain(self.reduced) {
            params.extend([word(axis[0])?, word(axis[1])?]);
        }
        if params.len() > MAX_PARAMS {
            return None;
        }
        let (kept, reduced) = (self.kept.len() as u32, self.reduced.len() as u32);
        let constants = [LANES, self.kind, across as u32, u32::from(along), kept, reduced];
        let groups = self.results.div_ceil(LANES as usize / across);
        let parts = self.terms.div_ceil(self.part).max(1);
        job.grid(Shader::Reduce, &constants, &params, &[x, y], [groups, parts, 1])
    }
}

pub(super) fn launch(job: &mut Job<'_>, kind: Reduce, axes: &[usize]) -> Option<()> {
    let shape = job.input(0).shape().to_vec();
    let (mut kept, mut reduced): (Vec<[usize; 2]>, Vec<[usize; 2]>) = (Vec::new(), Vec::new());
    let mut stride = 1;
    let mut before = None;
    for (i, &size) in shape.iter().enumerate().rev().filter(|(_, size)| **size != 1) {
        let is_reduced = axes.contains(&i);
        let list = if is_reduced { &mut reduced } else { &mut kept };
        match list.last_mut() {
            Some(last) if before == Some(is_reduced) => last[0] *= size,
            _ => list.push([size, stride]),
        }
        before = Some(is_reduced);
        stride *= size;
    }
    let terms: usize = reduced.iter().map(|axis| axis[0]).product();
    let results: usize = kept.iter().map(|axis| axis[0]).product();
    let number = if kind == Reduce::Max { MAX } else { SUM };
    let factor = if kind == Reduce::Mean { 1.0 / terms as f32 } else { 1.0 };
    if terms == 0 {
        let value = if kind == Reduce::Max { f32::NEG_INFINITY } else { 0.0 };
        return super::elementwise::fill(job, job.outputs[0], value);
    }
    let (x, y) = (job.reads(0), job.writes(0));
    let part = terms.div_ceil((BUSY * 32 / results.max(1)).max(1)).clamp(256, PART);
    let all = Pass {
        kind: number,
        results,
        terms,
        part: terms,
        factor,
        kept: &kept,
        reduced: &reduced,
        first: 0,
    };
    let parts = terms.div_ceil(part);
    if parts == 1 || results * parts > 1 << 22 {
        return all.run(job, x, y);
    }
    let partial = job.scratch(parts * results);
    Pass { part, factor: 1.0, ..all }.run(job, x, write(partial))?;
    let joined = Pass {
        terms: parts,
        part: parts,
        kept: &[[results, 1]],
        reduced: &[[parts, results]],
        ..all
    };
    joined.run(job, read(partial), y)
}

/// The L2 norm of all inputs: sums of squares of parts, then the root of their sum.
pub(super) fn norm(job: &mut Job<'_>) -> Option<()> {
    let sizes: Vec<usize> = job.signature.inputs.iter().map(|d| d.numel()).collect();
    let all: usize = sizes.iter().map(|n| n.div_ceil(PART)).sum();
    let partial = job.scratch(all);
    let mut first = 0;
    // An input that no binding takes by pieces, of whole parts.
    let most = (job.limits.piece() / 4 / PART * PART).max(PART);
    for (i, &n) in sizes.iter().enumerate() {
        for start in (0..n).step_by(most) {
            let terms = most.min(n - start);
            let reduced = [[terms, 1]];
            let pass = Pass {
                kind: SQUARES,
                results: 1,
                terms,
                part: PART,
                factor: 1.0,
                kept: &[],
                reduced: &reduced,
                first,
            };
            let x = read(job.inputs[i].from(start * 4).first(terms * 4));
            pass.run(job, x, write(partial))?;
            first += terms.div_ceil(PART);
        }
    }
    finish(job, NORM, [word(all)?, 0], [partial, partial], job.outputs[0])
}

pub(super) fn clip_scale(job: &mut Job<'_>, max_norm: f32) -> Option<()> {
    let (inputs, to) = ([job.inputs[0], job.inputs[1]], job.outputs[0]);
    finish(job, CLIP, [0, max_norm.to_bits()], inputs, to)
}

fn finish(
    job: &mut Job<'_>,
    kind: u32,
    params: [u32; 2],
    [x, other]: [Place; 2],
    to: Place,
) -> Option<()> {
    let bindings = [read(x), read(x), read(other), write(to)];
    job.run(Shader::Finish, &[LANES, kind], &params, &bindings, 1)
}
