//! Orders of the nodes with a low peak.
//!
//! Which order needs the least memory is NP-hard to say (Sethi, 1975), but a training graph's own
//! order is near it already. So good orders are made better: nodes that shrink memory move to the
//! front, nodes that grow it to the back, and the nodes around the peak are put into their best
//! order by [`search`], which settles small graphs as a whole.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tenon_kernels::random::Philox;

use super::flow::{Flow, Walk};
use super::search::{WINDOW, search};
use crate::graph::Graph;

/// States that one search may look at: more than any graph of 12 nodes has.
const STATES: usize = 1 << 14;
/// States that all searches for one order may look at.
const ALL_STATES: usize = 1 << 16;

/// An order, and by what orders compare.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    /// The most bytes live at any step.
    pub(super) peak: u64,
    /// Bytes live, summed over the steps: among orders of one peak, buffers are easiest to place
    /// in that in which they live shortest.
    sum: u128,
    /// The nodes.
    pub(super) nodes: Vec<u32>,
}

impl Order {
    fn new(flow: &Flow, nodes: Vec<u32>) -> Self {
        let (peak, sum) = flow.load(&nodes);
        Self { peak, sum, nodes }
    }

    fn is_better(&self, other: &Self) -> bool {
        (self.peak, self.sum) < (other.peak, other.sum)
    }
}

/// Orders of a graph's nodes, the best one first; none is better than the first, which is no worse
/// than the graph's own order and [`writing_early`].
pub(super) fn orders(flow: &Flow, graph: &Graph) -> Vec<Order> {
    let mut met = Met::new(flow, own(flow));
    met.offer(writing_early(flow, graph));
    met.improve();
    met.all()
}

/// The graph's own order, in which each node that overwrites a parameter or state runs as soon as it
/// can: a gradient is then consumed as soon as it is complete.
pub(super) fn writing_early(flow: &Flow, graph: &Graph) -> Vec<u32> {
    early(flow, &own(flow), |_, n| !graph.nodes()[n as usize].op.mutates().is_empty())
}

fn own(flow: &Flow) -> Vec<u32> {
    (0..flow.len() as u32).collect()
}

/// Other orders, the best one first: improved from `base` after its nodes were moved about by
/// chance, which `round` decides.
pub(super) fn others(flow: &Flow, base: &[u32], round: u32) -> Vec<Order> {
    let mut met = Met::new(flow, shaken(flow, base, round));
    met.improve();
    let mut all = met.all();
    // The rest is much like these.
    all.truncate(8);
    all
}

/// Orders met so far.
struct Met<'f> {
    flow: &'f Flow,
    best: Order,
    others: Vec<Order>,
}

impl<'f> Met<'f> {
    fn new(flow: &'f Flow, nodes: Vec<u32>) -> Self {
        Self { flow, best: Order::new(flow, nodes), others: Vec::new() }
    }

    fn offer(&mut self, nodes: Vec<u32>) {
        let mut order = Order::new(self.flow, nodes);
        if order.is_better(&self.best) {
            std::mem::swap(&mut order, &mut self.best);
        }
        self.others.push(order);
    }

    fn all(mut self) -> Vec<Order> {
        self.others.push(self.best);
        self.others.sort();
        self.others.dedup();
        self.others
    }

    fn improve(&mut self) {
        self.refine();
        self.search_peak();
        self.refine();
    }

    /// Moves nodes that shrink memory to the front, and nodes that grow it to the back.
    fn refine(&mut self) {
        for _ in 0..2 {
            self.offer(shrinking_early(self.flow, &self.best));
            let late = Order::new(self.flow, late(self.flow, &self.best.nodes));
            self.offer(shrinking_early(self.flow, &late));
            self.offer(late.nodes);
        }
    }

    /// Searches windows around the peak for as long as that lowers it.
    fn search_peak(&mut self) {
        let mut states = ALL_STATES;
        while states > 0
            && let Some(lower) = self.searched(&mut states)
        {
            self.offer(lower);
        }
    }

