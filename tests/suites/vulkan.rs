//! The Vulkan backend beyond what it computes: what it copies, allocates and keeps, and what is left
//! when it fails. Without a device these tests pass unless `TENON_EXPECT_VULKAN=1`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tenon_backends::cpu::{self, Cpu};
use tenon_backends::vulkan::{Faults, Options, Tier, Tiers, Vulkan};
use tenon_runtime::backend::Backend;
use tenon_runtime::check::{self, Check, Direction, checks};
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::Graph;
use tenon_runtime::passes;
use tenon_runtime::train::{self, Trainer};
use tenon_runtime::{Error, Result, Tensor, TensorDesc};
use tenon_tests::device::{elsewhere, with_cpu};
use tenon_tests::golden::report;

/// Devices one at a time: their caches lie in one folder.
static TURN: Mutex<()> = Mutex::new(());

/// A device, if there is one.
fn device(change: impl FnOnce(&mut Options)) -> Option<Vulkan> {
    tenon_tests::device::vulkan("vulkan", change)
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vulkan-{name}"))
}

/// Two layers in training.
fn trainer(backends: &[Arc<dyn Backend>]) -> Result<Trainer> {
    let mut graph = Graph::new();
    let mut value = graph.input("x", TensorDesc::f32(&[4, 8])?)?;
    let mut tensors = HashMap::new();
    for (i, name) in ["first", "second"].into_iter().enumerate() {
        let weights: Vec<f32> = (0..64).map(|j| ((i * 64 + j) as f32).sin()).collect();
        let weight = graph.parameter(name, TensorDesc::f32(&[8, 8])?, true)?;
        tensors.insert(name.to_owned(), Tensor::from_slice(&[8, 8], &weights)?);
        value = graph.call("matmul", &[], &[value, weight])?[0];
        value = graph.call("tanh", &[], &[value])?[0];
    }
    value = graph.call("square", &[], &[value])?[0];
    let loss = graph.call("reduce_sum", &[], &[value])?[0];
    let options = train::Options { clip_norm: Some(1.0), ..train::Options::default() };
    let mut trainer = Trainer::new(graph, loss, backends, &tensors, options)?;
    trainer.write("x", &(0..32).map(|i| (i as f32).cos()).collect::<Vec<f32>>())?;
    Ok(trainer)
}

/// `y = relu(relu(… x))`, of `n` elements and so many nodes.
fn chain(n: usize, nodes: usize) -> Graph {
    let mut graph = Graph::new();
    let mut value = graph.input("x", TensorDesc::f32(&[n]).expect("a shape")).expect("x");
    for _ in 0..nodes {
        value = graph.call("relu", &[], &[value]).expect("a relu")[0];
    }
    graph.set_output("y", value).expect("an output");
    graph
}

fn losses(trainer: &mut Trainer, steps: usize) -> Result<Vec<f32>> {
    (0..steps).map(|_| Ok(trainer.step(&mut ())?.loss)).collect()
}

/// On a device with memory of its own, a step brings its inputs there and the loss back, and the rest
/// stays where it is; what is read comes when it is read.
#[test]
fn a_step_copies_inputs_and_the_loss() {
    let _turn = TURN.lock();
    let Some(vulkan) = device(|options| options.unified = Some(false)) else { return };
    let graph = chain(1 << 16, 3);
    let backends: [Arc<dyn Backend>; 1] = [Arc::new(vulkan.clone())];
    let mut executor = Executor::new(graph, &backends, &HashMap::new()).expect("an executor");
    let x: Vec<f32> = (0..1 << 16).map(|i| i as f32 - 1000.0).collect();
    for _ in 0..2 {
        executor.write("x", &x).expect("x");
        let before = vulkan.traffic();
        executor.run(&mut ()).expect("a run");
        let after = vulkan.traffic();
        assert_eq!((after.up - before.up, after.down - before.down), (4 << 16, 4 << 16));
        executor.run(&mut ()).expect("a run");
        assert_eq!(vulkan.traffic().up, after.up, "inputs that nobody wrote stay");
    }
    let y = executor.read_vec::<f32>("y").expect("y");
    assert!(y.iter().zip(&x).all(|(y, x)| *y == x.max(0.0)));
}

