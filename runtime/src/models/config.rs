//! What a llama-family model looks like, from GGUF metadata or a Hugging Face `config.json`.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::io::gguf::Gguf;

/// How rotary pairs lie in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Pairs `(i, i + d/2)`: Hugging Face's order.
    Half,
    /// Pairs `(2i, 2i + 1)`: the order of llama-architecture GGUF files, whose q and k rows were
    /// permuted to it.
    Interleaved,
}

/// A llama-family architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `llama`, `mistral`, `qwen2`, `qwen3`, `smollm3`.
    pub architecture: String,
    /// Tokens.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated MLP.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Epsilon of the norms.
    pub rms_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// See [`RopeLayout`].
    pub rope_layout: RopeLayout,
    /// Whether layer `i` rotates q and k (SmolLM3 leaves some out); empty means all do.
    pub rope_layers: Vec<bool>,
    /// Attention window, where the model slides one.
    pub sliding_window: Option<usize>,
    /// Longest sequence the model was made for.
    pub max_positions: usize,
}

/// Architectures whose graph [`super::llama`] builds.
const KNOWN: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "smollm3"];

impl ModelConfig {
    /// A plain llama of so many blocks: every head is a part of the width, no biases, no window.
    /// `heads` are those of queries, then those of keys and values.
    #[must_use]
    pub fn llama(
        vocab: usize,
        [hidden, intermediate]: [usize; 2],
        layers: usize,
        [heads, kv_heads]: [usize; 2],
    ) -> Self {
        Self {
            architecture: "llama".to_owned(),
            vocab,
            hidden,
            intermediate,
            layers,
            heads,
            kv_heads,
            head_dim: hidden / heads.max(1),
            rms_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_layout: RopeLayout::Half,
            rope_layers: Vec::new(),
            sliding_window: None,
            max_positions: 4096,
        }
    }

