//! Graphs for phone accelerators: lowerings, and the bridge to NNAPI over a strict stand-in, which is
//! `tests/nnapi`, built as a library of that name's kind.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tenon_backends::cpu::{Cpu, Options as CpuOptions};
use tenon_backends::npu::reference::Evaluator;
use tenon_backends::npu::{Compute, Npu, Options, Target, Worth, trust};
use tenon_backends::{Choice, nnapi};
use tenon_kernels::Isa;
use tenon_kernels::gemm::Precision;
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{Verdict, checks};
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::train::{self, Optimizer, Schedule, Trainer};
use tenon_runtime::{Result, Tensor, TensorDesc};
use tenon_tests::bindings::loaded;
use tenon_tests::golden::{mnist, report, root};
use tenon_tests::models::block;

/// These tests set the environment, one after the other.
static TURN: Mutex<()> = Mutex::new(());

/// A turn with a cache of its own, in front of a stand-in that is told to be so.
fn turn(name: &str, stand_in: &str) -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nnapi-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    // SAFETY: tests that read these variables hold the turn.
    unsafe {
        std::env::set_var("TENON_CACHE", &folder);
        std::env::set_var("TENON_NNAPI_LIBRARY", library());
        std::env::set_var("TENON_STAND_IN", stand_in);
    }
    turn
}

/// The stand-in, built once.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target").to_owned();
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let mut cargo = Command::new(env!("CARGO"));
        // Of the whole workspace, as the tests are: nothing is built twice.
        cargo.args(["build", "-q", "--workspace", "--example", "neuralnetworks"]);
        let built = cargo.args(["--profile", profile]).current_dir(root()).status();
        assert!(built.expect("cargo").success(), "the stand-in does not build");
        let folder = if cfg!(debug_assertions) { "debug" } else { "release" };
        target.join(folder).join("examples/libneuralnetworks.so")
    })
}

fn cpu() -> Arc<dyn Backend> {
    Arc::new(Cpu::new(CpuOptions::default()).expect("the CPU"))
}

/// Everything that can run on the accelerator does, and nothing else is asked.
const ALL: Options = Options {
    compute: Compute::F32,
    worth: Worth::ALL,
    most: usize::MAX,
    compile_limit: Duration::from_secs(60),
    compare: false,
    calibration: 4,
    loss_scale: 4096.0,
};

/// The bridge over the stand-in.
fn bridge(options: Options) -> Arc<Npu> {
    Arc::new(nnapi::open(cpu(), options).expect("the stand-in"))
}

/// The table of NNAPI's functions is what bindgen makes of the header of its facts.
///
/// After changing the header: `TENON_BLESS=1 cargo test -p tenon-tests --test nnapi`.
#[test]
fn bindings_are_current() {
    let folder = root().join("backends/src/nnapi");
    let (file, fresh) = (folder.join("sys.rs"), loaded(&folder.join("nnapi.h")));
    if std::env::var_os("TENON_BLESS").is_some() {
        std::fs::write(&file, &fresh).expect("the file");
    }
    let kept = std::fs::read_to_string(&file).expect("the file");
    assert!(kept == fresh, "{} is not what bindgen makes of the header", file.display());
}

