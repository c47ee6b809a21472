//! What a step makes resident is what its plan said.

use tenon_kernels::update::StateFormat;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{Clipping, Options, Schedule, Trainer};
use tenon_tests::golden::{report, smollm2};
use tenon_tests::models::feed;

/// By how much the resident memory may miss the plan, as a share of it.
const SHARE: f64 = 0.05;
/// Bytes a node that graph, plan and programs take beside; 1700 were seen.
const NODE: usize = 2048;
/// Bytes that one fault makes resident around a weight where the system's cache holds so much in one
/// piece (Linux 6.18): until the weight is let go of, the plan cannot know of them.
const PIECE: usize = 2 << 20;

/// A figure of this process's memory in bytes.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's own");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    let kib = line.split_whitespace().nth(1).expect("a figure").parse::<usize>();
    kib.expect("a number") << 10
}

/// Trains for two steps; gives the planned peak, what became resident beyond what was before, and
/// the number of nodes.
fn resident(model: &Model, trains: &Trains, seq: usize, options: &Options) -> [usize; 3] {
    // Makes resident the peak so far.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux resets the peak");
    let before = memory("VmRSS:");
    let backends = tenon_backends::all().expect("backends");
    let built = model.graph(&GraphOptions::new(1, seq, trains.clone())).expect("a graph");
    let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
    let trainer = Trainer::new(built.graph, built.loss, &backends, &parameters, options.clone());
    let mut trainer = trainer.expect("a trainer");
    for step in 0..2 {
        let tokens: Vec<i32> = (0..seq as i32).map(|i| (i * 37 + step) % 64).collect();
        feed(&mut trainer, &tokens, seq).expect("tokens");
        trainer.step(&mut ()).expect("a step");
    }
    let found = memory("VmHWM:").saturating_sub(before);
    [trainer.plan().peak_bytes(), found, trainer.plan().nodes().len()]
}

/// Ways to train SmolLM2: by name, what trains, on how many tokens.
fn ways() -> [(&'static str, Trains, usize, Options); 4] {
    let clipped = Options {
        clip_norm: Some(1.0),
        clipping: Clipping::Running,
        schedule: Schedule::constant(1e-5),
        ..Options::default()
    };
    let budget = Options { memory_budget: Some(80 << 20), ..clipped.clone() };
    let small = Options { state: StateFormat::Int8, ..clipped.clone() };
    let adapters = || Trains::Lora(Lora::of_rank(8));
    [
        ("adapters", adapters(), 256, clipped.clone()),
        ("adapters in 80 MiB", adapters(), 256, budget),
        ("all weights", Trains::Everything, 256, clipped),
        ("all weights, 8-bit states", Trains::Everything, 128, small),
    ]
}

/// Trains in one way, and looks.
fn check(name: &str, trains: &Trains, seq: usize, options: &Options) {
    // The code of a step is not what it plans for; it is there from the first one on.
    let small = ModelConfig::llama(64, [64, 192], 2, [4, 2]);
    let small = Model::random(small, 1, &SystemAllocator).expect("a model");
    resident(&small, trains, 16, options);
    let model = Model::load(&smollm2()).expect("the model");
    let [planned, found, nodes] = resident(&model, trains, seq, options);
    let ratio = found as f64 / planned as f64;
    report(&format!("resident: {name}: {found} bytes, {ratio:.3} of the plan, {nodes} nodes"));
    let most = planned as f64 * SHARE + (nodes * NODE + PIECE) as f64;
    let least = planned as f64 * -SHARE;
    let excess = found as f64 - planned as f64;
    assert!(least <= excess && excess <= most, "{name}: {found} bytes instead of {planned}");
}

// Not a `#[test]`, and a process for each way: what others took and gave back stays resident.
fn main() {
    if !cfg!(target_os = "linux") {
        return report("resident: only Linux tells what is resident");
    }
    let asked = std::env::args().nth(1);
    for (name, trains, seq, options) in &ways() {
        if asked.as_deref() == Some(name) {
            return check(name, trains, *seq, options);
        }
    }
    for (name, ..) in ways() {
        let program = std::env::current_exe().expect("this program");
        let done = std::process::Command::new(program).arg(name).status().expect("a process");
        assert!(done.success(), "{name}");
    }
}
