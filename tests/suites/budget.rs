//! A plan kept within a budget changes no bit of what is trained.

use std::collections::HashMap;
use std::sync::Arc;

use tenon_runtime::backend::Backend;
use tenon_runtime::executor::Calibrated;
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::tensor::{DType, Shape, SystemAllocator, Tensor, TensorDesc};
use tenon_runtime::train::{Clipping, Optimizer, Options, Schedule, Trainer};
use tenon_runtime::{Error, Result};
use tenon_tests::golden::report;
use tenon_tests::models::feed;

/// A graph, its loss, its parameters, and what writes the inputs of a step.
struct Subject {
    name: &'static str,
    graph: Graph,
    loss: Option<ValueId>,
    parameters: HashMap<String, Tensor>,
    feed: fn(&mut Trainer) -> Result<()>,
}

/// Values that look random and are the same each time.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..len).scan(seed, |state, _| next(state)).collect()
}

fn language_model(name: &'static str, trains: Trains) -> Subject {
    const SEQ: usize = 48;
    sequences(name, trains, 1, SEQ, |trainer| {
        feed(trainer, &(0..2 * SEQ as i32).map(|i| i * 7 % 64).collect::<Vec<_>>(), SEQ)
    })
}

/// Two sequences of `seq` tokens, in a model `wide` times 32 wide.
fn sequences(
    name: &'static str,
    trains: Trains,
    wide: usize,
    seq: usize,
    feed: fn(&mut Trainer) -> Result<()>,
) -> Subject {
    let config = ModelConfig::llama(64, [32 * wide, 96 * wide], 6, [4, 2]);
    let model = Model::random(config, 1, &SystemAllocator).expect("a model");
    let built = model.graph(&GraphOptions::new(2, seq, trains)).expect("a graph");
    let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
    Subject { name, graph: built.graph, loss: built.loss, parameters, feed }
}

/// Convolutions with running statistics and dropout, whose nodes may run twice or not at all.
fn image_model() -> Result<Subject> {
    let (mut graph, mut parameters) = (Graph::new(), HashMap::new());
    let mut parameter = |graph: &mut Graph, name: &str, dims: &[usize]| -> Result<ValueId> {
        let values: Vec<f32> = noise(dims.iter().product(), dims.len() as u32)
            .iter()
            .map(|v| 0.3 * v + 0.01)
            .collect();
        parameters.insert(name.to_owned(), Tensor::from_slice(dims, &values)?);
        graph.parameter(name, TensorDesc::f32(dims)?, true)
    };
    let seed = graph.input("train.seed", TensorDesc::new(DType::I32, Shape::new(&[])?)?)?;
    let mut x = graph.input("x", TensorDesc::f32(&[4, 3, 12, 12])?)?;
    let mut channels = 3;
    for layer in 0..4usize {
        let weight = parameter(&mut graph, &format!("{layer}.weight"), &[8, channels, 3, 3])?;
        x = graph.call("conv2d", &[("padding", 1usize.into())], &[x, weight])?[0];
        if layer == 1 {
            let desc = TensorDesc::f32(&[8])?;
            let mean = graph.state("running.mean", desc.clone())?;
            let variance = graph.state("running.variance", desc)?;
            x = graph.call("batch_norm", &[("affine", false.into())], &[x, mean, variance])?[0];
        }
        x = graph.call("gelu", &[], &[x])?[0];
        x = graph.call("dropout", &[("p", 0.1f32.into()), ("stream", layer.into())], &[x, seed])?
            [0];
        channels = 8;
    }
    let square = graph.call("square", &[], &[x])?[0];
    let loss = graph.call("reduce_mean", &[], &[square])?[0];
    let feed = |trainer: &mut Trainer| trainer.write("x", &noise(4 * 3 * 144, 7));
    Ok(Subject { name: "convolutions", graph, loss: Some(loss), parameters, feed })
}

