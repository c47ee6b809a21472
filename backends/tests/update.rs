//! Training with states that are rounded, beside the same training with states of f32.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options as Machine};
use tenon_runtime::backend::Backend;
use tenon_runtime::graph::Graph;
use tenon_runtime::train::{Moments, Optimizer, Options, Schedule, StateFormat, Trainer};
use tenon_runtime::{DType, Tensor, TensorDesc};

const ROWS: usize = 64;
const INPUTS: usize = 24;
const HIDDEN: usize = 48;
const CLASSES: usize = 5;

fn noise(len: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 ^ seed).wrapping_mul(0x9e37_79b1).rotate_left(13);
    (0..len)
        .map(|i| (hash(i).wrapping_mul(0x85eb_ca6b) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

/// A network of two layers over classes that a random linear map gives.
fn trainer(optimizer: Optimizer, lr: f32, state: StateFormat, threads: usize) -> Trainer {
    let mut graph = Graph::new();
    let f32s = |dims: &[usize]| TensorDesc::f32(dims).unwrap();
    let x = graph.input("x", f32s(&[ROWS, INPUTS])).unwrap();
    let shape = tenon_runtime::Shape::new(&[ROWS]).unwrap();
    let classes = TensorDesc::new(DType::I32, shape).unwrap();
    let classes = graph.input("classes", classes).unwrap();
    let mut tensors = HashMap::new();
    let mut parameter = |graph: &mut Graph, name: &str, dims: &[usize], size: f32| {
        let values: Vec<f32> =
            noise(dims.iter().product(), dims[0] as u32).iter().map(|v| v * size).collect();
        tensors.insert(name.to_owned(), Tensor::from_slice(dims, &values).unwrap());
        graph.parameter(name, TensorDesc::f32(dims).unwrap(), true).unwrap()
    };
    let first = parameter(&mut graph, "first", &[HIDDEN, INPUTS], 0.3);
    let bias = parameter(&mut graph, "bias", &[HIDDEN], 0.0);
    let second = parameter(&mut graph, "second", &[CLASSES, HIDDEN], 0.3);
    let hidden = graph.call("linear", &[], &[x, first, bias]).unwrap()[0];
    let hidden = graph.call("gelu", &[], &[hidden]).unwrap()[0];
    let logits = graph.call("linear", &[], &[hidden, second]).unwrap()[0];
    let loss = graph.call("cross_entropy", &[], &[logits, classes]).unwrap()[0];
    let machine = Machine { threads: NonZero::new(threads), ..Machine::default() };
    let backends: [Arc<dyn Backend>; 1] = [Arc::new(Cpu::new(machine).unwrap())];
    let schedule = Schedule::constant(lr);
    let options = Options { optimizer, state, schedule, ..Options::default() };
    Trainer::new(graph, loss, &backends, &tensors, options).unwrap()
}

/// Makes steps `from..to`; gives the mean of their losses.
fn train(trainer: &mut Trainer, from: u32, to: u32) -> f32 {
    let map = noise(INPUTS * CLASSES, 77);
    let mut sum = 0.0;
    for step in from..to {
        let x = noise(ROWS * INPUTS, 1000 + step);
        let class = |row: &[f32]| {
            let score =
                |c: usize| -> f32 { row.iter().zip(&map[c * INPUTS..]).map(|(x, w)| x * w).sum() };
            (0..CLASSES).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap() as i32
        };
        let classes: Vec<i32> = x.chunks(INPUTS).map(class).collect();
        trainer.write("x", &x).unwrap();
        trainer.write("classes", &classes).unwrap();
        sum += trainer.step(&mut ()).unwrap().loss;
    }
    sum / (to - from) as f32
}

const DESCENT: Optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 };

#[test]
fn rounded_states_learn_as_well() {
    for (optimizer, lr) in [(Optimizer::AdamW(Moments::default()), 3e-3), (DESCENT, 0.1)] {
        let [plain, bf16, int8] = StateFormat::ALL.map(|(_, state)| {
            let mut trainer = trainer(optimizer, lr, state, 1);
            train(&mut trainer, 0, 500);
            train(&mut trainer, 500, 600)
        });
        assert!(plain < 0.5, "{plain}");
        assert!((bf16 / plain - 1.0).abs() < 0.02, "bf16 {bf16}, f32 {plain}");
        assert!((int8 / plain - 1.0).abs() < 0.10, "int8 {int8}, f32 {plain}");
    }
}

/// All that a trainer holds.
fn bits(trainer: &Trainer) -> Vec<(String, Vec<u8>)> {
    let read = |(name, tensor): (&str, &Tensor)| {
        let mut bytes = vec![0; tensor.desc().bytes()];
        tensor.storage().read(0, &mut bytes).unwrap();
        (name.to_owned(), bytes)
    };
    let mut all: Vec<_> = trainer.executor().persistent().map(read).collect();
    all.sort();
    all
}

#[test]
fn a_resumed_run_and_one_of_more_threads_have_the_same_bits() {
    let path = std::env::temp_dir().join(format!("tenon-states-{}", std::process::id()));
    for optimizer in [Optimizer::AdamW(Moments::default()), DESCENT] {
        for (name, state) in StateFormat::ALL {
            let mut whole = trainer(optimizer, 3e-3, state, 1);
            train(&mut whole, 0, 7);
            whole.save(&path, "").unwrap();
            train(&mut whole, 7, 12);
            let mut resumed = trainer(optimizer, 3e-3, state, 2);
            resumed.resume(&path).unwrap();
            train(&mut resumed, 7, 12);
            assert!(bits(&whole) == bits(&resumed), "{name}");
            // Another format does not fit.
            let other =
                if state == StateFormat::F32 { StateFormat::Bf16 } else { StateFormat::F32 };
            let mut other = trainer(optimizer, 3e-3, other, 1);
            assert!(other.resume(&path).unwrap_err().to_string().contains("options"), "{name}");
        }
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_plan_shows_what_rounded_states_save() {
    let optimizer = Optimizer::AdamW(Moments::default());
    let [plain, bf16, int8] =
        StateFormat::ALL.map(|(_, state)| trainer(optimizer, 0.1, state, 1).plan().owned_bytes());
    let counts = [HIDDEN * INPUTS, HIDDEN, CLASSES * HIDDEN];
    let elements: usize = counts.iter().sum();
    let scales: usize = counts.iter().map(|n| n.div_ceil(256)).sum();
    assert_eq!(plain - bf16, 2 * 2 * elements);
    assert_eq!(plain - int8, 2 * (3 * elements - 4 * scales));
}
