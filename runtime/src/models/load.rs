//! Models from files, or from nothing.

use std::collections::HashMap;
use std::path::Path;

use tenon_kernels::Isa;
use tenon_kernels::random::Philox;

use super::config::ModelConfig;
use super::llama::{self, GraphOptions, ModelGraph};
use crate::error::{Error, Result};
use crate::graph::{Graph, Source};
use crate::io::gguf::Gguf;
use crate::io::safetensors::SafeTensors;
use crate::io::text;
use crate::tensor::{Allocator, DType, Tensor, TensorDesc};

/// A model: its configuration, and its weights by Hugging Face's names.
///
/// Weights of a file are mapped, not read: they cost memory only as they are touched, and the
/// system may take them back. The q and k rows of llama-architecture GGUF files are permuted; they
/// stay as they are, and the rotary layout follows.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its configuration.
    pub config: ModelConfig,
    weights: HashMap<String, Tensor>,
}

impl Model {
    /// Loads a `.gguf` file, or a Hugging Face folder with `config.json` and safetensors.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`]; [`Error::NotFound`] for a weight the file lacks.
    pub fn load(path: &Path) -> Result<Self> {
        let model = if path.is_dir() { Self::from_hf(path)? } else { Self::from_gguf(path)? };
        model.check(path)?;
        Ok(model)
    }

    fn from_gguf(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let config = ModelConfig::from_gguf(&gguf)?;
        let mut weights = HashMap::new();
        for tensor in gguf.tensors() {
            if let Some(name) = hf_name(&tensor.name) {
                weights.insert(name, tensor.tensor()?);
            }
        }
        Ok(Self { config, weights })
    }

    fn from_hf(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let json = text(&path)?;
        let config = ModelConfig::from_hf(&json, &path)?;

        let file = SafeTensors::open(folder)?;
        let weights = file
            .tensors()
            .iter()
            .map(|t| Ok((t.name.clone(), t.tensor()?)))
            .collect::<Result<_>>()?;
        Ok(Self { config, weights })
    }

    /// A model of the shapes that a file tells, with zeros for weights: a GGUF file of which only
    /// what comes before the data must be there, or a `config.json` (or a folder with one), for f32.
    ///
    /// # Errors
    /// As [`Model::load`]; [`Error::OutOfMemory`].
    pub fn empty(path: &Path, allocator: &dyn Allocator) -> Result<Self> {
        let is_config = path.extension().is_some_and(|ending| ending == "json");
        let (config, weights) = if path.is_dir() || is_config {
            let path = if is_config { path.to_owned() } else { path.join("config.json") };
            let json = text(&path)?;
            let config = ModelConfig::from_hf(&json, &path)?;
            check_layers(&config, &path)?;
            let mut weights = expected(&config);
            weights.extend(config.optional_weights(&json, &path)?);
            let f32 = |(name, dims): (String, Vec<usize>)| Ok((name, TensorDesc::f32(&dims)?));
            (config, weights.into_iter().map(f32).collect::<Result<Vec<_>>>()?)
        } else {
            let gguf = Gguf::open_header(path)?;
            let config = ModelConfig::from_gguf(&gguf)?;
            let name = |t: &crate::io::MappedTensor| Some((hf_name(&t.name)?, t.desc.clone()));
            (config, gguf.tensors().iter().filter_map(name).collect())
        };
        let zeros = |(name, desc)| Ok((name, Tensor::zeros(desc, allocator)?));
        let weights = weights.into_iter().map(zeros).collect::<Result<_>>()?;
        let model = Self { config, weights };
        model.check(path)?;
        Ok(model)
    }

    /// A model of given weights.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a weight that is missing; [`Error::Tensor`] for a wrong shape.
    pub fn from_weights(config: ModelConfig, weights: HashMap<String, Tensor>) -> Result<Self> {
        let model = Self { config, weights };
        model.check(Path::new("model"))?;
        Ok(model)
    }

