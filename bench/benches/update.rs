//! Speed of optimizer steps on one thread: `cargo bench -p tenon-bench --bench update [FILTER]`.
//!
//! Tensors are of 64 MiB in f32, beyond all caches. Bytes are those of the operands, each read or
//! written once, as torch's users count them: seven f32 an element for AdamW. `triad` (STREAM's `a =
//! b + s c`, counted as three) is the limit to compare with; it writes where it has not read, which
//! costs it a fourth pass that is not counted, so an update in place can be faster than it.

#[allow(dead_code, reason = "rows uses the rest")]
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use tenon_bench::limits::Triad;
use tenon_kernels::Isa;
use tenon_kernels::random::Philox;
use tenon_kernels::update::{Adam, BLOCK, Rounding, Sgd, State, StateFormat, adam, sgd};

const N: usize = 1 << 24;

const SGD: Sgd = Sgd { lr: 1e-9, momentum: 0.9, nesterov: false, weight_decay: 0.01, scale: 0.5 };

const ADAMW: Adam = Adam {
    lr: 1e-9,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.01,
    decoupled: true,
    step: 3.0,
    scale: 0.5,
};

/// Room for one state in any format.
struct Room {
    wide: Vec<f32>,
    half: Vec<bf16>,
    codes: Vec<i8>,
    scales: Vec<f32>,
}

impl Room {
    fn new() -> Self {
        let (wide, half) = (vec![0.1; N], vec![bf16::from_f32(0.1); N]);
        Self { wide, half, codes: vec![100; N], scales: vec![1.0; N / BLOCK] }
    }

    fn state(&mut self, format: StateFormat) -> State<'_> {
        match format {
            StateFormat::F32 => State::F32(&mut self.wide),
            StateFormat::Bf16 => State::Bf16(&mut self.half),
            StateFormat::Int8 => State::Int8 { codes: &mut self.codes, scales: &mut self.scales },
        }
    }
}

/// Bytes that a state of `N` elements takes.
fn bytes(format: StateFormat) -> usize {
    match format {
        StateFormat::F32 => 4 * N,
        StateFormat::Bf16 => 2 * N,
        StateFormat::Int8 => N + 4 * N / BLOCK,
    }
}

fn update(c: &mut Criterion) {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    let noise = |i: usize| (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.0 - 1.0;
    let mut p: Vec<f32> = (0..N).map(noise).collect();
    let (grad, mut rooms) = (p.clone(), [Room::new(), Room::new()]);
    let rounding = Rounding { random: Philox::new(1, 3), first: 0 };
    let mut group = c.benchmark_group(format!("update/{}", isa.name()));
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(600)).sample_size(15);
    group.throughput(Throughput::Bytes(12 * N as u64));
    group.bench_function("triad", |b| {
        b.iter(|| isa.run(Triad(&mut rooms[0].wide, &p, &grad)));
    });
    rooms[0].wide.fill(0.1);
    group.bench_function("sgd", |b| {
        let hyper = Sgd { momentum: 0.0, ..SGD };
        b.iter(|| sgd(isa, hyper, rounding, &mut p, &grad, State::F32(&mut [])));
    });
    for (name, format) in StateFormat::ALL {
        let of = |states: usize| Throughput::Bytes((12 * N + 2 * states * bytes(format)) as u64);
        let [m, v] = &mut rooms;
        group.throughput(of(1));
        group.bench_function(format!("sgd_momentum/{name}"), |b| {
            b.iter(|| sgd(isa, SGD, rounding, &mut p, &grad, m.state(format)));
        });
        group.throughput(of(2));
        group.bench_function(format!("adamw/{name}"), |b| {
            b.iter(|| {
                adam(isa, ADAMW, rounding, &mut p, &grad, m.state(format), v.state(format));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, update);
criterion_main!(benches);
