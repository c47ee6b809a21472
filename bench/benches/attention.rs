//! Speed of attention on one thread: `cargo bench -p tenon-bench --bench attention [FILTER]`.
//!
//! Criterion's element is a floating-point operation of the products that the method needs, two
//! forward and five backward, over the positions that are seen: its `Gelem/s` are GFLOP/s.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tenon_kernels::Isa;
use tenon_kernels::attention::{Attention, Backward, Forward, forward, grad_head, sum_heads};

/// A shape with its operands.
struct Bench {
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
    fn new(isa: Isa, shape: Attention) -> Self {
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
            scratch: vec![0.0; shape.forward_scratch().max(shape.backward_scratch())],
        }
    }

    fn forward(&mut self) {
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

    fn backward(&mut self) {
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

fn attention(c: &mut Criterion) {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    let mut group = c.benchmark_group(format!("attention/{}", isa.name()));
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(800)).sample_size(15);
    // The last is SmolLM2-135M's, in whose training step attention is a visible share.
    for (positions, kv_heads, window) in
        [(512, 9, None), (2048, 9, None), (2048, 9, Some(256)), (256, 3, None)]
    {
        let shape = Attention {
            batch: 1,
            queries: positions,
            keys: positions,
            heads: 9,
            kv_heads,
            dim: 64,
            causal: true,
            window,
            scale: 0.125,
        };
        let mut bench = Bench::new(isa, shape);
        let window = window.map_or(String::new(), |w| format!("/window{w}"));
        let name = format!("s{positions}/h9-{kv_heads}{window}");
        group.throughput(Throughput::Elements(shape.flops()));
        group.bench_function(format!("forward/{name}"), |b| b.iter(|| bench.forward()));
        group.throughput(Throughput::Elements(shape.flops() / 2 * 5));
        group.bench_function(format!("backward/{name}"), |b| b.iter(|| bench.backward()));
    }
    group.finish();
}

criterion_group!(benches, attention);
criterion_main!(benches);
