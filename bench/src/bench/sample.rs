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
    /// How many samples there are.
    pub(crate) samples: usize,
    /// Energy of a call, where the system tells of the whole machine's.
    pub(crate) joules: Option<f64>,
    /// Cores that other processes used meanwhile, where they are not next to nothing.
    pub(crate) others: Option<f64>,
}

/// Calls `run` for about `time`, but some times at least.
pub(crate) fn sample(time: Duration, run: &mut dyn FnMut() -> Result<()>) -> Result<Sample> {
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
    let fewest = if time.is_zero() { FEWEST_LATE } else { FEWEST };
    while seconds.len() < fewest || start.elapsed() < time {
        let sample = Instant::now();
        for _ in 0..calls {
            run()?;
        }
        seconds.push(sample.elapsed().as_secs_f64() / f64::from(calls));
    }
    let took = begin.elapsed().as_secs_f64();
    let runs = (seconds.len() * calls as usize) as f64;
    let joules = energy.zip(machine::energy()).map(|(before, after)| (after - before) / runs);
    let others = load.zip(machine::Load::now()).map(|(before, after)| after.others(&before, took));
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
    Ok(Sample {
        median: at(0.5),
        best: seconds[0],
        spread: (at(0.9) - at(0.1)) / at(0.5),
        samples: seconds.len(),
        joules: joules.filter(|&j| j > 0.0),
        others: others.filter(|&cores| cores > DISTURBED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_takes_as_long_as_it_does() {
        let nap = Duration::from_millis(3);
        let mut calls = 0;
        let taken = sample(Duration::from_millis(60), &mut || {
            calls += 1;
            std::thread::sleep(nap);
            Ok(())
        });
        let taken = taken.unwrap();
        assert!(taken.best >= nap.as_secs_f64() && taken.median >= taken.best);
        assert!(taken.samples >= FEWEST && taken.samples < calls && taken.spread >= 0.0);
    }
}
