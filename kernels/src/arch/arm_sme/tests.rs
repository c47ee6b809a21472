//! What a caller of the standard's may have in the matrix registers.

use std::arch::asm;
use std::ptr::null_mut;

use crate::gemm::bytes::{Bytes, Right, Scales};
use crate::isa::Isa;

/// Bytes of a row of ZA, and rows.
const SIZE: usize = 64;

/// Where a lazy save goes (AAPCS64, "TPIDR2 block").
#[repr(C)]
struct Block {
    buffer: *mut u8,
    rows: u16,
    reserved: [u8; 6],
}

/// Fills ZA, sets it aside under `block` and multiplies; TPIDR2_EL0 and SVCR afterwards.
fn multiply_with_za_set_aside(isa: Isa, za: &[u8; SIZE * SIZE], block: &Block) -> [u64; 2] {
    let product = Bytes::new(isa, [1, 1, 8], true);
    let (a, mut c) = ([3i8; 8], 0f32);
    let mut shared = vec![0f32; product.shared_len()];
    let mut scratch = vec![0f32; product.scratch_len()];
    let one = Scales::new(&[1.0]);
    let right = Right { b: a.as_ptr(), scales: one, bias: std::ptr::null() };
    let [mut tpidr2, mut svcr] = [0u64; 2];
    // SAFETY: the level is present, so are its registers; the buffers have the product's sizes.
    unsafe {
        product.pack(0, a.as_ptr(), one, shared.as_mut_ptr());
        asm!(
            ".arch_extension sme",
            "smstart za",
            "mov w12, wzr",
            "2:",
            "ldr za[w12, 0], [{za}]",
            "add {za}, {za}, #64",
            "add w12, w12, #1",
            "cmp w12, #64",
            "b.ne 2b",
            "msr tpidr2_el0, {block}",
            za = inout(reg) za.as_ptr() => _, block = in(reg) std::ptr::from_ref(block),
            out("x12") _,
        );
        product.run(0, shared.as_ptr(), right, &raw mut c, scratch.as_mut_ptr());
        asm!(
            ".arch_extension sme",
            "mrs {tpidr2}, tpidr2_el0",
            "mrs {svcr}, svcr",
            "smstop za",
            "msr tpidr2_el0, xzr",
            tpidr2 = out(reg) tpidr2, svcr = out(reg) svcr,
        );
    }
    assert_eq!(c, 72.0);
    [tpidr2, svcr]
}

#[test]
fn what_a_caller_set_aside_is_saved() {
    let Ok(isa) = Isa::from_name("sme") else { return };
    let za: [u8; SIZE * SIZE] = std::array::from_fn(|i| (i * 7 + i / 64) as u8);
    for rows in [SIZE, 5, 0] {
        let mut saved = [0; SIZE * SIZE];
        let block = Block { buffer: saved.as_mut_ptr(), rows: rows as u16, reserved: [0; 6] };
        assert_eq!(multiply_with_za_set_aside(isa, &za, &block), [0, 0]);
        assert_eq!(saved[..rows * SIZE], za[..rows * SIZE]);
        assert!(saved[rows * SIZE..].iter().all(|&x| x == 0));
    }
    let nowhere = Block { buffer: null_mut(), rows: SIZE as u16, reserved: [0; 6] };
    assert_eq!(multiply_with_za_set_aside(isa, &za, &nowhere), [0, 0]);
}
