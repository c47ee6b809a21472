//! The graph of a llama-family model, or of a part of one.

use std::ops::Range;

use tenon_kernels::gemm::Precision;

use super::config::{ModelConfig, RopeLayout};
use super::load::Model;
use super::lora::Lora;
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::ops::{Attr, precision_name};
use crate::tensor::{DType, Shape, Tensor, TensorDesc};

/// What of a model trains.
#[derive(Clone, Debug, PartialEq)]
pub enum Trains {
    /// Nothing: evaluation.
    Nothing,
    /// Adapters; the model's own weights stay as their file has them.
    Lora(Lora),
    /// Every weight, as f32.
    Everything,
}

/// How a model's graph is built.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphOptions {
    /// Sequences in a step.
    pub batch: usize,
    /// Tokens in a sequence.
    pub seq: usize,
    /// What trains.
    pub trains: Trains,
    /// What the model's matrix products round their operands to; those of adapters are f32.
    /// [`Precision::Int8`] is for weights that do not train.
    pub precision: Precision,
    /// Whether to give the logits of all positions as the output `logits`. They are whole then:
    /// for evaluation of short sequences.
    pub logits: bool,
    /// The layers that are here, of all; `None`: the whole model. What stands before them is
    /// received as `hidden/FIRST` unless that is 0, what they make is sent as `hidden/END` unless
    /// the last is among them: [`Graph::receive`], [`Graph::send`], f32 values of [batch, seq, hidden].
    pub layers: Option<Range<usize>>,
    /// Early exits: how many layers of the model lie before each. There its norm, head and loss
    /// stand too (Elhoushi et al., "LayerSkip", 2024), and the loss is the sum of all.
    pub exits: Vec<usize>,
    /// What activations and their gradients travel as between parts.
    pub wire: DType,
}

impl GraphOptions {
    /// A step of `batch` sequences of `seq` tokens in f32 without logits.
    #[must_use]
    pub fn new(batch: usize, seq: usize, trains: Trains) -> Self {
        Self {
            batch,
            seq,
            trains,
            precision: Precision::F32,
            logits: false,
            layers: None,
            exits: Vec::new(),
            wire: DType::F32,
        }
    }
}

/// A built graph. Its inputs are `tokens` (i32 [batch, seq]), where the first layer is in it, and
/// `targets` (i32 [batch * seq]: the token that follows each; -100 where none counts), where a loss
/// is; its output is `loss`, the mean cross-entropy in nats. With early exits each loss is an output
/// too, `loss/N` after N layers, and so are the logits if there are any: `logits/N`.
#[derive(Clone, Debug)]
pub struct ModelGraph {
    /// The graph.
    pub graph: Graph,
    /// The loss, an f32 scalar; a part without the last layer and without exits has none.
    pub loss: Option<ValueId>,
}

/// Builds the graph of `model`.
///
/// # Errors
/// [`Error::Usage`] for options the model cannot take; [`Error::NotFound`] for a missing weight.
pub(super) fn build(model: &Model, options: &GraphOptions) -> Result<ModelGraph> {
    check(&model.config, options)?;
    let layers = options.layers.clone().unwrap_or(0..model.config.layers);
    let trains = options.trains != Trains::Nothing;
    let mut b = Builder { graph: Graph::new(), model, config: &model.config, options };
    let mut x = if layers.start == 0 {
        let tokens = b.graph.input("tokens", TensorDesc::i32(&[options.batch, options.seq])?)?;
        let table = b.weight(TABLE)?;
        b.call("embedding", &[], &[table, tokens])?
    } else {
        let shape = Shape::new(&[options.batch, options.seq, model.config.hidden])?;
        let desc = TensorDesc::new(options.wire, shape)?;
        b.graph.receive(&format!("hidden/{}", layers.start), desc, trains)?
    };
    let (cos, sin) = b.rope_tables()?;
    let mut loss = None;
    for layer in layers.clone() {
        x = b.block(layer, x, cos, sin)?;
        if layer + 1 == model.config.layers || options.exits.contains(&(layer + 1)) {
            let own = b.exit(layer + 1, x)?;
            loss = Some(match loss {
                None => own,
                Some(sum) => b.call("add", &[], &[sum, own])?,
            });
        }
    }
    if layers.end < model.config.layers {
        b.graph.send(&format!("hidden/{}", layers.end), x, options.wire, trains)?;
    }
    if let Some(loss) = loss {
        b.graph.set_output("loss", loss)?;
    }
    Ok(ModelGraph { graph: b.graph, loss })
}

