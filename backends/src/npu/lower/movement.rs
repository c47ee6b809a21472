//! Copies between strided layouts, as reshapes, slices, transposes, repetitions, paddings.

use tenon_kernels::movement::StridedCopy;
use tenon_runtime::Result;
use tenon_runtime::backend::Signature;

use super::{Builder, no, shape_of};
use crate::npu::graph::ValueId;
use crate::npu::op::Op;

/// One copy that covers the output, copies that follow each other along an axis, or one with zeros
/// around it.
pub(super) fn lower(
    b: &mut Builder,
    fill: Option<f32>,
    copies: &[(usize, StridedCopy)],
    signature: Signature<'_>,
    inputs: &[ValueId],
) -> Result<ValueId> {
    let to = shape_of(signature.outputs[0]);
    match (fill, copies) {
        (None, [(input, copy)]) => view(b, copy, inputs[*input], &to),
        (None, copies) => concat(b, copies, inputs, &to),
        (Some(0.0), [(input, copy)]) => padded(b, copy, inputs[*input], &to),
        _ => no("a filling with other numbers than 0"),
    }
}

/// A strided view of a contiguous operand. Its strides, the largest first, are where to cut the
/// operand into axes; then the box is taken, brought in order, and what has stride 0 is repeated.
fn view(b: &mut Builder, copy: &StridedCopy, x: ValueId, to: &[usize]) -> Result<ValueId> {
    let all: usize = b.graph.ty(x).numel();
    let mut dims: Vec<[usize; 3]> = copy.dims().filter(|d| d[0] != 1).collect();
    // In the order of the destination, which they must fill.
    dims.sort_by_key(|d| std::cmp::Reverse(d[2]));
    let fills = dims.iter().rev().try_fold(1, |step, d| (d[2] == step).then_some(step * d[0]));
    if fills != Some(to.iter().product()) || copy.starts().1 != 0 {
        return no("a copy that does not fill its output");
    }
    let mut by_source: Vec<usize> = (0..dims.len()).filter(|&i| dims[i][1] != 0).collect();
    by_source.sort_by_key(|&i| std::cmp::Reverse(dims[i][1]));
    let (mut shape, mut begin, mut size) = (Vec::new(), Vec::new(), Vec::new());
    let (mut outer, mut offset) = (all, copy.starts().0);
    for &i in &by_source {
        let [extent, stride, _] = dims[i];
        if outer % stride != 0 {
            return no("strides that cut no axes");
        }
        shape.push(outer / stride);
        begin.push(offset / stride);
        size.push(extent);
        (outer, offset) = (stride, offset % stride);
    }
    shape.push(outer);
    begin.push(offset);
    size.push(1);
    if (0..shape.len()).any(|i| begin[i] + size[i] > shape[i]) {
        return no("a box that wraps around an axis");
    }
    let x = b.reshape(x, &shape)?;
    let x = b.slice(x, &begin, &size)?;
    let kept: Vec<usize> = by_source.iter().map(|&i| dims[i][0]).collect();
    let x = b.reshape(x, if kept.is_empty() { &[1] } else { &kept })?;
    let order: Vec<usize> = (0..dims.len()).filter(|&i| dims[i][1] != 0).collect();
    let place = |i: &usize| by_source.iter().position(|j| j == i).unwrap_or(0);
    let perm: Vec<usize> = order.iter().map(place).collect();
    let x = if perm.is_empty() { x } else { b.transpose(x, &perm)? };
    let single: Vec<usize> = dims.iter().map(|d| if d[1] == 0 { 1 } else { d[0] }).collect();
    let times: Vec<usize> = dims.iter().map(|d| if d[1] == 0 { d[0] } else { 1 }).collect();
    let x = if single.is_empty() { x } else { b.reshape(x, &single)? };
    let x = if times.is_empty() { x } else { b.tile(x, &times)? };
    b.reshape(x, to)
}

fn concat(
    b: &mut Builder,
    copies: &[(usize, StridedCopy)],
    inputs: &[ValueId],
    to: &[usize],
) -> Result<ValueId> {
    let shapes: Vec<Vec<usize>> = copies.iter().map(|(i, _)| b.shape(inputs[*i])).collect();
    let alike = |axis: usize| {
        let others = |s: &Vec<usize>| {
            s.len() == to.len() && (0..to.len()).all(|i| i == axis || s[i] == to[i])
        };
        shapes.iter().all(others) && shapes.iter().map(|s| s[axis]).sum::<usize>() == to[axis]
    };
    let Some(axis) = (0..to.len()).find(|&axis| alike(axis)) else {
        return no("copies that do not follow each other");
    };
    let inner: usize = to[axis + 1..].iter().product();
    let mut at = 0;
    for ((input, copy), shape) in copies.iter().zip(&shapes) {
        if copy.len() != b.graph.ty(inputs[*input]).numel() || copy.starts() != (0, at * inner) {
            return no("copies of parts of operands");
        }
        at += shape[axis];
    }
    // As three axes: what is before, the axis, what is after.
    let parts = copies.iter().zip(&shapes).map(|((input, _), shape)| {
        let outer: usize = shape[..axis].iter().product();
        b.reshape(inputs[*input], &[outer, shape[axis] * inner])
    });
    let parts: Vec<ValueId> = parts.collect::<Result<_>>()?;
    let all = b.graph.add(Op::Concat(1), &parts)?;
    b.reshape(all, to)
}

fn padded(b: &mut Builder, copy: &StridedCopy, x: ValueId, to: &[usize]) -> Result<ValueId> {
    let shape = b.shape(x);
    if shape.len() != to.len() || copy.len() != b.graph.ty(x).numel() || copy.starts().0 != 0 {
        return no("zeros around a part of an operand");
    }
    let mut offset = copy.starts().1;
    let mut pads = vec![[0; 2]; to.len()];
    for axis in 0..to.len() {
        let inner: usize = to[axis + 1..].iter().product();
        let before = offset / inner;
        offset %= inner;
        if before + shape[axis] > to[axis] {
            return no("zeros between elements");
        }
        pads[axis] = [before, to[axis] - shape[axis] - before];
    }
    // The copy must be of that box: its strides are those of the output's axes.
    let mut steps: Vec<usize> = copy.dims().filter(|d| d[0] != 1).map(|d| d[2]).collect();
    steps.sort_unstable();
    let axis_step = |axis: usize| to[axis + 1..].iter().product::<usize>();
    if !steps.iter().all(|step| (0..to.len()).any(|axis| axis_step(axis) == *step)) {
        return no("zeros between elements");
    }
    // Axes that have none are merged with their neighbours.
    let (mut own, mut merged): (Vec<usize>, Vec<[usize; 2]>) = (Vec::new(), Vec::new());
    for axis in 0..to.len() {
        match (own.last_mut(), merged.last()) {
            (Some(last), Some([0, 0])) if pads[axis] == [0, 0] => *last *= shape[axis],
            _ => {
                own.push(shape[axis]);
                merged.push(pads[axis]);
            }
        }
    }
    let x = b.reshape(x, &own)?;
    let x = b.pad(x, &merged)?;
    b.reshape(x, to)
}
