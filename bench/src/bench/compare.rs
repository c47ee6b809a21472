//! `tenon bench compare`: what became faster or slower between two runs, beyond noise.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tenon_runtime::{Error, Result};

use super::row::Row;
use crate::say;

/// Compare two files that `tenon bench --json` wrote.
///
/// What all rows have in common, such as a machine in a slower phase, is taken out first: a row counts
/// as changed where its times differ by more than 5 %, and by more than the two quietest visits of a run
/// do, from what they did in the middle row.
#[derive(Args, Clone, Debug)]
pub(crate) struct Compare {
    /// The run before.
    before: PathBuf,
    /// The run after.
    after: PathBuf,
    /// Print one JSON object a changed row, and one with the counts.
    #[arg(long)]
    json: bool,
}

/// Least relative difference that is told of.
const NOISE: f64 = 0.05;

/// Fewest rows that have a middle to speak of.
const MIDDLE: usize = 10;

/// A row of both runs.
struct Pair {
    after: Row,
    /// Time after over time before.
    ratio: f64,
    /// What it may differ by.
    noise: f64,
}

impl Compare {
    pub(crate) fn run(&self) -> Result<()> {
        let (before, after) = (read(&self.before)?, read(&self.after)?);
        let (before_rows, after_rows) = (before.len(), after.len());
        let mut pairs = pair(before, after);
        if pairs.is_empty() {
            return Err(Error::Usage("the two files have no row in common".into()));
        }
        let middle = middle(&mut pairs);
        pairs.retain(|pair| {
            !(1.0 / (1.0 + pair.noise)..=1.0 + pair.noise).contains(&(pair.ratio / middle))
        });
        let both = before_rows.min(after_rows);
        let slower = pairs.iter().filter(|pair| pair.ratio > middle).count();
        let counts = json!({
            "slower": slower, "faster": pairs.len() - slower, "same": both - pairs.len(),
            "only_before": before_rows - both, "only_after": after_rows - both, "middle": middle,
        });
        for Pair { after, ratio, noise } in pairs.iter().rev() {
            let ratio = ratio / middle;
            if self.json {
                let Row { kernel, shape, dtype, attrs, isa, backend, threads, .. } = after;
                say(&json!({
                    "kernel": kernel, "shape": shape, "dtype": dtype, "attrs": attrs, "isa": isa,
                    "backend": backend, "threads": threads, "ratio": ratio, "noise": noise,
                })
                .to_string());
            } else {
                let word = if ratio > 1.0 { "slower" } else { "faster" };
                let factor = if ratio > 1.0 { ratio } else { 1.0 / ratio };
                say(&format!("{factor:5.2} x {word}  (noise {noise:.2})  {}", after.key()));
            }
        }
        if self.json {
            say(&counts.to_string());
        } else {
            let [slower, faster, same] = ["slower", "faster", "same"].map(|key| &counts[key]);
            say(&format!(
                "{slower} slower, {faster} faster, {same} the same; the middle row took {middle:.3} of \
                 its time before, which is taken out"
            ));
        }
        Ok(())
    }
}

/// Rows of a file; other lines are passed over.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Usage(format!("cannot read {name}: {error}")))?;
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line)
            .map_err(|error| Error::Usage(format!("{name}, line {}: {error}", i + 1)))?;
        let row = Row::deserialize(&value).ok();
        rows.extend(row.filter(|row| row.median_s > 0.0));
    }
    if rows.is_empty() {
        return Err(Error::Usage(format!("{name} holds no row of `tenon bench --json`")));
    }
    Ok(rows)
}

fn pair(before: Vec<Row>, after: Vec<Row>) -> Vec<Pair> {
    let mut before: HashMap<String, Row> = before.into_iter().map(|row| (row.key(), row)).collect();
    let pairs = after.into_iter().filter_map(|after| {
        let before = before.remove(&after.key())?;
        let ratio = after.median_s / before.median_s;
        let noise = NOISE.max(after.noise()).max(before.noise());
        Some(Pair { after, ratio, noise })
    });
    pairs.collect()
}

/// Sorts by ratio and gives the middle one; 1 where there are few.
fn middle(pairs: &mut [Pair]) -> f64 {
    pairs.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    if pairs.len() < MIDDLE { 1.0 } else { pairs[pairs.len() / 2].ratio }
}

use serde::Deserialize as _;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(times: &[f64]) -> Vec<Row> {
        let row = |(i, &median_s)| Row { kernel: format!("k{i}"), median_s, ..Row::default() };
        times.iter().enumerate().map(row).collect()
    }

    #[test]
    fn a_slower_machine_is_taken_out_and_a_slower_kernel_is_found() {
        let before = vec![1.0; 21];
        let mut after = vec![1.1; 21];
        after[7] = 1.1 * 1.15;
        after[9] = 1.1 / 1.2;
        let mut pairs = pair(rows(&before), rows(&after));
        let middle = middle(&mut pairs);
        assert!((middle - 1.1).abs() < 1e-9);
        let changed: Vec<_> = pairs
            .iter()
            .filter(|p| (p.ratio / middle - 1.0).abs() > p.noise)
            .map(|p| p.after.kernel.as_str())
            .collect();
        assert_eq!(changed, ["k9", "k7"]);
    }
}
