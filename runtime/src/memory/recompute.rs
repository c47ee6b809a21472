//! Trades time for memory: a value that waits long for its next reader is dropped, and made again
//! when that reader comes.
//!
//! The peak is lowered step by step. Of what only waits at the peak, the values are taken that free
//! the most bytes for the time it takes to make them again; what that needs is read where it is
//! still there and else made again itself, so that dropping all but the inputs of a block of layers
//! recomputes the block (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). Every
//! node gives the same bits each time it runs, so gradients are what they were.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{PlannedNode, best_order, descs, usage};
use crate::backend::{Backend, Launch};
use crate::error::Result;
use crate::graph::{Graph, Node, NodeId, Source, ValueId};
use crate::ops::{Op, Part};

/// Nodes that are made again to make one value again, one needing the other, at most.
const DEPTH: usize = 32;

/// Steps for which a value made again may wait for one more reader instead of being made anew.
const WAIT: usize = 16;

/// Rounds in which a plan is improved, at most; each takes some milliseconds.
const ROUNDS: usize = 200;

/// Rounds in a row that may free nothing: a graph whose peak is of gradients alone would take all.
const PATIENCE: usize = 16;

/// What a round frees at most, as a part of the peak. What a value costs depends on what else is
/// dropped: in small parts an LM of 30 layers comes down to a fifth, at once to a half.
const PART: usize = 16;

/// What a graph is to fit into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// Bytes of the arena.
    pub arena: usize,
    /// Most time to add to a step, as a share of it.
    pub share: f64,
}

/// What was made again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recomputed {
    /// How many nodes run once more.
    pub nodes: usize,
    /// The values that they make.
    pub values: HashSet<ValueId>,
    /// Estimated time that they take, as a share of the step's without them.
    pub share: f64,
}

/// A graph on its way to less memory.
pub(crate) struct Recompute<'b> {
    backends: &'b [Arc<dyn Backend>],
    /// The graph as it is now.
    pub graph: Graph,
    /// What it makes again.
    pub made: Recomputed,
    usage: Usage,
    /// Estimated seconds of the step as it was.
    seconds: f64,
    /// What was dropped in vain.
    banned: HashSet<ValueId>,
}

impl<'b> Recompute<'b> {
    pub(super) fn new(graph: &Graph, backends: &'b [Arc<dyn Backend>]) -> Result<Self> {
        let graph = in_order(graph, backends)?;
        let usage = Usage::new(&graph, backends)?;
        let seconds = usage.seconds.iter().sum();
        let (made, banned) = (Recomputed::default(), HashSet::new());
        Ok(Self { backends, graph, made, usage, seconds, banned })
    }

    /// The most bytes that are alive at a time.
    pub(super) fn peak(&self) -> usize {
        self.usage.peak().1
    }

    /// Comes as near to `goal` as it can; whether that was a step.
    pub(super) fn advance(&mut self, goal: Goal) -> Result<bool> {
        let start = self.made.nodes;
        let (mut lowest, mut waited) = (usize::MAX, 0);
        for _ in 0..ROUNDS {
            let (step, peak) = self.usage.peak();
            waited = if peak < lowest { 0 } else { waited + 1 };
            lowest = lowest.min(peak);
            if peak <= goal.arena || waited > PATIENCE {
                break;
            }
            let excess = (peak - goal.arena).min(peak / PART);
            let within = (goal.share - self.made.share) * self.seconds;
            let mut dropped = self.usage.choose(&self.graph, step, excess, within, &self.banned);
            if dropped.is_empty() {
                break;
            }
            let (seconds, next, values) = self.usage.rewrite(&self.graph, step, &dropped)?;
            let after = Usage::new(&next, self.backends)?;
            // What is dropped is gone from this step, but what makes it again may meet a higher
            // peak, and take more time together than apart.
            if after.peak().1 > peak || seconds > within {
                self.banned.extend(dropped.split_off(dropped.len() / 2));
                continue;
            }
            self.made.nodes += next.nodes().len() - self.graph.nodes().len();
            self.made.values.extend(values);
            self.made.share += seconds / self.seconds;
            (self.graph, self.usage) = (next, after);
        }
        Ok(self.made.nodes > start)
    }
}

