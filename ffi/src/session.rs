//! Sessions: making them, and their plan.

use std::collections::HashSet;
use std::ffi::CString;
use std::sync::Arc;

use tenon_runtime::Result;
use tenon_runtime::executor::Executor;
use tenon_runtime::federated::parameters::is_adapter;
use tenon_runtime::graph::{Graph, Source, ValueId};
use tenon_runtime::models::{GraphOptions, ModelGraph};
use tenon_runtime::train::{Options, Staging, Trainer};

use crate::abi;
use crate::context::Context;
use crate::graph::{GraphHandle, value};
use crate::handle::{self, Handle};
use crate::model::ModelHandle;
use crate::options;
use crate::status::argument;
use crate::structs::Place;

/// A handle of a session.
pub(crate) struct SessionHandle {
    context: Arc<Context>,
    pub(crate) trainer: Trainer,
    /// Names of all parameters, trainable ones first, as the caller may keep them.
    names: Vec<CString>,
    trainable: usize,
    /// Inputs that were never written.
    pub(crate) unwritten: HashSet<String>,
    /// Inputs for gradients that come back, and whether they were written since the forward run.
    pub(crate) returned: Vec<(String, bool)>,
    /// What left outputs to read.
    pub(crate) last: Last,
    /// The caller's own words from the file loaded last.
    pub(crate) note: CString,
}

/// The last run, where it came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// None, or it did not.
    Nothing,
    /// The part of a step that needs no gradient from elsewhere.
    Forward,
    /// A step.
    Step,
    /// An evaluation.
    Evaluation,
}

impl Handle for SessionHandle {
    type Opaque = abi::tn_session;
    type Beside = Option<Arc<Staging>>;
    const NAME: &'static str = "session";

    fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn beside(&self) -> Self::Beside {
        self.trainer.staging().cloned()
    }
}

impl SessionHandle {
    fn new(context: Arc<Context>, trainer: Trainer) -> Result<Self> {
        // So that every set of parameters is the first so many of them.
        let (mut trained, others): (Vec<_>, Vec<_>) =
            trainer.trainable().into_iter().partition(|name| is_adapter(name));
        trained.extend(others);
        let frozen = trainer.graph().values().iter().filter_map(|v| match v.source {
            Source::Parameter { trainable: false } => v.name.clone(),
            _ => None,
        });
        let trainable = trained.len();
        let names = trained
            .into_iter()
            .chain(frozen)
            .map(|n| CString::new(n).map_err(|_| argument("a parameter's name holds NUL")))
            .collect::<Result<_>>()?;
        let returned: Vec<(String, bool)> = {
            let graph = trainer.graph();
            let inputs = graph.sent().iter().filter_map(|sent| sent.gradient);
            inputs.filter_map(|v| Some((graph.get(v).name.clone()?, false))).collect()
        };
        let unwritten = trainer.inputs().map(|(name, _)| name.to_owned()).collect();
        let (last, note) = (Last::Nothing, CString::default());
        Ok(Self { context, trainer, names, trainable, unwritten, returned, last, note })
    }

    /// Marks the gradients that come back as not there yet.
    pub(crate) fn await_gradients(&mut self) {
        self.returned.iter_mut().for_each(|(_, written)| *written = false);
    }

    /// Marks an input as written.
    pub(crate) fn mark_written(&mut self, name: &str) {
        self.unwritten.remove(name);
        let returned = self.returned.iter_mut().filter(|(known, _)| known == name);
        returned.for_each(|(_, written)| *written = true);
    }

    /// How many parameters there are, and how many of them, which come first, train.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.names.len(), self.trainable)
    }

    /// The name of parameter `index`.
    pub(crate) fn name(&self, index: usize) -> Result<(&CString, &str)> {
        let name = self.names.get(index).and_then(|n| Some((n, n.to_str().ok()?)));
        name.ok_or_else(|| argument(format!("there is no parameter {index}")))
    }

    /// Names of the parameters that train.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = &str> {
        (0..self.trainable).filter_map(|i| Some(self.name(i).ok()?.1))
    }

    /// The executor that a value called `name` is to be read from: outputs come from the last run.
    pub(crate) fn source(&self, name: &str) -> Result<&Executor> {
        let is_output = |e: &&Executor| e.graph().outputs().iter().any(|(n, _)| n == name);
        if let Some(evaluation) =
            self.trainer.evaluation().filter(|_| self.last == Last::Evaluation).filter(is_output)
        {
            return Ok(evaluation);
        }
        let executor = self.trainer.executor();
        if is_output(&executor) && self.last != Last::Forward {
            self.check_stepped()?;
        }
        Ok(executor)
    }

    /// Refuses to run on inputs that hold nothing.
    pub(crate) fn check_written(&self) -> Result<()> {
        match self.unwritten.iter().min() {
            None => Ok(()),
            Some(name) => Err(argument(format!("the input `{name}` was never written"))),
        }
    }

    /// Refuses to go on from a forward run without the gradients that belong to it.
    pub(crate) fn check_returned(&self) -> Result<()> {
        if self.trainer.executor().has_wait() && self.last != Last::Forward {
            return Err(argument(
                "no forward run waits for its gradients: call tn_session_forward (again), and write \
                 what comes back",
            ));
        }
        match self.returned.iter().find(|(_, written)| !written) {
            None => Ok(()),
            Some((name, _)) => {
                Err(argument(format!("`{name}` was not written since the forward run")))
            }
        }
    }

    /// Refuses to read what only a step makes.
    pub(crate) fn check_stepped(&self) -> Result<()> {
        let why = "there is no output of a step to read: none has run, the last did not end, or an \
                   evaluation came after it";
        if self.last == Last::Step { Ok(()) } else { Err(argument(why)) }
    }
}

