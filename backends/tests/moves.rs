//! Ops that move, index and quantize, run whole on the CPU.

use std::collections::HashMap;
use std::sync::Arc;

use tenon_backends::cpu::{Cpu, Options};
use tenon_kernels::quant::Format;
use tenon_runtime::autodiff::gradients;
use tenon_runtime::executor::Executor;
use tenon_runtime::ops::{
    Concat, Dequantize, Embedding, Mul, Pad, Quantize, QuantizeSte, ReduceSum, Slice, Transpose,
};
use tenon_runtime::{Error, Graph, TensorDesc, ValueId};

fn executor(graph: Graph) -> Executor {
    let cpu = Arc::new(Cpu::new(Options::default()).unwrap());
    Executor::new(graph, &[cpu], &HashMap::new()).unwrap()
}

/// The output of a graph over one f32 input of `dims` that holds 0, 1, 2, ….
fn run(dims: &[usize], build: impl Fn(&mut Graph, ValueId) -> ValueId) -> (Vec<usize>, Vec<f32>) {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorDesc::f32(dims).unwrap()).unwrap();
    let y = build(&mut graph, x);
    graph.set_output("y", y).unwrap();
    let shape = graph.desc(y).shape().to_vec();
    let mut executor = executor(graph);
    let count = dims.iter().product::<usize>();
    executor.write("x", &(0..count).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
    executor.run(&mut ()).unwrap();
    (shape, executor.read_vec("y").unwrap())
}

#[test]
fn moves_elements_where_numpy_does() {
    let (shape, y) = run(&[2, 3], |g, x| g.add(Transpose { perm: vec![1, 0] }, &[x]).unwrap());
    assert_eq!((shape, y), (vec![3, 2], vec![0., 3., 1., 4., 2., 5.]));

    let slice = Slice { starts: vec![-2, 0], ends: vec![9, 3], steps: vec![1, 2] };
    let (shape, y) = run(&[3, 3], |g, x| g.add(slice.clone(), &[x]).unwrap());
    assert_eq!((shape, y), (vec![2, 2], vec![3., 5., 6., 8.]));

    let pad = Pad { low: vec![1], high: vec![2], interior: vec![1], value: 9.0 };
    let (shape, y) = run(&[2], |g, x| g.add(pad.clone(), &[x]).unwrap());
    assert_eq!((shape, y), (vec![6], vec![9., 0., 9., 1., 9., 9.]));

    let (shape, y) = run(&[2, 1], |g, x| g.add(Concat { axis: -1 }, &[x, x]).unwrap());
    assert_eq!((shape, y), (vec![2, 2], vec![0., 0., 1., 1.]));
}

#[test]
fn an_id_without_a_row_is_named() {
    for bad in [3, -1] {
        let mut graph = Graph::new();
        let table = graph.input("table", TensorDesc::f32(&[3, 2]).unwrap()).unwrap();
        let ids = graph.input("ids", TensorDesc::i32(&[2]).unwrap()).unwrap();
        let y = graph.add(Embedding, &[table, ids]).unwrap();
        graph.set_output("y", y).unwrap();
        let mut executor = executor(graph);
        executor.write("ids", &[2i32, bad]).unwrap();
        let error = executor.run(&mut ()).unwrap_err();
        let wanted = i64::from(bad);
        assert!(
            matches!(error, Error::Index { op: "embedding", position: 1, index, bound: 3 } if index == wanted),
            "{error}"
        );
        executor.write("ids", &[2i32, 0]).unwrap();
        executor.run(&mut ()).unwrap();
    }
}

/// `y` and the gradient of `sum(y * r)` toward `x`, for `y` made of 256 values.
fn straight_through(
    x: &[f32],
    r: &[f32],
    build: impl Fn(&mut Graph, ValueId) -> ValueId,
) -> (Vec<f32>, Vec<f32>) {
    let mut graph = Graph::new();
    let [vx, vr] = ["x", "r"].map(|n| graph.input(n, TensorDesc::f32(&[256]).unwrap()).unwrap());
    let y = build(&mut graph, vx);
    let product = graph.add(Mul, &[y, vr]).unwrap();
    let loss = graph.add(ReduceSum { axes: vec![], keepdims: false }, &[product]).unwrap();
    let gradient = gradients(&mut graph, loss, &[vx]).unwrap()[0].unwrap();
    graph.set_output("y", y).unwrap();
    graph.set_output("gradient", gradient).unwrap();
    let mut executor = executor(graph);
    executor.write("x", x).unwrap();
    executor.write("r", r).unwrap();
    executor.run(&mut ()).unwrap();
    (executor.read_vec("y").unwrap(), executor.read_vec("gradient").unwrap())
}

#[test]
fn rounding_to_a_format_lets_gradients_through() {
    let x: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).sin()).collect();
    let r: Vec<f32> = (0..256).map(|i| i as f32 - 100.0).collect();
    for &format in Format::ALL {
        let (apart, gradient) = straight_through(&x, &r, |g, x| {
            let q = g.add(Quantize { format }, &[x]).unwrap();
            g.add(Dequantize, &[q]).unwrap()
        });
        assert_eq!(gradient, r, "{format:?}");
        let (fused, gradient) =
            straight_through(&x, &r, |g, x| g.add(QuantizeSte { format }, &[x]).unwrap());
        assert_eq!(gradient, r, "{format:?}");
        assert_eq!(apart, fused, "{format:?}");
        let worst = x.iter().zip(&apart).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
        assert!(worst <= format.error(), "{format:?}: {worst}");
        assert!(format == Format::F32 || worst > 0.0, "{format:?} rounded nothing");
    }
}