/// Copies or the host's own memory: the same bits, and those of another run.
#[test]
fn the_bits_do_not_depend_on_where_memory_is() {
    let _turn = TURN.lock();
    let mut all = Vec::new();
    for unified in [Some(false), None, None] {
        let Some(vulkan) = device(|options| options.unified = unified) else { return };
        let mut trainer = trainer(&with_cpu(&vulkan)).expect("a trainer");
        let losses = losses(&mut trainer, 3).expect("steps");
        let first = trainer.trainable().remove(0);
        all.push((losses, trainer.executor().read_vec::<f32>(&first).expect("a weight")));
    }
    assert_eq!(all[1], all[2], "two runs");
    assert_eq!(all[0], all[1], "copies");
}

/// The device without some of its tiers.
fn without(tiers: Tiers, but: Option<Tier>) -> Option<Vulkan> {
    let off = tiers.iter().filter(|tier| Some(*tier) != but);
    device(|options| options.without = off.fold(options.without, Tiers::with))
}

/// A tier is another way to the same bits.
#[test]
fn tiers_change_no_bits() {
    let _turn = TURN.lock();
    let Some(offered) = device(|_| {}).map(|vulkan| vulkan.tiers()) else { return };
    let baseline = without(offered, None).expect("a device");
    let bits = |check: &Check, vulkan: &Vulkan| -> Vec<Vec<u32>> {
        let backend: Arc<dyn Backend> = Arc::new(vulkan.clone());
        let values = check::run(&check.case, &backend, check.seed).expect("a run");
        values.into_iter().map(|values| values.into_iter().map(f32::to_bits).collect()).collect()
    };
    for tier in offered.iter() {
        let vulkan = without(offered, Some(tier)).expect("a device");
        assert_eq!(vulkan.tiers(), Tiers::default().with(tier));
        let mut cases = 0;
        for check in checks().filter(|check| check.direction == Direction::Forward) {
            // Subgroups add up products in an order of their own: bytes exactly, floats not.
            let is_exact = tier != Tier::Matrix || check.case.op.name() == "matmul_int8";
            if is_exact && vulkan.uses(&check).expect("a case").has(tier) {
                let same = bits(&check, &vulkan) == bits(&check, &baseline);
                assert!(same, "{} of {}", check.case.label(), tier.name());
                cases += 1;
            }
        }
        assert_eq!(cases > 0, tier.shaders().next().is_some(), "{}", tier.name());
        report(&format!("vulkan: {cases} cases have the same bits with {}", tier.name()));
    }
}

/// Where subgroups multiply matrices of halves, products are as near as they ought to be: of sizes that no
/// tile divides, with sums in parts, and numbers of any size that grow from one end to the other.
#[test]
fn products_of_halves_are_near() {
    let _turn = TURN.lock();
    let Some(offered) = device(|_| {}).map(|vulkan| vulkan.tiers()) else { return };
    if !offered.has(Tier::Matrix) {
        return;
    }
    let halves = without(offered, Some(Tier::Matrix)).expect("a device");
    let baseline = without(offered, None).expect("a device");
    for (trans_a, trans_b, precision) in
        [(false, true, "f32"), (false, false, "f32"), (true, false, "f32"), (true, true, "bf16")]
    {
        for (of_a, of_b) in [(1.0, 1.0), (1e-33, 1e30), (1e30, 1e-33), (1e-15, 1e-14)] {
            let product = |vulkan: &Vulkan| -> Result<Vec<f32>> {
                let (m, n, k) = (70, 131, 1030);
                let mut graph = Graph::new();
                let shape = |flips: bool, x, y| if flips { [y, x] } else { [x, y] };
                let attrs = [
                    ("trans_a", trans_a.into()),
                    ("trans_b", trans_b.into()),
                    ("precision", precision.into()),
                ];
                let a = graph.input("a", TensorDesc::f32(&shape(trans_a, m, k))?)?;
                let b = graph.input("b", TensorDesc::f32(&shape(trans_b, k, n))?)?;
                let y = graph.call("matmul", &attrs, &[a, b])?[0];
                graph.set_output("y", y)?;
                let backend: Arc<dyn Backend> = Arc::new(vulkan.clone());
                let mut executor = Executor::new(graph, &[backend], &HashMap::new())?;
                let values = |count: usize, size: f32| -> Vec<f32> {
                    let grown = |i: usize| 1000f32.powf(i as f32 / count as f32);
                    (0..count).map(|i| size * grown(i) * (i as f32 * 1.37).sin()).collect()
                };
                executor.write("a", &values(m * k, of_a))?;
                executor.write("b", &values(k * n, of_b))?;
                executor.run(&mut ())?;
                executor.read_vec("y")
            };
            let (got, want) = (product(&halves).expect("y"), product(&baseline).expect("y"));
            // Relative alone: some of these products are smaller than a tolerance's least.
            let largest = want.iter().fold(0f32, |most, y| most.max(y.abs()));
            let worst = got.iter().zip(&want).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
            let said = format!(
                "{trans_a} {trans_b} {precision} {of_a:e} {of_b:e}: {worst:e} of {largest:e}"
            );
            report(&format!("vulkan: products of halves: {said}"));
            assert!(largest > 0.0 && got != want && worst <= 1e-5 * largest, "{said}");
        }
    }
}

