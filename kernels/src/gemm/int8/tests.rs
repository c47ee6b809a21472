//! Parity of the int8 product with its reference, and what it does with the extremes.

use super::super::tests::{check, noise, run};
use super::super::{Epilogue, Gemm, Precision};
use crate::isa::Isa;
use crate::quant::Format;

const FORMATS: [Format; 3] = [Format::Q4_0, Format::Q4_1, Format::Q8_0];

fn product(isa: Isa, size: [usize; 3], format: Format) -> Gemm {
    Gemm::new(isa, size, false, format, true).with_precision(Precision::Int8)
}

fn encoded(format: Format, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    // SAFETY: room for all blocks.
    unsafe { format.encode(Isa::PORTABLE, values.as_ptr(), values.len(), bytes.as_mut_ptr()) };
    bytes
}

#[test]
fn every_format_at_every_size() {
    for isa in Isa::available() {
        for format in FORMATS {
            for n in 1..=70 {
                // 11 and 7 share no factor with 23 and 29: all remainders of every tile come up.
                let size = [n * 11 % 23, n, 32 * (n * 7 % 29)];
                check(&product(isa, size, format), n % 3 == 0, n % 5 < 2);
            }
            // More than one slab, more than one block of rows, columns of several tasks.
            for size in [[5, 40, 800], [9, 33, 1568], [530, 17, 64], [3, 1100, 32], [40, 300, 96]] {
                check(&product(isa, size, format), size[0] % 2 == 0, size[1] % 2 == 1);
            }
        }
    }
}

/// The bits of an element depend on its row and its column alone.
#[test]
fn any_split_gives_the_same_bits() {
    let (m, n, k) = (29, 130, 832);
    for isa in Isa::available() {
        for format in FORMATS {
            let (a, b) = (noise(m * k, 1), encoded(format, &noise(n * k, 2)));
            let mut whole = vec![0.0; m * n];
            run(&product(isa, [m, n, k], format), &a, &b, &mut whole, Epilogue::NONE);
            let row_bytes = b.len() / n;
            for (rows, columns) in [(3..17, 0..n), (8..m, 31..64), (0..m, 100..n)] {
                let size = [rows.len(), columns.len(), k];
                let mut part = vec![0.0; size[0] * size[1]];
                let (a, b) = (&a[rows.start * k..], &b[columns.start * row_bytes..]);
                run(&product(isa, size, format), a, b, &mut part, Epilogue::NONE);
                for (i, row) in rows.enumerate() {
                    let want = &whole[row * n..][columns.clone()];
                    assert_eq!(&part[i * size[1]..][..size[1]], want, "{} {format:?}", isa.name());
                }
            }
        }
    }
}

/// The stated bound against the product of what was not rounded.
#[test]
fn rounding_stays_in_its_bound() {
    let (m, n, k) = (12, 50, 288);
    let (a, values) = (noise(m * k, 5), noise(n * k, 6));
    for isa in Isa::available() {
        for format in FORMATS {
            let b = encoded(format, &values);
            let mut decoded = vec![0.0; n * k];
            // SAFETY: all blocks and their elements.
            unsafe { format.decode(Isa::PORTABLE, b.as_ptr(), n * k, decoded.as_mut_ptr()) };
            let mut c = vec![0.0; m * n];
            run(&product(isa, [m, n, k], format), &a, &b, &mut c, Epilogue::NONE);
            for (i, &got) in c.iter().enumerate() {
                let (x, y) = (&a[i / n * k..][..k], &decoded[i % n * k..][..k]);
                let exact: f64 = x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum();
                let bound: f32 = (x.chunks(32).zip(y.chunks(32)))
                    .map(|(x, y)| {
                        let largest = x.iter().fold(0f32, |most, x| most.max(x.abs()));
                        largest / 254.0 * y.iter().map(|y| y.abs()).sum::<f32>()
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
            run(&product(isa, [m, n, k], format), &a, &b, &mut c, Epilogue::NONE);
            let want = -127.0 * weight * k as f32;
            assert!(c.iter().all(|&c| c == want), "{}: {} is not {want}", isa.name(), c[0]);
        }
    }
}

#[test]
fn rows_that_are_not_finite_and_rows_too_small() {
    let (m, n, k) = (9, 20, 96);
    for isa in Isa::available() {
        for format in FORMATS {
            let mut a = noise(m * k, 1);
            a[k + 40] = f32::NAN;
            a[3 * k] = f32::NEG_INFINITY;
            a[5 * k..6 * k].fill(1e-38);
            a[6 * k..7 * k].fill(0.0);
            let b = encoded(format, &noise(n * k, 2));
            let mut c = vec![7.0; m * n];
            run(&product(isa, [m, n, k], format), &a, &b, &mut c, Epilogue::NONE);
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
