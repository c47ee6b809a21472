//! Weighted sums and means of vectors, in place, at the pace of memory.

use tenon_kernels::exchange::{Stream, Word};

use super::{PART, Workers, each, same_length};
use crate::error::Result;

/// `y[i] = op(y[i], x[i])`, by all threads.
///
/// # Errors
/// [`crate::Error::Usage`] where lengths differ.
pub fn stream<Y: Word, X: Word>(
    workers: &dyn Workers,
    op: Stream,
    y: &mut [Y],
    x: &[X],
) -> Result<()> {
    same_length("the second vector", x.len(), y.len())?;
    let parts = y.chunks_mut(PART).zip(x.chunks(PART));
    each(workers, parts, |(y, x)| op.run(workers.isa(), y, x));
    Ok(())
}

/// `sum += weight * update`: FedAvg's sum (McMahan et al. 2017), one client at a time.
///
/// # Errors
/// As [`stream`].
pub fn accumulate(
    workers: &dyn Workers,
    weight: f32,
    update: &[f32],
    sum: &mut [f32],
) -> Result<()> {
    stream(workers, Stream::AddScaled { weight }, sum, update)
}

/// `sum[i] /= weights[i]`, and 0 where that is 0: the mean of what clients of different sub-models
/// have added up.
///
/// # Errors
/// As [`stream`].
pub fn average(workers: &dyn Workers, weights: &[f32], sum: &mut [f32]) -> Result<()> {
    stream(workers, Stream::Mean, sum, weights)
}
