//! Tenon beside other libraries, in one run on one thread: matrix products, attention, the kernels
//! that memory bounds, and steps of small networks.
//!
//! `cargo run --release --manifest-path bench/peers/Cargo.toml [-- FILTER]` races the crates;
//! `bench/peers/run [FILTER]` adds what comes from PyPI.
//!
//! A row of the table is raced in rounds, in which every library runs for a moment, so that what
//! disturbs the machine disturbs all; a library's figure is its best call. `limit` is what this core
//! reaches in the same rounds when it does nothing else: independent multiply-adds in registers, or
//! the reading or STREAM's triad of tensors of the same size. Bytes are those of the operands, each
//! read or written once: what a store fetches before it writes is not counted, for the triad
//! neither. No library uses stores around the caches, as a step soon reads what it wrote.

use std::io::Write as _;
use std::time::{Duration, Instant};

use limits::MultiplyAdds;
use tenon_kernels::Isa;
use tenon_kernels::attention::Attention;

#[path = "../../src/aligned.rs"]
mod aligned;
#[path = "../../benches/attend/mod.rs"]
mod attend;
#[allow(dead_code, reason = "benches use the rest")]
#[path = "../../src/limits.rs"]
mod limits;
#[path = "../../src/nets.rs"]
mod nets;
mod products;
#[path = "../../benches/streams/mod.rs"]
mod streams;

/// Rounds of a row.
const ROUNDS: usize = 8;

/// Time of a library in a round, or one call, if that takes longer.
const TURN: Duration = Duration::from_millis(60);

/// What a core reaches in registers.
const LIMIT: Entry<'static> = ("limit", MultiplyAdds::Single.flops());

/// A library, and what it does in a call, in the row's unit times a second.
type Entry<'a> = (&'a str, f64);

/// The table that is being made.
struct Table {
    isa: Isa,
    /// What the names of its rows contain.
    filter: String,
    /// Whether another process runs rounds of its own between these: it gets a line of JSON after
    /// each one, and answers with an empty line when the next may begin.
    shared: bool,
}

impl Table {
    /// Races a row: `make` gives a call by the library of an index in `lineup`.
    fn row<F: FnMut(usize)>(
        &self,
        name: &str,
        unit: &str,
        lineup: &[Entry],
        make: impl FnOnce() -> F,
    ) {
        if !name.contains(&self.filter) {
            return;
        }
        let (mut run, mut best) = (make(), vec![f64::MAX; lineup.len()]);
        for left in (0..ROUNDS).rev() {
            for (library, best) in best.iter_mut().enumerate() {
                let turn = Instant::now();
                while turn.elapsed() < TURN {
                    let start = Instant::now();
                    run(library);
                    *best = best.min(start.elapsed().as_secs_f64());
                }
            }
            let prefix = if unit.starts_with('G') { 1e9 } else { 1.0 };
            let rates = lineup.iter().zip(&best).map(|((_, work), time)| work / time / prefix);
            let named = lineup.iter().map(|l| l.0).zip(rates);
            if self.shared {
                let rates: serde_json::Map<_, _> =
                    named.map(|(name, rate)| (name.to_owned(), rate.into())).collect();
                let work = lineup[0].1 / prefix;
                println!(
                    "{}",
                    serde_json::json!({
                        "row": name, "unit": unit, "work": work, "rates": rates, "left": left,
                    })
                );
                std::io::stdin().read_line(&mut String::new()).expect("the reader answers");
            } else if left == 0 {
                let text: Vec<_> = named.map(|(name, rate)| format!("{name} {rate:.1}")).collect();
                println!("{name:40} {}  {unit}", text.join("  "));
            }
            std::io::stdout().flush().expect("the reader is there");
        }
    }
}

/// Attention at two lengths, and as SmolLM2-135M has it.
fn attention(table: &Table) {
    for (positions, kv_heads) in [(512, 9), (2048, 9), (256, 3)] {
        let (heads, dim) = (9, 64);
        let shape = Attention {
            batch: 1,
            queries: positions,
            keys: positions,
            heads,
            kv_heads,
            dim,
            causal: true,
            window: None,
            scale: 0.125,
        };
        let forward = shape.flops() as f64;
        for (pass, backward, work) in [("forward", false, forward), ("both", true, 3.5 * forward)] {
            let name = format!("attention {pass} s{positions} h{heads} kv{kv_heads} d{dim}");
            table.row(&name, "GFLOP/s", &[("tenon", work), LIMIT], || {
                let mut bench = attend::Bench::new(table.isa, shape);
                move |library| {
                    if library > 0 {
                        return MultiplyAdds::Single.run(table.isa);
                    }
                    bench.forward();
                    if backward {
                        bench.backward();
                    }
                }
            });
        }
    }
}

/// What memory bounds, at 64 MiB a tensor and at SmolLM2-135M's size.
fn streams(table: &Table) {
    for shape @ [rows, cols] in [[16384, 1024], [256, 576]] {
        let bytes = |tensors: usize| (tensors * rows * cols * size_of::<f32>()) as f64;
        let (limits, kernels) = streams::ROWS.split_at(2);
        for (kernel, tensors, run) in kernels {
            let (_, of_limit, limit) = limits[usize::from(*tensors > 1)];
            let lineup = [("tenon", bytes(*tensors)), ("limit", bytes(of_limit))];
            table.row(&format!("stream {kernel} {rows}x{cols}"), "GB/s", &lineup, || {
                let mut data = [(); 2].map(|()| streams::Data::new(table.isa, shape));
                move |library| {
                    let run = if library == 0 { *run } else { limit };
                    run(&mut data[library]);
                }
            });
        }
    }
}

/// Whole steps of small networks.
fn steps(table: &Table) {
    let cpu = nets::one_thread().expect("the CPU");
    for (name, optimizer) in nets::optimizers() {
        for net in nets::NETS {
            table.row(&format!("step {name} {net}"), "steps/s", &[("tenon", 1.0)], || {
                let mut trainer = nets::trainer(net, optimizer, &cpu).expect("the network builds");
                move |_| {
                    trainer.step(&mut ()).expect("a step runs");
                }
            });
        }
    }
}

/// Values in -1..1 without a pattern.
fn noise(i: usize) -> f32 {
    (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let table = Table {
        isa: Isa::from_env().expect("TENON_ISA names a level of this machine"),
        filter: arguments.iter().find(|a| !a.starts_with('-')).cloned().unwrap_or_default(),
        shared: arguments.iter().any(|a| a == "--shared"),
    };
    // SAFETY: no other thread runs yet. Candle reads it on its first product.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    if !table.shared {
        println!("one thread, level {}", table.isa.name());
    }
    products::race(&table);
    attention(&table);
    streams(&table);
    steps(&table);
}
