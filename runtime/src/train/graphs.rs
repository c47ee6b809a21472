//! The graphs of a training step: gradients, clipping, accumulation, updates.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::optimizer::Scalars;
use super::{Clipping, Options, Rounds, Staging, States, privacy};
use crate::autodiff::{cotangent, gradients_along};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::graph::{Graph, Received, Sent, Source, Value, ValueId, gradient_name};
use crate::memory::{Plan, is_owned, owned_bytes};
use crate::ops::After;
use crate::passes;
use crate::tensor::TensorDesc;

/// The input by which a step learns the norm of its gradients.
pub(super) const NORM: &str = "train.norm";

/// The output that tells it.
pub(super) const GRAD_NORM: &str = "train.grad_norm";

const NOTHING: &str = "nothing trains: mark an f32 parameter that the loss depends on as trainable";

/// Bytes from which a state goes to the file, where states do.
const SPILLED: usize = 64 << 10;

/// What runs in a step, in this order.
pub(super) struct Graphs {
    /// Forward and backward, for the norm of the gradients alone.
    pub(super) measure: Option<Graph>,
    /// Forward and backward, with the update where nothing is accumulated.
    pub(super) step: Graph,
    /// The update of accumulated gradients.
    pub(super) apply: Option<Graph>,
    /// What runs between steps, each when asked to.
    pub(super) rounds: [Option<Graph>; 3],
    /// Bytes of second buffers for inputs.
    pub(super) staged: usize,
}

/// The plans of [`Graphs`].
pub(super) struct Plans {
    pub(super) measure: Option<Plan>,
    /// The step's, which counts what the others take beside it.
    pub(super) step: Plan,
    /// Bytes of the arena that all but the update take turns in.
    pub(super) arena: usize,
}

impl Graphs {
    /// Plans within a budget; where that cannot be met but may `spill`, with the states in a file.
    pub(super) fn plan(
        &mut self,
        backends: &[Arc<dyn Backend>],
        budget: Option<usize>,
        spill: bool,
    ) -> Result<Plans> {
        let (budget, needed, slower) = match self.plan_kept(backends, budget) {
            Err(Error::Budget { budget, needed, slower, .. }) => (budget, needed, slower),
            plans => return plans,
        };
        let spillable = self.states().iter().map(|(_, desc)| desc.bytes()).sum();
        if !spill {
            return Err(Error::Budget { budget, needed, slower, spillable });
        }
        match self.plan_kept(backends, Some(budget.saturating_add(spillable))) {
            Ok(Plans { measure, step, arena }) => {
                Ok(Plans { measure, step: step.with_spilled(spillable), arena })
            }
            Err(Error::Budget { needed, slower, .. }) => {
                let needed = needed.saturating_sub(spillable);
                Err(Error::Budget { budget, needed, slower, spillable: 0 })
            }
            Err(error) => Err(error),
        }
    }

    /// States that are worth a file's pages, by name.
    pub(super) fn states(&self) -> Vec<(String, TensorDesc)> {
        let mut states = BTreeMap::new();
        for graph in self.lasting() {
            let is_large =
                |v: &&Value| matches!(v.source, Source::State) && v.desc.bytes() >= SPILLED;
            for value in graph.values().iter().filter(is_large) {
                states.insert(value.name.clone().unwrap_or_default(), value.desc.clone());
            }
        }
        states.into_iter().collect()
    }

    /// The graphs whose states last.
    fn lasting(&self) -> impl Iterator<Item = &Graph> {
        std::iter::once(&self.step).chain(&self.apply).chain(self.rounds.iter().flatten())
    }

    /// Bytes that the other graphs hold beside what the step's holds.
    fn own_beside(&self) -> usize {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut bytes = 0;
        for (i, graph) in self.lasting().enumerate() {
            for value in graph.values().iter().filter(|v| is_owned(v)) {
                let is_new = value.name.as_deref().is_none_or(|name| seen.insert(name));
                bytes += if is_new && i > 0 { value.desc.bytes() } else { 0 };
            }
        }
        bytes
    }

