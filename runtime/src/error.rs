//! The one error type.

use std::path::PathBuf;

use crate::tensor::{DType, Shape};

/// What can go wrong, with the facts a caller needs to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Operand shapes that an op cannot take.
    #[error("{op}: {why} (operand shapes {})", list(shapes))]
    Shape {
        /// The op.
        op: &'static str,
        /// What does not fit.
        why: String,
        /// Shapes of all operands, in order.
        shapes: Vec<Shape>,
    },
    /// An operand whose element type an op cannot take.
    #[error("{op}: operand {operand} has type {found}, expected {expected}")]
    DType {
        /// The op.
        op: &'static str,
        /// Which operand, from 0.
        operand: usize,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: DType,
    },
    /// A number of operands that an op cannot take.
    #[error("{op}: takes {expected} operands, got {found}")]
    Arity {
        /// The op.
        op: &'static str,
        /// How many it takes, in words.
        expected: &'static str,
        /// How many came.
        found: usize,
    },
    /// A missing, unknown or unusable attribute.
    #[error("{op}: attribute `{name}` {why}")]
    Attr {
        /// The op.
        op: String,
        /// The attribute.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A tensor description that cannot exist.
    #[error("bad tensor: {0}")]
    Tensor(String),
    /// An index outside its table.
    #[error("{op}: index {index} at position {position} is outside 0..{bound}")]
    Index {
        /// The op.
        op: &'static str,
        /// Where in the index tensor.
        position: usize,
        /// The value found.
        index: i64,
        /// Values must lie below this.
        bound: usize,
    },
    /// A name that is not there.
    #[error("no {kind} called `{name}`{}", hint(.known))]
    NotFound {
        /// What was looked for: "op", "parameter", …
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// Some names that do exist.
        known: Vec<String>,
    },
    /// A graph that breaks a rule.
    #[error("graph: {0}")]
    Graph(String),
    /// An op without a gradient on the path to something that trains.
    #[error("{op}: has no gradient ({reason}), and a trained value depends on it")]
    NoGradient {
        /// The op.
        op: &'static str,
        /// Why it has none.
        reason: &'static str,
    },
    /// No backend takes this op with these operands.
    #[error("{op}: no backend can run it with operands {operands}")]
    Unsupported {
        /// The op.
        op: &'static str,
        /// Operand descriptions.
        operands: String,
    },
    /// A memory budget that cannot be met.
    #[error(
        "memory budget of {budget} bytes cannot be met: the smallest that can is {needed} bytes, with \
         steps about {:.0} % slower{}",
        .slower * 100.0,
        spilling(*.spillable)
    )]
    Budget {
        /// What was given.
        budget: usize,
        /// The smallest that can be met.
        needed: usize,
        /// The time that this would add to a step, as a share of it.
        slower: f64,
        /// Bytes of optimizer states that could lie in a file instead.
        spillable: usize,
    },
    /// The allocator gave nothing.
    #[error("out of memory: {0} bytes could not be allocated")]
    OutOfMemory(usize),
    /// A file operation that failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{path}: {why}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where it can be said, the mend.
        why: String,
    },
    /// A call in the wrong order or with an unusable argument.
    #[error("{0}")]
    Usage(String),
    /// The caller's callback asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A device that failed.
    #[error("{backend}: {why}")]
    Device {
        /// Its backend.
        backend: &'static str,
        /// What it said.
        why: String,
    },
}

/// [`std::result::Result`] with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// An [`Error::Format`] for `path`.
    pub fn format(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Format { path: path.into(), why: why.into() }
    }
}

fn list(shapes: &[Shape]) -> String {
    shapes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn hint(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; there are {}", known.join(", ")) }
}

/// What else a budget could be met by.
fn spilling(bytes: usize) -> String {
    match bytes {
        0 => String::new(),
        _ => {
            format!("; a folder to spill to would take {bytes} bytes of optimizer states off that")
        }
    }
}
