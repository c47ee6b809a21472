//! Matrix products.

use tenon_kernels::gemm::{Precision, is_narrow};
use tenon_kernels::quant::Format;
use tenon_runtime::backend::GemmLaunch;
use tenon_runtime::{DType, TensorDesc};

use super::{Job, LANES, Limits, MAX_PARAMS, Place, elementwise, read, update, word, write};
use crate::vulkan::matrices::Constants;
use crate::vulkan::shader::Shader;
use crate::vulkan::tier::Tier;

/// A register tile: rows and columns of an invocation, steps of a slab.
struct Tile {
    rows: usize,
    columns: usize,
    depth: usize,
}

impl Tile {
    fn constants(&self) -> Vec<u32> {
        [self.rows, self.columns, self.depth].map(|n| n as u32).to_vec()
    }
}

/// 128 by 128 results of a workgroup: 64 multiply-adds for 16 numbers read from shared memory.
const LARGE: Tile = Tile { rows: 8, columns: 8, depth: 8 };
/// 64 by 64 results.
const SMALL: Tile = Tile { rows: 4, columns: 4, depth: 16 };
/// Workgroups that keep a device busy.
pub(super) const BUSY: usize = 64;
/// Least steps of a part, where sums are cut because there are too few tiles.
const PART: usize = 256;

/// `C = op(A) op(B)` of one or several matrices.
pub(super) struct Product {
    pub(super) sizes: [usize; 3],
    pub(super) trans_a: bool,
    pub(super) trans_b: bool,
    /// How B is stored.
    pub(super) format: Format,
    /// What operands are rounded to.
    pub(super) precision: Precision,
    /// Whether the product is added to what C holds.
    pub(super) add: bool,
    pub(super) a: Place,
    pub(super) b: Place,
    pub(super) c: Place,
    /// From there to the first of A in elements, of B in bytes and of C in elements.
    pub(super) first: [usize; 3],
    pub(super) bias: Option<Place>,
    /// Leading axes, the innermost first: size, elements of A and bytes of B to the next.
    pub(super) axes: Vec<[usize; 3]>,
}

/// A format's number in the shaders.
pub(super) fn format_code(format: Format) -> u32 {
    format as u32
}

impl Product {
    /// Adds the product's dispatches.
    pub(super) fn run(&self, job: &mut Job<'_>) -> Option<()> {
        let taken = job.taken;
        let is_rounded = !self.trans_a && (self.keeps_codes() || !self.is_narrow());
        match self.precision {
            Precision::Int8 if self.is_few() && self.keeps_codes() => {
                self.rounded_a(job)?.multiply(job)?;
            }
            Precision::Int8 if is_rounded => self.codes(job)?,
            _ => self.multiply(job)?,
        }
        job.taken = taken;
        Some(())
    }

    /// Whether there are so few rows that the CPU rounds no float.
    fn is_narrow(&self) -> bool {
        is_narrow(self.sizes[0], self.trans_b)
    }

    /// Elements of A (1) or bytes of B (2) of all matrices, of which one has so many: as far as the
    /// axes step.
    pub(super) fn extent(&self, which: usize, one: usize) -> usize {
        self.axes.iter().map(|axis| (axis[0] - 1) * axis[which]).sum::<usize>() + one
    }

    /// Products of the leading axes.
    pub(super) fn count(&self) -> usize {
        self.axes.iter().map(|axis| axis[0]).product()
    }

    /// What is added to a product, as bits of the shaders.
    pub(super) fn epilogue(&self) -> u32 {
        u32::from(self.bias.is_some()) << 3 | u32::from(self.add) << 4
    }

