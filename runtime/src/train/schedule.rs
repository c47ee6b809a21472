//! Learning-rate schedules.

use crate::error::{Error, Result};

/// The shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decay {
    /// It stays.
    #[default]
    Constant,
    /// It falls to 0 in a straight line.
    Linear,
    /// It falls to 0 along half a cosine (Loshchilov and Hutter 2017).
    Cosine,
}

/// A learning rate over the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The peak.
    pub lr: f32,
    /// Steps over which it rises from `lr / warmup` to `lr`.
    pub warmup: u64,
    /// Steps of the whole run; where decay ends.
    pub total: u64,
    /// See [`Decay`].
    pub decay: Decay,
}

impl Schedule {
    /// The same rate at every step.
    #[must_use]
    pub fn constant(lr: f32) -> Self {
        Self { lr, warmup: 0, total: 0, decay: Decay::Constant }
    }

    /// The rate of step `step`, counted from 1.
    #[must_use]
    pub fn at(&self, step: u64) -> f32 {
        if step <= self.warmup {
            return self.lr * (step as f32 / self.warmup as f32);
        }
        let span = self.total.saturating_sub(self.warmup).max(1) as f32;
        let done = ((step - self.warmup) as f32 / span).min(1.0);
        match self.decay {
            Decay::Constant => self.lr,
            Decay::Linear => self.lr * (1.0 - done),
            Decay::Cosine => self.lr * 0.5 * (1.0 + (std::f32::consts::PI * done).cos()),
        }
    }

    /// Refuses a rate that is negative or not finite.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(&self) -> Result<()> {
        if self.lr.is_finite() && self.lr >= 0.0 {
            Ok(())
        } else {
            Err(Error::Usage(format!("a learning rate of {} cannot be used", self.lr)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_and_decays() {
        let s = Schedule { lr: 1.0, warmup: 4, total: 14, decay: Decay::Linear };
        assert_eq!([1, 2, 4].map(|i| s.at(i)), [0.25, 0.5, 1.0]);
        assert!((s.at(9) - 0.5).abs() < 1e-6 && s.at(14).abs() < 1e-6 && s.at(99) == 0.0);
        let cosine = Schedule { decay: Decay::Cosine, ..s };
        assert!((cosine.at(9) - 0.5).abs() < 1e-6 && cosine.at(5) > 0.97);
        assert_eq!(Schedule::constant(0.1).at(1_000_000), 0.1);
    }
}
