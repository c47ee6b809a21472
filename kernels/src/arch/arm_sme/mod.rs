//! The Scalable Matrix Extension with vectors of 512 bits, the only length of the known chips: what
//! [`arm_neon_mmla`](super::arm_neon_mmla) has and, beyond it, products of whole panels
//! ([`Simd::multiply_panels`](crate::simd::Simd::multiply_panels)) by outer products, for f32, pairs
//! of bfloat16 and bytes with one scale a row. Products of bytes with a scale a block of 32 stay
//! with `smmla`: after eight steps their sums are scaled, in registers that this unit does not share.
//!
//! A vector of rows times a vector of columns is 16 x 16 sums in one instruction. The unit holds
//! four tiles of those, 32 x 32 sums. A step is a row of a panel of A and one of B, two vectors each:
//! four instructions. The inner loops, as [`arm_neon`](super::arm_neon) counts them:
//!
//! | tile | multiply-adds in a turn | loads | instructions |
//! |---|---|---|---|
//! | f32, 32 rows by 32 columns, 2 steps | 8 `fmopa` of 256 | 8 | 20 |
//! | bfloat16, 32 rows by 32 columns, 2 steps of 2 | 8 `bfmopa` of 512 | 8 | 20 |
//! | int8, 32 rows by 32 columns, 2 steps of 4 | 8 `smopa` of 1024 | 8 | 20 |
//!
//! Stable Rust has no types for these registers, and its own code may not run between `smstart` and
//! `smstop`: all vectors lose what they hold at both, and most of Advanced SIMD is missing in
//! between. So a block of C, all its panels over one slab of depth, is one piece of assembly, which
//! also adds the sums to C and to the bias, at the edges under predicates.
//!
//! `fmopa` rounds as `fmla` does, but for NaN, of which it makes the default one; `bfmopa` rounds as
//! `bfmmla` does.
//!
//! What is assumed of the thread, as the procedure call standard (AAPCS64) has it for every function
//! that says nothing of SME:
//! - It is not in streaming mode.
//! - The matrix registers (ZA) are off, or hold what a caller set aside for the first callee that
//!   needs them to save: TPIDR2_EL0 then says where to, and the assembly saves them there.
//!
//! A thread whose vectors have another length than detection saw (Linux has a `prctl` for that)
//! traps. Where the chip offers several lengths, Linux gives a process 256 bits unless
//! `/proc/sys/abi/sme_default_vector_length` says 64 bytes; the level is then not found.
//!
//! No chip with this unit was at hand: all of it is seen under emulation only, and how many steps a
//! turn should take, and how often streaming mode may begin, is reasoned, not measured.

#[cfg(test)]
mod tests;

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::offset_of;

use super::arm_neon::NeonFamily;
use super::arm_neon_dotprod::dot_bytes;
use super::arm_neon_mmla::bf16_bits;
use crate::simd::{Lane, Panels};

/// Proof that the matrix unit is present, with everything of
/// [`NeonMmla`](super::arm_neon_mmla::NeonMmla).
#[derive(Clone, Copy, Debug)]
pub struct Sme(());

