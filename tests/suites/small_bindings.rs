//! What no binding of a device takes as a whole: pieces of it, with the same answer. Needs a Vulkan
//! device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tenon_backends::vulkan::{Options, Vulkan};
use tenon_runtime::backend::Backend;
use tenon_runtime::executor::Executor;
use tenon_runtime::graph::Graph;
use tenon_runtime::train::{self, Trainer};
use tenon_runtime::{Tensor, TensorDesc};
use tenon_tests::device::{elsewhere, with_cpu};

/// Devices one at a time: their caches lie in one folder.
static TURN: Mutex<()> = Mutex::new(());

/// A device, if there is one.
fn device(change: impl FnOnce(&mut Options)) -> Option<Vulkan> {
    tenon_tests::device::vulkan("bindings", change)
}

/// One whose bindings take at most 1 MiB.
fn small() -> Option<Vulkan> {
    device(|options| options.max_binding = Some(1 << 20))
}

/// `y = relu(relu(x))` of `n` elements.
fn chain(n: usize) -> Graph {
    let mut graph = Graph::new();
    let mut value = graph.input("x", TensorDesc::f32(&[n]).expect("a shape")).expect("x");
    for _ in 0..2 {
        value = graph.call("relu", &[], &[value]).expect("a relu")[0];
    }
    graph.set_output("y", value).expect("an output");
    graph
}

/// Bindings of at most 1 MiB: the same answer, by pieces on the device.
#[test]
fn small_bindings_give_the_same_answer() {
    let _turn = TURN.lock();
    let Some(vulkan) = small() else { return };
    let n = (3 << 20) / 4 + 5;
    let x: Vec<f32> = (0..n).map(|i| (i % 1000) as f32 - 500.0).collect();
    let tensors = HashMap::from([("x".to_owned(), Tensor::from_slice(&[n], &x).expect("x"))]);
    let made = Executor::new(chain(n), &with_cpu(&vulkan), &tensors);
    let mut executor = made.expect("an executor");
    assert_eq!(elsewhere(executor.graph(), executor.plan()), [""; 0]);
    executor.run(&mut ()).expect("a run");
    let y = executor.read_vec::<f32>("y").expect("y");
    assert!(y.iter().zip(&x).all(|(y, x)| *y == x.max(0.0)));

    // Rows of a table: the first and the last, those about the end of a piece, and any.
    let (rows, cols) = (12_000, 60);
    let ids = [0i32, 11_999, 4_350, 4_351, 4_352, 4_353, 8_703, 8_704, 7, 11_999, 6_000];
    let mut graph = Graph::new();
    let table = graph.parameter("table", TensorDesc::f32(&[rows, cols]).expect("a shape"), false);
    let at = graph.input("ids", TensorDesc::i32(&[ids.len()]).expect("a shape"));
    let (table, at) = (table.expect("a table"), at.expect("ids"));
    let y = graph.call("embedding", &[], &[table, at]).expect("rows")[0];
    graph.set_output("y", y).expect("an output");
    let norm = graph.call("grad_norm", &[], &[table]).expect("a norm")[0];
    graph.set_output("norm", norm).expect("an output");
    let values: Vec<f32> = (0..rows * cols).map(|i| (i % 1013) as f32).collect();
    let tensors = HashMap::from([(
        "table".to_owned(),
        Tensor::from_slice(&[rows, cols], &values).expect("x"),
    )]);
    let made = Executor::new(graph, &with_cpu(&vulkan), &tensors);
    let mut executor = made.expect("an executor");
    assert_eq!(elsewhere(executor.graph(), executor.plan()), [""; 0]);
    executor.write("ids", &ids).expect("ids");
    executor.run(&mut ()).expect("a run");
    let y = executor.read_vec::<f32>("y").expect("y");
    let row = |id: &i32| values[*id as usize * cols..][..cols].to_vec();
    assert!(y == ids.iter().flat_map(row).collect::<Vec<f32>>());
    let norm = f64::from(executor.read_vec::<f32>("norm").expect("a norm")[0]);
    let want = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    assert!((norm / want - 1.0).abs() < 1e-5, "{norm} and {want}");
}

