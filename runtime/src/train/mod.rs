//! Training over an executor: gradients, clipping, accumulation, updates, schedules, checkpoints.

mod graphs;
mod optimizer;
mod privacy;
mod rounds;
mod schedule;
mod staging;
mod states;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use optimizer::{Moments, Optimizer};
pub use privacy::Privacy;
pub use rounds::{Kept, Outer, Rounds};
pub use schedule::{Decay, Schedule};
pub use staging::Staging;
pub use states::States;
pub use tenon_kernels::update::StateFormat;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::executor::{Arena, Executor, Observer};
use crate::graph::{Graph, Source, Value, ValueId};
use crate::io::{checkpoint, spill};
use crate::memory::Plan;
use crate::passes;
use crate::tensor::{Element, Tensor, TensorDesc};
use graphs::Graphs;

/// How the norm that gradients are clipped to is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clipping {
    /// From all gradients of the step, which wait for each other: memory for each is taken.
    #[default]
    Exact,
    /// From a pass of its own, forward and backward, before the step's: no gradient waits, and a
    /// step takes twice as long. The factor is that of `Exact` but for the order of the sum.
    TwoPass,
    /// The greater of the last step's norm and that of this step's gradients so far: no gradient
    /// waits, and the factor is an estimate.
    Running,
}

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The update rule.
    pub optimizer: Optimizer,
    /// How the optimizer's states are stored.
    pub state: StateFormat,
    /// The learning rate.
    pub schedule: Schedule,
    /// Largest global L2 norm of the gradients; `None` does not clip.
    pub clip_norm: Option<f32>,
    /// How that norm is found. Where gradients are accumulated it is always exact.
    pub clipping: Clipping,
    /// Micro-steps whose gradients are averaged before an update; at least 1.
    pub accumulation: usize,
    /// Whether gradients can be read after a step, as `grad/<parameter>`; they then live to its
    /// end.
    pub keep_gradients: bool,
    /// What rounds of federated training make of it.
    pub rounds: Rounds,
    /// How single samples are hidden, if they are.
    pub privacy: Option<Privacy>,
    /// Most bytes the plan may take; what does not fit is made again instead of kept.
    pub memory_budget: Option<usize>,
    /// Folder for a file that states go to where a budget cannot be met otherwise; `None` for none.
    /// A step's update still brings the states of one parameter at a time into memory.
    pub spill: Option<PathBuf>,
    /// Whether inputs have a second buffer each, for [`Trainer::staging`].
    pub stage_inputs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::default(),
            state: StateFormat::default(),
            schedule: Schedule::constant(1e-3),
            clip_norm: None,
            clipping: Clipping::default(),
            accumulation: 1,
            keep_gradients: false,
            rounds: Rounds::default(),
            privacy: None,
            memory_budget: None,
            spill: None,
            stage_inputs: false,
        }
    }
}

/// What a step tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The loss before this step's update; 0 where the graph has none of its own.
    pub loss: f32,
    /// Updates made so far, this one included.
    pub step: u64,
    /// The learning rate used; 0 for a micro-step without an update.
    pub lr: f32,
    /// Global L2 norm of the gradient before clipping, where clipping is on and an update ran.
    pub grad_norm: Option<f32>,
}

/// What [`Trainer::resume`] continues from.
#[derive(Debug)]
pub struct Resumed {
    /// The caller's note.
    pub note: String,
    /// What is wrong with the file asked for, where the one before it was taken.
    pub damaged: Option<Error>,
}

/// A graph in training.
pub struct Trainer {
    options: Options,
    /// How much larger than the loss's its gradients are.
    loss_scale: f32,
    /// Forward and backward, for the norm of the gradients alone.
    measure: Option<Executor>,
    /// Forward and backward; with the update where nothing is accumulated.
    step: Executor,
    /// The update of accumulated gradients.
    apply: Option<Executor>,
    /// What runs between steps.
    rounds: [Option<Executor>; 3],
    /// Forward only; made when first asked for.
    evaluate: Option<Executor>,
    staging: Option<Arc<Staging>>,
    forward: Graph,
    backends: Vec<Arc<dyn Backend>>,
    updates: u64,
    micro: usize,
}

