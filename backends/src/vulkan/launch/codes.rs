//! Products of int8 codes with a scale for each 32 along the sums: of a weight as it is stored, or of
//! operands that are rounded first.

use tenon_kernels::quant::Format;

use super::gemm::{Product, format_code};
use super::quant::INT8;
use super::{Job, LANES, Place, read, update, word, write};
use crate::vulkan::shader::Shader;

/// Words of a block of rounded codes: an f32 scale and 32 bytes.
const BLOCK: usize = 9;
/// Rows and columns of results of a workgroup.
const TILE: usize = 64;

/// Columns of codes.
struct Columns {
    place: Place,
    /// From there to the first, in bytes.
    first: usize,
    /// Bytes of a column.
    len: usize,
    /// Bytes from one matrix to the next along each leading axis.
    next: Vec<usize>,
    format: u32,
}

impl Product {
    /// Whether B is multiplied by its codes where that is asked for.
    pub(super) fn keeps_codes(&self) -> bool {
        self.trans_b && self.format.has_codes()
    }

    /// The product of A, rounded, and the codes of B.
    pub(super) fn codes(&self, job: &mut Job<'_>) -> Option<()> {
        let [_, n, _] = self.sizes;
        let a = self.rows_of_a(job)?;
        let b = if self.keeps_codes() { self.stored()? } else { self.rounded_b(job)? };
        let is_cut = b.place.len > job.limits.max_binding && self.axes.is_empty() && b.first == 0;
        // A range of columns begins at a line, as its part of the bias does.
        let step = if is_cut { job.limits.piece() / b.len / 32 * 32 } else { n.max(1) };
        if step == 0 {
            return None;
        }
        (0..n).step_by(step).try_for_each(|start| {
            let count = step.min(n - start);
            let range = |place: Place, each: usize| place.from(start * each).first(count * each);
            let place = if is_cut { range(b.place, b.len) } else { b.place };
            let bias = self.bias.map(|bias| if is_cut { range(bias, 4) } else { bias });
            self.dispatch(
                job,
                a,
                &Columns { place, next: b.next.clone(), ..b },
                bias,
                start..start + count,
            )
        })
    }

    /// The same with A as its codes have it, in scratch.
    pub(super) fn rounded_a(&self, job: &mut Job<'_>) -> Option<Self> {
        let [m, _, k] = self.sizes;
        let elements = self.extent(1, m * k);
        let a = job.scratch(elements);
        let shape = [elements, k, m, m * k, k, 1];
        super::quant::int8(job, true, shape, self.first[0], [read(self.a), write(a)])?;
        let [_, first_b, first_c] = self.first;
        Some(Self { a, first: [0, first_b, first_c], axes: self.axes.clone(), ..*self })
    }

    /// A's rows as blocks, in scratch.
    fn rows_of_a(&self, job: &mut Job<'_>) -> Option<Place> {
        let [m, _, k] = self.sizes;
        let elements = self.extent(1, m * k);
        let a = job.scratch(elements / k.max(1) * k.div_ceil(32) * BLOCK);
        let shape = [elements, k, m, m * k, k, 1];
        super::quant::int8(job, false, shape, self.first[0], [read(self.a), write(a)])?;
        Some(a)
    }

    /// B's columns as they are stored.
    fn stored(&self) -> Option<Columns> {
        let len = self.format.row_bytes(self.sizes[2])?;
        let next = self.axes.iter().map(|axis| axis[2]).collect();
        Some(Columns {
            place: self.b,
            first: self.first[1],
            len,
            next,
            format: format_code(self.format),
        })
    }

    /// B's columns as blocks, in scratch.
    fn rounded_b(&self, job: &mut Job<'_>) -> Option<Columns> {
        let [_, n, k] = self.sizes;
        let (rows, cols) = if self.trans_b { (n, k) } else { (k, n) };
        let row = self.format.row_bytes(cols)?;
        let matrices = self.extent(2, row * rows) / (row * rows).max(1);
        let mut from = (self.b, self.first[1] / 4);
        if self.format != Format::F32 {
            // Rows of codes begin where the operand does.
            let decoded = job.scratch(matrices * rows * cols);
            super::index::decode(job, (self.b, self.format), [matrices * rows, cols], decoded)?;
            from = (decoded, 0);
        }
        let len = k.div_ceil(32) * BLOCK * 4;
        let place = job.scratch(matrices * n * len / 4);
        let [to_column, to_element] = if self.trans_b { [k, 1] } else { [1, n] };
        let shape = [matrices * n * k, k, n, n * k, to_column, to_element];
        super::quant::int8(job, false, shape, from.1, [read(from.0), write(place)])?;
        let next = self.axes.iter().map(|axis| axis[2] / (row * rows).max(1) * n * len).collect();
        Some(Columns { place, first: 0, len, next, format: INT8 })
    }

    /// The product with a range of columns.
    fn dispatch(
        &self,
        job: &mut Job<'_>,
        a: Place,
        b: &Columns,
        bias: Option<Place>,
        columns: std::ops::Range<usize>,
    ) -> Option<()> {
        let [m, n, k] = self.sizes;
        let blocks = k.div_ceil(32);
        let first_c = self.first[2] + columns.start;
        let sizes = [m, columns.len(), blocks, b.len, b.first, first_c, n, self.axes.len()];
        let mut params = sizes.iter().map(|&x| word(x)).collect::<Option<Vec<u32>>>()?;
        for (axis, &next) in self.axes.iter().zip(&b.next) {
            let to_a = axis[1] / k.max(1) * blocks * BLOCK;
            params.extend([word(axis[0])?, word(to_a)?, word(next)?]);
        }
        let to = if self.add { update(self.c) } else { write(self.c) };
        let bindings = [read(a), read(b.place), read(bias.unwrap_or(a)), to];
        let count = self.axes.iter().map(|axis| axis[0]).product();
        let grid = [columns.len().div_ceil(TILE), m.div_ceil(TILE), count];
        job.grid(Shader::Codes, &[LANES, b.format, self.epilogue()], &params, &bindings, grid)
    }
}