/// What is alive when, in the order in which nodes run.
struct Usage {
    nodes: Vec<PlannedNode>,
    /// Of each value, the value whose content it is: itself, or what it is another shape of.
    content: Vec<ValueId>,
    /// Of each content, the steps that make it and read it.
    first: Vec<usize>,
    reads: Vec<Vec<usize>>,
    /// Contents that the caller asked for.
    kept: HashSet<ValueId>,
    /// Contents that are overwritten amidst the graph, such as running statistics: who reads them
    /// cannot run again.
    overwritten: HashSet<ValueId>,
    /// Bytes alive at each step.
    live: Vec<usize>,
    /// Estimated time of each node, by its number in the graph.
    seconds: Vec<f64>,
}

impl Usage {
    fn new(graph: &Graph, backends: &[Arc<dyn Backend>]) -> Result<Self> {
        let (nodes, live) = usage(graph, backends)?;
        let mut content: Vec<ValueId> = graph.iter_values().map(|(id, _)| id).collect();
        let mut first = vec![0; content.len()];
        let mut reads = vec![Vec::new(); content.len()];
        let mut seconds = vec![0.0; nodes.len()];
        for (step, planned) in nodes.iter().enumerate() {
            let node = &graph.nodes()[planned.node.index()];
            if planned.launch == Launch::Alias {
                content[node.outputs[0].index()] = content[node.inputs[0].index()];
                continue;
            }
            let (inputs, outputs) = descs(graph, node);
            let cost = node.op.cost(&inputs, &outputs);
            seconds[planned.node.index()] =
                backends[planned.backend].seconds(&planned.launch, cost);
            node.inputs.iter().for_each(|v| reads[content[v.index()].index()].push(step));
            node.outputs.iter().for_each(|v| first[v.index()] = step);
        }
        let kept = graph.outputs().iter().map(|(_, v)| content[v.index()]).collect();
        let amidst = graph.nodes().iter().filter(|node| !is_update(node));
        let overwritten = amidst
            .flat_map(|node| node.op.mutates().iter().map(|&i| content[node.inputs[i].index()]))
            .collect();
        Ok(Self { nodes, content, first, reads, kept, overwritten, live, seconds })
    }

    /// The step at which most is alive, and how much.
    fn peak(&self) -> (usize, usize) {
        let most = self.live.iter().copied().max().unwrap_or(0);
        (self.live.iter().position(|&bytes| bytes == most).unwrap_or(0), most)
    }

