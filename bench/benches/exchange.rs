//! Speed of what federated clients send and servers sum, on one thread: `cargo bench -p tenon-bench
//! --bench exchange [FILTER]`.
//!
//! Vectors are of 64 MiB in f32, beyond all caches. Bytes are those of the operands, each read or
//! written once. First it prints, for every row, GB/s and the share of memory's own pace: that of
//! STREAM's triad (`a = b + s c`, counted as three), or of a plain sum for what hardly writes, timed in
//! turn with it so that a slower phase of the machine slows both. A triad writes where it has not
//! read, which costs a fourth pass that is not counted: what works in place can be faster.

#[allow(dead_code, reason = "rows uses the rest")]
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tenon_bench::limits::{Read, Triad};
use tenon_kernels::Isa;
use tenon_kernels::exchange::{BLOCK, Bits, Mask, Stream, add_masks, collect};
use tenon_kernels::random::Philox;
use tenon_runtime::federated::compress::{Compression, compress};

const N: usize = 1 << 24;

/// Rounds of a row and its limit in turn.
const ROUNDS: usize = 7;

struct Data {
    isa: Isa,
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
    words: Vec<u32>,
    scales: Vec<u8>,
    codes: Vec<u8>,
    places: Vec<u32>,
    values: Vec<f32>,
}

/// A row: name, bytes an element, whether a sum is its limit, and a call.
struct Row {
    name: String,
    bytes: f64,
    reads: bool,
    run: Box<dyn Fn(&mut Data)>,
}

fn row(name: impl Into<String>, bytes: f64, reads: bool, run: impl Fn(&mut Data) + 'static) -> Row {
    Row { name: name.into(), bytes, reads, run: Box::new(run) }
}

/// Everything of the family, with the words, codes and masks of its own tables.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for &op in Stream::SAMPLES {
        let bytes = if matches!(op, Stream::ToFixed { .. } | Stream::FromFixed { .. }) {
            8.0
        } else {
            12.0
        };
        rows.push(row(op.name(), bytes, false, move |d| match op {
            Stream::ToFixed { .. } => op.run(d.isa, &mut d.words, &d.x),
            Stream::FromFixed { .. } => op.run(d.isa, &mut d.y, &d.words),
            Stream::AddWords => op.run(d.isa, &mut d.words, &d.x),
            _ => op.run(d.isa, &mut d.y, &d.x),
        }));
    }
    // Each mask is one more pass: its words are made, not read, and that is what they take.
    for masks in [1, 8] {
        let name = format!("add_masks/{masks}");
        rows.push(row(name, 8.0 * masks as f64, false, move |d| {
            let mask = |seed| Mask { random: Philox::new(seed, 1), negative: seed % 2 == 0 };
            let all: Vec<Mask> = (0..masks).map(mask).collect();
            add_masks(d.isa, &all, 0, &mut d.words);
        }));
    }
    for &bits in Bits::ALL {
        let (count, random) = (bits.count(), Philox::new(1, 2));
        let code = f64::from(count) / 8.0 + 4.0 / BLOCK as f64;
        let sizes = move |d: &Data| (N / BLOCK * 4, d.codes.len() * count as usize / 8);
        rows.push(row(format!("encode/{count}"), 4.0 + code, true, move |d| {
            let (scales, codes) = sizes(d);
            let (scales, codes) = (&mut d.scales[..scales], &mut d.codes[..codes]);
            black_box(bits.encode(d.isa, random, 0, &d.x, &mut [], scales, codes));
        }));
        rows.push(row(format!("encode_residual/{count}"), 12.0 + code, false, move |d| {
            let (scales, codes) = sizes(d);
            let (scales, codes) = (&mut d.scales[..scales], &mut d.codes[..codes]);
            black_box(bits.encode(d.isa, random, 0, &d.x, &mut d.y, scales, codes));
        }));
        rows.push(row(format!("add_codes/{count}"), 8.0 + code, false, move |d| {
            let (scales, codes) = sizes(d);
            bits.add(d.isa, 0.5, &d.scales[..scales], &d.codes[..codes], &mut d.y);
        }));
    }
    // One in a hundred of a uniform distribution.
    rows.push(row("collect", 4.0, true, |d| {
        black_box(collect(d.isa, 0.99, &d.x, &mut d.places, &mut d.values));
    }));
    // Whole messages with error feedback: the update read, the residual read and written.
    for (percent, bits) in [(1, None), (1, Some(Bits::Four)), (10, Some(Bits::Four))] {
        let width = bits.map_or(32, Bits::count);
        let how = Compression { keep: N * percent / 100, bits, seed: 1, round: 2 };
        rows.push(row(format!("top {percent} %/{width}"), 12.0, false, move |d| {
            let done = compress(&d.isa, &how, &d.x, Some(&mut d.y), &mut d.codes);
            black_box(done.expect("there is room"));
        }));
    }
    rows
}

fn time(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints a row beside its limit.
#[allow(clippy::print_stdout, reason = "criterion knows no shares")]
fn compare(data: &mut Data, row: &Row) {
    let (mut speeds, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let limit = if row.reads {
            4.0 * N as f64
                / time(|| {
                    black_box(data.isa.run(Read(&data.x)));
                })
        } else {
            let Data { isa, x, y, z, .. } = data;
            12.0 * N as f64 / time(|| isa.run(Triad(z, x, y)))
        };
        let speed = row.bytes * N as f64 / time(|| (row.run)(data));
        speeds.push(speed / 1e9);
        shares.push(speed / limit);
        data.y.fill(0.1);
    }
    let limit = if row.reads { "a sum" } else { "the triad" };
    println!("{:20} {:5.1} GB/s, {:4.2} of {limit}", row.name, median(speeds), median(shares));
}

fn exchange(c: &mut Criterion) {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    let noise = |i: usize| (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0;
    let x: Vec<f32> = (0..N).map(noise).collect();
    let mut data = Data {
        isa,
        y: vec![0.1; N],
        z: vec![0.1; N],
        x,
        words: vec![7; N],
        scales: vec![0; N / BLOCK * 4],
        codes: vec![0; N],
        places: vec![0; N / 8],
        values: vec![0.0; N / 8],
    };
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.name.contains(&filter)).collect();
    rows.iter().for_each(|row| compare(&mut data, row));
    let mut group = c.benchmark_group(format!("exchange/{}", isa.name()));
    group.warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(600)).sample_size(15);
    for row in rows {
        group.throughput(Throughput::Bytes((row.bytes * N as f64) as u64));
        group.bench_function(&row.name, |b| b.iter(|| (row.run)(&mut data)));
    }
    group.finish();
}

criterion_group!(benches, exchange);
criterion_main!(benches);
