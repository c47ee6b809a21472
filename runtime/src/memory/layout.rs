//! From orders of the nodes to a place for every buffer.

use super::PlannedNode;
use super::flow::Flow;
use super::order::{orders, others};
use super::place::{Effort, Interval, lower_bound, place};
use crate::graph::{Graph, ValueId};

/// What is done to place the buffers of one order: some 10 ms. With fewer attempts a language model
/// of the test's corpus misses its bound.
const EFFORT: Effort = Effort { aims: 6, attempts: 40, work: 1 << 20 };
/// What is done to find others whose buffers can be placed better: at most some 160 ms; and where
/// that leaves more than a [`LOOSE`]th of the arena unused, some 1.3 s. One in 235 graphs of the test's
/// corpus needs that, a random one: it ends at its bound instead of 5 % above.
const OTHERS_EFFORT: Effort = Effort { aims: 1, attempts: 16, work: 1 << 24 };
const LOOSE_WORK: usize = 1 << 27;
const LOOSE: u64 = 100;
/// What the first orders and a round of others take a node, in units of that effort: no more than
/// 100 ms are to be spent on 10,000 nodes.
const FIRST_WORK: usize = 1 << 11;
const ROUND_WORK: usize = 1 << 8;
/// How often other orders are tried where the buffers of those so far cannot be placed at the
/// bound.
const ROUNDS: u32 = 200;

/// Whose a buffer is.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    /// A value's, and what shares its memory.
    Value(ValueId),
    /// The scratch of the node that runs at this step.
    Workspace(usize),
}

/// An order of the nodes with a place for every buffer.
pub(super) struct Layout {
    /// The nodes, by number in the graph.
    pub(super) order: Vec<u32>,
    /// By value: the value whose memory it is.
    pub(super) roots: Vec<ValueId>,
    /// The buffers: whose, when and how large, where.
    pub(super) buffers: Vec<(Owner, Interval, usize)>,
    /// What no arena can be smaller than in this order.
    pub(super) bound: usize,
    /// The arena that holds them.
    pub(super) arena: usize,
}

impl Layout {
    /// The layout with the smallest arena that was found. The best order's comes first. Only where
    /// its buffers cannot be placed at the bound, others follow.
    pub(super) fn best(graph: &Graph, planned: &[PlannedNode], flow: &Flow) -> Self {
        let mut orders = orders(flow, graph);
        let first = orders.remove(0);
        let mut best = Self::of_order(graph, planned, flow, first.nodes);
        let mut lowest = first.peak;
        let mut effort = OTHERS_EFFORT;
        effort.work = effort.work.saturating_sub(FIRST_WORK * flow.len());
        let mut more = LOOSE_WORK;
        for round in 0..ROUNDS {
            if effort.work == 0 && best.arena as u64 > lowest + lowest / LOOSE {
                effort.work = std::mem::take(&mut more);
            }
            if best.arena as u64 <= lowest || effort.work == 0 {
                break;
            }
            for order in orders {
                lowest = lowest.min(order.peak);
                if order.peak < best.arena as u64 {
                    let other = Self::new(graph, planned, flow, order.nodes, &mut effort);
                    if other.arena < best.arena {
                        best = other;
                    }
                }
            }
            effort.work = effort.work.saturating_sub(ROUND_WORK * flow.len());
            orders = others(flow, &best.order, round);
        }
        if best.arena > best.bound {
            let squeezed = Self::of_order(graph, planned, flow, best.order.clone());
            if squeezed.arena < best.arena {
                return squeezed;
            }
        }
        best
    }

    /// The layout of an order.
    pub(super) fn of_order(
        graph: &Graph,
        planned: &[PlannedNode],
        flow: &Flow,
        order: Vec<u32>,
    ) -> Self {
        Self::new(graph, planned, flow, order, &mut EFFORT.clone())
    }

    fn new(
        graph: &Graph,
        planned: &[PlannedNode],
        flow: &Flow,
        order: Vec<u32>,
        effort: &mut Effort,
    ) -> Self {
        let (roots, lives) = flow.lives(&order);
        let (mut owners, mut intervals) = (Vec::new(), Vec::new());
        for (block, life) in flow.blocks.iter().zip(lives) {
            if let Some((first, last)) = life {
                owners.push(Owner::Value(block.root));
                intervals.push(Interval { bytes: graph.desc(block.root).bytes(), first, last });
            }
        }
        for (step, &node) in order.iter().enumerate() {
            let bytes = planned[node as usize].workspace.1;
            if bytes > 0 {
                owners.push(Owner::Workspace(step));
                intervals.push(Interval { bytes, first: step, last: step });
            }
        }
        let bound = lower_bound(&intervals);
        let (offsets, arena) = place(&intervals, effort);
        let buffers = owners.into_iter().zip(intervals).zip(offsets);
        let buffers = buffers.map(|((owner, interval), offset)| (owner, interval, offset));
        Self { order, roots, buffers: buffers.collect(), bound, arena }
    }
}