    /// Plans within a budget, with all in memory. The pass for the norm, the step and what runs
    /// between steps take turns in one arena.
    fn plan_kept(&mut self, backends: &[Arc<dyn Backend>], budget: Option<usize>) -> Result<Plans> {
        let mut beside = self.own_beside().saturating_add(self.staged);
        if let Some(apply) = &self.apply {
            beside += Plan::new(apply, backends)?.arena_bytes();
        }
        let mut between = 0;
        for graph in self.rounds.iter().flatten() {
            between = between.max(Plan::new(graph, backends)?.arena_bytes());
        }
        // However little the step takes in the arena they share.
        let least = owned_bytes(&self.step).saturating_add(beside).saturating_add(between);
        if let Some(budget) = budget.filter(|&budget| budget < least) {
            let step = Plan::within(&mut self.step.clone(), backends, Some(budget), beside);
            let (needed, slower) = match step {
                Err(Error::Budget { needed, slower, .. }) => (needed.max(least), slower),
                plan => (least, plan?.slowdown()),
            };
            return Err(Error::Budget { budget, needed, slower, spillable: 0 });
        }
        let Some(measure) = &mut self.measure else {
            let step = Plan::within(&mut self.step, backends, budget, beside)?;
            let arena = step.arena_bytes().max(between);
            let excess = arena - step.arena_bytes();
            return Ok(Plans { measure: None, step: step.with_beside(excess), arena });
        };
        // What overwrites running statistics does so in copies of its own.
        let copies = measure.overwritten().into_iter().map(|v| measure.desc(v).bytes());
        beside = copies.fold(beside, usize::saturating_add);
        let own = owned_bytes(measure);
        // Neither graph is changed unless both fit.
        let (mut stepped, mut measured) = (self.step.clone(), measure.clone());
        let step = Plan::within(&mut stepped, backends, budget, beside)?;
        let others = step.owned_bytes().saturating_sub(own);
        let plan = Plan::within(&mut measured, backends, budget, others)?;
        (self.step, *measure) = (stepped, measured);
        let arena = step.arena_bytes().max(plan.arena_bytes()).max(between);
        let excess = arena - step.arena_bytes();
        Ok(Plans { measure: Some(plan), step: step.with_beside(excess), arena })
    }
}

/// The graphs of a training step, optimized, whose gradients are `scale` times as large; first the
/// plain forward graph.
pub(super) fn build(
    mut graph: Graph,
    loss: Option<ValueId>,
    options: &Options,
    scale: f32,
) -> Result<(Graph, Graphs)> {
    options.optimizer.check()?;
    options.schedule.check()?;
    options.rounds.check()?;
    if options.accumulation == 0 {
        return Err(Error::Usage("accumulation must be at least 1".into()));
    }
    if let Some(loss) = loss {
        own_output(&mut graph, "loss", loss)?;
    }
    let forward = graph.clone();
    let pairs = parameter_gradients(&mut graph, loss, options, scale)?;
    if options.keep_gradients {
        for &(parameter, gradient) in &pairs {
            let name = graph.get(parameter).name.clone().unwrap_or_default();
            own_output(&mut graph, &format!("grad/{name}"), gradient)?;
        }
    }
    let of = |&(parameter, _): &(ValueId, ValueId)| {
        let value = graph.get(parameter);
        (value.name.clone().unwrap_or_default(), value.desc.clone())
    };
    let trained: Vec<_> = pairs.iter().map(of).collect();
    let rounds = options.rounds.graphs(&trained)?;
    let staged = if options.stage_inputs { Staging::bytes(&graph) } else { 0 };
    let mut graphs = Graphs { measure: None, step: graph, apply: None, rounds, staged };
    if options.accumulation == 1 {
        let pairs = hidden(&mut graphs.step, &pairs, options)?;
        let pairs = options.rounds.correct(&mut graphs.step, &pairs, 1.0)?;
        if options.clip_norm.is_some() && options.clipping == Clipping::TwoPass {
            graphs.measure = Some(measure(&graphs.step, &pairs)?);
        }
        add_updates(&mut graphs.step, &pairs, options, options.clipping)?;
    } else {
        graphs.apply = Some(accumulate(&mut graphs.step, &pairs, options)?);
    }
    let Graphs { measure, step, apply, .. } = &mut graphs;
    [measure.as_mut(), Some(step), apply.as_mut()]
        .into_iter()
        .flatten()
        .try_for_each(passes::optimize)?;
    Ok((forward, graphs))
}

/// What the loss is multiplied by on the way back, for backends that ask for it: updates take it out
/// again. Where others see gradients, who take them for those of the loss, it is 1: those that are
/// kept, clipped by sample, corrected in rounds, or sent to other parts; and their norm, if it is a
/// state, which another device may load.
pub(super) fn loss_scale(graph: &Graph, backends: &[Arc<dyn Backend>], options: &Options) -> f32 {
    let are_seen = options.keep_gradients
        || options.privacy.is_some()
        || options.rounds != Rounds::default()
        || options.clip_norm.is_some() && options.clipping == Clipping::Running
        || !graph.sent().is_empty()
        || !graph.received().is_empty();
    let asked = backends.iter().map(|backend| backend.loss_scale()).fold(1.0, f32::max);
    if are_seen { 1.0 } else { asked }
}

