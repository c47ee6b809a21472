//! Offsets in the arena: it is filled from below, and what did not fit comes sooner next time.

use super::skyline::{Needs, Run, Skyline};
use crate::tensor::ALIGN;

/// Ranks that are passed over together where none of them is high enough: an attempt at 10,000
/// nodes of a language model takes 5 ms instead of 21.
const BLOCK: usize = 32;

/// Bytes that must exist from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Size in bytes.
    pub bytes: usize,
    /// First step that touches them.
    pub first: usize,
    /// Last step that touches them.
    pub last: usize,
}

/// Rounds up to [`ALIGN`]. Here and below what overflows stays at the largest size, which no
/// allocator gives: a size that wrapped around would be given, and written past.
#[must_use]
pub fn aligned(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX)
}

/// The most bytes alive at any step: no arena can be smaller.
#[must_use]
pub fn lower_bound(intervals: &[Interval]) -> usize {
    live_bytes(intervals).into_iter().max().unwrap_or(0)
}

/// Bytes alive at each step.
#[must_use]
pub fn live_bytes(intervals: &[Interval]) -> Vec<usize> {
    let steps = intervals.iter().map(|i| i.last + 1).max().unwrap_or(0);
    let mut delta = vec![0i128; steps + 1];
    for i in intervals {
        delta[i.first] += aligned(i.bytes) as i128;
        delta[i.last + 1] -= aligned(i.bytes) as i128;
    }
    delta[..steps]
        .iter()
        .scan(0i128, |live, d| {
            *live += d;
            Some(usize::try_from(*live).unwrap_or(usize::MAX))
        })
        .collect()
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Arenas that are aimed at, from the lower bound up.
    pub aims: usize,
    /// Attempts at one of them by one rule.
    pub attempts: usize,
    /// Work of all attempts, in units of some 10 ns; what is done is taken off. An attempt at an
    /// arena of any size is made even if there is none left.
    pub work: usize,
}

/// Gives each interval an offset so that none that live at the same time overlap, and the size of
/// the arena that holds them.
///
/// The arena is filled from below (Burke, Kendall and Whitwell, "A new placement heuristic for the
/// orthogonal stock-cutting problem", 2004; for buffers Sekiyama et al., "Profile-guided memory
/// optimization for deep neural networks", 2018): of the steps at which it is filled least, the
/// first run is taken, and of the intervals that lie within it, the one that ranks highest is put
/// there. Where there is none, the run is given up to the height of its lower neighbour. Should
/// that leave too little room for what still must live at one of its steps, the attempt has
/// failed; the intervals in want of room there rank higher in the next ("squeaky wheel
/// optimization", Joslin and Clements, 1999). Attempts aim at the lower bound, and where they miss
/// it half-way between what was missed and what was reached.
pub fn place(intervals: &[Interval], effort: &mut Effort) -> (Vec<usize>, usize) {
    let bound = lower_bound(intervals);
    let mut offsets = vec![0; intervals.len()];
    if bound == usize::MAX {
        return (offsets, bound);
    }
    let mut filler = Filler::new(intervals, *effort);
    let (mut best, mut arena) = filler.anyhow();
    let (mut missed, mut aim) = (bound, bound);
    for _ in 0..effort.aims {
        if arena <= aim || filler.effort.work == 0 {
            break;
        }
        match filler.reach(aim) {
            Some(found) => (best, arena) = found,
            None => missed = aim,
        }
        aim = missed + (arena - missed) / 2;
    }
    effort.work = filler.effort.work;
    for (item, offset) in filler.items.iter().zip(best) {
        offsets[item.number] = offset;
    }
    (offsets, arena)
}

/// How items rank at first: by how long they live, by size, by both.
const RULES: [fn(&Item) -> f64; 3] = [
    |item| item.steps() * 1e12 + item.bytes as f64,
    |item| item.bytes as f64,
    |item| item.bytes as f64 * item.steps(),
];

/// An interval that takes room.
struct Item {
    /// Its place among the intervals.
    number: usize,
    bytes: usize,
    first: usize,
    last: usize,
}

impl Item {
    fn steps(&self) -> f64 {
        (self.last - self.first + 1) as f64
    }
}

/// Fills arenas.
struct Filler {
    /// What is to be placed, by first step.
    items: Vec<Item>,
    /// By step: the first item that starts then or later.
    starts: Vec<usize>,
    /// By step: bytes live.
    live: Vec<usize>,
    /// What may still be done.
    effort: Effort,
}

impl Filler {
    fn new(intervals: &[Interval], effort: Effort) -> Self {
        let some = intervals.iter().enumerate().filter(|(_, i)| i.bytes > 0);
        let item = |(number, i): (usize, &Interval)| Item {
            number,
            bytes: aligned(i.bytes),
            first: i.first,
            last: i.last,
        };
        let mut items: Vec<Item> = some.map(item).collect();
        items.sort_by_key(|item| item.first);
        let live = live_bytes(intervals);
        let starts = (0..=live.len()).map(|s| items.partition_point(|i| i.first < s)).collect();
        Self { items, starts, live, effort }
    }

    /// Offsets by the first rule in an arena of any size, and that size.
    fn anyhow(&mut self) -> (Vec<usize>, usize) {
        let ranks: Vec<f64> = self.items.iter().map(RULES[0]).collect();
        let offsets = self.fill(&ranks, usize::MAX).unwrap_or_default();
        let arena = self.arena(&offsets);
        (offsets, arena)
    }

