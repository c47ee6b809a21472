//! Speed of the matrix products on one thread: `cargo bench -p tenon-bench --bench gemm [FILTER]`.
//!
//! Criterion's element is a floating-point operation, so its `Gelem/s` are GFLOP/s.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tenon_backends::cpu::caches;
use tenon_bench::aligned::Aligned;
use tenon_kernels::Isa;
use tenon_kernels::gemm::bytes::{Bytes, Right, Scales};
use tenon_kernels::gemm::{Epilogue, Gemm, Precision};
use tenon_kernels::quant::Format;

/// A layout: its name, whether A is stored transposed, whether B is.
type Layout = (&'static str, bool, bool);

const NN: Layout = ("nn", false, false);
const NT: Layout = ("nt", false, true);
const TN: Layout = ("tn", true, false);

/// A product with operands.
struct Bench {
    name: String,
    gemm: Gemm,
    a: Aligned,
    /// B's bytes, in f32.
    b: Aligned,
    c: Aligned,
    packed: Aligned,
    scratch: Aligned,
}

impl Bench {
    fn new(isa: Isa, size: [usize; 3], layout: Layout, format: Format, to: Precision) -> Self {
        let ((letters, trans_a, trans_b), [m, n, k]) = (layout, size);
        let gemm =
            Gemm::new(isa, size, trans_a, format, trans_b).with_precision(to).with_caches(caches());
        let (rows, columns) = if trans_b { (n, k) } else { (k, n) };
        let values = Aligned::new(rows * columns, noise);
        let row = format.row_bytes(columns).expect("columns are whole blocks");
        let mut b = Aligned::zeroed((rows * row).div_ceil(size_of::<f32>()));
        // SAFETY: `b` has room for all rows, which are whole blocks.
        unsafe { format.encode(isa, values.as_ptr(), rows * columns, b.as_mut_ptr().cast()) };
        let how = match to {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        };
        Self {
            name: format!("{letters}/m{m} n{n} k{k}/{} weight/{how}", format.name()),
            gemm,
            a: Aligned::new(m * k, noise),
            b,
            c: Aligned::zeroed(m * n),
            packed: Aligned::zeroed(gemm.shared_len()),
            scratch: Aligned::zeroed(gemm.scratch_len()),
        }
    }

    fn flops(&self) -> u64 {
        2 * (self.gemm.m * self.gemm.n * self.gemm.k) as u64
    }

    fn run(&mut self) {
        let Self { gemm, a, b, c, packed, scratch, .. } = self;
        // SAFETY: all buffers have the sizes that the product asks for; one task at a time.
        unsafe {
            for task in 0..gemm.pack_tasks() {
                gemm.pack(task, a.as_ptr(), packed.as_mut_ptr());
            }
            for task in 0..gemm.tasks() {
                let left = gemm.left(a.as_ptr(), packed.as_ptr());
                let (c, scratch) = (c.as_mut_ptr(), scratch.as_mut_ptr());
                gemm.run(task, left, b.as_ptr().cast(), c, Epilogue::NONE, scratch);
            }
        }
        black_box(c);
    }
}

/// A product of bytes, one scale for A and one for each column of B.
fn bytes(group: &mut BenchmarkGroup<'_, WallTime>, isa: Isa, size: [usize; 3], trans_b: bool) {
    let ([m, n, k], letters) = (size, if trans_b { "nt" } else { "nn" });
    let product = Bytes::new(isa, size, trans_b).with_caches(caches());
    let codes = |len: usize| -> Vec<i8> { (0..len).map(|i| (noise(i) * 127.0) as i8).collect() };
    let (a, b, scales) = (codes(m * k), codes(n * k), vec![0.01; n]);
    let right = Right { b: b.as_ptr(), scales: Scales::new(&scales), bias: std::ptr::null() };
    let [mut c, mut packed, mut scratch] =
        [m * n, product.shared_len(), product.scratch_len()].map(Aligned::zeroed);
    group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
    group.bench_function(format!("{letters}/m{m} n{n} k{k}/bytes"), |bench| {
        bench.iter(|| {
            let (packed, scratch) = (packed.as_mut_ptr(), scratch.as_mut_ptr());
            // SAFETY: all buffers have the sizes that the product asks for; one task at a time.
            unsafe {
                for task in 0..product.pack_tasks() {
                    product.pack(task, a.as_ptr(), Scales::new(&[0.01]), packed);
                }
                for task in 0..product.tasks() {
                    product.run(task, packed, right, c.as_mut_ptr(), scratch);
                }
            }
            black_box(&mut c);
        });
    });
}

/// Values in -1..1 without a pattern that a quantized block could hold exactly.
fn noise(i: usize) -> f32 {
    (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0
}

fn products(isa: Isa) -> impl Iterator<Item = Bench> {
    let of = move |size, layout, format, to| Bench::new(isa, size, layout, format, to);
    let single = move |size, layout| of(size, layout, Format::F32, Precision::F32);
    let square = [1024; 3];
    // SmolLM2-135M at 256 tokens: the MLP both ways, the head, and LoRA of rank 8 with its
    // gradients. One by one, for the operands of the head take 160 MB.
    let (up, down, head) = ([256, 1536, 576], [256, 576, 1536], [256, 49152, 576]);
    let float = [NN, NT, TN].into_iter().flat_map(move |layout| {
        [square, up, down].into_iter().map(move |size| single(size, layout))
    });
    let quantized =
        [Format::Q4_0, Format::Q4_1, Format::Q8_0].into_iter().flat_map(move |format| {
            [(up, NT), (down, NT), (up, NN), (down, NN)]
                .into_iter()
                .map(move |(size, layout)| of(size, layout, format, Precision::F32))
        });
    let bf16 = [(square, NN), (square, NT), (square, TN), (up, NT), (down, NN)]
        .into_iter()
        .flat_map(move |(size, layout)| {
            [Format::F32, Format::Q4_1]
                .into_iter()
                .map(move |format| of(size, layout, format, Precision::Bf16))
        });
    // The head as `linear_cross_entropy` runs it, a strip of 2048 columns at a time, and whole.
    let strip = [256, 2048, 576];
    let forward = [up, down, strip, head, [4, 1536, 576]].into_iter().map(|size| (size, NT));
    let backward = [up, down, [256, 576, 2048]].into_iter().map(|size| (size, NN));
    let int8 = forward.chain(backward).flat_map(move |(size, layout)| {
        [Format::Q4_0, Format::Q4_1, Format::Q8_0, Format::F32]
            .into_iter()
            .map(move |format| of(size, layout, format, Precision::Int8))
    });
    let lora = [
        ([256, 8, 576], NT),
        ([256, 576, 8], NT),
        ([256, 8, 576], NN),
        ([256, 576, 8], NN),
        ([8, 576, 256], TN),
        ([576, 8, 256], TN),
    ]
    .into_iter()
    .map(move |(size, layout)| single(size, layout));
    let large = [Format::F32, Format::Q8_0]
        .into_iter()
        .map(move |format| of(head, NT, format, Precision::F32));
    let vectors = [[1, 1536, 576], [1, 576, 1536], [1, 49152, 576]];
    let vector = vectors.into_iter().flat_map(move |size| {
        let formats = [Format::F32, Format::BF16, Format::Q8_0, Format::Q4_0, Format::Q4_1];
        let each = formats.into_iter().flat_map(|format| {
            [(NT, format, Precision::F32), (NN, format, Precision::F32)].into_iter().chain(
                // Elsewhere a single row is not rounded.
                format.has_codes().then_some((NT, format, Precision::Int8)),
            )
        });
        each.map(move |(layout, format, to)| of(size, layout, format, to))
    });
    // Whole blocks of 256.
    let deep = [[1, 576, 1536], [1, 1536, 2048], [256, 576, 1536]];
    let blocks = deep.into_iter().flat_map(move |size| {
        [Precision::F32, Precision::Int8].map(|to| of(size, NT, Format::Q4K, to))
    });
    float
        .chain(quantized)
        .chain(bf16)
        .chain(int8)
        .chain(lora)
        .chain(large)
        .chain(vector)
        .chain(blocks)
}

fn gemm(c: &mut Criterion) {
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    let mut group = c.benchmark_group(format!("gemm/{}", isa.name()));
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    group.sample_size(20);
    for mut bench in products(isa) {
        group.throughput(Throughput::Elements(bench.flops()));
        let name = std::mem::take(&mut bench.name);
        group.bench_function(name, |b| b.iter(|| bench.run()));
    }
    for size in [[1024; 3], [256, 576, 1536], [256, 1536, 576], [256, 49152, 576]] {
        for trans_b in [true, false] {
            bytes(&mut group, isa, size, trans_b);
        }
    }
    group.finish();
}

criterion_group!(benches, gemm);
criterion_main!(benches);
