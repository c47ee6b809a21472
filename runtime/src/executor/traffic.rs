//! What has to be copied between the host and devices that have memory of their own, and when.
//!
//! A device's copy of the arena has the arena's layout, so there is one plan for all. What programs of
//! others left there is brought to a device before the program that reads it; what others read, or
//! the caller may, comes back after the program that made it. Everything else stays where it is made.
//! Inputs, parameters and states go as a whole, and only those that changed ([`Storage`]).

use std::collections::HashMap;
use std::ops::Range;

use crate::backend::{Backend, Operand, Step};
use crate::error::Result;
use crate::tensor::Storage;

/// Where a program works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// In the host's memory.
    #[default]
    Host,
    /// In that of the device of this number.
    Device(usize),
    /// It reads and writes the host's, but keeps to itself what nobody else needs.
    Inside,
}

impl Place {
    /// Where the programs of a backend of that number work.
    pub(super) fn of(backend: &dyn Backend, number: usize) -> Self {
        match backend {
            device if device.has_mirrors() => Self::Device(number),
            device if device.runs_whole() => Self::Inside,
            _ => Self::Host,
        }
    }

    /// The host's bit.
    const HOST: u64 = 1;

    /// A bit for each place where bytes can be found again.
    fn bit(self) -> u64 {
        match self {
            Self::Host => Self::HOST,
            Self::Device(number) => 2 << number,
            Self::Inside => 0,
        }
    }
}

/// What one program does with memory.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Where it works.
    pub(super) place: Place,
    /// How many of the programs before it must be done before it begins. The others may work on.
    pub(super) after: usize,
    /// What its steps do with the arena, in their order.
    steps: Vec<Touched>,
    /// Slots of tensors.
    slots: Vec<usize>,
    /// Those of them that it writes.
    written: Vec<usize>,
}

/// Bytes of the arena that a step reads and writes.
#[derive(Debug, Default)]
struct Touched {
    reads: Vec<Range<usize>>,
    writes: Vec<Range<usize>>,
    /// Bytes that hold nothing before and after.
    scratch: Range<usize>,
}

/// Bytes of the arena that a program needs first, and those that are needed of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    pub(super) brought: Vec<Range<usize>>,
    pub(super) taken: Vec<Range<usize>>,
}

impl Uses {
    /// What `steps` use at a place.
    pub(super) fn of(place: Place, steps: &[Step]) -> Self {
        let mut uses = Self { place, ..Self::default() };
        for step in steps {
            let overwritten = step.op.mutates().iter().map(|&i| &step.inputs[i]);
            let written: Vec<_> = step.outputs.iter().chain(overwritten).collect();
            let in_arena =
                |operand: &&Operand| operand.slot == super::ARENA && operand.desc.bytes() > 0;
            let range = |operand: &Operand| operand.offset..operand.offset + operand.desc.bytes();
            let reads = step.inputs.iter().filter(in_arena).map(range).collect();
            let writes = written.iter().copied().filter(in_arena).map(range).collect();
            let scratch = step.workspace.0..step.workspace.0 + step.workspace.1;
            uses.steps.push(Touched { reads, writes, scratch });
            let tensors = |operand: &&Operand| operand.slot != super::ARENA;
            uses.slots.extend(step.inputs.iter().filter(tensors).map(|o| o.slot));
            uses.slots.extend(written.iter().copied().filter(tensors).map(|o| o.slot));
            uses.written.extend(written.iter().copied().filter(tensors).map(|o| o.slot));
        }
        for slots in [&mut uses.slots, &mut uses.written] {
            slots.sort_unstable();
            slots.dedup();
        }
        uses
    }

    /// Whether one of two programs touches what the other changes.
    fn meets(&self, other: &Self) -> bool {
        let changes = |a: &Self, b: &Self| {
            let slot = a.written.iter().any(|slot| b.slots.binary_search(slot).is_ok());
            slot || overlap(&a.arena(true), &b.arena(false))
        };
        changes(self, other) || changes(other, self)
    }

    /// Bytes of the arena that it writes, or touches at all: sorted, and apart from each other.
    fn arena(&self, written: bool) -> Vec<Range<usize>> {
        let ranges = self.steps.iter().flat_map(|step| {
            let reads = step.reads.iter().filter(move |_| !written);
            step.writes.iter().chain(std::iter::once(&step.scratch)).chain(reads)
        });
        let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).cloned().collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let joined = next.start <= last.end;
            last.end = if joined { last.end.max(next.end) } else { last.end };
            joined
        });
        ranges
    }

    /// Forgets tensors that need no copies.
    pub(super) fn keep_copied(&mut self, storages: &[Storage]) {
        for slots in [&mut self.slots, &mut self.written] {
            slots.retain(|&slot| storages[slot].is_copied());
            slots.shrink_to_fit();
        }
        self.steps = Vec::new();
    }

    /// Brings the tensors to where the program runs.
    pub(super) fn enter(&self, storages: &[Storage]) -> Result<()> {
        self.slots.iter().try_for_each(|&slot| match self.place {
            Place::Device(_) => storages[slot].update_device(),
            _ => storages[slot].update_host(),
        })
    }

    /// Notes which tensors the program has changed.
    pub(super) fn leave(&self, storages: &[Storage]) -> Result<()> {
        self.written.iter().try_for_each(|&slot| match self.place {
            Place::Device(_) => storages[slot].changed_on_device(),
            _ => {
                storages[slot].changed_on_host();
                Ok(())
            }
        })
    }
}

