//! Rounds of federated training against plain statements of the methods, written out in f64.

use std::collections::HashMap;

use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::tensor::{Tensor, TensorDesc};
use tenon_runtime::train::{
    Clipping, Kept, Moments, Optimizer, Options, Outer, Rounds, Schedule, StateFormat, Trainer,
};
use tenon_runtime::{Error, Result};
use tenon_tests::golden::report;
use tenon_tests::models::largest_error;

const ROWS: usize = 3;
const WIDTH: usize = 5;
/// Rates of a step, and updates of a round.
const LR: f64 = 0.1;
const STEPS: usize = 4;

/// Values that look random and are the same each time.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..len).scan(seed, |state, _| next(state)).collect()
}

/// `loss = mean((x w^T - y)^2) / 2` with one output: the gradient is `x^T (x w - y) / rows`.
fn regression() -> Result<(Graph, ValueId, HashMap<String, Tensor>)> {
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32(&[ROWS, WIDTH])?)?;
    let y = g.input("y", TensorDesc::f32(&[ROWS, 1])?)?;
    let w = g.parameter("w", TensorDesc::f32(&[1, WIDTH])?, true)?;
    let made = g.call("linear", &[], &[x, w])?[0];
    let off = g.call("sub", &[], &[made, y])?[0];
    let square = g.call("square", &[], &[off])?[0];
    let mean = g.call("reduce_mean", &[], &[square])?[0];
    let loss = g.call("affine", &[("mul", 0.5f32.into())], &[mean])?[0];
    let w = Tensor::from_slice(&[1, WIDTH], &noise(WIDTH, 5))?;
    Ok((g, loss, HashMap::from([("w".to_owned(), w)])))
}

fn batch(step: usize) -> (Vec<f32>, Vec<f32>) {
    (noise(ROWS * WIDTH, 100 + step as u32), noise(ROWS, 200 + step as u32))
}

/// The gradient of the regression, and the mean of several.
fn gradient(w: &[f64], steps: &[usize]) -> Vec<f64> {
    let mut sum = vec![0.0; WIDTH];
    for &step in steps {
        let (x, y) = batch(step);
        for (row, &y) in x.chunks(WIDTH).zip(&y) {
            let made: f64 = row.iter().zip(w).map(|(&x, w)| f64::from(x) * w).sum();
            let off = (made - f64::from(y)) / (ROWS * steps.len()) as f64;
            sum.iter_mut().zip(row).for_each(|(s, &x)| *s += off * f64::from(x));
        }
    }
    sum
}

fn trainer(options: Options) -> Result<Trainer> {
    let (graph, loss, tensors) = regression()?;
    let backends = tenon_backends::all()?;
    Trainer::new(graph, loss, &backends, &tensors, options)
}

fn descent(rounds: Rounds) -> Options {
    Options {
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        schedule: Schedule::constant(LR as f32),
        rounds,
        ..Options::default()
    }
}

/// One update on micro-batches `first..first + micro`.
fn update(trainer: &mut Trainer, first: usize, micro: usize) -> Result<()> {
    for step in first..first + micro {
        let (x, y) = batch(step);
        trainer.write("x", &x)?;
        trainer.write("y", &y)?;
        trainer.step(&mut ())?;
    }
    Ok(())
}

fn weights(trainer: &Trainer) -> Vec<f64> {
    let w: Vec<f32> = trainer.executor().read_vec("w").expect("weights");
    w.into_iter().map(f64::from).collect()
}

fn beside(trainer: &Trainer, kept: Kept) -> Vec<f64> {
    let kept: Vec<f32> = trainer.tensor(&kept.of("w")).expect("kept").to_vec().expect("values");
    kept.into_iter().map(f64::from).collect()
}

fn put(trainer: &Trainer, kept: Kept, values: &[f32]) {
    let tensor = trainer.tensor(&kept.of("w")).expect("kept");
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor.storage().write(0, &bytes).expect("its size");
}

#[track_caller]
fn assert_near(what: &str, got: &[f64], want: &[f64]) {
    let f32s = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let error = largest_error(&f32s(got), &f32s(want));
    report(&format!("rounds: {what} off by {error:.1e}"));
    assert!(error < 1e-6, "{what}: {error:.2e}\n{got:?}\n{want:?}");
}

