//! Differentially private gradients (Abadi et al., "Deep Learning with Differential Privacy", 2016):
//! each sample's is clipped, and noise hides what is left of it in their mean.
//!
//! No sample's gradient is made for its norm where the op knows better ("ghost clipping"), and there
//! is one backward pass: the cotangents of all parameters wait for the norms, and are then weighted
//! (Bu et al., "Differentially Private Optimization on Large Model at Small Cost", 2023). Within a
//! memory budget they are made again, as everything that waits.

use super::Options;
use crate::autodiff::Samples;
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::ops::{Add, Affine, Clamp, Noise, Recip};
use crate::tensor::TensorDesc;

/// How single samples are hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Privacy {
    /// Samples in a batch, or micro-batch: equal parts of the first axis of every input that has
    /// any.
    pub samples: usize,
    /// Most L2 norm of the gradient of one sample, over all that trains.
    pub clip: f32,
    /// Standard deviation of the noise on the sum of the clipped gradients of an update, as a
    /// multiple of `clip`; 0 for none.
    pub noise: f32,
    /// Of the noise. Whoever knows it can take the noise away, so that it is not to be 0.
    pub seed: u64,
}

/// Added to a norm before it divides: a gradient of 0 stays 0.
const LEAST: f32 = 1e-6;

/// Most samples in a batch: some ops take nodes for each.
const MOST_SAMPLES: usize = 1 << 16;

impl Privacy {
    /// Refuses what hides nothing, and what would give a sample away.
    pub(super) fn check(&self, graph: &Graph, options: &Options) -> Result<()> {
        let good = (1..=MOST_SAMPLES).contains(&self.samples)
            && self.clip.is_finite()
            && self.clip > 0.0
            && self.noise.is_finite()
            && self.noise >= 0.0;
        if !good {
            return Err(Error::Usage(format!(
                "unusable {self:?}: give samples, at most {MOST_SAMPLES}, a clip norm above 0 and \
                 noise of at least 0"
            )));
        }
        let why = if self.noise > 0.0 && self.seed == 0 {
            "whoever knows the seed can take the noise away: draw one at random, not 0"
        } else if !graph.sent().is_empty() || !graph.received().is_empty() {
            "the norm of a sample's gradient is known only where the whole model is: clip samples in \
             one session"
        } else if options.keep_gradients {
            "gradients that are kept have no noise yet: clip single samples, or keep gradients"
        } else {
            return Ok(());
        };
        Err(Error::Usage(why.into()))
    }

    /// Adds, for each parameter that the loss depends on, the mean over the samples of their clipped
    /// gradients.
    pub(super) fn gradients(
        &self,
        graph: &mut Graph,
        seeds: &[(ValueId, ValueId)],
        trained: &[ValueId],
    ) -> Result<Vec<(ValueId, ValueId)>> {
        let samples = Samples::new(graph, seeds, trained, self.samples)?;
        let with_gradient: Vec<usize> = (0..trained.len()).filter(|&i| samples.has(i)).collect();
        let mut total: Option<ValueId> = None;
        for &i in &with_gradient {
            let norms = samples.norms(graph, i)?;
            total = Some(match total {
                None => norms,
                Some(sum) => graph.add(Add, &[sum, norms])?,
            });
        }
        let Some(total) = total else { return Ok(Vec::new()) };
        // Sums of products may come out a little below 0.
        let total = graph.add(Clamp { lo: 0.0, hi: f32::INFINITY }, &[total])?;
        let norm = graph.call("sqrt", &[], &[total])?[0];
        // The loss is the mean over the samples.
        let norm = graph.add(Affine { mul: self.samples as f32, add: LEAST }, &[norm])?;
        let share = graph.add(Recip, &[norm])?;
        let share = graph.add(Affine { mul: self.clip, add: 0.0 }, &[share])?;
        let factors = graph.add(Clamp { lo: 0.0, hi: 1.0 }, &[share])?;
        let weighted = |i| Ok((trained[i], samples.weighted(graph, i, factors)?));
        with_gradient.into_iter().map(weighted).collect()
    }

    /// Adds noise to each gradient: to the mean of a batch, or the sum of such means.
    pub(super) fn hide(
        &self,
        graph: &mut Graph,
        pairs: &[(ValueId, ValueId)],
    ) -> Result<Vec<(ValueId, ValueId)>> {
        if self.noise == 0.0 {
            return Ok(pairs.to_vec());
        }
        let step = step(graph)?;
        let scale = self.noise * self.clip / self.samples as f32;
        let hidden = |(stream, &(parameter, gradient)): (usize, &(ValueId, ValueId))| {
            // Graphs have far fewer than 2^32 parameters.
            let noise = Noise { scale, seed: self.seed, stream: stream as u32 };
            Ok((parameter, graph.add(noise, &[gradient, step])?))
        };
        pairs.iter().enumerate().map(hidden).collect()
    }
}

/// The input for the number of the update.
pub(super) fn step(graph: &mut Graph) -> Result<ValueId> {
    match graph.find("train.step") {
        Some(step) => Ok(step),
        None => graph.input("train.step", TensorDesc::f32(&[])?),
    }
}
