//! Timing one thing: warm-up, median and spread, and what disturbed it.

use std::time::{Duration, Instant};

use tenon_runtime::Result;

use super::machine;

/// Least time of a sample: calls shorter than this are timed several at once.
const SAMPLE: Duration = Duration::from_micros(100);

/// Fewest samples that have a median.
const FEWEST: usize = 3;

/// Most that others may take of the time before a figure is called disturbed.
const DISTURBED: f64 = 0.05;

/// How long calls took.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Seconds of a call: the median of the quietest visit.
    pub(crate) median: f64,
    /// The least of all.
    pub(crate) best: f64,
    /// From the tenth to the ninetieth percentile of that visit, relative to the median.
    pub(crate) spread: f64,
    /// How far the next quietest visit's median lies above it, relative to it. Absent where there was
    /// one visit.
    pub(crate) drift: Option<f64>,
    /// How many samples there are, of all visits.
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

/// Visits to one thing. A shared machine has phases of seconds in which others take caches and memory,
/// which no counter tells; what was timed in one of them alone would tell of that phase.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

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
        let (begin, mut seconds) = (Instant::now(), Vec::with_capacity(4096));
        while seconds.len() < FEWEST || start.elapsed() < time {
            let sample = Instant::now();
            for _ in 0..calls {
                run()?;
            }
            seconds.push(sample.elapsed().as_secs_f64() / f64::from(calls));
        }
        let took = begin.elapsed().as_secs_f64();
        let runs = (seconds.len() * calls as usize) as f64;
        let joules = energy.zip(machine::energy()).map(|(before, after)| (after - before) / runs);
        let others =
            load.zip(machine::Load::now()).map(|(before, after)| after.others(&before, took));
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
        self.0.push(Sample {
            median: at(0.5),
            best: at(0.0),
            spread: (at(0.9) - at(0.1)) / at(0.5),
            drift: None,
            samples: seconds.len(),
            joules: joules.filter(|&j| j > 0.0),
            others: others.filter(|&cores| cores > DISTURBED),
        });
        Ok(())
    }

    /// What the visits come to; there was one at least.
    pub(crate) fn sample(mut self) -> Sample {
        self.0.sort_by(|a, b| a.median.total_cmp(&b.median));
        let best = self.0.iter().map(|visit| visit.best).fold(f64::INFINITY, f64::min);
        let next = self.0.get(1).map(|next| next.median);
        let quietest = &self.0[0];
        Sample {
            best,
            drift: next.map(|next| next / quietest.median - 1.0),
            samples: self.0.iter().map(|visit| visit.samples).sum(),
            ..quietest.clone()
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