/// Every way to clip, with and without micro-steps; the norm that clips to half, or never.
fn ways() -> Vec<(Options, f64)> {
    let mut ways = Vec::new();
    for micro in [1, 2] {
        for clipping in [Clipping::Exact, Clipping::TwoPass, Clipping::Running] {
            for clip in [0.05, f64::INFINITY] {
                let options = Options {
                    accumulation: micro,
                    clipping,
                    clip_norm: clip.is_finite().then_some(clip as f32),
                    ..descent(Rounds::default())
                };
                // Of one parameter, the running norm is the exact one where it does not fall.
                if clipping != Clipping::Running || !clip.is_finite() {
                    ways.push((options, clip));
                }
            }
        }
    }
    ways
}

/// Descent by `g + extra(w)`, clipped.
fn plain(start: &[f64], micro: usize, clip: f64, extra: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let mut w = start.to_vec();
    for step in 0..STEPS {
        let steps: Vec<_> = (step * micro..(step + 1) * micro).collect();
        let mut g = gradient(&w, &steps);
        g.iter_mut().zip(extra(&w)).for_each(|(g, e)| *g += e);
        let length = g.iter().map(|g| g * g).sum::<f64>().sqrt();
        let factor = (clip / (length + 1e-6)).min(1.0);
        w.iter_mut().zip(g).for_each(|(w, g)| *w -= LR * factor * g);
    }
    w
}

#[test]
fn fedprox_pulls_toward_the_rounds_beginning() {
    let mu = 0.7;
    for (options, clip) in ways() {
        let micro = options.accumulation;
        let label = format!("FedProx, {micro} micro-steps, {:?}, clip {clip}", options.clipping);
        let rounds = Rounds { proximal: mu as f32, ..Rounds::default() };
        let mut trainer = trainer(Options { rounds, ..options }).expect("a trainer");
        let start = weights(&trainer);
        (0..STEPS).for_each(|s| update(&mut trainer, s * micro, micro).expect("an update"));
        let pull = |anchor: &[f64], w: &[f64]| -> Vec<f64> {
            w.iter().zip(anchor).map(|(w, a)| f64::from(mu as f32) * (w - a)).collect()
        };
        let first = plain(&start, micro, clip, |w| pull(&start, w));
        assert_near(&label, &weights(&trainer), &first);
        assert_eq!(beside(&trainer, Kept::Anchor), start);
        // Another round pulls toward where it began.
        trainer.begin_round().expect("a round");
        let begun = weights(&trainer);
        (0..STEPS).for_each(|s| update(&mut trainer, s * micro, micro).expect("an update"));
        let second = plain(&begun, micro, clip, |w| pull(&begun, w));
        assert_near(&label, &weights(&trainer), &second);
    }
}