/// A device that misses indices out of range reads none.
#[test]
fn a_wrong_search_for_indices_is_found() {
    let _turn = TURN.lock();
    let cache = folder("searches");
    let _ = std::fs::remove_dir_all(&cache);
    let faults = Arc::new(Faults::default());
    faults.searches.store(true, Ordering::Relaxed);
    let Some(vulkan) = device(|options| options.faults = Some(faults)) else { return };
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(cpu::Options::default()).expect("the CPU"));
    // SAFETY: `TURN` keeps other tests of this process from reading the environment meanwhile.
    unsafe { std::env::set_var("TENON_CACHE", &cache) };
    let said = vulkan.self_check(&cpu).expect("a check");
    // SAFETY: as above.
    unsafe { std::env::remove_var("TENON_CACHE") };
    assert!(said.len() == 1 && said[0].contains("misses indices out of range"), "{said:?}");
    let trainer = rows_by_number(&with_cpu(&vulkan), true).expect("a trainer");
    let on_cpu = elsewhere(trainer.graph(), trainer.plan());
    assert!(on_cpu.contains(&"embedding") && !on_cpu.contains(&"linear"), "{on_cpu:?}");
}

/// A missing barrier is seen: silence of the validation layers means something.
#[test]
fn the_validation_layers_are_awake() {
    let _turn = TURN.lock();
    let faults = Arc::new(Faults::default());
    faults.barriers.store(true, Ordering::Relaxed);
    let Some(vulkan) = device(|options| options.faults = Some(faults)) else { return };
    if !vulkan.is_validated() {
        report("vulkan: TENON_VK_VALIDATE is not set: nothing is validated");
        return;
    }
    let made = Executor::new(chain(64, 3), &with_cpu(&vulkan), &HashMap::new());
    let error = made.err().expect("a complaint");
    assert!(error.to_string().contains("SYNC-HAZARD"), "{error}");
}

/// An allocation that fails is an error, whichever it is, and the next attempt works.
#[test]
fn any_allocation_may_fail() {
    let _turn = TURN.lock();
    let faults = Arc::new(Faults::default());
    let given = faults.clone();
    let Some(vulkan) = device(move |options| {
        options.unified = Some(false);
        options.faults = Some(given);
    }) else {
        return;
    };
    let backends = with_cpu(&vulkan);
    let make = || -> Result<Vec<f32>> { losses(&mut trainer(&backends)?, 1) };
    let want = make().expect("a step");
    let calls = faults.allocations.calls();
    assert!(calls > 0);
    for n in 1..=calls {
        faults.allocations.fail(n);
        match make() {
            Err(Error::OutOfMemory(_)) => {}
            other => assert_eq!(other.expect("a step"), want, "allocation {n}"),
        }
    }
    faults.allocations.fail(0);
    assert_eq!(make().expect("a step"), want);
}

