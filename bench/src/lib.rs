//! What benchmarks share: aligned memory, the limits of a machine, and networks to train.

pub mod aligned;
pub mod limits;
pub mod nets;