#[test]
fn scaffold_corrects_the_drift_and_renews_its_control() {
    for (options, clip) in ways() {
        let micro = options.accumulation;
        let label = format!("SCAFFOLD, {micro} micro-steps, {:?}, clip {clip}", options.clipping);
        let rounds = Rounds { control: true, ..Rounds::default() };
        let mut trainer = trainer(Options { rounds, ..options }).expect("a trainer");
        let refused = trainer.renew_control().expect_err("no update yet");
        assert!(refused.to_string().contains("no update"), "{refused}");
        let mut own = vec![0.0; WIDTH];
        for round in 0..3 {
            let server = noise(WIDTH, 300 + round);
            put(&trainer, Kept::ServerControl, &server);
            let server: Vec<f64> = server.into_iter().map(f64::from).collect();
            trainer.begin_round().expect("a round");
            let start = weights(&trainer);
            (0..STEPS).for_each(|s| update(&mut trainer, s * micro, micro).expect("an update"));
            let drift: Vec<f64> = server.iter().zip(&own).map(|(c, o)| c - o).collect();
            let end = plain(&start, micro, clip, |_| drift.clone());
            assert_near(&label, &weights(&trainer), &end);
            trainer.renew_control().expect("updates");
            let way = start.iter().zip(&end).map(|(s, e)| (s - e) / (STEPS as f64 * LR));
            own = own.iter().zip(&server).zip(way).map(|((o, c), way)| o - c + way).collect();
            let renewed = beside(&trainer, Kept::Control);
            let scale = own.iter().fold(0f64, |m, v| m.max(v.abs()));
            let off = own.iter().zip(&renewed).fold(0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(off < 1e-5 * scale, "{label}: {renewed:?} {own:?}");
            own = renewed;
        }
    }
}

#[test]
fn diloco_steps_along_what_a_round_moved() {
    let (outer_lr, momentum) = (0.7f32, 0.9f32);
    let outer = Some(Outer { lr: outer_lr, momentum });
    let options = Options {
        optimizer: Optimizer::AdamW(Moments::default()),
        ..descent(Rounds { outer, ..Rounds::default() })
    };
    let mut trainer = trainer(options).expect("a trainer");
    let (mut anchor, mut v) = (weights(&trainer), vec![0.0; WIDTH]);
    for round in 0..4 {
        (0..STEPS).for_each(|s| update(&mut trainer, s + 7 * round, 1).expect("an update"));
        let moved = weights(&trainer);
        trainer.outer_step().expect("an outer step");
        let (lr, m) = (f64::from(outer_lr), f64::from(momentum));
        for i in 0..WIDTH {
            let way = anchor[i] - moved[i];
            v[i] = m * v[i] + way;
            anchor[i] -= lr * (way + m * v[i]);
        }
        assert_near("DiLoCo's parameters", &weights(&trainer), &anchor);
        assert_near("DiLoCo's anchor", &beside(&trainer, Kept::Anchor), &anchor);
        assert_near("DiLoCo's momentum", &beside(&trainer, Kept::OuterMomentum), &v);
    }
    // Without momentum and at rate 1 it is plain averaging: the parameters stay.
    let outer = Some(Outer { lr: 1.0, momentum: 0.0 });
    let rounds = Rounds { outer, ..Rounds::default() };
    let mut plain = self::trainer(descent(rounds)).expect("a trainer");
    update(&mut plain, 0, 1).expect("an update");
    let before = weights(&plain);
    plain.outer_step().expect("an outer step");
    assert_near("averaging", &weights(&plain), &before);
    assert!(plain.tensor(&Kept::OuterMomentum.of("w")).is_err());
}

/// All methods at once, over every optimizer and form of its states: what a round adds is planned,
/// comes back from a checkpoint, and stays within a budget or in a file.
#[test]
fn what_rounds_keep_is_planned_and_saved() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("rounds");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("state.safetensors");
    let outer = Some(Outer { lr: 0.5, momentum: 0.9 });
    let rounds = Rounds { proximal: 0.1, control: true, outer };
    let optimizers = [
        Optimizer::AdamW(Moments::default()),
        Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.01 },
    ];
    for (optimizer, state, accumulation) in optimizers
        .into_iter()
        .flat_map(|o| [StateFormat::F32, StateFormat::Int8].map(|s| (o, s)))
        .flat_map(|(o, s)| [1, 2].map(|a| (o, s, a)))
    {
        let options = Options { optimizer, state, accumulation, ..descent(rounds) };
        let mut one = trainer(options.clone()).expect("a trainer");
        put(&one, Kept::ServerControl, &noise(WIDTH, 9));
        let go = |trainer: &mut Trainer, from: usize| -> Result<Vec<u64>> {
            for step in from..from + 2 {
                update(trainer, step * accumulation, accumulation)?;
            }
            trainer.renew_control()?;
            trainer.outer_step()?;
            update(trainer, 50, accumulation)?;
            Ok(weights(trainer).iter().map(|w| w.to_bits()).collect())
        };
        go(&mut one, 0).expect("a round");
        one.save(&path, "").expect("a file");
        let mut other = trainer(options).expect("a trainer");
        other.resume(&path).expect("the file");
        other.set_memory_budget(None).expect("another plan");
        assert_eq!(go(&mut one, 3).expect("a round"), go(&mut other, 3).expect("a round"));
    }
}

