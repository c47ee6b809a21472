//! A graph as its memory sees it: which node makes, reads and frees which block, and which must
//! wait for which.

use super::PlannedNode;
use super::place::aligned;
use crate::backend::Launch;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeId, Source, ValueId};

/// Blocks count at most so many bytes (1 TiB) while orders are compared, so that sums of them fit
/// 64 bits; the plan itself counts exactly.
const MOST: u64 = 1 << 40;

/// Lists of numbers, one after another in one allocation.
#[derive(Default)]
pub(super) struct Lists {
    ends: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    /// Adds a list.
    fn push(&mut self, items: impl IntoIterator<Item = u32>) {
        self.items.extend(items);
        self.ends.push(self.items.len() as u32);
    }

    /// Adds a list in rising order without repetitions.
    fn push_set(&mut self, mut items: Vec<u32>) {
        items.sort_unstable();
        items.dedup();
        self.push(items);
    }

    /// List number `i`.
    pub(super) fn of(&self, i: u32) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i as usize - 1] };
        &self.items[start as usize..self.ends[i as usize] as usize]
    }

    /// For each of `count` numbers, the lists that hold it.
    fn transposed(&self, count: usize) -> Self {
        let mut ends = vec![0u32; count];
        for &item in &self.items {
            ends[item as usize] += 1;
        }
        let mut at = 0;
        for end in &mut ends {
            (at, *end) = (at + *end, at);
        }
        let mut items = vec![0; self.items.len()];
        for list in 0..self.ends.len() as u32 {
            for &item in self.of(list) {
                items[ends[item as usize] as usize] = list;
                ends[item as usize] += 1;
            }
        }
        Self { ends, items }
    }
}

/// A block of memory: what a node's output and all its views share.
pub(super) struct Block {
    /// The value that begins it.
    pub(super) root: ValueId,
    /// Its size, rounded as the plan rounds, and at most [`MOST`].
    pub(super) bytes: u64,
    /// Whether it is asked for after the step.
    pub(super) kept: bool,
}

/// The memory of a graph's nodes, whatever their order. Nodes and blocks go by number.
pub(super) struct Flow {
    /// Blocks.
    pub(super) blocks: Vec<Block>,
    /// By node: blocks it makes.
    pub(super) makes: Lists,
    /// By node: blocks it reads.
    pub(super) reads: Lists,
    /// By node: blocks its first output may lie in, should they end with it.
    pub(super) victims: Lists,
    /// By node: nodes that run before it.
    pub(super) before: Lists,
    /// By node: nodes that run after it.
    pub(super) after: Lists,
    /// By block: nodes that read it.
    pub(super) readers: Lists,
    /// By node: bytes of what it makes, and of its scratch.
    pub(super) grows: Vec<u64>,
    /// By value: the value whose memory it is in any order.
    roots: Vec<ValueId>,
    /// By value: the block that it begins.
    begins: Vec<Option<u32>>,
}

impl Flow {
    /// The flow of `graph`, whose nodes launch as `planned` says, in the graph's own order.
    pub(super) fn new(graph: &Graph, planned: &[PlannedNode]) -> Self {
        let mut roots: Vec<ValueId> = graph.iter_values().map(|(id, _)| id).collect();
        let mut begins = vec![None; roots.len()];
        let (mut blocks, mut makes) = (Vec::new(), Lists::default());
        for (node, planned) in graph.nodes().iter().zip(planned) {
            if planned.launch == Launch::Alias {
                roots[node.outputs[0].index()] = roots[node.inputs[0].index()];
                makes.push([]);
                continue;
            }
            for &root in &node.outputs {
                begins[root.index()] = Some(blocks.len() as u32);
                let bytes = clamped(graph.desc(root).bytes());
                blocks.push(Block { root, bytes, kept: false });
            }
            makes.push((blocks.len() - node.outputs.len()) as u32..blocks.len() as u32);
        }
        let (mut reads, mut victims, mut grows) = (Lists::default(), Lists::default(), Vec::new());
        for (i, (node, planned)) in graph.nodes().iter().zip(planned).enumerate() {
            let block = |v: &ValueId| begins[roots[v.index()].index()];
            reads.push_set(node.inputs.iter().filter_map(block).collect());
            victims.push(candidates(graph, node, &planned.launch, &roots, &begins));
            let made: u64 = makes.of(i as u32).iter().map(|&b| blocks[b as usize].bytes).sum();
            grows.push(made + clamped(planned.workspace.1));
        }
        for (_, v) in graph.outputs() {
            if let Some(block) = begins[roots[v.index()].index()] {
                blocks[block as usize].kept = true;
            }
        }
        let readers = reads.transposed(blocks.len());
        let before = precedence(graph, &roots);
        let after = before.transposed(grows.len());
        Self { blocks, makes, reads, victims, before, after, readers, grows, roots, begins }
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.grows.len()
    }

