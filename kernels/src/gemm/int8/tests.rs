//! Parity of the int8 product with its reference, and what it does with the extremes.

use super::super::tests::{check, noise, run};
use super::super::{Epilogue, Gemm, Precision};
use crate::isa::Isa;
use crate::quant::Format;

/// Formats whose codes are multiplied as they are where `trans_b`.
const CODES: [Format; 4] = [Format::Q4_0, Format::Q4_1, Format::Q8_0, Format::Q4K];

/// Products of each kind: stored codes, rounded rows, rounded columns.
const KINDS: [(Format, bool); 7] = [
    (Format::Q4_0, true),
    (Format::Q4_1, true),
    (Format::Q8_0, true),
    (Format::Q4K, true),
    (Format::F32, true),
    (Format::Q4_1, false),
    (Format::F32, false),
];

fn product(isa: Isa, size: [usize; 3], format: Format, trans_b: bool) -> Gemm {
    Gemm::new(isa, size, false, format, trans_b).with_precision(Precision::Int8)
}

/// Rows of `columns`, each encoded alone, in memory that suits floats.
fn encoded(format: Format, columns: usize, values: &[f32]) -> Vec<f32> {
    let bytes = values.len() / columns * format.row_bytes(columns).unwrap();
    let mut data = vec![0f32; bytes.div_ceil(4)];
    // SAFETY: room for all blocks.
    unsafe {
        format.encode(Isa::PORTABLE, values.as_ptr(), values.len(), data.as_mut_ptr().cast());
    }
    data
}

fn bytes(data: &[f32]) -> &[u8] {
    // SAFETY: the same memory as bytes.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), data.len() * 4) }
}

/// Sizes of a product whose B has whole blocks.
fn whole([m, n, k]: [usize; 3], format: Format, trans_b: bool) -> [usize; 3] {
    let block = format.block_elems();
    if trans_b { [m, n, k.next_multiple_of(block)] } else { [m, n.next_multiple_of(block), k] }
}

#[test]
fn every_kind_at_every_size() {
    for isa in Isa::available() {
        for (format, trans_b) in KINDS {
            let of = |size| product(isa, whole(size, format, trans_b), format, trans_b);
            for n in 1..=70 {
                // 11 and 7 share no factor with 23 and 29: all remainders of every tile come up.
                check(&of([n * 11 % 23, n, 32 * (n * 7 % 29)]), n % 3 == 0, n % 5 < 2);
                check(&of([n * 11 % 23, n, n * 41 % 71]), n % 5 < 2, n % 3 == 0);
            }
            // More than one slab, more than one block of rows, columns of several tasks.
            for size in [[5, 40, 800], [9, 33, 1563], [530, 17, 61], [3, 1100, 32], [40, 300, 96]] {
                check(&of(size), size[0] % 2 == 0, size[1] % 2 == 1);
            }
        }
    }
}

#[test]
fn every_format_both_ways() {
    for isa in Isa::available() {
        for &format in Format::ALL {
            for trans_b in [false, true] {
                let size = whole([9, 300, 900], format, trans_b);
                check(&product(isa, size, format, trans_b), trans_b, !trans_b);
            }
        }
    }
}

/// The bits of an element depend on its row and its column alone.
#[test]
fn any_split_gives_the_same_bits() {
    for isa in Isa::available() {
        for (format, trans_b) in KINDS {
            let [m, n, k] = whole([29, 160, 832], format, trans_b);
            let (a, values) = (noise(m * k, 1), noise(n * k, 2));
            let row = if trans_b { k } else { n };
            let b = encoded(format, row, &values);
            let mut all = vec![0.0; m * n];
            run(&product(isa, [m, n, k], format, trans_b), &a, bytes(&b), &mut all, Epilogue::NONE);
            for (rows, columns) in [(3..17, 0..n), (8..m, 32..64), (0..m, 96..n)] {
                let size = [rows.len(), columns.len(), k];
                let mut part = vec![0.0; size[0] * size[1]];
                // The same columns: some rows of B, or a part of each.
                let of_each: Vec<f32>;
                let b = if trans_b {
                    &bytes(&b)[columns.start * format.row_bytes(k).unwrap()..]
                } else {
                    let some = values.chunks(n).flat_map(|row| &row[columns.clone()]);
                    of_each = encoded(format, columns.len(), &some.copied().collect::<Vec<_>>());
                    bytes(&of_each)
                };
                let a = &a[rows.start * k..];
                run(&product(isa, size, format, trans_b), a, b, &mut part, Epilogue::NONE);
                for (i, row) in rows.enumerate() {
                    let want = &all[row * n..][columns.clone()];
                    assert_eq!(&part[i * size[1]..][..size[1]], want, "{} {format:?}", isa.name());
                }
            }
        }
    }
}

