//! Indices out of range: the CPU's error, and nothing lost.
//!
//! Those that the host has as a program begins it looks at itself, before anything is submitted. Those
//! that the device makes on the way are looked at there, by a shader that leaves what it finds in
//! memory that the host sees; nothing that outlasts the run is overwritten before the host has read
//! that, which costs such programs, and no others, a wait in their midst.

use std::ops::Range;

use tenon_kernels::index::{out_of_range, target_out_of_range};
use tenon_runtime::backend::{Launch, Memory, Operand, Row, Step};
use tenon_runtime::{Error, Result};

use super::Context;
use super::launch::{Access, Binding, Dispatch, FOUND, LANES, Place};
use super::memory::{Piece, Purpose};
use super::shader::Shader;

/// Bytes from what is found of one step's indices to that of another's.
const NEXT: usize = 64;

/// Indices that a step reads.
struct Indices {
    op: &'static str,
    operand: Operand,
    /// What they must be below.
    bound: usize,
    /// One that stands for none.
    ignore: Option<i32>,
}

impl Indices {
    /// Those of a step, if it reads any.
    fn of(step: &Step) -> Option<Self> {
        let input = |i: usize| &step.inputs[i].desc;
        let (at, bound, ignore) = match &step.launch {
            Launch::Gather => (1, input(0).rows(), None),
            Launch::ScatterAdd => (1, step.outputs[0].desc.rows(), None),
            Launch::Row(
                Row::CrossEntropy { ignore, .. } | Row::CrossEntropyGrad { ignore, .. },
            ) => (1, input(0).cols(), Some(*ignore)),
            Launch::LinearLoss(spec) => (2, input(1).rows(), Some(spec.ignore_index)),
            _ => return None,
        };
        let operand = step.inputs[at].clone();
        Some(Self { op: step.op.name(), operand, bound, ignore })
    }

    fn error(&self, position: usize, index: i32) -> Error {
        Error::Index { op: self.op, position, index: index.into(), bound: self.bound }
    }

    /// Looks at what the host has.
    ///
    /// # Safety
    /// The operand lies in `memory`, and nothing writes it.
    unsafe fn check(&self, memory: &Memory) -> Result<()> {
        // SAFETY: the caller's contract; operands begin at whole lines.
        let ids = unsafe {
            let start = memory.address(&self.operand).cast::<i32>();
            std::slice::from_raw_parts(start, self.operand.desc.numel())
        };
        let position = match self.ignore {
            None => out_of_range(ids, self.bound),
            Some(none) => target_out_of_range(ids, self.bound, none),
        };
        position.map_or(Ok(()), |position| Err(self.error(position, ids[position])))
    }
}

/// All indices of a program.
pub(super) struct Checks {
    /// Those that the host has when the program begins.
    given: Vec<Indices>,
    /// Those that the device makes, with the number of the step that reads them.
    made: Vec<(usize, Indices)>,
    /// What the device finds of these.
    found: Option<Piece>,
    /// Steps that overwrite what outlasts the run, before which there are indices to be looked at.
    waits: Vec<usize>,
    /// Whether there are some after the last of these.
    waits_at_end: bool,
}

