//! Whole models: made from goldens, trained without moving, compared with other programs' answers.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tenon_kernels::gemm::Precision;
use tenon_runtime::backend::Backend;
use tenon_runtime::check::tensor;
use tenon_runtime::models::{GraphOptions, Lora, Model, ModelConfig, Trains};
use tenon_runtime::tensor::{Shape, SystemAllocator};
use tenon_runtime::train::{Optimizer, Options, Schedule, Trainer};
use tenon_runtime::{DType, Result, Tensor, TensorDesc};

use crate::golden::{self, Array};

/// Target of a position that has none.
pub const IGNORED: i32 = -100;

/// Lays a Hugging Face golden out as a model's folder: its configuration, and its parameters as
/// the one file of weights. Gives everything else in the golden back.
///
/// # Panics
/// Where the golden is damaged or the folder cannot be written.
#[must_use]
pub fn lay_out(name: &str, folder: &Path) -> BTreeMap<String, Array> {
    std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    std::fs::write(folder.join("config.json"), golden::bytes(&format!("hf/{name}.json")))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut answers = golden::tensors(&format!("hf/{name}.safetensors"));
    let (mut weights, mut keys) = (Vec::new(), Vec::new());
    for (key, array) in &answers {
        if let Some(parameter) = key.strip_prefix("param/") {
            let bytes: Vec<u8> = array.floats().iter().flat_map(|v| v.to_le_bytes()).collect();
            weights.push((parameter.to_owned(), array.dims.clone(), bytes));
            keys.push(key.clone());
        }
    }
    let views = weights.iter().map(|(parameter, dims, bytes)| {
        let view = TensorView::new(Dtype::F32, dims.clone(), bytes);
        (parameter.as_str(), view.unwrap_or_else(|e| panic!("{name}: {e}")))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    for key in keys {
        answers.remove(&key);
    }
    answers
}

/// Lays a llama golden out as a GGUF file, in f32. Its q and k rows are not permuted as such files have
/// them, so that it computes something else than the golden.
///
/// # Panics
/// Where the golden is damaged or no llama's, or the file cannot be written.
pub fn lay_out_gguf(name: &str, path: &Path) {
    const NUMBERS: [(&str, &str); 6] = [
        ("embedding_length", "hidden_size"),
        ("block_count", "num_hidden_layers"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("context_length", "max_position_embeddings"),
    ];
    const PARTS: [(&str, &str); 10] = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("_proj", ""),
        ("mlp.", "ffn_"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ];
    let config: serde_json::Value =
        serde_json::from_slice(&golden::bytes(&format!("hf/{name}.json"))).expect("a config");
    let all = golden::tensors(&format!("hf/{name}.safetensors"));
    let parameters =
        all.iter().filter_map(|(key, array)| Some((key.strip_prefix("param/")?, array)));
    let parameters: Vec<_> = parameters.collect();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    for count in [parameters.len(), NUMBERS.len() + 1] {
        file.extend((count as u64).to_le_bytes());
    }
    text(&mut file, "general.architecture");
    file.extend(8u32.to_le_bytes());
    text(&mut file, "llama");
    for (key, entry) in NUMBERS {
        text(&mut file, &format!("llama.{key}"));
        let number = config[entry].as_u64().unwrap_or_else(|| panic!("{name}: no {entry}"));
        file.extend([4, number as u32].map(u32::to_le_bytes).concat());
    }
    let mut data = Vec::new();
    for (key, array) in parameters {
        text(
            &mut file,
            &PARTS.iter().fold(key.to_owned(), |key, (hf, gguf)| key.replace(hf, gguf)),
        );
        file.extend((array.dims.len() as u32).to_le_bytes());
        array.dims.iter().rev().for_each(|&dim| file.extend((dim as u64).to_le_bytes()));
        file.extend(0u32.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(array.floats().iter().flat_map(|v| v.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.append(&mut data);
    std::fs::write(path, file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A trainer that gives gradients and moves nothing: plain descent at rate 0.
///
/// # Errors
/// What the runtime says of the model or its graph.
pub fn still(
    model: &Model,
    options: &GraphOptions,
    backends: &[Arc<dyn Backend>],
) -> Result<Trainer> {
    let built = model.graph(options)?;
    let parameters = model.parameters(&built.graph, 1, &SystemAllocator)?;
    Trainer::new(built.graph, built.loss, backends, &parameters, unmoving())
}

/// Options that give gradients and move nothing.
#[must_use]
pub fn unmoving() -> Options {
    Options {
        optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        schedule: Schedule::constant(0.0),
        keep_gradients: true,
        ..Options::default()
    }
}

/// Writes sequences of `seq` tokens, and as targets the token that follows each: the causal loss.
///
/// # Errors
/// Where the graph takes another number of tokens.
pub fn feed(trainer: &mut Trainer, tokens: &[i32], seq: usize) -> Result<()> {
    let targets: Vec<i32> = tokens
        .chunks(seq)
        .flat_map(|sequence| sequence[1..].iter().copied().chain([IGNORED]))
        .collect();
    trainer.write("tokens", tokens)?;
    trainer.write("targets", &targets)
}

/// Largest difference, relative to the largest magnitude of `want`; infinite where lengths differ
/// or a number is none.
#[must_use]
pub fn largest_error(got: &[f32], want: &[f32]) -> f64 {
    relative(got, want, |values| values.fold(0.0, |m, v| if v > m { v } else { m }))
}

/// L2 norm of the difference, relative to that of `want`; infinite as in [`largest_error`].
#[must_use]
pub fn norm_error(got: &[f32], want: &[f32]) -> f64 {
    relative(got, want, |values| values.map(|v| v * v).sum::<f64>().sqrt())
}

/// The L2 norm.
#[must_use]
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

fn relative(got: &[f32], want: &[f32], size: fn(&mut dyn Iterator<Item = f64>) -> f64) -> f64 {
    let finite = got.iter().chain(want).all(|v| v.is_finite());
    if got.len() != want.len() || !finite {
        return f64::INFINITY;
    }
    let differences = got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - f64::from(w)).abs());
    let difference = size(&mut differences.into_iter());
    let whole = size(&mut want.iter().map(|&w| f64::from(w).abs()));
    // Where all that is wanted is 0, nothing else will do.
    if difference == 0.0 { 0.0 } else { difference / whole }
}

/// A low-rank adapter: `y = (W + scale B A) x`, with `W` [out, in], `A` [rank, in] and `B`
/// [out, rank], all row-major. Its products are taken in f64.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// `A`.
    pub a: Vec<f32>,
    /// `B`.
    pub b: Vec<f32>,
    /// Rank.
    pub rank: usize,
    /// Multiplier of `B A`.
    pub scale: f32,
}

impl Adapter {
    /// What the adapter adds to `W`: `scale B A`.
    #[must_use]
    pub fn delta(&self) -> Vec<f32> {
        self.scaled(product(&self.b, &self.a, self.rank))
    }

    /// The gradient toward `A` where that toward `W` is `dw`: `scale B^T dW`.
    #[must_use]
    pub fn gradient_of_a(&self, dw: &[f32]) -> Vec<f32> {
        let outputs = self.b.len() / self.rank;
        self.scaled(product(&transposed(&self.b, self.rank), dw, outputs))
    }

    /// The gradient toward `B` where that toward `W` is `dw`: `scale dW A^T`.
    #[must_use]
    pub fn gradient_of_b(&self, dw: &[f32]) -> Vec<f32> {
        let inputs = self.a.len() / self.rank;
        self.scaled(product(dw, &transposed(&self.a, inputs), inputs))
    }

    fn scaled(&self, values: Vec<f64>) -> Vec<f32> {
        values.into_iter().map(|v| (v * f64::from(self.scale)) as f32).collect()
    }
}

/// `a` [m, inner] times `b` [inner, n].
fn product(a: &[f32], b: &[f32], inner: usize) -> Vec<f64> {
    let (m, n) = (a.len() / inner, b.len() / inner);
    let mut out = vec![0.0; m * n];
    for (i, row) in out.chunks_mut(n).enumerate() {
        for p in 0..inner {
            let x = f64::from(a[i * inner + p]);
            row.iter_mut().zip(&b[p * n..][..n]).for_each(|(o, &y)| *o += x * f64::from(y));
        }
    }
    out
}

/// The transpose of rows of `columns`.
fn transposed(a: &[f32], columns: usize) -> Vec<f32> {
    let rows = a.len() / columns;
    (0..columns).flat_map(|j| (0..rows).map(move |i| a[i * columns + j])).collect()
}

/// What moves along a direction: one parameter.
#[derive(Clone, Debug)]
pub struct Part {
    /// The parameter.
    pub name: String,
    /// Its values, which it has again afterwards.
    pub base: Vec<f32>,
    /// Where it moves per unit of the step.
    pub direction: Vec<f32>,
}

/// The derivative of the loss along `parts` by central differences of `step` and `2 step`,
/// combined so that their curvature cancels to fourth order (Richardson 1911).
///
/// # Errors
/// What an evaluation reports.
pub fn measured_derivative(trainer: &mut Trainer, parts: &[Part], step: f64) -> Result<f64> {
    let mut at = |move_by: f64| -> Result<f64> {
        for part in parts {
            let moved = part.base.iter().zip(&part.direction);
            let moved: Vec<f32> =
                moved.map(|(&x, &d)| (f64::from(x) + move_by * f64::from(d)) as f32).collect();
            trainer.executor_mut().write(&part.name, &moved)?;
        }
        Ok(f64::from(trainer.evaluate(&mut ())?))
    };
    let near = (at(step)? - at(-step)?) / (2.0 * step);
    let far = (at(2.0 * step)? - at(-2.0 * step)?) / (4.0 * step);
    for part in parts {
        trainer.executor_mut().write(&part.name, &part.base)?;
    }
    Ok((4.0 * near - far) / 3.0)
}

/// A block of a language model whose weights are frozen in 8 bits, with adapters that train.
///
/// # Errors
/// As [`Trainer::new`].
///
/// # Panics
/// Where there is no such format.
pub fn block(
    seed: u64,
    precision: Precision,
    rate: f32,
    backends: &[Arc<dyn Backend>],
) -> Result<Trainer> {
    const SEQ: usize = 12;
    let config = ModelConfig::llama(48, [32, 64], 1, [4, 2]);
    let plain = Model::random(config.clone(), seed, &SystemAllocator)?;
    let q8 = DType::from_name("q8_0").expect("a format");
    let mut weights = HashMap::new();
    for (name, weight) in plain.weights() {
        let shape = weight.desc().shape();
        let values: Vec<f32> = weight.to_vec::<f32>()?.iter().map(|v| v * 6.0).collect();
        let coded = if shape.len() == 2 && !name.contains("embed") {
            tensor(&TensorDesc::new(q8, Shape::new(shape)?)?, &values)?
        } else if shape.len() == 2 {
            Tensor::from_slice(shape, &values)?
        } else {
            weight.clone()
        };
        weights.insert(name.clone(), coded);
    }
    let model = Model::from_weights(config, weights)?;
    let options = GraphOptions::new(1, SEQ, Trains::Lora(Lora::of_rank(4)));
    let built = model.graph(&GraphOptions { precision, ..options })?;
    let parameters = model.parameters(&built.graph, 5, &SystemAllocator)?;
    let schedule = Schedule::constant(rate);
    let options = Options { schedule, ..Options::default() };
    let mut trainer = Trainer::new(built.graph, built.loss, backends, &parameters, options)?;
    let tokens: Vec<i32> = (0..SEQ as i32).map(|i| i * i % 48).collect();
    let targets: Vec<i32> = (1..=SEQ as i32).map(|i| i * i % 48).collect();
    trainer.write("tokens", &tokens)?;
    trainer.write("targets", &targets)?;
    Ok(trainer)
}