#[test]
fn what_rounds_keep_is_in_the_plan() {
    const BYTES: usize = 4 << 18;
    let plan = |rounds, accumulation| -> Result<usize> {
        let mut g = Graph::new();
        let x = g.input("x", TensorDesc::f32(&[BYTES / 4])?)?;
        let w = g.parameter("w", TensorDesc::f32(&[BYTES / 4])?, true)?;
        let made = g.call("mul", &[], &[x, w])?[0];
        let square = g.call("square", &[], &[made])?[0];
        let loss = g.call("reduce_mean", &[], &[square])?[0];
        let options = Options { accumulation, ..descent(rounds) };
        Ok(Trainer::plan_only(g, loss, &tenon_backends::all()?, &options)?.1.peak_bytes())
    };
    let none = Rounds::default();
    let outer = Some(Outer { lr: 0.7, momentum: 0.9 });
    for (name, rounds, kept) in [
        ("FedProx", Rounds { proximal: 0.1, ..none }, 1),
        ("SCAFFOLD", Rounds { control: true, ..none }, 3),
        ("DiLoCo", Rounds { outer, ..none }, 2),
        ("all", Rounds { proximal: 0.1, control: true, outer }, 4),
    ] {
        for accumulation in [1, 2] {
            let bare = plan(none, accumulation).expect("a plan");
            let more = plan(rounds, accumulation).expect("a plan") - bare;
            let label = format!("{name}, {accumulation} micro-steps");
            report(&format!("rounds: {label}: {:.2} copies more", more as f64 / BYTES as f64));
            // Tensors that are kept, and at most two that a change between steps passes through.
            assert!(more >= kept * BYTES && more <= (kept + 2) * BYTES + 65536, "{label}: {more}");
        }
    }
}

/// What runs between steps may take more of the arena than a step whose gradient is of one element.
#[test]
fn a_budget_holds_for_what_runs_between_steps() -> Result<()> {
    let mut g = Graph::new();
    let w = g.parameter("w", TensorDesc::f32(&[1 << 12])?, true)?;
    let scale = g.parameter("scale", TensorDesc::f32(&[])?, true)?;
    g.set_trainable(w, false)?;
    let all = g.call("mul", &[], &[w, scale])?[0];
    let small = g.call("reduce_sum", &[("axes", [0usize][..].into())], &[all])?[0];
    g.set_trainable(w, true)?;
    let backends = tenon_backends::all()?;
    let outer = Some(Outer { lr: 0.5, momentum: 0.9 });
    for rounds in [
        Rounds { outer, ..Rounds::default() },
        Rounds { control: true, ..Rounds::default() },
        Rounds { proximal: 0.1, control: true, outer },
    ] {
        let make = |memory_budget| {
            let options = Options { memory_budget, ..descent(rounds) };
            Trainer::new(g.clone(), small, &backends, &HashMap::new(), options)
        };
        let peak = make(None)?.plan().peak_bytes();
        for budget in (0..=20).map(|part| peak * part / 20) {
            match make(Some(budget)) {
                Ok(made) => assert!(made.plan().peak_bytes() <= budget, "{rounds:?}"),
                Err(Error::Budget { needed, .. }) => {
                    assert!(needed > budget, "{needed} of {budget}");
                    assert!(make(Some(needed))?.plan().peak_bytes() <= needed);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[test]
fn rounds_that_cannot_be_are_refused() {
    let usage = |made: Result<()>| {
        let error = made.expect_err("it cannot be");
        assert!(matches!(error, Error::Usage(_)), "{error}");
    };
    let outer = |lr, momentum| Some(Outer { lr, momentum });
    let none = Rounds::default();
    for rounds in [
        Rounds { proximal: -1.0, ..none },
        Rounds { proximal: f32::NAN, ..none },
        Rounds { proximal: f32::INFINITY, ..none },
        Rounds { outer: outer(0.0, 0.5), ..none },
        Rounds { outer: outer(f32::NAN, 0.5), ..none },
        Rounds { outer: outer(1.0, 1.0), ..none },
        Rounds { outer: outer(1.0, -0.1), ..none },
    ] {
        usage(trainer(descent(rounds)).map(|_| ()));
    }
    let mut plain = trainer(descent(none)).expect("a trainer");
    usage(plain.begin_round());
    usage(plain.renew_control());
    usage(plain.outer_step());
    let all = Rounds { proximal: 0.5, control: true, outer: outer(1.0, 0.0) };
    let mut micro = trainer(Options { accumulation: 2, ..descent(all) }).expect("a trainer");
    update(&mut micro, 0, 1).expect("half an update");
    usage(micro.begin_round());
    usage(micro.outer_step());
}
