//! The messages of Core ML's model format that an ML program needs, by the field numbers of
//! [coremltools' `mlmodel/format`](https://github.com/apple/coremltools/tree/9.0/mlmodel/format)
//! (`Model.proto`, `FeatureTypes.proto`, `MIL.proto`, specification version 9).
//!
//! A `oneof` is written here as optional fields, of which one is set: on the wire it is the same.
//! Maps are ordered, so that a program has the same bytes each time.
#![allow(missing_docs, reason = "the format's own names")]

use std::collections::BTreeMap;

use prost::{Enumeration, Message};

/// A model file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(int32, tag = "1")]
    pub specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub description: Option<ModelDescription>,
    #[prost(message, optional, tag = "502")]
    pub ml_program: Option<Program>,
}

/// What goes in and out of a model.
#[derive(Clone, PartialEq, Message)]
pub struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub output: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "13")]
    pub state: Vec<FeatureDescription>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub r#type: Option<FeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FeatureType {
    #[prost(message, optional, tag = "5")]
    pub multi_array: Option<ArrayFeatureType>,
    #[prost(message, optional, tag = "8")]
    pub state: Option<StateFeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ArrayFeatureType {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
    #[prost(enumeration = "ArrayDataType", tag = "2")]
    pub data_type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct StateFeatureType {
    #[prost(message, optional, tag = "1")]
    pub array: Option<ArrayFeatureType>,
}

/// Element types of what goes in and out: the kind, and the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ArrayDataType {
    Invalid = 0,
    Float16 = 0x10010,
    Float32 = 0x10020,
    Int32 = 0x20020,
}

/// A program in the model's intermediate language.
#[derive(Clone, PartialEq, Message)]
pub struct Program {
    /// 1.
    #[prost(int64, tag = "1")]
    pub version: i64,
    /// By name; the one that runs is `main`.
    #[prost(btree_map = "string, message", tag = "2")]
    pub functions: BTreeMap<String, Function>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Function {
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<NamedValueType>,
    /// The set of operations, and the key of the block.
    #[prost(string, tag = "2")]
    pub opset: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub block_specializations: BTreeMap<String, Block>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Block {
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub operations: Vec<Operation>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Operation {
    #[prost(string, tag = "1")]
    pub r#type: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub inputs: BTreeMap<String, Argument>,
    #[prost(message, repeated, tag = "3")]
    pub outputs: Vec<NamedValueType>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub attributes: BTreeMap<String, Value>,
}

/// What an operation reads under one name: one binding, or several where it takes a tuple.
#[derive(Clone, PartialEq, Message)]
pub struct Argument {
    #[prost(message, repeated, tag = "1")]
    pub arguments: Vec<Binding>,
}

/// A value by its name, or itself.
#[derive(Clone, PartialEq, Message)]
pub struct Binding {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NamedValueType {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueType {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
    #[prost(message, optional, boxed, tag = "5")]
    pub state: Option<Box<StateType>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct StateType {
    #[prost(message, optional, boxed, tag = "1")]
    pub wrapped: Option<Box<ValueType>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(enumeration = "DataType", tag = "1")]
    pub data_type: i32,
    #[prost(int64, tag = "2")]
    pub rank: i64,
    #[prost(message, repeated, tag = "3")]
    pub dimensions: Vec<Dimension>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Dimension {
    #[prost(message, optional, tag = "1")]
    pub constant: Option<ConstantDimension>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct ConstantDimension {
    #[prost(uint64, tag = "1")]
    pub size: u64,
}

/// A constant: here, or in the file of weights.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<ValueType>,
    #[prost(message, optional, tag = "3")]
    pub immediate: Option<ImmediateValue>,
    #[prost(message, optional, tag = "5")]
    pub blob: Option<BlobFileValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImmediateValue {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorValue>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct BlobFileValue {
    /// `@model_path/` stands for the folder of the model file.
    #[prost(string, tag = "1")]
    pub file_name: String,
    /// Where the blob's metadata begins.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
}

/// Elements; f16 and types of 8 bits or fewer as bytes.
#[derive(Clone, PartialEq, Message)]
pub struct TensorValue {
    #[prost(message, optional, tag = "1")]
    pub floats: Option<Floats>,
    #[prost(message, optional, tag = "2")]
    pub ints: Option<Ints>,
    #[prost(message, optional, tag = "3")]
    pub bools: Option<Bools>,
    #[prost(message, optional, tag = "4")]
    pub strings: Option<Strings>,
    #[prost(message, optional, tag = "7")]
    pub bytes: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Floats {
    #[prost(float, repeated, tag = "1")]
    pub values: Vec<f32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Ints {
    #[prost(int32, repeated, tag = "1")]
    pub values: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Bools {
    #[prost(bool, repeated, tag = "1")]
    pub values: Vec<bool>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Strings {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    pub values: Vec<u8>,
}

/// Element types within a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DataType {
    Unused = 0,
    Bool = 1,
    String = 2,
    Float16 = 10,
    Float32 = 11,
    Int8 = 21,
    Int32 = 23,
    Int4 = 25,
    Uint8 = 31,
    Uint4 = 35,
}
