//! Copies between layouts, rows by number, and formats decoded.

use std::ops::Range;

use tenon_kernels::movement::StridedCopy;
use tenon_kernels::quant::Format;
use tenon_runtime::DType;

use super::gemm::format_code;
use super::{Binding, Job, LANES, MAX_PARAMS, Place, ranges, read, update, word, write};
use crate::vulkan::shader::Shader;

/// Elements of an invocation of a plain copy.
const EACH: usize = 4;
/// Side of a square of a transpose.
const SQUARE: usize = 32;

pub(super) fn movement(
    job: &mut Job<'_>,
    fill: Option<f32>,
    copies: &[(usize, StridedCopy)],
) -> Option<()> {
    // Elements of a word.
    let each = 4 / job.output(0).dtype().row_bytes(1).filter(|bytes| matches!(bytes, 1 | 2 | 4))?;
    if let Some(value) = fill {
        super::elementwise::fill(job, job.outputs[0], value)?;
    }
    copies.iter().try_for_each(|(input, nest)| copy(job, *input, nest, each))
}

fn copy(job: &mut Job<'_>, input: usize, nest: &StridedCopy, mut each: usize) -> Option<()> {
    let mut dims: Vec<[usize; 3]> = nest.dims().collect();
    let ((mut from, mut to), mut len) = (nest.starts(), nest.len());
    let [run, rest @ ..] = &mut dims[..] else { return None };
    let is_whole = |x: &usize| x.is_multiple_of(each);
    // Runs of whole words are moved as words.
    if run[1..] == [1, 1]
        && [from, to, run[0]].iter().all(is_whole)
        && rest.iter().all(|dim| dim[1..].iter().all(is_whole))
    {
        run[0] /= each;
        rest.iter_mut().for_each(|dim| dim[1..].iter_mut().for_each(|stride| *stride /= each));
        (from, to, len, each) = (from / each, to / each, len / each, 1);
    }
    let mut params = vec![word(from)?, word(to)?, word(len)?];
    for dim in &dims {
        params.extend(dim.iter().map(|&x| word(x)).collect::<Option<Vec<u32>>>()?);
    }
    if params.len() > MAX_PARAMS {
        return None;
    }
    let bindings = [job.reads(input), job.writes(0)];
    let (rank, each) = (dims.len() as u32, each as u32);
    // The plane's rows run along the source and its columns along the result.
    if let [columns, rows, outer @ ..] = &dims[..]
        && rows[1] == 1
        && columns[2] == 1
        && columns[1] > 1
    {
        let planes = outer.iter().map(|dim| dim[0]).product();
        let grid = [columns[0].div_ceil(SQUARE), rows[0].div_ceil(SQUARE), planes];
        return job.grid(Shader::Move, &[LANES, rank, 1, each], &params, &bindings, grid);
    }
    let groups = len.div_ceil(EACH * LANES as usize);
    job.run(Shader::Move, &[LANES, rank, 0, each], &params, &bindings, groups)
}

pub(super) fn gather(job: &mut Job<'_>) -> Option<()> {
    let (table, rows) = (job.input(0), job.input(1).numel());
    let of = [table.rows(), table.cols(), rows];
    rows_of(job, (job.inputs[0], table.dtype().format()?), of, Some(job.reads(1)), job.outputs[0])
}

pub(super) fn dequantize(job: &mut Job<'_>) -> Option<()> {
    let table = job.input(0);
    let (format, of) = (table.dtype().format()?, [table.rows(), table.cols()]);
    decode(job, (job.inputs[0], format), of, job.outputs[0])
}

/// Decodes a matrix of so many rows and columns.
pub(super) fn decode(
    job: &mut Job<'_>,
    table: (Place, Format),
    [rows, cols]: [usize; 2],
    to: Place,
) -> Option<()> {
    rows_of(job, table, [rows, cols, rows], None, to)
}

/// Rows of a table of so many rows and columns: so many by number, or all in order.
fn rows_of(
    job: &mut Job<'_>,
    (table, format): (Place, Format),
    [bound, cols, rows]: [usize; 3],
    ids: Option<Binding>,
    to: Place,
) -> Option<()> {
    let row = format.row_bytes(cols)?;
    // A table that no binding takes is read by ranges of rows, each of which begins at a line.
    let most = job.limits.piece() / row.max(1) / 32 * 32;
    let is_cut = ids.is_some() && table.len > job.limits.max_binding && most > 0;
    let step = if is_cut { most } else { bound.max(1) };
    let constants = [LANES, format_code(format), u32::from(ids.is_some())];
    let groups = (rows * cols.div_ceil(4)).div_ceil(LANES as usize);
    for first in (0..bound.max(1)).step_by(step) {
        let count = step.min(bound - first);
        let range = table.from(first * row).first(if is_cut { count * row } else { table.len });
        let sizes = [rows, cols, row, count, first, usize::from(is_cut)];
        let params = sizes.iter().map(|&n| word(n)).collect::<Option<Vec<u32>>>()?;
        let access = if first > 0 { update(to) } else { write(to) };
        let bindings = [read(range), ids.unwrap_or(read(range)), access];
        job.run(Shader::Gather, &constants, &params, &bindings, groups)?;
    }
    Some(())
}

pub(super) fn scatter_add(job: &mut Job<'_>) -> Option<()> {
    if job.input(0).dtype() != DType::F32 {
        return None;
    }
    let (to, cols) = (job.outputs[0], job.output(0).cols());
    match job.inputs.get(2) {
        // The table to add to may lie in the output's memory already.
        Some(&table) if table == to => {}
        Some(&table) => super::elementwise::copy(job, table, to)?,
        None => super::elementwise::fill(job, to, 0.0)?,
    }
    let (added, ids) = (job.inputs[0], job.inputs[1]);
    let (rows, bound) = (job.input(1).numel(), job.output(0).rows());
    // What no binding takes goes by ranges of rows: of the table, and in order of those that are added.
    let at_once = [most(job, added, [rows, cols]), most(job, to, [bound, cols])];
    for part in ranges(rows, at_once[0])? {
        for range in ranges(bound, at_once[1])? {
            let piece = |place: Place, range: &Range<usize>, each: usize| {
                place.from(range.start * each).first(range.len() * each)
            };
            let sizes = [part.len(), cols, range.len(), range.start];
            let params = sizes.map(word).into_iter().collect::<Option<Vec<u32>>>()?;
            let bindings = [
                read(piece(added, &part, 4 * cols)),
                read(piece(ids, &part, 4)),
                update(piece(to, &range, 4 * cols)),
            ];
            job.run(Shader::Scatter, &[super::row::lanes(cols)], &params, &bindings, part.len())?;
        }
    }
    Some(())
}

/// Of rows of f32, how many bindings take at once, so that each range begins at a line: all, where they
/// can.
fn most(job: &Job<'_>, place: Place, [rows, cols]: [usize; 2]) -> usize {
    let is_whole = place.len <= job.limits.max_binding || cols == 0;
    if is_whole { rows.max(1) } else { job.limits.piece() / (4 * cols) / 16 * 16 }
}