/// A lost device is an error from then on; what the host has can be read still.
#[test]
fn a_device_may_be_lost_at_any_submit() {
    let _turn = TURN.lock();
    let mut n = 1;
    loop {
        let faults = Arc::new(Faults::default());
        let given = faults.clone();
        let Some(vulkan) = device(move |options| options.faults = Some(given)) else { return };
        let mut trainer = trainer(&with_cpu(&vulkan)).expect("a trainer");
        trainer.step(&mut ()).expect("a step");
        let names = trainer.trainable();
        let read = |trainer: &Trainer| -> Result<Vec<Vec<f32>>> {
            names.iter().map(|name| trainer.executor().read_vec(name)).collect()
        };
        let before = read(&trainer).expect("weights");
        faults.submits.fail(n);
        match trainer.step(&mut ()) {
            Err(Error::Device { .. }) => {
                let after = read(&trainer).expect("weights of a lost device");
                assert!(after.iter().flatten().all(|v| v.is_finite()));
                assert_eq!(before.len(), after.len());
                assert!(trainer.step(&mut ()).is_err(), "a lost device stays lost");
            }
            Err(error) => panic!("submit {n}: {error}"),
            Ok(_) => break,
        }
        n += 1;
    }
    report(&format!("vulkan: {} submits lost", n - 1));
}

/// Chains of as many operands as there may be run on the device, with the CPU's bits.
#[test]
fn long_chains_run_on_the_device() {
    let _turn = TURN.lock();
    let Some(vulkan) = device(|_| {}) else { return };
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let build = || -> Result<Graph> {
        let mut graph = Graph::new();
        let mut inputs = Vec::new();
        for (i, name) in names.into_iter().enumerate() {
            // The third is one number for all.
            let dims: &[usize] = if i == 2 { &[1] } else { &[1000] };
            inputs.push(graph.input(name, TensorDesc::f32(dims)?)?);
        }
        let first = graph.call("mul", &[], &[inputs[0], inputs[1]])?[0];
        let mut value = graph.call("sub", &[], &[inputs[2], first])?[0];
        for (i, &input) in inputs.iter().enumerate().skip(3) {
            let op = if i % 2 == 0 { "mul" } else { "sub" };
            value = graph.call(op, &[], &[input, value])?[0];
        }
        graph.set_output("y", value)?;
        passes::optimize(&mut graph)?;
        Ok(graph)
    };
    let on = |backends: &[Arc<dyn Backend>]| {
        let graph = build().expect("a graph");
        let widest = graph.nodes().iter().map(|node| node.inputs.len()).max();
        assert_eq!(widest, Some(names.len()), "one chain");
        let mut executor = Executor::new(graph, backends, &HashMap::new()).expect("an executor");
        let outside = elsewhere(executor.graph(), executor.plan());
        for (i, name) in names.into_iter().enumerate() {
            let n = if i == 2 { 1 } else { 1000 };
            let values: Vec<f32> = (0..n).map(|j| ((i * 1000 + j) as f32).sin()).collect();
            executor.write(name, &values).expect("an operand");
        }
        executor.run(&mut ()).expect("a run");
        (outside, executor.read_vec::<f32>("y").expect("y"))
    };
    let backends = with_cpu(&vulkan);
    let (outside, got) = on(&backends);
    assert_eq!(outside, [""; 0]);
    assert_eq!(got, on(&backends[1..]).1);
}

