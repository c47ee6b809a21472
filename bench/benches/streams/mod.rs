//! The kernels that memory bounds, each with operands of its shape: timed alone by `rows.rs`, and
//! beside other libraries by `bench/peers`.

use std::hint::black_box;

use tenon_kernels::Isa;
use tenon_kernels::binary::{self, Binary};
use tenon_kernels::broadcast::Broadcast;
use tenon_kernels::random::{Philox, dropout};
use tenon_kernels::reduce::sum_of_squares;
use tenon_kernels::row::cross_entropy::{self, Running, Strip};
use tenon_kernels::row::layer_norm::{LayerNorm, LayerNormGrad, layer_norm, layer_norm_grad};
use tenon_kernels::row::rms_norm::{AddRmsNorm, add_rms_norm, rms_norm, rms_norm_grad};
use tenon_kernels::row::rope::{Layout, Rope, rope};
use tenon_kernels::row::softmax::{log_softmax, log_softmax_grad, softmax, softmax_grad};
use tenon_kernels::unary::{self, Unary};
use tenon_kernels::update::{Adam, Rounding, State, adam};

use crate::aligned::Aligned;
use crate::limits::{Read, Triad};

/// Most tensors that a kernel here takes.
const TENSORS: usize = 4;

/// Operands: tensors of `rows` by `cols`, and what is smaller.
pub(crate) struct Data {
    isa: Isa,
    cols: usize,
    tensors: [Aligned; TENSORS],
    /// Of `cols`.
    weight: Aligned,
    bias: Aligned,
    /// Of `rows`.
    mean: Aligned,
    scale: Aligned,
    targets: Vec<i32>,
    running: Vec<Running>,
}

