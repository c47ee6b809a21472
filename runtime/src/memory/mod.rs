//! The memory plan: node order, liveness, and an offset for every buffer. The plan is the peak.

mod flow;
mod layout;
mod order;
mod place;
mod recompute;
mod search;
mod skyline;
mod svg;

use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::Flow;
use layout::{Layout, Owner};
pub use place::{Effort, Interval, aligned, live_bytes, lower_bound, place};
use recompute::{Goal, Recompute, Recomputed};
pub use svg::escape;

use crate::backend::{Backend, Launch, Signature};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeId, Source, ValueId};
use crate::tensor::TensorDesc;

/// One node of the plan: who runs it, as what, with which scratch.
#[derive(Clone, Debug)]
pub struct PlannedNode {
    /// The node.
    pub node: NodeId,
    /// Which of the backends runs it.
    pub backend: usize,
    /// What it launches.
    pub launch: Launch,
    /// Scratch in the arena: offset and bytes.
    pub workspace: (usize, usize),
}

/// A buffer of the arena, for reports.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// What it holds, in words.
    pub label: String,
    /// When it lives and how large it is.
    pub interval: Interval,
    /// Where it lies.
    pub offset: usize,
    /// Whether it was dropped before and is made again.
    pub again: bool,
}

/// Everything a run needs to know of memory before it starts.
#[derive(Clone, Debug)]
pub struct Plan {
    nodes: Vec<PlannedNode>,
    roots: Vec<ValueId>,
    offsets: Vec<usize>,
    buffers: Vec<Buffer>,
    arena_bytes: usize,
    arena_bound: usize,
    owned_bytes: usize,
    spilled_bytes: usize,
    recomputed: Recomputed,
    duration: Duration,
}

/// Time that a plan without a budget may add to save memory, as a share of the step.
const FREE: f64 = 0.03;

/// Time that a budget may cost at most, as a share of the step: beyond it each byte less takes
/// ever longer.
const MOST: f64 = 1.0;