/// Adds gradients toward what trains, and toward what the graph receives: to these it gives names.
fn parameter_gradients(
    graph: &mut Graph,
    loss: Option<ValueId>,
    options: &Options,
    scale: f32,
) -> Result<Vec<(ValueId, ValueId)>> {
    let seeds = seeds(graph, loss, scale)?;
    if seeds.len() > usize::from(loss.is_some())
        && options.clip_norm.is_some()
        && options.clipping == Clipping::TwoPass
        && options.accumulation == 1
    {
        return Err(Error::Usage(
            "two passes for the norm cannot wait twice for one gradient: clip a graph that sends \
             exactly or running"
                .into(),
        ));
    }
    if let Some(privacy) = options.privacy {
        privacy.check(graph, options)?;
        let trained = graph.trainable();
        let pairs = privacy.gradients(graph, &seeds, &trained)?;
        return if pairs.is_empty() { Err(Error::Usage(NOTHING.into())) } else { Ok(pairs) };
    }
    let received: Vec<Received> =
        graph.received().iter().filter(|r| r.gradient.is_some()).cloned().collect();
    let mut wanted = graph.trainable();
    let trained = wanted.len();
    wanted.extend(received.iter().map(|r| r.value));
    let gradients = gradients_along(graph, &seeds, &wanted)?;
    for (Received { name, gradient: dtype, .. }, gradient) in
        received.iter().zip(&gradients[trained..])
    {
        let (Some(gradient), Some(dtype)) = (*gradient, *dtype) else {
            return Err(Error::Graph(format!(
                "nothing here depends on `{name}`, which is received with a gradient to go back"
            )));
        };
        let wire = graph.encoded(gradient, dtype)?;
        own_output(graph, &gradient_name(name), wire)?;
    }
    let found = wanted.into_iter().zip(gradients).take(trained);
    let pairs: Vec<_> = found.filter_map(|(p, gradient)| Some((p, gradient?))).collect();
    // A part in which nothing trains may still run, and pass gradients on.
    if pairs.is_empty() && graph.sent().is_empty() && graph.received().is_empty() {
        return Err(Error::Usage(NOTHING.into()));
    }
    Ok(pairs)
}

/// Gradients with the noise that single samples are hidden by.
fn hidden(
    graph: &mut Graph,
    pairs: &[(ValueId, ValueId)],
    options: &Options,
) -> Result<Vec<(ValueId, ValueId)>> {
    options.privacy.map_or_else(|| Ok(pairs.to_vec()), |privacy| privacy.hide(graph, pairs))
}

/// What gradients start from: the scale at the loss, and what comes back for each value that is sent, once
/// all of them are on their way.
fn seeds(graph: &mut Graph, loss: Option<ValueId>, scale: f32) -> Result<Vec<(ValueId, ValueId)>> {
    let mut seeds = match loss {
        Some(loss) => vec![(loss, cotangent(graph, loss, scale)?)],
        None => Vec::new(),
    };
    let sent: Vec<Sent> = graph.sent().to_vec();
    for Sent { value, gradient, .. } in &sent {
        let Some(gradient) = *gradient else { continue };
        let operands: Vec<_> =
            std::iter::once(gradient).chain(sent.iter().map(|s| s.wire)).collect();
        let returned = graph.add(After, &operands)?;
        seeds.push((*value, graph.decoded(returned)?));
    }
    Ok(seeds)
}

/// The graph that only tells the norm of the gradients.
fn measure(graph: &Graph, pairs: &[(ValueId, ValueId)]) -> Result<Graph> {
    let mut graph = graph.clone();
    graph.clear_outputs();
    let norm = sums(&mut graph, pairs)?.last().copied();
    let norm = norm.ok_or_else(|| Error::Usage("nothing trains".into()))?;
    let norm = graph.call("sqrt", &[], &[norm])?[0];
    own_output(&mut graph, GRAD_NORM, norm)?;
    Ok(graph)
}

/// The sums of the squares of the gradients up to each, in the order in which they are made.
fn sums(graph: &mut Graph, pairs: &[(ValueId, ValueId)]) -> Result<Vec<ValueId>> {
    let mut total: Option<ValueId> = None;
    let mut sums = Vec::with_capacity(pairs.len());
    for &(_, gradient) in pairs {
        let norm = graph.call("grad_norm", &[], &[gradient])?[0];
        let square = graph.call("square", &[], &[norm])?[0];
        let sum = match total {
            Some(before) => graph.call("add", &[], &[before, square])?[0],
            None => square,
        };
        total = Some(sum);
        sums.push(sum);
    }
    Ok(sums)
}

/// Asks for a value under a name that is a trainer's own: a caller's output of that name would be
/// lost, or read in its stead.
fn own_output(graph: &mut Graph, name: &str, value: ValueId) -> Result<()> {
    if graph.outputs().iter().any(|(n, v)| n == name && *v != value) {
        return Err(Error::Graph(format!("the output name `{name}` is the trainer's own")));
    }
    graph.set_output(name, value)
}