/// Every op's cases, forward and backward, against the portable level.
fn conform(npu: &Arc<Npu>, what: &str) {
    let options = CpuOptions { isa: Some(Isa::PORTABLE), ..CpuOptions::default() };
    let reference: Arc<dyn Backend> = Arc::new(Cpu::new(options).expect("the portable level"));
    let backend: Arc<dyn Backend> = npu.clone();
    let mut failures = Vec::new();
    let (mut compared, mut seen) = (0, 0);
    let mut ops = BTreeSet::new();
    for check in checks() {
        let verdict = check.run(&backend, &reference);
        let outcomes = npu.outcomes();
        for outcome in outcomes[seen..].iter().filter(|o| !o.accelerated) {
            failures.push(format!("{} left to the CPU: {}", check.case.label(), outcome.why));
        }
        seen = outcomes.len();
        match verdict {
            Verdict::Skipped => continue,
            Verdict::Passed(_) => {}
            other => {
                failures.push(format!("{} {:?}: {other:?}", check.case.label(), check.direction));
            }
        }
        compared += 1;
        ops.insert(check.entry.name);
    }
    let ops = ops.into_iter().collect::<Vec<_>>();
    report(&format!("{what}: {compared} checks of {} ops: {}", ops.len(), ops.join(" ")));
    assert!(failures.is_empty(), "{what}: {} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn lowerings_compute_what_the_cpu_does() {
    let _turn = turn("lowerings", "");
    for target in [Target::Nnapi(8), Target::Nnapi(5), Target::CoreMl(18)] {
        let npu = Arc::new(Npu::new(Arc::new(Evaluator(target)), target, cpu(), ALL));
        conform(&npu, &format!("{target:?}"));
    }
}

#[test]
fn the_stand_in_computes_what_the_cpu_does() {
    for level in [8, 5, 4, 3] {
        let _turn = turn("conformance", &format!("level={level}"));
        conform(&bridge(ALL), &format!("NNAPI of level {level}"));
    }
}

/// A small network on digits of MNIST.
fn cnn(backends: &[Arc<dyn Backend>]) -> Result<Trainer> {
    const BATCH: usize = 16;
    let mut net = Net::default();
    let x = net.graph.input("x", TensorDesc::f32(&[BATCH, 1, 28, 28])?)?;
    let targets = net.graph.input("targets", TensorDesc::i32(&[BATCH])?)?;
    let (w, b) = (net.weight(&[6, 1, 3, 3])?, net.weight(&[6])?);
    let attrs = [("stride", 2usize.into()), ("padding", 1usize.into())];
    let x = net.graph.call("conv2d", &attrs, &[x, w, b])?[0];
    let x = net.graph.call("relu", &[], &[x])?[0];
    let x = net.graph.call("avg_pool2d", &[("kernel", 2usize.into())], &[x])?[0];
    let (w, b) = (net.weight(&[8, 6, 3, 3])?, net.weight(&[8])?);
    let x = net.graph.call("conv2d", &[("stride", 2usize.into())], &[x, w, b])?[0];
    let x = net.graph.call("relu", &[], &[x])?[0];
    let x = net.graph.call("reshape", &[("shape", [BATCH, 72][..].into())], &[x])?[0];
    let (w, b) = (net.weight(&[10, 72])?, net.weight(&[10])?);
    let x = net.graph.call("linear", &[], &[x, w, b])?[0];
    let loss = net.graph.call("cross_entropy", &[], &[x, targets])?[0];
    let schedule = Schedule::constant(1e-2);
    let options = train::Options { schedule, ..train::Options::default() };
    let mut trainer = Trainer::new(net.graph, loss, backends, &net.weights, options)?;
    let (images, digits) = mnist(BATCH);
    trainer.write("x", &images)?;
    trainer.write("targets", &digits)?;
    Ok(trainer)
}

/// A graph in the making, with its weights.
#[derive(Default)]
struct Net {
    graph: Graph,
    weights: HashMap<String, Tensor>,
}

impl Net {
    fn weight(&mut self, shape: &[usize]) -> Result<ValueId> {
        let inputs: usize = shape[1..].iter().product();
        let most = if shape.len() == 1 { 0.1 } else { 1.7 / (inputs as f32).sqrt() };
        let start = self.weights.len() * 977;
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| most * noise(start + i)).collect();
        let name = format!("weight{}", self.weights.len());
        self.weights.insert(name.clone(), Tensor::from_slice(shape, &values)?);
        self.graph.parameter(&name, TensorDesc::f32(shape)?, true)
    }
}

