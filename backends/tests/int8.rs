//! Products rounded to int8, forward and backward, beside the same graph in f32.
//!
//! Gradients go straight through the rounding, so that finite differences, which see its steps,
//! cannot judge them.

use std::collections::HashMap;
use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options};
use tenon_kernels::Isa;
use tenon_runtime::autodiff::gradients;
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::ops::{Attr, Transpose};
use tenon_runtime::tensor::{Storage, SystemAllocator};
use tenon_runtime::{DType, Error, Tensor, TensorDesc};

fn noise(len: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 ^ seed).wrapping_mul(0x9e37_79b1).rotate_left(13);
    (0..len)
        .map(|i| (hash(i).wrapping_mul(0x85eb_ca6b) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

/// A frozen weight in 4-bit blocks.
fn weight(graph: &mut Graph, [rows, columns]: [usize; 2], seed: u32) -> ValueId {
    let dtype = DType::from_name("q4_1").unwrap();
    let format = dtype.format().unwrap();
    let values = noise(rows * columns, seed);
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    // SAFETY: room for all blocks.
    unsafe { format.encode(Isa::PORTABLE, values.as_ptr(), values.len(), bytes.as_mut_ptr()) };
    let desc = TensorDesc::new(dtype, tenon_runtime::Shape::new(&[rows, columns]).unwrap());
    let storage = Storage::copied(&bytes, &SystemAllocator).unwrap();
    graph.constant(Tensor::new(desc.unwrap(), storage).unwrap())
}

/// What a graph over `x` [rows, 64] and, if it wants one, an f32 `w` [48, 64] gives: its loss and
/// the gradients.
fn results(
    precision: &str,
    build: impl Fn(&mut Graph, ValueId, ValueId, &[(&str, Attr)]) -> ValueId,
) -> Vec<Vec<f32>> {
    let mut graph = Graph::new();
    let x = graph.parameter("x", TensorDesc::f32(&[37, 64]).unwrap(), true).unwrap();
    let w = graph.parameter("w", TensorDesc::f32(&[48, 64]).unwrap(), true).unwrap();
    let loss = build(&mut graph, x, w, &[("precision", precision.into())]);
    graph.set_output("loss", loss).unwrap();
    for (name, gradient) in
        ["dx", "dw"].into_iter().zip(gradients(&mut graph, loss, &[x, w]).unwrap())
    {
        if let Some(gradient) = gradient {
            graph.set_output(name, gradient).unwrap();
        }
    }
    let names: Vec<_> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
    let cpu = Arc::new(Cpu::new(Options::default()).unwrap());
    let mut executor = Executor::new(graph, &[cpu], &HashMap::new()).unwrap();
    executor.write("x", &noise(37 * 64, 1)).unwrap();
    executor.write("w", &noise(48 * 64, 2)).unwrap();
    executor.run(&mut ()).unwrap();
    names.iter().map(|name| executor.read_vec(name).unwrap()).collect()
}

/// The L2 norm of the difference relative to that of `want`.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
    norm(&mut got.iter().zip(want).map(|(x, y)| x - y)) / norm(&mut want.iter().copied())
}

/// Everything within a percent of f32, and not the same.
fn compare(build: impl Fn(&mut Graph, ValueId, ValueId, &[(&str, Attr)]) -> ValueId) {
    let (int8, f32) = (results("int8", &build), results("f32", &build));
    assert_eq!(int8.len(), f32.len());
    for (i, (got, want)) in int8.iter().zip(&f32).enumerate() {
        let apart = apart(got, want);
        assert!(apart > 0.0 && apart < 0.01, "result {i} is {apart} apart");
    }
}

fn mean_square(graph: &mut Graph, y: ValueId) -> ValueId {
    let square = graph.call("square", &[], &[y]).unwrap()[0];
    let flat = graph.call("reshape", &[("shape", Attr::Ints(vec![-1]))], &[square]).unwrap()[0];
    graph.call("reduce_mean", &[], &[flat]).unwrap()[0]
}

#[test]
fn a_frozen_layer_and_its_gradient() {
    compare(|graph, x, _, precision| {
        let frozen = weight(graph, [96, 64], 3);
        let y = graph.call("linear", precision, &[x, frozen]).unwrap()[0];
        mean_square(graph, y)
    });
}

#[test]
fn both_gradients_of_a_layer() {
    compare(|graph, x, w, precision| {
        let y = graph.call("linear", precision, &[x, w]).unwrap()[0];
        mean_square(graph, y)
    });
}

#[test]
fn head_and_loss_with_both_gradients() {
    let targets = |graph: &mut Graph, vocab: i32| {
        let targets: Vec<i32> = (0..37).map(|i| i * 5 % vocab).collect();
        graph.constant(Tensor::from_slice(&[37], &targets).unwrap())
    };
    compare(|graph, x, w, precision| {
        let targets = targets(graph, 48);
        graph.call("linear_cross_entropy", precision, &[x, w, targets]).unwrap()[0]
    });
    // A frozen head: loss and gradient in one pass, of more than one strip.
    compare(|graph, x, _, precision| {
        let (frozen, targets) = (weight(graph, [2100, 64], 4), targets(graph, 2100));
        graph.call("linear_cross_entropy", precision, &[x, frozen, targets]).unwrap()[0]
    });
}

#[test]
fn a_transposed_left_side_is_refused_and_not_made() {
    let mut graph = Graph::new();
    let a = graph.input("a", TensorDesc::f32(&[64, 5]).unwrap()).unwrap();
    let b = graph.input("b", TensorDesc::f32(&[64, 7]).unwrap()).unwrap();
    let precision = ("precision", Attr::from("int8"));
    let attrs = [("trans_a", true.into()), precision.clone()];
    match graph.call("matmul", &attrs, &[a, b]) {
        Err(Error::Attr { name, why, .. }) => {
            assert_eq!((&*name, &*why), ("precision", "int8 takes no transposed A"));
        }
        other => panic!("{other:?}"),
    }
    // A transpose before the product stays one.
    let rows = graph.add(Transpose { perm: vec![1, 0] }, &[a]).unwrap();
    let y = graph.call("matmul", &[precision], &[rows, b]).unwrap()[0];
    graph.set_output("y", y).unwrap();
    let cpu = Arc::new(Cpu::new(Options::default()).unwrap());
    let mut executor = Executor::new(graph, &[cpu], &HashMap::new()).unwrap();
    executor.run(&mut ()).unwrap();
}
