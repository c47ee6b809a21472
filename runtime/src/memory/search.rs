//! The best order of few nodes, by exhaustive search.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::flow::{Flow, Walk};

/// Most nodes that are searched at once: sets of them are the bits of a word.
pub(super) const WINDOW: usize = 64;

/// Part of an order, for itself: nodes go by their position in it, sets of them are bits.
struct Window {
    nodes: Vec<Local>,
    /// All its nodes.
    all: u64,
}

/// A node of a window.
#[derive(Default)]
struct Local {
    /// Nodes of the window that run before it.
    before: u64,
    /// Bytes of what it makes, and of its scratch.
    grows: u64,
    /// Bytes of what it makes that live on after it.
    stays: u64,
    /// What it reads that ends in the window: the readers, and the bytes.
    reads: Vec<(u64, u64)>,
    /// Readers of what its first output may lie in.
    victims: Vec<u64>,
    /// Bytes of its first output.
    first: u64,
}

impl Local {
    /// By how much memory rises while the node runs, and by how much it has risen after it, once
    /// `done` have run.
    fn rise(&self, done: u64, me: u64) -> (i64, i64) {
        let last = |&readers: &u64| readers & !done == me;
        let saved = if self.victims.iter().any(last) { self.first } else { 0 };
        let freed: u64 = self.reads.iter().filter(|(r, _)| last(r)).map(|(_, bytes)| bytes).sum();
        (self.grows as i64 - saved as i64, self.stays as i64 - freed as i64)
    }
}

impl Window {
    /// `nodes`, of which those before have run as `walk` has.
    fn new(flow: &Flow, walk: &Walk<'_>, nodes: &[u32]) -> Self {
        let places: HashMap<u32, usize> = nodes.iter().enumerate().map(|(i, &n)| (n, i)).collect();
        let set = |of: &[u32]| {
            let inside = of.iter().filter_map(|n| places.get(n));
            inside.fold(0u64, |set, &at| set | 1 << at)
        };
        // Readers of a block that ends in the window.
        let ending = |&b: &u32| {
            let readers = set(flow.readers.of(b));
            (walk.left[b as usize] == readers.count_ones()).then_some(readers)
        };
        let bytes = |b: u32| flow.blocks[b as usize].bytes;
        let local = |&n: &u32| Local {
            before: set(flow.before.of(n)),
            grows: flow.grows[n as usize],
            stays: flow
                .makes
                .of(n)
                .iter()
                .filter(|b| walk.left[**b as usize] > 0)
                .map(|&b| bytes(b))
                .sum(),
            reads: flow.reads.of(n).iter().filter_map(|b| Some((ending(b)?, bytes(*b)))).collect(),
            victims: flow.victims.of(n).iter().filter_map(ending).collect(),
            first: flow.makes.of(n).first().map_or(0, |&b| bytes(b)),
        };
        Self { nodes: nodes.iter().map(local).collect(), all: u64::MAX >> (WINDOW - nodes.len()) }
    }

    /// Nodes that can run once `done` have.
    fn ready(&self, done: u64) -> impl Iterator<Item = usize> {
        bits(self.all & !done).filter(move |&n| self.nodes[n].before & !done == 0)
    }
}

/// The numbers of a set, rising.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        lowest
    })
}

/// A set of nodes that have run, and how it came about.
#[derive(Clone, Copy)]
struct State {
    done: u64,
    live: i64,
    /// The state before, and the node that ran since.
    from: (u32, u8),
}

/// The order of `nodes`, a part of an order whose start has run as `walk` has, with the least
/// peak; `None` where that is not below the ceiling, or where `most` states did not settle it.
/// Peaks up to the floor count the same. Also how many states were looked at.
///
/// What is live depends on which nodes have run, not on their order, so the best order is a way
/// through these sets on which the largest peak is least (Ahn et al., "Ordering chaos", MLSys
/// 2020). Here the sets are met by rising peak, as in Dijkstra's search. A node that is ready,
/// leaves no more memory behind and fits below the peak so far runs at once: moved to the front of
/// any order it raises nothing, for what it would have freed or overwritten later another then
/// does. That cuts most sets off.
pub(super) fn search(
    flow: &Flow,
    walk: &Walk<'_>,
    nodes: &[u32],
    (floor, ceiling): (u64, u64),
    most: usize,
) -> (Option<Vec<u32>>, usize) {
    let window = Window::new(flow, walk, nodes);
    let mut states = vec![State { done: 0, live: walk.live as i64, from: (0, 0) }];
    let mut best: HashMap<u64, u64> = HashMap::new();
    let mut settled: HashSet<u64> = HashSet::new();
    let mut queue = BinaryHeap::from([(Reverse(floor.max(walk.live)), 0u32, Reverse(0u32))]);
    while let Some((Reverse(peak), _, Reverse(at))) = queue.pop() {
        if peak >= ceiling || states.len() > most {
            break;
        }
        let at = settle(&window, &mut states, at, peak);
        let State { done, live, .. } = states[at as usize];
        if done == window.all {
            let order = path(&states, at).into_iter().map(|i| nodes[i as usize]).collect();
            return (Some(order), states.len());
        }
        if !settled.insert(done) {
            continue;
        }
        for n in window.ready(done) {
            let (meanwhile, after) = window.nodes[n].rise(done, 1 << n);
            let peak = peak.max((live + meanwhile) as u64);
            let next = done | 1 << n;
            if peak < ceiling && best.get(&next).is_none_or(|&b| peak < b) {
                best.insert(next, peak);
                let number = states.len() as u32;
                states.push(State { done: next, live: live + after, from: (at, n as u8) });
                queue.push((Reverse(peak), next.count_ones(), Reverse(number)));
            }
        }
    }
    (None, states.len())
}

/// Runs every node that can run at once, and gives the state then.
fn settle(window: &Window, states: &mut Vec<State>, at: u32, peak: u64) -> u32 {
    let mut at = at;
    loop {
        let State { done, live, .. } = states[at as usize];
        let at_once = window.ready(done).find_map(|n| {
            let (meanwhile, after) = window.nodes[n].rise(done, 1 << n);
            (after <= 0 && (live + meanwhile) as u64 <= peak).then_some((n, after))
        });
        let Some((n, after)) = at_once else { return at };
        states.push(State { done: done | 1 << n, live: live + after, from: (at, n as u8) });
        at = states.len() as u32 - 1;
    }
}

/// The nodes that led to a state, in order.
fn path(states: &[State], mut at: u32) -> Vec<u8> {
    let mut nodes = Vec::new();
    while states[at as usize].done != 0 {
        let (from, node) = states[at as usize].from;
        nodes.push(node);
        at = from;
    }
    nodes.reverse();
    nodes
}