impl Trainer {
    /// Prepares to minimise `loss`, a scalar of `graph`, over the graph's trainable parameters.
    /// `tensors` gives parameters by name; the rest start as zeros. A graph that sends what others go
    /// on from ([`Graph::send`]) may have no loss of its own.
    ///
    /// # Errors
    /// [`Error::Usage`] for unusable options or when nothing trains; [`Error::Budget`]; as
    /// [`gradients`] and [`Executor::new`].
    pub fn new(
        graph: Graph,
        loss: impl Into<Option<ValueId>>,
        backends: &[Arc<dyn Backend>],
        tensors: &HashMap<String, Tensor>,
        options: Options,
    ) -> Result<Self> {
        let loss_scale = graphs::loss_scale(&graph, backends, &options);
        let (forward, graphs) = graphs::build(graph, loss.into(), &options, loss_scale)?;
        let executors = Executors::new(graphs, backends, &options, tensors.clone())?;
        let Executors { measure, step, apply, rounds } = executors;
        let staging = match backends.first().filter(|_| options.stage_inputs) {
            Some(first) => Some(Arc::new(Staging::new(step.graph(), first.allocator())?)),
            None => None,
        };
        let mut this = Self {
            options,
            loss_scale,
            measure,
            step,
            apply,
            rounds,
            evaluate: None,
            staging,
            forward,
            backends: backends.to_vec(),
            updates: 0,
            micro: 0,
        };
        if this.rounds.iter().any(Option::is_some) {
            this.begin_round()?;
        }
        Ok(this)
    }