impl Sme {
    /// The token.
    ///
    /// # Safety
    /// [`is_present`] must hold, and the processor have Advanced SIMD, FEAT_DotProd, FEAT_I8MM and
    /// FEAT_BF16.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

/// Whether the processor has FEAT_SME with streaming vectors of 512 bits, as far as the system tells:
/// Linux, Android and Apple's do.
#[must_use]
pub fn is_present() -> bool {
    if !has_sme() {
        return false;
    }
    let bytes: u64;
    // SAFETY: an instruction of FEAT_SME, on a register alone.
    unsafe {
        asm!(
            ".arch_extension sme",
            "rdsvl {bytes}, #1",
            bytes = lateout(reg) bytes,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    bytes == 64
}

// `is_aarch64_feature_detected!("sme")` is not stable (rustc 1.95).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_sme() -> bool {
    use std::ffi::c_ulong;
    unsafe extern "C" {
        safe fn getauxval(kind: c_ulong) -> c_ulong;
    }
    const AT_HWCAP2: c_ulong = 26;
    const HWCAP2_SME: c_ulong = 1 << 23;
    getauxval(AT_HWCAP2) & HWCAP2_SME != 0
}

#[cfg(target_vendor = "apple")]
fn has_sme() -> bool {
    use std::ffi::{c_char, c_int, c_void};
    unsafe extern "C" {
        fn sysctlbyname(
            name: *const c_char,
            old: *mut c_void,
            old_len: *mut usize,
            new: *mut c_void,
            new_len: usize,
        ) -> c_int;
    }
    let (mut has, mut len) = (0 as c_int, size_of::<c_int>());
    let (name, old) = (c"hw.optional.arm.FEAT_SME".as_ptr(), (&raw mut has).cast());
    // SAFETY: a name with its end, and an integer of the length that is told; nothing is set.
    let failed = unsafe { sysctlbyname(name, old, &raw mut len, std::ptr::null_mut(), 0) };
    failed == 0 && has != 0
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn has_sme() -> bool {
    false
}

/// A row of a panel of A times one of B, the `$row`-th from the cursors on, through the registers
/// from `$z` on.
macro_rules! step {
    ($multiply:literal, $lane:literal, $row:literal, [$a:literal, $b:literal, $c:literal, $d:literal]) => {
        concat!(
            "ld1w {{z", $a, ".s}}, p0/z, [x8, #2*", $row, ", mul vl]\n",
            "ld1w {{z", $b, ".s}}, p0/z, [x8, #2*", $row, "+1, mul vl]\n",
            "ld1w {{z", $c, ".s}}, p0/z, [x9, #2*", $row, ", mul vl]\n",
            "ld1w {{z", $d, ".s}}, p0/z, [x9, #2*", $row, "+1, mul vl]\n",
            $multiply, " za0.s, p0/m, p0/m, z", $a, ".", $lane, ", z", $c, ".", $lane, "\n",
            $multiply, " za1.s, p0/m, p0/m, z", $a, ".", $lane, ", z", $d, ".", $lane, "\n",
            $multiply, " za2.s, p0/m, p0/m, z", $b, ".", $lane, ", z", $c, ".", $lane, "\n",
            $multiply, " za3.s, p0/m, p0/m, z", $b, ".", $lane, ", z", $d, ".", $lane,
        )
    };
}

/// Up to 16 rows of sums, of the two tiles `$left` and `$right`, to C; ends at label 7 where no more
/// rows are left.
macro_rules! rows_to_c {
    ($add:literal, $left:literal, $right:literal) => {
        concat!(
            "cmp x5, #16\n",
            "csel x14, x5, x13, lo\n",
            "mov w12, wzr\n",
            "6:\n",
            "mova z0.s, p0/m, za",
            $left,
            "h.s[w12, 0]\n",
            "mova z1.s, p0/m, za",
            $right,
            "h.s[w12, 0]\n",
            "ld1w {{z2.s}}, p3/z, [x10]\n",
            "ld1w {{z3.s}}, p4/z, [x10, #1, mul vl]\n",
            $add,
            " z0.s, z0.s, z30.s\n",
            $add,
            " z1.s, z1.s, z31.s\n",
            $add,
            " z0.s, z0.s, z2.s\n",
            $add,
            " z1.s, z1.s, z3.s\n",
            "st1w {{z0.s}}, p1, [x10]\n",
            "st1w {{z1.s}}, p2, [x10, #1, mul vl]\n",
            "add x10, x10, x6\n",
            "add w12, w12, #1\n",
            "cmp w12, w14\n",
            "b.lo 6b\n",
            "subs x5, x5, #16\n",
            "b.ls 7f",
        )
    };
}

/// [`Panels`] by one kind of outer product, its lanes and its addition.
///
/// x0 the panels' description; x1 the panel of B, x15 its bias, x3 its column of C, x4 the columns
/// from there on; x2 the panel of A, x5 the rows from there on; x8 and x9 cursors in the panels, x10
/// in C, with rows of x6 bytes. p1 and p2 the columns that exist, p3 and p4 those that are added to.
macro_rules! multiply {
    ($panels:ident, $multiply:literal, $lane:literal, $add:literal) => {
        asm!(
            ".arch_extension sme",
            "rdsvl x8, #1",
            "cmp x8, #64",
            "b.eq 2f",
            "brk #1",
            "2:",
            // What a caller has set aside in ZA: its bytes go to where TPIDR2_EL0 points.
            "mrs x8, tpidr2_el0",
            "cbz x8, 4f",
            "ldr x9, [x8]",
            "cbz x9, 3f",
            "ldrh w10, [x8, #8]",
            "mov w12, wzr",
            "2:",
            "cmp w12, w10",
            "b.hs 3f",
            "str za[w12, 0], [x9]",
            "add x9, x9, #64",
            "add w12, w12, #1",
            "b 2b",
            "3:",
            "msr tpidr2_el0, xzr",
            "4:",
            "smstart",
            "ptrue p0.b",
            "mov x13, #16",
            "ldr x1, [x0, {b}]",
            "ldr x15, [x0, {bias}]",
            "ldr x3, [x0, {c}]",
            "ldr x4, [x0, {columns}]",
            "ldr x6, [x0, {c_step}]",
            "lsl x6, x6, #2",
            // A panel of B.
            "2:",
            "whilelo p1.s, xzr, x4",
            "whilelo p2.s, x13, x4",
            "ldrb w14, [x0, {accumulate}]",
            "mul x14, x14, x4",
            "whilelo p3.s, xzr, x14",
            "whilelo p4.s, x13, x14",
            "mov z30.s, #0",
            "mov z31.s, #0",
            "cbz x15, 3f",
            "ld1w {{z30.s}}, p1/z, [x15]",
            "ld1w {{z31.s}}, p2/z, [x15, #1, mul vl]",
            "add x15, x15, #128",
            "3:",
            "ldr x2, [x0, {a}]",
            "ldr x5, [x0, {rows}]",
            "mov x10, x3",
            // A panel of A.
            "4:",
            "zero {{za}}",
            "mov x8, x2",
            "mov x9, x1",
            "ldr x11, [x0, {depth}]",
            "tbz x11, #0, 5f",
            step!($multiply, $lane, 0, [0, 1, 2, 3]),
            "add x8, x8, #128",
            "add x9, x9, #128",
            "5:",
            "lsr x11, x11, #1",
            "cbz x11, 6f",
            "5:",
            step!($multiply, $lane, 0, [0, 1, 2, 3]),
            step!($multiply, $lane, 1, [4, 5, 6, 7]),
            "add x8, x8, #256",
            "add x9, x9, #256",
            "subs x11, x11, #1",
            "b.ne 5b",
            "6:",
            rows_to_c!($add, 0, 1),
            rows_to_c!($add, 2, 3),
            "ldr x14, [x0, {a_step}]",
            "add x2, x2, x14, lsl #2",
            "b 4b",
            "7:",
            "ldr x14, [x0, {b_step}]",
            "add x1, x1, x14, lsl #2",
            "add x3, x3, #128",
            "subs x4, x4, #32",
            "b.hi 2b",
            "smstop",
            a = const offset_of!(Panels, a),
            a_step = const offset_of!(Panels, a_step),
            b = const offset_of!(Panels, b),
            b_step = const offset_of!(Panels, b_step),
            depth = const offset_of!(Panels, depth),
            c = const offset_of!(Panels, c),
            c_step = const offset_of!(Panels, c_step),
            rows = const offset_of!(Panels, rows),
            columns = const offset_of!(Panels, columns),
            bias = const offset_of!(Panels, bias),
            accumulate = const offset_of!(Panels, accumulate),
            in("x0") std::ptr::from_ref($panels),
            clobber_abi("C"),
            options(nostack)
        )
    };
}

// SAFETY: the contract of `new_unchecked` names every feature of `Neon`.
unsafe impl NeonFamily for Sme {
    const GEMM_MR: usize = 32;
    const GEMM_NV: usize = 8;
    // No kernel of blocks of bytes is compiled for this level.
    const INT8_MR: usize = 6;
    const HAS_DOT_BF16: bool = true;
    const HAS_PANELS: bool = true;

    #[inline(always)]
    fn dot_bytes<const BITS: usize>(
        self,
        a: float32x4_t,
        b: float32x4_t,
        sum: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe { dot_bytes(a, b, sum) }
    }

    #[inline(always)]
    fn bf16_bits(self, v: float32x4_t) -> uint16x4_t {
        // SAFETY: the token exists only where its instructions do.
        unsafe { bf16_bits(v) }
    }

    #[inline(always)]
    unsafe fn multiply_panels(self, lane: Lane, panels: &Panels) {
        // SAFETY: the caller's contract; the token exists only where its instructions do.
        unsafe {
            match lane {
                Lane::F32 => multiply!(panels, "fmopa", "s", "fadd"),
                Lane::Bf16 => multiply!(panels, "bfmopa", "h", "fadd"),
                Lane::I8 => multiply!(panels, "smopa", "b", "add"),
            }
        }
    }
}
