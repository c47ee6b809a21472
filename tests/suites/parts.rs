//! A model in parts, each in a session of its own, trains as the whole does.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tenon_runtime::backend::Backend;
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, PROJECTIONS, Trains};
use tenon_runtime::tensor::{DType, SystemAllocator, Tensor, TensorDesc};
use tenon_runtime::train::{Clipping, Options, Schedule, Trainer};
use tenon_runtime::{Error, Result};
use tenon_tests::golden::report;
use tenon_tests::models::{IGNORED, largest_error};

const BATCH: usize = 2;
const SEQ: usize = 12;
const LAYERS: usize = 4;
const WIDTH: usize = 64;
const STEPS: i32 = 5;

/// Difference that the order of a sum may make after five updates.
const BOUND: f64 = 1e-5;

fn model() -> Model {
    let config = ModelConfig::llama(96, [WIDTH, 96], LAYERS, [4, 2]);
    Model::random(config, 3, &SystemAllocator).expect("a model")
}

fn every_projection() -> Trains {
    let targets = PROJECTIONS.iter().map(|&p| p.to_owned()).collect();
    Trains::Lora(Lora { rank: 4, alpha: 8.0, targets })
}

/// A session of some layers.
fn session(
    model: &Model,
    layers: Range<usize>,
    change: impl Fn(&mut GraphOptions),
    training: &Options,
) -> Result<Trainer> {
    let backends: Vec<Arc<dyn Backend>> = tenon_backends::all()?;
    let mut options = GraphOptions::new(BATCH, SEQ, every_projection());
    options.layers = Some(layers);
    change(&mut options);
    let built = model.graph(&options)?;
    let parameters = model.parameters(&built.graph, 7, &SystemAllocator)?;
    Trainer::new(built.graph, built.loss, &backends, &parameters, training.clone())
}

fn tokens(step: i32) -> (Vec<i32>, Vec<i32>) {
    let tokens: Vec<i32> = (0..(BATCH * SEQ) as i32).map(|i| (i * 31 + step * 17) % 96).collect();
    let mut targets: Vec<i32> = tokens.iter().skip(1).chain([&5]).copied().collect();
    targets[3] = IGNORED;
    (tokens, targets)
}

/// Writes what a session takes of a step's tokens.
fn feed(trainer: &mut Trainer, step: i32) -> Result<()> {
    let (tokens, targets) = tokens(step);
    for (name, values) in [("tokens", tokens), ("targets", targets)] {
        if trainer.graph().find(name).is_some() {
            trainer.write(name, &values)?;
        }
    }
    Ok(())
}

/// Carries a tensor from one session's output to another's input, as bytes.
fn carry(from: &Trainer, to: &Trainer, name: &str) -> Result<usize> {
    let (desc, storage, offset) = from.executor().view(name)?;
    let mut bytes = vec![0; desc.bytes()];
    storage.read(offset, &mut bytes)?;
    to.executor().writable(name)?.storage().write(0, &bytes)?;
    Ok(bytes.len())
}

/// One step of parts that follow each other: forward through all, then backward through all.
fn step(parts: &mut [Trainer], cuts: &[usize], number: i32) -> Result<f32> {
    for i in 0..parts.len() {
        feed(&mut parts[i], number)?;
        if i > 0 {
            carry(&parts[i - 1], &parts[i], &format!("hidden/{}", cuts[i - 1]))?;
        }
        if i + 1 < parts.len() {
            parts[i].forward(&mut ())?;
        }
    }
    let mut loss = 0.0;
    for i in (0..parts.len()).rev() {
        if i + 1 < parts.len() {
            carry(&parts[i + 1], &parts[i], &format!("grad/hidden/{}", cuts[i]))?;
        }
        loss += parts[i].step(&mut ())?.loss;
    }
    Ok(loss)
}

/// The losses of some steps, and what they trained, by name.
type Outcome = (Vec<f32>, HashMap<String, Vec<f32>>);

/// Trains a model cut after so many layers.
fn train(
    cuts: &[usize],
    change: impl Fn(&mut GraphOptions, &Range<usize>),
    training: &Options,
) -> Result<Outcome> {
    let model = model();
    let mut starts = vec![0];
    starts.extend(cuts);
    let ends = cuts.iter().copied().chain([LAYERS]);
    let mut parts = Vec::new();
    for (start, end) in starts.into_iter().zip(ends) {
        let layers = start..end;
        parts.push(session(&model, layers.clone(), |o| change(o, &layers), training)?);
    }
    let steps = STEPS * training.accumulation as i32;
    let losses = (0..steps).map(|s| step(&mut parts, cuts, s)).collect::<Result<Vec<_>>>()?;
    let mut trained = HashMap::new();
    for part in &parts {
        for name in part.trainable() {
            let values = part.executor().read_vec(&name)?;
            assert!(trained.insert(name, values).is_none(), "a weight in two parts");
        }
    }
    Ok((losses, trained))
}