    /// The graph of a step, after all passes, and the plan that [`Trainer::new`] would make of
    /// it, without touching any weight.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn plan_only(
        graph: Graph,
        loss: impl Into<Option<ValueId>>,
        backends: &[Arc<dyn Backend>],
        options: &Options,
    ) -> Result<(Graph, Plan)> {
        let loss_scale = graphs::loss_scale(&graph, backends, options);
        let (_, mut graphs) = graphs::build(graph, loss.into(), options, loss_scale)?;
        let plan = graphs.plan(backends, options.memory_budget, options.spill.is_some())?.step;
        Ok((graphs.step, plan))
    }

    /// Plans anew within another budget, between two steps: what the system asks for when memory
    /// runs short. Parameters, states, inputs and micro-steps stay as they are; outputs of the last
    /// step are gone.
    ///
    /// # Errors
    /// [`Error::Budget`]; as [`Executor::new`]. The trainer is then as it was.
    pub fn set_memory_budget(&mut self, budget: Option<usize>) -> Result<()> {
        let loss = self.forward.find("loss");
        let forward = self.forward.clone();
        let (_, graphs) = graphs::build(forward, loss, &self.options, self.loss_scale)?;
        let mut tensors = shared(&self.step);
        tensors.extend(self.apply.iter().chain(self.rounds.iter().flatten()).flat_map(shared));
        // The new arena is not touched before the old one is gone.
        let options = Options { memory_budget: budget, ..self.options.clone() };
        let executors = Executors::new(graphs, &self.backends, &options, tensors)?;
        let Executors { measure, step, apply, rounds } = executors;
        (self.measure, self.step, self.apply, self.evaluate) = (measure, step, apply, None);
        self.rounds = rounds;
        self.options = options;
        Ok(())
    }

    /// The plan of a step.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.step.plan()
    }

    /// The graph of a step, after all passes.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        self.step.graph()
    }

    /// How it trains.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The inputs that a caller writes before a step, by name: neither what a trainer writes by itself,
    /// nor gradients that come back in the midst of one.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &Value)> {
        staging::inputs(self.graph())
    }

    /// Updates made so far.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Micro-steps made since the last update.
    #[must_use]
    pub fn micro_steps(&self) -> usize {
        self.micro
    }

    /// Writes an input for the next step or evaluation.
    ///
    /// # Errors
    /// As [`Executor::write`].
    pub fn write<T: Element>(&mut self, name: &str, data: &[T]) -> Result<()> {
        self.step.write(name, data)
    }

    /// The second buffers of the inputs ([`Options::stage_inputs`]), for whoever brings the next
    /// batch while a step runs.
    #[must_use]
    pub fn staging(&self) -> Option<&Arc<Staging>> {
        self.staging.as_ref()
    }

    /// Makes what was staged the inputs, and tells `taken` their names. The others stay as they are.
    ///
    /// # Errors
    /// [`Error::Usage`] where nothing is staged, or inputs have no second buffers.
    pub fn take_staged(&mut self, taken: impl FnMut(&str)) -> Result<()> {
        let why = "inputs have no second buffers: ask for them by the option stage_inputs";
        let staging = self.staging.as_ref().ok_or_else(|| Error::Usage(why.into()))?;
        staging.take(&self.step, taken)
    }

    /// Where the graph sends values that gradients come back for: runs forward, on the inputs
    /// written, until all are there to read. [`Trainer::step`] goes on from there once the gradients
    /// are written; what lies between is kept in the step's memory. Another call starts afresh.
    ///
    /// # Errors
    /// As [`Executor::run_to_wait`].
    pub fn forward(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.set_scalars()?;
        self.step.run_to_wait(observer)
    }

    /// Runs one step on the inputs written; every [`Options::accumulation`]-th one updates. Where the
    /// graph sends values that gradients come back for, the rest of a step that [`Trainer::forward`]
    /// began.
    ///
    /// # Errors
    /// [`Error::Cancelled`] where the observer stopped it; what a backend reports. The step does
    /// not count then, and neither do the micro-steps before it: their sums may hold a part of it.
    /// [`Error::Usage`] where no forward run waits; micro-steps count on then.
    pub fn step(&mut self, observer: &mut dyn Observer) -> Result<Report> {
        let made = self.micro_step(observer);
        if made.as_ref().is_err_and(|error| !matches!(error, Error::Usage(_))) {
            self.micro = 0;
        }
        made
    }

    /// Writes what a step needs beside the caller's inputs.
    fn set_scalars(&mut self) -> Result<f32> {
        let number = self.updates + 1;
        let lr = self.options.schedule.at(number);
        let first = self.micro == 0;
        let seed = self.micro_number();
        set(&mut self.step, "train.seed", &[seed])?;
        set(&mut self.step, "train.keep", &[f32::from(u8::from(!first))])?;
        let share = self.share();
        for executor in std::iter::once(&mut self.step).chain(&mut self.apply) {
            set(executor, "train.lr", &[lr])?;
            set(executor, "train.step", &[number as f32])?;
            set(executor, "train.scale", &[share])?;
        }
        Ok(lr)
    }

    fn micro_step(&mut self, observer: &mut dyn Observer) -> Result<Report> {
        let lr = self.set_scalars()?;
        if let Some(measure) = &mut self.measure {
            measure.run(observer)?;
            let mut norm = [0f32];
            measure.read(graphs::GRAD_NORM, &mut norm)?;
            self.step.write(graphs::NORM, &norm)?;
        }
        if self.step.has_wait() { self.step.resume(observer) } else { self.step.run(observer) }?;
        self.micro += 1;
        let loss = loss(&self.step)?;
        let updated = self.micro == self.options.accumulation;
        if updated {
            if let Some(apply) = &mut self.apply {
                apply.run(observer)?;
            }
            self.micro = 0;
            self.updates += 1;
        }
        Ok(Report {
            loss,
            step: self.updates,
            lr: if updated { lr } else { 0.0 },
            grad_norm: if updated { self.grad_norm()? } else { None },
        })
    }

    /// The loss on the inputs written (0 where the graph has none), without an update: dropout is off, and batch norms take
    /// their running statistics where they have some. It takes turns with the step in its arena:
    /// outputs of the last step, other than inputs, parameters and states, are gone.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<f32> {
        if self.evaluate.is_none() {
            let mut graph = self.forward.clone();
            graph.evaluate_only();
            passes::optimize(&mut graph)?;
            let tensors = shared(&self.step);
            let arena = self.step.shared_arena();
            // In the step's arena, whatever budget that was cut to, if it can be.
            let plan = match Plan::in_arena(&mut graph, &self.backends, arena.bytes()) {
                Err(Error::Budget { .. }) => Plan::new(&graph, &self.backends)?,
                plan => plan?,
            };
            let executor = Executor::bind(graph, plan, &self.backends, &tensors, &arena)?;
            self.evaluate = Some(executor);
        }
        let Some(evaluate) = &mut self.evaluate else { return Err(Error::Cancelled) };
        evaluate.run(observer)?;
        loss(evaluate)
    }

    /// The executor of a step, to read outputs, parameters, states and gradients from.
    #[must_use]
    pub fn executor(&self) -> &Executor {
        &self.step
    }

    /// The executor of a step, to write parameters and states.
    pub fn executor_mut(&mut self) -> &mut Executor {
        &mut self.step
    }

    /// The executor of the last evaluation, to read its outputs from.
    #[must_use]
    pub fn evaluation(&self) -> Option<&Executor> {
        self.evaluate.as_ref()
    }

    /// Names of the parameters that train, in graph order.
    #[must_use]
    pub fn trainable(&self) -> Vec<String> {
        let graph = self.step.graph();
        graph.trainable().into_iter().filter_map(|v| graph.get(v).name.clone()).collect()
    }

    /// Saves what trains, the optimizer's state and the step number to `path`, atomically;
    /// `position` is the caller's note of where its data stands.
    ///
    /// # Errors
    /// [`Error::Io`]; the file at `path` is then as it was. [`Error::Usage`] between micro-steps.
    pub fn save(&self, path: &Path, position: &str) -> Result<()> {
        if self.micro != 0 {
            return Err(Error::Usage("save between updates, not between micro-steps".into()));
        }
        let meta = checkpoint::Meta { step: self.updates, position: position.to_owned() };
        checkpoint::save(path, &self.kept(), &meta)
    }

    /// Continues from a file written by [`Trainer::save`]; gives the caller's note back. Where the
    /// file is damaged, from the one before it, which is kept beside it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`]: the trainer is then as it was.
    pub fn resume(&mut self, path: &Path) -> Result<Resumed> {
        let (saved, damaged) = checkpoint::load_latest(path)?;
        let (kept, mut writes) = (self.kept(), Vec::new());
        for &(name, tensor) in &kept {
            let from = saved.tensor(name).map_err(|e| Error::format(path, e.to_string()))?;
            if from.desc() != tensor.desc() {
                let why = format!(
                    "`{name}` is {} there and {} here; resume with the options it was saved with",
                    from.desc(),
                    tensor.desc()
                );
                return Err(Error::format(path, why));
            }
            writes.push((from, tensor));
        }
        // What has no place here is as telling as what is missing.
        let is_foreign = |name: &&String| !kept.iter().any(|(known, _)| known == name);
        if let Some(name) = saved.tensors().keys().filter(is_foreign).min() {
            let why = format!("holds `{name}`; resume with the options it was saved with");
            return Err(Error::format(path, why));
        }
        for (from, to) in writes {
            // SAFETY: the checkpoint's own memory; nothing writes it.
            to.storage().write(0, unsafe { from.storage().bytes()? })?;
        }
        self.updates = saved.meta.step;
        self.micro = 0;
        Ok(Resumed { note: saved.meta.position, damaged })
    }

    /// What a checkpoint keeps: what trains, and the states of all graphs; where gradients are
    /// accumulated, the optimizer's are the second one's.
    fn kept(&self) -> Vec<(&str, &Tensor)> {
        let mut seen = HashSet::new();
        std::iter::once(&self.step)
            .chain(&self.apply)
            .chain(self.rounds.iter().flatten())
            .flat_map(|executor| {
                let graph = executor.graph();
                executor.persistent().filter(|(name, _)| is_kept(graph, name))
            })
            .filter(|(name, _)| seen.insert(*name))
            .collect()
    }

    fn micro_number(&self) -> i32 {
        // Seeds may wrap; they only have to differ from step to step.
        let share = self.options.accumulation as u64;
        self.updates.wrapping_mul(share).wrapping_add(self.micro as u64) as i32
    }

    /// What sums of gradients are multiplied by.
    fn share(&self) -> f32 {
        1.0 / (self.options.accumulation as f32 * self.loss_scale)
    }

    fn grad_norm(&self) -> Result<Option<f32>> {
        if self.options.clip_norm.is_none() {
            return Ok(None);
        }
        let mut norm = [0f32];
        let executor = self.apply.as_ref().unwrap_or(&self.step);
        executor.read(graphs::GRAD_NORM, &mut norm)?;
        Ok(Some(norm[0] * self.share()))
    }
}

