//! Speed of the kernels that memory bounds, on one thread: `cargo bench -p tenon-bench --bench rows
//! [FILTER]`.
//!
//! Bytes are those of the operands, each read or written once. `read` and `triad` (STREAM's `a = b +
//! s c`) are the limits to compare with: what the same loop over vectors reaches when it computes
//! next to nothing. Every kernel runs on tensors of 64 MiB, beyond all caches, and on those of
//! SmolLM2-135M at 256 tokens.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tenon_bench::{aligned, limits};
use tenon_kernels::Isa;

mod streams;

use streams::{Data, ROWS};

fn rows(c: &mut Criterion) {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    for shape in [[16384, 1024], [256, 576], [256, 1536]] {
        let mut data = Data::new(isa, shape);
        let [rows, cols] = shape;
        let mut group = c.benchmark_group(format!("rows/{}/{rows}x{cols}", isa.name()));
        group.warm_up_time(Duration::from_millis(100));
        group.measurement_time(Duration::from_millis(600)).sample_size(15);
        for (name, tensors, run) in ROWS {
            let bytes = tensors * rows * cols * size_of::<f32>();
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(*name, |b| b.iter(|| run(&mut data)));
        }
        group.finish();
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
