//! Hugging Face folders: `config.json`, safetensors files, an index.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tenon_fuzz::reach::{expect, reached};
use tenon_fuzz::{Chosen, SIZES, Unstructured, damage, model, rarely, scratch};
use tenon_runtime::io::safetensors::SafeTensors;
use tenon_runtime::models::Model;

fuzz_target!(
    init: expect(&["opened", "loaded", "planned", "stepped", "indexed"]),
    |data: &[u8]| {
        let _ = go(&mut Unstructured::new(data));
    }
);

/// A model in the making: its configuration, and its tensors by name, type and shape.
struct Folder {
    config: Value,
    tensors: Vec<(String, &'static str, Vec<u64>)>,
}

const TYPES: &[(&str, u64)] =
    &[("F32", 4), ("F16", 2), ("BF16", 2), ("I8", 1), ("U8", 1), ("I32", 4), ("I64", 8), ("F4", 0)];

impl Folder {
    fn chosen(u: &mut Unstructured<'_>) -> Chosen<Self> {
        let kind = *u.choose(&["llama", "qwen2", "qwen3", "smollm3", "mistral"])?;
        let (layers, width, wide) = (u.int_in_range(1..=2)?, *u.choose(&[8u64, 32])?, 16u64);
        let (heads, vocab) = (*u.choose(&[1u64, 2, 4])?, u.int_in_range(2..=20)?);
        let head = width / heads;
        let dtype = u.choose(&TYPES[..3])?.0;
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), dtype, vec![vocab, width]),
            ("model.norm.weight".to_owned(), "F32", vec![width]),
        ];
        if rarely(u, 2)? {
            tensors.push(("lm_head.weight".to_owned(), dtype, vec![vocab, width]));
        }
        for layer in 0..layers {
            for (part, dims) in [
                ("input_layernorm.weight", &[width][..]),
                ("self_attn.q_proj.weight", &[heads * head, width]),
                ("self_attn.k_proj.weight", &[heads * head, width]),
                ("self_attn.v_proj.weight", &[heads * head, width]),
                ("self_attn.o_proj.weight", &[width, heads * head]),
                ("post_attention_layernorm.weight", &[width]),
                ("mlp.gate_proj.weight", &[wide, width]),
                ("mlp.up_proj.weight", &[wide, width]),
                ("mlp.down_proj.weight", &[width, wide]),
                ("self_attn.q_proj.bias", &[heads * head]),
                ("self_attn.q_norm.weight", &[head]),
            ] {
                let is_optional = part.ends_with("bias") || part.contains("q_norm");
                if !is_optional || rarely(u, 4)? {
                    tensors.push((format!("model.layers.{layer}.{part}"), dtype, dims.to_vec()));
                }
            }
        }
        let config = json!({
            "model_type": kind, "vocab_size": vocab, "hidden_size": width,
            "intermediate_size": wide, "num_hidden_layers": layers, "num_attention_heads": heads,
            "rope_theta": 10_000.0, "max_position_embeddings": 64, "tie_word_embeddings": true,
        });
        let mut folder = Self { config, tensors };
        for _ in 0..u.int_in_range(0..=2)? {
            folder.change(u)?;
        }
        Ok(folder)
    }

    fn change(&mut self, u: &mut Unstructured<'_>) -> Chosen<()> {
        let at = u.choose_index(self.tensors.len().max(1))?;
        match (u.int_in_range(0..=6)?, self.tensors.get_mut(at)) {
            (0, Some(_)) => drop(self.tensors.remove(at)),
            (1, Some((_, dtype, _))) => *dtype = u.choose(TYPES)?.0,
            (2, Some((.., dims))) => {
                if let Some(dim) = dims.first_mut() {
                    *dim = *u.choose(SIZES)?;
                }
            }
            (3, Some((.., dims))) => dims.push(*u.choose(SIZES)?),
            (4, Some((name, ..))) => *name = u.arbitrary::<&str>()?.to_owned(),
            _ => {
                let key = *u.choose(&[
                    "vocab_size",
                    "hidden_size",
                    "num_hidden_layers",
                    "num_attention_heads",
                    "num_key_value_heads",
                    "head_dim",
                    "rms_norm_eps",
                    "rope_theta",
                    "model_type",
                    "sliding_window",
                    "no_rope_layers",
                    "no_rope_layer_interval",
                    "rope_scaling",
                    "attention_bias",
                    "mlp_bias",
                    "max_position_embeddings",
                    "intermediate_size",
                ])?;
                self.config[key] = match u.int_in_range(0..=5)? {
                    0 => json!(u.choose(SIZES)?),
                    1 => json!(u.int_in_range(0..=64)?),
                    2 => json!(u.arbitrary::<f64>()?),
                    3 => json!([0, 1, u.arbitrary::<u16>()?]),
                    4 => json!({"rope_type": u.arbitrary::<&str>()?}),
                    _ => json!(u.arbitrary::<bool>()?),
                };
            }
        }
        Ok(())
    }

    /// The bytes of a file of some of the tensors.
    fn file(&self, u: &mut Unstructured<'_>, tensors: &[usize]) -> Chosen<Vec<u8>> {
        let (mut header, mut end) = (json!({}), 0);
        for &i in tensors {
            let (name, dtype, dims) = &self.tensors[i];
            let each = TYPES.iter().find(|t| t.0 == *dtype).map_or(4, |t| t.1);
            let bytes = dims.iter().try_fold(each, |n, &dim| n.checked_mul(dim));
            let size = bytes.filter(|&n| n < 1 << 16).unwrap_or(0);
            let mut offsets = [end, end + size];
            if rarely(u, 64)? {
                offsets[usize::from(rarely(u, 2)?)] = *u.choose(SIZES)?;
            }
            header[name] = json!({"dtype": dtype, "shape": dims, "data_offsets": offsets});
            end += size;
        }
        let mut header = header.to_string();
        while rarely(u, 4)? && header.len() % 8 != 0 {
            header.push(' ');
        }
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend((0..end).map(|i| (i * 37 % 63) as u8));
        damage(u, &mut bytes)?;
        Ok(bytes)
    }
}

