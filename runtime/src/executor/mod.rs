//! Binds a planned graph to memory and backends, and runs it without allocating.

mod arena;
mod bound;
mod calibrated;
mod profile;
mod traffic;

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

pub(crate) use arena::Arena;
use bound::bound;
pub use calibrated::Calibrated;
pub use profile::{Profile, Span};
use traffic::{Place, Spans, Uses};

use crate::backend::{Backend, Launch, Memory, Operand, Part, Program, Step};
use crate::error::{Error, Result};
use crate::graph::{Graph, Source, ValueId};
use crate::memory::{Plan, PlannedNode, descs};
use crate::ops::Cost;
use crate::tensor::{Element, Storage, Tensor, TensorDesc};

/// Slot of the arena in [`Memory`].
const ARENA: usize = 0;

/// Nodes within which a mapped weight is read again soon enough to stay: those of an MLP.
const SOON: usize = 16;

/// Told of progress between nodes, and may stop the run there.
///
/// A stopped run leaves parameters and states as the nodes before it left them: an update that
/// ran has run.
pub trait Observer {
    /// `done` of `total` nodes have run; `next` runs next. The run waits for as long as this takes:
    /// a pause, or a rest for a device that grows warm, is a call that returns late.
    fn before(&mut self, done: usize, total: usize, next: &Task) -> ControlFlow<()>;

    /// The node told of last has been run, or handed to a device that works on.
    fn after(&mut self) {}
}