    /// A model with tied embeddings and fresh f32 weights: normal with deviation 0.02, norms 1.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Tensor`] for sizes that cannot be.
    pub fn random(config: ModelConfig, seed: u64, allocator: &dyn Allocator) -> Result<Self> {
        let mut weights = HashMap::new();
        let expected = expected(&config);
        let descs =
            expected.iter().map(|(_, dims)| TensorDesc::f32(dims)).collect::<Result<_>>()?;
        let tensors = Tensor::zeros_together(descs, allocator)?;
        for (stream, ((name, dims), tensor)) in expected.into_iter().zip(tensors).enumerate() {
            fill(&tensor, |values| {
                if dims.len() > 1 {
                    Philox::new(seed, stream as u64).normals(Isa::PORTABLE, 0, values);
                    values.iter_mut().for_each(|v| *v *= 0.02);
                } else {
                    values.fill(1.0);
                }
                Ok(())
            })?;
            weights.insert(name, tensor);
        }
        Ok(Self { config, weights })
    }

    /// Whether there is a weight called `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }

    /// A weight.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn weight(&self, name: &str) -> Result<&Tensor> {
        self.weights.get(name).ok_or_else(|| Error::NotFound {
            kind: "weight in the model",
            name: name.to_owned(),
            known: Vec::new(),
        })
    }

    /// All weights by name.
    #[must_use]
    pub fn weights(&self) -> &HashMap<String, Tensor> {
        &self.weights
    }

    /// Builds the graph of a step.
    ///
    /// # Errors
    /// [`Error::Usage`] for options the model cannot take.
    pub fn graph(&self, options: &GraphOptions) -> Result<ModelGraph> {
        llama::build(self, options)
    }

    /// The parameters that `graph`, built from this model, starts with: the model's weights as the
    /// file has them, or as f32 where they train; adapters' A random in `seed`, B zero, so that
    /// training starts from the model itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a parameter that is neither; [`Error::OutOfMemory`].
    pub fn parameters(
        &self,
        graph: &Graph,
        seed: u64,
        allocator: &dyn Allocator,
    ) -> Result<HashMap<String, Tensor>> {
        let mut parameters: HashMap<String, Tensor> = HashMap::new();
        let mut stream = (1 << 32) + adapters_before(graph);
        let (mut own, mut descs) = (Vec::new(), Vec::new());
        for value in graph.values() {
            let (Source::Parameter { trainable }, Some(name)) = (&value.source, &value.name) else {
                continue;
            };
            let (start, desc) = if name.ends_with(".lora_A.weight") {
                stream += 1;
                (Start::Random(Philox::new(seed, stream)), value.desc.clone())
            } else if name.ends_with(".lora_B.weight") {
                (Start::Zeros, value.desc.clone())
            } else if *trainable {
                let weight = self.weight(name)?;
                (Start::Weight(weight), TensorDesc::f32(weight.desc().shape())?)
            } else {
                parameters.insert(name.clone(), self.weight(name)?.clone());
                continue;
            };
            own.push((name, start));
            descs.push(desc);
        }
        for ((name, start), tensor) in
            own.into_iter().zip(Tensor::zeros_together(descs, allocator)?)
        {
            start.fill(&tensor)?;
            parameters.insert(name.clone(), tensor);
        }
        Ok(parameters)
    }

    /// Refuses weights that are missing or not of the configuration's shape.
    fn check(&self, path: &Path) -> Result<()> {
        // Before a list of what they all need is made: the number is only what a file claims.
        if self.config.layers > self.weights.len() {
            let (layers, found) = (self.config.layers, self.weights.len());
            return Err(Error::format(path, format!("has {found} weights for {layers} layers")));
        }
        for (name, dims) in expected(&self.config) {
            let weight = self
                .weights
                .get(&name)
                .ok_or_else(|| Error::format(path, format!("has no weight `{name}`")))?;
            if weight.desc().shape()[..] != dims {
                let why = format!("`{name}` is {}, expected {dims:?}", weight.desc());
                return Err(Error::format(path, why));
            }
            if weight.desc().dtype().format().is_none() {
                return Err(Error::format(path, format!("`{name}` is {}", weight.desc())));
            }
        }
        Ok(())
    }
}

/// Refuses more layers than any model has: each takes memory, whatever its size.
fn check_layers(config: &ModelConfig, path: &Path) -> Result<()> {
    const MOST: usize = 1 << 12;
    match config.layers {
        layers if layers > MOST => Err(Error::format(path, format!("{layers} layers cannot be"))),
        _ => Ok(()),
    }
}

