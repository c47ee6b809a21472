//! Tenon's compute kernels.
//!
//! A kernel is a pure function on memory that its caller owns: it allocates nothing, starts no
//! thread, and knows no tensor, graph or global. Its body is written once over a [`simd::Simd`]
//! token; [`isa::Isa::run`] compiles that body for every instruction set and picks one at run
//! time. Every kernel has a scalar reference and a stated tolerance beside it.
//!
//! | family | what it computes |
//! |---|---|
//! | [`unary`] | `y[i] = f(x[i])` |
//! | [`binary`] | `z[i] = f(x[i], y[i])` with broadcasting, select |
//! | [`fused`] | a chain of unary, binary and select in one pass over memory |
//! | [`reduce`] | sums, means and maxima along axes, norms |
//! | [`row`] | softmax, normalisation, rope, cross-entropy, forward and backward |
//! | [`gemm`] | the three matrix products of training, from any weight format |
//! | [`index`] | gather rows and its scatter-add |
//! | [`cast`] | f32 from and to the types of storage |
//! | [`movement`] | strided copy: transpose, slice, concat, pad, broadcast |
//! | [`conv`] | convolution and pooling, forward and backward |
//! | [`attention`] | tiled attention, forward and backward |
//! | [`update`] | optimizer steps in one pass over memory |
//! | [`exchange`] | what federated clients send: sums, masks, short codes, the largest elements |
//! | [`quant`] | block formats, encode and decode |
//! | [`random`] | the counter-based generator (Philox) |

#[macro_use]
mod family;

pub mod arch;
pub mod attention;
pub mod binary;
pub mod broadcast;
pub mod cast;
pub mod conv;
pub mod exchange;
pub mod fused;
pub mod gemm;
pub mod index;
pub mod isa;
pub mod movement;
mod product;
pub mod quant;
pub mod random;
pub mod reduce;
pub mod reference;
pub mod row;
pub mod simd;
pub mod tolerance;
pub mod unary;
pub mod update;

pub use isa::Isa;
pub use tolerance::Tolerance;

/// f32 ahead of its place from where a pass over memory asks for more, for processors stop reading
/// ahead at the end of a page: at 64 MiB, AdamW takes 4 to 7 % less time, functions of two operands
/// 2 to 10 %, a sum 3 % (Zen 5). Functions of one operand took up to 8 % longer and do without.
const AHEAD: usize = 512;