/// A value in -1..1 without a pattern.
fn noise(i: usize) -> f32 {
    (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0
}

fn lora(backends: &[Arc<dyn Backend>]) -> Result<Trainer> {
    // Slow enough that a difference in the last bit does not grow from step to step.
    block(3, Precision::F32, 2e-2, backends)
}

fn losses(trainer: &mut Trainer, steps: usize) -> Vec<f32> {
    (0..steps).map(|_| trainer.step(&mut ()).expect("a step").loss).collect()
}

/// What trains here, by name.
const NETS: [(&str, MakeTrainer); 2] = [("cnn", cnn), ("lora", lora)];
type MakeTrainer = fn(&[Arc<dyn Backend>]) -> Result<Trainer>;

const STEPS: usize = 50;

/// Losses of 50 steps on the CPU alone and with a bridge.
fn both(
    net: impl Fn(&[Arc<dyn Backend>]) -> Result<Trainer>,
    npu: &Arc<Npu>,
) -> (Vec<f32>, Vec<f32>) {
    let want = losses(&mut net(&[cpu()]).expect("a trainer"), STEPS);
    let backends: [Arc<dyn Backend>; 2] = [npu.clone(), cpu()];
    (losses(&mut net(&backends).expect("a trainer"), STEPS), want)
}

/// The largest difference of two sequences.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).fold(0f32, |m, (g, w)| m.max((g - w).abs()))
}

#[test]
fn fifty_steps_reach_the_loss_of_the_cpu() {
    for (name, net) in NETS {
        let _turn = turn("training", "");
        let npu = bridge(Options { compare: true, ..ALL });
        let (got, want) = both(net, &npu);
        let outcomes = npu.outcomes();
        let ran: usize = outcomes.iter().filter(|o| o.accelerated).map(|o| o.steps).sum();
        let parts = outcomes.iter().filter(|o| o.accelerated).count();
        let (first, last) = (want[0], want[want.len() - 1]);
        let far = apart(&got, &want);
        report(&format!(
            "nnapi {name}: {first:.4} to {last:.4}, {far:.2e} from the CPU's, {ran} steps in {parts} graphs"
        ));
        assert!(last < 0.7 * first, "{name} does not learn: {want:?}");
        assert!(far < 1e-3, "{name}: {got:?}\n{want:?}");
        assert!(outcomes.iter().all(|o| o.accelerated), "{outcomes:?}");
        let backend: Arc<dyn Backend> = npu.clone();
        assert_eq!(backend.outcomes(), outcomes, "what `tenon check` writes");
        assert!(trust::blacklist("nnapi").is_empty());
    }
}

/// One layer on digits whose weights are 2^19 times as large, and gradients as small, as they might
/// be: much of what flows back lies below what half precision tells from 0.
fn faint(backends: &[Arc<dyn Backend>]) -> Result<Trainer> {
    const BATCH: usize = 16;
    let mut graph = Graph::new();
    let x = graph.input("x", TensorDesc::f32(&[BATCH, 784])?)?;
    let targets = graph.input("targets", TensorDesc::i32(&[BATCH])?)?;
    let w = graph.parameter("w", TensorDesc::f32(&[10, 784])?, true)?;
    let x = graph.call("affine", &[("mul", 2f32.powi(-8).into())], &[x])?[0];
    let x = graph.call("linear", &[], &[x, w])?[0];
    let x = graph.call("affine", &[("mul", 2f32.powi(-11).into())], &[x])?[0];
    let loss = graph.call("cross_entropy", &[], &[x, targets])?[0];
    let start: Vec<f32> = (0..7840).map(|i| 4000.0 * noise(i)).collect();
    let weights = HashMap::from([("w".to_owned(), Tensor::from_slice(&[10, 784], &start)?)]);
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let schedule = Schedule::constant(0.3 * 2f32.powi(38));
    let clip_norm = Some(1.0);
    let options = train::Options { optimizer, schedule, clip_norm, ..train::Options::default() };
    let mut trainer = Trainer::new(graph, loss, backends, &weights, options)?;
    let (images, digits) = mnist(BATCH);
    trainer.write("x", &images)?;
    trainer.write("targets", &digits)?;
    Ok(trainer)
}