/// The stated bound against the product of what was not rounded.
#[test]
fn rounding_stays_in_its_bound() {
    for isa in Isa::available() {
        for (format, trans_b) in KINDS {
            let [m, n, k] = whole([12, 64, 288], format, trans_b);
            let (a, values) = (noise(m * k, 5), noise(n * k, 6));
            let b = encoded(format, if trans_b { k } else { n }, &values);
            let mut decoded = vec![0.0; n * k];
            // SAFETY: all blocks and their elements.
            unsafe {
                format.decode(Isa::PORTABLE, b.as_ptr().cast(), n * k, decoded.as_mut_ptr());
            }
            let column = |j: usize| -> Vec<f32> {
                (0..k).map(|p| decoded[if trans_b { j * k + p } else { p * n + j }]).collect()
            };
            let mut c = vec![0.0; m * n];
            run(&product(isa, [m, n, k], format, trans_b), &a, bytes(&b), &mut c, Epilogue::NONE);
            let sum = |x: &[f32]| x.iter().map(|x| x.abs()).sum::<f32>();
            let largest = |x: &[f32]| x.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (i, &got) in c.iter().enumerate() {
                let (x, y) = (&a[i / n * k..][..k], column(i % n));
                let exact: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x * y)).sum();
                let bound: f32 = (x.chunks(32).zip(y.chunks(32)))
                    .map(|(x, y)| {
                        let of_a = largest(x) / 254.0;
                        let rounded = !(trans_b && CODES.contains(&format));
                        let of_b = if rounded { largest(y) / 254.0 } else { 0.0 };
                        of_a * sum(y) + of_b * (sum(x) + 32.0 * of_a)
                    })
                    .sum();
                let error = (f64::from(got) - exact).abs();
                assert!(error <= f64::from(bound) * 1.001, "{format:?}: {error} over {bound}");
            }
        }
    }
}

/// Codes that no encoder writes but a file may hold: -128 by 127 throughout.
#[test]
fn extreme_codes_do_not_saturate() {
    let (m, n, k) = (8, 33, 64);
    let one = half::f16::ONE.to_le_bytes();
    for isa in Isa::available() {
        for (format, byte, weight) in
            [(Format::Q8_0, 0x80, -128.0), (Format::Q4_0, 0x00, -8.0), (Format::Q4_1, 0xff, 16.0)]
        {
            let codes = if format == Format::Q8_0 { 32 } else { 16 };
            let mut block = one.to_vec();
            block.extend(if format == Format::Q4_1 { &one[..] } else { &[] });
            block.extend(vec![byte; codes]);
            let (a, b) = (vec![-127.0; m * k], block.repeat(n * k / 32));
            let mut c = vec![0.0; m * n];
            run(&product(isa, [m, n, k], format, true), &a, &b, &mut c, Epilogue::NONE);
            let want = -127.0 * weight * k as f32;
            assert!(c.iter().all(|&c| c == want), "{}: {} is not {want}", isa.name(), c[0]);
        }
    }
}

#[test]
fn what_is_not_finite_and_what_is_too_small() {
    for isa in Isa::available() {
        for (format, trans_b) in KINDS {
            let [m, n, k] = whole([9, 32, 96], format, trans_b);
            let mut a = noise(m * k, 1);
            a[k + 40] = f32::NAN;
            a[3 * k] = f32::NEG_INFINITY;
            a[5 * k..6 * k].fill(1e-38);
            a[6 * k..7 * k].fill(0.0);
            let b = encoded(format, if trans_b { k } else { n }, &noise(n * k, 2));
            let mut c = vec![7.0; m * n];
            let gemm = product(isa, [m, n, k], format, trans_b);
            run(&gemm, &a, bytes(&b), &mut c, Epilogue::NONE);
            for (i, row) in c.chunks(n).enumerate() {
                match i {
                    1 | 3 => assert!(row.iter().all(|c| c.is_nan()), "row {i}: {row:?}"),
                    5 => assert!(row.iter().all(|c| c.abs() < 1e-30)),
                    6 => assert!(row.iter().all(|&c| c == 0.0)),
                    _ => assert!(row.iter().all(|c| c.is_finite() && c.abs() > 0.0)),
                }
            }
        }
    }
}

#[test]
fn columns_that_are_not_finite() {
    let (m, n, k) = (9, 20, 70);
    for isa in Isa::available() {
        for trans_b in [false, true] {
            let mut b = noise(n * k, 1);
            let mut set = |p, j, x| b[if trans_b { j * k + p } else { p * n + j }] = x;
            set(40, 3, f32::NAN);
            set(69, 17, f32::INFINITY);
            let mut c = vec![7.0; m * n];
            let gemm = product(isa, [m, n, k], Format::F32, trans_b);
            run(&gemm, &noise(m * k, 2), bytes(&b), &mut c, Epilogue::NONE);
            for (i, c) in c.into_iter().enumerate() {
                assert_eq!(c.is_nan(), [3, 17].contains(&(i % n)), "column {}: {c}", i % n);
            }
        }
    }
}
