//! What the system tells of the machine: its processor, load, energy, heat.
//!
//! All from files of Linux and Android; elsewhere, and where a file may not be read, there is `None`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tenon_backends::cpu::caches;
use tenon_kernels::Isa;

use crate::measure::human;

/// Facts that figures depend on.
pub(crate) fn facts() -> Value {
    let caches = caches();
    json!({
        "tenon": env!("CARGO_PKG_VERSION"),
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": memory(),
        "l2_bytes": caches.l2,
        "l3_bytes": caches.l3,
        "levels": Isa::available().map(Isa::name).collect::<Vec<_>>(),
    })
}

/// The time, for pages and files to tell when they were made.
pub(crate) fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs())
}

/// A fact as people read it.
pub(crate) fn text(name: &str, fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Value::Number(n) if name.ends_with("_bytes") => human(n.as_u64().unwrap_or(0) as usize),
        other => other.to_string(),
    }
}

/// The processor's name.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, name)| name.trim().to_owned())
    };
    // Arm's kernels name parts by number, and boards in another file.
    value("model name").or_else(|| value("Hardware")).or_else(|| {
        let model = fs::read_to_string("/proc/device-tree/model").ok()?;
        Some(model.trim_end_matches('\0').to_owned())
    })
}

/// Cores by kind: how many have which highest clock, such as `4 at 1.8 GHz, 4 at 2.4 GHz`; where
/// clocks are not told, how many.
pub(crate) fn cores() -> String {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut kinds = std::collections::BTreeMap::<u64, usize>::new();
    for core in 0..count {
        let path = format!("/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq");
        let Some(kilohertz) = number(Path::new(&path)) else { return count.to_string() };
        *kinds.entry(kilohertz).or_default() += 1;
    }
    let kinds: Vec<_> =
        kinds.iter().map(|(clock, n)| format!("{n} at {:.1} GHz", *clock as f64 * 1e-6)).collect();
    kinds.join(", ")
}

/// Bytes of memory.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Joules that the machine has used since some moment: the processor's counter, or what a battery has
/// given.
pub(crate) fn energy() -> Option<f64> {
    if let Some(microjoules) = number(Path::new("/sys/class/powercap/intel-rapl:0/energy_uj")) {
        return Some(microjoules as f64 * 1e-6);
    }
    // What is left, in microwatt hours.
    let left = entries("/sys/class/power_supply").find_map(|f| number(&f.join("energy_now")))?;
    Some(-(left as f64) * 3.6e-3)
}

/// The hottest sensor, in degrees Celsius.
pub(crate) fn heat() -> Option<f64> {
    let sensors = entries("/sys/class/thermal").filter_map(|folder| number(&folder.join("temp")));
    sensors.max().map(|thousandths| thousandths as f64 * 1e-3)
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Seconds of processor time so far.
pub(crate) struct Load {
    /// Of all processes, where the system tells.
    all: f64,
    /// Of this one.
    own: f64,
}

impl Load {
    /// Files of Linux count in hundredths of a second.
    const TICK: f64 = 0.01;

    pub(crate) fn now() -> Option<Self> {
        let all = fs::read_to_string("/proc/stat").ok()?;
        let times: Vec<f64> = all
            .lines()
            .next()?
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal
        let [user, nice, system, _, _, irq, softirq, steal, ..] = times[..] else { return None };
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        // The name before the fields may have spaces in it.
        let fields = own.rsplit_once(')')?.1;
        let mut fields = fields.split_whitespace().skip(11).filter_map(|f| f.parse::<f64>().ok());
        let own = fields.next()? + fields.next()?;
        let all = user + nice + system + irq + softirq + steal;
        Some(Self { all: all * Self::TICK, own: own * Self::TICK })
    }

    /// Cores that others used since `before`, `seconds` ago.
    pub(crate) fn others(&self, before: &Self, seconds: f64) -> f64 {
        let others = (self.all - before.all) - (self.own - before.own);
        // Both counters are a tick or two behind.
        ((others - 3.0 * Self::TICK) / seconds).max(0.0)
    }
}