/// In half precision, small gradients are lost unless the loss is scaled; with too large a scale they
/// overflow, and the CPU computes those steps.
#[test]
fn half_precision_trains_with_a_scaled_loss() {
    let cases = [("none", 1.0, false), ("2^12", 4096.0, true), ("2^40", 2f32.powi(40), true)];
    let mut trainer = faint(&[cpu()]).expect("a trainer");
    let want = losses(&mut trainer, STEPS);
    let norm = |trainer: &mut Trainer| trainer.step(&mut ()).expect("a step").grad_norm;
    let want_norm = norm(&mut trainer).expect("a norm");
    for (name, loss_scale, arrives) in cases {
        let _turn = turn("half", "");
        let npu = bridge(Options { compute: Compute::F16, loss_scale, ..ALL });
        let mut trainer = faint(&[npu.clone(), cpu()]).expect("a trainer");
        let got = losses(&mut trainer, STEPS);
        let far = apart(&got, &want);
        let ends = [got[STEPS - 1], want[STEPS - 1]];
        report(&format!(
            "nnapi in half precision, scale {name}: {:.4} at the end, the CPU {:.4}, {far:.2e} on the way",
            ends[0], ends[1]
        ));
        let outcomes = npu.outcomes();
        assert!(outcomes.iter().all(|o| o.accelerated), "{outcomes:?}");
        assert_eq!(far < 1e-2, arrives, "{name}: {got:?}\n{want:?}");
        let norm = norm(&mut trainer).expect("a norm");
        assert!(!arrives || (norm / want_norm - 1.0).abs() < 0.1, "{name}: {norm} for {want_norm}");
    }
}

/// Losses of 50 steps with ranges measured anew every 10, and whether all of them ran on the device.
fn recalibrated(npu: &Arc<Npu>, mut trainer: Trainer) -> Vec<f32> {
    let mut got = Vec::new();
    for _ in 0..STEPS / 10 {
        got.extend(losses(&mut trainer, 10));
        npu.recalibrate();
    }
    let outcomes = npu.outcomes();
    assert!(outcomes.iter().all(|o| o.accelerated), "{outcomes:?}");
    got
}

/// With forward products in codes of 8 bits, results too, as accelerators have them: the network on
/// digits comes to the CPU's loss; adapters, whose loss is far from 0 still, near it.
#[test]
fn forward_products_in_codes_train() {
    for (what, net, bound) in [("cnn", NETS[0].1, 1e-3), ("lora", NETS[1].1, 1e-2)] {
        let _turn = turn("codes", "");
        let npu = bridge(Options { compute: Compute::Int8, compare: true, ..ALL });
        let want = losses(&mut net(&[cpu()]).expect("a trainer"), STEPS);
        let got = recalibrated(&npu, net(&[npu.clone(), cpu()]).expect("a trainer"));
        let (ends, far) = ([got[STEPS - 1], want[STEPS - 1]], apart(&got, &want));
        report(&format!(
            "nnapi {what} in int8: {} at the end, the CPU {}, {far:.2e} from it on the way",
            ends[0], ends[1]
        ));
        assert!(ends[0] < 0.7 * got[0], "{what} in int8 does not learn: {got:?}");
        assert!((ends[0] - ends[1]).abs() < bound, "{what} in int8: {got:?}\n{want:?}");
    }
}

/// Adapters over frozen weights of 8 bits, which the device decodes, come to the loss of the CPU.
#[test]
fn adapters_on_weights_of_8_bits_reach_the_loss_of_the_cpu() {
    for seed in 1..6 {
        // Decoding by channel is as old as the level.
        let _turn = turn("weights", if seed == 5 { "level=3" } else { "" });
        let npu = bridge(Options { compute: Compute::Weights8, compare: true, ..ALL });
        let net = |backends: &[Arc<dyn Backend>]| block(seed, Precision::F32, 2e-2, backends);
        let (got, want) = both(net, &npu);
        let (ends, far) = ([got[STEPS - 1], want[STEPS - 1]], apart(&got, &want));
        report(&format!(
            "nnapi lora {seed} with weights of 8 bits: {} at the end, the CPU {}, {far:.2e} on the way",
            ends[0], ends[1]
        ));
        assert!(npu.outcomes().iter().all(|o| o.accelerated), "{:?}", npu.outcomes());
        assert!(far > 0.0, "nothing was rounded");
        assert!(ends[0] < 0.7 * got[0], "it does not learn: {got:?}");
        assert!(far < 1e-3, "{got:?}\n{want:?}");
    }
}

