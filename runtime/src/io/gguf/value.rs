//! Metadata values.

use std::ops::Range;

use super::reader::Reader;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Either float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Str(String),
    /// Many of one kind.
    Array(Array),
}

/// An array, checked and left in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    kind: Kind,
    len: usize,
    bytes: Range<usize>,
}

/// The type numbers of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

/// All kinds, by type number.
const KINDS: [Kind; 13] = {
    use Kind::*;
    [U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64]
};

impl Kind {
    fn read(r: &mut Reader<'_>) -> Result<Self, String> {
        let id = r.u32("value type")?;
        KINDS
            .get(id as usize)
            .copied()
            .ok_or_else(|| format!("has a value of unknown type number {id}"))
    }

    /// Least bytes of a value; for strings, of an empty one.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::Str | Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Array => 12,
        }
    }
}

impl Value {
    /// The next value, its type before it.
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, String> {
        match Kind::read(r)? {
            Kind::Array => Array::read(r).map(Self::Array),
            kind => Self::read_scalar(r, kind),
        }
    }

    fn read_scalar(r: &mut Reader<'_>, kind: Kind) -> Result<Self, String> {
        const WHAT: &str = "metadata value";
        Ok(match kind {
            Kind::U8 => Self::Unsigned(u8::from_le_bytes(r.array(WHAT)?).into()),
            Kind::I8 => Self::Signed(i8::from_le_bytes(r.array(WHAT)?).into()),
            Kind::U16 => Self::Unsigned(u16::from_le_bytes(r.array(WHAT)?).into()),
            Kind::I16 => Self::Signed(i16::from_le_bytes(r.array(WHAT)?).into()),
            Kind::U32 => Self::Unsigned(u32::from_le_bytes(r.array(WHAT)?).into()),
            Kind::I32 => Self::Signed(i32::from_le_bytes(r.array(WHAT)?).into()),
            Kind::U64 => Self::Unsigned(u64::from_le_bytes(r.array(WHAT)?)),
            Kind::I64 => Self::Signed(i64::from_le_bytes(r.array(WHAT)?)),
            Kind::F32 => Self::Float(f32::from_le_bytes(r.array(WHAT)?).into()),
            Kind::F64 => Self::Float(f64::from_le_bytes(r.array(WHAT)?)),
            Kind::Bool => match r.array(WHAT)? {
                [byte @ (0 | 1)] => Self::Bool(byte == 1),
                [byte] => return Err(format!("has a truth value of {byte}")),
            },
            Kind::Str => Self::Str(r.string(WHAT)?.to_owned()),
            Kind::Array => return Err("has an array inside an array".to_owned()),
        })
    }

    /// The value as a number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Unsigned(n) => Some(n as f64),
            Self::Signed(n) => Some(n as f64),
            Self::Float(x) => Some(x),
            _ => None,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsigned(n) => write!(f, "{n}"),
            Self::Signed(n) => write!(f, "{n}"),
            Self::Float(x) => write!(f, "{x}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Str(text) => f.write_str(text),
            Self::Array(array) => write!(f, "[{} values]", array.len),
        }
    }
}

impl Array {
    fn read(r: &mut Reader<'_>) -> Result<Self, String> {
        let kind = Kind::read(r)?;
        let count = r.u64("array length")?;
        let room = r.left() as u64 / kind.least_bytes();
        if count > room {
            return Err(format!(
                "is truncated or damaged: claims an array of {count}, but has room for {room}; \
                 download it again"
            ));
        }
        let start = r.position();
        // One pass over the elements now, so that reading them later cannot fail.
        for _ in 0..count {
            match kind {
                Kind::Str => drop(r.string("text in an array")?),
                kind => drop(Value::read_scalar(r, kind)?),
            }
        }
        Ok(Self { kind, len: count as usize, bytes: start..r.position() })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The texts of this array of `file`, if it has texts.
    pub(super) fn strs<'a>(&self, file: &'a [u8]) -> Option<Vec<&'a str>> {
        let mut r = Reader::new(file.get(self.bytes.clone())?);
        let is_text = self.kind == Kind::Str;
        is_text.then(|| (0..self.len).map_while(|_| r.string("text").ok()).collect())
    }

    /// The numbers of this array of `file`, if it has numbers.
    pub(super) fn numbers(&self, file: &[u8]) -> Option<Vec<f64>> {
        let mut r = Reader::new(file.get(self.bytes.clone())?);
        (0..self.len).map(|_| Value::read_scalar(&mut r, self.kind).ok()?.number()).collect()
    }
}
