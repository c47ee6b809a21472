//! Attention with its operands: timed alone by `attention.rs`, and beside other libraries by
//! `bench/peers`.

use std::hint::black_box;

use tenon_kernels::Isa;
use tenon_kernels::attention::{Attention, Backward, Forward, forward, grad_head, sum_heads};

/// A shape with its operands.
pub(crate) struct Bench {
    isa: Isa,
    shape: Attention,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
    dout: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    parts: Vec<f32>,
    scratch: Vec<f32>,
}

impl Bench {
    pub(crate) fn new(isa: Isa, shape: Attention) -> Self {
        let q = shape.batch * shape.queries * shape.heads * shape.dim;
        let k = shape.batch * shape.keys * shape.kv_heads * shape.dim;
        let values = |n: usize, seed: usize| -> Vec<f32> { (seed..seed + n).map(noise).collect() };
        Self {
            isa,
            shape,
            q: values(q, 0),
            k: values(k, 1 << 20),
            v: values(k, 2 << 20),
            out: values(q, 0),
            lse: vec![0.0; shape.batch * shape.heads * shape.queries],
            dout: values(q, 3 << 20),
            dq: values(q, 0),
            dk: values(k, 0),
            dv: values(k, 0),
            parts: vec![0.0; shape.parts_len()],
            scratch: vec![0.0; LINE + shape.forward_scratch().max(shape.backward_scratch())],
        }
    }

    pub(crate) fn forward(&mut self) {
        let args = Forward {
            shape: self.shape,
            q: self.q.as_ptr(),
            k: self.k.as_ptr(),
            v: self.v.as_ptr(),
            mask: None,
            out: self.out.as_mut_ptr(),
            lse: self.lse.as_mut_ptr(),
        };
        let scratch = aligned(&mut self.scratch);
        for task in 0..self.shape.query_tasks() {
            // SAFETY: all buffers have the sizes that the shape asks for; one task at a time.
            unsafe { forward(self.isa, &args, task, scratch) };
        }
        black_box(&mut self.out);
    }

    pub(crate) fn backward(&mut self) {
        let args = Backward {
            shape: self.shape,
            q: self.q.as_ptr(),
            k: self.k.as_ptr(),
            v: self.v.as_ptr(),
            mask: None,
            out: self.out.as_ptr(),
            dout: self.dout.as_ptr(),
            lse: self.lse.as_ptr(),
            parts: self.parts.as_mut_ptr(),
            dq: self.dq.as_mut_ptr(),
            dk: self.dk.as_mut_ptr(),
            dv: self.dv.as_mut_ptr(),
        };
        let scratch = aligned(&mut self.scratch);
        for task in 0..self.shape.head_tasks() {
            // SAFETY: as above.
            unsafe { grad_head(self.isa, &args, task, scratch) };
        }
        for task in 0..self.shape.sum_tasks() {
            // SAFETY: as above, after all the tasks before.
            unsafe { sum_heads(self.isa, &args, task) };
        }
        black_box(&mut self.dq);
    }
}

/// f32 in a cache line.
const LINE: usize = 16;

/// The scratch from its first whole cache line on, where a plan lays it too.
fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let first = scratch.as_ptr().align_offset(LINE * size_of::<f32>());
    &mut scratch[first..]
}

/// Values in -1..1 without a pattern.
fn noise(i: usize) -> f32 {
    (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0
}
