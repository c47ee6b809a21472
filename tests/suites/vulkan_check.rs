//! The check of a Vulkan device on its first use finds what is wrong. Needs such a device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tenon_backends::cpu::{self, Cpu};
use tenon_backends::vulkan::{Faults, Options, Tiers, Vulkan};
use tenon_runtime::backend::Backend;
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::Graph;
use tenon_runtime::passes;
use tenon_runtime::{Result, TensorDesc};
use tenon_tests::device::{elsewhere, with_cpu};
use tenon_tests::golden::report;

/// One at a time: they say by the environment where results are kept.
static TURN: Mutex<()> = Mutex::new(());

/// A device, if there is one.
fn device(change: impl FnOnce(&mut Options)) -> Option<Vulkan> {
    tenon_tests::device::vulkan("vulkan_check", change)
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vulkan-{name}"))
}

/// A tier that is wrong is found and named; what it did is right without it. Each by itself, for one can
/// do all that another would.
#[test]
fn a_wrong_tier_is_not_used() {
    let _turn = TURN.lock();
    let Some(offered) = device(|_| {}).map(|vulkan| vulkan.tiers()) else { return };
    let cache = folder("wrong");
    // SAFETY: `TURN` keeps other tests of this process from reading the environment meanwhile.
    unsafe { std::env::set_var("TENON_CACHE", &cache) };
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(cpu::Options::default()).expect("the CPU"));
    for tier in offered.iter().filter(|tier| tier.shaders().next().is_some()) {
        let _ = std::fs::remove_dir_all(&cache);
        let faults = Arc::new(Faults::default());
        let only = Tiers::default().with(tier);
        *faults.idle.lock().expect("no panic") = only;
        let others = offered.without(only);
        let vulkan = device(|options| {
            options.faults = Some(faults);
            options.without = others.iter().fold(options.without, Tiers::with);
        });
        let vulkan = vulkan.expect("a device");
        let start = Instant::now();
        let said = vulkan.self_check(&cpu).expect("a check");
        let named = format!("the tier `{}` is not used", tier.name());
        assert!(said.len() == 1 && said[0].ends_with(&named), "{said:?}");
        assert_eq!(vulkan.tiers(), Tiers::default());
        report(&format!("vulkan: {} in {:.1} s", said[0], start.elapsed().as_secs_f64()));
        assert_eq!(vulkan.self_check(&cpu).expect("what is kept"), [""; 0]);
    }
    // SAFETY: as above.
    unsafe { std::env::remove_var("TENON_CACHE") };
}

/// A function that is wrong is left to the CPU, alone and in chains; others are not.
#[test]
fn a_wrong_function_is_not_used() {
    let _turn = TURN.lock();
    let faults = Arc::new(Faults::default());
    faults.erf.store(true, Ordering::Relaxed);
    let Some(vulkan) = device(|options| options.faults = Some(faults)) else { return };
    let cache = folder("functions");
    let _ = std::fs::remove_dir_all(&cache);
    let cpu: Arc<dyn Backend> = Arc::new(Cpu::new(cpu::Options::default()).expect("the CPU"));
    // SAFETY: `TURN` keeps other tests of this process from reading the environment meanwhile.
    unsafe { std::env::set_var("TENON_CACHE", &cache) };
    let start = Instant::now();
    let said = vulkan.self_check(&cpu).expect("a check");
    let time = start.elapsed().as_secs_f64();
    assert_eq!(vulkan.self_check(&cpu).expect("what is kept"), [""; 0]);
    // SAFETY: as above.
    unsafe { std::env::remove_var("TENON_CACHE") };
    report(&format!("vulkan: {} in {time:.1} s", said.join("; ")));
    assert!(said.len() == 1 && said[0].contains("gets erf"), "{said:?}");
    let run = |backends: &[Arc<dyn Backend>], ops: &[&str]| -> Result<_> {
        let mut graph = Graph::new();
        let mut y = graph.input("x", TensorDesc::f32(&[300])?)?;
        for op in ops {
            y = graph.call(op, &[], &[y])?[0];
        }
        graph.set_output("y", y)?;
        passes::optimize(&mut graph)?;
        let mut executor = Executor::new(graph, backends, &HashMap::new())?;
        executor.write("x", &[0.5; 300])?;
        executor.run(&mut ())?;
        let on_cpu = elsewhere(executor.graph(), executor.plan()).len();
        Ok((on_cpu, executor.read_vec::<f32>("y")?))
    };
    for (ops, on_cpu) in [(&["tanh"][..], 0), (&["erf"], 1), (&["tanh", "erf", "exp"], 1)] {
        let (elsewhere, got) = run(&with_cpu(&vulkan), ops).expect("a run");
        let (_, want) = run(std::slice::from_ref(&cpu), ops).expect("a run");
        let near = got.iter().zip(&want).all(|(x, y)| (x - y).abs() < 1e-5);
        assert!(elsewhere == on_cpu && near, "{ops:?}: {elsewhere} on the CPU");
    }
}
