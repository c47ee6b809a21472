//! What benchmarks share: the limits of a machine, and networks to train.

pub mod limits;
pub mod nets;
