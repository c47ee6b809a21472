//! Sums, means and maxima.

use tenon_kernels::reduce::Reduce as Kind;
use tenon_runtime::Result;

use super::{Builder, no};
use crate::npu::graph::ValueId;
use crate::npu::op::Reduce;

/// Neighbouring axes that are both reduced, or both stay, are merged first.
pub(super) fn reduce(b: &mut Builder, kind: Kind, axes: &[usize], x: ValueId) -> Result<ValueId> {
    let kind = match kind {
        Kind::Sum => Reduce::Sum,
        Kind::Mean => Reduce::Mean,
        Kind::Max => Reduce::Max,
    };
    let (mut shape, mut reduced): (Vec<usize>, Vec<bool>) = (Vec::new(), Vec::new());
    for (i, &n) in b.shape(x).iter().enumerate().filter(|(_, n)| **n != 1) {
        let is_reduced = axes.contains(&i);
        if reduced.last() == Some(&is_reduced) {
            if let Some(last) = shape.last_mut() {
                *last *= n;
            }
        } else {
            shape.push(n);
            reduced.push(is_reduced);
        }
    }
    if shape.is_empty() {
        (shape, reduced) = (vec![1], vec![true]);
    }
    if shape.len() > b.target.rank() {
        return no("a reduction of too many axes");
    }
    let x = b.reshape(x, &shape)?;
    let axes: Vec<usize> = (0..shape.len()).filter(|&i| reduced[i]).collect();
    if axes.is_empty() { Ok(x) } else { b.reduce(kind, &axes, x) }
}
