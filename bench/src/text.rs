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
        let size = self.batch * self.seq;
        let mut batch =
            Batch { tokens: Vec::with_capacity(size), targets: Vec::with_capacity(size) };
        for row in 0..self.batch as u64 {
            let start = self.start(number * self.batch as u64 + row);
            batch.tokens.extend(&self.tokens[start..start + self.seq]);
            batch.targets.extend(&self.tokens[start + 1..=start + self.seq]);
        }
        batch
    }

    /// Where sequence `number` begins. An epoch cuts the text into sequences, from a start of its
    /// own, and takes each once, by a stride of its own.
    fn start(&self, number: u64) -> usize {
        let last = self.tokens.len() - 1;
        let pieces = u32::try_from(last / self.seq).unwrap_or(u32::MAX);
        let spare = u32::try_from(last % self.seq).unwrap_or(0);
        let (epoch, i) = (number / u64::from(pieces), number % u64::from(pieces));
        let draw = |which: u64, bound: u32| self.order.below(epoch * 3 + which, bound);
        let (shift, first) = (draw(0, spare + 1), draw(1, pieces));
        let mut stride = draw(2, pieces).max(1);
        while common_divisor(stride, pieces) != 1 {
            stride += 1;
        }
        let piece = (u64::from(first) + i * u64::from(stride)) % u64::from(pieces);
        piece as usize * self.seq + shift as usize
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    String::from_utf8(bytes)
        .map_err(|_| Error::format(path, "is not UTF-8 text; convert it, or give another file"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tenon_kernels::random::Philox;

    use super::Text;

    #[test]
    fn an_epoch_takes_every_piece_once() {
        for len in [5, 8, 41, 44, 101] {
            let text = Text { tokens: vec![0; len], seq: 4, batch: 1, order: Philox::new(7, 1) };
            let pieces = (len - 1) / 4;
            for epoch in 0..5 {
                let starts = (0..pieces).map(|i| text.start((epoch * pieces + i) as u64));
                let starts: HashSet<_> = starts.collect();
                assert_eq!(starts.len(), pieces);
                assert!(
                    starts.iter().all(|s| s + 4 < len && s % 4 == starts.iter().min().unwrap() % 4)
                );
            }
        }
    }
}
