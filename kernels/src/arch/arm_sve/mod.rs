//! The Scalable Vector Extension with vectors of 256 or 512 bits: what [`arm_neon`](super::arm_neon)
//! has and, beyond it, products of whole panels
//! ([`Simd::multiply_panels`](crate::simd::Simd::multiply_panels)) in f32 and of bytes with one scale
//! a row. Where vectors have 128 bits, as on phones and boards, NEON does the same, and this level is
//! not found; where there are matrix products of NEON beside two pipes of 256 bits (Neoverse V1),
//! [`arm_neon_mmla`](super::arm_neon_mmla) comes first, for its four pipes multiply as much.
//!
//! A register tile is 8 rows by three vectors of columns, whatever their length: a micro-panel of 48
//! columns is walked in one go with 512 bits, in two with 256. Four values of A come by one load to
//! every 128 bits of a vector, and multiply-adds name one of the four. The inner loops, as `arm_neon`
//! counts them:
//!
//! | tile | multiply-adds in a turn | loads | instructions |
//! |---|---|---|---|
//! | f32, 8 rows by 3 vectors, 1 step | 24 `fmla` of a vector | 5 | 33 |
//! | int8, 8 rows by 3 vectors, 1 step of 4 | 24 `sdot` of a vector | 5 | 33 |
//!
//! Stable Rust has no types for these registers, so that a block of C, all its panels over one slab of
//! depth, is one piece of assembly, which also adds the sums to C and to the bias, at the edges under
//! predicates. `fmla` rounds as NEON's. A thread whose vectors do not fit a panel (Linux has a
//! `prctl` for that) traps.
//!
//! No chip with such vectors was at hand: all of it is seen under emulation only.

#[cfg(test)]
mod tests;

use std::arch::asm;
use std::mem::offset_of;

use super::arm_neon::NeonFamily;
use crate::simd::{Lane, Panels};

/// Proof that scalable vectors are present, with everything of [`Neon`](super::arm_neon::Neon).
#[derive(Clone, Copy, Debug)]
pub struct Sve(());

