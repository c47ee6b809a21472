//! Graphs to plan: training steps of networks of many kinds, after all passes, and random ones.

use std::sync::Arc;

use tenon_backends::null::Null;
use tenon_kernels::random::Philox;
use tenon_runtime::Result;
use tenon_runtime::backend::Backend;
use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::ops::Attr;
use tenon_runtime::tensor::{SystemAllocator, TensorDesc};
use tenon_runtime::train::{Options, Trainer};

/// The backend that plans and computes nothing.
#[must_use]
pub fn null() -> [Arc<dyn Backend>; 1] {
    [Arc::new(Null::default())]
}

/// Training steps: perceptrons, convolutional networks, language models at 4 depths with sequences
/// of 3 lengths, trained whole and by adapters.
///
/// # Errors
/// What the runtime says of them.
pub fn training() -> Result<Vec<(String, Graph)>> {
    let mut all = Vec::new();
    for (width, depth) in [(64, 2), (512, 3), (256, 12)] {
        all.push((format!("perceptron {width} x {depth}"), perceptron(width, depth)?));
    }
    for (channels, depth) in [(8, 2), (32, 4)] {
        all.push((format!("CNN {channels} x {depth}"), cnn(channels, depth)?));
    }
    for size in [32, 96] {
        all.push((format!("MobileNet-like {size}"), mobile_net(size)?));
    }
    for (size, depth) in [(32, 2), (64, 4)] {
        all.push((format!("U-Net-like {size} x {depth}"), u_net(size, depth)?));
    }
    for (experts, depth) in [(4, 2), (8, 6)] {
        all.push((format!("MoE-like {experts} x {depth}"), experts_mixed(experts, depth)?));
    }
    for depth in [1, 2, 6, 12] {
        let model = language_model(depth)?;
        for seq in [16, 64, 256] {
            for trains in [Trains::Everything, Trains::Lora(Lora::of_rank(8))] {
                let kind = if trains == Trains::Everything { "full" } else { "LoRA" };
                let built = model.graph(&GraphOptions::new(2, seq, trains))?;
                all.push((format!("LM {depth} x {seq} {kind}"), step(built.graph, built.loss)?));
            }
        }
    }
    Ok(all)
}

/// A small llama of so many blocks.
///
/// # Errors
/// As [`Model::random`].
pub fn language_model(layers: usize) -> Result<Model> {
    let config = ModelConfig::llama(512, [64, 176], layers, [4, 2]);
    Model::random(config, 1, &SystemAllocator)
}

/// The graph of a step of AdamW with clipping.
fn step(graph: Graph, loss: impl Into<Option<ValueId>>) -> Result<Graph> {
    let options = Options { clip_norm: Some(1.0), ..Options::default() };
    Ok(Trainer::plan_only(graph, loss, &null(), &options)?.0)
}

/// A graph in the making, and how many parameters it has.
struct Net {
    graph: Graph,
    parameters: usize,
}

