//! A step allocates nothing, on any thread, whatever the allocator behind the program is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenon_runtime::models::{GraphOptions, Lora, Model, Trains};
use tenon_runtime::tensor::SystemAllocator;
use tenon_runtime::train::{Clipping, Options, Outer, Privacy, Rounds, Trainer};
use tenon_tests::golden::report;
use tenon_tests::models::{feed, lay_out};

/// Counts requests for memory.
struct Counting;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests during three steps after the first update.
fn requests(model: &Model, trains: Trains, accumulation: usize, clipping: Clipping) -> usize {
    let backends = tenon_backends::all().expect("backends");
    let options = GraphOptions::new(2, 8, trains);
    let built = model.graph(&options).expect("a graph");
    let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
    // What rounds of federated training add to a gradient takes none either.
    let outer = Some(Outer { lr: 0.7, momentum: 0.9 });
    let rounds = Rounds { proximal: 0.1, control: true, outer };
    let training =
        Options { clip_norm: Some(1.0), clipping, accumulation, rounds, ..Options::default() };
    let trainer = Trainer::new(built.graph, built.loss, &backends, &parameters, training);
    let mut trainer = trainer.expect("a trainer");
    let tokens: Vec<i32> = (0..16).collect();
    let mut counted = 0;
    for step in 0..4 * accumulation {
        feed(&mut trainer, &tokens, 8).expect("tokens");
        let before = REQUESTS.load(Ordering::Relaxed);
        trainer.step(&mut ()).expect("a step");
        if step >= accumulation {
            counted += REQUESTS.load(Ordering::Relaxed) - before;
        }
    }
    counted
}

/// Requests during steps of a part that sends on what it makes, and waits for the gradient.
fn requests_of_a_part(model: &Model) -> usize {
    let backends = tenon_backends::all().expect("backends");
    let mut options = GraphOptions::new(2, 8, Trains::Lora(Lora::of_rank(4)));
    options.layers = Some(0..1);
    let built = model.graph(&options).expect("a graph");
    let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
    let trainer = Trainer::new(built.graph, built.loss, &backends, &parameters, Options::default());
    let mut trainer = trainer.expect("a trainer");
    trainer.write("tokens", &(0..16).collect::<Vec<i32>>()).expect("tokens");
    let mut counted = 0;
    for step in 0..4 {
        let before = REQUESTS.load(Ordering::Relaxed);
        trainer.forward(&mut ()).expect("a forward run");
        trainer.step(&mut ()).expect("a step");
        counted += if step > 0 { REQUESTS.load(Ordering::Relaxed) - before } else { 0 };
    }
    counted
}

/// Requests during steps that clip each of two sequences, and add noise.
fn requests_in_private(model: &Model) -> usize {
    let backends = tenon_backends::all().expect("backends");
    let options = GraphOptions::new(2, 8, Trains::Lora(Lora::of_rank(4)));
    let built = model.graph(&options).expect("a graph");
    let parameters = model.parameters(&built.graph, 1, &SystemAllocator).expect("weights");
    let privacy = Some(Privacy { samples: 2, clip: 1.0, noise: 1.0, seed: 1 });
    let training = Options { privacy, ..Options::default() };
    let trainer = Trainer::new(built.graph, built.loss, &backends, &parameters, training);
    let mut trainer = trainer.expect("a trainer");
    feed(&mut trainer, &(0..16).collect::<Vec<i32>>(), 8).expect("tokens");
    let mut counted = 0;
    for step in 0..4 {
        let before = REQUESTS.load(Ordering::Relaxed);
        trainer.step(&mut ()).expect("a step");
        counted += if step > 0 { REQUESTS.load(Ordering::Relaxed) - before } else { 0 };
    }
    counted
}

// Not a `#[test]`: nothing else is to run in this process.
fn main() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("allocations");
    let _ = lay_out("llama", &folder);
    let model = Model::load(&folder).expect("the golden's model");
    let before = REQUESTS.load(Ordering::Relaxed);
    drop(std::hint::black_box(vec![0u8; 4096]));
    assert!(REQUESTS.load(Ordering::Relaxed) > before, "the counter counts");
    let ways = [
        (1, Clipping::Exact),
        (1, Clipping::TwoPass),
        (1, Clipping::Running),
        (2, Clipping::Exact),
    ];
    for (accumulation, clipping) in ways {
        for trains in [Trains::Everything, Trains::Lora(Lora::of_rank(4))] {
            let label = format!("{trains:?}, accumulating {accumulation}, {clipping:?}");
            assert_eq!(requests(&model, trains, accumulation, clipping), 0, "{label}");
        }
    }
    assert_eq!(requests_of_a_part(&model), 0, "a part");
    assert_eq!(requests_in_private(&model), 0, "single samples clipped");
    report("allocations: none in the steps of 8 ways to train");
}