/// The weight that turns tokens into the first activations.
const TABLE: &str = "model.embed_tokens.weight";

fn check(config: &ModelConfig, options: &GraphOptions) -> Result<()> {
    if options.batch == 0 || options.seq == 0 {
        return Err(Error::Usage("batch and sequence length must be at least 1".into()));
    }
    if options.seq > config.max_positions {
        return Err(Error::Usage(format!(
            "sequences of {} tokens exceed the model's {}; give a shorter --seq",
            options.seq, config.max_positions
        )));
    }
    let range = options.layers.clone().unwrap_or(0..config.layers);
    if range.is_empty() || range.end > config.layers {
        return Err(Error::Usage(format!(
            "layers {} to {} are no part of the model's {}: give a first one below an end of at most \
             that",
            range.start, range.end, config.layers
        )));
    }
    if let Some(exit) = options.exits.iter().find(|&&n| n <= range.start || n > range.end) {
        return Err(Error::Usage(format!(
            "there is no exit after {exit} layers among layers {} to {}",
            range.start, range.end
        )));
    }
    match &options.trains {
        Trains::Lora(lora) => lora.check(),
        Trains::Everything if options.precision == Precision::Int8 => Err(Error::Usage(
            "int8 products are for frozen weights; train adapters, or every weight in bf16".into(),
        )),
        Trains::Nothing | Trains::Everything => Ok(()),
    }
}

struct Builder<'a> {
    graph: Graph,
    model: &'a Model,
    config: &'a ModelConfig,
    options: &'a GraphOptions,
}

