//! Which backends, and at which levels, a command looks at.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tenon_backends::cpu::{self, Cpu};
use tenon_kernels::Isa;
use tenon_runtime::backend::{Backend, Device, Outcome};
use tenon_runtime::{Error, Result};

/// The options that choose among devices.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Targets {
    /// Only this backend, such as cpu.
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// Only this instruction-set level of the CPU, or `all` of them; `tenon info` lists them.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) isa: Option<String>,
}

/// A backend, and what it says of itself.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) backend: Arc<dyn Backend>,
    /// The CPU, for what the backend does not claim; none where it is the CPU itself.
    pub(crate) fallback: Option<Arc<dyn Backend>>,
    pub(crate) device: Device,
    /// The level, where it is the CPU.
    pub(crate) isa: Option<Isa>,
}

impl Targets {
    /// The CPU at the chosen levels (those of `usual` where none is chosen), then the other devices.
    pub(crate) fn list(
        &self,
        usual: impl Iterator<Item = Isa>,
        threads: Option<NonZero<usize>>,
    ) -> Result<Vec<Target>> {
        let levels: Vec<Isa> = match self.isa.as_deref() {
            None => usual.collect(),
            Some("all") => Isa::available().collect(),
            Some(name) => Isa::available().filter(|isa| isa.name() == name).collect(),
        };
        let mut all = Vec::new();
        for isa in levels {
            let cpu = Cpu::new(cpu::Options { threads, isa: Some(isa), allocator: None })?;
            all.push(Target::new(Arc::new(cpu), Some(isa)));
        }
        let others = tenon_backends::found()?.into_iter().map(|backend| Target::new(backend, None));
        for mut other in others.filter(|t| t.device.backend != "cpu" && self.isa.is_none()) {
            let options = cpu::Options { threads, ..cpu::Options::default() };
            other.fallback = Some(Arc::new(Cpu::new(options)?));
            all.push(other);
        }
        let mut known: Vec<_> = all.iter().map(|target| target.device.backend).collect();
        known.dedup();
        if let Some(name) = &self.backend {
            all.retain(|target| target.device.backend == name);
        }
        if all.is_empty() {
            let levels: Vec<_> = Isa::available().map(Isa::name).collect();
            let (known, levels) = (known.join(", "), levels.join(", "));
            return Err(Error::Usage(match &self.isa {
                Some(isa) => format!("no level `{isa}` here; there are {levels}"),
                None => format!("no such backend here; there is {known}"),
            }));
        }
        Ok(all)
    }
}

impl Target {
    fn new(backend: Arc<dyn Backend>, isa: Option<Isa>) -> Self {
        let device = backend.describe();
        Self { backend, fallback: None, device, isa }
    }

    /// What its graphs run on, in order of preference.
    pub(crate) fn backends(&self) -> Vec<Arc<dyn Backend>> {
        std::iter::once(&self.backend).chain(&self.fallback).cloned().collect()
    }

    /// What ran where, of a device that leaves steps to the CPU by itself: how many in how many graphs,
    /// and why the others did not.
    pub(crate) fn ran(&self) -> Option<Value> {
        let outcomes = self.backend.outcomes();
        if outcomes.is_empty() {
            return None;
        }
        let (mut on_device, mut on_cpu) = (BTreeMap::new(), BTreeMap::new());
        for Outcome { steps, accelerated, why } in &outcomes {
            let of = if *accelerated { &mut on_device } else { &mut on_cpu };
            *of.entry(why.as_str()).or_insert(0usize) += steps;
        }
        let graphs = outcomes.iter().filter(|o| o.accelerated).count();
        let Device { backend, name, level, .. } = &self.device;
        Some(json!({
            "backend": backend, "device": name, "level": level, "graphs": graphs,
            "steps": on_device.values().sum::<usize>(), "on_device": on_device, "on_cpu": on_cpu,
        }))
    }

    /// A short name: the CPU's level, or the backend.
    pub(crate) fn name(&self) -> &str {
        if self.isa.is_some() { &self.device.level } else { self.device.backend }
    }
}
