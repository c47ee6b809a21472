//! Panels of more and fewer rows and columns than a tile's, whatever the length of vectors.

use super::super::arm_neon::NeonFamily;
use super::Sve;
use crate::isa::Isa;
use crate::simd::{Lane, Panels};

const MR: usize = 8;
const WIDTH: usize = 48;
const DEPTH: usize = 5;

/// Small integers, which sums keep exactly.
fn noise(i: usize) -> i8 {
    (i * 29 % 15) as i8 - 7
}

/// The product of panels of `noise`, and what it should be.
fn multiply(s: Sve, lane: Lane, [rows, columns]: [usize; 2], add: bool, bias: bool) {
    let codes = if matches!(lane, Lane::I8) { 4 } else { 1 };
    let value = |code: i8| match lane {
        Lane::I8 => f32::from_bits(i32::from(code) as u32),
        _ => f32::from(code),
    };
    let pack = |panels: usize, width: usize, seed: usize| -> Vec<f32> {
        let lane = |i: usize| match lane {
            Lane::I8 => f32::from_ne_bytes([0, 1, 2, 3].map(|c| noise(seed + 4 * i + c) as u8)),
            _ => f32::from(noise(seed + i)),
        };
        (0..panels * width * DEPTH).map(lane).collect()
    };
    let (a, b) = (pack(rows.div_ceil(MR), MR, 3), pack(columns.div_ceil(WIDTH), WIDTH, 11));
    let step = columns + 3;
    let before: Vec<i8> = (0..rows * step).map(|i| noise(i + 5)).collect();
    let biases: Vec<i8> = (0..columns).map(|i| noise(i + 7)).collect();
    let mut c: Vec<f32> = before.iter().map(|&x| value(x)).collect();
    let bias_values: Vec<f32> = biases.iter().map(|&x| value(x)).collect();
    let panels = Panels {
        a: a.as_ptr(),
        a_step: MR * DEPTH,
        b: b.as_ptr(),
        b_step: WIDTH * DEPTH,
        depth: DEPTH,
        c: c.as_mut_ptr(),
        c_step: step,
        rows,
        columns,
        bias: if bias { bias_values.as_ptr() } else { std::ptr::null() },
        accumulate: add,
    };
    // SAFETY: whole panels, and a C of those rows and columns.
    unsafe { s.multiply_panels(lane, &panels) };
    for i in 0..rows {
        for j in 0..step {
            let at = i * step + j;
            let mut want = i32::from(before[at]);
            if j < columns {
                want = if add { want } else { 0 } + if bias { i32::from(biases[j]) } else { 0 };
                for p in 0..DEPTH * codes {
                    let of = |panel: usize, width: usize, lane: usize, seed: usize| {
                        let lane = (panel * DEPTH + p / codes) * width + lane;
                        i32::from(noise(seed + lane * codes + p % codes))
                    };
                    want += of(i / MR, MR, i % MR, 3) * of(j / WIDTH, WIDTH, j % WIDTH, 11);
                }
            }
            let got = match lane {
                Lane::I8 => c[at].to_bits() as i32,
                _ => c[at] as i32,
            };
            assert_eq!(got, want, "{lane:?}, {rows} x {columns}, row {i}, column {j}");
        }
    }
}

#[test]
fn panels_of_any_size() {
    if Isa::from_name("sve").is_err() {
        return;
    }
    // SAFETY: the level is present.
    let s = unsafe { Sve::new_unchecked() };
    for rows in [1, 7, 8, 9, 24] {
        for columns in [1, 11, 12, 13, 24, 25, 47, 48, 49, 96, 101] {
            for (add, bias) in [(false, false), (true, false), (false, true)] {
                multiply(s, Lane::F32, [rows, columns], add, bias);
                multiply(s, Lane::I8, [rows, columns], add, false);
            }
        }
    }
}