/// The bits of the losses of three steps and of all that trains after them; the planned peak, and
/// how many nodes run twice.
fn train(
    subject: &Subject,
    backends: &[Arc<dyn Backend>],
    budget: Option<usize>,
) -> Result<(Vec<u32>, usize, usize)> {
    let copies = copies(subject)?;
    let options = Options { clip_norm: Some(1.0), memory_budget: budget, ..Options::default() };
    let graph = subject.graph.clone();
    let mut trainer = Trainer::new(graph, subject.loss, backends, &copies, options)?;
    let mut bits = Vec::new();
    for _ in 0..3 {
        (subject.feed)(&mut trainer)?;
        bits.push(trainer.step(&mut ())?.loss.to_bits());
    }
    let states = trainer.executor().persistent().map(|(name, _)| name.to_owned());
    let mut names: Vec<_> = states.filter(|name| name != "x").collect();
    names.sort_unstable();
    for name in names {
        bits.extend(trainer.executor().read_vec::<f32>(&name)?.iter().map(|v| v.to_bits()));
    }
    let plan = trainer.plan();
    Ok((bits, plan.peak_bytes(), plan.recomputed()))
}

/// Parameters that a run may change.
fn copies(subject: &Subject) -> Result<HashMap<String, Tensor>> {
    let copy =
        |tensor: &Tensor| Tensor::from_slice(tensor.desc().shape(), &tensor.to_vec::<f32>()?);
    let copies = subject.parameters.iter();
    copies.map(|(name, tensor)| Ok((name.clone(), copy(tensor)?))).collect()
}

#[test]
fn a_budget_changes_memory_and_no_bit() {
    let backends = tenon_backends::all().expect("backends");
    let subjects = [
        language_model("all weights", Trains::Everything),
        language_model("adapters", Trains::Lora(Lora::of_rank(4))),
        image_model().expect("a graph"),
    ];
    for subject in &subjects {
        let name = subject.name;
        let (bits, peak, _) = train(subject, &backends, None).expect("a run");
        let refused = train(subject, &backends, Some(1)).expect_err("1 byte is too little");
        let Error::Budget { needed, slower, .. } = refused else { panic!("{name}: {refused}") };
        assert!(needed < peak * 9 / 10 && slower > 0.0, "{name}: {needed} of {peak}, {slower}");
        for budget in [peak, (peak + needed) / 2, (peak + 3 * needed) / 4, needed] {
            let (same, fits, again) = train(subject, &backends, Some(budget)).expect("a run");
            assert!(fits <= budget, "{name}: {fits} of {budget}");
            assert!(same == bits, "{name}: other bits within {budget} bytes");
            assert!(budget == peak || again > 0, "{name}: nothing runs twice");
        }
        let share = 100 * needed / peak;
        report(&format!(
            "budget: {name} within {share} % of {peak} bytes, {:.0} % slower by plan",
            slower * 100.0
        ));
    }
}

#[test]
fn measured_rates_change_the_plan_and_no_bit() {
    let backends = tenon_backends::all().expect("backends");
    let calibrated = Calibrated::all(backends.clone()).expect("rates");
    let subject = language_model("all weights", Trains::Everything);
    let (bits, peak, _) = train(&subject, &backends, None).expect("a run");
    let (same, fits, again) = train(&subject, &calibrated, Some(peak * 9 / 10)).expect("a run");
    assert!(same == bits && fits <= peak * 9 / 10 && again > 0, "{fits} of {peak}, {again}");
    let speed = Calibrated::new(backends[0].clone()).expect("rates").speed();
    let rates = speed.products.map(|rate| rate / 1e9);
    report(&format!(
        "budget: measured {:.1} GB/s, {rates:.1?} GFLOP/s in f32, bf16, int8",
        speed.bytes / 1e9
    ));
    // What any device does, and none.
    let sane = |rate: f64| (1e6..1e16).contains(&rate);
    assert!(sane(speed.bytes) && speed.products.into_iter().all(sane), "{speed:?}");
}