/// A model built for int8 products, inputs rounded in blocks, trains as it does on the CPU: forward, and
/// backward through the same weights. Now and then a number lies so near the middle of two codes that
/// a sum in another order takes the other; what comes after is that much off.
#[test]
fn adapters_on_int8_products_have_the_losses_of_the_cpu() {
    for seed in 1..6 {
        let _turn = turn("blocks", "");
        let npu = bridge(Options { compare: true, ..ALL });
        let net = |backends: &[Arc<dyn Backend>]| block(seed, Precision::Int8, 1e-2, backends);
        let (got, want) = both(net, &npu);
        let plain = block(seed, Precision::F32, 1e-2, &[cpu()]).expect("a trainer");
        let plain = losses(&mut { plain }, STEPS);
        let (same, far) = (apart(&got[..2], &want[..2]), apart(&got, &want));
        let of_f32 = apart(&want, &plain);
        report(&format!(
            "nnapi lora {seed} on int8 products: {same:.2e} from the CPU's in 2 steps, {far:.2e} in all; \
             the CPU in f32 is {of_f32:.2e} from it"
        ));
        let outcomes = npu.outcomes();
        assert!(outcomes.iter().all(|o| o.accelerated), "{outcomes:?}");
        assert!(want[STEPS - 1] < 0.7 * want[0], "it does not learn: {want:?}");
        assert!(same < 1e-5 && far < 1e-2, "{got:?}\n{want:?}");
    }
}

/// Whatever goes wrong, training goes on with the CPU's losses, and what went wrong is remembered.
#[test]
fn faults_leave_the_losses_alone() {
    let cases = [
        ("lost", "lost=0", true),
        ("lost in the middle", "lost=35", true),
        ("wrong", "wrong", true),
        ("refuse", "refuse", true),
        ("slow", "slow=400", true),
        ("without convolutions", "without=3,without=91", false),
        ("without products", "without=9", false),
    ];
    for (name, stand_in, is_listed) in cases {
        let _turn = turn("faults", stand_in);
        let limit = if name == "slow" { 100 } else { 60_000 };
        let options = Options { compare: true, compile_limit: Duration::from_millis(limit), ..ALL };
        let npu = bridge(options);
        let (got, want) = both(cnn, &npu);
        let far = apart(&got, &want);
        let listed = trust::blacklist("nnapi");
        report(&format!("nnapi, {name}: {far:.2e} from the CPU's, {} graphs listed", listed.len()));
        assert!(far < 1e-3, "{name}: {got:?}\n{want:?}");
        assert_eq!(!listed.is_empty(), is_listed, "{name}: {listed:?}");
        if is_listed {
            // Another process does not ask for it again.
            let again = bridge(options);
            let (got, want) = both(cnn, &again);
            assert!(apart(&got, &want) < 1e-3, "{name}");
            let refused = again.outcomes().iter().any(|o| !o.accelerated);
            assert!(refused, "{name}: {:?}", again.outcomes());
        }
    }
}

/// Ends in the middle of its first step, where the test below asks for it.
#[test]
fn crash() {
    if std::env::var_os("TENON_TEST_CRASH").is_some() {
        let options = Options { compare: true, ..ALL };
        let _trainer = cnn(&[bridge(options), cpu()]).expect("a trainer");
        std::process::abort();
    }
}

/// A run that did not come back is not tried again; a damaged note of it is as good as none.
#[test]
fn a_crash_is_remembered() {
    let _turn = turn("crash", "");
    let options = Options { compare: true, ..ALL };
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let child = child.args(["--exact", "crash"]).env("TENON_TEST_CRASH", "1").output();
    assert!(!child.expect("a child").status.success());
    let again = bridge(options);
    let mut trainer = cnn(&[again.clone(), cpu()]).expect("a trainer");
    assert!(again.outcomes().iter().all(|o| !o.accelerated), "{:?}", again.outcomes());
    assert!(!trust::blacklist("nnapi").is_empty());
    assert!(trainer.step(&mut ()).expect("a step").loss.is_finite());
    let cache = std::env::var_os("TENON_CACHE").expect("the cache");
    for file in std::fs::read_dir(cache).expect("the cache") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|e| e == "trust") {
            let mut bytes = std::fs::read(&path).expect("a file");
            *bytes.last_mut().expect("content") ^= 1;
            std::fs::write(&path, bytes).expect("a file");
        }
    }
    assert!(trust::blacklist("nnapi").is_empty());
    let fresh = bridge(options);
    drop(cnn(&[fresh.clone(), cpu()]).expect("a trainer"));
    assert!(fresh.outcomes().iter().all(|o| o.accelerated), "{:?}", fresh.outcomes());
}

