//! Offsets in the arena: best fit, largest buffer first.

use crate::tensor::ALIGN;

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

impl Interval {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
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

/// Gives each interval an offset so that none that live at the same time overlap, and the size of
/// the arena that holds them.
///
/// Largest first, each into the tightest gap that fits (ties: the lowest). O(n^2) with a small
/// constant: the overlap scan is two comparisons an interval.
#[must_use]
pub fn place(intervals: &[Interval]) -> (Vec<usize>, usize) {
    let mut by_size: Vec<usize> = (0..intervals.len()).collect();
    by_size.sort_by_key(|&i| (std::cmp::Reverse(intervals[i].bytes), intervals[i].first, i));
    let mut offsets = vec![0usize; intervals.len()];
    // Placed intervals in order of offset.
    let mut placed: Vec<usize> = Vec::with_capacity(intervals.len());
    let mut arena = 0;
    for i in by_size {
        let bytes = aligned(intervals[i].bytes);
        if bytes == 0 {
            continue;
        }
        let (mut end, mut best) = (0usize, None::<(usize, usize)>);
        for &j in placed.iter().filter(|&&j| intervals[j].overlaps(&intervals[i])) {
            if let Some(gap) = offsets[j].checked_sub(end)
                && gap >= bytes
                && best.is_none_or(|(tightest, _)| gap < tightest)
            {
                best = Some((gap, end));
            }
            end = end.max(offsets[j].saturating_add(aligned(intervals[j].bytes)));
        }
        offsets[i] = best.map_or(end, |(_, offset)| offset);
        arena = arena.max(offsets[i].saturating_add(bytes));
        let at = placed.partition_point(|&j| offsets[j] <= offsets[i]);
        placed.insert(at, i);
    }
    (offsets, arena)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_overlaps_and_never_below_the_bound(
            raw in prop::collection::vec((0usize..5000, 0usize..40, 0usize..12), 0..60)
        ) {
            let intervals: Vec<_> = raw
                .iter()
                .map(|&(bytes, first, length)| Interval { bytes, first, last: first + length })
                .collect();
            let (offsets, arena) = place(&intervals);
            prop_assert!(arena >= lower_bound(&intervals));
            for i in 0..intervals.len() {
                let end = offsets[i] + intervals[i].bytes;
                prop_assert!(end <= arena && offsets[i] % ALIGN == 0);
                for j in 0..i {
                    let apart = end <= offsets[j] || offsets[j] + intervals[j].bytes <= offsets[i];
                    prop_assert!(apart || intervals[i].bytes == 0 || intervals[j].bytes == 0
                        || !intervals[i].overlaps(&intervals[j]));
                }
            }
        }
    }

    #[test]
    fn what_overflows_is_as_large_as_can_be() {
        let huge = Interval { bytes: usize::MAX / 2, first: 0, last: 1 };
        let all = [huge; 3];
        assert_eq!((place(&all).1, lower_bound(&all)), (usize::MAX, usize::MAX));
    }

    #[test]
    fn meets_the_bound_on_a_stack() {
        let nested: Vec<_> =
            (0..10).map(|i| Interval { bytes: 640, first: i, last: 19 - i }).collect();
        assert_eq!(place(&nested).1, lower_bound(&nested));
    }
}