/// A loss whose gradients toward its two parameters are 3 and 4 a step, whatever they are.
fn slopes() -> Result<Subject> {
    let mut graph = Graph::new();
    let mut sum: Option<ValueId> = None;
    let mut parameters = HashMap::new();
    for (name, slope) in [("a", 3.0), ("b", 4.0)] {
        let parameter = graph.parameter(name, TensorDesc::f32(&[1])?, true)?;
        parameters.insert(name.to_owned(), Tensor::from_slice(&[1], &[0.0f32])?);
        let slope = graph.scalar(slope)?;
        let product = graph.call("mul", &[], &[parameter, slope])?[0];
        sum = Some(match sum {
            Some(other) => graph.call("add", &[], &[other, product])?[0],
            None => product,
        });
    }
    let sum = sum.ok_or_else(|| Error::Usage("no parameters".into()))?;
    let loss = graph.call("reduce_sum", &[], &[sum])?[0];
    Ok(Subject { name: "slopes", graph, loss: Some(loss), parameters, feed: |_| Ok(()) })
}

/// How far each of three steps of plain descent at rate 1 moves the two parameters.
fn moves(clipping: Clipping) -> Result<Vec<[f32; 2]>> {
    let Subject { graph, loss, parameters, .. } = slopes()?;
    let options = Options {
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        schedule: Schedule::constant(1.0),
        clip_norm: Some(1.0),
        clipping,
        ..Options::default()
    };
    let mut trainer = Trainer::new(graph, loss, &tenon_backends::all()?, &parameters, options)?;
    let (mut moves, mut last) = (Vec::new(), [0.0; 2]);
    for _ in 0..3 {
        let report = trainer.step(&mut ())?;
        assert_eq!(report.grad_norm, Some(5.0), "{clipping:?}");
        let at = |name| trainer.executor().read_vec::<f32>(name).map(|values| values[0]);
        let now = [at("a")?, at("b")?];
        moves.push([last[0] - now[0], last[1] - now[1]]);
        last = now;
    }
    Ok(moves)
}