/// How many adapters the layers have that a part of a model leaves out before its own: with them,
/// an adapter starts with the same numbers in a part as in the whole. Every layer has as many.
fn adapters_before(graph: &Graph) -> u64 {
    let layer = |name: &str| -> Option<u64> {
        let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        part.ends_with(".lora_A.weight").then(|| layer.parse().ok())?
    };
    let names = graph.values().iter().filter_map(|v| layer(v.name.as_deref()?));
    let layers: Vec<u64> = names.collect();
    let Some(&first) = layers.first() else { return 0 };
    first * layers.iter().filter(|&&l| l == first).count() as u64
}

/// Weights every model has, with their shapes. Biases, head norms and an untied head come on top.
fn expected(c: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![c.vocab, c.hidden])];
    let (queries, keys) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    for layer in 0..c.layers {
        let parts: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[c.hidden]),
            ("self_attn.q_proj", &[queries, c.hidden]),
            ("self_attn.k_proj", &[keys, c.hidden]),
            ("self_attn.v_proj", &[keys, c.hidden]),
            ("self_attn.o_proj", &[c.hidden, queries]),
            ("post_attention_layernorm", &[c.hidden]),
            ("mlp.gate_proj", &[c.intermediate, c.hidden]),
            ("mlp.up_proj", &[c.intermediate, c.hidden]),
            ("mlp.down_proj", &[c.hidden, c.intermediate]),
        ];
        all.extend(
            parts
                .map(|(part, dims)| (format!("model.layers.{layer}.{part}.weight"), dims.to_vec())),
        );
    }
    all.push(("model.norm.weight".to_owned(), vec![c.hidden]));
    all
}

/// The name of a GGUF tensor as Hugging Face has it; `None` for those a llama does not use.
fn hf_name(gguf: &str) -> Option<String> {
    let (stem, kind) = gguf.rsplit_once('.')?;
    let part = match stem {
        "token_embd" => "model.embed_tokens",
        "output_norm" => "model.norm",
        "output" => "lm_head",
        _ => {
            let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
            let part = match part {
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "ffn_norm" => "post_attention_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            };
            return Some(format!("model.layers.{layer}.{part}.{kind}"));
        }
    };
    Some(format!("{part}.{kind}"))
}

/// What a parameter in memory of its own starts with.
enum Start<'a> {
    /// An adapter's A: uniform in +-1/sqrt(inputs) (He et al. 2015 with slope sqrt(5), as PEFT has it).
    Random(Philox),
    /// An adapter's B.
    Zeros,
    /// A weight of the file, as f32.
    Weight(&'a Tensor),
}

impl Start<'_> {
    /// Writes it to fresh f32.
    fn fill(self, tensor: &Tensor) -> Result<()> {
        match self {
            Self::Zeros => Ok(()),
            Self::Random(random) => {
                let bound = 1.0 / (tensor.desc().cols() as f32).sqrt();
                fill(tensor, |to| {
                    for (i, to) in to.iter_mut().enumerate() {
                        *to = (2.0 * random.uniform(i as u64) - 1.0) * bound;
                    }
                    Ok(())
                })
            }
            Self::Weight(weight) => {
                fill(tensor, |to| weight.decode(to))?;
                // What was read of a file is not needed twice.
                weight.storage().release(0..usize::MAX);
                Ok(())
            }
        }
    }
}

/// Lets `write` write a tensor of f32 in place, which is new, so that nobody else knows it.
fn fill(tensor: &Tensor, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    if tensor.desc().dtype() != DType::F32 {
        return Err(Error::Tensor(format!("a parameter that starts as f32 is {}", tensor.desc())));
    }
    let (to, len) = (tensor.storage().host().cast(), tensor.desc().numel());
    // SAFETY: new memory for so many f32, aligned, which nobody else knows.
    write(unsafe { std::slice::from_raw_parts_mut(to, len) })
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;
    use std::sync::Arc;

    use super::*;

    /// Has no memory, and nothing to take back.
    struct Empty;

    impl Allocator for Empty {
        fn allocate(&self, _: usize) -> Option<NonNull<u8>> {
            None
        }

        unsafe fn release(&self, _: NonNull<u8>, _: usize) {}

        fn handle(&self) -> Arc<dyn Allocator> {
            Arc::new(Self)
        }
    }

    /// 2^38 bytes, by the widest model and the largest rank that are taken.
    #[test]
    fn an_adapter_that_no_memory_holds_is_an_error() {
        let desc = TensorDesc::f32(&[1 << 12, 1 << 24]).unwrap();
        let error = Tensor::zeros_together(vec![desc], &Empty).err().unwrap();
        assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
    }
}