/// How far two trainings are apart, at most.
fn apart((losses, trained): &Outcome, (other_losses, others): &Outcome) -> f64 {
    assert_eq!(trained.len(), others.len(), "not the same weights");
    let worst = trained.iter().map(|(name, values)| largest_error(values, &others[name]));
    worst.fold(largest_error(losses, other_losses), f64::max)
}

#[test]
fn parts_train_as_the_whole_does() {
    let ways = [
        ("AdamW", Options { schedule: Schedule::constant(1e-2), ..Options::default() }),
        (
            "two micro-steps",
            Options { accumulation: 2, schedule: Schedule::constant(1e-2), ..Options::default() },
        ),
    ];
    for (way, training) in &ways {
        let whole = train(&[], |_, _| (), training).expect("the whole");
        let moved = |name: &str| name.ends_with("lora_B.weight");
        let mut b = whole.1.iter().filter(|(name, _)| moved(name));
        assert!(b.all(|(_, values)| values.iter().any(|&v| v.abs() > 0.01)), "{way}: none moved");
        for cuts in [&[1][..], &[2], &[3], &[1, 3]] {
            let parts = train(cuts, |_, _| (), training).expect("parts");
            let error = apart(&parts, &whole);
            report(&format!("parts {cuts:?}, {way}: at most {error:.1e} from the whole"));
            assert!(error <= BOUND, "{way}, cut at {cuts:?}: {error:.2e}");
        }
    }
}

/// A pipeline of parts in which nothing trains, and so no gradient goes back: inference.
#[test]
fn parts_are_evaluated_one_after_the_other() {
    let (model, training) = (model(), Options::default());
    let part = |layers| session(&model, layers, |o| o.trains = Trains::Nothing, &training);
    let mut whole = session(&model, 0..LAYERS, |_| (), &training).expect("the whole");
    feed(&mut whole, 0).expect("tokens");
    let loss = whole.evaluate(&mut ()).expect("a loss");
    let mut parts = [0..1, 1..3, 3..LAYERS].map(|layers| part(layers).expect("a part"));
    let mut found = 0.0;
    for i in 0..parts.len() {
        feed(&mut parts[i], 0).expect("tokens");
        if i > 0 {
            let name = format!("hidden/{}", [1, 3][i - 1]);
            let (desc, storage, offset) =
                parts[i - 1].evaluation().expect("it ran").view(&name).expect("an output");
            let mut bytes = vec![0; desc.bytes()];
            storage.read(offset, &mut bytes).expect("bytes");
            let input = parts[i].executor().writable(&name).expect("an input");
            input.storage().write(0, &bytes).expect("bytes");
        }
        found = parts[i].evaluate(&mut ()).expect("an evaluation");
    }
    assert_eq!(found, loss);
    assert!(parts[0].forward(&mut ()).is_err(), "no gradient is awaited");
}

#[test]
fn early_exits_are_losses_of_their_own() {
    let training = Options::default();
    let exits = |options: &mut GraphOptions, layers: &Range<usize>| {
        options.exits = [1, 2].into_iter().filter(|e| layers.contains(&(e - 1))).collect();
    };
    let whole = train(&[], exits, &training).expect("the whole");
    // An exit's gradient goes into the layers before it on whichever side of a cut.
    let parts = train(&[2], exits, &training).expect("parts");
    let error = apart(&parts, &whole);
    report(&format!("early exits, cut at 2: at most {error:.1e} from the whole"));
    assert!(error <= BOUND, "{error:.2e}");

    // The loss is the sum of what models that end at each exit give.
    let model = model();
    let loss = |layers, exits: &[usize]| -> Result<(f32, Vec<f32>)> {
        let mut trainer = session(&model, layers, |o| o.exits = exits.to_vec(), &training)?;
        feed(&mut trainer, 0)?;
        let loss = trainer.evaluate(&mut ())?;
        let evaluation = trainer.evaluation().expect("it has run");
        let own = |n: &usize| Ok(evaluation.read_vec::<f32>(&format!("loss/{n}"))?[0]);
        Ok((loss, exits.iter().map(own).collect::<Result<_>>()?))
    };
    let (sum, each) = loss(0..LAYERS, &[1, 2, 4]).expect("three losses");
    assert_eq!(sum, each[0] + each[1] + each[2]);
    for (i, end) in [1, 2].into_iter().enumerate() {
        let (shallow, _) = loss(0..end, &[end]).expect("a shallow model");
        assert_eq!(shallow, each[i], "the exit after {end} layers");
    }
}

