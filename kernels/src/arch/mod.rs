//! One folder for each instruction set: its token and what is its own.

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
