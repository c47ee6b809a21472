//! Speed of attention on one thread: `cargo bench -p tenon-bench --bench attention [FILTER]`.
//!
//! Criterion's element is a floating-point operation of the products that the method needs, two
//! forward and five backward, over the positions that are seen: its `Gelem/s` are GFLOP/s.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tenon_bench::aligned;
use tenon_kernels::Isa;
use tenon_kernels::attention::Attention;

mod attend;

use attend::Bench;

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
