//! Rows by number.

use tenon_kernels::index::{self, Rows, Table};
use tenon_runtime::{Error, Result};

use super::Context;
use super::args::{Args, GRAIN, split};

/// Columns in a task of a scatter-add: four cache lines, so that tasks share none and a width of
/// 576 still makes nine.
const COLS: usize = 64;

/// Rows of input 0 by the ids in input 1.
pub(super) fn gather(cx: &Context, args: Args<'_>) -> Result<()> {
    let desc = args.input_desc(0);
    let Some(format) = desc.dtype().format() else {
        return Err(args.unsupported(&"not a weight format"));
    };
    let ids = checked_ids(args, desc.rows())?;
    let cols = desc.cols();
    let (table, out) = (args.raw_input::<u8>(0), args.output_address::<f32>(0));
    let rows = (GRAIN / cols.max(1)).max(1);
    let part = split(ids.len(), rows);
    cx.pool.run(ids.len().div_ceil(rows), &|task, _| {
        let range = part(task);
        let table = Table { rows: table.at(0), format, cols };
        // SAFETY: ids were checked; tasks write disjoint rows.
        unsafe { index::gather(cx.isa, table, &ids[range.clone()], out.at(range.start * cols)) };
        // Each row of a mapped table made much around it resident. Row by row, letting go of it took a
        // fifth of the time.
        args.release(0, 0..usize::MAX);
    });
    Ok(())
}

/// Rows of input 0 added at the ids in input 1, to input 2 or to zeros.
pub(super) fn scatter_add(cx: &Context, args: Args<'_>) -> Result<()> {
    let desc = args.output_desc(0);
    let ids = checked_ids(args, desc.rows())?;
    let (stride, rows) = (desc.cols(), desc.rows());
    let (from, out) = (args.input_address::<f32>(0), args.output_address::<f32>(0));
    let table = (args.inputs() > 2).then(|| args.input_address::<f32>(2));
    let all = args.output_desc(0).numel();
    // The table to add to may lie in the output's memory already.
    if table.is_none_or(|table| table.at(0) != out.at(0)) {
        let part = split(all, GRAIN);
        cx.pool.run(all.div_ceil(GRAIN), &|task, _| {
            let range = part(task);
            let to = out.at(range.start);
            // SAFETY: tasks take disjoint ranges of the output, which is all or nothing of the table.
            unsafe {
                match table {
                    Some(table) => to.copy_from_nonoverlapping(table.at(range.start), range.len()),
                    None => to.write_bytes(0, range.len()),
                }
            }
        });
    }
    if rows == 0 {
        return Ok(());
    }
    let part = split(stride, COLS);
    cx.pool.run(stride.div_ceil(COLS), &|task, _| {
        let range = part(task);
        let rows = Rows { start: from.at(range.start).cast_const(), stride };
        let out = Rows { start: out.at(range.start), stride };
        // SAFETY: ids were checked; tasks touch disjoint columns.
        unsafe { index::scatter_add(cx.isa, rows, ids, range.len(), out) };
    });
    Ok(())
}

/// Input 1, once every id is below `bound`.
fn checked_ids(args: Args<'_>, bound: usize) -> Result<&[i32]> {
    let ids = args.input::<i32>(1);
    match index::out_of_range(ids, bound) {
        None => Ok(ids),
        Some(position) => {
            let index = i64::from(ids[position]);
            Err(Error::Index { op: args.op(), position, index, bound })
        }
    }
}
