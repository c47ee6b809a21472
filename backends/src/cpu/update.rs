//! Optimizer steps.

use tenon_kernels::update::{self, Adam, Sgd};
use tenon_runtime::backend::Update;

use super::Context;
use super::args::{Args, GRAIN, split};

/// Overwrites input 0 and the states among the inputs.
pub(super) fn launch(cx: &Context, kind: &Update, args: Args<'_>) {
    let p = args.mutable::<f32>(0);
    let grad = args.input::<f32>(1);
    let part = split(p.len(), GRAIN);
    let scalar = |i: usize| args.input::<f32>(i)[0];
    let tasks = p.len().div_ceil(GRAIN);
    match *kind {
        Update::Accumulate => {
            let keep = scalar(2);
            cx.pool.run(tasks, &|task, _| {
                let range = part(task);
                // SAFETY: tasks take disjoint ranges.
                let p = unsafe { p.piece(range.clone()) };
                update::accumulate(cx.isa, keep, p, &grad[range]);
            });
        }
        Update::Sgd { momentum, nesterov, weight_decay } => {
            let buffer = (momentum != 0.0).then(|| args.mutable::<f32>(2));
            let first = if buffer.is_some() { 3 } else { 2 };
            let (lr, scale) = (scalar(first), scalar(first + 1));
            let hyper = Sgd { lr, momentum, nesterov, weight_decay, scale };
            cx.pool.run(tasks, &|task, _| {
                let range = part(task);
                // SAFETY: tasks take disjoint ranges.
                let (p, buffer) = unsafe {
                    let buffer = buffer.map(|b| b.piece(range.clone()));
                    (p.piece(range.clone()), buffer.unwrap_or_default())
                };
                update::sgd(cx.isa, hyper, p, &grad[range], buffer);
            });
        }
        Update::Adam { moments, decoupled } => {
            let (m, v) = (args.mutable::<f32>(2), args.mutable::<f32>(3));
            let hyper = Adam {
                lr: scalar(4),
                beta1: moments.beta1,
                beta2: moments.beta2,
                eps: moments.eps,
                weight_decay: moments.weight_decay,
                decoupled,
                step: scalar(5),
                scale: scalar(6),
            };
            cx.pool.run(tasks, &|task, _| {
                let range = part(task);
                // SAFETY: tasks take disjoint ranges.
                unsafe {
                    let (m, v) = (m.piece(range.clone()), v.piece(range.clone()));
                    update::adam(cx.isa, hyper, p.piece(range.clone()), &grad[range], m, v);
                }
            });
        }
    }
}