    /// The product, a range of B's stored rows at a time where a binding cannot take all of them.
    fn multiply(&self, job: &mut Job<'_>) -> Option<()> {
        let [m, n, k] = self.sizes;
        let strides = [if self.trans_a { m } else { k }, n];
        if self.b.len <= job.limits.max_binding || !self.axes.is_empty() || self.first[1] > 0 {
            return self.part(job, strides);
        }
        let (row, rows) = if self.trans_b { (k, n) } else { (n, k) };
        let row = self.format.row_bytes(row)?;
        // So that each range begins at a line.
        let most = job.limits.max_binding / row / 32 * 32;
        if most == 0 {
            return None;
        }
        for start in (0..rows).step_by(most) {
            let len = most.min(rows - start);
            let b = self.b.from(start * row).first(len * row);
            let [first_a, _, first_c] = self.first;
            let taken = job.taken;
            if self.trans_b {
                let bias = self.bias.map(|bias| bias.from(start * 4).first(len * 4));
                let first = [first_a, 0, first_c + start];
                Self { sizes: [m, len, k], b, bias, first, axes: Vec::new(), ..*self }
            } else {
                let bias = self.bias.filter(|_| start == 0);
                let first = [first_a + start * if self.trans_a { m } else { 1 }, 0, first_c];
                let add = self.add || start > 0;
                Self { sizes: [m, n, len], b, bias, first, add, axes: Vec::new(), ..*self }
            }
            .part(job, strides)?;
            job.taken = taken;
        }
        Some(())
    }

    /// The matrices that it is cut into for subgroups, where there are such: few rows would leave most of
    /// them empty.
    fn matrices(&self, limits: &Limits) -> Option<Constants> {
        limits.matrices.and_then(|matrices| matrices.half).filter(|_| !self.is_narrow())
    }

    /// Whether operands are rounded to bfloat16.
    fn rounds(&self) -> bool {
        self.precision == Precision::Bf16 && !self.is_narrow()
    }

    /// Elements of a stored row of A and of B.
    fn stored_rows(&self) -> [usize; 2] {
        let [m, n, k] = self.sizes;
        [if self.trans_a { m } else { k }, if self.trans_b { k } else { n }]
    }

    /// What shaders are told of the operands, of rows of `lda` elements of A: how they are stored,
    /// whether they are rounded, and whether they are read by four.
    pub(super) fn operands(&self, lda: usize) -> u32 {
        let quads = |x: usize| x.is_multiple_of(4);
        let [row_a, row_b] = self.stored_rows();
        let axes = |which: usize, size| self.axes.iter().all(|axis| quads(axis[which] / size));
        let by_four = [
            quads(row_a) && quads(lda) && quads(self.first[0]) && axes(1, 1),
            quads(row_b) && quads(self.first[1] / 4) && axes(2, 4),
        ];
        u32::from(self.trans_a)
            | u32::from(self.trans_b) << 1
            | u32::from(self.rounds()) << 2
            | u32::from(by_four[0]) << 5
            | u32::from(by_four[1]) << 6
    }

    /// The parameters: sizes, elements of rows of A and C, steps of a part and parts, and where
    /// operands and C begin.
    pub(super) fn params(
        &self,
        [lda, ldc]: [usize; 2],
        [part, parts]: [usize; 2],
        to_c: usize,
    ) -> Option<Vec<u32>> {
        let ([m, n, k], [first_a, first_b, _]) = (self.sizes, self.first);
        let row_b = self.format.row_bytes(self.stored_rows()[1])?;
        let axes = self.axes.len();
        let mut params = vec![m, n, k, lda, row_b, part, parts, first_a, first_b, to_c, axes];
        params.extend(self.axes.iter().flatten());
        params.resize(MAX_PARAMS - 1, 0);
        params.push(ldc);
        params.into_iter().map(word).collect()
    }

