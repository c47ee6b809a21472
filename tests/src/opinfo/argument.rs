//! Samples as their file has them.

use serde_json::Value;

/// An argument of an operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// `None`, or not given.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
    /// A tensor by name, and whether it is differentiated.
    Tensor(String, bool),
    /// Several.
    List(Vec<Argument>),
}

/// A case of an operator.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The operator.
    pub op: String,
    /// Which of its forms.
    pub variant: String,
    /// The input and the positional arguments.
    pub args: Vec<Argument>,
    /// Arguments by name.
    pub kwargs: Vec<(String, Argument)>,
    /// Names of the outputs.
    pub out: Vec<String>,
    /// Names of the outputs' cotangents.
    pub gout: Vec<String>,
    /// Names of the gradients of the differentiated tensors, in order of appearance.
    pub gin: Vec<String>,
}

impl Sample {
    /// Reads a line.
    ///
    /// # Panics
    /// Where it is not one: the file is checked in.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).expect("a line of JSON");
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let names = |key: &str| match Argument::read(&value[key]) {
            Argument::List(items) => items.iter().filter_map(Argument::name).collect(),
            single => single.name().into_iter().collect(),
        };
        let mut args = vec![Argument::read(&value["input"])];
        if let Argument::List(rest) = Argument::read(&value["args"]) {
            args.extend(rest);
        }
        let kwargs = value["kwargs"].as_object().map_or_else(Vec::new, |map| {
            map.iter().map(|(k, v)| (k.clone(), Argument::read(v))).collect()
        });
        Self {
            op: word("op"),
            variant: word("variant"),
            args,
            kwargs,
            out: names("out"),
            gout: names("gout"),
            gin: names("gin"),
        }
    }

    /// Every tensor among the arguments, in order, and whether it is differentiated.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, bool)> {
        let mut out = Vec::new();
        for argument in self.args.iter().chain(self.kwargs.iter().map(|(_, v)| v)) {
            argument.collect(&mut out);
        }
        out
    }
}

impl Argument {
    fn read(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(v) => Self::Bool(*v),
            Value::Number(v) => Self::Number(v.as_f64().unwrap_or(f64::NAN)),
            Value::String(v) => Self::Word(v.clone()),
            Value::Array(v) => Self::List(v.iter().map(Self::read).collect()),
            Value::Object(map) => match map.get("t").and_then(Value::as_str) {
                Some(name) => Self::Tensor(name.to_owned(), map["grad"] == Value::Bool(true)),
                None => Self::Word(value.to_string()),
            },
        }
    }

    fn collect(&self, out: &mut Vec<(String, bool)>) {
        match self {
            Self::Tensor(name, grad) => out.push((name.clone(), *grad)),
            Self::List(items) => items.iter().for_each(|item| item.collect(out)),
            _ => {}
        }
    }

    /// The name of a tensor.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Tensor(name, _) => Some(name.clone()),
            _ => None,
        }
    }

    /// A number.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(v) => Some(*v),
            Self::Bool(v) => Some(f64::from(u8::from(*v))),
            _ => None,
        }
    }

    /// Whole numbers: a list of them, or one.
    #[must_use]
    pub fn ints(&self) -> Option<Vec<i64>> {
        match self {
            Self::List(items) => items.iter().map(|v| v.number().map(|v| v as i64)).collect(),
            single => single.number().map(|v| vec![v as i64]),
        }
    }
}
