//! GGUF files to break: a small llama's, of any weight formats, with some things changed.

use crate::{Chosen, SIZES, Unstructured, damage, rarely};

/// A metadata value with its type number.
#[derive(Clone, Debug)]
pub enum Value {
    U32(u32),
    F32(f32),
    Text(String),
    /// A type number and bytes that need not fit it.
    Raw(u32, Vec<u8>),
}

/// A tensor's entry, and how many bytes of data it brings.
#[derive(Clone, Debug)]
pub struct Tensor {
    name: String,
    /// Outermost first.
    dims: Vec<u64>,
    kind: u32,
    /// In the place of where its data is.
    offset: Option<u64>,
}

/// A file in the making.
#[derive(Clone, Debug)]
pub struct File {
    entries: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
    counts: [Option<u64>; 2],
    version: u32,
    alignment: u64,
}

/// Type numbers of weights with elements and bytes of a block: f32, f16, bf16, and blocks.
const KINDS: &[(u32, u64, u64)] = &[
    (0, 1, 4),
    (1, 1, 2),
    (30, 1, 2),
    (8, 32, 34),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (12, 256, 144),
    (14, 256, 210),
    (24, 1, 1),
    (26, 1, 4),
];

impl File {
    /// A whole llama of a block or two.
    ///
    /// # Errors
    /// None but those of reading choices.
    pub fn llama(u: &mut Unstructured<'_>) -> Chosen<Self> {
        let architecture = *u.choose(&["llama", "qwen2", "qwen3", "smollm3", "mistral"])?;
        let layers = u.int_in_range(1..=2)?;
        let width = if rarely(u, 8)? { 256 } else { 32 };
        let (width, heads) = (width, *u.choose(&[1u64, 2, 4])?);
        let keys = heads / if rarely(u, 2)? { heads.min(2) } else { 1 };
        let (wide, vocab) = (*u.choose(&[32u64, 64])?, u.int_in_range(2..=40)?);
        let head = width / heads;
        let number = |name: &str, n: u64| (format!("{architecture}.{name}"), Value::U32(n as u32));
        let mut file = Self {
            entries: vec![
                ("general.architecture".into(), Value::Text(architecture.into())),
                number("embedding_length", width),
                number("block_count", layers),
                number("feed_forward_length", wide),
                number("attention.head_count", heads),
                number("attention.head_count_kv", keys),
                number("context_length", 64),
                (format!("{architecture}.attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
                (format!("{architecture}.rope.freq_base"), Value::F32(10_000.0)),
            ],
            tensors: Vec::new(),
            counts: [None; 2],
            version: u.int_in_range(2..=3)?,
            alignment: 32,
        };
        if rarely(u, 4)? {
            file.alignment = *u.choose(&[8, 64, 4096])?;
            let alignment = Value::U32(file.alignment as u32);
            file.entries.push(("general.alignment".into(), alignment));
        }
        if rarely(u, 4)? {
            file.entries.push(number("attention.sliding_window", u.int_in_range(0..=5)?));
        }
        let (norm, biases) = (rarely(u, 4)?, rarely(u, 4)?);
        file.add(u, "token_embd.weight", &[vocab, width])?;
        if rarely(u, 2)? {
            file.add(u, "output.weight", &[vocab, width])?;
        }
        file.add(u, "output_norm.weight", &[width])?;
        for layer in 0..layers {
            for (part, dims) in [
                ("attn_norm", &[width][..]),
                ("attn_q", &[heads * head, width]),
                ("attn_k", &[keys * head, width]),
                ("attn_v", &[keys * head, width]),
                ("attn_output", &[width, heads * head]),
                ("ffn_norm", &[width]),
                ("ffn_gate", &[wide, width]),
                ("ffn_up", &[wide, width]),
                ("ffn_down", &[width, wide]),
            ] {
                file.add(u, &format!("blk.{layer}.{part}.weight"), dims)?;
                if biases && dims.len() == 2 {
                    file.add(u, &format!("blk.{layer}.{part}.bias"), &dims[..1])?;
                }
            }
            if norm {
                file.add(u, &format!("blk.{layer}.attn_q_norm.weight"), &[head])?;
                file.add(u, &format!("blk.{layer}.attn_k_norm.weight"), &[head])?;
            }
        }
        Ok(file)
    }

    /// Adds a tensor: a vector as f32, a matrix in any format of its row's length.
    fn add(&mut self, u: &mut Unstructured<'_>, name: &str, dims: &[u64]) -> Chosen<()> {
        let &(kind, block, _) = if dims.len() > 1 { u.choose(&KINDS[..10])? } else { &KINDS[0] };
        let fits = dims.last().is_some_and(|row| row % block == 0);
        let kind = if fits { kind } else { 0 };
        self.tensors.push(Tensor { name: name.into(), dims: dims.into(), kind, offset: None });
        Ok(())
    }

    /// Changes one thing.
    ///
    /// # Errors
    /// None but those of reading choices.
    pub fn change(&mut self, u: &mut Unstructured<'_>) -> Chosen<()> {
        let what = u.int_in_range(0..=13)?;
        if what < 5 && !self.entries.is_empty() {
            let at = u.choose_index(self.entries.len())?;
            match what {
                0 => drop(self.entries.remove(at)),
                1 => self.entries[at].1 = Value::U32(*u.choose(SIZES)? as u32),
                2 => self.entries[at].1 = Value::F32(u.arbitrary()?),
                3 => {
                    let value = Value::Raw(u.int_in_range(0..=13)?, u.arbitrary()?);
                    let key = u.arbitrary::<&str>()?.to_owned();
                    self.entries.push((key, value));
                }
                _ => self.entries.push(self.entries[at].clone()),
            }
            return Ok(());
        }
        if what > 11 || self.tensors.is_empty() {
            match u.int_in_range(0..=2)? {
                0 => self.counts[usize::from(rarely(u, 2)?)] = Some(*u.choose(SIZES)?),
                1 => self.version = u.arbitrary()?,
                _ => self.alignment = u.int_in_range(0..=65)?,
            }
            return Ok(());
        }
        let at = u.choose_index(self.tensors.len())?;
        let tensor = &mut self.tensors[at];
        match what {
            5 => drop(self.tensors.remove(at)),
            6 => {
                let axis = u.int_in_range(0..=tensor.dims.len().saturating_sub(1))?;
                if let Some(dim) = tensor.dims.get_mut(axis) {
                    *dim = *u.choose(SIZES)?;
                }
            }
            7 => tensor.kind = u.choose(KINDS)?.0,
            8 => tensor.offset = Some(u.choose(SIZES)?.wrapping_sub(u.int_in_range(0..=64)?)),
            9 => tensor.dims.push(*u.choose(SIZES)?),
            10 => drop(tensor.dims.pop()),
            _ => {
                let mut copy = tensor.clone();
                if rarely(u, 2)? {
                    copy.name = u.arbitrary::<&str>()?.to_owned();
                }
                self.tensors.push(copy);
            }
        }
        Ok(())
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        out.extend(self.version.to_le_bytes());
        for (count, found) in self.counts.iter().zip([self.tensors.len(), self.entries.len()]) {
            out.extend(count.unwrap_or(found as u64).to_le_bytes());
        }
        for (key, value) in &self.entries {
            text(&mut out, key);
            match value {
                Value::U32(n) => out.extend([4, *n].map(u32::to_le_bytes).concat()),
                Value::F32(x) => out.extend([6, x.to_bits()].map(u32::to_le_bytes).concat()),
                Value::Text(t) => {
                    out.extend(8u32.to_le_bytes());
                    text(&mut out, t);
                }
                Value::Raw(kind, bytes) => {
                    out.extend(kind.to_le_bytes());
                    out.extend(bytes);
                }
            }
        }
        let (mut end, mut sizes) = (0u64, Vec::new());
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().rev().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            let start = end.next_multiple_of(self.alignment.max(1));
            out.extend(tensor.offset.unwrap_or(start).to_le_bytes());
            end = start + tensor.size();
            sizes.push((start, end));
        }
        out.resize(out.len().next_multiple_of(self.alignment.max(1) as usize), 0);
        let data = out.len();
        out.resize(data + end as usize, 0);
        for (i, (start, end)) in sizes.into_iter().enumerate() {
            fill(&mut out[data..][start as usize..end as usize], self.tensors[i].kind);
        }
        out
    }

    /// A file as inputs choose it: some changes, then some bytes.
    ///
    /// # Errors
    /// None but those of reading choices.
    pub fn chosen(u: &mut Unstructured<'_>) -> Chosen<Vec<u8>> {
        let mut file = Self::llama(u)?;
        for _ in 0..u.int_in_range(0..=3)? {
            file.change(u)?;
        }
        let mut bytes = file.bytes();
        damage(u, &mut bytes)?;
        Ok(bytes)
    }
}

impl Tensor {
    /// Bytes of its data, none where that is more than a test has.
    fn size(&self) -> u64 {
        let blocks = KINDS.iter().find(|kind| kind.0 == self.kind);
        let &(_, block, bytes) = blocks.unwrap_or(&KINDS[0]);
        let count = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        count.filter(|&n| n < 1 << 18).map_or(0, |n| n / block * bytes)
    }
}

/// Small numbers for f32, any bytes for the rest.
fn fill(bytes: &mut [u8], kind: u32) {
    for (i, word) in bytes.chunks_mut(4).enumerate() {
        let hash = (i as u32).wrapping_mul(0x9e37_79b9);
        let number = (hash >> 8) as f32 / (1 << 24) as f32 - 0.5;
        let filling =
            if kind == 0 { number.to_le_bytes() } else { (hash & 0x3f3f_3f3f).to_le_bytes() };
        word.copy_from_slice(&filling[..word.len()]);
    }
}