/// Where the bytes of a buffer are, and which program made them.
struct Whereabouts {
    /// A bit for each place.
    places: u64,
    maker: usize,
}

/// Whether any two of sorted ranges have a byte in common.
fn overlap(a: &[Range<usize>], b: &[Range<usize>]) -> bool {
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.start < y.end && y.start < x.end {
            return true;
        }
        if x.end <= y.end { i += 1 } else { j += 1 }
    }
    false
}

/// Says of each program how many of those before must be done first: up to the last whose memory it
/// meets.
pub(super) fn set_after(programs: &mut [Uses]) {
    for number in 1..programs.len() {
        let (before, this) = programs.split_at_mut(number);
        let met = before.iter().rposition(|other| other.meets(&this[0]));
        this[0].after = met.map_or(0, |last| last + 1);
    }
}

/// The spans of all programs, of which `wanted` are read by the caller in the end.
pub(super) fn spans(programs: &[Uses], wanted: &[Range<usize>]) -> Vec<Spans> {
    let mut spans = vec![Spans::default(); programs.len()];
    // By where they begin: no two buffers that live at a time begin at the same byte.
    let mut known: HashMap<usize, Whereabouts> = HashMap::new();
    for (number, program) in programs.iter().enumerate() {
        let here = program.place.bit();
        for Touched { reads, writes, .. } in &program.steps {
            for range in reads {
                let Some(bytes) = known.get_mut(&range.start) else { continue };
                if bytes.places & here != 0 || bytes.maker == number {
                    continue;
                }
                bytes.take(range, &mut spans);
                if program.place != Place::Host {
                    spans[number].brought.push(range.clone());
                }
                bytes.places |= here;
            }
            for range in writes {
                known.insert(range.start, Whereabouts { places: here, maker: number });
            }
        }
    }
    for range in wanted {
        if let Some(bytes) = known.get_mut(&range.start) {
            bytes.take(range, &mut spans);
        }
    }
    spans
}

impl Whereabouts {
    /// Lets the bytes come to the host, unless they are there.
    fn take(&mut self, range: &Range<usize>, spans: &mut [Spans]) {
        if self.places & Place::HOST == 0 {
            spans[self.maker].taken.push(range.clone());
            self.places |= Place::HOST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(place: Place, steps: &[(&[usize], &[usize])]) -> Uses {
        let ranges = |starts: &[usize]| starts.iter().map(|&s| s..s + 4).collect();
        let steps = steps
            .iter()
            .map(|(reads, writes)| Touched {
                reads: ranges(reads),
                writes: ranges(writes),
                scratch: 0..0,
            })
            .collect();
        Uses { place, steps, ..Uses::default() }
    }

    #[test]
    fn only_what_others_need_is_copied_and_only_once() {
        let programs = [
            program(Place::Device(0), &[(&[], &[0]), (&[0], &[64])]),
            program(Place::Host, &[(&[64], &[128]), (&[64], &[192])]),
            program(Place::Device(0), &[(&[128, 0], &[256]), (&[128], &[320])]),
            program(Place::Host, &[(&[64], &[384])]),
            // The memory of 256 has been given to another.
            program(Place::Device(0), &[(&[384], &[256])]),
        ];
        let spans = spans(&programs, &[320..324, 192..196, 256..260]);
        let starts = |ranges: &[Range<usize>]| ranges.iter().map(|r| r.start).collect::<Vec<_>>();
        let brought: Vec<_> = spans.iter().map(|s| starts(&s.brought)).collect();
        let taken: Vec<_> = spans.iter().map(|s| starts(&s.taken)).collect();
        assert_eq!(brought, [vec![], vec![], vec![128], vec![], vec![384]]);
        assert_eq!(taken, [vec![64], vec![], vec![320], vec![], vec![256]]);
    }

    #[test]
    fn programs_wait_for_those_whose_memory_they_meet() {
        let mut programs = [
            program(Place::Device(0), &[(&[], &[0]), (&[0], &[64])]),
            program(Place::Host, &[(&[128], &[192])]),
            // Both have read 128.
            program(Place::Host, &[(&[128], &[256])]),
            program(Place::Device(0), &[(&[64], &[320])]),
            // It overwrites what the third reads.
            program(Place::Host, &[(&[], &[128])]),
            program(Place::Host, &[(&[], &[512])]),
        ];
        programs[5].steps[0].scratch = 320..330;
        set_after(&mut programs);
        assert_eq!(programs.map(|p| p.after), [0, 0, 0, 1, 3, 4]);
    }

    #[test]
    fn what_runs_as_one_gives_only_what_others_read() {
        let programs = [
            program(Place::Inside, &[(&[], &[0]), (&[0], &[64]), (&[64], &[128])]),
            program(Place::Inside, &[(&[64], &[192])]),
            program(Place::Host, &[(&[192], &[256])]),
        ];
        let wanted = 256..260;
        let spans = spans(&programs, std::slice::from_ref(&wanted));
        let starts = |ranges: &[Range<usize>]| ranges.iter().map(|r| r.start).collect::<Vec<_>>();
        let taken: Vec<_> = spans.iter().map(|s| starts(&s.taken)).collect();
        assert_eq!(taken, [vec![64], vec![192], vec![]]);
    }
}