/// What a trainer runs, in this order.
struct Executors {
    measure: Option<Executor>,
    step: Executor,
    apply: Option<Executor>,
    rounds: [Option<Executor>; 3],
}

impl Executors {
    fn new(
        mut graphs: Graphs,
        backends: &[Arc<dyn Backend>],
        options: &Options,
        mut tensors: HashMap<String, Tensor>,
    ) -> Result<Self> {
        let plans = graphs.plan(backends, options.memory_budget, options.spill.is_some())?;
        if let Some(folder) = options.spill.as_ref().filter(|_| plans.step.spilled_bytes() > 0) {
            move_to_file(folder, &graphs.states(), &mut tensors)?;
        }
        let arena = Arena::new(plans.arena, backends)?;
        let step = Executor::bind(graphs.step, plans.step, backends, &tensors, &arena)?;
        let measure = match graphs.measure.zip(plans.measure) {
            None => None,
            Some((graph, plan)) => {
                let mut tensors = shared(&step);
                for value in graph.overwritten() {
                    graph.get(value).name.as_ref().map(|name| tensors.remove(name));
                }
                Some(Executor::bind(graph, plan, backends, &tensors, &arena)?)
            }
        };
        let apply = match graphs.apply {
            None => None,
            Some(graph) => {
                let mut shared = shared(&step);
                shared.extend(tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
                Some(Executor::new(graph, backends, &shared)?)
            }
        };
        let mut rounds = [None, None, None];
        for (executor, graph) in rounds.iter_mut().zip(graphs.rounds) {
            let Some(graph) = graph else { continue };
            let mut known = shared(&step);
            known.extend(apply.iter().flat_map(shared));
            known.extend(tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
            let plan = Plan::new(&graph, backends)?;
            let made = Executor::bind(graph, plan, backends, &known, &arena)?;
            tensors.extend(shared(&made));
            *executor = Some(made);
        }
        Ok(Self { measure, step, apply, rounds })
    }
}

/// Moves states to a file in `folder`, unless they lie in one.
fn move_to_file(
    folder: &Path,
    states: &[(String, TensorDesc)],
    tensors: &mut HashMap<String, Tensor>,
) -> Result<()> {
    let in_memory = |(name, _): &&(String, TensorDesc)| {
        tensors.get(name).is_none_or(|tensor| !tensor.storage().is_mapped())
    };
    let (names, descs): (Vec<_>, Vec<_>) = states.iter().filter(in_memory).cloned().unzip();
    for (name, tensor) in names.into_iter().zip(spill::tensors(folder, &descs)?) {
        if let Some(kept) = tensors.get(&name) {
            // SAFETY: nothing runs, and the two storages are distinct.
            tensor.storage().write(0, unsafe { kept.storage().bytes()? })?;
        }
        tensors.insert(name, tensor);
    }
    Ok(())
}

/// Whether a value changes as training goes on.
fn is_kept(graph: &Graph, name: &str) -> bool {
    graph
        .find(name)
        .map(|v| graph.get(v))
        .is_some_and(|value| value.is_trainable() || matches!(value.source, Source::State))
}

/// The loss of the last run, 0 where the graph has none.
fn loss(executor: &Executor) -> Result<f32> {
    let mut loss = [0f32];
    if executor.graph().find("loss").is_some() {
        executor.read("loss", &mut loss)?;
    }
    Ok(loss[0])
}

/// Writes an input if the executor's graph has it.
fn set<T: Element>(executor: &mut Executor, name: &str, data: &[T]) -> Result<()> {
    match executor.graph().find(name) {
        Some(_) => executor.write(name, data),
        None => Ok(()),
    }
}

/// What other executors of the same training run share: inputs, parameters, states.
fn shared(executor: &Executor) -> HashMap<String, Tensor> {
    executor.kept().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
}