/// A kernel: its name, the number of tensors it reads and writes, and a call.
pub(crate) type Row = (&'static str, usize, fn(&mut Data));

/// Every kernel, after the two limits.
pub(crate) const ROWS: &[Row] = &[
    ("read", 1, |d| {
        black_box(d.isa.run(Read(&d.tensors[0])));
    }),
    ("triad", 3, |d| {
        let [a, b, c, _] = &mut d.tensors;
        d.isa.run(Triad(a, b, c));
    }),
    ("softmax", 2, |d| {
        let [x, y, ..] = &mut d.tensors;
        softmax(d.isa, d.cols, x, y);
    }),
    ("softmax_grad", 3, |d| {
        let [y, dy, dx, _] = &mut d.tensors;
        softmax_grad(d.isa, d.cols, y, dy, dx);
    }),
    ("log_softmax", 2, |d| {
        let [x, y, ..] = &mut d.tensors;
        log_softmax(d.isa, d.cols, x, y);
    }),
    ("log_softmax_grad", 3, |d| {
        let [y, dy, dx, _] = &mut d.tensors;
        log_softmax_grad(d.isa, d.cols, y, dy, dx);
    }),
    ("layer_norm", 2, |d| {
        let [x, y, ..] = &mut d.tensors;
        let (weight, bias) = (Some(&d.weight[..]), Some(&d.bias[..]));
        let (mean, rstd) = (&mut d.mean[..], &mut d.scale[..]);
        layer_norm(d.isa, LayerNorm { eps: 1e-5, cols: d.cols, x, weight, bias, y, mean, rstd });
    }),
    ("layer_norm_grad", 3, |d| {
        let [x, dy, dx, _] = &mut d.tensors;
        let (weight, mean, rstd) = (Some(&d.weight[..]), &d.mean[..], &d.scale[..]);
        layer_norm_grad(d.isa, LayerNormGrad { cols: d.cols, x, weight, mean, rstd, dy, dx });
    }),
    ("rms_norm", 2, |d| {
        let [x, y, ..] = &mut d.tensors;
        rms_norm(d.isa, 1e-5, x, &d.weight, y, &mut d.scale);
    }),
    ("rms_norm_grad", 3, |d| {
        let [x, dy, dx, _] = &mut d.tensors;
        rms_norm_grad(d.isa, x, &d.weight, &d.scale, dy, dx);
    }),
    ("add_rms_norm", 4, |d| {
        let [x, h, sum, y] = &mut d.tensors;
        let (weight, rstd) = (&d.weight[..], &mut d.scale[..]);
        add_rms_norm(d.isa, AddRmsNorm { eps: 1e-5, x, h, weight, sum, y, rstd });
    }),
    ("rope", 2, |d| turn(d, Layout::Half, false)),
    ("rope_grad", 2, |d| turn(d, Layout::Half, true)),
    ("rope_interleaved", 2, |d| turn(d, Layout::Interleaved, false)),
    ("cross_entropy", 1, |d| {
        d.running.fill(Running::START);
        cross_entropy::accumulate(d.isa, d.cols, &d.tensors[0], &mut d.running);
    }),
    ("cross_entropy_grad", 2, |d| {
        let (logits, lse, scale) = (&mut d.tensors[0][..], &d.mean[..], &d.scale[..]);
        let targets = &d.targets[..];
        let strip = Strip { first: 0, cols: d.cols, logits, lse, targets, ignore: -1, scale };
        cross_entropy::gradient(d.isa, strip);
    }),
    ("gelu", 2, |d| map(d, Unary::Gelu)),
    ("gelu_grad", 3, |d| zip(d, Binary::GeluGrad)),
    ("gelu_tanh", 2, |d| map(d, Unary::GeluTanh)),
    ("gelu_tanh_grad", 3, |d| zip(d, Binary::GeluTanhGrad)),
    ("silu", 2, |d| map(d, Unary::Silu)),
    ("silu_grad", 3, |d| zip(d, Binary::SiluGrad)),
    ("silu_mul", 3, |d| zip(d, Binary::SiluMul)),
    ("exp", 2, |d| map(d, Unary::Exp)),
    ("log", 2, |d| map(d, Unary::Log)),
    ("tanh", 2, |d| map(d, Unary::Tanh)),
    ("erf", 2, |d| map(d, Unary::Erf)),
    ("add", 3, |d| zip(d, Binary::Add)),
    ("dropout", 2, |d| {
        let [x, y, ..] = &mut d.tensors;
        dropout(d.isa, Philox::new(7, 1), 0.9, 0, x, y);
    }),
    ("grad_norm", 1, |d| {
        black_box(sum_of_squares(d.isa, &d.tensors[0]));
    }),
    ("adamw", 7, |d| {
        let [p, grad, m, v] = &mut d.tensors;
        let random = Rounding { random: Philox::new(1, 3), first: 0 };
        adam(d.isa, ADAMW, random, p, grad, State::F32(m), State::F32(v));
    }),
];

/// A step so short that the operands hardly change.
const ADAMW: Adam = Adam {
    lr: 1e-9,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.01,
    decoupled: true,
    step: 3.0,
    scale: 0.5,
};

fn turn(d: &mut Data, layout: Layout, inverse: bool) {
    let [x, y, ..] = &mut d.tensors;
    let (heads, dim) = (d.cols / 64, 64);
    // One position, whose table is short, so that the table counts for little, as in a model.
    let (cos, sin) = (&d.weight[..dim / 2], &d.bias[..dim / 2]);
    for (x, y) in x.chunks_exact(d.cols).zip(y.chunks_exact_mut(d.cols)) {
        rope(d.isa, Rope { layout, inverse, heads, dim, x, cos, sin, y });
    }
}

fn map(d: &mut Data, op: Unary) {
    let [x, y, ..] = &mut d.tensors;
    // SAFETY: two tensors of that length.
    unsafe { unary::apply(d.isa, op, x.as_ptr(), y.as_mut_ptr(), x.len()) };
}

fn zip(d: &mut Data, op: Binary) {
    let [a, b, c, _] = &mut d.tensors;
    let plan = Broadcast::row([true, true], a.len());
    // SAFETY: three tensors of that length.
    unsafe {
        binary::apply(d.isa, op, &plan, 0..a.len(), (a.as_ptr(), b.as_ptr()), c.as_mut_ptr());
    }
}

impl Data {
    pub(crate) fn new(isa: Isa, [rows, cols]: [usize; 2]) -> Self {
        Self {
            isa,
            cols,
            tensors: std::array::from_fn(|_| Aligned::new(rows * cols, noise)),
            weight: Aligned::new(cols, noise),
            bias: Aligned::new(cols, noise),
            mean: Aligned::new(rows, |_| 7.0),
            scale: Aligned::new(rows, |_| 0.5),
            targets: (0..rows).map(|row| (row % cols) as i32).collect(),
            running: vec![Running::START; rows],
        }
    }
}

/// Values in -4..4, where the elementary functions do their work.
fn noise(i: usize) -> f32 {
    (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 1023.9 - 4.0
}