    /// The product of operands that bindings can take; `strides` are elements of rows of A and C.
    fn part(&self, job: &mut Job<'_>, [lda, ldc]: [usize; 2]) -> Option<()> {
        if self.is_few() {
            return self.few(job, [lda, ldc]);
        }
        let [m, n, k] = self.sizes;
        let count = self.count();
        let tiles = |t: &Tile| m.div_ceil(16 * t.rows) * n.div_ceil(16 * t.columns) * count;
        let matrices = self.matrices(job.limits);
        let is_large = matrices.is_none() && m > 64 && n > 64 && tiles(&LARGE) >= BUSY;
        let tile = if is_large { LARGE } else { SMALL };
        let parts = if count == 1 { (BUSY / tiles(&tile).max(1)).min(k / PART).max(1) } else { 1 };
        let part = k.div_ceil(parts).next_multiple_of(tile.depth).max(tile.depth);
        let parts = k.div_ceil(part).max(1);

        let quads = |x: usize| x.is_multiple_of(4);
        let epilogue = self.epilogue();
        let is_half =
            self.format == Format::F16 && !self.rounds() && job.limits.tiers.has(Tier::F16);
        // Halves have 11 bits: bfloat16 has 8.
        let is_piece = self.rounds() || matches!(self.format, Format::F16 | Format::BF16);
        let is_quads = quads(n) && (parts > 1 || quads(ldc) && quads(self.first[2]));
        let flags = self.operands(lda)
            | u32::from(is_quads) << 7
            | u32::from(matrices.is_some() && !self.rounds()) << 8
            | u32::from(matrices.is_some() && !is_piece) << 9
            | if parts == 1 { epilogue } else { 0 };
        let (shader, sizes) = match matrices {
            Some(size) => (Shader::GemmMatrix, size.to_vec()),
            None if is_half => (Shader::GemmHalf, tile.constants()),
            None => (Shader::Gemm, tile.constants()),
        };
        let constants = [&[LANES, format_code(self.format), flags], &sizes[..]].concat();
        let first_c = self.first[2];
        let (to_c, row_c) = if parts > 1 { (0, n) } else { (first_c, ldc) };
        let params = self.params([lda, row_c], [part, parts], to_c)?;
        let to = if parts > 1 { job.scratch(parts * m * n) } else { self.c };
        let written = if parts == 1 && self.add { update(to) } else { write(to) };
        let bias = self.bias.map_or(read(self.a), read);
        let bindings = [read(self.a), read(self.b), bias, written];
        let grid = [n.div_ceil(16 * tile.columns), m.div_ceil(16 * tile.rows), count * parts];
        job.grid(shader, &constants, &params, &bindings, grid)?;
        if parts > 1 {
            let bindings = [read(to), bias, if self.add { update(self.c) } else { write(self.c) }];
            let params = [word(m * n)?, word(n)?, word(parts)?, word(first_c)?, word(ldc)?];
            let groups = (m * n).div_ceil(LANES as usize);
            job.run(Shader::Parts, &[LANES, epilogue], &params, &bindings, groups)?;
        }
        Some(())
    }
}

/// The last two sizes.
fn last(desc: &TensorDesc) -> (usize, usize) {
    let shape = desc.shape();
    (shape[shape.len() - 2], shape[shape.len() - 1])
}

pub(super) fn launch(job: &mut Job<'_>, spec: &GemmLaunch) -> Option<()> {
    let (a, b, y) = (job.input(0), job.input(1), job.output(0));
    let format = b.dtype().format()?;
    if a.dtype() != DType::F32 || y.dtype() != DType::F32 {
        return None;
    }
    let mut axes = Vec::new();
    let sizes = if spec.fold {
        [a.rows(), y.cols(), a.cols()]
    } else {
        let (m, n) = last(y);
        let (rows, columns) = last(a);
        let (out, of_a, of_b) = (y.shape(), a.shape(), b.shape());
        let matrix_b = b.bytes() / of_b[..of_b.len() - 2].iter().product::<usize>().max(1);
        let mut next = [rows * columns, matrix_b];
        // Axis `back` counts from the matrices outwards.
        for back in 2..out.len() {
            let size = out[out.len() - 1 - back];
            let mut axis = [size, 0, 0];
            for (i, own) in [of_a, of_b].into_iter().enumerate() {
                let extent = own.len().checked_sub(back + 1).map_or(1, |d| own[d]);
                if extent != 1 {
                    axis[i + 1] = next[i];
                    next[i] *= extent;
                }
            }
            match axes.last_mut() {
                _ if size == 1 => {}
                Some(before) if follows(before, &axis) => before[0] *= size,
                _ => axes.push(axis),
            }
        }
        [m, n, if spec.trans_a { rows } else { columns }]
    };
    if axes.len() > 4 {
        return None;
    }
    let product = Product {
        sizes,
        trans_a: spec.trans_a,
        trans_b: spec.trans_b,
        format,
        precision: spec.precision,
        add: false,
        a: job.inputs[0],
        b: job.inputs[1],
        c: job.outputs[0],
        first: [0; 3],
        bias: job.inputs.get(2).copied(),
        axes,
    };
    product.run(job)?;
    spec.activation.map_or(Some(()), |op| elementwise::activate(job, op))
}

/// Whether an axis goes on where the one inside it ends, for both operands.
fn follows(inner: &[usize; 3], axis: &[usize; 3]) -> bool {
    (1..3).all(|i| axis[i] == inner[i] * inner[0])
}
