//! Products of few rows: every format, layout and odd size against the reference.

use super::super::tests::{check, noise, run};
use super::super::{Epilogue, Gemm, Precision};
use super::{CHUNK, ROWS};
use crate::isa::Isa;
use crate::quant::Format;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

/// Every layout that a precision takes.
fn layouts(precision: Precision) -> impl Iterator<Item = (bool, bool)> {
    [(false, false), (false, true), (true, false), (true, true)]
        .into_iter()
        .filter(move |&(trans_a, _)| precision.takes(trans_a))
}

/// Sizes whose stored rows are whole blocks.
fn whole([m, n, k]: [usize; 3], format: Format, trans_b: bool) -> [usize; 3] {
    let block = format.block_elems();
    if trans_b { [m, n, k.next_multiple_of(block)] } else { [m, n.next_multiple_of(block), k] }
}

#[test]
fn every_format_layout_and_precision() {
    for isa in Isa::available() {
        for &format in Format::ALL {
            for precision in PRECISIONS {
                for (trans_a, trans_b) in layouts(precision) {
                    for (m, n, k) in
                        [(1, 37, 96), (2, 7, 33), (3, 131, 289), (5, 13, 1), (8, 6, 70)]
                    {
                        let size = whole([m, n, k], format, trans_b);
                        let gemm = Gemm::new(isa, size, trans_a, format, trans_b);
                        check(&gemm.with_precision(precision), m % 2 == 0, n % 3 == 1);
                    }
                }
            }
        }
    }
}

#[test]
fn every_count_of_blocks_and_columns() {
    for isa in Isa::available() {
        for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0, Format::Q4K, Format::F32] {
            for n in 1..=20 {
                // 7 shares no factor with 19: each number of blocks comes with each n.
                let size @ [m, n, k] = [n % ROWS + 1, n, 32 * (n * 7 % 19)];
                for precision in [Precision::F32, Precision::Int8] {
                    let gemm = Gemm::new(isa, whole(size, format, true), false, format, true);
                    check(&gemm.with_precision(precision), n % 3 == 0, n % 5 < 2);
                }
                let gemm = Gemm::new(isa, whole([m, k, n], format, false), false, format, false);
                check(&gemm, n % 5 < 2, n % 3 == 0);
            }
        }
    }
}

#[test]
fn more_than_one_stretch_and_task() {
    for isa in Isa::available() {
        for format in [Format::F32, Format::BF16, Format::Q5_1, Format::Q6K, Format::Q4_1] {
            for trans_b in [false, true] {
                let size = whole([3, CHUNK + 300, 2 * CHUNK + 40], format, trans_b);
                check(&Gemm::new(isa, size, false, format, trans_b), true, true);
                let size = whole([1, 2100, 70], format, trans_b);
                let gemm = Gemm::new(isa, size, false, format, trans_b);
                assert!(gemm.tasks() > 1);
                check(&gemm, false, true);
            }
        }
    }
}

/// The bits of an element depend on its row and its column alone, so any number of rows, columns
/// and threads gives the same.
#[test]
fn any_split_gives_the_same_bits() {
    for isa in Isa::available() {
        for (format, precision) in [
            (Format::Q4_0, Precision::Int8),
            (Format::Q4_1, Precision::Int8),
            (Format::Q8_0, Precision::Int8),
            (Format::Q4K, Precision::Int8),
            (Format::Q4_1, Precision::F32),
            (Format::Q4K, Precision::F32),
            (Format::F32, Precision::F32),
        ] {
            let [m, n, k] = whole([ROWS, 64, 416], format, true);
            let (a, values) = (noise(m * k, 1), noise(n * k, 2));
            let row = format.row_bytes(k).unwrap();
            let mut b = vec![0f32; n * row / 4];
            // SAFETY: room for all blocks; then the same memory as bytes.
            let b = unsafe {
                format.encode(Isa::PORTABLE, values.as_ptr(), n * k, b.as_mut_ptr().cast());
                std::slice::from_raw_parts(b.as_ptr().cast::<u8>(), n * row)
            };
            let product =
                |m, n| Gemm::new(isa, [m, n, k], false, format, true).with_precision(precision);
            let mut all = vec![0.0; m * n];
            run(&product(m, n), &a, b, &mut all, Epilogue::NONE);
            for (rows, columns) in [(0..1, 0..n), (1..4, 7..18), (m - 1..m, 63..64)] {
                let size = [rows.len(), columns.len()];
                let mut part = vec![0.0; size[0] * size[1]];
                let (a, b) = (&a[rows.start * k..], &b[columns.start * row..]);
                run(&product(size[0], size[1]), a, b, &mut part, Epilogue::NONE);
                for (i, r) in rows.enumerate() {
                    let want = &all[r * n..][columns.clone()];
                    assert_eq!(&part[i * size[1]..][..size[1]], want, "{} {format:?}", isa.name());
                }
            }
        }
    }
}