    /// The node that runs at `step`.
    fn node<'g>(&self, graph: &'g Graph, step: usize) -> &'g Node {
        &graph.nodes()[self.nodes[step].node.index()]
    }

    /// Whether a content can still be read at `at`, when `peak` is the step to relieve.
    fn is_there(&self, content: ValueId, at: usize, peak: usize) -> bool {
        let last = self.reads[content.index()].last().copied().unwrap_or(0);
        let waits = last > peak && at <= last + WAIT;
        self.first[content.index()] < at && (at <= last || waits || self.kept.contains(&content))
    }

    /// Contents to drop at step `peak`: those that free the most for their time, until `bytes`
    /// are free or `seconds` are spent.
    fn choose(
        &self,
        graph: &Graph,
        peak: usize,
        bytes: usize,
        seconds: f64,
        banned: &HashSet<ValueId>,
    ) -> Vec<ValueId> {
        let least = self.live[peak] / 4096;
        let mut waiting: Vec<(f64, f64, ValueId)> = graph
            .iter_values()
            .filter(|(id, value)| {
                self.content[id.index()] == *id
                    && matches!(value.source, Source::Node { .. })
                    && value.desc.bytes() > least
                    && self.first[id.index()] < peak
                    && !self.kept.contains(id)
                    && !banned.contains(id)
            })
            .filter_map(|(id, value)| {
                let seconds = self.price(graph, id, peak)?;
                Some((value.desc.bytes() as f64 / seconds.max(1e-9), seconds, id))
            })
            .collect();
        waiting.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
        let (mut freed, mut spent, mut dropped) = (0, 0.0, Vec::new());
        for (_, price, id) in waiting {
            if freed >= bytes || spent + price > seconds {
                break;
            }
            freed += graph.desc(id).bytes();
            spent += price;
            dropped.push(id);
        }
        dropped
    }

    /// Seconds to make a content again for its first reader after step `peak`; `None` where it
    /// is read there, or not after, or cannot be made again.
    fn price(&self, graph: &Graph, content: ValueId, peak: usize) -> Option<f64> {
        let reads = &self.reads[content.index()];
        let after = reads.partition_point(|&step| step <= peak);
        let next = *reads.get(after)?;
        let is_read = after > 0 && reads[after - 1] == peak;
        let overwrites = |&step: &usize| !self.node(graph, step).op.mutates().is_empty();
        if is_read || reads[after..].iter().any(overwrites) {
            return None;
        }
        let mut sketch = Sketch::new(self, graph, peak, &[content]);
        sketch.find(content, next)?;
        Some(sketch.seconds)
    }

    /// The graph in which contents are dropped at step `peak`: what that adds in seconds, the
    /// graph, and the values made again.
    fn rewrite(
        &self,
        graph: &Graph,
        peak: usize,
        dropped: &[ValueId],
    ) -> Result<(f64, Graph, Vec<ValueId>)> {
        let mut sketch = Sketch::new(self, graph, peak, dropped);
        // Of each step, the inputs that are replaced.
        let mut replaced: Vec<Vec<(usize, Value)>> = vec![Vec::new(); self.nodes.len()];
        for step in peak + 1..self.nodes.len() {
            let node = self.node(graph, step);
            for (i, &input) in node.inputs.iter().enumerate() {
                if !sketch.dropped.contains(&self.content[input.index()]) {
                    continue;
                }
                let Some(value) = sketch.find(input, step) else { continue };
                replaced[step].push((i, value));
                if self.nodes[step].launch == Launch::Alias {
                    sketch.made.insert(node.outputs[0], Value::Old(node.outputs[0]));
                }
            }
        }
        let Sketch { again, seconds, .. } = sketch;
        let mut next = graph.clone();
        let mut again = again.into_iter().peekable();
        let (mut outputs, mut values, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
        for (step, planned) in self.nodes.iter().enumerate() {
            while let Some(made) = again.next_if(|made| made.before == step) {
                let inputs: Vec<_> = made.inputs.iter().map(|v| v.id(&outputs)).collect();
                let node = next.make(made.op, &inputs)?;
                values.extend(&node.outputs);
                outputs.push(node.outputs.clone());
                nodes.push(node);
            }
            let mut node = graph.nodes()[planned.node.index()].clone();
            for (i, value) in &replaced[step] {
                node.inputs[*i] = value.id(&outputs);
            }
            nodes.push(node);
        }
        set_nodes(&mut next, nodes)?;
        Ok((seconds, next, values))
    }
}

/// The graph with its nodes in the best order that is found: rounds only look for a quick one.
fn in_order(graph: &Graph, backends: &[Arc<dyn Backend>]) -> Result<Graph> {
    let order = best_order(graph, backends)?;
    let nodes = order.iter().map(|&node| graph.nodes()[node as usize].clone()).collect();
    let mut ordered = graph.clone();
    set_nodes(&mut ordered, nodes)?;
    Ok(ordered)
}

/// Gives a graph nodes in the order in which they are to run, but for its updates: graphs want them
/// last, and every order of running moves them up.
fn set_nodes(graph: &mut Graph, nodes: Vec<Node>) -> Result<()> {
    let (mut updates, mut nodes): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_update);
    nodes.append(&mut updates);
    graph.set_nodes(nodes);
    graph.verify()
}

/// Whether a node only overwrites, as an optimizer's step does.
fn is_update(node: &Node) -> bool {
    node.outputs.is_empty() && !node.op.mutates().is_empty()
}

/// A value of the graph as it is, or output `.1` of the node made again as number `.0`.
#[derive(Clone, Copy)]
enum Value {
    Old(ValueId),
    New(usize, usize),
}

