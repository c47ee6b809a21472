//! Sub-models: a window of every parameter.
//!
//! A client trains the part of a model that it has room for: the first units of each width
//! (HeteroFL: Diao et al. 2021), or a window that moves on by one with every round and goes around
//! (FedRolex: Alam et al. 2022). What clients send back is added up where it came from, with the
//! weight that every element got, so that each has a mean of its own.

use std::ops::Range;

use tenon_kernels::exchange::Stream;

use super::{Workers, same_length};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// A window of an axis, of all parameters whose names end alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// What the names end in.
    pub parameters: String,
    /// The axis.
    pub axis: usize,
    /// Units in the window.
    pub length: usize,
    /// The first of them, modulo the units there are; the window goes around.
    pub start: usize,
    /// Indices that belong together, such as those of an attention head; at least 1.
    pub unit: usize,
}

/// One parameter's windows.
#[derive(Clone, Debug)]
struct Part {
    /// Where it begins in the whole.
    first: usize,
    dims: Shape,
    /// First index and length along each axis.
    windows: Vec<(usize, usize)>,
}

/// A part of a set of parameters, which are one vector, one after the other.
#[derive(Clone, Debug)]
pub struct Submodel {
    parts: Vec<Part>,
    whole: usize,
    part: usize,
}

impl Submodel {
    /// The windows of `axes` in parameters of these names and shapes. Other axes stay whole.
    ///
    /// # Errors
    /// [`Error::NotFound`] where no parameter's name ends so; [`Error::Usage`] for an axis that is
    /// not there, has two windows, or does not hold its window.
    pub fn new(parameters: &[(&str, Shape)], axes: &[Axis]) -> Result<Self> {
        for axis in axes {
            if !parameters.iter().any(|(name, _)| name.ends_with(&axis.parameters)) {
                let known = parameters.iter().take(8).map(|(name, _)| (*name).to_owned());
                return Err(Error::NotFound {
                    kind: "parameter with a name that ends in this,",
                    name: axis.parameters.clone(),
                    known: known.collect(),
                });
            }
        }
        let (mut parts, mut whole, mut part) = (Vec::new(), 0usize, 0usize);
        let add = |sum: usize, n| {
            sum.checked_add(n).ok_or_else(|| Error::Usage("more parameters than memory".into()))
        };
        for (name, dims) in parameters {
            let mut windows: Vec<_> = dims.iter().map(|&dim| (0, dim)).collect();
            let mut seen = [false; crate::tensor::MAX_RANK];
            for axis in axes.iter().filter(|axis| name.ends_with(&axis.parameters)) {
                let window = windows.get_mut(axis.axis).filter(|_| !seen[axis.axis]);
                let window = window.ok_or_else(|| {
                    let at = axis.axis;
                    Error::Usage(format!(
                        "axis {at} of `{name}` {dims} is not there, or given twice"
                    ))
                })?;
                *window = axis.window(name, dims[axis.axis])?;
                seen[axis.axis] = true;
            }
            part = add(part, windows.iter().map(|w| w.1).product())?;
            parts.push(Part { first: whole, dims: *dims, windows });
            whole = add(whole, dims.numel())?;
        }
        Ok(Self { parts, whole, part })
    }

    /// Elements of the whole set.
    #[must_use]
    pub fn whole_count(&self) -> usize {
        self.whole
    }

    /// Elements of the sub-model.
    #[must_use]
    pub fn part_count(&self) -> usize {
        self.part
    }

    /// Copies the windows out, one parameter after the other.
    ///
    /// # Errors
    /// [`Error::Usage`] for another length.
    pub fn extract(&self, whole: &[f32], part: &mut [f32]) -> Result<()> {
        self.check(whole.len(), part.len())?;
        self.runs(|from, to| part[to].copy_from_slice(&whole[from]));
        Ok(())
    }

    /// Adds `weight` times a sub-model's vector to where it came from, and `weight` to the weights
    /// there.
    ///
    /// # Errors
    /// [`Error::Usage`] for another length.
    pub fn add(
        &self,
        workers: &dyn Workers,
        weight: f32,
        part: &[f32],
        sum: &mut [f32],
        weights: &mut [f32],
    ) -> Result<()> {
        self.check(sum.len(), part.len())?;
        same_length("the weights", weights.len(), sum.len())?;
        let isa = workers.isa();
        self.runs(|at, from| {
            Stream::AddScaled { weight }.run(isa, &mut sum[at.clone()], &part[from]);
            weights[at].iter_mut().for_each(|w| *w += weight);
        });
        Ok(())
    }

    fn check(&self, whole: usize, part: usize) -> Result<()> {
        same_length("the whole", whole, self.whole)?;
        same_length("the sub-model", part, self.part)
    }

    /// Calls `run` for every stretch of neighbours: its place in the whole, and in the part.
    fn runs(&self, mut run: impl FnMut(Range<usize>, Range<usize>)) {
        let mut at = 0;
        for part in &self.parts {
            part.runs(|from| {
                let to = at..at + from.len();
                at = to.end;
                run(from, to);
            });
        }
    }
}

impl Axis {
    /// First index and length of the window in an axis of `dim`.
    fn window(&self, name: &str, dim: usize) -> Result<(usize, usize)> {
        let Self { axis, unit, length, .. } = *self;
        let units = dim / unit.max(1);
        if unit == 0 || !dim.is_multiple_of(unit) || length == 0 || length > units {
            let why = format!(
                "axis {axis} of `{name}`, {dim} long, has no {length} units of {unit}: give at most \
                 {units} units, of a length that divides it"
            );
            return Err(Error::Usage(why));
        }
        Ok((self.start % units * unit, length * unit))
    }
}

impl Part {
    /// Stretches of neighbours in the whole, in the order of the part.
    fn runs(&self, mut run: impl FnMut(Range<usize>)) {
        let is_cut = |(&dim, &(first, len)): (&usize, &(usize, usize))| first != 0 || len != dim;
        let cut = self.dims.iter().zip(&self.windows).rposition(is_cut);
        let Some(last) = cut else { return run(self.first..self.first + self.dims.numel()) };
        let strides = self.dims.strides();
        let (first, len) = self.windows[last];
        let (dim, inner) = (self.dims[last], strides[last]);
        let straight = len.min(dim - first);
        let outer: usize = self.windows[..last].iter().map(|w| w.1).product();
        // Strides are as if a dimension of 0 were 1.
        if self.dims.numel() == 0 {
            return;
        }
        for number in 0..outer {
            let (mut rest, mut base) = (number, self.first);
            for axis in (0..last).rev() {
                let (first, len) = self.windows[axis];
                base += (first + rest % len) % self.dims[axis] * strides[axis];
                rest /= len;
            }
            run(base + first * inner..base + (first + straight) * inner);
            if straight < len {
                run(base..base + (len - straight) * inner);
            }
        }
    }
}
