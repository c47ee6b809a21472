//! Timing one thing: warm-up, median and spread, and what disturbed it.

use std::time::{Duration, Instant};

use tenon_runtime::Result;

use super::machine;

/// Least time of a sample: calls shorter than this are timed several at once.
const SAMPLE: Duration = Duration::from_micros(100);

/// Fewest samples that have a median worth the name.
const FEWEST: usize = 5;

/// The same where there is no time left.
const FEWEST_LATE: usize = 3;

/// Most that others may take of the time before a figure is called disturbed.
const DISTURBED: f64 = 0.05;

/// How long calls took.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Seconds of a call, the median.
    pub(crate) median: f64,
    /// The least.
    pub(crate) best: f64,
    /// From the tenth to the ninetieth percentile, relative to the median.
    pub(crate) spread: f64,
    /// From the least to the greatest median of a visit, relative to the median: what the machine did to
    /// the figure from minute to minute. Absent where there was one visit.
    pub(crate) drift: Option<f64>,
    /// How many samples there are.
    pub(crate) samples: usize,
    /// Energy of a call, where the system tells of the whole machine's.
    pub(crate) joules: Option<f64>,
    /// Cores that other processes used meanwhile, where they are not next to nothing.
    pub(crate) others: Option<f64>,
}

/// Calls `run` for about `time`, but some times at least.
pub(crate) fn sample(time: Duration, run: &mut dyn FnMut() -> Result<()>) -> Result<Sample> {
    let mut samples = Samples::default();
    samples.visit(time, run)?;
    Ok(samples.sample())
}

/// Samples of one thing, taken on several visits: a machine has phases of seconds in which memory, say,
/// is slower, and what was timed in one of them alone would tell of that phase.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Seconds of a call.
    seconds: Vec<f64>,
    /// The median of each visit.
    medians: Vec<f64>,
    /// Calls and seconds of all visits.
    calls: f64,
    took: f64,
    joules: f64,
    /// Core-seconds that other processes used.
    others: f64,
}

impl Samples {
    /// Calls `run` for about `time`, but some times at least.
    pub(crate) fn visit(
        &mut self,
        time: Duration,
        run: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        run()?;
        let mut once = start.elapsed();
        // What is short is warm only after some calls; what is long was warmed by the first.
        while start.elapsed() < time / 8 {
            let call = Instant::now();
            run()?;
            once = once.min(call.elapsed());
        }
        let calls = (SAMPLE.as_secs_f64() / once.as_secs_f64().max(1e-9)).ceil().max(1.0) as u32;
        let (energy, load) = (machine::energy(), machine::Load::now());
        let (begin, before, mut taken) = (Instant::now(), self.seconds.len(), 0);
        let fewest = if time.is_zero() { FEWEST_LATE } else { FEWEST };
        while taken < fewest || start.elapsed() < time {
            let sample = Instant::now();
            for _ in 0..calls {
                run()?;
            }
            self.seconds.push(sample.elapsed().as_secs_f64() / f64::from(calls));
            taken += 1;
        }
        let took = begin.elapsed().as_secs_f64();
        let visit = &mut self.seconds[before..];
        visit.sort_by(f64::total_cmp);
        self.medians.push(visit[taken / 2]);
        self.took += took;
        self.calls += (taken * calls as usize) as f64;
        self.joules += energy.zip(machine::energy()).map_or(0.0, |(before, after)| after - before);
        let others = load.zip(machine::Load::now());
        self.others += others.map_or(0.0, |(before, after)| took * after.others(&before, took));
        Ok(())
    }

    /// What the visits come to; there was one at least.
    pub(crate) fn sample(mut self) -> Sample {
        self.seconds.sort_by(f64::total_cmp);
        self.medians.sort_by(f64::total_cmp);
        let last = (self.seconds.len() - 1) as f64;
        let at = |share: f64| self.seconds[(last * share).round() as usize];
        let visits = self.medians.len();
        let drift = (self.medians[visits - 1] - self.medians[0]) / at(0.5);
        Sample {
            drift: (visits > 1).then_some(drift),
            median: at(0.5),
            best: at(0.0),
            spread: (at(0.9) - at(0.1)) / at(0.5),
            samples: self.seconds.len(),
            joules: Some(self.joules / self.calls).filter(|&j| j > 0.0),
            others: Some(self.others / self.took).filter(|&cores| cores > DISTURBED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_takes_as_long_as_it_does() {
        let nap = Duration::from_millis(3);
        let mut calls = 0;
        let mut samples = Samples::default();
        for _ in 0..2 {
            let call = &mut || {
                calls += 1;
                std::thread::sleep(nap);
                Ok(())
            };
            samples.visit(Duration::from_millis(30), call).unwrap();
        }
        let taken = samples.sample();
        assert!(taken.best >= nap.as_secs_f64() && taken.median >= taken.best);
        assert!(taken.samples >= FEWEST && taken.samples < calls && taken.spread >= 0.0);
    }
}