/// An observer that does nothing.
impl Observer for () {
    fn before(&mut self, _: usize, _: usize, _: &Task) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What an observer is told of a node.
#[derive(Clone, Debug)]
pub struct Task {
    /// The op's name.
    pub op: &'static str,
    /// Types and shapes of its inputs and outputs, in words.
    pub operands: Arc<str>,
    /// What it has to compute and to move.
    pub cost: Cost,
    /// Number of the backend that runs it.
    pub backend: usize,
}

/// A graph ready to run.
pub struct Executor {
    graph: Graph,
    plan: Plan,
    /// Consecutive steps of one backend, as it prepared them.
    programs: Vec<Box<dyn Program>>,
    /// Which program and which of its steps runs a node, and what observers are told of it.
    schedule: Vec<(usize, usize, Task)>,
    /// Inputs, parameters, states and constants, by slot; the first slot is the arena's.
    tensors: Vec<Tensor>,
    /// Slot of each value.
    slots: Vec<usize>,
    arena: Arena,
    /// The number of this executor's last run in the arena; 0 before the first.
    turn: u64,
    /// Of the plan's nodes and of the schedule, the first that needs what comes back for what the
    /// graph sends; absent where nothing does.
    wait: Option<(usize, usize)>,
    /// Whether the last run stands there.
    waits: bool,
    memory: Memory,
    /// What the slots are.
    storages: Vec<Storage>,
    /// Of each program, which tensors it uses.
    uses: Vec<Uses>,
}

impl Executor {
    /// Plans and binds `graph`. Inputs, parameters and states found in `tensors` by name share that
    /// storage; the rest start as zeros.
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::Tensor`] where a tensor has another description than the
    /// graph's; [`Error::OutOfMemory`].
    pub fn new(
        graph: Graph,
        backends: &[Arc<dyn Backend>],
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self> {
        graph.verify()?;
        let plan = Plan::new(&graph, backends)?;
        Self::planned(graph, plan, backends, tensors)
    }

    /// Binds a graph that is planned already.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn planned(
        graph: Graph,
        plan: Plan,
        backends: &[Arc<dyn Backend>],
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self> {
        let arena = Arena::new(plan.arena_bytes(), backends)?;
        Self::bind(graph, plan, backends, tensors, &arena)
    }

    /// Binds a graph that is planned already; in `arena`, which others may use between its runs,
    /// where that is large enough.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub(crate) fn bind(
        graph: Graph,
        plan: Plan,
        backends: &[Arc<dyn Backend>],
        given: &HashMap<String, Tensor>,
        arena: &Arena,
    ) -> Result<Self> {
        let first = backends.first().ok_or_else(|| Error::Usage("no backend given".into()))?;
        let arena = if plan.arena_bytes() <= arena.storage.len() {
            arena.clone()
        } else {
            Arena::new(plan.arena_bytes(), backends)?
        };
        let mut memory = Memory { bases: vec![arena.storage.host()] };
        let mut slots = vec![ARENA; graph.values().len()];
        let mut tensors = Vec::new();
        for (id, tensor) in bound(&graph, given, first.allocator())? {
            slots[id.index()] = memory.bases.len();
            memory.bases.push(tensor.storage().host());
            tensors.push(tensor);
        }
        let storages = tensors.iter().map(|tensor| tensor.storage().clone());
        let storages = std::iter::once(arena.storage.clone()).chain(storages).collect();
        let mut this = Self {
            graph,
            plan,
            programs: Vec::new(),
            schedule: Vec::new(),
            tensors,
            slots,
            arena,
            turn: 0,
            wait: None,
            waits: false,
            memory,
            storages,
            uses: Vec::new(),
        };
        this.wait = this.first_wait();
        this.compile(backends)?;
        Ok(this)
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs all nodes in order.
    ///
    /// # Errors
    /// [`Error::Cancelled`] where the observer stopped it; what a backend reports.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.turn = self.arena.begin();
        self.run_steps(0, self.schedule.len(), observer)
    }

    /// Runs the nodes that need nothing of what comes back for what the graph sends
    /// ([`Graph::send`]). Its outputs so far can be read then, and [`Executor::resume`] runs the rest.
    ///
    /// # Errors
    /// As [`Executor::run`]; [`Error::Usage`] where nothing comes back.
    pub fn run_to_wait(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let (_, step) = self.wait.ok_or_else(|| {
            Error::Usage("this graph waits for no gradient: run it as a whole".into())
        })?;
        self.turn = self.arena.begin();
        self.run_steps(0, step, observer)?;
        self.waits = true;
        Ok(())
    }

    /// Whether the graph waits for what comes back, somewhere in a run.
    #[must_use]
    pub fn has_wait(&self) -> bool {
        self.wait.is_some()
    }

    /// Runs the rest of what [`Executor::run_to_wait`] began.
    ///
    /// # Errors
    /// As [`Executor::run`]; [`Error::Usage`] where no run waits, or another has taken its memory.
    pub fn resume(&mut self, observer: &mut dyn Observer) -> Result<()> {
        match self.wait {
            Some((_, step)) if self.waits && self.arena.holds(self.turn) => {
                self.run_steps(step, self.schedule.len(), observer)
            }
            _ => Err(Error::Usage(
                "no forward run waits for its gradients: none was made, it was finished, or another \
                 run has taken its memory; run forward (again)"
                    .into(),
            )),
        }
    }

    fn run_steps(&mut self, from: usize, to: usize, observer: &mut dyn Observer) -> Result<()> {
        self.waits = false;
        let mut flying = self.schedule.get(from).map_or(0, |(program, ..)| *program);
        let mut ran = Ok(());
        let mut done = from;
        while done < to && ran.is_ok() {
            let program = self.schedule[done].0;
            let steps = self.schedule[done..to].iter().take_while(|(p, ..)| *p == program).count();
            ran = self.finish(&mut flying, self.uses[program].after);
            if ran.is_ok() {
                ran = self.uses[program].enter(&self.storages);
            }
            if ran.is_ok() {
                ran = self.launch_program(done..done + steps, self.schedule.len(), observer);
                done += steps;
            }
        }
        // Whatever stopped it: nothing may work in this memory when others get their turn.
        let last = self.schedule[..done].last().map_or(0, |(program, ..)| program + 1);
        let finished = self.finish(&mut flying, last);
        ran.and(finished)
    }

    /// Waits for the programs from number `flying` to `to`, so that others find what they have done,
    /// even if that is not all; where a device failed, what was there before.
    fn finish(&mut self, flying: &mut usize, to: usize) -> Result<()> {
        let mut finished = Ok(());
        for program in *flying..to {
            let synced = self.programs[program].sync();
            let left = synced.and_then(|()| self.uses[program].leave(&self.storages));
            finished = finished.and(left);
        }
        *flying = to.max(*flying);
        finished
    }

    fn launch_program(
        &mut self,
        steps: Range<usize>,
        total: usize,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        for (done, (program, step, task)) in self.schedule[steps.clone()].iter().enumerate() {
            if observer.before(steps.start + done, total, task).is_break() {
                return Err(Error::Cancelled);
            }
            // SAFETY: `memory` holds the arena and the tensors the steps were planned with, all
            // kept by `self`, which this call holds exclusively.
            unsafe { self.programs[*program].launch(*step, &self.memory)? };
            observer.after();
        }
        Ok(())
    }

    /// The storage of an input, parameter, state or constant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.graph
            .find(name)
            .and_then(|v| self.bound(self.plan.root(v)))
            .ok_or_else(|| not_kept(name))
    }

    /// The storage of an input, parameter or state, but not of an output that lies in one.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn writable(&self, name: &str) -> Result<&Tensor> {
        let named = self.graph.find(name).map(|v| self.graph.get(v));
        match named {
            Some(value) if value.name.as_deref() != Some(name) => Err(not_kept(name)),
            _ => self.tensor(name),
        }
    }

    /// Writes an input, parameter or state.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Tensor`] where the type or the number of elements differs.
    pub fn write<T: Element>(&mut self, name: &str, data: &[T]) -> Result<()> {
        let tensor = self.writable(name)?;
        check(name, tensor.desc(), T::DTYPE, data.len())?;
        tensor.storage().write(0, T::bytes_of(data))
    }

