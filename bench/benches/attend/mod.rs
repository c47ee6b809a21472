//! Attention with its operands: timed alone by `attention.rs`, and beside other libraries by
//! `bench/peers`.

use std::hint::black_box;

use tenon_kernels::Isa;
use tenon_kernels::attention::{Attention, Backward, Forward, forward, grad_head, sum_heads};

use crate::aligned::Aligned;

/// A shape with its operands.
pub(crate) struct Bench {
    isa: Isa,
    shape: Attention,
    q: Aligned,
    k: Aligned,
    v: Aligned,
    out: Aligned,
    lse: Aligned,
    dout: Aligned,
    dq: Aligned,
    dk: Aligned,
    dv: Aligned,
    parts: Aligned,
    scratch: Aligned,
}

impl Bench {
    pub(crate) fn new(isa: Isa, shape: Attention) -> Self {
        let q = shape.batch * shape.queries * shape.heads * shape.dim;
        let k = shape.batch * shape.keys * shape.kv_heads * shape.dim;
        let values = |n: usize, seed: usize| Aligned::new(n, |i| noise(seed + i));
        Self {
            isa,
            shape,
            q: values(q, 0),
            k: values(k, 1 << 20),
            v: values(k, 2 << 20),
            out: values(q, 0),
            lse: Aligned::zeroed(shape.batch * shape.heads * shape.queries),
            dout: values(q, 3 << 20),
            dq: values(q, 0),
            dk: values(k, 0),
            dv: values(k, 0),
            parts: Aligned::zeroed(shape.parts_len()),
            scratch: Aligned::zeroed(shape.forward_scratch().max(shape.backward_scratch())),
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
        for task in 0..self.shape.query_tasks() {
            // SAFETY: all buffers have the sizes that the shape asks for; one task at a time.
            unsafe { forward(self.isa, &args, task, &mut self.scratch) };
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
        for task in 0..self.shape.head_tasks() {
            // SAFETY: as above.
            unsafe { grad_head(self.isa, &args, task, &mut self.scratch) };
        }
        for task in 0..self.shape.sum_tasks() {
            // SAFETY: as above, after all the tasks before.
            unsafe { sum_heads(self.isa, &args, task) };
        }
        black_box(&mut self.dq);
    }
}

/// Values in -1..1 without a pattern.
fn noise(i: usize) -> f32 {
    (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0
}
