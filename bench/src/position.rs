//! Where a run stands, as a checkpoint keeps it: what its steps are a function of.

use std::path::Path;

use serde_json::{Map, Value};
use tenon_runtime::models::Model;
use tenon_runtime::{Error, Result};

use crate::options::Options;
use crate::text::Text;

/// The settings of a run by name. The number of updates is the checkpoint's own; with these, it
/// says which batch comes next.
#[derive(Debug, PartialEq)]
pub(crate) struct Position(Map<String, Value>);

impl Position {
    /// The position of a run of `steps` updates of `model` over `text`.
    pub(crate) fn new(options: &Options, steps: u64, model: &Model, text: &Text) -> Result<Self> {
        let weights: usize = model.weights().values().map(|t| t.desc().bytes()).sum();
        let config = format!("{:?}", model.config);
        let mut settings = options.settings(steps)?;
        settings.push(("model", format!("{weights} bytes, {:016x}", digest(config.bytes()))));
        settings.push(("text", format!("{} tokens, {:016x}", text.len(), text.digest())));
        let named = settings.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        Ok(Self(named.collect()))
    }

    /// As a checkpoint keeps it.
    pub(crate) fn note(&self) -> String {
        Value::from(self.0.clone()).to_string()
    }

    /// Refuses the note of a checkpoint at `path` that another run wrote.
    ///
    /// # Errors
    /// [`Error::Format`] with every option that differs.
    pub(crate) fn check(&self, path: &Path, note: &str) -> Result<()> {
        let saved: Map<String, Value> = serde_json::from_str(note).map_err(|_| {
            Error::format(path, "was not saved by `tenon train`; resume one that was")
        })?;
        let mut names: Vec<&String> = self.0.keys().chain(saved.keys()).collect();
        names.sort();
        names.dedup();
        let differences: Vec<String> = names
            .into_iter()
            .filter(|name| self.0.get(*name) != saved.get(*name))
            .map(|name| format!("--{name} {} (now {})", value(&saved, name), value(&self.0, name)))
            .collect();
        if differences.is_empty() {
            return Ok(());
        }
        let differences = differences.join(", ");
        Err(Error::format(path, format!("was saved with {differences}; resume with the same")))
    }
}

fn value<'a>(settings: &'a Map<String, Value>, name: &str) -> &'a str {
    settings.get(name).and_then(Value::as_str).unwrap_or("unset")
}

/// A 64-bit FNV-1a hash (Fowler, Noll and Vo): tells inputs apart, and is the same everywhere.
pub(crate) fn digest(bytes: impl Iterator<Item = u8>) -> u64 {
    let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::{Position, digest};

    fn position(pairs: &[(&str, &str)]) -> Position {
        Position(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).into())).collect())
    }

    #[test]
    fn names_what_differs() {
        let now = position(&[("lr", "0.1"), ("seq", "8"), ("full", "true")]);
        let path = std::path::Path::new("run");
        assert!(now.check(path, &now.note()).is_ok());
        let saved = position(&[("lr", "0.2"), ("seq", "8"), ("lora", "4")]);
        let told = now.check(path, &saved.note()).unwrap_err().to_string();
        assert!(told.contains("--lr 0.2 (now 0.1)"), "{told}");
        assert!(told.contains("--lora 4 (now unset)"), "{told}");
        assert!(told.contains("--full unset (now true)"), "{told}");
        assert!(!told.contains("--seq"), "{told}");
        assert!(now.check(path, "no json").is_err());
    }

    /// Test vectors of the FNV authors.
    #[test]
    fn digests() {
        assert_eq!(digest(b"".iter().copied()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest(b"a".iter().copied()), 0xaf63_dc4c_8601_ec8c);
    }
}
