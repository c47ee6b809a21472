//! How operands of fewer elements meet those of a result, and where that is cut into parts.

use super::{Binding, Job, Limits, Place, ranges};

/// A part of a result, and of the operands that it is made of.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Of each dimension, the innermost first, its extent and how far it is from one element to the
    /// next in up to three operands. None where all lie alike.
    pub(super) dims: Vec<[usize; 4]>,
    /// The operands.
    pub(super) inputs: Vec<Binding>,
    /// The result.
    pub(super) to: Place,
}

/// The dimensions of a job's result; neighbours that all operands walk alike are one.
pub(super) fn dims(job: &Job<'_>, count: usize) -> Option<Vec<[usize; 4]>> {
    if count > 3 {
        return None;
    }
    let mut next = [1usize; 3];
    let mut dims: Vec<[usize; 4]> = Vec::new();
    for (from_last, &extent) in job.output(0).shape().iter().rev().enumerate() {
        let mut dim = [extent, 0, 0, 0];
        for k in 0..count {
            let own = job.input(k).shape();
            let size = own.len().checked_sub(from_last + 1).map_or(1, |d| own[d]);
            if size != 1 {
                dim[k + 1] = next[k];
                next[k] *= size;
            }
        }
        if extent == 1 {
            continue;
        }
        match dims.last_mut() {
            Some(last) if (1..4).all(|k| dim[k] == last[k] * last[0]) => last[0] *= extent,
            _ => dims.push(dim),
        }
    }
    Some(dims)
}

/// How far one index of the outermost dimension is from the next, and elements of one: of an operand
/// or the result.
#[derive(Clone, Copy)]
struct Step {
    next: usize,
    each: usize,
}

impl Step {
    /// Most indices whose elements are at most so many.
    fn most(self, elements: usize) -> usize {
        match elements.checked_sub(self.each) {
            None => 0,
            Some(rest) => rest.checked_div(self.next).map_or(usize::MAX, |more| more + 1),
        }
    }

    /// What `count` indices from `first` on have. It may begin within a line: elements are read one by
    /// one.
    fn range(self, place: Place, first: usize, count: usize) -> Place {
        place.from(4 * first * self.next).first(4 * ((count - 1) * self.next + self.each))
    }
}

impl Part {
    /// Itself, or parts of it that bindings take: ranges of the outermost dimension, or where one index
    /// is too much, of those inside it.
    pub(super) fn cut(self, limits: &Limits) -> Option<Vec<Self>> {
        let mut places = self.inputs.iter().map(|input| input.place).chain([self.to]);
        if places.all(|place| place.len <= limits.max_binding) {
            return Some(vec![self]);
        }
        let (outer, inner) = self.dims.split_last()?;
        let (operands, result) = steps(outer, inner);
        let used = operands[..self.inputs.len()].iter().chain([&result]);
        let most = used.map(|step| step.most(limits.piece() / 4)).min()?.min(outer[0]);
        let part = |first: usize, count: usize| {
            let mut dims = inner.to_vec();
            dims.push([count, outer[1], outer[2], outer[3]]);
            let inputs = self.inputs.iter().zip(operands);
            let inputs = inputs.map(|(input, step)| Binding {
                place: step.range(input.place, first, count),
                ..*input
            });
            Self { dims, inputs: inputs.collect(), to: result.range(self.to, first, count) }
        };
        if let Some(ranges) = ranges(outer[0], most) {
            return Some(ranges.map(|range| part(range.start, range.len())).collect());
        }
        let inside = |first| {
            let one = part(first, 1);
            Self { dims: inner.to_vec(), ..one }.cut(limits)
        };
        (0..outer[0]).map(inside).collect::<Option<Vec<_>>>().map(|parts| parts.concat())
    }
}

/// The steps of up to three operands, and of the result.
fn steps(outer: &[usize; 4], inner: &[[usize; 4]]) -> ([Step; 3], Step) {
    let size = inner.iter().map(|dim| dim[0]).product();
    let of = |k: usize| Step {
        next: outer[k],
        each: inner.iter().map(|dim| (dim[0] - 1) * dim[k]).sum::<usize>() + 1,
    };
    ([of(1), of(2), of(3)], Step { next: size, each: size })
}
