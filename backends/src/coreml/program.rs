//! A program as it is written: operations in order, each with parameters that are constants of their
//! own, as the format's own tools write them; what is large lies in the file of weights.

use std::collections::BTreeMap;
use std::io::{Result, Seek, Write};

use super::package::WEIGHTS;
use super::proto::{
    Argument, ArrayDataType, ArrayFeatureType, Binding, BlobFileValue, Block, Bools, Bytes,
    ConstantDimension, DataType, Dimension, FeatureDescription, FeatureType, Floats, Function,
    ImmediateValue, Ints, Model, ModelDescription, NamedValueType, Operation, Program,
    StateFeatureType, StateType, Strings, TensorType, TensorValue, Value, ValueType,
};
use super::weights::Weights;

/// The set of operations that a program is written in, which says what systems take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opset {
    /// iOS 16 and macOS 13: f16 in and out, int8 weights.
    Ios16,
    /// iOS 18 and macOS 15: states, weights of four bits.
    Ios18,
}

impl Opset {
    /// Its name in a program, and the version of the specification that has it.
    const fn name(self) -> (&'static str, i32) {
        match self {
            Self::Ios16 => ("CoreML6", 7),
            Self::Ios18 => ("CoreML8", 9),
        }
    }

    /// The version of iOS that brought it.
    #[must_use]
    pub const fn version(self) -> u32 {
        match self {
            Self::Ios16 => 16,
            Self::Ios18 => 18,
        }
    }
}

