//! One thing again and again, to see a device grow warm.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;
use tenon_runtime::Result;

use super::machine;
use super::row::{Ready, Row};
use super::sample::sample;

/// How long one point takes.
const WINDOW: Duration = Duration::from_millis(500);

/// Speed and heat over time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Soak {
    /// What ran.
    pub(crate) of: String,
    /// Its points, in order.
    pub(crate) points: Vec<Point>,
}

/// Half a second of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Point {
    /// When it ended, from the beginning on.
    pub(crate) seconds: f64,
    /// Calls a second, relative to the fastest point.
    pub(crate) speed: f64,
    /// Of the hottest sensor, where the system tells.
    pub(crate) celsius: Option<f64>,
}

impl Soak {
    /// Runs it for so many seconds.
    pub(crate) fn run(row: &Row, ready: &mut Ready, seconds: f64) -> Result<Self> {
        let (start, mut points) = (Instant::now(), Vec::new());
        let bar = ProgressBar::new(seconds.ceil() as u64).with_message("soaking");
        while start.elapsed().as_secs_f64() < seconds {
            let taken = sample(WINDOW, &mut ready.run)?;
            let seconds = start.elapsed().as_secs_f64();
            points.push(Point { seconds, speed: 1.0 / taken.median, celsius: machine::heat() });
            bar.set_position(seconds as u64);
        }
        bar.finish_and_clear();
        let fastest = points.iter().fold(0.0, |most: f64, point| most.max(point.speed));
        points.iter_mut().for_each(|point| point.speed /= fastest);
        Ok(Self { of: row.key(), points })
    }
}

impl Display for Soak {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let slowest = self.points.iter().map(|point| point.speed).fold(1.0, f64::min);
        let last = self.points.last().map_or(1.0, |point| point.speed);
        let heat = self.points.iter().filter_map(|point| point.celsius);
        let hottest = heat.fold(f64::NEG_INFINITY, f64::max);
        write!(
            f,
            "{} for {:.0} s: at the end {:.0} % of its fastest, {:.0} % at its slowest",
            self.of,
            self.points.last().map_or(0.0, |point| point.seconds),
            100.0 * last,
            100.0 * slowest
        )?;
        if hottest.is_finite() { write!(f, ", up to {hottest:.0} degrees C") } else { Ok(()) }
    }
}