type Attrs<'a> = &'a [(&'a str, Attr)];

impl Net {
    /// A network of an input of `shape`.
    fn new(shape: &[usize]) -> Result<(Self, ValueId)> {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorDesc::f32(shape)?)?;
        Ok((Self { graph, parameters: 0 }, x))
    }

    fn call(&mut self, op: &str, attrs: Attrs<'_>, inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.graph.call(op, attrs, inputs)?[0])
    }

    fn weight(&mut self, shape: &[usize]) -> Result<ValueId> {
        self.parameters += 1;
        self.graph.parameter(&format!("w{}", self.parameters), TensorDesc::f32(shape)?, true)
    }

    fn dims(&self, x: ValueId) -> Vec<usize> {
        self.graph.desc(x).shape().to_vec()
    }

    fn linear(&mut self, x: ValueId, out: usize) -> Result<ValueId> {
        let inputs = *self.dims(x).last().unwrap_or(&1);
        let operands = [x, self.weight(&[out, inputs])?, self.weight(&[out])?];
        self.call("linear", &[], &operands)
    }

    /// A convolution that keeps the image's size, or halves it.
    fn conv(&mut self, x: ValueId, [out, kernel, stride, groups]: [usize; 4]) -> Result<ValueId> {
        let weight = self.weight(&[out, self.dims(x)[1] / groups, kernel, kernel])?;
        let attrs = [("padding", kernel / 2), ("stride", stride), ("groups", groups)]
            .map(|(n, v)| (n, v.into()));
        self.call("conv2d", &attrs, &[x, weight])
    }

    /// Convolution, batch norm with running statistics, relu.
    fn unit(&mut self, x: ValueId, shape: [usize; 4]) -> Result<ValueId> {
        let x = self.normed(x, shape)?;
        self.call("relu", &[], &[x])
    }

    fn normed(&mut self, x: ValueId, shape: [usize; 4]) -> Result<ValueId> {
        let x = self.conv(x, shape)?;
        let channels = TensorDesc::f32(&[shape[0]])?;
        let name = self.parameters;
        let mean = self.graph.state(&format!("mean{name}"), channels.clone())?;
        let variance = self.graph.state(&format!("variance{name}"), channels)?;
        let operands = [x, mean, variance, self.weight(&[shape[0]])?, self.weight(&[shape[0]])?];
        self.call("batch_norm", &[], &operands)
    }

    fn pool(&mut self, x: ValueId) -> Result<ValueId> {
        self.call("max_pool2d", &[("kernel", 2usize.into())], &[x])
    }

    /// The step that trains `x` as logits of a class.
    fn classify(mut self, x: ValueId) -> Result<Graph> {
        let dims = self.dims(x);
        let shape = [dims[0], dims[1..].iter().product()];
        let x = self.call("reshape", &[("shape", shape[..].into())], &[x])?;
        let x = self.linear(x, 10)?;
        let targets = self.graph.input("targets", TensorDesc::i32(&shape[..1])?)?;
        let loss = self.call("cross_entropy", &[], &[x, targets])?;
        step(self.graph, loss)
    }
}

fn perceptron(width: usize, depth: usize) -> Result<Graph> {
    let (mut net, mut x) = Net::new(&[64, 784])?;
    for _ in 0..depth {
        x = net.linear(x, width)?;
        x = net.call("relu", &[], &[x])?;
    }
    net.classify(x)
}

fn cnn(channels: usize, depth: usize) -> Result<Graph> {
    let (mut net, mut x) = Net::new(&[16, 3, 32, 32])?;
    for level in 0..depth {
        x = net.conv(x, [channels << level, 3, 1, 1])?;
        x = net.call("relu", &[], &[x])?;
        x = net.pool(x)?;
    }
    net.classify(x)
}

/// Inverted residuals with depthwise convolutions (Sandler et al., MobileNetV2, 2018).
fn mobile_net(size: usize) -> Result<Graph> {
    let (mut net, x) = Net::new(&[4, 3, size, size])?;
    let mut x = net.unit(x, [16, 3, 2, 1])?;
    for (out, stride, repeat) in [(16, 1, 1), (24, 2, 2), (32, 2, 3), (64, 2, 4)] {
        for i in 0..repeat {
            let wide = net.dims(x)[1] * 6;
            let y = net.unit(x, [wide, 1, 1, 1])?;
            let y = net.unit(y, [wide, 3, if i == 0 { stride } else { 1 }, wide])?;
            let y = net.normed(y, [out, 1, 1, 1])?;
            x = if net.dims(x) == net.dims(y) { net.call("add", &[], &[x, y])? } else { y };
        }
    }
    let x = net.call("reduce_mean", &[("axes", [2usize, 3][..].into())], &[x])?;
    net.classify(x)
}

/// Down and up again, joined by concatenation (Ronneberger et al., 2015); mean squared error.
fn u_net(size: usize, depth: usize) -> Result<Graph> {
    let (mut net, mut x) = Net::new(&[2, 3, size, size])?;
    let mut skips = Vec::new();
    for level in 0..=depth {
        for _ in 0..2 {
            x = net.unit(x, [16 << level, 3, 1, 1])?;
        }
        if level < depth {
            skips.push(x);
            x = net.pool(x)?;
        }
    }
    for (level, skip) in skips.into_iter().enumerate().rev() {
        let up = net.weight(&[32 << level, 16 << level, 2, 2])?;
        let up = net.call("conv_transpose2d", &[("stride", 2usize.into())], &[x, up])?;
        x = net.call("concat", &[("axis", 1i64.into())], &[skip, up])?;
        for _ in 0..2 {
            x = net.unit(x, [16 << level, 3, 1, 1])?;
        }
    }
    let x = net.conv(x, [3, 1, 1, 1])?;
    let target = net.graph.input("target", TensorDesc::f32(&[2, 3, size, size])?)?;
    let error = net.call("sub", &[], &[x, target])?;
    let error = net.call("square", &[], &[error])?;
    let loss = net.call("reduce_mean", &[("axes", [0usize, 1, 2, 3][..].into())], &[error])?;
    step(net.graph, loss)
}

/// Layers of experts, all run and weighted by a softmax gate.
fn experts_mixed(experts: usize, depth: usize) -> Result<Graph> {
    let (mut net, mut x) = Net::new(&[32, 64])?;
    for _ in 0..depth {
        let gate = net.linear(x, experts)?;
        let gate = net.call("softmax", &[], &[gate])?;
        let mut sum = x;
        for expert in 0..experts {
            let h = net.linear(x, 256)?;
            let h = net.call("gelu", &[], &[h])?;
            let h = net.linear(h, 64)?;
            let from = [("starts", [0, expert]), ("ends", [32, expert + 1])];
            let weight = net.call("slice", &from.map(|(n, v)| (n, v[..].into())), &[gate])?;
            let h = net.call("mul", &[], &[h, weight])?;
            sum = net.call("add", &[], &[sum, h])?;
        }
        x = sum;
    }
    net.classify(x)
}

/// Throws numbers, the same for the same seed.
struct Dice {
    philox: Philox,
    thrown: u64,
}

impl Dice {
    /// From 0 up to below 1.
    fn share(&mut self) -> f64 {
        self.thrown += 1;
        f64::from(self.philox.uniform(self.thrown))
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.share() * n as f64) as usize).min(n - 1)
    }

    /// From 1 to `n`, every order of magnitude as likely.
    fn size(&mut self, n: usize) -> usize {
        ((n as f64).powf(self.share()) as usize).clamp(1, n)
    }
}

