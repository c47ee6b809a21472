//! Matrix products by Tenon and by other crates.

use std::hint::black_box;
use std::ptr;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use tenon_backends::cpu::caches;
use tenon_kernels::Isa;
use tenon_kernels::gemm::bytes::{Bytes, Right, Scales};
use tenon_kernels::gemm::{Epilogue, Gemm, Precision};
use tenon_kernels::quant::Format;

use crate::aligned::Aligned;
use crate::limits::MultiplyAdds;
use crate::{LIMIT, Table, noise};

/// How operands are stored: the product's letters, whether A is transposed, whether B is.
type Layout = (&'static str, bool, bool);

const LAYOUTS: [Layout; 3] = [("nn", false, false), ("nt", false, true), ("tn", true, false)];

/// All products: cubes, the shapes of SmolLM2-135M, those of its adapters, and one row by a weight.
pub(crate) fn race(table: &Table) {
    let (up, down, head) = ([256, 1536, 576], [256, 576, 1536], [256, 49152, 576]);
    for size in [[512; 3], [1024; 3], [2048; 3], up, down, head] {
        for layout in LAYOUTS {
            race_floats(table, FLOAT, size, layout, Format::F32, Precision::F32);
            race_floats(table, BF16, size, layout, Format::F32, Precision::Bf16);
        }
    }
    // LoRA of rank 8: down and up, the gradients toward what they take, and toward their weights.
    let rank = [([256, 8, 576], 1), ([256, 576, 8], 1), ([256, 8, 576], 0), ([256, 576, 8], 0)];
    for (size, layout) in rank.into_iter().chain([([8, 576, 256], 2), ([576, 8, 256], 2)]) {
        race_floats(table, FLOAT, size, LAYOUTS[layout], Format::F32, Precision::F32);
    }
    for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
        for size in [up, down, [1, 1536, 576], [1, 576, 1536], [1, 49152, 576]] {
            race_floats(table, QUANTIZED, size, LAYOUTS[1], format, Precision::Int8);
        }
    }
    for size in [[1024; 3], up, down, head] {
        race_bytes(table, size, LAYOUTS[1]);
        race_bytes(table, size, LAYOUTS[0]);
    }
}

fn name([m, n, k]: [usize; 3], layout: Layout, what: &str) -> String {
    format!("product {} m{m} n{n} k{k} {what}", layout.0)
}

/// The floating-point operations of a product.
fn work([m, n, k]: [usize; 3]) -> f64 {
    (2 * m * n * k) as f64
}

fn race_floats(
    table: &Table,
    libraries: &[Library],
    size: [usize; 3],
    layout: Layout,
    format: Format,
    precision: Precision,
) {
    let what = if precision == Precision::Bf16 { "bf16" } else { format.name() };
    let mut lineup: Vec<_> = libraries.iter().map(|l| (l.0, work(size))).collect();
    lineup.push(LIMIT);
    table.row(&name(size, layout, what), "GFLOP/s", &lineup, || {
        let mut product = Product::new(table.isa, size, layout, format, precision);
        product.compare(libraries);
        move |library| match libraries.get(library) {
            Some((_, run)) => run(&mut product),
            None => MultiplyAdds::Single.run(table.isa),
        }
    });
}

/// i8 by i8 into f32 with scales; its peers come from PyPI.
fn race_bytes(table: &Table, size: [usize; 3], layout: Layout) {
    let lineup = [("tenon", work(size)), LIMIT];
    table.row(&name(size, layout, "bytes"), "GFLOP/s", &lineup, || {
        let [m, n, k] = size;
        let product = Bytes::new(table.isa, size, layout.2).with_caches(caches());
        let codes = |n: usize| -> Vec<i8> { (0..n).map(|i| (noise(i) * 127.0) as i8).collect() };
        let (a, b, scales) = (codes(m * k), codes(n * k), vec![0.01; n]);
        let [mut c, mut shared, mut scratch] =
            [m * n, product.shared_len(), product.scratch_len()].map(Aligned::zeroed);
        move |library| {
            if library > 0 {
                return MultiplyAdds::Single.run(table.isa);
            }
            let right = Right { b: b.as_ptr(), scales: Scales::new(&scales), bias: ptr::null() };
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
        }
    });
}

/// A product's operands, and the memory that Tenon's needs.
struct Product {
    size: [usize; 3],
    layout: Layout,
    a: Aligned,
    b: Aligned,
    c: Aligned,
    /// B quantized, in f32 to keep it aligned.
    blocks: Aligned,
    gemm: Gemm,
    shared: Aligned,
    scratch: Aligned,
    candle: Option<(Tensor, Candle)>,
}

enum Candle {
    Float(Tensor),
    Quantized(QMatMul),
}

/// A library: its name, and a product by it into `c`.
type Library = (&'static str, fn(&mut Product));

/// f32.
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
    fn new(
        isa: Isa,
        size: [usize; 3],
        layout: Layout,
        format: Format,
        precision: Precision,
    ) -> Self {
        let ([m, n, k], (_, trans_a, trans_b)) = (size, layout);
        let gemm = Gemm::new(isa, size, trans_a, format, trans_b)
            .with_precision(precision)
            .with_caches(caches());
        let (a, b) = (Aligned::new(m * k, noise), Aligned::new(n * k, |i| noise(77 + i)));
        let bytes = format.row_bytes(n * k).expect("whole blocks");
        let mut blocks = Aligned::zeroed(bytes.div_ceil(4));
        // SAFETY: room for all blocks.
        unsafe { format.encode(isa, b.as_ptr(), n * k, blocks.as_mut_ptr().cast()) };
        let candle = Self::for_candle(size, layout, format, &a, &b).ok();
        let [c, shared, scratch] =
            [m * n, gemm.shared_len(), gemm.scratch_len()].map(Aligned::zeroed);
        Self { size, layout, a, b, c, blocks, gemm, shared, scratch, candle }
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
                let left = gemm.left(a.as_ptr(), shared.as_ptr());
                let (b, c) = (blocks.as_ptr().cast(), c.as_mut_ptr());
                gemm.run(task, left, b, c, Epilogue::NONE, scratch.as_mut_ptr());
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

    /// Compares what the libraries that write `c` put there with Tenon's result.
    fn compare(&mut self, libraries: &[Library]) {
        let mut want: Option<Vec<f32>> = None;
        for (name, run) in libraries.iter().filter(|(name, _)| *name != "candle") {
            self.c.fill(f32::NAN);
            run(self);
            let want = want.get_or_insert_with(|| self.c.to_vec());
            let bound = 1e-6 * self.size[2] as f32;
            let close = want.iter().zip(self.c.iter()).all(|(x, y)| (x - y).abs() <= bound);
            assert!(close, "{name} differs from the others at {:?} {}", self.size, self.layout.0);
        }
    }
}