impl Plan {
    /// Plans `graph` within `budget` bytes, of which `beside` are taken by others: values that wait
    /// long are made again instead of kept, as few as will do. Without a budget only where it takes
    /// almost no time. `graph` becomes what is planned.
    ///
    /// # Errors
    /// [`Error::Budget`] with the smallest that can be met; as [`Plan::new`].
    pub fn within(
        graph: &mut Graph,
        backends: &[Arc<dyn Backend>],
        budget: Option<usize>,
        beside: usize,
    ) -> Result<Self> {
        let start = Instant::now();
        let budget = budget.unwrap_or(usize::MAX);
        let plan = |search: &Recompute<'_>| {
            let plan = Self::of(&search.graph, backends, search.made.clone())?;
            Ok(plan.with_beside(beside))
        };
        let mut search = Recompute::new(graph, backends)?;
        search.advance(Goal { arena: 0, share: FREE })?;
        let mut best: Self = plan(&search)?;
        let mut is_stuck = false;
        while best.peak_bytes() > budget {
            // An arena may be larger than what lives in it: the excess is taken from that.
            let (bound, excess) = (best.arena_bound, best.peak_bytes() - budget);
            let goal = Goal { arena: bound.saturating_sub(excess), share: MOST };
            is_stuck |= budget < best.owned_bytes;
            if is_stuck || !search.advance(goal)? {
                // Larger steps may have come further, and name what can be met.
                let mut other = Recompute::new(graph, backends)?;
                other.advance(Goal { arena: 0, share: MOST })?;
                let found = plan(&other)?;
                if found.peak_bytes() < best.peak_bytes() {
                    (search, best) = (other, found);
                }
                break;
            }
            is_stuck = search.peak() > goal.arena;
            best = plan(&search)?;
        }
        if best.peak_bytes() > budget {
            let (needed, slower) = (best.peak_bytes(), best.slowdown());
            return Err(Error::Budget { budget, needed, slower, spillable: 0 });
        }
        *graph = search.graph;
        graph.shrink();
        best.duration = start.elapsed();
        Ok(best)
    }

    /// As [`Plan::within`], with a budget for the arena alone.
    pub(crate) fn in_arena(
        graph: &mut Graph,
        backends: &[Arc<dyn Backend>],
        arena: usize,
    ) -> Result<Self> {
        let budget = arena.saturating_add(owned_bytes(graph));
        Self::within(graph, backends, Some(budget), 0)
    }

    /// Plans `graph` for `backends`; each node goes to the first that supports it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where none does, [`Error::Graph`] for a graph that breaks its rules,
    /// [`Error::OutOfMemory`] for one that no memory can hold.
    pub fn new(graph: &Graph, backends: &[Arc<dyn Backend>]) -> Result<Self> {
        Self::of(graph, backends, Recomputed::default())
    }

    fn of(graph: &Graph, backends: &[Arc<dyn Backend>], recomputed: Recomputed) -> Result<Self> {
        let start = Instant::now();
        let nodes = assign(graph, backends)?;
        let flow = Flow::new(graph, &nodes);
        let layout = Layout::best(graph, &nodes, &flow);
        Self::build(graph, nodes, layout, recomputed, start)
    }

    /// Plans `graph` as [`Plan::new`] does, but in an order of the caller's.
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::Graph`] for what is no order of the graph's nodes.
    pub fn with_order(
        graph: &Graph,
        backends: &[Arc<dyn Backend>],
        order: &[NodeId],
    ) -> Result<Self> {
        let start = Instant::now();
        let nodes = assign(graph, backends)?;
        let flow = Flow::new(graph, &nodes);
        let layout = Layout::of_order(graph, &nodes, &flow, flow.checked(order)?);
        Self::build(graph, nodes, layout, Recomputed::default(), start)
    }

    fn build(
        graph: &Graph,
        nodes: Vec<PlannedNode>,
        layout: Layout,
        recomputed: Recomputed,
        start: Instant,
    ) -> Result<Self> {
        let mut plan = Self {
            nodes: sorted(nodes, &layout.order),
            roots: layout.roots,
            offsets: vec![0; graph.values().len()],
            buffers: Vec::with_capacity(layout.buffers.len()),
            arena_bytes: layout.arena,
            arena_bound: layout.bound,
            owned_bytes: 0,
            spilled_bytes: 0,
            recomputed,
            duration: Duration::ZERO,
        };
        for (owner, interval, offset) in layout.buffers {
            let mut again = false;
            let label = match owner {
                Owner::Value(value) => {
                    plan.offsets[value.index()] = offset;
                    again = plan.recomputed.values.contains(&value);
                    value_label(graph, value)
                }
                Owner::Workspace(step) => {
                    plan.nodes[step].workspace.0 = offset;
                    let op = &graph.nodes()[plan.nodes[step].node.index()].op;
                    format!("scratch of {}", op.name())
                }
            };
            plan.buffers.push(Buffer { label, interval, offset, again });
        }
        for (i, root) in plan.roots.iter().enumerate() {
            plan.offsets[i] = plan.offsets[root.index()];
        }
        plan.owned_bytes = owned_bytes(graph);
        plan.duration = start.elapsed();
        if isize::try_from(plan.peak_bytes()).is_err() {
            return Err(Error::OutOfMemory(plan.peak_bytes()));
        }
        Ok(plan)
    }

    /// The nodes in the order they run.
    #[must_use]
    pub fn nodes(&self) -> &[PlannedNode] {
        &self.nodes
    }

    /// The value whose memory `value` uses: itself, or what it aliases or overwrites.
    #[must_use]
    pub fn root(&self, value: ValueId) -> ValueId {
        self.roots[value.index()]
    }

    /// The arena offset of a value whose root is made by a node.
    #[must_use]
    pub fn offset(&self, value: ValueId) -> usize {
        self.offsets[value.index()]
    }

    /// All buffers of the arena.
    #[must_use]
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// Size of the arena in bytes: activations, gradients, scratch.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    /// Bytes kept beside the arena: trained parameters, optimizer state, inputs. Frozen weights
    /// stay in their mapped file and are not counted.
    #[must_use]
    pub fn owned_bytes(&self) -> usize {
        self.owned_bytes
    }

    /// The peak: arena and what is kept beside it.
    #[must_use]
    pub fn peak_bytes(&self) -> usize {
        self.arena_bytes.saturating_add(self.owned_bytes)
    }

    /// What the peak cannot be below in this order of nodes.
    #[must_use]
    pub fn lower_bound_bytes(&self) -> usize {
        self.arena_bound.saturating_add(self.owned_bytes)
    }

    /// How long planning took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Bytes of states that lie in a file instead of memory; no other figure counts them.
    #[must_use]
    pub fn spilled_bytes(&self) -> usize {
        self.spilled_bytes
    }

    /// The same plan with some of what it owns in a file.
    pub(crate) fn with_spilled(self, bytes: usize) -> Self {
        Self { owned_bytes: self.owned_bytes.saturating_sub(bytes), spilled_bytes: bytes, ..self }
    }

    /// The same plan, which counts bytes that others take beside it.
    pub(crate) fn with_beside(self, bytes: usize) -> Self {
        Self { owned_bytes: self.owned_bytes.saturating_add(bytes), ..self }
    }

    /// Nodes that are run once more to save memory.
    #[must_use]
    pub fn recomputed(&self) -> usize {
        self.recomputed.nodes
    }

    /// The estimated time that those nodes take, as a share of a step without them.
    #[must_use]
    pub fn slowdown(&self) -> f64 {
        self.recomputed.share
    }
}

/// The most bytes of the arena that are live at a time if `graph` runs in `order`: what
/// [`Plan::with_order`] would give as its bound, without placing anything.
///
/// # Errors
/// As [`Plan::with_order`].
pub fn bound_of(graph: &Graph, backends: &[Arc<dyn Backend>], order: &[NodeId]) -> Result<usize> {
    let flow = Flow::new(graph, &assign(graph, backends)?);
    let (peak, _) = flow.load(&flow.checked(order)?);
    Ok(usize::try_from(peak).unwrap_or(usize::MAX))
}

/// Parameters that train, states and inputs are memory of the run; frozen weights are mapped.
pub(crate) fn is_owned(value: &crate::graph::Value) -> bool {
    match value.source {
        Source::Input | Source::State | Source::Parameter { trainable: true } => true,
        Source::Constant(_) => true,
        Source::Parameter { trainable: false } | Source::Node { .. } => false,
    }
}

/// What a run of the graph holds beside its arena.
pub(crate) fn owned_bytes(graph: &Graph) -> usize {
    let owned = graph.values().iter().filter(|v| is_owned(v)).map(|v| v.desc.bytes());
    owned.fold(0, usize::saturating_add)
}

fn value_label(graph: &Graph, value: ValueId) -> String {
    match graph.get(value).source {
        Source::Node { node, .. } => {
            format!("{} {}", graph.nodes()[node.index()].op.name(), graph.desc(value))
        }
        _ => graph.get(value).name.clone().unwrap_or_default(),
    }
}

/// Launches and backends, in the graph's own order.
fn assign(graph: &Graph, backends: &[Arc<dyn Backend>]) -> Result<Vec<PlannedNode>> {
    let assign = |(i, node): (usize, &Node)| {
        let (inputs, outputs) = descs(graph, node);
        let launch = node.op.launch(&inputs, &outputs);
        let signature = Signature { launch: &launch, inputs: &inputs, outputs: &outputs };
        let backend = match launch {
            Launch::Alias => Some(0),
            _ => backends.iter().position(|b| b.supports(signature)),
        };
        let backend = backend.ok_or_else(|| Error::Unsupported {
            op: node.op.name(),
            operands: inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        })?;
        let bytes = match launch {
            Launch::Alias => 0,
            _ => backends[backend].workspace(signature),
        };
        Ok(PlannedNode { node: NodeId(i as u32), backend, launch, workspace: (0, bytes) })
    };
    // Of the right size at once: what growing or shrinking it leaves in the heap was 3 MB of resident
    // memory for SmolLM2's adapters.
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    graph.nodes().iter().enumerate().try_for_each(|node| {
        nodes.push(assign(node)?);
        Ok(())
    })?;
    Ok(nodes)
}

/// Nodes that stand as in the graph, in `order`.
fn sorted(mut nodes: Vec<PlannedNode>, order: &[u32]) -> Vec<PlannedNode> {
    let mut step = vec![0; nodes.len()];
    for (i, &n) in order.iter().enumerate() {
        step[n as usize] = i;
    }
    nodes.sort_by_key(|planned| step[planned.node.index()]);
    nodes
}

/// The nodes in an order that is quickly found, and the bytes of the arena that live at each of
/// its steps.
fn usage(graph: &Graph, backends: &[Arc<dyn Backend>]) -> Result<(Vec<PlannedNode>, Vec<usize>)> {
    let nodes = assign(graph, backends)?;
    let flow = Flow::new(graph, &nodes);
    let order = order::writing_early(&flow, graph);
    let loads = flow.loads(&order).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let live = loads.collect();
    Ok((sorted(nodes, &order), live))
}

/// The best order of the nodes that is found, whatever the places of their buffers.
fn best_order(graph: &Graph, backends: &[Arc<dyn Backend>]) -> Result<Vec<u32>> {
    let nodes = assign(graph, backends)?;
    let flow = Flow::new(graph, &nodes);
    Ok(order::orders(&flow, graph).remove(0).nodes)
}

/// Descriptions of a node's operands.
pub(crate) fn descs<'g>(
    graph: &'g Graph,
    node: &Node,
) -> (Vec<&'g TensorDesc>, Vec<&'g TensorDesc>) {
    let of = |ids: &[ValueId]| ids.iter().map(|&v| graph.desc(v)).collect();
    (of(&node.inputs), of(&node.outputs))
}