#[test]
fn activations_travel_in_fewer_bytes() {
    let exact = train(&[2], |_, _| (), &Options::default()).expect("exact");
    for (name, elements, least, most) in
        [("f16", 2.0, 1e-7, 2e-3), ("bf16", 2.0, 1e-6, 2e-2), ("q8_0", 34.0 / 32.0, 1e-6, 2e-2)]
    {
        let wire = DType::from_name(name).expect("a type");
        let training = Options::default();
        let rounded = train(&[2], |options, _| options.wire = wire, &training).expect("rounded");
        let off = largest_error(&rounded.0, &exact.0);
        assert!((least..most).contains(&off), "{name}: losses off by {off:.1e}");
        // What travels is what the format says of the value.
        let model = model();
        let change = |options: &mut GraphOptions| options.wire = wire;
        let mut first = session(&model, 0..2, change, &training).expect("a part");
        let mut plain = session(&model, 0..2, |_| (), &training).expect("a part");
        let second = session(&model, 2..LAYERS, change, &training).expect("a part");
        for part in [&mut first, &mut plain] {
            feed(part, 0).expect("tokens");
            part.forward(&mut ()).expect("a forward run");
        }
        let bytes = carry(&first, &second, "hidden/2").expect("bytes");
        assert_eq!(bytes as f64, elements * (BATCH * SEQ * WIDTH) as f64, "{name}");
        let value = plain.executor().read_vec::<f32>("hidden/2").expect("activations");
        let stored = second.executor().tensor("hidden/2").expect("an input");
        let mut decoded = vec![0f32; value.len()];
        let format = wire.format().expect("a format");
        // SAFETY: as many blocks as the description has elements.
        unsafe {
            let from = stored.storage().host();
            format.decode(tenon_kernels::Isa::PORTABLE, from, value.len(), decoded.as_mut_ptr());
        }
        let bound = |block: &[f32], x: f32| match name {
            "f16" => x.abs() / 2048.0 + 1e-7,
            "bf16" => x.abs() / 256.0,
            _ => block.iter().fold(0f32, |m, v| m.max(v.abs())) / 220.0,
        };
        for (block, got) in value.chunks(32).zip(decoded.chunks(32)) {
            for (&x, &y) in block.iter().zip(got) {
                assert!((x - y).abs() <= bound(block, x), "{name}: {x} travels as {y}");
            }
        }
        report(&format!("parts, {name} between them: losses off by {off:.1e}"));
    }
}