    /// `order` as numbers.
    ///
    /// # Errors
    /// [`Error::Graph`] where it leaves a node out, has one twice, or one before what it waits for.
    pub(super) fn checked(&self, order: &[NodeId]) -> Result<Vec<u32>> {
        let mut has_run = vec![false; self.len()];
        for node in order {
            let is_ready = |n: NodeId| self.before.of(n.0).iter().all(|&n| has_run[n as usize]);
            if node.index() >= self.len()
                || !is_ready(*node)
                || std::mem::replace(&mut has_run[node.index()], true)
            {
                return Err(Error::Graph(format!("node {} cannot run where it stands", node.0)));
            }
        }
        if order.len() < self.len() {
            return Err(Error::Graph(format!("{} of {} nodes run", order.len(), self.len())));
        }
        Ok(order.iter().map(|n| n.0).collect())
    }

    /// Bytes live at each step of `order`.
    pub(super) fn loads(&self, order: &[u32]) -> impl Iterator<Item = u64> {
        let mut walk = Walk::new(self);
        order.iter().map(move |&n| walk.run(n))
    }

    /// The most bytes live at any step of `order`, and the sum over its steps.
    pub(super) fn load(&self, order: &[u32]) -> (u64, u128) {
        self.loads(order).fold((0, 0), |(peak, sum), live| (live.max(peak), sum + u128::from(live)))
    }

    /// For `order`, each value's memory, and each block's life where it has memory of its own.
    pub(super) fn lives(&self, order: &[u32]) -> (Vec<ValueId>, Vec<Option<(usize, usize)>>) {
        let mut walk = Walk::new(self);
        let mut homes: Vec<u32> = (0..self.blocks.len() as u32).collect();
        let mut lives = vec![None; self.blocks.len()];
        for (step, &node) in order.iter().enumerate() {
            let victim = walk.victim(node);
            for (i, &block) in self.makes.of(node).iter().enumerate() {
                match victim.filter(|_| i == 0) {
                    Some(victim) => homes[block as usize] = homes[victim as usize],
                    None => lives[block as usize] = Some((step, step)),
                }
            }
            for &block in self.reads.of(node).iter().chain(self.makes.of(node)) {
                if let Some(life) = &mut lives[homes[block as usize] as usize] {
                    life.1 = step;
                }
            }
            walk.run(node);
        }
        for (b, _) in self.blocks.iter().enumerate().filter(|(_, block)| block.kept) {
            if let Some(life) = &mut lives[homes[b] as usize] {
                life.1 = order.len() - 1;
            }
        }
        let home = |root: &ValueId| match self.begins[root.index()] {
            Some(block) => self.blocks[homes[block as usize] as usize].root,
            None => *root,
        };
        (self.roots.iter().map(home).collect(), lives)
    }
}

/// A run through an order: what is live now.
#[derive(Clone)]
pub(super) struct Walk<'f> {
    flow: &'f Flow,
    /// By block: readers that have not run; one more where it outlives the step.
    pub(super) left: Vec<u32>,
    /// Bytes live.
    pub(super) live: u64,
}

