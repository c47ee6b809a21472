//! Planning training steps of language models, on one thread: `cargo bench -p tenon-bench --bench
//! plan`. Widths are small, for they do not matter; blocks of 30 are as many as SmolLM2-135M has, and
//! 130 make 10,000 nodes.
//!
//! On a Zen 5 core: 13 ms for 30 blocks trained whole, 5.6 ms with adapters, 24 ms for 130 blocks;
//! with what recomputation costs almost no time 34, 21 and 129 ms; within a budget of 3/4 69 ms with
//! adapters. Gradients that wait for their norm leave no such budget for whole training: 0.29 and
//! 1.4 s until that is said.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tenon_backends::null::Null;
use tenon_runtime::Result;
use tenon_runtime::backend::Backend;
use tenon_runtime::graph::Graph;
use tenon_runtime::memory::Plan;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{Options, Trainer};

fn null() -> [Arc<dyn Backend>; 1] {
    [Arc::new(Null::default())]
}

/// The graph of a step of a llama of so many blocks.
fn step(layers: usize, trains: Trains) -> Result<Graph> {
    let config = ModelConfig::llama(256, [32, 96], layers, [2, 1]);
    let model = Model::random(config, 1, &SystemAllocator)?;
    let built = model.graph(&GraphOptions::new(1, 64, trains))?;
    let options = Options { clip_norm: Some(1.0), ..Options::default() };
    Ok(Trainer::plan_only(built.graph, built.loss, &null(), &options)?.0)
}

fn plans(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(2)).sample_size(10);
    let lora = || Trains::Lora(Lora::of_rank(8));
    for (layers, kind, trains) in
        [(30, "full", Trains::Everything), (30, "LoRA", lora()), (130, "full", Trains::Everything)]
    {
        let graph = step(layers, trains).expect("the graph builds");
        group.bench_function(
            format!("{layers} blocks {kind}, {} nodes", graph.nodes().len()),
            |b| {
                b.iter(|| Plan::new(&graph, &null()).expect("a plan"));
            },
        );
        let peak = Plan::new(&graph, &null()).expect("a plan").peak_bytes();
        for (name, budget) in [("free", None), ("in 3/4", Some(peak / 4 * 3))] {
            group.bench_function(format!("{layers} blocks {kind}, recomputing, {name}"), |b| {
                b.iter(|| Plan::within(&mut graph.clone(), &null(), budget, 0).map(|_| ()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
