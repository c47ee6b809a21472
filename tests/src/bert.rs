//! BERT (Devlin et al. 2018, arXiv:1810.04805) with its head for masked words, as Hugging Face has it:
//! a model that the runtime does not know by name, from the ops that any caller has.

use std::collections::{BTreeMap, HashMap};

use tenon_runtime::graph::{Graph, ValueId};
use tenon_runtime::ops::Attr;
use tenon_runtime::{Result, Tensor, TensorDesc};

use crate::golden::Array;

/// A graph that trains every parameter, with outputs `logits` and `loss`, the mean cross-entropy of
/// input `targets` (i32 [batch * seq]) given input `tokens` (i32 [batch, seq]); its parameters are those
/// of `golden`.
#[derive(Debug)]
pub struct Bert {
    /// The graph.
    pub graph: Graph,
    /// Its loss.
    pub loss: ValueId,
    /// Its parameters by name.
    pub tensors: HashMap<String, Tensor>,
}

/// Builds it as a golden's configuration and parameters say.
///
/// # Errors
/// What the runtime says of the graph.
///
/// # Panics
/// Where the golden is damaged.
pub fn build(
    config: &serde_json::Value,
    golden: &BTreeMap<String, Array>,
    [batch, seq]: [usize; 2],
) -> Result<Bert> {
    let number = |name: &str| {
        let number = config[name].as_u64().unwrap_or_else(|| panic!("bert: no {name}"));
        usize::try_from(number).unwrap_or_else(|e| panic!("bert: {name}: {e}"))
    };
    let (hidden, heads) = (number("hidden_size"), number("num_attention_heads"));
    let eps = config["layer_norm_eps"].as_f64().unwrap_or_else(|| panic!("bert: no eps"));
    let mut b = Builder { graph: Graph::new(), golden, tensors: HashMap::new(), eps };
    let tokens = b.graph.input("tokens", TensorDesc::i32(&[batch, seq])?)?;
    let targets = b.graph.input("targets", TensorDesc::i32(&[batch * seq])?)?;
    let positions: Vec<i32> = (0..seq as i32).collect();
    let positions = b.graph.constant(Tensor::from_slice(&[seq], &positions)?);
    let first = b.graph.constant(Tensor::from_slice(&[1], &[0i32])?);
    let table = "bert.embeddings.word_embeddings.weight";
    let words = b.rows(table, tokens)?;
    let places = b.rows("bert.embeddings.position_embeddings.weight", positions)?;
    let kinds = b.rows("bert.embeddings.token_type_embeddings.weight", first)?;
    let x = b.call("add", &[], &[words, kinds])?;
    let x = b.call("add", &[], &[x, places])?;
    let mut x = b.norm("bert.embeddings.LayerNorm", x)?;
    let cut = [batch, seq, heads, hidden / heads];
    for layer in 0..number("num_hidden_layers") {
        let name = |part: &str| format!("bert.encoder.layer.{layer}.{part}");
        let mut projected = Vec::new();
        for part in ["query", "key", "value"] {
            let y = b.linear(&name(&format!("attention.self.{part}")), x)?;
            projected.push(b.reshape(y, &cut)?);
        }
        let h = b.call("attention", &[], &projected)?;
        let h = b.reshape(h, &[batch, seq, hidden])?;
        let h = b.linear(&name("attention.output.dense"), h)?;
        let h = b.call("add", &[], &[h, x])?;
        let middle = b.norm(&name("attention.output.LayerNorm"), h)?;
        let h = b.linear(&name("intermediate.dense"), middle)?;
        let h = b.call("gelu", &[], &[h])?;
        let h = b.linear(&name("output.dense"), h)?;
        let h = b.call("add", &[], &[h, middle])?;
        x = b.norm(&name("output.LayerNorm"), h)?;
    }
    let h = b.linear("cls.predictions.transform.dense", x)?;
    let h = b.call("gelu", &[], &[h])?;
    let h = b.norm("cls.predictions.transform.LayerNorm", h)?;
    let h = b.reshape(h, &[batch * seq, hidden])?;
    // The head is the table of words.
    let (table, bias) = (b.parameter(table)?, b.parameter("cls.predictions.bias")?);
    let logits = b.call("linear", &[], &[h, table, bias])?;
    b.graph.set_output("logits", logits)?;
    let loss = b.call("cross_entropy", &[], &[logits, targets])?;
    b.graph.set_output("loss", loss)?;
    Ok(Bert { graph: b.graph, loss, tensors: b.tensors })
}

struct Builder<'a> {
    graph: Graph,
    golden: &'a BTreeMap<String, Array>,
    tensors: HashMap<String, Tensor>,
    eps: f64,
}

impl Builder<'_> {
    fn call(&mut self, op: &str, attrs: &[(&str, Attr)], inputs: &[ValueId]) -> Result<ValueId> {
        Ok(self.graph.call(op, attrs, inputs)?[0])
    }

    fn parameter(&mut self, name: &str) -> Result<ValueId> {
        if let Some(known) = self.graph.find(name) {
            return Ok(known);
        }
        let array = &self.golden[&format!("param/{name}")];
        self.tensors.insert(name.to_owned(), Tensor::from_slice(&array.dims, &array.floats())?);
        self.graph.parameter(name, TensorDesc::f32(&array.dims)?, true)
    }

    fn rows(&mut self, table: &str, ids: ValueId) -> Result<ValueId> {
        let table = self.parameter(table)?;
        self.call("embedding", &[], &[table, ids])
    }

    fn linear(&mut self, stem: &str, x: ValueId) -> Result<ValueId> {
        let weight = self.parameter(&format!("{stem}.weight"))?;
        let bias = self.parameter(&format!("{stem}.bias"))?;
        self.call("linear", &[], &[x, weight, bias])
    }

    fn norm(&mut self, stem: &str, x: ValueId) -> Result<ValueId> {
        let weight = self.parameter(&format!("{stem}.weight"))?;
        let bias = self.parameter(&format!("{stem}.bias"))?;
        let eps = [("eps", Attr::from(self.eps))];
        self.call("layer_norm", &eps, &[x, weight, bias])
    }

    fn reshape(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId> {
        self.call("reshape", &[("shape", Attr::from(dims))], &[x])
    }
}