/// A table that no binding takes, in training by rows: its gradient and its update are made by pieces,
/// with the bits that they have as a whole.
#[test]
fn small_bindings_train_the_same() {
    let _turn = TURN.lock();
    let (rows, cols, count) = (20_000, 40, 6_000);
    let table: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.37).sin()).collect();
    // The first and the last, those about the end of a piece, and many twice.
    let ids: Vec<i32> =
        (0..count).map(|i| [0, 19_999, 6_543, 6_544, i * 7 % 20_000][i as usize % 5]).collect();
    let trained = |vulkan: &Vulkan, state| -> Vec<u32> {
        // A copy of its own, for what trains is changed in place.
        let values = Tensor::from_slice(&[rows, cols], &table).expect("values");
        let tensors = HashMap::from([("table".to_owned(), values)]);
        let mut graph = Graph::new();
        let desc = TensorDesc::f32(&[rows, cols]).expect("a shape");
        let table = graph.parameter("table", desc, true).expect("a table");
        let at = TensorDesc::i32(&[count as usize]).expect("a shape");
        let at = graph.input("ids", at).expect("ids");
        let taken = graph.call("embedding", &[], &[table, at]).expect("rows")[0];
        let square = graph.call("square", &[], &[taken]).expect("squares")[0];
        let loss = graph.call("reduce_sum", &[], &[square]).expect("a loss")[0];
        let options = train::Options { state, ..train::Options::default() };
        let made = Trainer::new(graph, loss, &with_cpu(vulkan), &tensors, options);
        let mut trainer = made.expect("a trainer");
        let other = elsewhere(trainer.graph(), trainer.plan());
        assert_eq!(other, [""; 0]);
        trainer.write("ids", &ids).expect("ids");
        for _ in 0..2 {
            trainer.step(&mut ()).expect("a step");
        }
        let after = trainer.executor().read_vec::<f32>("table").expect("the table");
        after.into_iter().map(f32::to_bits).collect()
    };
    let Some(whole) = device(|_| {}) else { return };
    let small = small().expect("a device");
    for state in [train::StateFormat::F32, train::StateFormat::Bf16, train::StateFormat::Int8] {
        assert!(trained(&small, state) == trained(&whole, state), "{state:?}");
    }
}

/// Rows that no binding takes, added to a table that none takes: in the same order.
#[test]
fn small_bindings_add_rows_in_order() {
    let _turn = TURN.lock();
    let (rows, cols, count) = (20_000usize, 40, 9_000);
    let added: Vec<f32> = (0..count * cols).map(|i| (i as f32 * 0.37).sin()).collect();
    let ids: Vec<i32> =
        (0..count).map(|i| [0, 19_999, 6_543, 6_544, i as i32 * 7 % 20_000][i % 5]).collect();
    let tensors = HashMap::from([
        ("x".to_owned(), Tensor::from_slice(&[count, cols], &added).expect("rows")),
        ("ids".to_owned(), Tensor::from_slice(&[count], &ids).expect("ids")),
    ]);
    let summed = |vulkan: &Vulkan| -> Vec<u32> {
        let mut graph = Graph::new();
        let x = TensorDesc::f32(&[count, cols]).expect("a shape");
        let x = graph.parameter("x", x, false).expect("x");
        let ids = TensorDesc::i32(&[count]).expect("a shape");
        let ids = graph.parameter("ids", ids, false).expect("ids");
        let attrs = [("rows", (rows as i64).into())];
        let y = graph.call("embedding_grad", &attrs, &[x, ids]).expect("sums")[0];
        graph.set_output("y", y).expect("an output");
        let made = Executor::new(graph, &with_cpu(vulkan), &tensors);
        let mut executor = made.expect("an executor");
        assert_eq!(elsewhere(executor.graph(), executor.plan()), [""; 0]);
        executor.run(&mut ()).expect("a run");
        let y = executor.read_vec::<f32>("y").expect("y");
        y.into_iter().map(f32::to_bits).collect()
    };
    let Some(whole) = device(|_| {}) else { return };
    assert!(summed(&small().expect("a device")) == summed(&whole));
}

/// Operands of fewer elements than a result that no binding takes.
#[test]
fn small_bindings_take_broadcasting() {
    let _turn = TURN.lock();
    let Some(vulkan) = small() else { return };
    // Pieces of rows; of planes; and of rows that are too long themselves.
    let shapes: [[&[usize]; 2]; 4] = [
        [&[1_200, 700], &[700]],
        [&[1_200, 700], &[1_200, 1]],
        [&[5, 400, 300], &[5, 1, 300]],
        [&[3, 300_000], &[300_000]],
    ];
    for [of_x, of_y] in shapes {
        let mut graph = Graph::new();
        let mut tensors = HashMap::new();
        let mut operand = |name: &str, dims: &[usize]| {
            let values: Vec<f32> =
                (0..dims.iter().product::<usize>()).map(|i| (i % 1009) as f32).collect();
            tensors.insert(name.to_owned(), Tensor::from_slice(dims, &values).expect("values"));
            let desc = TensorDesc::f32(dims).expect("a shape");
            graph.parameter(name, desc, false).expect("an operand")
        };
        let both = [operand("x", of_x), operand("y", of_y)];
        let z = graph.call("sub", &[], &both).expect("a difference")[0];
        graph.set_output("z", z).expect("an output");
        let run = |backends: &[Arc<dyn Backend>]| {
            let mut made = Executor::new(graph.clone(), backends, &tensors).expect("an executor");
            if backends.len() > 1 {
                assert_eq!(elsewhere(made.graph(), made.plan()), [""; 0], "{of_x:?} {of_y:?}");
            }
            made.run(&mut ()).expect("a run");
            made.read_vec::<f32>("z").expect("z")
        };
        let backends = with_cpu(&vulkan);
        assert!(run(&backends) == run(&backends[1..]), "{of_x:?} {of_y:?}");
    }
}