/// Adds clipping and the update of each parameter.
fn add_updates(
    graph: &mut Graph,
    pairs: &[(ValueId, ValueId)],
    options: &Options,
    clipping: Clipping,
) -> Result<()> {
    let scalar = TensorDesc::f32(&[])?;
    let lr = graph.input("train.lr", scalar.clone())?;
    let step = privacy::step(graph)?;
    let scale = graph.input("train.scale", scalar)?;
    options.rounds.travel(graph, lr)?;
    let scales = match options.clip_norm {
        None => vec![scale; pairs.len()],
        Some(max_norm) => scales(graph, pairs, scale, max_norm, clipping)?,
    };
    for (stream, (&(parameter, gradient), scale)) in pairs.iter().zip(scales).enumerate() {
        // Graphs have far fewer than 2^32 parameters.
        let states = States { format: options.state, stream: stream as u32 };
        let scalars = Scalars { lr, step, scale };
        options.optimizer.add_update(graph, [parameter, gradient], &scalars, states)?;
    }
    Ok(())
}

/// What each gradient is multiplied by.
fn scales(
    graph: &mut Graph,
    pairs: &[(ValueId, ValueId)],
    scale: ValueId,
    max_norm: f32,
    clipping: Clipping,
) -> Result<Vec<ValueId>> {
    let clip = |graph: &mut Graph, norm: ValueId| -> Result<ValueId> {
        Ok(graph.call("clip_scale", &[("max_norm", max_norm.into())], &[norm, scale])?[0])
    };
    let norm = match clipping {
        Clipping::Exact => {
            let gradients: Vec<_> = pairs.iter().map(|p| p.1).collect();
            graph.call("grad_norm", &[], &gradients)?[0]
        }
        Clipping::TwoPass => graph.input(NORM, TensorDesc::f32(&[])?)?,
        Clipping::Running => return running_scales(graph, pairs, clip),
    };
    own_output(graph, GRAD_NORM, norm)?;
    Ok(vec![clip(graph, norm)?; pairs.len()])
}

/// The numbers of pairs in the order in which their gradients are made: what goes through gradients
/// in this order lets none wait for another.
pub(super) fn as_made(pairs: &[(ValueId, ValueId)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|&i| pairs[i].1);
    order
}

/// Of each gradient, the factor by the greater of the last step's norm and this step's so far.
fn running_scales(
    graph: &mut Graph,
    pairs: &[(ValueId, ValueId)],
    clip: impl Fn(&mut Graph, ValueId) -> Result<ValueId>,
) -> Result<Vec<ValueId>> {
    let last = graph.state("train.norm_squared", TensorDesc::f32(&[])?)?;
    let order = as_made(pairs);
    let in_order: Vec<_> = order.iter().map(|&i| pairs[i]).collect();
    let sums = sums(graph, &in_order)?;
    let mut scales = vec![last; pairs.len()];
    for (&i, &sum) in order.iter().zip(&sums) {
        let known = graph.call("maximum", &[], &[last, sum])?[0];
        let norm = graph.call("sqrt", &[], &[known])?[0];
        scales[i] = clip(graph, norm)?;
    }
    let Some(&total) = sums.last() else { return Ok(scales) };
    let norm = graph.call("sqrt", &[], &[total])?[0];
    own_output(graph, GRAD_NORM, norm)?;
    let afresh = graph.scalar(0.0)?;
    graph.call("accumulate", &[], &[last, total, afresh])?;
    Ok(scales)
}

/// Adds gradients to accumulators in `graph`, and gives the graph that updates from them.
fn accumulate(graph: &mut Graph, pairs: &[(ValueId, ValueId)], options: &Options) -> Result<Graph> {
    let keep = graph.input("train.keep", TensorDesc::f32(&[])?)?;
    let mut apply = Graph::new();
    let mut totals = Vec::with_capacity(pairs.len());
    for &(parameter, gradient) in pairs {
        let name = graph.get(parameter).name.clone().unwrap_or_default();
        let desc = graph.desc(parameter).clone();
        let total = format!("accumulated/{name}");
        let state = graph.state(&total, desc.clone())?;
        graph.call("accumulate", &[], &[state, gradient, keep])?;
        let parameter = apply.parameter(&name, desc.clone(), true)?;
        totals.push((parameter, apply.state(&total, desc)?));
    }
    let totals = hidden(&mut apply, &totals, options)?;
    let totals = options.rounds.correct(&mut apply, &totals, options.accumulation as f32)?;
    // Sums of micro-steps are all there before the first update.
    add_updates(&mut apply, &totals, options, Clipping::Exact)?;
    Ok(apply)
}
