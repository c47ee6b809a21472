//! One folder for each instruction set: its token and what is its own.

pub mod portable;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx2;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx512;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx512_bf16;

#[cfg(target_arch = "aarch64")]
pub mod arm_neon;
