//! One figure: what was timed, how long it took, and how that compares with the roof.

use serde::{Deserialize, Serialize};
use tenon_kernels::gemm::Precision;
use tenon_runtime::Result;
use tenon_runtime::backend::{Device, Launch};
use tenon_runtime::ops::Cost;

use super::peaks::Peaks;
use super::sample::Sample;

/// A row of the results, as `--json` prints it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Row {
    /// The op, or `step` for a whole training step.
    pub(crate) kernel: String,
    /// Shapes of the operands, or the network.
    pub(crate) shape: String,
    /// The type of note among the operands.
    pub(crate) dtype: String,
    /// The op's attributes, or how the network trains.
    pub(crate) attrs: String,
    /// The instruction-set level, or the tier of another backend.
    pub(crate) isa: String,
    /// The backend, or a peer's name.
    pub(crate) backend: String,
    /// Threads.
    pub(crate) threads: usize,
    /// Seconds of a call.
    pub(crate) median_s: f64,
    /// The least.
    pub(crate) best_s: f64,
    /// From the tenth to the ninetieth percentile, relative to the median.
    pub(crate) spread: f64,
    /// How far the next quietest visit's median lies above the quietest's, relative to it; absent
    /// where the row was visited once.
    pub(crate) drift: Option<f64>,
    /// How many samples there are.
    pub(crate) samples: usize,
    /// Floating-point operations a second, in 1e9.
    pub(crate) gflops: f64,
    /// Bytes of operands a second, each read or written once, in 1e9.
    pub(crate) gbps: f64,
    /// The time at the roof over the median.
    pub(crate) fraction_of_peak: Option<f64>,
    /// Which roof it is under: `compute` or `memory`.
    pub(crate) bound: Option<String>,
    /// Tokens or examples a second, of a step.
    pub(crate) per_second: Option<f64>,
    /// What the plan of the call takes, operands included.
    pub(crate) allocated_bytes: usize,
    /// Energy of a call, where the system tells.
    pub(crate) joules: Option<f64>,
    /// What disturbed it, in words.
    pub(crate) disturbed: Option<String>,
}

/// Work of a call, and the precision of its products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) cost: Cost,
    pub(crate) precision: Precision,
    /// Whether it writes next to nothing of what it reads.
    pub(crate) reads: bool,
}

/// Something that can be run again and again.
pub(crate) struct Ready {
    /// What a call does.
    pub(crate) work: Work,
    /// Whether one roof is over all of it; a step has parts under either.
    pub(crate) under_roof: bool,
    /// Tokens or examples of a call.
    pub(crate) items: Option<usize>,
    /// What the plan takes, operands included.
    pub(crate) allocated_bytes: usize,
    /// A picture of a call's memory.
    pub(crate) picture: Option<String>,
    /// A call.
    pub(crate) run: Box<dyn FnMut() -> Result<()>>,
}

impl Row {
    /// On a device.
    pub(crate) fn on(self, device: &Device) -> Self {
        Self { isa: device.level.clone(), backend: device.backend.to_owned(), ..self }
    }

    /// Fills in the times of `sample` and what follows of them.
    pub(crate) fn timed(mut self, sample: &Sample, ready: &Ready, peaks: Option<&Peaks>) -> Self {
        let work = ready.work;
        let Cost { flops, bytes } = work.cost;
        self.median_s = sample.median;
        self.best_s = sample.best;
        self.spread = sample.spread;
        self.drift = sample.drift;
        self.samples = sample.samples;
        self.gflops = flops * 1e-9 / sample.median;
        self.gbps = bytes * 1e-9 / sample.median;
        self.per_second = ready.items.map(|items| items as f64 / sample.median);
        self.allocated_bytes = ready.allocated_bytes;
        self.joules = sample.joules;
        self.disturbed =
            sample.others.map(|cores| format!("other processes used {cores:.2} cores"));
        if let Some(peaks) = peaks.filter(|_| ready.under_roof) {
            let compute = flops * 1e-9 / peaks.gflops(work.precision);
            let memory = bytes * 1e-9 / peaks.gbps(bytes, work.reads);
            self.fraction_of_peak = Some(compute.max(memory) / sample.median);
            self.bound = Some(if compute > memory { "compute" } else { "memory" }.to_owned());
        }
        self
    }

    /// What the median may be wrong by, relative to it: as far as the two quietest visits are apart, or half
    /// of the spread, where there was one visit.
    pub(crate) fn noise(&self) -> f64 {
        self.drift.unwrap_or(self.spread / 2.0)
    }

    /// What the figure is of: equal in runs that can be compared.
    pub(crate) fn key(&self) -> String {
        let Self { kernel, shape, dtype, attrs, isa, backend, threads, .. } = self;
        format!("{kernel} {shape} {dtype} {attrs} {backend} {isa} {threads}")
    }
}

/// The precision of a launch's products.
pub(crate) fn precision(launch: &Launch) -> Precision {
    match launch {
        Launch::Gemm(spec) => spec.precision,
        Launch::LinearLoss(spec) => spec.precision,
        Launch::Bytes { .. } => Precision::Int8,
        _ => Precision::F32,
    }
}