impl Builder<'_> {
    /// One transformer block: attention and gated MLP, each after a norm, each added back.
    fn block(&mut self, layer: usize, x: ValueId, cos: ValueId, sin: ValueId) -> Result<ValueId> {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let h = self.norm(&name("input_layernorm.weight"), x)?;
        let h = self.attention(layer, h, cos, sin)?;
        let x = self.call("add", &[], &[x, h])?;
        let h = self.norm(&name("post_attention_layernorm.weight"), x)?;
        let gate = self.project(&name("mlp"), "gate_proj", h)?;
        let up = self.project(&name("mlp"), "up_proj", h)?;
        let h = self.call("silu_mul", &[], &[gate, up])?;
        let h = self.project(&name("mlp"), "down_proj", h)?;
        self.call("add", &[], &[x, h])
    }

    /// The model's norm, head and loss over what so many layers have made.
    fn exit(&mut self, layers: usize, x: ValueId) -> Result<ValueId> {
        let rows = self.options.batch * self.options.seq;
        let targets = match self.graph.find("targets") {
            Some(targets) => targets,
            None => self.graph.input("targets", TensorDesc::i32(&[rows])?)?,
        };
        let x = self.norm("model.norm.weight", x)?;
        let x = self.reshape(x, &[rows, self.config.hidden])?;
        let head =
            self.weight(if self.model.has("lm_head.weight") { "lm_head.weight" } else { TABLE })?;
        let is_last = layers == self.config.layers;
        if self.options.logits {
            let logits = self.linear(x, head, None)?;
            let name = if is_last { "logits".into() } else { format!("logits/{layers}") };
            self.graph.set_output(&name, logits)?;
        }
        let loss = self.call("linear_cross_entropy", &self.precision(), &[x, head, targets])?;
        if !self.options.exits.is_empty() {
            self.graph.set_output(&format!("loss/{layers}"), loss)?;
        }
        Ok(loss)
    }

    fn attention(
        &mut self,
        layer: usize,
        x: ValueId,
        cos: ValueId,
        sin: ValueId,
    ) -> Result<ValueId> {
        let c = self.config;
        let stem = format!("model.layers.{layer}.self_attn");
        let q = self.heads(&stem, "q_proj", c.heads, x)?;
        let k = self.heads(&stem, "k_proj", c.kv_heads, x)?;
        let v = self.heads(&stem, "v_proj", c.kv_heads, x)?;
        let q = self.head_norm(&stem, "q_norm", q)?;
        let k = self.head_norm(&stem, "k_norm", k)?;
        let (q, k) = if c.rotates(layer) {
            (self.rope(q, cos, sin)?, self.rope(k, cos, sin)?)
        } else {
            (q, k)
        };
        let mut attrs = vec![("causal", Attr::Bool(true))];
        if let Some(window) = c.sliding_window.filter(|&w| w < self.options.seq) {
            attrs.push(("window", Attr::from(window)));
        }
        let h = self.call("attention", &attrs, &[q, k, v])?;
        let h = self.reshape(h, &[self.options.batch, self.options.seq, c.heads * c.head_dim])?;
        self.project(&stem, "o_proj", h)
    }

    /// A projection cut into heads: [batch, seq, heads, head_dim].
    fn heads(&mut self, stem: &str, part: &str, heads: usize, x: ValueId) -> Result<ValueId> {
        let y = self.project(stem, part, x)?;
        self.reshape(y, &[self.options.batch, self.options.seq, heads, self.config.head_dim])
    }

    /// The norm over each head that Qwen3 has.
    fn head_norm(&mut self, stem: &str, part: &str, x: ValueId) -> Result<ValueId> {
        let name = format!("{stem}.{part}.weight");
        if self.model.has(&name) { self.norm(&name, x) } else { Ok(x) }
    }

    fn rope(&mut self, x: ValueId, cos: ValueId, sin: ValueId) -> Result<ValueId> {
        let layout = match self.config.rope_layout {
            RopeLayout::Half => "half",
            RopeLayout::Interleaved => "interleaved",
        };
        self.call("rope", &[("layout", layout.into())], &[x, cos, sin])
    }

    /// A linear layer, with its bias where the model has one and its adapter where asked for.
    fn project(&mut self, stem: &str, part: &str, x: ValueId) -> Result<ValueId> {
        let name = format!("{stem}.{part}.weight");
        let weight = self.weight(&name)?;
        let bias = format!("{stem}.{part}.bias");
        let bias = if self.model.has(&bias) { Some(self.weight(&bias)?) } else { None };
        let y = self.linear(x, weight, bias)?;
        match &self.options.trains {
            Trains::Lora(lora) if lora.targets.iter().any(|t| t == part) => {
                lora.apply(&mut self.graph, &name, x, y)
            }
            _ => Ok(y),
        }
    }

    fn linear(&mut self, x: ValueId, weight: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.call("linear", &self.precision(), &inputs)
    }

    fn precision(&self) -> Vec<(&'static str, Attr)> {
        vec![("precision", precision_name(self.options.precision).into())]
    }

    fn norm(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let weight = self.weight(name)?;
        self.call("rms_norm", &[("eps", self.config.rms_eps.into())], &[x, weight])
    }

    fn reshape(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId> {
        self.call("reshape", &[("shape", Attr::from(dims))], &[x])
    }

    /// The parameter called `name`; f32 where it trains.
    fn weight(&mut self, name: &str) -> Result<ValueId> {
        if let Some(known) = self.graph.find(name) {
            return Ok(known);
        }
        let stored = self.model.weight(name)?.desc();
        match self.options.trains {
            Trains::Everything => {
                let desc = TensorDesc::f32(stored.shape())?;
                self.graph.parameter(name, desc, true)
            }
            Trains::Lora(_) | Trains::Nothing => self.graph.parameter(name, stored.clone(), false),
        }
    }

    /// Cosines and sines of position times frequency, [seq, head_dim / 2] each (Su et al. 2021).
    fn rope_tables(&mut self) -> Result<(ValueId, ValueId)> {
        let (seq, half) = (self.options.seq, self.config.head_dim / 2);
        let desc = TensorDesc::f32(&[seq, half])?;
        let angle = |i: usize| {
            let exponent = (i % half) as f64 / half as f64;
            (i / half) as f64 * self.config.rope_theta.powf(-exponent)
        };
        // The length is the caller's to choose, so it must not end the process.
        let table = |f: fn(f64) -> f64| -> Result<Tensor> {
            let mut values = Vec::new();
            values.try_reserve_exact(desc.numel()).map_err(|_| Error::OutOfMemory(desc.bytes()))?;
            values.extend((0..desc.numel()).map(|i| f(angle(i)) as f32));
            Tensor::from_slice(desc.shape(), &values)
        };
        let (cos, sin) = (table(f64::cos)?, table(f64::sin)?);
        Ok((self.graph.constant(cos), self.graph.constant(sin)))
    }

    fn call(&mut self, op: &str, attrs: &[(&str, Attr)], inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.graph.call(op, attrs, inputs)?[0])
    }
}