/// How a graph of a model is built, and the seed of what is new in it.
///
/// # Safety
/// As [`options::model`].
unsafe fn how(
    handle: &ModelHandle,
    given: *const abi::tn_model_options,
) -> Result<(GraphOptions, u64)> {
    // SAFETY: the caller's contract.
    unsafe { options::model(given, handle.model.config.layers) }
}

/// The loss that a caller names, if any.
fn own_loss(graph: &Graph, loss: abi::tn_value) -> Result<Option<ValueId>> {
    if loss == abi::TN_NO_VALUE { Ok(None) } else { value(graph, loss).map(Some) }
}

/// Plans a step and reports the plan.
fn plan(
    context: &Context,
    graph: Graph,
    loss: Option<ValueId>,
    options: &Options,
    place: Place<abi::tn_plan>,
) -> Result<()> {
    let (_, plan) = Trainer::plan_only(graph, loss, &context.backends, options)?;
    place.write(&options::plan(&plan));
    Ok(())
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_plan_graph(
    graph: *mut abi::tn_graph,
    loss: abi::tn_value,
    given: *const abi::tn_train_options,
    place: *mut abi::tn_plan,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(graph, |handle: &mut GraphHandle| {
            let (options, place) = (options::training(given, 0)?, Place::new(place)?);
            let loss = own_loss(&handle.graph, loss)?;
            plan(&handle.context, handle.graph.clone(), loss, &options, place)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_plan_model(
    model: *mut abi::tn_model,
    model_options: *const abi::tn_model_options,
    given: *const abi::tn_train_options,
    place: *mut abi::tn_plan,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(model, |handle: &mut ModelHandle| {
            let (how, _) = how(handle, model_options)?;
            let (options, place) = (options::training(given, how.batch)?, Place::new(place)?);
            let ModelGraph { graph, loss } = handle.model.graph(&how)?;
            plan(&handle.context, graph, loss, &options, place)
        })
    }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_create(
    graph: *mut abi::tn_graph,
    loss: abi::tn_value,
    given: *const abi::tn_train_options,
    session: *mut *mut abi::tn_session,
) -> abi::tn_status {
    let make = |from: &GraphHandle| {
        // SAFETY: the header's contract.
        let options = unsafe { options::training(given, 0)? };
        let (graph, context) = (from.graph.clone(), from.context.clone());
        let loss = own_loss(&graph, loss)?;
        let trainer = Trainer::new(graph, loss, &context.backends, &from.tensors, options)?;
        SessionHandle::new(context, trainer)
    };
    // SAFETY: the header's contract.
    unsafe { handle::with(graph, |from: &mut GraphHandle| handle::give(session, || make(from))) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_from_model(
    model: *mut abi::tn_model,
    model_options: *const abi::tn_model_options,
    given: *const abi::tn_train_options,
    session: *mut *mut abi::tn_session,
) -> abi::tn_status {
    let make = |from: &ModelHandle| {
        // SAFETY: the header's contract.
        let (how, seed) = unsafe { how(from, model_options)? };
        // SAFETY: as above.
        let options = unsafe { options::training(given, how.batch)? };
        let context = from.context.clone();
        let ModelGraph { graph, loss } = from.model.graph(&how)?;
        let tensors = from.model.parameters(&graph, seed, context.allocator())?;
        let trainer = Trainer::new(graph, loss, &context.backends, &tensors, options)?;
        SessionHandle::new(context, trainer)
    };
    // SAFETY: the header's contract.
    unsafe { handle::with(model, |from: &mut ModelHandle| handle::give(session, || make(from))) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_destroy(session: *mut abi::tn_session) {
    // SAFETY: the header's contract.
    unsafe { handle::destroy::<SessionHandle>(session) }
}

/// See the header.
///
/// # Safety
/// The header's contract.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tn_session_plan(
    session: *mut abi::tn_session,
    plan: *mut abi::tn_plan,
) -> abi::tn_status {
    // SAFETY: the header's contract.
    unsafe {
        handle::with(session, |handle: &mut SessionHandle| {
            Place::new(plan)?.write(&options::plan(handle.trainer.plan()));
            Ok(())
        })
    }
}