    /// Reads GGUF metadata.
    ///
    /// # Errors
    /// [`Error::Format`] for an unknown architecture or missing, absurd metadata.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let path = gguf.path();
        let architecture = gguf
            .str("general.architecture")
            .ok_or_else(|| Error::format(path, "no `general.architecture` in its metadata"))?
            .to_owned();
        check_architecture(path, &architecture)?;
        let key = |name: &str| format!("{architecture}.{name}");
        let size = |name: &str| {
            gguf.usize(&key(name)).ok_or_else(|| {
                Error::format(path, format!("no usable `{}` in its metadata", key(name)))
            })
        };
        let heads = size("attention.head_count")?;
        let hidden = size("embedding_length")?;
        let layers = size("block_count")?;
        let vocab = gguf
            .tensor("token_embd.weight")
            .and_then(|t| t.desc.shape().first().copied())
            .ok_or_else(|| Error::format(path, "has no `token_embd.weight`"))?;
        let no_rope_interval = if architecture == "smollm3" { 4 } else { 0 };
        let config = Self {
            vocab,
            hidden,
            intermediate: size("feed_forward_length")?,
            layers,
            heads,
            kv_heads: gguf.usize(&key("attention.head_count_kv")).unwrap_or(heads),
            head_dim: gguf.usize(&key("attention.key_length")).unwrap_or(hidden / heads.max(1)),
            rms_eps: gguf.f64(&key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-5) as f32,
            rope_theta: gguf.f64(&key("rope.freq_base")).unwrap_or(10_000.0),
            rope_layout: if architecture.starts_with("qwen") {
                RopeLayout::Half
            } else {
                RopeLayout::Interleaved
            },
            rope_layers: rope_layers(layers, no_rope_interval),
            sliding_window: gguf.usize(&key("attention.sliding_window")).filter(|&w| w > 0),
            max_positions: gguf.usize(&key("context_length")).unwrap_or(usize::MAX),
            architecture,
        };
        config.check(path)?;
        Ok(config)
    }

    /// Reads the text of a Hugging Face `config.json`; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::Format`] for an unknown architecture or missing, absurd entries.
    pub fn from_hf(json: &str, path: &Path) -> Result<Self> {
        let hf: HfConfig =
            serde_json::from_str(json).map_err(|e| Error::format(path, e.to_string()))?;
        check_architecture(path, &hf.model_type)?;
        if let Some(kind) = hf.rope_type().filter(|k| *k != "default") {
            return Err(Error::format(
                path,
                format!("rope scaling `{kind}` is not supported; only `default` is"),
            ));
        }
        let rope_layers = match hf.no_rope_layers {
            Some(ref flags) => flags.iter().map(|&f| f != 0).collect(),
            None => rope_layers(hf.num_hidden_layers, hf.no_rope_layer_interval.unwrap_or(0)),
        };
        let heads = hf.num_attention_heads;
        let config = Self {
            vocab: hf.vocab_size,
            hidden: hf.hidden_size,
            intermediate: hf.intermediate_size,
            layers: hf.num_hidden_layers,
            heads,
            kv_heads: hf.num_key_value_heads.unwrap_or(heads),
            head_dim: hf.head_dim.unwrap_or(hf.hidden_size / heads.max(1)),
            rms_eps: hf.rms_norm_eps,
            rope_theta: hf.theta(),
            rope_layout: RopeLayout::Half,
            rope_layers,
            sliding_window: hf.sliding_window.filter(|_| hf.use_sliding_window.unwrap_or(true)),
            max_positions: hf.max_position_embeddings.unwrap_or(usize::MAX),
            architecture: hf.model_type,
        };
        config.check(path)?;
        Ok(config)
    }

    /// Weights that not every model has, with their shapes, by the text of its `config.json`: a
    /// head of its own, biases, norms over heads.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub(super) fn optional_weights(
        &self,
        json: &str,
        path: &Path,
    ) -> Result<Vec<(String, Vec<usize>)>> {
        let hf: HfOptions =
            serde_json::from_str(json).map_err(|e| Error::format(path, e.to_string()))?;
        let mut all = Vec::new();
        // What transformers takes where a file does not say.
        if !hf.tie_word_embeddings.unwrap_or(self.architecture == "smollm3") {
            all.push(("lm_head.weight".to_owned(), vec![self.vocab, self.hidden]));
        }
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (inputs, outputs) = match self.architecture.as_str() {
            "qwen2" => (true, false),
            _ => (hf.attention_bias, hf.attention_bias),
        };
        let is_qwen3 = self.architecture == "qwen3";
        let parts = [
            (inputs, "self_attn.q_proj.bias", queries),
            (inputs, "self_attn.k_proj.bias", keys),
            (inputs, "self_attn.v_proj.bias", keys),
            (outputs, "self_attn.o_proj.bias", self.hidden),
            (hf.mlp_bias, "mlp.gate_proj.bias", self.intermediate),
            (hf.mlp_bias, "mlp.up_proj.bias", self.intermediate),
            (hf.mlp_bias, "mlp.down_proj.bias", self.hidden),
            (is_qwen3, "self_attn.q_norm.weight", self.head_dim),
            (is_qwen3, "self_attn.k_norm.weight", self.head_dim),
        ];
        for layer in 0..self.layers {
            let present = parts.iter().filter(|(present, ..)| *present);
            all.extend(
                present.map(|(_, part, n)| (format!("model.layers.{layer}.{part}"), vec![*n])),
            );
        }
        Ok(all)
    }

    /// Whether layer `layer` rotates its queries and keys.
    #[must_use]
    pub fn rotates(&self, layer: usize) -> bool {
        self.rope_layers.get(layer).copied().unwrap_or(true)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let fail = |why: String| Err(Error::format(path, why));
        let sizes = [
            ("hidden size", self.hidden),
            ("intermediate size", self.intermediate),
            ("layer count", self.layers),
            ("head count", self.heads),
            ("key-value head count", self.kv_heads),
            ("head size", self.head_dim),
            ("vocabulary", self.vocab),
        ];
        if let Some((what, value)) = sizes.iter().find(|(_, v)| *v == 0 || *v > 1 << 24) {
            return fail(format!("{what} of {value} cannot be"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) || !self.head_dim.is_multiple_of(2) {
            return fail(format!(
                "{} heads of {} over {} key-value heads cannot be",
                self.heads, self.head_dim, self.kv_heads
            ));
        }
        let sane = self.rms_eps.is_finite() && self.rms_eps >= 0.0 && self.rope_theta > 0.0;
        if !sane || !self.rope_theta.is_finite() {
            return fail("its norm epsilon or rope base is not a positive number".to_owned());
        }
        Ok(())
    }
}

fn check_architecture(path: &Path, architecture: &str) -> Result<()> {
    if KNOWN.contains(&architecture) {
        return Ok(());
    }
    Err(Error::format(
        path,
        format!("architecture `{architecture}` is not supported; {} are", KNOWN.join(", ")),
    ))
}

/// Every `interval`-th layer does not rotate; 0 means all do.
fn rope_layers(layers: usize, interval: usize) -> Vec<bool> {
    if interval == 0 {
        return Vec::new();
    }
    (0..layers.min(1 << 16)).map(|i| (i + 1) % interval != 0).collect()
}

/// The entries of `config.json` that matter here.
#[derive(Deserialize)]
struct HfConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_eps")]
    rms_norm_eps: f32,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<RopeParameters>,
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_position_embeddings: Option<usize>,
}

/// Those that tell which weights there are.
#[derive(Deserialize)]
struct HfOptions {
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
}

fn default_eps() -> f32 {
    1e-6
}

impl HfConfig {
    fn theta(&self) -> f64 {
        let nested = self.rope_parameters.as_ref().and_then(|p| p.rope_theta);
        self.rope_theta.or(nested).unwrap_or(10_000.0)
    }

    fn rope_type(&self) -> Option<&str> {
        [&self.rope_parameters, &self.rope_scaling]
            .into_iter()
            .flatten()
            .find_map(|p| p.rope_type.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{"model_type": "llama", "vocab_size": 64, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4"#;

    fn read(rest: &str) -> Result<ModelConfig> {
        ModelConfig::from_hf(&format!("{BASE}{rest}}}"), Path::new("config.json"))
    }

    #[test]
    fn reads_both_places_of_theta() {
        assert_eq!(read("").unwrap().rope_theta, 10_000.0);
        assert_eq!(read(r#", "rope_theta": 5.0"#).unwrap().rope_theta, 5.0);
        let nested = r#", "rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}"#;
        assert_eq!(read(nested).unwrap().rope_theta, 7.0);
    }

    #[test]
    fn refuses_what_it_would_compute_wrongly() {
        let scaled = r#", "rope_scaling": {"type": "yarn"}"#;
        assert!(read(scaled).unwrap_err().to_string().contains("yarn"));
        assert!(read(r#", "num_key_value_heads": 3"#).is_err());
        assert!(read(r#", "head_dim": 0"#).is_err());
        let other = BASE.replace("llama", "mamba");
        let error = ModelConfig::from_hf(&format!("{other}}}"), Path::new("config.json"));
        assert!(error.unwrap_err().to_string().contains("`mamba` is not supported"));
    }
}
