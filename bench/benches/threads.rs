//! What a second thread brings, and what a busy neighbour costs:
//! `cargo bench -p tenon-bench --bench threads [FILTER]`.
//!
//! Products and a training step through the CPU backend, on one thread and on two; then on two
//! while another thread of this process spins and takes its share of the cores. A pool whose
//! threads waited for each other would fall far below one thread there; this one is to reach at
//! least one thread's speed.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tenon_backends::cpu::{Cpu, Options};
use tenon_kernels::gemm::Precision;
use tenon_runtime::backend::Backend;
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::Graph;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::ops::MatMul;
use tenon_runtime::tensor::{SystemAllocator, TensorDesc};
use tenon_runtime::train::{self, Trainer};

/// A thread that spins until it is dropped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Neighbour {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let spin = move || {
            while !seen.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        Self { stop, thread: Some(std::thread::spawn(spin)) }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn cpu(threads: usize) -> Vec<Arc<dyn Backend>> {
    let options = Options { threads: NonZero::new(threads), ..Options::default() };
    vec![Arc::new(Cpu::new(options).expect("a level of this processor"))]
}

/// Runs `run` on one thread, on two, and on two beside a neighbour.
fn each<R: FnMut()>(
    c: &mut Criterion,
    name: &str,
    work: Throughput,
    mut make: impl FnMut(usize) -> R,
) {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(3)).sample_size(20).throughput(work);
    for (threads, beside) in [(1, false), (2, false), (1, true), (2, true)] {
        let mut run = make(threads);
        let neighbour = beside.then(Neighbour::new);
        let label = if beside { "beside a neighbour" } else { "alone" };
        group.bench_function(BenchmarkId::new(label, threads), |b| b.iter(&mut run));
        drop(neighbour);
    }
    group.finish();
}

fn products(c: &mut Criterion) {
    let sizes = [[1024, 1024, 1024], [256, 1536, 576], [256, 576, 1536]];
    for (precision, dtype) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16")] {
        for [m, n, k] in sizes {
            let mut graph = Graph::new();
            let matrix = |rows, cols| TensorDesc::f32(&[rows, cols]).expect("a shape");
            let a = graph.input("a", matrix(m, k)).expect("an input");
            let b = graph.input("b", matrix(n, k)).expect("an input");
            let op = MatMul { trans_b: true, precision, ..MatMul::default() };
            let y = graph.add(op, &[a, b]).expect("a product");
            graph.set_output("y", y).expect("an output");
            let work = Throughput::Elements(2 * (m * n * k) as u64);
            each(c, &format!("m{m} n{n} k{k}/{dtype}"), work, |threads| {
                let executor = Executor::new(graph.clone(), &cpu(threads), &[].into());
                let mut executor = executor.expect("a plan");
                let noise = |len: usize| -> Vec<f32> {
                    (0..len).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
                };
                executor.write("a", &noise(m * k)).expect("a");
                executor.write("b", &noise(n * k)).expect("b");
                move || executor.run(&mut ()).expect("a run")
            });
        }
    }
}

/// Four layers of the widths of SmolLM2-135M, 256 tokens.
fn steps(c: &mut Criterion) {
    let config = ModelConfig {
        rope_theta: 100_000.0,
        max_positions: 8192,
        ..ModelConfig::llama(8192, [576, 1536], 4, [9, 3])
    };
    let model = Model::random(config, 1, &SystemAllocator).expect("weights");
    let tokens: Vec<i32> = (0..256).map(|i| i * 31 % 8192).collect();
    for (trains, name) in [(Trains::Lora(Lora::of_rank(8)), "lora"), (Trains::Everything, "full")] {
        let options = GraphOptions::new(1, 256, trains);
        each(c, &format!("step/{name}"), Throughput::Elements(256), |threads| {
            let built = model.graph(&options).expect("a graph");
            let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
            let (backends, how) = (cpu(threads), train::Options::default());
            let trainer = Trainer::new(built.graph, built.loss, &backends, &parameters, how);
            let mut trainer = trainer.expect("a trainer");
            trainer.write("tokens", &tokens).expect("tokens");
            trainer.write("targets", &tokens).expect("targets");
            move || {
                trainer.step(&mut ()).expect("a step");
            }
        });
    }
}

criterion_group!(benches, products, steps);
criterion_main!(benches);
