//! The backend that both bridges are: partitions on an [`Engine`], the rest on the CPU.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tenon_runtime::backend::{Backend, Device, Launch, Outcome, Part, Program, Signature};
use tenon_runtime::ops::Cost;
use tenon_runtime::tensor::Allocator;
use tenon_runtime::{Error, Result, TensorDesc};

use super::codes::{observed, ranges, with_coded_weights};
use super::engine::{Compiled, Engine};
use super::graph::Graph;
use super::lower;
use super::op::{Affine, Op};
use super::partition::{self, Lowered, Worth};
use super::program::{Accelerated, Calibration, Mixed};
use super::table::Target;
use super::transform::half;
use super::trust::{Key, Trust, Verdict};

/// What accelerators compute in. Masters, sums over micro-steps and optimizers stay f32 on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// f32, as on the CPU.
    #[default]
    F32,
    /// Half precision, in which inputs and outputs cross, too.
    F16,
    /// Frozen weights of products in codes of 8 bits, in blocks with a scale each, which the
    /// accelerator decodes; the rest in f32.
    Weights8,
    /// Forward products in codes of 8 bits, results too, by ranges that first runs in f32 measure; the
    /// rest in f32. As [`Compute::Weights8`] where the accelerator has no such products.
    Int8,
}

impl Compute {
    /// The names, as users give them.
    pub const NAMES: &[(&str, Self)] =
        &[("f32", Self::F32), ("f16", Self::F16), ("w8", Self::Weights8), ("int8", Self::Int8)];
}

/// How a bridge chooses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What it computes in.
    pub compute: Compute,
    /// What a partition must bring.
    pub worth: Worth,
    /// Most partitions of one graph: the best are taken.
    pub most: usize,
    /// A graph that takes longer to compile is not used.
    pub compile_limit: Duration,
    /// Whether the first run of a graph is compared with the CPU's.
    pub compare: bool,
    /// Runs that measure ranges.
    pub calibration: usize,
    /// What losses are multiplied by on the way back in half precision: a power of two.
    pub loss_scale: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compute: Compute::F32,
            worth: Worth::default(),
            most: 32,
            compile_limit: Duration::from_secs(30),
            compare: true,
            calibration: 4,
            loss_scale: 4096.0,
        }
    }
}

impl Options {
    /// What the environment says: `TENON_NPU_COMPUTE` ([`Compute::NAMES`]), and with
    /// `TENON_NPU_ALL=1` even partitions that do not seem worth it.
    ///
    /// # Errors
    /// [`Error::Usage`] for another word.
    pub fn from_env() -> Result<Self> {
        let word = |name| std::env::var(name).unwrap_or_default();
        let compute = match word("TENON_NPU_COMPUTE").as_str() {
            "" => Compute::F32,
            name => match Compute::NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, compute)) => *compute,
                None => {
                    let known: Vec<&str> = Compute::NAMES.iter().map(|(name, _)| *name).collect();
                    let why =
                        format!("TENON_NPU_COMPUTE={name}: it is one of {}", known.join(", "));
                    return Err(Error::Usage(why));
                }
            },
        };
        let worth = if word("TENON_NPU_ALL") == "1" { Worth::ALL } else { Worth::default() };
        Ok(Self { compute, worth, ..Self::default() })
    }

    /// How far a first run may be from the CPU's: each number of f32 by the largest magnitude of its
    /// output, else all of an output by their norm.
    pub(super) fn tolerance(&self) -> f32 {
        match self.compute {
            Compute::F32 => 1e-3,
            Compute::F16 => 5e-2,
            Compute::Int8 | Compute::Weights8 => 1e-2,
        }
    }
}

/// What a backend and its programs share.
pub(super) struct Shared {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) options: Options,
    outcomes: Mutex<Vec<Outcome>>,
    /// How often ranges were asked to be measured anew.
    pub(super) asked: AtomicUsize,
}

