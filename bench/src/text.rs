//! Text as training batches.

use std::path::Path;

use tenon_kernels::random::Philox;
use tenon_runtime::{Error, Result};

use crate::options::Options;
use crate::position::digest;
use crate::tokenizer::Tokenizer;

/// The text that `tenon train` learns by default.
const EMBEDDED: &str = include_str!("../assets/joints.txt");

/// A text as tokens, with the order in which pieces of it are learned.
pub(crate) struct Text {
    tokens: Vec<i32>,
    seq: usize,
    batch: usize,
    order: Philox,
}

/// One step's inputs.
pub(crate) struct Batch {
    /// Token ids, [batch, seq].
    pub(crate) tokens: Vec<i32>,
    /// The token that follows each.
    pub(crate) targets: Vec<i32>,
}

impl Text {
    /// Reads and tokenizes the text at `path`, or the embedded one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Usage`] for a text that is no UTF-8 or too short.
    pub(crate) fn open(options: &Options, path: Option<&Path>, vocab: usize) -> Result<Self> {
        let text = match path {
            None => EMBEDDED.to_owned(),
            Some(path) => read(path)?,
        };
        let tokens: Vec<i32> = match &options.model {
            None => text.bytes().map(i32::from).collect(),
            Some(model) => Tokenizer::of_model(model)?.encode(&text)?,
        };
        let (seq, batch) = (options.seq(), options.batch());
        let name = path.map_or("the embedded text".into(), |p| p.display().to_string());
        if tokens.is_empty() {
            return Err(Error::Usage(format!("{name} is empty; give a file with text in it")));
        }
        if tokens.len() <= seq {
            let shorter = match tokens.len() - 1 {
                0 => String::new(),
                most => format!(" or --seq {most}"),
            };
            return Err(Error::Usage(format!(
                "{name} has {} tokens, too few for sequences of {seq} and a token to follow; give \
                 more text{shorter}",
                tokens.len(),
            )));
        }
        if let Some(bad) = tokens.iter().find(|t| usize::try_from(**t).map_or(true, |t| t >= vocab))
        {
            return Err(Error::Usage(format!(
                "the tokenizer gives token {bad}, but the model knows {vocab}: they do not belong \
                 together"
            )));
        }
        // Stream 1 of the seed; the weights' streams count from elsewhere.
        Ok(Self { tokens, seq, batch, order: Philox::new(options.seed, u64::MAX) })
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Tells texts apart.
    pub(crate) fn digest(&self) -> u64 {
        digest(self.tokens.iter().flat_map(|t| t.to_le_bytes()))
    }

    /// The inputs of micro-step `number`, from 0: a pure function of the seed and the number.
    pub(crate) fn batch(&self, number: u64) -> Batch {
        let starts = u32::try_from(self.tokens.len() - self.seq).unwrap_or(u32::MAX);
        let size = self.batch * self.seq;
        let mut batch =
            Batch { tokens: Vec::with_capacity(size), targets: Vec::with_capacity(size) };
        for row in 0..self.batch as u64 {
            let start = self.order.below(number * self.batch as u64 + row, starts) as usize;
            batch.tokens.extend(&self.tokens[start..start + self.seq]);
            batch.targets.extend(&self.tokens[start + 1..=start + self.seq]);
        }
        batch
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    String::from_utf8(bytes)
        .map_err(|_| Error::format(path, "is not UTF-8 text; convert it, or give another file"))
}