    /// Offsets in an arena of at most `aim` bytes, and what they take of it.
    fn reach(&mut self, aim: usize) -> Option<(Vec<usize>, usize)> {
        for rule in RULES {
            let mut ranks: Vec<f64> = self.items.iter().map(rule).collect();
            for attempt in 1..=self.effort.attempts {
                if self.effort.work == 0 {
                    return None;
                }
                let wanting = match self.fill(&ranks, aim) {
                    Ok(offsets) => {
                        let arena = self.arena(&offsets);
                        return Some((offsets, arena));
                    }
                    Err(wanting) => wanting,
                };
                for (i, item) in wanting.into_iter().enumerate() {
                    // Factors spread evenly over 1 to 2, so that attempts do not go in circles.
                    let spread = (attempt * 7919 + i) as f64 * 0.618_033_988_75;
                    ranks[item] *= 1.0 + spread.fract();
                }
            }
        }
        None
    }

    fn arena(&self, offsets: &[usize]) -> usize {
        let ends = self.items.iter().zip(offsets).map(|(i, &o)| o.saturating_add(i.bytes));
        ends.max().unwrap_or(0)
    }

    /// The item that ranks highest of those that wait and live within `run`.
    fn highest(&mut self, ranks: &Ranks, run: &Run) -> Option<usize> {
        let (mut at, end) = (self.starts[run.first], self.starts[run.last + 1]);
        let (mut best, mut rank) = (None, 0.0);
        while at < end {
            let next = end.min((at / BLOCK + 1) * BLOCK);
            self.effort.work = self.effort.work.saturating_sub(1);
            if ranks.highest[at / BLOCK] > rank {
                self.effort.work = self.effort.work.saturating_sub(BLOCK / 2);
                for i in at..next {
                    if ranks.all[i] > rank && self.items[i].last <= run.last {
                        (best, rank) = (Some(i), ranks.all[i]);
                    }
                }
            }
            at = next;
        }
        best
    }

    /// Offsets in an arena of `aim` bytes, or which items were in want of room.
    fn fill(&mut self, ranks: &[f64], aim: usize) -> Result<Vec<usize>, Vec<usize>> {
        self.effort.work = self.effort.work.saturating_sub(8 * self.items.len());
        let mut ranks = Ranks::new(ranks);
        let mut needs = Needs::new(&self.live);
        let mut offsets = vec![0; self.items.len()];
        let mut sky = Skyline::new(self.live.len());
        let mut waiting = self.items.len();
        while waiting > 0
            && let Some(run) = sky.lowest()
        {
            if let Some(i) = self.highest(&ranks, &run) {
                let item = &self.items[i];
                ranks.drop(i);
                offsets[i] = run.height;
                waiting -= 1;
                sky.put(&run, item.first, item.last, run.height.saturating_add(item.bytes));
                continue;
            }
            let lost = sky.give_up(&run) - run.height;
            if let Some(at) = needs.lose(run.first, run.last, lost, aim) {
                let wants = |&i: &usize| ranks.all[i] > 0.0 && self.items[i].last >= at;
                return Err((0..self.starts[at + 1]).filter(wants).collect());
            }
        }
        Ok(offsets)
    }
}

/// The ranks of items that wait; 0 for those that do not.
struct Ranks {
    all: Vec<f64>,
    /// The highest of each [`BLOCK`].
    highest: Vec<f64>,
}

impl Ranks {
    fn new(all: &[f64]) -> Self {
        let highest = all.chunks(BLOCK).map(highest).collect();
        Self { all: all.to_vec(), highest }
    }

    fn drop(&mut self, item: usize) {
        self.all[item] = 0.0;
        let block = item / BLOCK;
        let end = self.all.len().min((block + 1) * BLOCK);
        self.highest[block] = highest(&self.all[block * BLOCK..end]);
    }
}

fn highest(ranks: &[f64]) -> f64 {
    ranks.iter().fold(0.0, |most, &rank| if rank > most { rank } else { most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOME: Effort = Effort { aims: 3, attempts: 10, work: 1 << 20 };

    proptest! {
        #[test]
        fn never_overlaps_and_never_below_the_bound(
            raw in prop::collection::vec((0usize..5000, 0usize..40, 0usize..12), 0..60)
        ) {
            let intervals: Vec<_> = raw
                .iter()
                .map(|&(bytes, first, length)| Interval { bytes, first, last: first + length })
                .collect();
            let (offsets, arena) = place(&intervals, &mut SOME.clone());
            prop_assert!(arena >= lower_bound(&intervals));
            for i in 0..intervals.len() {
                let end = offsets[i] + intervals[i].bytes;
                prop_assert!(end <= arena && offsets[i] % ALIGN == 0);
                for j in 0..i {
                    let apart = end <= offsets[j] || offsets[j] + intervals[j].bytes <= offsets[i];
                    prop_assert!(apart || intervals[i].bytes == 0 || intervals[j].bytes == 0
                        || intervals[i].first > intervals[j].last
                        || intervals[j].first > intervals[i].last);
                }
            }
        }
    }

    #[test]
    fn what_overflows_is_as_large_as_can_be() {
        let huge = Interval { bytes: usize::MAX / 2, first: 0, last: 1 };
        let all = [huge; 3];
        assert_eq!((place(&all, &mut SOME.clone()).1, lower_bound(&all)), (usize::MAX, usize::MAX));
    }

    #[test]
    fn meets_the_bound_on_a_stack() {
        let nested: Vec<_> =
            (0..10).map(|i| Interval { bytes: 640, first: i, last: 19 - i }).collect();
        assert_eq!(place(&nested, &mut SOME.clone()).1, lower_bound(&nested));
    }
}