impl Shared {
    pub(super) fn note(&self, range: Range<usize>, accelerated: bool, why: &str) {
        let outcome = Outcome { steps: range.len(), accelerated, why: why.to_owned() };
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
    }

    /// The graph compiled, unless it is known to be bad or takes too long.
    pub(super) fn compile(&self, graph: &Graph) -> std::result::Result<Ready, String> {
        let about = self.engine.describe();
        let key = Key::new(graph, &about);
        let mut trust = Trust::new(about.bridge, key);
        let is_known = match trust.read() {
            Verdict::Bad(why) => return Err(why),
            Verdict::Works => true,
            Verdict::Unknown => !self.options.compare,
        };
        trust.trying();
        // By another thread: a driver may never come back.
        let (send, receive) = mpsc::channel();
        let (engine, owned) = (self.engine.clone(), graph.clone());
        let job = move || drop(send.send(engine.compile(&owned, &key.0)));
        let started = std::thread::Builder::new().name("tenon-npu".to_owned()).spawn(job);
        let compiled = match started.map(|_| receive.recv_timeout(self.options.compile_limit)) {
            Ok(Ok(Ok(compiled))) => Ok(compiled),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(_)) => Err("it took too long to compile".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match compiled {
            Ok(compiled) => {
                if is_known {
                    trust.works();
                }
                // Systems take their time to tell: the first time is enough.
                let first = (!is_known).then(|| self.engine.placement(graph, &key.0)).flatten();
                let placement = first.map_or_else(String::new, |words| format!(": {words}"));
                Ok(Ready { compiled, trust, is_known, placement })
            }
            Err(why) => {
                trust.bad(&why);
                Err(why)
            }
        }
    }
}

/// See the [module](self).
pub struct Npu {
    cpu: Arc<dyn Backend>,
    target: Target,
    shared: Arc<Shared>,
    /// What was asked before: a plan asks for the same nodes many times.
    known: Mutex<HashMap<Asked, Vec<(Launch, bool)>>>,
}

/// What a [`Signature`] holds but for the launch's parameters, some of which are floats.
#[derive(PartialEq, Eq, Hash)]
struct Asked {
    class: Discriminant<Launch>,
    inputs: Vec<TensorDesc>,
    outputs: Vec<TensorDesc>,
}

impl Asked {
    fn new(signature: Signature<'_>) -> Self {
        let owned = |descs: &[&TensorDesc]| descs.iter().map(|&desc| desc.clone()).collect();
        let class = discriminant(signature.launch);
        Self { class, inputs: owned(signature.inputs), outputs: owned(signature.outputs) }
    }
}

impl Npu {
    /// A backend over an engine, with the CPU for all that it does not take.
    #[must_use]
    pub fn new(
        engine: Arc<dyn Engine>,
        target: Target,
        cpu: Arc<dyn Backend>,
        options: Options,
    ) -> Self {
        let (outcomes, asked) = (Mutex::default(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { engine, options, outcomes, asked });
        Self { cpu, target, shared, known: Mutex::default() }
    }

    /// What became of all that could run on the accelerator, in the order in which it was decided.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ranges are measured anew, in the runs to come.
    pub fn recalibrate(&self) {
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Partitions of a part: neighbours that the accelerator itself runs, if they are worth it.
    fn candidates(&self, part: &Part<'_>) -> Vec<(Range<usize>, Lowered, f64)> {
        let whole = 0..part.steps.len();
        let supported = match self.lowered(part, &whole) {
            Ok((lowered, _)) if lowered.inputs.is_empty() || lowered.outputs.is_empty() => {
                return Vec::new();
            }
            Ok((lowered, _)) => self.by_step(&lowered, part.steps.len()),
            Err(error) => Err(error),
        };
        let supported = match supported {
            Ok(supported) => supported,
            Err(error) => {
                self.shared.note(whole, false, &error.to_string());
                return Vec::new();
            }
        };
        let steps: Vec<usize> = whole.collect();
        let runs = steps.chunk_by(|&a, &b| supported[a] == supported[b]);
        let runs = runs.map(|run| run[0]..run[0] + run.len());
        let mut found = Vec::new();
        for range in runs {
            if !supported[range.start] {
                self.shared.note(range, false, "the accelerator's driver does not take these");
                continue;
            }
            match self.lowered(part, &range) {
                // What reads nothing is computed once, on the CPU.
                Ok((lowered, _)) if lowered.inputs.is_empty() || lowered.outputs.is_empty() => {}
                Ok((lowered, gain)) if gain > 0.0 => found.push((range, lowered, gain)),
                Ok(_) => self.shared.note(range, false, "not worth the way there and back"),
                Err(error) => self.shared.note(range, false, &error.to_string()),
            }
        }
        found
    }

    fn lowered(&self, part: &Part<'_>, range: &Range<usize>) -> Result<(Lowered, f64)> {
        let mut lowered = partition::lower(self.target, part, range)?;
        let (steps, worth) = (&part.steps[range.clone()], self.shared.options.worth);
        let gain = partition::gain(worth, &*self.cpu, steps, &lowered.inputs, &lowered.outputs);
        match self.compute() {
            Compute::F16 => lowered.graph = half(&lowered.graph)?,
            Compute::Weights8 => {
                let (graph, from) = with_coded_weights(&lowered.graph, &lowered.forward)?;
                lowered.graph = graph;
                lowered.steps = from.iter().map(|&node| lowered.steps[node]).collect();
                lowered.forward = from.iter().map(|&node| lowered.forward[node]).collect();
            }
            Compute::F32 | Compute::Int8 => {}
        }
        Ok((lowered, gain))
    }

    /// What is computed in, by what was asked for and what the accelerator has.
    fn compute(&self) -> Compute {
        let coded =
            |op| Op::Coded(Box::new(op), Affine { scales: [1.0].into(), zero: 0, axis: None });
        match self.shared.options.compute {
            Compute::Int8 if !self.target.has(&coded(Op::Linear)) => Compute::Weights8,
            compute => compute,
        }
    }

    /// Of each step, whether the driver takes all its nodes.
    fn by_step(&self, lowered: &Lowered, steps: usize) -> Result<Vec<bool>> {
        let mut by_step = vec![true; steps];
        let supported = self.shared.engine.supported(&lowered.graph)?;
        if lowered.steps.len() == supported.len() {
            for (&step, supported) in lowered.steps.iter().zip(supported) {
                by_step[step] &= supported;
            }
        } else if supported.contains(&false) {
            by_step.fill(false);
        }
        Ok(by_step)
    }

    /// What becomes codes is measured first, by a graph that does.
    fn calibration(&self, lowered: &mut Lowered) -> Result<Option<Calibration>> {
        let options = self.shared.options;
        let count = ranges(&lowered.graph, &lowered.forward);
        if self.compute() != Compute::Int8 || count == 0 {
            return Ok(None);
        }
        let measuring = observed(&lowered.graph, &lowered.forward)?;
        Ok(Some(Calibration {
            graph: std::mem::replace(&mut lowered.graph, measuring),
            forward: std::mem::take(&mut lowered.forward),
            maxima: vec![0.0; count],
            left: options.calibration.max(1),
            measuring: None,
            asked: self.shared.asked.load(Ordering::Relaxed),
        }))
    }

    fn finish(
        &self,
        part: Part<'_>,
        chosen: Vec<(Range<usize>, Lowered)>,
    ) -> Result<Box<dyn Program>> {
        let mut of = vec![None; part.steps.len()];
        let mut accelerated = Vec::new();
        for (range, mut lowered) in chosen {
            let calibration = self.calibration(&mut lowered)?;
            let ready = match self.shared.compile(&lowered.graph) {
                Ok(ready) => ready,
                Err(why) => {
                    self.shared.note(range, false, &why);
                    continue;
                }
            };
            // Rounded weights give other answers than the CPU's.
            let is_rounded = self.compute() == Compute::Weights8 && !ready.is_known;
            let judge = is_rounded.then(|| lowered.graph.clone());
            let graph = &lowered.graph;
            let types = |ids: &[super::ValueId]| -> Vec<_> {
                ids.iter().map(|&v| graph.ty(v).dtype.clone()).collect()
            };
            let room = |ids: &[super::ValueId]| -> Vec<Vec<u8>> {
                ids.iter().map(|&v| vec![0; graph.ty(v).bytes()]).collect()
            };
            let what = format!("{} nodes{}", graph.nodes().len(), ready.placement);
            self.shared.note(range.clone(), true, &what);
            of[range.clone()].fill(Some(accelerated.len()));
            accelerated.push(Accelerated {
                range,
                compiled: Some(ready.compiled),
                inputs: room(graph.inputs()),
                outputs: room(graph.outputs()),
                from: lowered.inputs.into_iter().zip(types(graph.inputs())).collect(),
                to: lowered.outputs.into_iter().zip(types(graph.outputs())).collect(),
                checked: lowered.checked,
                is_known: ready.is_known,
                trust: ready.trust,
                calibration,
                judge,
            });
        }
        let cpu = self.cpu.compile(part)?;
        Ok(Box::new(Mixed { cpu, accelerated, of, shared: self.shared.clone() }))
    }
}

/// A compiled graph and what is known of it.
pub(super) struct Ready {
    pub(super) compiled: Box<dyn Compiled>,
    pub(super) trust: Trust,
    pub(super) is_known: bool,
    /// Where the system runs it, if it tells.
    pub(super) placement: String,
}

impl Backend for Npu {
    fn describe(&self) -> Device {
        let about = self.shared.engine.describe();
        Device {
            backend: about.bridge,
            name: about.name,
            level: format!("feature level {}", about.level),
            parallelism: 1,
        }
    }

    fn allocator(&self) -> &dyn Allocator {
        self.cpu.allocator()
    }

    fn supports(&self, signature: Signature<'_>) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(Asked::new(signature)).or_default();
        if let Some((_, taken)) = known.iter().find(|(launch, _)| launch == signature.launch) {
            return *taken;
        }
        let taken = lower::is_taken(self.target, signature);
        known.push((signature.launch.clone(), taken));
        taken
    }

    fn workspace(&self, signature: Signature<'_>) -> usize {
        self.cpu.workspace(signature)
    }

    fn seconds(&self, launch: &Launch, cost: Cost) -> f64 {
        self.cpu.seconds(launch, cost)
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.outcomes()
    }

    fn loss_scale(&self) -> f32 {
        let is_half = self.shared.options.compute == Compute::F16;
        if is_half { self.shared.options.loss_scale } else { 1.0 }
    }

    fn runs_whole(&self) -> bool {
        true
    }

    fn compile(&self, part: Part<'_>) -> Result<Box<dyn Program>> {
        let mut programs = self.compile_all(vec![part])?;
        programs.pop().ok_or_else(|| Error::Graph("a part without a program".to_owned()))
    }

    fn compile_all(&self, parts: Vec<Part<'_>>) -> Result<Vec<Box<dyn Program>>> {
        let mut found: Vec<_> = parts.iter().map(|part| self.candidates(part)).collect();
        let mut gains: Vec<f64> = found.iter().flatten().map(|(.., gain)| *gain).collect();
        gains.sort_by(|a, b| b.total_cmp(a));
        if let Some(&least) = gains.get(self.shared.options.most) {
            for (range, _, gain) in found.iter().flatten() {
                if *gain <= least {
                    self.shared.note(range.clone(), false, "there are better partitions enough");
                }
            }
            found.iter_mut().for_each(|of| of.retain(|(.., gain)| *gain > least));
        }
        let parts = parts.into_iter().zip(found);
        let finish = |(part, chosen): (_, Vec<(_, _, f64)>)| {
            self.finish(
                part,
                chosen.into_iter().map(|(range, lowered, _)| (range, lowered)).collect(),
            )
        };
        parts.map(finish).collect()
    }
}
