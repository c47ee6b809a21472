//! Small networks by description, for whole training steps.
//!
//! A description is the shape of one example and then the layers: `c8k3` is a convolution to 8
//! channels with a kernel of 3, padded so that the image keeps its size, `p` max pooling by 2, and
//! `f10` a linear layer of 10. All layers but the last one and poolings are followed by relu; the
//! loss is cross-entropy.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;

use tenon_backends::cpu::{self, Cpu};
use tenon_runtime::Result;
use tenon_runtime::backend::Backend;
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::tensor::{Tensor, TensorDesc};
use tenon_runtime::train::{Moments, Optimizer, Options, Schedule, Trainer};

/// Examples of a step.
pub const BATCH: usize = 64;

/// The networks that are timed: a perceptron and convolutions on images of MNIST's size.
pub const NETS: &[&str] = &[
    "784 f512 f512 f10",
    "1x28x28 c8k3 p c16k3 p f10",
    "1x28x28 c16k5 p c32k5 p f128 f10",
    "1x28x28 c32k3 c64k3 p f128 f10",
];

/// The optimizers they are timed with, by name.
pub fn optimizers() -> [(&'static str, Optimizer); 2] {
    let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    [("sgd", sgd), ("adam", Optimizer::Adam(Moments { weight_decay: 0.0, ..Moments::default() }))]
}

/// The CPU with one thread.
///
/// # Errors
/// What `TENON_ISA` gets wrong.
pub fn one_thread() -> Result<Vec<Arc<dyn Backend>>> {
    let options = cpu::Options { threads: NonZero::new(1), ..cpu::Options::default() };
    Ok(vec![Arc::new(Cpu::new(options)?)])
}

/// A trainer of the described network, with a batch of noise written.
///
/// # Errors
/// What the runtime says of the description.
pub fn trainer(net: &str, optimizer: Optimizer, backends: &[Arc<dyn Backend>]) -> Result<Trainer> {
    let mut g = Graph::new();
    let mut layers = net.split(' ').peekable();
    let example = layers.next().unwrap_or_default().split('x').map(number);
    let shape: Vec<usize> = std::iter::once(BATCH).chain(example).collect();
    let mut x = g.input("x", TensorDesc::f32(&shape)?)?;
    let targets = g.input("targets", TensorDesc::i32(&[BATCH])?)?;
    let mut weights = HashMap::new();
    while let Some(layer) = layers.next() {
        x = add(&mut g, layer, x, &mut weights)?;
        if layer != "p" && layers.peek().is_some() {
            x = g.call("relu", &[], &[x])?[0];
        }
    }
    let loss = g.call("cross_entropy", &[], &[x, targets])?[0];
    let options = Options { optimizer, schedule: Schedule::constant(1e-3), ..Options::default() };
    let mut trainer = Trainer::new(g, loss, backends, &weights, options)?;
    trainer.write("x", &noise(shape.iter().product()))?;
    let classes: Vec<i32> = (0..BATCH as i32).map(|i| i * 7 % 10).collect();
    trainer.write("targets", &classes)?;
    Ok(trainer)
}

/// Adds one layer, with its weights.
fn add(
    g: &mut Graph,
    layer: &str,
    x: ValueId,
    weights: &mut HashMap<String, Tensor>,
) -> Result<ValueId> {
    let dims = g.desc(x).shape().to_vec();
    let mut weight = |g: &mut Graph, shape: &[usize]| -> Result<ValueId> {
        let inputs: usize = shape[1..].iter().product();
        let most = 1.0 / (inputs as f32).sqrt();
        let values: Vec<f32> =
            noise(shape.iter().product()).into_iter().map(|v| v * most).collect();
        let name = format!("weight{}", weights.len());
        weights.insert(name.clone(), Tensor::from_slice(shape, &values)?);
        g.parameter(&name, TensorDesc::f32(shape)?, true)
    };
    let (kind, sizes) = layer.split_at(1);
    let call = match (kind, dims.len()) {
        ("p", _) => return Ok(g.call("max_pool2d", &[("kernel", 2usize.into())], &[x])?[0]),
        ("c", _) => {
            let (out, kernel) = sizes.split_once('k').unwrap_or((sizes, "1"));
            let (out, kernel) = (number(out), number(kernel));
            let w = weight(g, &[out, dims[1], kernel, kernel])?;
            let bias =
                g.parameter(&format!("bias{}", w.index()), TensorDesc::f32(&[out])?, true)?;
            g.call("conv2d", &[("padding", (kernel / 2).into())], &[x, w, bias])?
        }
        _ => {
            let (out, inputs) = (number(sizes), dims[1..].iter().product());
            let shape = [BATCH, inputs];
            let flat = g.call("reshape", &[("shape", shape[..].into())], &[x])?[0];
            let w = weight(g, &[out, inputs])?;
            let bias =
                g.parameter(&format!("bias{}", w.index()), TensorDesc::f32(&[out])?, true)?;
            g.call("linear", &[], &[flat, w, bias])?
        }
    };
    Ok(call[0])
}

fn number(text: &str) -> usize {
    text.parse().expect("a description has whole numbers")
}

/// Values in -1..1 without a pattern.
fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i.wrapping_mul(0x9e37_79b1) % 8191) as f32 / 4095.5 - 1.0).collect()
}