/// Rows of a table in training, by numbers written or, `made`, by numbers that a step makes.
fn rows_by_number(backends: &[Arc<dyn Backend>], made: bool) -> Result<Trainer> {
    let mut graph = Graph::new();
    let mut ids = graph.input("ids", TensorDesc::i32(&[6])?)?;
    let mut targets = graph.input("targets", TensorDesc::i32(&[6])?)?;
    if made {
        for (name, value) in [("other_ids", &mut ids), ("other_targets", &mut targets)] {
            let other = graph.input(name, TensorDesc::i32(&[2])?)?;
            *value = graph.call("concat", &[("axis", 0i64.into())], &[*value, other])?[0];
        }
    }
    let mut tensors = HashMap::new();
    for (i, name) in ["table", "head"].into_iter().enumerate() {
        let weights: Vec<f32> = (0..40).map(|j| ((i * 40 + j) as f32).sin()).collect();
        tensors.insert(name.to_owned(), Tensor::from_slice(&[5, 8], &weights)?);
    }
    let table = graph.parameter("table", TensorDesc::f32(&[5, 8])?, true)?;
    let head = graph.parameter("head", TensorDesc::f32(&[5, 8])?, true)?;
    let rows = graph.call("embedding", &[], &[table, ids])?[0];
    let logits = graph.call("linear", &[], &[rows, head])?[0];
    let loss = graph.call("cross_entropy", &[], &[logits, targets])?[0];
    Trainer::new(graph, loss, backends, &tensors, train::Options::default())
}

/// An index out of range is the CPU's error, whoever made it; what trains stays as it was, and goes on
/// from there.
#[test]
fn indices_out_of_range_are_errors() {
    let _turn = TURN.lock();
    let good: (&[i32], &[i32]) = (&[0, 4, 1, 1, 2, 0], &[1, 2, -100, 3, 0, 4]);
    let bad: [(&[i32], &[i32]); 4] = [
        (&[0, 4, 5, 1, 6, 0], good.1),
        (&[0, 4, 1, 1, 2, -1], good.1),
        (good.0, &[1, 2, -100, 5, 0, 4]),
        (good.0, &[-7, 2, -100, 3, 9, 4]),
    ];
    for unified in [None, Some(false)] {
        let Some(vulkan) = device(|options| options.unified = unified) else { return };
        let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(cpu::Options::default()).expect("the CPU"));
        for made in [false, true] {
            let mut on_cpu = rows_by_number(std::slice::from_ref(&cpu), made).expect("a trainer");
            let mut on_device = rows_by_number(&with_cpu(&vulkan), made).expect("a trainer");
            assert_eq!(elsewhere(on_device.graph(), on_device.plan()), [""; 0]);
            let weights = |trainer: &Trainer| -> Vec<f32> {
                let read = |name| trainer.executor().read_vec::<f32>(name).expect("weights");
                ["table", "head"].into_iter().flat_map(read).collect()
            };
            for (ids, targets) in bad {
                let before = weights(&on_device);
                let step = |trainer: &mut Trainer, (ids, targets): (&[i32], &[i32])| {
                    trainer.write("ids", ids)?;
                    trainer.write("targets", targets)?;
                    trainer.step(&mut ())
                };
                let want = step(&mut on_cpu, (ids, targets)).expect_err("an index out of range");
                let got = step(&mut on_device, (ids, targets)).expect_err("an index out of range");
                assert!(matches!(got, Error::Index { .. }), "{got}");
                assert_eq!(got.to_string(), want.to_string(), "made: {made}");
                assert_eq!(weights(&on_device), before, "{got}");
                let want = step(&mut on_cpu, good).expect("a step").loss;
                let got = step(&mut on_device, good).expect("a step").loss;
                assert!((got - want).abs() < 1e-5, "{got} and {want} on the CPU");
                assert_ne!(weights(&on_device), before);
            }
        }
    }
}

/// What a replayed dispatch costs the host.
#[test]
fn replaying_costs_little() {
    let _turn = TURN.lock();
    let Some(vulkan) = device(|_| {}) else { return };
    let backends: [Arc<dyn Backend>; 1] = [Arc::new(vulkan)];
    const NODES: usize = 2000;
    let made = Executor::new(chain(4, NODES), &backends, &HashMap::new());
    let mut executor = made.expect("an executor");
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let mut asked = Asked { last: None, seconds: 0.0 };
        executor.run(&mut asked).expect("a run");
        best = best.min(asked.seconds / NODES as f64);
    }
    report(&format!("vulkan: {:.3} us of the host's for a dispatch", best * 1e6));
    assert!(best < 1e-6, "{best}");
}

