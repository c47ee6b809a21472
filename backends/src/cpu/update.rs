//! Optimizer steps.

use std::ops::Range;

use half::bf16;
use tenon_kernels::random::Philox;
use tenon_kernels::update::{self, Adam, BLOCK, Rounding, Sgd, State};
use tenon_runtime::backend::Update;
use tenon_runtime::train::{StateFormat, States};

use super::Context;
use super::args::{Args, GRAIN, Pieces, split};

/// Tells the numbers that states are rounded by from those of dropout, as a seed's upper half.
const ROUNDING: u64 = 1 << 32;

// A task is of whole blocks.
const _: () = assert!(GRAIN.is_multiple_of(BLOCK));

/// A state that tasks take disjoint pieces of.
#[derive(Clone, Copy)]
enum Stored {
    F32(Pieces<f32>),
    Bf16(Pieces<bf16>),
    Int8 { codes: Pieces<i8>, scales: Pieces<f32> },
}

impl Stored {
    /// A state that begins with input `first`, and the input after it.
    fn new(args: Args<'_>, format: StateFormat, first: usize) -> (Self, usize) {
        match format {
            StateFormat::F32 => (Self::F32(args.mutable(first)), first + 1),
            StateFormat::Bf16 => (Self::Bf16(args.mutable(first)), first + 1),
            StateFormat::Int8 => {
                let (codes, scales) = (args.mutable(first), args.mutable(first + 1));
                (Self::Int8 { codes, scales }, first + 2)
            }
        }
    }

    /// The elements of `range`, which begins with a block.
    ///
    /// # Safety
    /// As [`Pieces::piece`].
    unsafe fn piece<'a>(&self, range: Range<usize>) -> State<'a> {
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        // SAFETY: the caller's word.
        unsafe {
            match self {
                Self::F32(x) => State::F32(x.piece(range)),
                Self::Bf16(x) => State::Bf16(x.piece(range)),
                Self::Int8 { codes, scales } => {
                    State::Int8 { codes: codes.piece(range), scales: scales.piece(blocks) }
                }
            }
        }
    }
}

/// What rounds the elements from `first` on in the step of that number.
fn rounding(states: States, step: f32, first: usize) -> Rounding {
    let seed = ROUNDING | u64::from(states.stream);
    Rounding { random: Philox::new(seed, step as u64), first: first as u64 }
}

/// Tasks after which states in a file are let go of: with AdamW's in f32 8 MB. Those of SmolLM2's
/// embedding are 226.
const TASKS: usize = 64;

/// Runs the tasks of an update of `len` elements, and lets go of what they are through with where
/// that lies in a file.
fn run(cx: &Context, args: Args<'_>, len: usize, task: &(dyn Fn(Range<usize>) + Sync)) {
    let part = split(len, GRAIN);
    let (tasks, is_spilled) = (len.div_ceil(GRAIN), args.releases());
    let step = if is_spilled { TASKS } else { tasks.max(1) };
    for first in (0..tasks).step_by(step) {
        let count = step.min(tasks - first);
        cx.pool.run(count, &|i, _| task(part(first + i)));
        if is_spilled {
            let elements = part(first).start..part(first + count - 1).end;
            for i in 0..args.inputs() {
                // Parts are of whole blocks, but for the last.
                let bytes =
                    |n| (args.input_desc(i).bytes() as u128 * n as u128 / len as u128) as usize;
                args.release(i, bytes(elements.start)..bytes(elements.end));
            }
        }
    }
}

/// Overwrites input 0 and the states among the inputs.
pub(super) fn launch(cx: &Context, kind: &Update, args: Args<'_>) {
    let p = args.mutable::<f32>(0);
    let grad = args.input::<f32>(1);
    let scalar = |i: usize| args.input::<f32>(i)[0];
    match *kind {
        Update::Accumulate => {
            let keep = scalar(2);
            run(cx, args, p.len(), &|range| {
                // SAFETY: tasks take disjoint ranges.
                let p = unsafe { p.piece(range.clone()) };
                update::accumulate(cx.isa, keep, p, &grad[range]);
            });
        }
        Update::Sgd { momentum, nesterov, weight_decay, states } => {
            let buffer = (momentum != 0.0).then(|| Stored::new(args, states.format, 2));
            let first = buffer.map_or(2, |(_, next)| next);
            // Where the momentum is rounded, the step's number stands between the two.
            let (lr, scale) = (scalar(first), scalar(args.inputs() - 1));
            let step = scalar(args.inputs() - 2);
            let hyper = Sgd { lr, momentum, nesterov, weight_decay, scale };
            run(cx, args, p.len(), &|range| {
                let rounding = rounding(states, step, range.start);
                // SAFETY: tasks take disjoint ranges.
                let (p, buffer) = unsafe {
                    let buffer = buffer.map(|(buffer, _)| buffer.piece(range.clone()));
                    (p.piece(range.clone()), buffer.unwrap_or(State::F32(&mut [])))
                };
                update::sgd(cx.isa, hyper, rounding, p, &grad[range], buffer);
            });
        }
        Update::Adam { moments, states, decoupled } => {
            let (m, next) = Stored::new(args, states.format, 2);
            let (v, next) = Stored::new(args, states.format, next);
            let hyper = Adam {
                lr: scalar(next),
                beta1: moments.beta1,
                beta2: moments.beta2,
                eps: moments.eps,
                weight_decay: moments.weight_decay,
                decoupled,
                step: scalar(next + 1),
                scale: scalar(next + 2),
            };
            run(cx, args, p.len(), &|range| {
                let rounding = rounding(states, hyper.step, range.start);
                // SAFETY: tasks take disjoint ranges.
                unsafe {
                    let (m, v) = (m.piece(range.clone()), v.piece(range.clone()));
                    let p = p.piece(range.clone());
                    update::adam(cx.isa, hyper, rounding, p, &grad[range], m, v);
                }
            });
        }
    }
}
