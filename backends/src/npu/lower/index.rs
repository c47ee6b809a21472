//! Rows by number. An accelerator cannot scatter: sums of rows are products with one-hot numbers,
//! where those are few.

use tenon_runtime::Result;
use tenon_runtime::backend::Signature;

use super::{Builder, Checked, no};
use crate::npu::graph::ValueId;
use crate::npu::op::{Compare, Op};

/// Elements of a table that is worth keeping on the accelerator.
const MOST_TABLE: usize = 1 << 18;
/// One-hot numbers that are cheap.
const MOST_ONES: usize = 1 << 18;

pub(super) fn gather(b: &mut Builder, inputs: &[ValueId]) -> Result<ValueId> {
    let (table, ids) = (inputs[0], inputs[1]);
    let &[rows, cols] = b.graph.shape(table) else { return no("a table has two axes") };
    if rows * cols > MOST_TABLE {
        return no("a table that is too large");
    }
    let n = b.graph.ty(ids).numel();
    let flat = b.reshape(ids, &[n])?;
    b.checked.push(Checked { value: ids, bound: rows, ignore: None });
    b.graph.add(Op::Gather, &[table, flat])
}

pub(super) fn scatter_add(
    b: &mut Builder,
    signature: Signature<'_>,
    inputs: &[ValueId],
) -> Result<ValueId> {
    let (rows, cols) = (signature.outputs[0].rows(), signature.outputs[0].cols());
    let n = signature.inputs[1].numel();
    if rows * n > MOST_ONES {
        return no("too many rows for one-hot numbers");
    }
    b.checked.push(Checked { value: inputs[1], bound: rows, ignore: None });
    // [rows, n] and [cols, n]
    let ids = b.reshape(inputs[1], &[1, n])?;
    let numbers: Vec<i32> = (0..rows as i32).collect();
    let numbers = b.graph.integers(&[rows, 1], &numbers)?;
    let mask = b.compare(Compare::Eq, numbers, ids)?;
    let ones = b.ones_where(mask)?;
    let dy = b.reshape(inputs[0], &[n, cols])?;
    let dy = b.transpose(dy, &[1, 0])?;
    let sum = b.graph.add(Op::Linear, &[ones, dy])?;
    match inputs.get(2) {
        Some(&more) => {
            let more = b.reshape(more, &[rows, cols])?;
            b.add(sum, more)
        }
        None => Ok(sum),
    }
}

/// For each row of targets, 1 at its target and 0 elsewhere: [n, classes].
pub(super) fn one_hot(b: &mut Builder, targets: ValueId, classes: usize) -> Result<ValueId> {
    let n = b.graph.ty(targets).numel();
    let column = b.column(targets)?;
    let numbers: Vec<i32> = (0..classes as i32).collect();
    let numbers = b.graph.integers(&[1, classes], &numbers)?;
    let mask = b.compare(Compare::Eq, column, numbers)?;
    debug_assert_eq!(b.graph.shape(mask), [n, classes]);
    b.ones_where(mask)
}
