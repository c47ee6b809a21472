//! Tokenizers of models: from a GGUF's metadata or a `tokenizer.json`.

use std::path::Path;

use tenon_runtime::io::gguf::Gguf;
use tenon_runtime::{Error, Result};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// Tokens that GGUF files mark as control tokens.
const CONTROL: f64 = 3.0;

/// How Llama 3 cuts text into words.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 does.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer.
pub(crate) struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// The tokenizer of the model at `path`.
    ///
    /// # Errors
    /// [`Error::Format`] where it is missing or of an unknown kind.
    pub(crate) fn of_model(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let file = path.join("tokenizer.json");
            let made = tokenizers::Tokenizer::from_file(&file);
            return made.map(Self).map_err(|e| Error::format(file, e.to_string()));
        }
        Self::of_gguf(&Gguf::open(path)?)
    }

    /// Token ids of `text`.
    ///
    /// # Errors
    /// [`Error::Usage`] for what the tokenizer refuses.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<i32>> {
        let encoding = self
            .0
            .encode_fast(text, false)
            .map_err(|e| Error::Usage(format!("the text cannot be tokenized: {e}")))?;
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }

    fn of_gguf(gguf: &Gguf) -> Result<Self> {
        let fail = |why: String| Error::format(gguf.path(), why);
        let kind = gguf.str("tokenizer.ggml.model").unwrap_or("none");
        if kind != "gpt2" {
            return Err(fail(format!(
                "its tokenizer is `{kind}`; only byte-level BPE (`gpt2`) is read from GGUF: give a \
                 Hugging Face folder with tokenizer.json instead"
            )));
        }
        let missing = |what: &str| fail(format!("no usable `tokenizer.ggml.{what}`"));
        let tokens = gguf.strs("tokenizer.ggml.tokens").ok_or_else(|| missing("tokens"))?;
        let merges = gguf.strs("tokenizer.ggml.merges").ok_or_else(|| missing("merges"))?;
        let merges = merges
            .iter()
            .map(|m| m.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| missing("merges"))?;
        let vocab = tokens.iter().zip(0u32..).map(|(t, id)| ((*t).to_owned(), id));
        let model = BPE::builder()
            .vocab_and_merges(vocab.collect::<tokenizers::models::bpe::Vocab>(), merges)
            .build()
            .map_err(|e| fail(format!("its tokenizer: {e}")))?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let words = gguf.str("tokenizer.ggml.pre").unwrap_or("default");
        tokenizer.with_pre_tokenizer(Some(
            pre_tokenizer(words).ok_or_else(|| {
                fail(format!("its word splitting `{words}` is not known to Tenon"))
            })?,
        ));
        let kinds = gguf.numbers("tokenizer.ggml.token_type").unwrap_or_default();
        let control: Vec<AddedToken> = tokens
            .iter()
            .zip(kinds)
            .filter(|(_, kind)| *kind == CONTROL)
            .map(|(token, _)| AddedToken::from(*token, true))
            .collect();
        tokenizer.add_special_tokens(&control);
        Ok(Self(tokenizer))
    }
}

/// How text is cut into words, by the name llama.cpp gives the way.
fn pre_tokenizer(name: &str) -> Option<PreTokenizerWrapper> {
    let bytes = |regex| ByteLevel::new(false, false, regex).into();
    let split = |pattern: &str| {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).ok()
    };
    let parts: Vec<PreTokenizerWrapper> = match name {
        "default" | "gpt-2" | "gpt2" => vec![bytes(true)],
        "smollm" | "starcoder" | "refact" | "command-r" => {
            vec![Digits::new(true).into(), bytes(true)]
        }
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" => {
            vec![split(LLAMA_3)?.into(), bytes(false)]
        }
        "qwen2" | "deepseek-r1-qwen" => vec![split(QWEN_2)?.into(), bytes(false)],
        _ => return None,
    };
    Some(Sequence::new(parts).into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::Tokenizer;

    /// Against the tokenizer of Hugging Face, which made the judged ids.
    #[test]
    fn the_real_models_tokenizer_gives_the_judged_ids() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let model = root.join("target/assets/smollm2-135m-instruct-q4_1.gguf");
        assert!(model.exists(), "the model is missing: run `tests/run assets`");
        let folder = root.join("tests/golden/smollm2");
        let text = std::fs::read_to_string(folder.join("text.txt")).unwrap();
        let judged = std::fs::read(folder.join("reference.safetensors")).unwrap();
        let judged = SafeTensors::deserialize(&judged).unwrap();
        let (ids, _) = judged.tensor("input_ids").unwrap().data().as_chunks::<8>();
        let want: Vec<i32> = ids.iter().map(|id| i64::from_le_bytes(*id) as i32).collect();
        let got = Tokenizer::of_model(&model).unwrap().encode(&text).unwrap();
        assert_eq!(got[..want.len()], want);
    }
}
