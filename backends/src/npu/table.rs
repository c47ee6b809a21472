//! What each operation is called by the accelerators, and since when.
//!
//! The one list of it: the emitters, the partitioner and the README's table read this.

use super::graph::{Graph, Node};
use super::op::{DType, Op};

/// Element types, for [`Row::types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    F32,
    F16,
    I32,
    Bool,
    I8,
}

impl From<&DType> for Kind {
    fn from(dtype: &DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::I32 => Self::I32,
            DType::Bool => Self::Bool,
            DType::I8(_) => Self::I8,
        }
    }
}

/// An operation of NNAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nnapi {
    /// Its number in `NeuralNetworksTypes.h`.
    pub code: i32,
    /// The feature level that brought it in the types of the row.
    pub level: u32,
}

/// An operation of Core ML's MIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mil {
    /// Its name.
    pub name: &'static str,
    /// The opset, by the version of iOS that brought it.
    pub opset: u32,
}

/// What is known of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// [`Op::name`].
    pub op: &'static str,
    /// Types that its first operand may have; [`Op::infer`] says how the others follow.
    pub types: &'static [Kind],
    /// NNAPI's.
    pub nnapi: Option<Nnapi>,
    /// Core ML's.
    pub mil: Option<Mil>,
}

/// Most axes that NNAPI's operations take.
pub const NNAPI_RANK: usize = 4;
/// Most axes that Core ML's operations take.
pub const MIL_RANK: usize = 5;

const FLOAT: &[Kind] = &[Kind::F32, Kind::F16];
const NUMBER: &[Kind] = &[Kind::F32, Kind::F16, Kind::I32];
const ANY: &[Kind] = &[Kind::F32, Kind::F16, Kind::I32, Kind::I8];
const MASK: &[Kind] = &[Kind::Bool];
const CODE: &[Kind] = &[Kind::I8];

macro_rules! rows {
    ($($op:literal $types:ident, $code:tt $level:tt, $mil:tt $opset:tt;)*) => {
        &[$(Row { op: $op, types: $types, nnapi: rows!(@nnapi $code $level), mil: rows!(@mil $mil $opset) }),*]
    };
    (@nnapi - -) => { None };
    (@nnapi $code:literal $level:literal) => { Some(Nnapi { code: $code, level: $level }) };
    (@mil - -) => { None };
    (@mil $mil:literal $opset:literal) => { Some(Mil { name: $mil, opset: $opset }) };
}

/// All operations. Of NNAPI the number and the level, of Core ML the name and the opset.
pub const TABLE: &[Row] = rows! {
    "neg"            FLOAT,  67 3,  "mul" 15;
    "abs"            FLOAT,  38 3,  "abs" 15;
    "sqrt"           FLOAT,  88 3,  "sqrt" 15;
    "rsqrt"          FLOAT,  83 3,  "rsqrt" 15;
    "exp"            FLOAT,  49 3,  "exp" 15;
    "log"            FLOAT,  60 3,  "log" 15;
    "sin"            FLOAT,  85 3,  "sin" 15;
    "tanh"           FLOAT,  28 1,  "tanh" 15;
    "sigmoid"        FLOAT,  14 1,  "sigmoid" 15;
    "relu"           FLOAT,  19 1,  "relu" 15;
    "floor"          FLOAT,  8 1,   "floor" 15;
    "erf"            FLOAT,  - -,   "erf" 15;
    "add"            NUMBER, 0 1,   "add" 15;
    "sub"            NUMBER, 36 2,  "sub" 15;
    "mul"            NUMBER, 18 1,  "mul" 15;
    "div"            FLOAT,  30 2,  "real_div" 15;
    "pow"            FLOAT,  70 3,  "pow" 15;
    "max"            NUMBER, 65 3,  "maximum" 15;
    "min"            NUMBER, 66 3,  "minimum" 15;
    "lt"             NUMBER, 58 3,  "less" 15;
    "le"             NUMBER, 59 3,  "less_equal" 15;
    "gt"             NUMBER, 53 3,  "greater" 15;
    "ge"             NUMBER, 54 3,  "greater_equal" 15;
    "eq"             NUMBER, 48 3,  "equal" 15;
    "ne"             NUMBER, 68 3,  "not_equal" 15;
    "select"         MASK,   84 3,  "select" 15;
    "cast"           NUMBER, 45 3,  "cast" 15;
    "linear"         FLOAT,  9 1,   "linear" 15;
    "matmul"         FLOAT,  102 6, "matmul" 15;
    "reduce_sum"     FLOAT,  80 3,  "reduce_sum" 15;
    "reduce_mean"    FLOAT,  31 2,  "reduce_mean" 15;
    "reduce_max"     FLOAT,  77 3,  "reduce_max" 15;
    "softmax"        FLOAT,  25 1,  "softmax" 15;
    "reshape"        ANY,    22 1,  "reshape" 15;
    "transpose"      ANY,    37 2,  "transpose" 15;
    "slice"          ANY,    86 3,  "slice_by_size" 15;
    "concat"         ANY,    2 1,   "concat" 15;
    "pad"            FLOAT,  32 2,  "pad" 15;
    "tile"           NUMBER, 89 3,  "tile" 15;
    "gather"         NUMBER, 51 3,  "gather" 15;
    "conv"           FLOAT,  3 1,   "conv" 15;
    "conv_transpose" FLOAT,  91 3,  "conv_transpose" 15;
    "avg_pool"       FLOAT,  1 1,   "avg_pool" 15;
    "quantize"       FLOAT,  72 4,  "quantize" 17;
    "dequantize"     CODE,   6 4,   "dequantize" 17;
    "coded_linear"   CODE,   9 4,   - -;
    "coded_conv"     CODE,   3 4,   - -;
};

/// The row of an operation.
#[must_use]
pub fn row(op: &Op) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.op == op.name())
}

/// For whom a graph is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// NNAPI of this feature level, from 1.
    Nnapi(u32),
    /// Core ML of this opset.
    CoreMl(u32),
}

impl Target {
    /// Whether it has the operation at all.
    #[must_use]
    pub fn has(self, op: &Op) -> bool {
        let Some(row) = row(op) else { return false };
        match self {
            Self::Nnapi(level) => row.nnapi.is_some_and(|nnapi| nnapi.level <= level),
            Self::CoreMl(opset) => row.mil.is_some_and(|mil| mil.opset <= opset),
        }
    }

    /// Most axes of a value.
    #[must_use]
    pub fn rank(self) -> usize {
        match self {
            Self::Nnapi(_) => NNAPI_RANK,
            Self::CoreMl(_) => MIL_RANK,
        }
    }

    /// Whether it takes a node as it stands: the operation, the types and the ranks.
    #[must_use]
    pub fn takes(self, graph: &Graph, node: &Node) -> bool {
        let kind = Kind::from(&graph.ty(node.inputs[0]).dtype);
        let fits = row(&node.op).is_some_and(|row| row.types.contains(&kind));
        let since = match (kind, &node.op) {
            // F16 came with level 3, whatever the operation.
            (Kind::F16, _) => 3,
            (Kind::I32, Op::Reshape(_)) => 6,
            (Kind::I32, Op::Binary(_)) => 4,
            (Kind::I32, Op::Transpose(_) | Op::Concat(_)) => u32::MAX,
            _ => 1,
        };
        let old = matches!(self, Self::Nnapi(level) if level < since);
        let ranks = node.inputs.iter().chain([&node.output]);
        fits && !old
            && self.has(&node.op)
            && ranks.into_iter().all(|&v| graph.shape(v).len() <= self.rank())
    }
}