/// A parameter of an operation.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A value of the program.
    Var(&'a str),
    /// Several, where a tuple is taken.
    Vars(&'a [String]),
    /// Constants.
    Bool(bool),
    /// One number.
    Int(i32),
    /// A vector of numbers.
    Ints(&'a [i32]),
    /// One number, of the type that the operation works in.
    Float(DataType, f32),
    /// A word.
    Word(&'a str),
    /// Any constant.
    Tensor(Tensor<'a>),
}

/// A constant: type, dimensions, and its elements as little-endian bytes.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Element type.
    pub data_type: DataType,
    /// Dimensions.
    pub dims: &'a [usize],
    /// Elements; those of four bits two a byte.
    pub data: &'a [u8],
}

/// Constants of fewer elements stay in the program.
const INLINE: usize = 16;

/// Writes a program, and its constants to `W`.
#[derive(Debug)]
pub struct Writer<'a, W> {
    weights: &'a mut Weights<W>,
    opset: Opset,
    inputs: Vec<NamedValueType>,
    operations: Vec<Operation>,
    description: ModelDescription,
    constants: usize,
}

impl<'a, W: Write + Seek> Writer<'a, W> {
    /// An empty program.
    pub fn new(opset: Opset, weights: &'a mut Weights<W>) -> Self {
        Self {
            weights,
            opset,
            inputs: Vec::new(),
            operations: Vec::new(),
            description: ModelDescription::default(),
            constants: 0,
        }
    }

    /// The set of operations it is written in.
    #[must_use]
    pub fn opset(&self) -> Opset {
        self.opset
    }

    /// What callers give.
    pub fn input(&mut self, name: &str, data_type: DataType, dims: &[usize]) {
        self.inputs.push(named(name, data_type, dims));
        self.description.input.push(feature(name, array(data_type, dims), false));
    }

    /// What the device keeps from one run to the next.
    pub fn state(&mut self, name: &str, data_type: DataType, dims: &[usize]) {
        let wrapped = Some(Box::new(value_type(data_type, dims)));
        let state = ValueType { state: Some(Box::new(StateType { wrapped })), tensor: None };
        self.inputs.push(NamedValueType { name: name.to_owned(), r#type: Some(state) });
        self.description.state.push(feature(name, array(data_type, dims), true));
    }

    /// A constant under a name.
    ///
    /// # Errors
    /// What writing gives.
    pub fn constant(&mut self, name: &str, tensor: Tensor<'_>) -> Result<()> {
        let val = self.value(tensor)?;
        self.constant_value(name, val);
        Ok(())
    }

    /// A constant that is made from others when the model is compiled: `kind` is one of `constexpr_*`.
    ///
    /// # Errors
    /// What writing gives.
    pub fn constexpr(
        &mut self,
        kind: &str,
        name: &str,
        inputs: &[(&str, Tensor<'_>)],
        (data_type, dims): (DataType, &[usize]),
    ) -> Result<()> {
        let mut operation = operation(kind, name, data_type, dims);
        for (key, tensor) in inputs {
            let value = self.value(*tensor)?;
            if self.opset < Opset::Ios18 {
                operation.attributes.insert((*key).to_owned(), value);
            } else {
                let binding = Binding { value: Some(value), name: None };
                operation.inputs.insert((*key).to_owned(), Argument { arguments: vec![binding] });
            }
        }
        self.operations.push(operation);
        Ok(())
    }

    /// An operation `kind` that gives `name`.
    pub fn op(
        &mut self,
        kind: &str,
        name: &str,
        inputs: &[(&str, Arg<'_>)],
        (data_type, dims): (DataType, &[usize]),
    ) {
        let inputs = inputs
            .iter()
            .map(|(key, arg)| {
                let names = match arg {
                    Arg::Var(value) => vec![(*value).to_owned()],
                    Arg::Vars(values) => values.to_vec(),
                    other => vec![self.parameter(*other)],
                };
                let binding = |name| Binding { name: Some(name), value: None };
                (
                    (*key).to_owned(),
                    Argument { arguments: names.into_iter().map(binding).collect() },
                )
            })
            .collect();
        self.operations.push(Operation { inputs, ..operation(kind, name, data_type, dims) });
    }

    /// The model that gives the named values, in this order.
    #[must_use]
    pub fn finish(mut self, outputs: &[(&str, DataType, &[usize])]) -> Model {
        for &(name, data_type, dims) in outputs {
            self.description.output.push(feature(name, array(data_type, dims), false));
        }
        let (opset, specification_version) = self.opset.name();
        let block = Block {
            outputs: outputs.iter().map(|(name, ..)| (*name).to_owned()).collect(),
            operations: self.operations,
        };
        let function = Function {
            inputs: self.inputs,
            opset: opset.to_owned(),
            block_specializations: [(opset.to_owned(), block)].into(),
        };
        let functions = [("main".to_owned(), function)].into();
        Model {
            specification_version,
            description: Some(self.description),
            ml_program: Some(Program { version: 1, functions }),
        }
    }

    /// A parameter as a constant; its name.
    fn parameter(&mut self, arg: Arg<'_>) -> String {
        let name = format!("c{}", self.constants);
        self.constants += 1;
        let val = match arg {
            Arg::Bool(value) => {
                let bools = Some(Bools { values: vec![value] });
                immediate(DataType::Bool, &[], TensorValue { bools, ..TensorValue::default() })
            }
            Arg::Int(value) => ints(&[], &[value]),
            Arg::Ints(values) => ints(&[values.len()], values),
            Arg::Float(DataType::Float16, value) => {
                let bytes = half::f16::from_f32(value).to_le_bytes();
                small(Tensor { data_type: DataType::Float16, dims: &[], data: &bytes })
            }
            Arg::Float(data_type, value) => {
                small(Tensor { data_type, dims: &[], data: &value.to_le_bytes() })
            }
            Arg::Word(word) => string(word),
            Arg::Tensor(tensor) => small(tensor),
            Arg::Var(_) | Arg::Vars(_) => unreachable!("values have names"),
        };
        self.constant_value(&name, val);
        name
    }

    fn constant_value(&mut self, name: &str, val: Value) {
        let mut attributes = names(name);
        let r#type = val.r#type.clone();
        attributes.insert("val".to_owned(), val);
        self.operations.push(Operation {
            r#type: "const".to_owned(),
            inputs: BTreeMap::new(),
            outputs: vec![NamedValueType { name: name.to_owned(), r#type }],
            attributes,
        });
    }

    fn value(&mut self, tensor: Tensor<'_>) -> Result<Value> {
        let elements = tensor.dims.iter().product();
        // Before iOS 18 the file holds no integers of 32 bits.
        if elements < INLINE || matches!(tensor.data_type, DataType::Int32 | DataType::Bool) {
            return Ok(small(tensor));
        }
        let offset = self.weights.add(tensor.data_type, elements, tensor.data)?;
        Ok(Value {
            r#type: Some(value_type(tensor.data_type, tensor.dims)),
            immediate: None,
            blob: Some(BlobFileValue { file_name: WEIGHTS.to_owned(), offset }),
        })
    }
}

/// An operation with a name and one output.
fn operation(kind: &str, name: &str, data_type: DataType, dims: &[usize]) -> Operation {
    Operation {
        r#type: kind.to_owned(),
        inputs: BTreeMap::new(),
        outputs: vec![named(name, data_type, dims)],
        attributes: names(name),
    }
}

fn names(name: &str) -> BTreeMap<String, Value> {
    [("name".to_owned(), string(name))].into()
}

fn value_type(data_type: DataType, dims: &[usize]) -> ValueType {
    let dimension = |&size| Dimension { constant: Some(ConstantDimension { size: size as u64 }) };
    let tensor = TensorType {
        data_type: data_type.into(),
        rank: dims.len() as i64,
        dimensions: dims.iter().map(dimension).collect(),
    };
    ValueType { tensor: Some(tensor), state: None }
}

fn named(name: &str, data_type: DataType, dims: &[usize]) -> NamedValueType {
    NamedValueType { name: name.to_owned(), r#type: Some(value_type(data_type, dims)) }
}

fn array(data_type: DataType, dims: &[usize]) -> ArrayFeatureType {
    let kind = match data_type {
        DataType::Float16 => ArrayDataType::Float16,
        DataType::Float32 => ArrayDataType::Float32,
        DataType::Int32 => ArrayDataType::Int32,
        _ => ArrayDataType::Invalid,
    };
    ArrayFeatureType {
        shape: dims.iter().map(|&size| size as i64).collect(),
        data_type: kind.into(),
    }
}

fn feature(name: &str, array: ArrayFeatureType, state: bool) -> FeatureDescription {
    let kind = if state {
        FeatureType { multi_array: None, state: Some(StateFeatureType { array: Some(array) }) }
    } else {
        FeatureType { multi_array: Some(array), state: None }
    };
    FeatureDescription { name: name.to_owned(), r#type: Some(kind) }
}

fn immediate(data_type: DataType, dims: &[usize], tensor: TensorValue) -> Value {
    Value {
        r#type: Some(value_type(data_type, dims)),
        immediate: Some(ImmediateValue { tensor: Some(tensor) }),
        blob: None,
    }
}

fn string(word: &str) -> Value {
    let strings = Some(Strings { values: vec![word.to_owned()] });
    immediate(DataType::String, &[], TensorValue { strings, ..TensorValue::default() })
}

fn ints(dims: &[usize], values: &[i32]) -> Value {
    let ints = Some(Ints { values: values.to_vec() });
    immediate(DataType::Int32, dims, TensorValue { ints, ..TensorValue::default() })
}

/// A tensor within the program.
fn small(tensor: Tensor<'_>) -> Value {
    let words = || tensor.data.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
    let mut value = TensorValue::default();
    match tensor.data_type {
        DataType::Float32 => {
            value.floats = Some(Floats { values: words().map(f32::from_le_bytes).collect() });
        }
        DataType::Int32 => {
            value.ints = Some(Ints { values: words().map(i32::from_le_bytes).collect() });
        }
        DataType::Bool => {
            value.bools =
                Some(Bools { values: tensor.data.iter().map(|&byte| byte != 0).collect() });
        }
        _ => value.bytes = Some(Bytes { values: tensor.data.to_vec() }),
    }
    immediate(tensor.data_type, tensor.dims, value)
}