/// Times what the executor does between being told to go on and telling again: launches.
struct Asked {
    last: Option<Instant>,
    seconds: f64,
}

impl tenon_runtime::executor::Observer for Asked {
    fn before(
        &mut self,
        _: usize,
        _: usize,
        _: &tenon_runtime::executor::Task,
    ) -> std::ops::ControlFlow<()> {
        self.last = Some(Instant::now());
        std::ops::ControlFlow::Continue(())
    }

    fn after(&mut self) {
        self.seconds += self.last.map_or(0.0, |last| last.elapsed().as_secs_f64());
    }
}

/// Where it is asked for, a program leaves what its steps took on the device: each of them, one after
/// the other, within the time that the host saw the run take.
#[test]
fn steps_are_timed_on_the_device() {
    let _turn = TURN.lock();
    let folder = folder("times");
    let _ = std::fs::remove_dir_all(&folder);
    let Some(vulkan) = device(|options| options.times = Some(folder.clone())) else { return };
    let backends: [Arc<dyn Backend>; 1] = [Arc::new(vulkan)];
    const NODES: usize = 54;
    // Enough for two submits.
    let made = Executor::new(chain(1 << 18, NODES), &backends, &HashMap::new());
    let mut executor = made.expect("an executor");
    let start = Instant::now();
    executor.run(&mut ()).expect("a run");
    let seen = start.elapsed().as_secs_f64() * 1e6;
    drop(executor);
    let Ok(mut files) = std::fs::read_dir(&folder) else {
        return report("vulkan: this device has no clock");
    };
    let file = files.next().expect("a file").expect("a file").path();
    let text = std::fs::read_to_string(file).expect("a trace");
    let trace: serde_json::Value = serde_json::from_str(&text).expect("a trace");
    let events = trace["traceEvents"].as_array().expect("events");
    assert_eq!(events.len(), NODES);
    let number = |event: &serde_json::Value, name: &str| event[name].as_f64().expect("a number");
    let mut end = 0.0;
    for event in events {
        assert_eq!((event["name"].as_str(), event["args"]["shaders"].as_str()), {
            (Some("relu"), Some("elementwise"))
        });
        assert!(number(event, "ts") >= end - 0.01 && number(event, "dur") > 0.0, "{event}");
        end = number(event, "ts") + number(event, "dur");
    }
    report(&format!("vulkan: {NODES} steps of {end:.0} us by the device, {seen:.0} by the host"));
    assert!(end <= seen, "{end} us of {seen}");
}

/// Compiled pipelines are kept by driver; a damaged file is as good as none, and is replaced.
#[test]
fn a_damaged_pipeline_cache_is_replaced() {
    let _turn = TURN.lock();
    let cache = folder("cache");
    let _ = std::fs::remove_dir_all(&cache);
    // SAFETY: `TURN` keeps other tests of this process from reading the environment meanwhile.
    unsafe { std::env::set_var("TENON_CACHE", &cache) };
    let run = || {
        let vulkan = device(|_| {})?;
        let backends: [Arc<dyn Backend>; 1] = [Arc::new(vulkan)];
        let made = Executor::new(chain(64, 1), &backends, &HashMap::new());
        made.and_then(|mut executor| executor.run(&mut ())).expect("a run");
        Some(())
    };
    let kept = || {
        let files = std::fs::read_dir(&cache).expect("a folder");
        let mut files: Vec<_> = files.map(|f| f.expect("a file").path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "pipelines"));
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    };
    if run().is_none() {
        return;
    }
    let whole = std::fs::read(kept()).expect("the file");
    for damage in 0..4 {
        let mut bytes = whole.clone();
        match damage {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes.clear(),
            2 => bytes[whole.len() - 1] ^= 1,
            _ => bytes[10] ^= 1,
        }
        std::fs::write(kept(), &bytes).expect("a damaged file");
        run().expect("a device");
        let now = std::fs::read(kept()).expect("the file");
        assert!(now != bytes && now.len() > 32, "damage {damage} stays");
    }
    // SAFETY: as above.
    unsafe { std::env::remove_var("TENON_CACHE") };
}