impl Checks {
    /// The indices of `steps`, before which the host has the bytes `brought` of the arena.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Device`].
    pub(super) fn new(context: &Context, steps: &[Step], brought: &[Range<usize>]) -> Result<Self> {
        let (mut given, mut made, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        let mut waits_at_end = false;
        for (number, step) in steps.iter().enumerate() {
            if waits_at_end && outlasts(step) {
                waits.push(number);
                waits_at_end = false;
            }
            let Some(indices) = Indices::of(step) else { continue };
            let operand = &indices.operand;
            if operand.slot != 0 || has(brought, operand) && !writes(&steps[..number], operand) {
                given.push(indices);
            } else {
                made.push((number, indices));
                waits_at_end = true;
            }
        }
        let found = match made.len() {
            0 => None,
            n => Some(context.pool.take(Purpose::Staging, n * NEXT)?),
        };
        Ok(Self { given, made, found, waits, waits_at_end })
    }

    /// The memory of what is found: a buffer, and where in it.
    pub(super) fn found(&self) -> Option<&Piece> {
        self.found.as_ref()
    }

    /// What is to run before a step.
    pub(super) fn before(&self, step: usize) -> Option<Dispatch> {
        let at = self.made.iter().position(|(number, _)| *number == step)?;
        let (_, Indices { operand, bound, ignore, .. }) = &self.made[at];
        let count = operand.desc.numel();
        let ids = Place { slot: operand.slot, offset: operand.offset, len: operand.desc.bytes() };
        let found = Place { slot: FOUND, offset: at * NEXT, len: 8 };
        let most = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Dispatch {
            shader: Shader::Check,
            constants: vec![LANES],
            params: vec![
                most(count),
                most(*bound),
                u32::from(ignore.is_some()),
                ignore.unwrap_or(0).cast_unsigned(),
            ],
            bindings: vec![
                Binding { place: ids, access: Access::Read },
                Binding { place: found, access: Access::Write },
            ],
            groups: [1, 1, 1],
        })
    }

    /// Whether the host must have looked at what is found before it submits a step.
    pub(super) fn holds(&self, step: usize) -> bool {
        self.waits.contains(&step)
    }

    /// Whether it must do so after the last step.
    pub(super) fn holds_end(&self) -> bool {
        self.waits_at_end
    }

    /// Looks at the indices that the host has.
    ///
    /// # Errors
    /// [`Error::Index`].
    ///
    /// # Safety
    /// As [`Indices::check`].
    pub(super) unsafe fn check_given(&self, memory: &Memory) -> Result<()> {
        // SAFETY: the caller's contract.
        self.given.iter().try_for_each(|indices| unsafe { indices.check(memory) })
    }

    /// Looks at what the device found before step number `end`.
    ///
    /// # Errors
    /// [`Error::Index`].
    ///
    /// # Safety
    /// The steps before are done.
    pub(super) unsafe fn check_made(&self, end: usize) -> Result<()> {
        let Some(found) = self.found.as_ref().and_then(|piece| piece.host) else { return Ok(()) };
        for (i, (step, indices)) in self.made.iter().enumerate() {
            // SAFETY: the piece has two words there, which the device has written.
            let [position, index] =
                unsafe { found.add(i * NEXT).cast::<[u32; 2]>().read_volatile() };
            if *step < end && position != u32::MAX {
                return Err(indices.error(position as usize, index.cast_signed()));
            }
        }
        Ok(())
    }
}

/// Whether a launch reads indices.
pub(super) fn are_read(launch: &Launch) -> bool {
    use Row::{CrossEntropy, CrossEntropyGrad};
    match launch {
        Launch::Gather | Launch::ScatterAdd | Launch::LinearLoss(_) => true,
        Launch::Row(row) => matches!(row, CrossEntropy { .. } | CrossEntropyGrad { .. }),
        _ => false,
    }
}

/// Whether a step overwrites a parameter or a state.
fn outlasts(step: &Step) -> bool {
    let overwritten = step.op.mutates().iter().map(|&i| &step.inputs[i]);
    step.outputs.iter().chain(overwritten).any(|operand| operand.slot != 0)
}

/// Whether some of these bytes of the arena are the operand's.
fn has(ranges: &[Range<usize>], operand: &Operand) -> bool {
    let end = operand.offset + operand.desc.bytes();
    ranges.iter().any(|range| range.start <= operand.offset && end <= range.end)
}

/// Whether steps write where the operand lies.
fn writes(steps: &[Step], operand: &Operand) -> bool {
    let end = operand.offset + operand.desc.bytes();
    steps.iter().flat_map(|step| &step.outputs).any(|output| {
        let is_there = output.offset < end && operand.offset < output.offset + output.desc.bytes();
        output.slot == 0 && is_there
    })
}
