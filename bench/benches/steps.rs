//! Whole training steps of small networks on one thread, forward, backward and update:
//! `cargo bench -p tenon-bench --bench steps [FILTER]`.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tenon_bench::nets;

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("steps");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(1)).sample_size(20);
    let cpu = nets::one_thread().expect("the CPU");
    for (name, optimizer) in nets::optimizers() {
        for net in nets::NETS {
            let mut trainer = nets::trainer(net, optimizer, &cpu).expect("the network builds");
            group.bench_function(format!("{net}/{name}"), |b| {
                b.iter(|| trainer.step(&mut ()).expect("a step runs"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