impl<'f> Walk<'f> {
    /// Before the first node.
    pub(super) fn new(flow: &'f Flow) -> Self {
        let readers = |(b, block): (usize, &Block)| {
            flow.readers.of(b as u32).len() as u32 + u32::from(block.kept)
        };
        Self { flow, left: flow.blocks.iter().enumerate().map(readers).collect(), live: 0 }
    }

    /// The block that `node`, were it next, would overwrite.
    pub(super) fn victim(&self, node: u32) -> Option<u32> {
        self.flow.victims.of(node).iter().copied().find(|&b| self.left[b as usize] == 1)
    }

    /// Bytes live while `node` runs, and after it, were it next.
    pub(super) fn look(&self, node: u32) -> (u64, u64) {
        let flow = self.flow;
        let bytes = |&b: &u32| flow.blocks[b as usize].bytes;
        let saved = self.victim(node).as_ref().map_or(0, bytes);
        let reads = flow.reads.of(node).iter();
        let freed: u64 = reads.filter(|&&b| self.left[b as usize] == 1).map(bytes).sum();
        let makes = flow.makes.of(node).iter();
        let stays: u64 = makes.filter(|&&b| self.left[b as usize] > 0).map(bytes).sum();
        (self.live + flow.grows[node as usize] - saved, self.live + stays - freed)
    }

    /// Runs `node`, and gives the bytes live meanwhile.
    pub(super) fn run(&mut self, node: u32) -> u64 {
        let (meanwhile, after) = self.look(node);
        for &b in self.flow.reads.of(node) {
            self.left[b as usize] -= 1;
        }
        self.live = after;
        meanwhile
    }
}

fn clamped(bytes: usize) -> u64 {
    (aligned(bytes) as u64).min(MOST)
}

/// Blocks that output 0 of `node` may overwrite if the node is their last reader.
fn candidates(
    graph: &Graph,
    node: &Node,
    launch: &Launch,
    roots: &[ValueId],
    begins: &[Option<u32>],
) -> Vec<u32> {
    let Some(&output) = node.outputs.first() else { return Vec::new() };
    let output = graph.desc(output);
    let operands = launch.in_place().iter().filter_map(|&i| node.inputs.get(i));
    let fits = operands.filter(|&&input| {
        let root = roots[input.index()];
        let mut there = node.inputs.iter().filter(|v| roots[v.index()] == root);
        // Another operand on the same memory is fine only if it is read at the same positions.
        let alone = match launch {
            Launch::ScatterAdd => there.count() == 1,
            _ => there.all(|v| graph.desc(*v) == output),
        };
        alone && graph.desc(input) == output && graph.desc(root).bytes() == output.bytes()
    });
    fits.filter_map(|input| begins[roots[input.index()].index()]).collect()
}

/// What runs before each node: the makers of its operands; and every write of a parameter or state
/// stays on the side of its reads, through views too, on which the graph has it.
fn precedence(graph: &Graph, roots: &[ValueId]) -> Lists {
    let mut is_written = vec![false; roots.len()];
    for node in graph.nodes() {
        for &i in node.op.mutates() {
            is_written[roots[node.inputs[i].index()].index()] = true;
        }
    }
    let (mut readers, mut writer) = (vec![Vec::new(); roots.len()], vec![None; roots.len()]);
    let mut before = Lists::default();
    for (i, node) in graph.nodes().iter().enumerate() {
        let mut wait = Vec::new();
        for v in &node.inputs {
            if let Source::Node { node, .. } = graph.get(*v).source {
                wait.push(node.0);
            }
            let root = roots[v.index()].index();
            if is_written[root] {
                wait.extend(writer[root]);
                readers[root].push(i as u32);
            }
        }
        for &m in node.op.mutates() {
            let root = roots[node.inputs[m].index()].index();
            wait.extend(readers[root].iter().filter(|&&r| r != i as u32));
            writer[root] = Some(i as u32);
        }
        before.push_set(wait);
    }
    before
}