    /// Reads an output of the last run, or an input, parameter or state.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Tensor`] where the type or the number of elements differs.
    pub fn read<T: Element>(&self, name: &str, out: &mut [T]) -> Result<()> {
        let (desc, storage, offset) = self.view(name)?;
        check(name, desc, T::DTYPE, out.len())?;
        storage.read(offset, T::bytes_of_mut(out))
    }

    /// Reads a whole tensor as [`Executor::read`] does.
    ///
    /// # Errors
    /// As [`Executor::read`].
    pub fn read_vec<T: Element>(&self, name: &str) -> Result<Vec<T>> {
        let mut out = vec![T::default(); self.view(name)?.0.numel()];
        self.read(name, &mut out)?;
        Ok(out)
    }

    /// The description of a named value.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn desc(&self, name: &str) -> Result<&TensorDesc> {
        Ok(self.graph.desc(self.find(name)?))
    }

    fn find(&self, name: &str) -> Result<ValueId> {
        self.graph.find(name).ok_or_else(|| Error::NotFound {
            kind: "value",
            name: name.to_owned(),
            known: self.graph.outputs().iter().map(|(n, _)| n.clone()).collect(),
        })
    }

    /// Where a named value lies: its description, storage, and the offset in it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Usage`] for an output that a later run in the same memory, such
    /// as an evaluation, has overwritten.
    pub fn view(&self, name: &str) -> Result<(&TensorDesc, &Storage, usize)> {
        let value = self.find(name)?;
        let desc = self.graph.desc(value);
        Ok(match self.bound(self.plan.root(value)) {
            Some(tensor) => (desc, tensor.storage(), 0),
            None if !self.is_made(value) => {
                return Err(Error::Usage(format!(
                    "`{name}` is made only after the gradients have come back: finish the step first"
                )));
            }
            None if !self.arena.holds(self.turn) => {
                return Err(Error::Usage(format!(
                    "`{name}` is gone: another run has taken its memory since; read it before that"
                )));
            }
            None => (desc, &self.arena.storage, self.plan.offset(value)),
        })
    }

    /// The tensor of a value that is not in the arena.
    fn bound(&self, root: ValueId) -> Option<&Tensor> {
        self.slots[root.index()].checked_sub(1).map(|i| &self.tensors[i])
    }

    /// All parameters and states with their tensors.
    pub fn persistent(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let is_persistent = |name: &str| {
            self.graph.find(name).is_some_and(|value| self.graph.get(value).is_persistent())
        };
        self.kept().filter(move |(name, _)| is_persistent(name))
    }

    /// All inputs, parameters and states with their tensors.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.graph.iter_values().filter_map(|(id, v)| Some((v.name.as_deref()?, self.bound(id)?)))
    }

    /// The arena, for what runs in turn with this.
    pub(crate) fn shared_arena(&self) -> Arena {
        self.arena.clone()
    }

    fn compile(&mut self, backends: &[Arc<dyn Backend>]) -> Result<()> {
        let planned: Vec<&PlannedNode> =
            self.plan.nodes().iter().filter(|p| self.runs(p)).collect();
        let mut released = self.releases(&planned).into_iter();
        let (before, after) = planned.split_at(self.wait.map_or(0, |(_, step)| step));
        let runs = [before, after]
            .into_iter()
            .flat_map(|part| part.chunk_by(|a, b| a.backend == b.backend));
        let mut parts = Vec::new();
        for (program, run) in runs.enumerate() {
            let backend = run[0].backend;
            let steps: Vec<Step> =
                run.iter().zip(&mut released).map(|(p, inputs)| self.step(p, &inputs)).collect();
            let place = Place::of(&*backends[backend], backend);
            self.uses.push(Uses::of(place, &steps));
            let tasks: Vec<_> =
                run.iter().enumerate().map(|(i, p)| (program, i, self.task(p))).collect();
            self.schedule.extend(tasks);
            parts.push((backend, steps));
        }
        traffic::set_after(&mut self.uses);
        let spans = traffic::spans(&self.uses, &self.wanted());
        let frozen = self.frozen();
        let mut by_backend: Vec<Vec<_>> = backends.iter().map(|_| Vec::new()).collect();
        let order: Vec<usize> = parts.iter().map(|(backend, _)| *backend).collect();
        for ((backend, steps), Spans { brought, taken }) in parts.into_iter().zip(spans) {
            let part = Part { steps, storages: &self.storages, frozen: &frozen, brought, taken };
            by_backend[backend].push(part);
        }
        let compiled =
            backends.iter().zip(by_backend).map(|(b, parts)| Ok(b.compile_all(parts)?.into_iter()));
        let mut compiled = compiled.collect::<Result<Vec<_>>>()?;
        self.programs = order.into_iter().filter_map(|backend| compiled[backend].next()).collect();
        self.uses.iter_mut().for_each(|uses| uses.keep_copied(&self.storages));
        Ok(())
    }

    /// Of each slot, whether nothing writes it: what an op overwrites is not frozen, whatever it is.
    fn frozen(&self) -> Vec<bool> {
        let mut frozen = vec![false; self.storages.len()];
        for (id, value) in self.graph.iter_values() {
            let kind = &value.source;
            frozen[self.slots[id.index()]] =
                matches!(kind, Source::Constant(_) | Source::Parameter { trainable: false });
        }
        for node in self.graph.nodes() {
            let overwritten = node.op.mutates().iter().map(|&i| self.plan.root(node.inputs[i]));
            overwritten.for_each(|root| frozen[self.slots[root.index()]] = false);
        }
        frozen[ARENA] = false;
        frozen
    }

    /// Bytes of the arena that hold named outputs.
    fn wanted(&self) -> Vec<Range<usize>> {
        let made = |&(_, value): &(String, ValueId)| match self.slots[self.plan.root(value).index()]
        {
            ARENA => {
                let start = self.plan.offset(value);
                Some(start..start + self.graph.desc(value).bytes())
            }
            _ => None,
        };
        self.graph.outputs().iter().filter_map(made).collect()
    }

    /// Whether there is anything to run: a node that only renames memory has nothing.
    fn runs(&self, planned: &PlannedNode) -> bool {
        planned.launch != Launch::Alias && self.writes(planned)
    }

    /// Where a run first needs what comes back for what the graph sends.
    fn first_wait(&self) -> Option<(usize, usize)> {
        let returned: Vec<_> = self.graph.sent().iter().filter_map(|sent| sent.gradient).collect();
        let waits = |p: &PlannedNode| {
            self.graph.nodes()[p.node.index()].inputs.iter().any(|v| returned.contains(v))
        };
        let nodes = self.plan.nodes();
        let first = nodes.iter().position(waits)?;
        Some((first, nodes[..first].iter().filter(|p| self.runs(p)).count()))
    }

    /// Whether the last run has come far enough to have made a value.
    fn is_made(&self, value: ValueId) -> bool {
        let Some((wait, _)) = self.wait.filter(|_| self.waits) else { return true };
        match self.graph.get(value).source {
            Source::Node { node, .. } => {
                self.plan.nodes()[..wait].iter().any(|planned| planned.node == node)
            }
            _ => true,
        }
    }

    /// Whether there is any element that the node makes or overwrites. Backends need not think of
    /// a matrix that has no columns but ever so many rows.
    fn writes(&self, planned: &PlannedNode) -> bool {
        let node = &self.graph.nodes()[planned.node.index()];
        let overwritten = node.op.mutates().iter().map(|&i| &node.inputs[i]);
        node.outputs.iter().chain(overwritten).any(|&v| self.graph.desc(v).numel() > 0)
    }

    fn task(&self, planned: &PlannedNode) -> Task {
        let node = &self.graph.nodes()[planned.node.index()];
        let (inputs, outputs) = descs(&self.graph, node);
        let words = |descs: &[&TensorDesc]| {
            descs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        Task {
            op: node.op.name(),
            operands: format!("{} -> {}", words(&inputs), words(&outputs)).into(),
            cost: node.op.cost(&inputs, &outputs),
            backend: planned.backend,
        }
    }

    /// For each node, the inputs mapped from a file whose next reader is far off.
    fn releases(&self, planned: &[&PlannedNode]) -> Vec<Vec<bool>> {
        let mut next = vec![usize::MAX; self.graph.values().len()];
        let mut released = Vec::with_capacity(planned.len());
        for (step, planned) in planned.iter().enumerate().rev() {
            let inputs = &self.graph.nodes()[planned.node.index()].inputs;
            let is_far = |value: &ValueId| {
                let root = self.plan.root(*value);
                let is_mapped = self.bound(root).is_some_and(|t| t.storage().is_mapped());
                let far = next[root.index()] > step + SOON;
                next[root.index()] = step;
                is_mapped && far
            };
            released.push(inputs.iter().map(is_far).collect());
        }
        released.reverse();
        released
    }

    fn step(&self, planned: &PlannedNode, released: &[bool]) -> Step {
        let node = &self.graph.nodes()[planned.node.index()];
        let operands = |ids: &[ValueId]| ids.iter().map(|&v| self.operand(v)).collect();
        let mut inputs: Vec<Operand> = operands(&node.inputs);
        for (i, _) in released.iter().enumerate().filter(|(_, released)| **released) {
            let tensor = self.bound(self.plan.root(node.inputs[i]));
            inputs[i].release = tensor.map(|t| Box::new(t.storage().clone()));
        }
        Step {
            op: node.op.clone(),
            launch: planned.launch.clone(),
            inputs,
            outputs: operands(&node.outputs),
            workspace: planned.workspace,
        }
    }

    fn operand(&self, value: ValueId) -> Operand {
        let root = self.plan.root(value);
        let desc = self.graph.desc(value).clone();
        Operand {
            slot: self.slots[root.index()],
            offset: self.plan.offset(value),
            desc,
            release: None,
        }
    }
}

fn not_kept(name: &str) -> Error {
    let (kind, name) = ("input, parameter or state", name.to_owned());
    Error::NotFound { kind, name, known: Vec::new() }
}

fn check(name: &str, desc: &TensorDesc, dtype: crate::tensor::DType, len: usize) -> Result<()> {
    if desc.dtype() == dtype && desc.numel() == len {
        Ok(())
    } else {
        Err(Error::Tensor(format!("`{name}` is {desc}, not {len} elements of {dtype}")))
    }
}