impl Value {
    fn id(self, outputs: &[Vec<ValueId>]) -> ValueId {
        match self {
            Self::Old(id) => id,
            Self::New(node, output) => outputs[node][output],
        }
    }
}

/// A node to be made again.
struct Again {
    /// The step before which it runs.
    before: usize,
    op: Arc<dyn Op>,
    inputs: Vec<Value>,
}

/// The nodes to be made again, in the order they run, found by walking the steps once.
struct Sketch<'a> {
    usage: &'a Usage,
    graph: &'a Graph,
    peak: usize,
    dropped: HashSet<ValueId>,
    /// What replaces a value from where the walk is on.
    made: HashMap<ValueId, Value>,
    again: Vec<Again>,
    seconds: f64,
}

impl<'a> Sketch<'a> {
    fn new(usage: &'a Usage, graph: &'a Graph, peak: usize, dropped: &[ValueId]) -> Self {
        let dropped = dropped.iter().copied().collect();
        let (made, again) = (HashMap::new(), Vec::new());
        Self { usage, graph, peak, dropped, made, again, seconds: 0.0 }
    }

    /// What to read for `value` at step `at`; `None`, and nothing is made, where it cannot be had.
    fn find(&mut self, value: ValueId, at: usize) -> Option<Value> {
        let (nodes, seconds) = (self.again.len(), self.seconds);
        let found = self.resolve(value, at, DEPTH);
        if found.is_none() {
            self.again.truncate(nodes);
            self.seconds = seconds;
            self.made.retain(|_, made| !matches!(made, Value::New(node, _) if *node >= nodes));
        }
        found
    }

    /// [`Sketch::find`] in at most `depth` nodes, one needing the other.
    fn resolve(&mut self, value: ValueId, at: usize, depth: usize) -> Option<Value> {
        if let Some(there) = self.there(value, at) {
            return Some(there);
        }
        let Source::Node { node: id, output } = self.graph.get(value).source else { return None };
        let node = &self.graph.nodes()[id.index()];
        if depth == 0 || !node.op.mutates().is_empty() {
            return None;
        }
        if let Some(found) = self.remake(id, output, at) {
            return Some(found);
        }
        let inputs: Option<Vec<_>> =
            node.inputs.iter().map(|&input| self.resolve(input, at, depth - 1)).collect();
        let number = self.add(at, node.op.clone(), inputs?, self.usage.seconds[id.index()]);
        for (output, &value) in node.outputs.iter().enumerate() {
            self.made.insert(value, Value::New(number, output));
        }
        Some(Value::New(number, output))
    }

    /// The value at step `at` if it need not be made.
    fn there(&self, value: ValueId, at: usize) -> Option<Value> {
        let content = self.usage.content[value.index()];
        if self.usage.overwritten.contains(&content) {
            return None;
        }
        let made = matches!(self.graph.get(content).source, Source::Node { .. });
        let stays = !self.dropped.contains(&content) && self.usage.is_there(content, at, self.peak);
        if !made || stays { Some(Value::Old(value)) } else { self.made.get(&value).copied() }
    }

    /// An output made from the node's other outputs and its inputs, where they are there and the
    /// op says how.
    fn remake(&mut self, id: NodeId, output: usize, at: usize) -> Option<Value> {
        let node = &self.graph.nodes()[id.index()];
        let remake = node.op.remake(output)?;
        let inputs: Option<Vec<_>> = remake
            .operands
            .iter()
            .map(|part| match *part {
                Part::Input(i) => self.there(node.inputs[i], at),
                Part::Output(o) => self.there(node.outputs[o], at),
            })
            .collect();
        // At most what the whole node takes.
        let number = self.add(at, remake.op, inputs?, self.usage.seconds[id.index()]);
        let value = Value::New(number, remake.output);
        self.made.insert(node.outputs[output], value);
        Some(value)
    }

    fn add(&mut self, before: usize, op: Arc<dyn Op>, inputs: Vec<Value>, seconds: f64) -> usize {
        self.again.push(Again { before, op, inputs });
        self.seconds += seconds;
        self.again.len() - 1
    }
}
