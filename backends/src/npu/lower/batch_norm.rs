//! Batch normalisation, forward and backward.
//!
//! Running statistics that training overwrites lie in memory that an accelerator does not write: those
//! forward steps stay on the CPU.

use tenon_kernels::conv::batch_norm::BatchNorm;
use tenon_runtime::Result;

use super::Builder;
use crate::npu::graph::ValueId;
use crate::npu::op::{Reduce, Unary};

/// Batch and positions of [batch, channels, positions].
const WITHIN: [usize; 2] = [0, 2];

fn by_channel(b: &mut Builder, shape: &BatchNorm, x: ValueId) -> Result<ValueId> {
    b.reshape(x, &[1, shape.channels, 1])
}

fn planes(b: &mut Builder, shape: &BatchNorm, x: ValueId) -> Result<ValueId> {
    b.reshape(x, &[shape.batch, shape.channels, shape.len])
}

/// `x`, perhaps running mean and variance, perhaps scale and shift, to `y`, mean and reciprocal
/// standard deviation; `given` are the statistics, else they are the batch's.
pub(super) fn forward(
    b: &mut Builder,
    shape: &BatchNorm,
    eps: f32,
    given: Option<[ValueId; 2]>,
    affine: Option<[ValueId; 2]>,
    x: ValueId,
) -> Result<Vec<ValueId>> {
    let x = planes(b, shape, x)?;
    let mean = match given {
        Some([mean, _]) => by_channel(b, shape, mean)?,
        None => b.reduce(Reduce::Mean, &WITHIN, x)?,
    };
    let centred = b.sub(x, mean)?;
    let variance = match given {
        Some([_, variance]) => by_channel(b, shape, variance)?,
        None => {
            let square = b.mul(centred, centred)?;
            b.reduce(Reduce::Mean, &WITHIN, square)?
        }
    };
    let variance = b.add_scalar(variance, eps)?;
    let rstd = b.unary(Unary::Rsqrt, variance)?;
    let mut y = b.mul(centred, rstd)?;
    if let Some([scale, shift]) = affine {
        let (scale, shift) = (by_channel(b, shape, scale)?, by_channel(b, shape, shift)?);
        y = b.mul(y, scale)?;
        y = b.add(y, shift)?;
    }
    Ok(vec![y, mean, rstd])
}

/// `x, mean, rstd, dy` and perhaps the scale to `dx, dscale, dshift`.
pub(super) fn backward(
    b: &mut Builder,
    shape: &BatchNorm,
    training: bool,
    inputs: &[ValueId],
) -> Result<Vec<ValueId>> {
    let (x, dy) = (planes(b, shape, inputs[0])?, planes(b, shape, inputs[3])?);
    let (mean, rstd) = (by_channel(b, shape, inputs[1])?, by_channel(b, shape, inputs[2])?);
    let centred = b.sub(x, mean)?;
    let hat = b.mul(centred, rstd)?;
    let along = b.mul(dy, hat)?;
    let dscale = b.reduce(Reduce::Sum, &WITHIN, along)?;
    let dshift = b.reduce(Reduce::Sum, &WITHIN, dy)?;
    let mut dx = dy;
    if training {
        // The statistics follow x.
        let share = 1.0 / (shape.batch * shape.len) as f32;
        let (shift, scale) = (b.scale(dshift, share)?, b.scale(dscale, share)?);
        let slope = b.mul(hat, scale)?;
        dx = b.sub(dx, shift)?;
        dx = b.sub(dx, slope)?;
    }
    dx = b.mul(dx, rstd)?;
    if let Some(&scale) = inputs.get(4) {
        let scale = by_channel(b, shape, scale)?;
        dx = b.mul(dx, scale)?;
    }
    Ok(vec![dx, dscale, dshift])
}