/// What a driver keeps of a compiled graph is not handed to it once it has changed.
#[test]
fn a_damaged_cache_is_not_used() {
    let _turn = turn("cache", "");
    let (got, want) = both(cnn, &bridge(Options { compare: true, ..ALL }));
    assert!(apart(&got, &want) < 1e-3);
    let cache = std::env::var_os("TENON_CACHE").expect("the cache");
    let kept: Vec<PathBuf> = std::fs::read_dir(cache)
        .expect("the cache")
        .map(|file| file.expect("a file").path().join("compiled"))
        .filter(|path| path.exists())
        .collect();
    assert!(!kept.is_empty(), "nothing is kept");
    let whole: Vec<Vec<u8>> = kept.iter().map(|path| std::fs::read(path).expect("it")).collect();
    for (path, bytes) in kept.iter().zip(&whole) {
        let mut bytes = bytes.clone();
        *bytes.last_mut().expect("content") ^= 1;
        std::fs::write(path, bytes).expect("it");
    }
    // Known graphs are not compared again.
    let npu = bridge(Options { compare: true, ..ALL });
    let (got, want) = both(cnn, &npu);
    assert!(apart(&got, &want) < 1e-3, "{got:?}\n{want:?}");
    assert!(npu.outcomes().iter().all(|o| o.accelerated), "{:?}", npu.outcomes());
    for (path, bytes) in kept.iter().zip(&whole) {
        assert!(std::fs::read(path).expect("it") == *bytes, "{} is as it was left", path.display());
    }
}

/// The CPU's reference implementation is no accelerator; a library without some functions is an old
/// one, or none.
#[test]
fn old_and_odd_libraries() {
    let turn = turn("libraries", "cpu");
    let refused = nnapi::open(cpu(), ALL).err().expect("no device").to_string();
    assert!(refused.contains("nnapi-reference"), "{refused}");
    // SAFETY: the turn is held.
    unsafe { std::env::set_var("TENON_NNAPI_DEVICE", "nnapi-reference") };
    assert!(nnapi::open(cpu(), ALL).is_ok());
    // SAFETY: as above.
    unsafe {
        std::env::remove_var("TENON_NNAPI_DEVICE");
        std::env::set_var("TENON_STAND_IN", "level=4");
    }
    let cases = [
        ("ANeuralNetworksExecution_setReusable", true),
        ("ANeuralNetworksBurst_create", true),
        ("ANeuralNetworks_getRuntimeFeatureLevel", true),
        ("ANeuralNetworksCompilation_setCaching", false),
        ("ANeuralNetworks_getDeviceCount", false),
        ("ANeuralNetworksModel_create", false),
    ];
    for (symbol, still_runs) in cases {
        let cut = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lib-without-{symbol}.so"));
        let mut bytes = std::fs::read(library()).expect("the stand-in");
        let name = symbol.as_bytes();
        while let Some(at) = bytes.windows(name.len()).position(|w| w == name) {
            bytes[at] = b'x';
        }
        std::fs::write(&cut, bytes).expect("a library");
        // SAFETY: as above.
        unsafe { std::env::set_var("TENON_NNAPI_LIBRARY", &cut) };
        let runs = nnapi::open(cpu(), ALL).is_ok_and(|npu| {
            let npu = Arc::new(npu);
            let (got, want) = both(cnn, &npu);
            assert!(apart(&got, &want) < 1e-3, "without {symbol}");
            npu.outcomes().iter().all(|o| o.accelerated)
        });
        assert_eq!(runs, still_runs, "without {symbol}");
        let _ = std::fs::remove_file(cut);
    }
    // SAFETY: as above.
    unsafe { std::env::set_var("TENON_NNAPI_LIBRARY", "/nowhere/libneuralnetworks.so") };
    let none = Choice::Nnapi.backends(cpu(), None, &mut |_| {}).err().expect("no library");
    assert!(none.to_string().contains("no NNAPI here"), "{none}");
    drop(turn);
}
