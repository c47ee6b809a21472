//! Sessions: making them, and their plan.

use std::collections::HashSet;
use std::ffi::CString;
use std::sync::Arc;

use tenon_runtime::Result;
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::{Graph, Source, ValueId};
use tenon_runtime::models::{GraphOptions, ModelGraph};
use tenon_runtime::train::{Options, Trainer};

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
    /// Whether the outputs of a step are there to read: it ran to its end.
    pub(crate) stepped: bool,
    /// Whether the last run that ended was an evaluation.
    pub(crate) evaluated: bool,
    /// The caller's own words from the file loaded last.
    pub(crate) note: CString,
}

impl Handle for SessionHandle {
    type Opaque = abi::tn_session;
    const NAME: &'static str = "session";

    fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl SessionHandle {
    fn new(context: Arc<Context>, trainer: Trainer) -> Result<Self> {
        let trained = trainer.trainable();
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
        // What a trainer writes by itself is called `train.` something.
        let unwritten = trainer
            .graph()
            .values()
            .iter()
            .filter(|v| matches!(v.source, Source::Input))
            .filter_map(|v| v.name.clone().filter(|name| !name.starts_with("train.")))
            .collect();
        let (stepped, evaluated, note) = (false, false, CString::default());
        Ok(Self { context, trainer, names, trainable, unwritten, stepped, evaluated, note })
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
            self.trainer.evaluation().filter(|_| self.evaluated).filter(is_output)
        {
            return Ok(evaluation);
        }
        let executor = self.trainer.executor();
        if is_output(&executor) {
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

    /// Refuses to read what only a step makes.
    pub(crate) fn check_stepped(&self) -> Result<()> {
        let why = "there is no output of a step to read: none has run, the last did not end, or an \
                   evaluation came after it";
        if self.stepped { Ok(()) } else { Err(argument(why)) }
    }
}

/// Plans a step and reports the plan.
fn plan(
    context: &Context,
    graph: Graph,
    loss: ValueId,
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
            let (options, place) = (options::training(given)?, Place::new(place)?);
            let loss = value(&handle.graph, loss)?;
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
            let (options, place) = (options::training(given)?, Place::new(place)?);
            let ModelGraph { graph, loss } =
                handle.model.graph(&options::model(model_options)?.0)?;
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
        let options = unsafe { options::training(given)? };
        let (graph, context) = (from.graph.clone(), from.context.clone());
        let loss = value(&graph, loss)?;
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
        let options = unsafe { options::training(given)? };
        // SAFETY: as above.
        let (how, seed): (GraphOptions, u64) = unsafe { options::model(model_options)? };
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