#[test]
fn a_forward_run_is_paid_once_and_never_lost_unseen() {
    let model = model();
    let training = Options { accumulation: 2, ..Options::default() };
    let mut first = session(&model, 0..2, |_| (), &training).expect("a part");
    feed(&mut first, 0).expect("tokens");
    let refused = |error: Error, word: &str| {
        assert!(matches!(error, Error::Usage(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(first.step(&mut ()).expect_err("no forward"), "run forward");
    first.forward(&mut ()).expect("a forward run");
    // The gradient's input is there to write, and what comes after it not to read.
    let name = first.trainable()[0].clone();
    assert!(first.executor().read_vec::<f32>("hidden/2").is_ok());
    assert!(first.executor().read_vec::<f32>(&name).is_ok());
    let gradient = vec![0.01f32; BATCH * SEQ * WIDTH];
    first.write("grad/hidden/2", &gradient).expect("an input");
    first.evaluate(&mut ()).expect("an evaluation");
    refused(first.step(&mut ()).expect_err("its memory is gone"), "run forward");
    first.forward(&mut ()).expect("again");
    assert_eq!(first.step(&mut ()).expect("a step").step, 0);
    refused(first.step(&mut ()).expect_err("it is finished"), "run forward");
    assert_eq!(first.micro_steps(), 1, "a refused call counts for nothing");
    first.forward(&mut ()).expect("again");
    first.set_memory_budget(None).expect("another plan");
    refused(first.step(&mut ()).expect_err("its memory is gone"), "run forward");
    first.forward(&mut ()).expect("again");
    assert_eq!(first.step(&mut ()).expect("a step").step, 1);

    let mut whole = session(&model, 0..LAYERS, |_| (), &training).expect("the whole");
    refused(whole.forward(&mut ()).expect_err("nothing to wait for"), "as a whole");

    let clipping = Clipping::TwoPass;
    let twice = Options { clip_norm: Some(1.0), clipping, ..Options::default() };
    refused(session(&model, 0..2, |_| (), &twice).map(|_| ()).expect_err("twice"), "running");
    for (layers, exits) in
        [(2..2, vec![]), (0..LAYERS + 1, vec![]), (1..3, vec![1]), (1..3, vec![4])]
    {
        let made = session(&model, layers, |o| o.exits = exits.clone(), &Options::default());
        assert!(matches!(made.map(|_| ()), Err(Error::Usage(_))));
    }
}

/// A part within a budget: what it keeps while it waits is planned, and made again where it must be.
#[test]
fn a_part_waits_within_a_budget() {
    let training = Options::default();
    let whole = train(&[2], |_, _| (), &training).expect("no budget");
    let plan = session(&model(), 0..2, |_| (), &training).expect("a part").plan().peak_bytes();
    let tight = Options { memory_budget: Some(1), ..Options::default() };
    let told = session(&model(), 0..2, |_| (), &tight).map(|_| ()).expect_err("a byte");
    let Error::Budget { needed, .. } = told else { panic!("{told}") };
    assert!(needed < plan, "{needed} of {plan}");
    let tight = Options { memory_budget: Some(needed.max(plan * 3 / 4)), ..training };
    let parts = train(&[2], |_, _| (), &tight);
    let parts = parts.unwrap_or_else(|e| panic!("{e}: {plan} bytes without a budget"));
    assert_eq!(parts.0, whole.0);
    assert_eq!(parts.1, whole.1);
}

/// Two branches that two others go on from, one of which also gives a loss here.
fn branches() -> Result<(Graph, ValueId, HashMap<String, Tensor>)> {
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32(&[2, 3])?)?;
    let w = g.parameter("w", TensorDesc::f32(&[2, 3])?, true)?;
    let y = g.call("mul", &[], &[x, w])?[0];
    let z = g.call("square", &[], &[y])?[0];
    g.send("y", y, DType::F32, true)?;
    g.send("z", z, DType::F32, true)?;
    let loss = g.call("reduce_sum", &[], &[z])?[0];
    let w = Tensor::from_slice(&[2, 3], &[1.0f32, -2.0, 0.5, 3.0, 0.0, -1.0])?;
    Ok((g, loss, HashMap::from([("w".to_owned(), w)])))
}

#[test]
fn gradients_of_all_that_is_sent_add_up() {
    let (graph, loss, tensors) = branches().expect("a graph");
    let backends = tenon_backends::all().expect("backends");
    let options = Options { keep_gradients: true, ..Options::default() };
    let w: Vec<f32> = tensors["w"].to_vec().expect("values");
    let mut trainer = Trainer::new(graph, loss, &backends, &tensors, options).expect("a trainer");
    let x = [2.0f32, 1.0, -1.0, 0.25, 4.0, 3.0];
    let (dy, dz) = ([1.0f32, 0.0, 2.0, -1.0, 0.5, 1.0], [0.5f32, 1.0, 1.0, -2.0, 0.0, 3.0]);
    trainer.write("x", &x).expect("an input");
    trainer.forward(&mut ()).expect("forward");
    let y: Vec<f32> = trainer.executor().read_vec("y").expect("sent");
    assert!(y.iter().enumerate().all(|(i, &y)| y == x[i] * w[i]), "{y:?}");
    assert!(trainer.executor().read_vec::<f32>("z").is_ok());
    let early = trainer.executor().read_vec::<f32>("grad/w").expect_err("not made yet");
    assert!(early.to_string().contains("finish the step"), "{early}");
    trainer.write("grad/y", &dy).expect("a gradient");
    trainer.write("grad/z", &dz).expect("a gradient");
    trainer.step(&mut ()).expect("a step");
    let gradient: Vec<f32> = trainer.executor().read_vec("grad/w").expect("kept");
    for i in 0..6 {
        let want = x[i] * (dy[i] + 2.0 * y[i] * (dz[i] + 1.0));
        assert!((gradient[i] - want).abs() <= 1e-5 * want.abs(), "{i}: {} {want}", gradient[i]);
    }
}