#[test]
fn every_way_to_clip_finds_the_norm() {
    let is_near = |a: f32, b: f32| (a - b).abs() < 1e-5;
    for clipping in [Clipping::Exact, Clipping::TwoPass, Clipping::Running] {
        for (step, [a, b]) in moves(clipping).expect("three steps").into_iter().enumerate() {
            if clipping == Clipping::Running && step == 0 {
                // Of two gradients, one is clipped by its own norm, the later one by that of both.
                let by_order = [(1.0, 0.8), (0.6, 1.0)];
                let found = by_order.iter().any(|&(x, y)| is_near(a, x) && is_near(b, y));
                assert!(found, "{a} {b}");
            } else {
                assert!(is_near(a, 0.6) && is_near(b, 0.8), "{clipping:?}, step {step}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_budget_that_falls_keeps_all_state() {
    let subject = language_model("all weights", Trains::Everything);
    let backends = tenon_backends::all().expect("backends");
    for accumulation in [1, 2] {
        let run = |falls: bool| -> Result<Vec<u32>> {
            let options = Options { clip_norm: Some(1.0), accumulation, ..Options::default() };
            let copies = copies(&subject)?;
            let graph = subject.graph.clone();
            let mut trainer = Trainer::new(graph, subject.loss, &backends, &copies, options)?;
            let mut losses = Vec::new();
            for step in 0..6 {
                if falls && step == 3 {
                    let peak = trainer.plan().peak_bytes();
                    assert!(trainer.set_memory_budget(Some(1)).is_err());
                    assert_eq!(trainer.plan().peak_bytes(), peak);
                    trainer.set_memory_budget(Some(peak * 9 / 10))?;
                    assert!(trainer.plan().peak_bytes() <= peak * 9 / 10);
                }
                // Inputs stay too.
                if step != 3 {
                    (subject.feed)(&mut trainer)?;
                }
                losses.push(trainer.step(&mut ())?.loss.to_bits());
            }
            losses.push(trainer.evaluate(&mut ())?.to_bits());
            Ok(losses)
        };
        assert_eq!(run(true).expect("a run"), run(false).expect("a run"), "{accumulation}");
    }
}

#[test]
fn no_gradient_waits_where_none_must() {
    // Two tokens: gradients are most of the memory.
    let subject = sequences("two tokens", Trains::Everything, 1, 1, |_| Ok(()));
    let backends = tenon_backends::all().expect("backends");
    let peak = |clipping| {
        let options = Options { clip_norm: Some(1.0), clipping, ..Options::default() };
        let graph = subject.graph.clone();
        let (_, plan) =
            Trainer::plan_only(graph, subject.loss, &backends, &options).expect("a plan");
        plan.arena_bytes()
    };
    let exact = peak(Clipping::Exact);
    for clipping in [Clipping::TwoPass, Clipping::Running] {
        assert!(peak(clipping) < exact / 2, "{clipping:?}: {} of {exact}", peak(clipping));
    }
}

#[test]
fn what_an_evaluation_overwrote_is_not_given() {
    let subject = language_model("all weights", Trains::Everything);
    let backends = tenon_backends::all().expect("backends");
    let options = Options { keep_gradients: true, ..Options::default() };
    let (graph, parameters) = (subject.graph.clone(), copies(&subject).expect("weights"));
    let trainer = Trainer::new(graph, subject.loss, &backends, &parameters, options);
    let mut trainer = trainer.expect("a trainer");
    (subject.feed)(&mut trainer).expect("inputs");
    trainer.step(&mut ()).expect("a step");
    let gradient = format!("grad/{}", trainer.trainable()[0]);
    assert!(trainer.executor().read_vec::<f32>(&gradient).is_ok());
    trainer.evaluate(&mut ()).expect("an evaluation");
    let told = trainer.executor().read_vec::<f32>(&gradient).expect_err("it is gone");
    assert!(told.to_string().contains("read it before that"), "{told}");
    assert!(trainer.evaluation().is_some_and(|e| e.read_vec::<f32>("loss").is_ok()));
}

#[test]
fn states_go_to_a_file_where_nothing_else_will_do() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("spill");
    std::fs::create_dir_all(&folder).expect("a folder");
    // Its matrices are large enough to be worth a file's pages.
    let subject = sequences("wide", Trains::Everything, 8, 1, |trainer| feed(trainer, &[3, 5], 1));
    let backends = tenon_backends::all().expect("backends");
    let run = |accumulation, budget, spill: Option<&std::path::Path>| -> Result<_> {
        let options = Options {
            clip_norm: Some(1.0),
            accumulation,
            memory_budget: budget,
            spill: spill.map(Into::into),
            ..Options::default()
        };
        let copies = copies(&subject)?;
        let graph = subject.graph.clone();
        let mut trainer = Trainer::new(graph, subject.loss, &backends, &copies, options)?;
        let mut losses = Vec::new();
        for _ in 0..4 {
            (subject.feed)(&mut trainer)?;
            losses.push(trainer.step(&mut ())?.loss.to_bits());
        }
        Ok((losses, trainer.plan().peak_bytes(), trainer.plan().spilled_bytes()))
    };
    for accumulation in [1, 2] {
        let (losses, peak, spilled) = run(accumulation, None, Some(&folder)).expect("a run");
        assert_eq!(spilled, 0, "a run that fits stays in memory");
        let budget = Some(peak * 2 / 3);
        assert!(run(accumulation, budget, None).is_err());
        let (same, fits, spilled) = run(accumulation, budget, Some(&folder)).expect("a run");
        assert!(
            same == losses && fits <= peak * 2 / 3 && spilled > 0,
            "{fits} of {peak}, {spilled}"
        );
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0);
        let missing = run(accumulation, budget, Some(&folder.join("absent"))).map(|_| ());
        assert!(missing.expect_err("no folder").to_string().contains("absent"));
    }
}
