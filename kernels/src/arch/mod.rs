//! One folder for each instruction set: its token and what is its own.
//!
//! One extension of Arm has no level: arithmetic in half floats (FEAT_FP16) keeps 11 bits of a sum, so
//! that no operation here would stay in its stated error. Conversion from and to them is part of every
//! level. The vectors of `arm_sve` have a length that is known at run time only, which [`Simd::LANES`]
//! cannot be: they multiply whole panels, as the matrix unit of `arm_sme` does.
//!
//! [`Simd::LANES`]: crate::simd::Simd::LANES

/// Methods of a token that consist of intrinsics: each body becomes one `unsafe` block.
macro_rules! token_methods {
    () => {};
    (fn $name:ident($self:ident $(, $arg:ident: $t:ty)*) $(-> $r:ty)? $body:block $($rest:tt)*) => {
        #[inline(always)]
        fn $name($self $(, $arg: $t)*) $(-> $r)? {
            // SAFETY: the token exists only where its instructions do.
            unsafe { $body }
        }
        token_methods! { $($rest)* }
    };
    (unsafe fn $name:ident($self:ident $(, $arg:ident: $t:ty)*) $(-> $r:ty)? $body:block $($rest:tt)*) => {
        #[inline(always)]
        unsafe fn $name($self $(, $arg: $t)*) $(-> $r)? {
            // SAFETY: the token exists only where its instructions do; the caller vouches for
            // the memory.
            unsafe { $body }
        }
        token_methods! { $($rest)* }
    };
}

pub mod portable;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx2;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx512;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx512_bf16;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx512_vnni;
#[cfg(target_arch = "x86_64")]
pub mod x86_avx_vnni;

#[cfg(target_arch = "aarch64")]
pub mod arm_neon;
#[cfg(target_arch = "aarch64")]
pub mod arm_neon_dotprod;
#[cfg(target_arch = "aarch64")]
pub mod arm_neon_mmla;
#[cfg(target_arch = "aarch64")]
pub mod arm_sme;
#[cfg(target_arch = "aarch64")]
pub mod arm_sve;