impl Sve {
    /// The token.
    ///
    /// # Safety
    /// [`is_present`] must hold, and the processor have Advanced SIMD.
    #[inline(always)]
    pub const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

/// Whether the processor has FEAT_SVE with vectors of 256 or 512 bits.
#[must_use]
pub fn is_present() -> bool {
    if !std::arch::is_aarch64_feature_detected!("sve") {
        return false;
    }
    let bytes: u64;
    // SAFETY: an instruction of FEAT_SVE, on a register alone.
    unsafe {
        asm!(
            ".arch_extension sve",
            "rdvl {bytes}, #1",
            bytes = lateout(reg) bytes,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    matches!(bytes, 32 | 64)
}

/// A row of sums, three vectors from `$x` on, and the `$i`-th of the four rows of A in `$a`.
macro_rules! row {
    ($multiply:literal, $lane:literal, $a:literal, $i:literal, [$x:literal, $y:literal, $z:literal]) => {
        concat!(
            $multiply, " z", $x, ".s, z2.", $lane, ", z", $a, ".", $lane, "[", $i, "]\n",
            $multiply, " z", $y, ".s, z3.", $lane, ", z", $a, ".", $lane, "[", $i, "]\n",
            $multiply, " z", $z, ".s, z4.", $lane, ", z", $a, ".", $lane, "[", $i, "]",
        )
    };
}

/// A row of sums to 0.
macro_rules! zero {
    ($x:literal, $y:literal, $z:literal) => {
        concat!("mov z", $x, ".s, #0\nmov z", $y, ".s, #0\nmov z", $z, ".s, #0")
    };
}

/// A row of sums to C; ends at label 8 where no more rows are left.
macro_rules! row_to_c {
    ($add:literal, $x:literal, $y:literal, $z:literal) => {
        concat!(
            "ld1w {{z0.s}}, p4/z, [x10]\n",
            "ld1w {{z1.s}}, p5/z, [x10, #1, mul vl]\n",
            "ld1w {{z2.s}}, p6/z, [x10, #2, mul vl]\n",
            $add,
            " z",
            $x,
            ".s, z",
            $x,
            ".s, z5.s\n",
            $add,
            " z",
            $y,
            ".s, z",
            $y,
            ".s, z6.s\n",
            $add,
            " z",
            $z,
            ".s, z",
            $z,
            ".s, z7.s\n",
            $add,
            " z0.s, z0.s, z",
            $x,
            ".s\n",
            $add,
            " z1.s, z1.s, z",
            $y,
            ".s\n",
            $add,
            " z2.s, z2.s, z",
            $z,
            ".s\n",
            "st1w {{z0.s}}, p1, [x10]\n",
            "st1w {{z1.s}}, p2, [x10, #1, mul vl]\n",
            "st1w {{z2.s}}, p3, [x10, #2, mul vl]\n",
            "add x10, x10, x6\n",
            "subs x5, x5, #1\n",
            "b.eq 8f",
        )
    };
}

/// [`Panels`] by one kind of multiply-add, its lanes and its addition.
///
/// x0 the panels' description; x1 three vectors of a panel of B, x15 their bias, x3 their column of C,
/// x4 the columns from there on, x16 the bytes of a panel's row from there on, x7 those of three
/// vectors; x2 the panel of A, x5 the rows from there on; x8 and x9 cursors in the panels, x10 in C,
/// with rows of x6 bytes; x13 and x12 the lanes of one and two vectors. p1 to p3 the columns that
/// exist, p4 to p6 those that are added to. z0 and z1 values of A, z2 to z4 of B, z5 to z7 the bias,
/// all others sums.
macro_rules! multiply {
    ($panels:ident, $multiply:literal, $lane:literal, $add:literal) => {
        asm!(
            ".arch_extension sve",
            "rdvl x7, #3",
            "mov x14, #192",
            "udiv x8, x14, x7",
            "msub x14, x8, x7, x14",
            "cbz x14, 2f",
            "brk #1",
            "2:",
            "ptrue p0.b",
            "cntw x13",
            "lsl x12, x13, #1",
            "ldr x1, [x0, {b}]",
            "ldr x15, [x0, {bias}]",
            "ldr x3, [x0, {c}]",
            "ldr x4, [x0, {columns}]",
            "ldr x6, [x0, {c_step}]",
            "lsl x6, x6, #2",
            // A panel of B.
            "2:",
            "mov x16, #192",
            // Three vectors of it.
            "3:",
            "whilelo p1.s, xzr, x4",
            "whilelo p2.s, x13, x4",
            "whilelo p3.s, x12, x4",
            "ldrb w14, [x0, {accumulate}]",
            "mul x14, x14, x4",
            "whilelo p4.s, xzr, x14",
            "whilelo p5.s, x13, x14",
            "whilelo p6.s, x12, x14",
            zero!(5, 6, 7),
            "cbz x15, 4f",
            "ld1w {{z5.s}}, p1/z, [x15]",
            "ld1w {{z6.s}}, p2/z, [x15, #1, mul vl]",
            "ld1w {{z7.s}}, p3/z, [x15, #2, mul vl]",
            "add x15, x15, x7",
            "4:",
            "ldr x2, [x0, {a}]",
            "ldr x5, [x0, {rows}]",
            "mov x10, x3",
            // A panel of A.
            "5:",
            zero!(8, 9, 10),
            zero!(11, 12, 13),
            zero!(14, 15, 16),
            zero!(17, 18, 19),
            zero!(20, 21, 22),
            zero!(23, 24, 25),
            zero!(26, 27, 28),
            zero!(29, 30, 31),
            "mov x8, x2",
            "mov x9, x1",
            "ldr x11, [x0, {depth}]",
            "cbz x11, 7f",
            "6:",
            "ld1rqw {{z0.s}}, p0/z, [x8]",
            "ld1rqw {{z1.s}}, p0/z, [x8, #16]",
            "ld1w {{z2.s}}, p0/z, [x9]",
            "ld1w {{z3.s}}, p0/z, [x9, #1, mul vl]",
            "ld1w {{z4.s}}, p0/z, [x9, #2, mul vl]",
            row!($multiply, $lane, 0, 0, [8, 9, 10]),
            row!($multiply, $lane, 0, 1, [11, 12, 13]),
            row!($multiply, $lane, 0, 2, [14, 15, 16]),
            row!($multiply, $lane, 0, 3, [17, 18, 19]),
            row!($multiply, $lane, 1, 0, [20, 21, 22]),
            row!($multiply, $lane, 1, 1, [23, 24, 25]),
            row!($multiply, $lane, 1, 2, [26, 27, 28]),
            row!($multiply, $lane, 1, 3, [29, 30, 31]),
            "add x8, x8, #32",
            "add x9, x9, #192",
            "subs x11, x11, #1",
            "b.ne 6b",
            "7:",
            row_to_c!($add, 8, 9, 10),
            row_to_c!($add, 11, 12, 13),
            row_to_c!($add, 14, 15, 16),
            row_to_c!($add, 17, 18, 19),
            row_to_c!($add, 20, 21, 22),
            row_to_c!($add, 23, 24, 25),
            row_to_c!($add, 26, 27, 28),
            row_to_c!($add, 29, 30, 31),
            "ldr x14, [x0, {a_step}]",
            "add x2, x2, x14, lsl #2",
            "b 5b",
            "8:",
            "add x1, x1, x7",
            "add x3, x3, x7",
            "add x14, x12, x13",
            "subs x4, x4, x14",
            "b.ls 9f",
            "subs x16, x16, x7",
            "b.ne 3b",
            "ldr x14, [x0, {b_step}]",
            "add x1, x1, x14, lsl #2",
            "sub x1, x1, #192",
            "b 2b",
            "9:",
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
            // `clobber_abi` names a register, FFR, that this does not touch and LLVM warns of.
            out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _,
            out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _,
            out("v5") _, out("v6") _, out("v7") _, out("v8") _, out("v9") _,
            out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
            out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _,
            out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _,
            out("p0") _, out("p1") _, out("p2") _, out("p3") _, out("p4") _, out("p5") _, out("p6") _,
            options(nostack)
        )
    };
}

// SAFETY: the contract of `new_unchecked` names every feature of `Neon`.
unsafe impl NeonFamily for Sve {
    // 48 columns: three vectors of 512 bits, six of 256.
    const GEMM_NV: usize = 12;
    // No kernel of blocks of bytes is compiled for this level.
    const INT8_MR: usize = 4;
    const HAS_PANELS: bool = true;

    #[inline(always)]
    unsafe fn multiply_panels(self, lane: Lane, panels: &Panels) {
        // SAFETY: the caller's contract; the token exists only where its instructions do.
        unsafe {
            match lane {
                Lane::F32 => multiply!(panels, "fmla", "s", "fadd"),
                Lane::I8 => multiply!(panels, "sdot", "b", "add"),
                Lane::Bf16 => unreachable!("pairs of bfloat16 are for levels that multiply them"),
            }
        }
    }
}
