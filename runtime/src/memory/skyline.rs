//! How high an arena is filled at each step while it is being filled from below.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Steps whose needs are raised together.
const BLOCK: usize = 32;

/// Steps, one after another, up to which the arena is filled to the same height.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) height: usize,
}

/// How high the arena is filled at each step.
pub(super) struct Skyline {
    /// By first step: the last of the run that begins there, and its height.
    runs: Vec<Option<(usize, usize)>>,
    /// By last step: the first of the run that ends there.
    firsts: Vec<usize>,
    /// Runs by height, those that are no more among them.
    queue: BinaryHeap<Reverse<(usize, usize)>>,
}

impl Skyline {
    pub(super) fn new(steps: usize) -> Self {
        let mut sky =
            Self { runs: vec![None; steps], firsts: vec![0; steps], queue: BinaryHeap::new() };
        if steps > 0 {
            sky.set(0, steps - 1, 0);
        }
        sky
    }

    fn set(&mut self, first: usize, last: usize, height: usize) {
        self.runs[first] = Some((last, height));
        self.firsts[last] = first;
        self.queue.push(Reverse((height, first)));
    }

    /// Takes the lowest run out, the leftmost of several.
    pub(super) fn lowest(&mut self) -> Option<Run> {
        while let Some(Reverse((height, first))) = self.queue.pop() {
            let Some((mut last, _)) = self.runs[first].filter(|r| r.1 == height) else { continue };
            self.runs[first] = None;
            // What came to be as high as this is part of it.
            while let Some(&Some((end, _))) =
                self.runs.get(last + 1).filter(|r| r.is_some_and(|r| r.1 == height))
            {
                self.runs[last + 1] = None;
                last = end;
            }
            return Some(Run { first, last, height });
        }
        None
    }

    /// Puts something of `first` to `last` on a run that was taken out.
    pub(super) fn put(&mut self, run: &Run, first: usize, last: usize, height: usize) {
        if run.first < first {
            self.set(run.first, first - 1, run.height);
        }
        self.set(first, last, height);
        if last < run.last {
            self.set(last + 1, run.last, run.height);
        }
    }

    /// Raises a run that was taken out to its lower neighbour, and gives that height.
    pub(super) fn give_up(&mut self, run: &Run) -> usize {
        let after = self.runs.get(run.last + 1).and_then(|r| *r).map(|r| r.1);
        let before = run.first.checked_sub(1).map(|last| self.firsts[last]);
        let before = before.and_then(|first| self.runs[first]).map(|r| r.1);
        let height = before.into_iter().chain(after).min().unwrap_or(usize::MAX);
        self.set(run.first, run.last, height);
        height
    }
}

/// How large the arena must be for what lives at each step and for the room lost beside it.
pub(super) struct Needs {
    all: Vec<usize>,
    /// Of each [`BLOCK`] of steps, the largest need, in which the room that the whole block lost
    /// is counted, and that room, which is not counted in the steps' own.
    blocks: Vec<(usize, usize)>,
}

impl Needs {
    pub(super) fn new(live: &[usize]) -> Self {
        let most = |steps: &[usize]| (steps.iter().copied().max().unwrap_or(0), 0);
        Self { all: live.to_vec(), blocks: live.chunks(BLOCK).map(most).collect() }
    }

    /// Loses `bytes` at each step from `first` to `last`; gives the one whose need is largest then,
    /// if that is above `aim`.
    pub(super) fn lose(
        &mut self,
        first: usize,
        last: usize,
        bytes: usize,
        aim: usize,
    ) -> Option<usize> {
        let mut above = None;
        let mut most = aim;
        let mut at = first;
        while at <= last {
            let block = at / BLOCK;
            let (start, end) = (block * BLOCK, self.all.len().min((block + 1) * BLOCK));
            let steps = at..end.min(last + 1);
            let (largest, lost) = &mut self.blocks[block];
            if steps == (start..end) {
                *largest = largest.saturating_add(bytes);
                *lost += bytes;
            } else {
                let needs = &mut self.all[steps.clone()];
                needs.iter_mut().for_each(|need| *need = need.saturating_add(bytes));
                let all = self.all[start..end].iter().max();
                *largest = all.map_or(0, |need| need.saturating_add(*lost));
            }
            if *largest > most {
                let need = |step: &usize| self.all[*step].saturating_add(*lost);
                if let Some(step) = steps.clone().max_by_key(need).filter(|s| need(s) > most) {
                    (above, most) = (Some(step), need(&step));
                }
            }
            at = end;
        }
        above
    }
}