fn go(u: &mut Unstructured<'_>) -> Chosen<()> {
    let folder = Folder::chosen(u)?;
    let all: Vec<usize> = (0..folder.tensors.len()).collect();
    let path = scratch::folder().join("hf");
    let _ = std::fs::remove_dir_all(&path);
    let mut config = folder.config.to_string().into_bytes();
    damage(u, &mut config)?;
    scratch::write("hf/config.json", &config);
    let has_index = rarely(u, 4)?;
    if has_index {
        let (left, right) = all.split_at(u.int_in_range(0..=all.len())?);
        let mut map = json!({});
        for (file, part) in [("a.safetensors", left), ("b.safetensors", right)] {
            scratch::write(&format!("hf/{file}"), &folder.file(u, part)?);
            for &i in part {
                let there = if rarely(u, 64)? { u.arbitrary::<&str>()? } else { file };
                map[&folder.tensors[i].0] = json!(there);
            }
        }
        let index = json!({"metadata": {}, "weight_map": map}).to_string();
        scratch::write("hf/model.safetensors.index.json", index.as_bytes());
    } else {
        scratch::write("hf/model.safetensors", &folder.file(u, &all)?);
    }
    if let Ok(file) = SafeTensors::open(&path) {
        reached(if has_index { "indexed" } else { "opened" });
        for tensor in file.tensors() {
            if let Ok(whole) = tensor.tensor() {
                assert_eq!(whole.storage().len(), tensor.bytes().len());
            }
        }
    }
    let options = model::graph_options(u)?;
    if let Ok(model) = Model::load(&path) {
        reached("loaded");
        let _ = model::train(&model, &options);
    }
    if let Ok(model) = Model::empty(&path, model::cpu()[0].allocator()) {
        let _ = model::train(&model, &options);
    }
    Ok(())
}