    /// The best order with one window around its first peak in another order, where that lowers
    /// this peak.
    fn searched(&self, states: &mut usize) -> Option<Vec<u32>> {
        let nodes = &self.best.nodes;
        let loads: Vec<u64> = self.flow.loads(nodes).collect();
        let at = loads.iter().position(|&load| load == self.best.peak)?;
        let size = WINDOW.min(nodes.len());
        let mut starts = [size / 2, size / 4, size - size / 4]
            .map(|before| at.saturating_sub(before).min(nodes.len() - size))
            .to_vec();
        starts.dedup();
        starts.into_iter().find_map(|start| {
            let (before, rest) = nodes.split_at(start);
            let (window, after) = rest.split_at(size);
            let outside = loads[..start].iter().chain(&loads[start + size..]);
            let bounds = (outside.copied().max().unwrap_or(0), self.best.peak);
            let mut walk = Walk::new(self.flow);
            for &n in before {
                walk.run(n);
            }
            let (found, looked_at) = search(self.flow, &walk, window, bounds, STATES.min(*states));
            *states -= looked_at.min(*states);
            found.map(|window| [before, &window, after].concat())
        })
    }
}

/// How many nodes each node still waits for.
fn waits(flow: &Flow) -> Vec<usize> {
    (0..flow.len() as u32).map(|n| flow.before.of(n).len()).collect()
}

/// `base`, in which each node that leaves no more memory behind runs as soon as it fits below the
/// peak. That raises no other step (see [`search`]).
fn shrinking_early(flow: &Flow, base: &Order) -> Vec<u32> {
    early(flow, &base.nodes, |walk, n| {
        let (meanwhile, after) = walk.look(n);
        after <= walk.live && meanwhile <= base.peak
    })
}

/// `base`, in which each node that `may` runs as soon as it can.
fn early(flow: &Flow, base: &[u32], may: impl Fn(&Walk<'_>, u32) -> bool) -> Vec<u32> {
    let mut walk = Walk::new(flow);
    let mut waits = waits(flow);
    let mut has_run = vec![false; base.len()];
    let mut order = Vec::with_capacity(base.len());
    let mut next = Vec::new();
    for &n in base {
        next.push((n, true));
        while let Some((n, must)) = next.pop() {
            if has_run[n as usize] || waits[n as usize] > 0 || !(must || may(&walk, n)) {
                continue;
            }
            walk.run(n);
            has_run[n as usize] = true;
            order.push(n);
            for &m in flow.after.of(n) {
                waits[m as usize] -= 1;
            }
            // Those that may have become ready, and those that now would end a block.
            let ending = flow.reads.of(n).iter().filter(|&&b| walk.left[b as usize] == 1);
            let enders = ending.flat_map(|&b| flow.readers.of(b));
            next.extend(enders.chain(flow.after.of(n)).rev().map(|&m| (m, false)));
        }
    }
    order
}

/// `base`, in which each node that grows memory waits until another needs it.
fn late(flow: &Flow, base: &[u32]) -> Vec<u32> {
    let mut walk = Walk::new(flow);
    let mut has_run = vec![false; base.len()];
    let mut order = Vec::with_capacity(base.len());
    let mut stack = Vec::new();
    for &goal in base {
        let before = walk.live;
        walk.run(goal);
        if walk.live > before && !flow.after.of(goal).is_empty() {
            continue;
        }
        stack.push((goal, false));
        while let Some((n, is_ready)) = stack.pop() {
            if has_run[n as usize] {
                continue;
            }
            if is_ready {
                has_run[n as usize] = true;
                order.push(n);
            } else {
                stack.push((n, true));
                stack.extend(flow.before.of(n).iter().rev().map(|&m| (m, false)));
            }
        }
    }
    order
}

/// `base`, in which nodes run later by chance, by up to a half of its length, or
/// in other rounds a quarter and so on to a 32nd.
fn shaken(flow: &Flow, base: &[u32], round: u32) -> Vec<u32> {
    let random = Philox::new(round.into(), 0);
    let reach = base.len() as f32 / (2 << (round % 5)) as f32;
    let mut rank = vec![0; base.len()];
    for (at, &n) in base.iter().enumerate() {
        rank[n as usize] = (at as f32 + reach * random.uniform(n.into())) as u32;
    }
    let mut waits = waits(flow);
    let first = (0..base.len() as u32).filter(|&n| waits[n as usize] == 0);
    let mut ready: BinaryHeap<_> = first.map(|n| Reverse((rank[n as usize], n))).collect();
    let mut order = Vec::with_capacity(base.len());
    while let Some(Reverse((_, n))) = ready.pop() {
        order.push(n);
        for &m in flow.after.of(n) {
            waits[m as usize] -= 1;
            if waits[m as usize] == 0 {
                ready.push(Reverse((rank[m as usize], m)));
            }
        }
    }
    order
}