/// A graph of `count` nodes at random: sizes over orders of magnitude, several readers, views,
/// operations in place, several outputs of a node, states that are overwritten.
///
/// # Errors
/// None: what it builds is legal.
pub fn random(count: usize, seed: u64) -> Result<Graph> {
    let dice = Dice { philox: Philox::new(seed, 0), thrown: 0 };
    let mut random = Random { graph: Graph::new(), pool: Vec::new(), dice };
    for i in 0..4 {
        let desc = TensorDesc::f32(&[random.dice.size(1 << 18)])?;
        let name = format!("x{i}");
        let graph = &mut random.graph;
        random.pool.push(if i < 2 { graph.input(&name, desc) } else { graph.state(&name, desc) }?);
    }
    let keep = random.graph.input("keep", TensorDesc::f32(&[1])?)?;
    while random.graph.nodes().len() < count {
        let made = random.node(keep)?;
        random.pool.extend(made);
    }
    let Random { mut graph, pool, mut dice } = random;
    let is_read = |v: &ValueId| graph.nodes().iter().any(|n| n.inputs.contains(v));
    let made = |v: &&ValueId| graph.get(**v).name.is_none() && !is_read(v);
    for value in pool.iter().filter(made).copied().collect::<Vec<_>>() {
        if dice.below(3) == 0 {
            graph.set_output(&format!("y{}", value.index()), value)?;
        }
    }
    Ok(graph)
}

/// A random graph in the making, and the values that nodes may still read.
struct Random {
    graph: Graph,
    pool: Vec<ValueId>,
    dice: Dice,
}

impl Random {
    /// Mostly what was made lately, sometimes anything.
    fn pick(&mut self) -> ValueId {
        let all = self.pool.len();
        let back = if self.dice.below(4) == 0 { all } else { all.min(6) };
        self.pool[all - 1 - self.dice.below(back)]
    }

    /// Adds a node, and gives what it makes.
    fn node(&mut self, keep: ValueId) -> Result<Vec<ValueId>> {
        let (x, other) = (self.pick(), self.pick());
        let (len, more) = (self.graph.desc(x).numel(), self.graph.desc(other).numel());
        let graph = &mut self.graph;
        match self.dice.below(12) {
            0..3 if len + more < 1 << 19 => graph.call("concat", &[], &[x, other]),
            3 | 4 if len == more => graph.call("add", &[], &[x, other]),
            5 => graph.call("reshape", &[("shape", [len][..].into())], &[x]),
            6 | 7 => graph.call("relu", &[], &[x]),
            8 => {
                let high = self.dice.size(1 << 17);
                let attrs = [("low", 0), ("high", high)].map(|(n, v)| (n, [v][..].into()));
                graph.call("pad", &attrs, &[x])
            }
            9 if len == more => graph.call("add_rms_norm", &[], &[x, other, x]),
            10 if len == more && x != other && graph.get(x).is_persistent() => {
                self.pool.retain(|&v| v != x);
                graph.call("accumulate", &[], &[x, other, keep])
            }
            _ => {
                let end = self.dice.size(len);
                let attrs = [("starts", 0), ("ends", end)].map(|(n, v)| (n, [v][..].into()));
                graph.call("slice", &attrs, &[x])
            }
        }
    }
}
