//! What was found of a compiled graph before: whether it computes what the CPU does.
//!
//! A mark is written before the first compilation and taken away after the first comparison, or with
//! what was compiled: who finds the mark of a process that is no more knows that it did not come back.

use super::engine::Description;
use super::graph::{Graph, Source};
use crate::cache::{File, folder, sum};

/// What names a graph on an accelerator of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// Of a graph, with its constants, and what compiles it.
    #[must_use]
    pub fn new(graph: &Graph, by: &Description) -> Self {
        let mut text = format!("{} {} {} {}\n{graph}", by.bridge, by.name, by.build, by.level);
        for node in graph.nodes() {
            text.push_str(&format!("{:?}", node.op));
        }
        let constants = graph.values().iter().filter_map(|v| match &v.source {
            Source::Const(bytes) => Some(bytes),
            _ => None,
        });
        let all = text.bytes().chain(constants.flat_map(|bytes| bytes.iter().copied()));
        let all: Vec<u8> = all.collect();
        let mut key = [0; 32];
        for (i, word) in key.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let salted = [i as u8].into_iter().chain(all.iter().copied());
            *word = sum(salted).to_le_bytes();
        }
        Self(key)
    }

    fn short(self) -> [u8; 16] {
        let mut short = [0; 16];
        short.copy_from_slice(&self.0[..16]);
        short
    }
}

/// What is known of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Unknown,
    /// It agreed with the CPU.
    Works,
    /// It is not to be used again, and why.
    Bad(String),
}

/// The file of one graph.
pub struct Trust {
    file: File,
    /// Whether the mark is to be taken away.
    is_marked: bool,
}

/// Followed by the number of the process that tries.
const TRYING: &[u8] = b"trying ";
const WORKS: &[u8] = b"works";
const BAD: &[u8] = b"bad: ";

impl Trust {
    /// Of a graph.
    #[must_use]
    pub fn new(bridge: &str, key: Key) -> Self {
        Self { file: File::new(bridge, "trust", key.short()), is_marked: false }
    }

    /// What is known.
    #[must_use]
    pub fn read(&mut self) -> Verdict {
        match self.file.read().as_deref() {
            Some(WORKS) => Verdict::Works,
            Some(bytes) if bytes.starts_with(TRYING) => {
                // Another graph of the same kind, or another process, may be at it.
                let process = String::from_utf8_lossy(&bytes[TRYING.len()..]).into_owned();
                let is_own = process == std::process::id().to_string();
                if is_own || std::path::Path::new("/proc").join(process).exists() {
                    return Verdict::Unknown;
                }
                let why = "an earlier run did not come back from it";
                self.bad(why);
                Verdict::Bad(why.to_owned())
            }
            Some(bytes) if bytes.starts_with(BAD) => {
                Verdict::Bad(String::from_utf8_lossy(&bytes[BAD.len()..]).into_owned())
            }
            _ => Verdict::Unknown,
        }
    }

    /// It is about to be tried.
    pub fn trying(&mut self) {
        self.is_marked = true;
        self.file.write(&[TRYING, std::process::id().to_string().as_bytes()].concat());
    }

    /// It agreed with the CPU.
    pub fn works(&mut self) {
        self.is_marked = false;
        self.file.write(WORKS);
    }

    /// It is not to be used again.
    pub fn bad(&mut self, why: &str) {
        self.is_marked = false;
        self.file.write(&[BAD, why.as_bytes()].concat());
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        if self.is_marked {
            self.file.remove();
        }
    }
}

/// The graphs of a bridge that are not to be used again, and why, from the folder of caches.
#[must_use]
pub fn blacklist(bridge: &str) -> Vec<String> {
    let Some(files) = folder().and_then(|folder| std::fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let start = format!("{bridge}-");
    let number = |name: &str| {
        let number = name.strip_prefix(&start)?.strip_suffix(".trust")?;
        u128::from_str_radix(number, 16).ok()
    };
    let bad = files.filter_map(|file| {
        let number = number(file.ok()?.file_name().to_str()?)?;
        let bytes = File::new(bridge, "trust", number.to_be_bytes()).read()?;
        let why = bytes.strip_prefix(BAD)?;
        Some(format!("{number:032x}: {}", String::from_utf8_lossy(why)))
    });
    bad.collect()
}
