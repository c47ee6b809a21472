//! Models that train on the Vulkan device from the first node of a step to the last. Without a device
//! these tests pass unless `TENON_EXPECT_VULKAN=1`.

use std::sync::Arc;

use tenon_backends::cpu::{self, Cpu};
use tenon_backends::vulkan::Vulkan;
use tenon_runtime::backend::Backend;
use tenon_runtime::graph::Source;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{Optimizer, Options, Privacy, Schedule, Trainer};
use tenon_tests::device::{self, elsewhere};
use tenon_tests::golden::{self, report};
use tenon_tests::models::{feed, norm_error};

/// Tokens of a sequence: a step takes seconds on a processor that plays a graphics card.
const SEQ: usize = 16;
const STEPS: usize = 10;
/// Largest difference of a step's loss of some 4 from the CPU's.
const LOSS: f32 = 1e-3;

fn cpu() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(cpu::Options::default()).expect("the CPU"))
}

/// Adapters on 4-bit weights.
fn adapters(model: &Model, backends: &[Arc<dyn Backend>]) -> Trainer {
    let options = GraphOptions::new(1, SEQ, Trains::Lora(Lora::of_rank(4)));
    let built = model.graph(&options).expect("a graph");
    let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
    let training = Options { schedule: Schedule::constant(1e-3), ..Options::default() };
    Trainer::new(built.graph, built.loss, backends, &parameters, training).expect("a trainer")
}

/// The device, its memory apart from the host's: what is copied then shows what would be anywhere. A
/// processor that plays a graphics card takes a minute and more, and only where it is asked for.
fn device() -> Option<Vulkan> {
    let vulkan = device::vulkan("on_device", |options| options.unified = Some(false))?;
    if vulkan.is_processor() && std::env::var_os("TENON_EXPECT_VULKAN").is_none() {
        report("on_device: not on a processor, unless TENON_EXPECT_VULKAN=1 asks for it");
        return None;
    }
    Some(vulkan)
}

/// Every step's loss is the CPU's; every node runs on the device; of a step's bytes its inputs go there
/// and the loss comes back.
#[test]
fn smollm2_trains_on_the_device_alone() {
    let Some(vulkan) = device() else { return };
    let model = Model::load(&golden::smollm2()).expect("the model");
    let tokens = golden::tensors("smollm2/reference.safetensors")["input_ids"].ints();
    let batch = |step: usize| &tokens[step * SEQ % (tokens.len() - SEQ)..][..SEQ];
    let mut on_cpu = adapters(&model, &[cpu()]);
    let mut on_device = adapters(&model, &[Arc::new(vulkan.clone()), cpu()]);
    assert_eq!(
        elsewhere(on_device.graph(), on_device.plan()),
        [""; 0],
        "what the device does not run"
    );
    let values = on_device.graph().values().iter();
    let inputs = values.filter(|value| matches!(value.source, Source::Input));
    let inputs: usize = inputs.map(|value| value.desc.bytes()).sum();
    let mut worst = 0f32;
    for step in 0..STEPS {
        feed(&mut on_cpu, batch(step), SEQ).expect("tokens");
        feed(&mut on_device, batch(step), SEQ).expect("tokens");
        let want = on_cpu.step(&mut ()).expect("a step").loss;
        let before = vulkan.traffic();
        let got = on_device.step(&mut ()).expect("a step").loss;
        let after = vulkan.traffic();
        assert!((got - want).abs() <= LOSS, "step {step}: {got} and {want} on the CPU");
        worst = worst.max((got - want).abs());
        assert_eq!(
            after.down - before.down,
            4,
            "step {step}: the loss comes back, and nothing else"
        );
        if step > 0 {
            assert_eq!(after.up - before.up, inputs as u64, "step {step}: inputs go there");
        }
        report(&format!("on_device: smollm2 step {step}: loss {got:.6}, {want:.6} on the CPU"));
    }
    report(&format!(
        "on_device: smollm2, {} nodes, {STEPS} steps: off by {worst:.1e} at most; {inputs} bytes up and \
         4 down a step",
        on_device.plan().nodes().len(),
    ));
}

/// Steps that clip the gradient of each sample and hide it in noise need no other device either, and
/// the noise is the CPU's.
#[test]
fn private_steps_run_on_the_device_alone() {
    let Some(vulkan) = device::vulkan("on_device", |_| {}) else { return };
    let small = ModelConfig::llama(64, [64, 192], 2, [4, 2]);
    let model = Model::random(small, 1, &SystemAllocator).expect("a model");
    let trainer = |backends: &[Arc<dyn Backend>], noise: f32| {
        let options = GraphOptions::new(2, 8, Trains::Lora(Lora::of_rank(4)));
        let built = model.graph(&options).expect("a graph");
        let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
        let privacy = Some(Privacy { samples: 2, clip: 0.1, noise, seed: 0x1234_5678_9abc_def0 });
        // Descent, for the noise to be as much of an update as it is of the gradient.
        let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let schedule = Schedule::constant(0.1);
        let training = Options { optimizer, schedule, privacy, ..Options::default() };
        Trainer::new(built.graph, built.loss, backends, &parameters, training).expect("a trainer")
    };
    let on = |backends: &[Arc<dyn Backend>], noise: f32| {
        let mut trainer = trainer(backends, noise);
        let outside = elsewhere(trainer.graph(), trainer.plan());
        for step in 0..3 {
            let tokens: Vec<i32> = (0..16).map(|i| (i * 37 + step) % 64).collect();
            feed(&mut trainer, &tokens, 8).expect("tokens");
            trainer.step(&mut ()).expect("a step");
        }
        let read = |name: &String| trainer.executor().read_vec::<f32>(name).expect("an adapter");
        (outside, trainer.trainable().iter().flat_map(read).collect::<Vec<f32>>())
    };
    let (_, want) = on(&[cpu()], 1.0);
    let (outside, got) = on(&[Arc::new(vulkan.clone()), cpu()], 1.0);
    assert_eq!(outside, [""; 0], "what the device does not run");
    let error = norm_error(&got, &want);
    let (_, plain) = on(&[Arc::new(vulkan), cpu()], 0.0);
    let noise = norm_error(&plain, &want);
    report(&format!("on_device: private steps: off by {error:.1e}, {noise:.1e} without noise"));
    assert!(error < 1e-5 && noise > 100.0 * error, "{error} and {noise}");
}
