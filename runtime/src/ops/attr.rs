//! Attributes of ops by name, as dumps, files and the C ABI carry them.

use crate::error::{Error, Result};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// A whole number.
    Int(i64),
    /// A real number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A word.
    Str(String),
    /// Whole numbers: axes, shapes.
    Ints(Vec<i64>),
}

/// An op's attributes in a fixed order.
pub type Attrs = Vec<(&'static str, Attr)>;

impl std::fmt::Display for Attr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Str(v) => write!(f, "{v}"),
            Self::Ints(v) => write!(f, "{v:?}"),
        }
    }
}

macro_rules! attr_from {
    ($($ty:ty => $variant:ident),*) => {
        $(impl From<$ty> for Attr { fn from(v: $ty) -> Self { Self::$variant(v.into()) } })*
    };
}
attr_from!(i64 => Int, i32 => Int, u32 => Int, f64 => Float, f32 => Float, bool => Bool,
           &str => Str, String => Str);

impl From<usize> for Attr {
    fn from(v: usize) -> Self {
        // Attribute sizes come from shapes, which fit isize.
        Self::Int(v as i64)
    }
}

impl From<&[usize]> for Attr {
    fn from(v: &[usize]) -> Self {
        Self::Ints(v.iter().map(|&x| x as i64).collect())
    }
}

/// Reads attributes by name and in the end refuses those nobody asked for.
pub struct AttrReader<'a> {
    op: &'static str,
    attrs: &'a [(&'a str, Attr)],
    read: Vec<&'static str>,
}

impl<'a> AttrReader<'a> {
    /// A reader for `op`.
    #[must_use]
    pub fn new(op: &'static str, attrs: &'a [(&'a str, Attr)]) -> Self {
        Self { op, attrs, read: Vec::new() }
    }

    /// An error about attribute `name`.
    #[must_use]
    pub fn error(&self, name: &str, why: impl Into<String>) -> Error {
        Error::Attr { op: self.op.to_owned(), name: name.to_owned(), why: why.into() }
    }

    fn get(&mut self, name: &'static str) -> Option<&'a Attr> {
        self.read.push(name);
        self.attrs.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// A whole number, or `default`.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is of another type.
    pub fn int_or(&mut self, name: &'static str, default: i64) -> Result<i64> {
        match self.get(name) {
            None => Ok(default),
            Some(Attr::Int(v)) => Ok(*v),
            Some(other) => Err(self.error(name, format!("must be an integer, not {other}"))),
        }
    }

    /// A size, or `default`.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is negative or of another type.
    pub fn usize_or(&mut self, name: &'static str, default: usize) -> Result<usize> {
        let v = self.int_or(name, default as i64)?;
        usize::try_from(v).map_err(|_| self.error(name, format!("must not be negative, is {v}")))
    }

    /// A real number, or `default`.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is not finite or of another type.
    pub fn float_or(&mut self, name: &'static str, default: f64) -> Result<f64> {
        match self.get(name) {
            None => Ok(default),
            Some(Attr::Float(v)) if v.is_finite() => Ok(*v),
            Some(Attr::Int(v)) => Ok(*v as f64),
            Some(other) => Err(self.error(name, format!("must be a finite number, not {other}"))),
        }
    }

    /// A real number that may be infinite, or `default`.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is NaN or of another type.
    pub fn bound_or(&mut self, name: &'static str, default: f64) -> Result<f64> {
        match self.get(name) {
            None => Ok(default),
            Some(Attr::Float(v)) if !v.is_nan() => Ok(*v),
            Some(Attr::Int(v)) => Ok(*v as f64),
            Some(other) => Err(self.error(name, format!("must be a number, not {other}"))),
        }
    }

    /// A truth value, or `default`.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is of another type.
    pub fn bool_or(&mut self, name: &'static str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(Attr::Bool(v)) => Ok(*v),
            Some(Attr::Int(v @ (0 | 1))) => Ok(*v == 1),
            Some(other) => Err(self.error(name, format!("must be true or false, not {other}"))),
        }
    }

    /// One of the words in `choices`; the first is the default.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is none of them.
    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<T> {
        match self.get(name) {
            None => Ok(choices[0].1),
            Some(Attr::Str(v)) if choices.iter().any(|c| c.0 == v) => {
                Ok(choices.iter().find(|c| c.0 == v).map_or(choices[0].1, |c| c.1))
            }
            Some(other) => {
                let known: Vec<_> = choices.iter().map(|c| c.0).collect();
                Err(self.error(name, format!("must be one of {}, not {other}", known.join(", "))))
            }
        }
    }

    /// A word, or `default`.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is of another type.
    pub fn str_or(&mut self, name: &'static str, default: &'a str) -> Result<&'a str> {
        match self.get(name) {
            None => Ok(default),
            Some(Attr::Str(v)) => Ok(v),
            Some(other) => Err(self.error(name, format!("must be a word, not {other}"))),
        }
    }

    /// Whole numbers, if given.
    ///
    /// # Errors
    /// [`Error::Attr`] where it is of another type.
    pub fn ints(&mut self, name: &'static str) -> Result<Option<Vec<i64>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Attr::Ints(v)) => Ok(Some(v.clone())),
            Some(Attr::Int(v)) => Ok(Some(vec![*v])),
            Some(other) => Err(self.error(name, format!("must be integers, not {other}"))),
        }
    }

    /// Sizes that must be given.
    ///
    /// # Errors
    /// [`Error::Attr`] where they are missing, negative or of another type.
    pub fn usizes(&mut self, name: &'static str) -> Result<Vec<usize>> {
        let ints = self.ints(name)?.ok_or_else(|| self.error(name, "is missing"))?;
        ints.iter()
            .map(|&v| {
                usize::try_from(v)
                    .map_err(|_| self.error(name, format!("must not be negative, holds {v}")))
            })
            .collect()
    }

    /// Sizes, or `default`.
    ///
    /// # Errors
    /// [`Error::Attr`] where they are negative or of another type.
    pub fn usizes_or(&mut self, name: &'static str, default: &[usize]) -> Result<Vec<usize>> {
        if self.attrs.iter().any(|(n, _)| *n == name) {
            self.usizes(name)
        } else {
            self.read.push(name);
            Ok(default.to_vec())
        }
    }

    /// Refuses attributes that were never read, or given twice.
    ///
    /// # Errors
    /// [`Error::Attr`] naming the first of them.
    pub fn finish(self) -> Result<()> {
        let again = |i: usize| self.attrs[..i].iter().any(|(n, _)| *n == self.attrs[i].0);
        if let Some(i) = (0..self.attrs.len()).find(|&i| again(i)) {
            return Err(self.error(self.attrs[i].0, "is given twice"));
        }
        match self.attrs.iter().find(|(n, _)| !self.read.contains(n)) {
            None => Ok(()),
            Some((name, _)) if self.read.is_empty() => {
                Err(self.error(name, "is unknown: this op has no attributes"))
            }
            Some((name, _)) => {
                Err(self.error(name, format!("is unknown; there are {}", self.read.join(", "))))
            }
        }
    }
}
