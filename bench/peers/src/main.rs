//! Tenon's matrix products beside those of other crates, in one run on one thread:
//! `cargo run --release --manifest-path bench/peers/Cargo.toml [-- FILTER] [--json]`.
//!
//! Every round runs each library once, so that what disturbs the machine disturbs all; a library's
//! figure is its best round. Results are compared, so that no figure is of a wrong answer. The limit
//! is what independent multiply-adds reach in registers, measured before and after.
//! `bench/peers/run` adds libraries that come from PyPI.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use tenon_backends::cpu::caches;
use tenon_kernels::Isa;
use tenon_kernels::gemm::bytes::{Bytes, Right, Scales};
use tenon_kernels::gemm::{Epilogue, Gemm, Precision};
use tenon_kernels::isa::Kernel;
use tenon_kernels::quant::Format;
use tenon_kernels::simd::{MAX_LANES, Simd};

/// Time for each product, shared by the libraries.
const TIME: Duration = Duration::from_millis(1500);

/// How operands are stored: the product's letters, whether A is transposed, whether B is.
type Layout = (&'static str, bool, bool);

const LAYOUTS: [Layout; 3] = [("nn", false, false), ("nt", false, true), ("tn", true, false)];

/// A product's operands, and the memory that Tenon's needs.
struct Product {
    size: [usize; 3],
    layout: Layout,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    /// B quantized, in f32 to keep it aligned.
    blocks: Vec<f32>,
    gemm: Gemm,
    shared: Vec<f32>,
    scratch: Vec<f32>,
    candle: Option<(Tensor, Candle)>,
}

enum Candle {
    Float(Tensor),
    Quantized(QMatMul),
}

/// A library: its name, and a product by it into `c`.
type Library = (&'static str, fn(&mut Product));

const FLOAT: &[Library] = &[
    ("tenon", Product::tenon),
    ("faer", Product::faer),
    ("gemm", Product::gemm),
    ("matrixmultiply", Product::matrixmultiply),
    ("candle", Product::candle),
];

/// Peers in bfloat16 come from PyPI.
const BF16: &[Library] = &[("tenon", Product::tenon)];

const QUANTIZED: &[Library] = &[("tenon", Product::tenon), ("candle", Product::candle)];

impl Product {
    fn new(size: [usize; 3], layout: Layout, format: Format, precision: Precision) -> Self {
        let ([m, n, k], (_, trans_a, trans_b)) = (size, layout);
        let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
        let gemm = Gemm::new(isa, size, trans_a, format, trans_b).with_precision(precision).with_caches(caches());
        let values = |n: usize, seed: usize| -> Vec<f32> { (seed..seed + n).map(noise).collect() };
        let (a, b) = (values(m * k, 0), values(n * k, 77));
        let bytes = format.row_bytes(n * k).expect("whole blocks");
        let mut blocks = vec![0f32; bytes.div_ceil(4)];
        // SAFETY: room for all blocks.
        unsafe { format.encode(isa, b.as_ptr(), n * k, blocks.as_mut_ptr().cast()) };
        let candle = Self::for_candle(size, layout, format, &a, &b).ok();
        let (shared, scratch) = (vec![0.0; gemm.shared_len()], vec![0.0; gemm.scratch_len()]);
        Self { size, layout, a, b, c: vec![0.0; m * n], blocks, gemm, shared, scratch, candle }
    }

    /// Operands in candle's own types; transposed ones are views, as its users have them.
    fn for_candle(
        [m, n, k]: [usize; 3],
        (_, trans_a, trans_b): Layout,
        format: Format,
        a: &[f32],
        b: &[f32],
    ) -> candle_core::Result<(Tensor, Candle)> {
        let stored = |x: &[f32], trans: bool, rows, columns| {
            let shape = if trans { (columns, rows) } else { (rows, columns) };
            let x = Tensor::from_slice(x, shape, &Device::Cpu)?;
            if trans { x.t() } else { Ok(x) }
        };
        let left = stored(a, trans_a, m, k)?;
        let dtype = match format {
            Format::F32 => return Ok((left, Candle::Float(stored(b, trans_b, k, n)?))),
            Format::Q4_0 => GgmlDType::Q4_0,
            Format::Q4_1 => GgmlDType::Q4_1,
            Format::Q8_0 => GgmlDType::Q8_0,
            _ => candle_core::bail!("not compared"),
        };
        let weight = QTensor::quantize(&Tensor::from_slice(b, (n, k), &Device::Cpu)?, dtype)?;
        Ok((left, Candle::Quantized(QMatMul::from_qtensor(weight)?)))
    }

    /// Row and column strides of a matrix of `columns`, or of its transpose.
    fn strides(trans: bool, rows: usize, columns: usize) -> [isize; 2] {
        let [rows, columns] = [rows.cast_signed(), columns.cast_signed()];
        if trans { [1, rows] } else { [columns, 1] }
    }

    fn tenon(&mut self) {
        let Self { gemm, a, blocks, c, shared, scratch, .. } = self;
        // SAFETY: all buffers have the sizes that the product asks for; one task at a time.
        unsafe {
            for task in 0..gemm.pack_tasks() {
                gemm.pack(task, a.as_ptr(), shared.as_mut_ptr());
            }
            for task in 0..gemm.tasks() {
                let (shared, b, c) = (shared.as_ptr(), blocks.as_ptr().cast(), c.as_mut_ptr());
                gemm.run(task, shared, b, c, Epilogue::NONE, scratch.as_mut_ptr());
            }
        }
    }

    fn faer(&mut self) {
        let ([m, n, k], (_, trans_a, trans_b)) = (self.size, self.layout);
        let of = |x, trans, rows, columns| {
            if trans {
                MatRef::from_row_major_slice(x, columns, rows).transpose()
            } else {
                MatRef::from_row_major_slice(x, rows, columns)
            }
        };
        let (a, b) = (of(&self.a[..], trans_a, m, k), of(&self.b[..], trans_b, k, n));
        let c = MatMut::from_row_major_slice_mut(&mut self.c, m, n);
        matmul(c, Accum::Replace, a, b, 1.0, Par::Seq);
    }

    fn gemm(&mut self) {
        let ([m, n, k], (_, trans_a, trans_b)) = (self.size, self.layout);
        let [[ars, acs], [brs, bcs]] = [Self::strides(trans_a, m, k), Self::strides(trans_b, k, n)];
        let (a, b, c) = (self.a.as_ptr(), self.b.as_ptr(), self.c.as_mut_ptr());
        let (columns, alone) = (n.cast_signed(), gemm::Parallelism::None);
        // SAFETY: the strides are those of the operands.
        unsafe {
            gemm::gemm(
                m, n, k, c, 1, columns, false, a, acs, ars, b, bcs, brs, 0.0, 1.0, false, false,
                false, alone,
            );
        }
    }

    fn matrixmultiply(&mut self) {
        let ([m, n, k], (_, trans_a, trans_b)) = (self.size, self.layout);
        let [[ars, acs], [brs, bcs]] = [Self::strides(trans_a, m, k), Self::strides(trans_b, k, n)];
        let (a, b, c) = (self.a.as_ptr(), self.b.as_ptr(), self.c.as_mut_ptr());
        // SAFETY: the strides are those of the operands.
        unsafe {
            let columns = n.cast_signed();
            matrixmultiply::sgemm(m, k, n, 1.0, a, ars, acs, b, brs, bcs, 0.0, c, columns, 1);
        }
    }

    fn candle(&mut self) {
        let Some((left, right)) = &self.candle else { return };
        let result = match right {
            Candle::Float(right) => left.matmul(right),
            Candle::Quantized(right) => right.forward(left),
        };
        black_box(result.expect("candle multiplies"));
    }

    /// Best seconds of each library.
    fn race(&mut self, libraries: &[Library]) -> Vec<f64> {
        let mut best = vec![f64::MAX; libraries.len()];
        let start = Instant::now();
        while start.elapsed() < TIME {
            for ((_, run), best) in libraries.iter().zip(&mut best) {
                let start = Instant::now();
                run(self);
                black_box(&mut self.c);
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
        best
    }

    /// Compares what the libraries that write `c` put there with Tenon's result.
    fn compare(&mut self, libraries: &[Library]) {
        let mut want: Option<Vec<f32>> = None;
        for (name, run) in libraries.iter().filter(|(name, _)| *name != "candle") {
            self.c.fill(f32::NAN);
            run(self);
            let want = want.get_or_insert_with(|| self.c.clone());
            let bound = 1e-6 * self.size[2] as f32;
            let close = want.iter().zip(&self.c).all(|(x, y)| (x - y).abs() <= bound);
            assert!(close, "{name} differs from the others at {:?} {}", self.size, self.layout.0);
        }
    }
}

/// Best seconds of Tenon's product of bytes; its peers come from PyPI.
fn bytes(isa: Isa, [m, n, k]: [usize; 3], trans_b: bool) -> f64 {
    let product = Bytes::new(isa, [m, n, k], trans_b).with_caches(caches());
    let codes = |len: usize| -> Vec<i8> { (0..len).map(|i| (noise(i) * 127.0) as i8).collect() };
    let (a, b, scales) = (codes(m * k), codes(n * k), vec![0.01; n]);
    let right = Right { b: b.as_ptr(), scales: Scales::new(&scales), bias: std::ptr::null() };
    let (mut c, mut shared) = (vec![0f32; m * n], vec![0f32; product.shared_len()]);
    let mut scratch = vec![0f32; product.scratch_len()];
    let (mut best, begin) = (f64::MAX, Instant::now());
    while begin.elapsed() < TIME {
        let start = Instant::now();
        // SAFETY: all buffers have the sizes that the product asks for; one task at a time.
        unsafe {
            for task in 0..product.pack_tasks() {
                product.pack(task, a.as_ptr(), Scales::new(&[0.01]), shared.as_mut_ptr());
            }
            for task in 0..product.tasks() {
                product.run(task, shared.as_ptr(), right, c.as_mut_ptr(), scratch.as_mut_ptr());
            }
        }
        black_box(&mut c);
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Values in -1..1 without a pattern.
fn noise(i: usize) -> f32 {
    (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0
}

/// Independent multiply-adds in registers, `self.0` of each.
struct MultiplyAdds(usize);

/// Sums in flight: more than latency times instructions a cycle anywhere.
const CHAINS: usize = 20;

impl Kernel for MultiplyAdds {
    /// Floating-point operations.
    type Out = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let (x, mut sums) = (s.splat(black_box(1.0)), [s.zero(); CHAINS]);
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = s.fma(x, x, *sum);
            }
        }
        let mut out = [0f32; MAX_LANES];
        for sum in sums {
            // SAFETY: no level has more lanes.
            unsafe { s.store(out.as_mut_ptr(), sum) };
            black_box(&mut out);
        }
        2 * self.0 * CHAINS * S::LANES
    }
}

/// f32 GFLOP/s that one thread can reach.
fn limit(isa: Isa) -> f64 {
    let rates = (0..20).map(|_| {
        let start = Instant::now();
        isa.run(MultiplyAdds(100_000)) as f64 / start.elapsed().as_secs_f64() / 1e9
    });
    rates.fold(0.0, f64::max)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let filter = arguments.iter().find(|a| !a.starts_with('-')).cloned().unwrap_or_default();
    // SAFETY: no other thread runs yet. Candle reads it on its first product.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    let isa = Isa::from_env().expect("TENON_ISA names a level of this machine");
    let mut races: Vec<(String, Vec<(&str, f64)>)> = Vec::new();
    let before = limit(isa);
    let mut race = |libraries, size: [usize; 3], layout: Layout, format: Format, precision| {
        let [m, n, k] = size;
        let what = if precision == Precision::Bf16 { "bf16" } else { format.name() };
        let name = format!("{} m{m} n{n} k{k} {what}", layout.0);
        if !name.contains(&filter) {
            return;
        }
        let mut product = Product::new(size, layout, format, precision);
        product.compare(libraries);
        let rate = |seconds: f64| 2e-9 * (m * n * k) as f64 / seconds;
        let best = product.race(libraries).into_iter().map(rate);
        let named: Vec<_> = libraries.iter().map(|l| l.0).zip(best).collect();
        if !json {
            let text: Vec<_> =
                named.iter().map(|(name, rate)| format!("{name} {rate:.0}")).collect();
            let peer = named[1..].iter().map(|l| l.1).reduce(f64::max);
            let times = peer.map(|peer| format!("(x {:.2})", named[0].1 / peer));
            println!("{name:32} {}  {}", text.join("  "), times.unwrap_or_default());
        }
        races.push((name, named));
    };
    if !json {
        println!("GFLOP/s on one thread, level {}; x: Tenon over the best peer", isa.name());
    }
    let (up, down, head) = ([256, 1536, 576], [256, 576, 1536], [256, 49152, 576]);
    for size in [[512; 3], [1024; 3], [2048; 3], up, down, head] {
        for layout in LAYOUTS {
            race(FLOAT, size, layout, Format::F32, Precision::F32);
            race(BF16, size, layout, Format::F32, Precision::Bf16);
        }
    }
    for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
        for size in [up, down, [1, 1536, 576], [1, 576, 1536], [1, 49152, 576]] {
            race(QUANTIZED, size, LAYOUTS[1], format, Precision::Int8);
        }
    }
    for size @ [m, n, k] in [[1024; 3], up, down, head] {
        for (letters, _, trans_b) in [LAYOUTS[1], LAYOUTS[0]] {
            let name = format!("{letters} m{m} n{n} k{k} bytes");
            if name.contains(&filter) {
                let rate = 2e-9 * (m * n * k) as f64 / bytes(isa, size, trans_b);
                if !json {
                    println!("{name:32} tenon {rate:.0}");
                }
                races.push((name, vec![("tenon", rate)]));
            }
        }
    }
    let limit = before.max(limit(isa));
    if json {
        let rows = races.iter().map(|(name, rates)| {
            let rates: serde_json::Map<_, _> =
                rates.iter().map(|&(name, rate)| (name.to_owned(), rate.into())).collect();
            serde_json::json!({ "product": name, "gflops": rates, "limit_gflops": limit })
        });
        rows.for_each(|row| println!("{row}"));
    } else {
        println!("limit: {limit:.0} GFLOP/s in f32");
    }
}
