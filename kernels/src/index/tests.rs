//! Gather and scatter against one element at a time, on every level.

use super::*;

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect()
}

#[test]
fn finds_the_first_bad_id() {
    assert_eq!(out_of_range(&[0, 2, 1], 3), None);
    assert_eq!(out_of_range(&[0, 3, -1], 3), Some(1));
    assert_eq!(out_of_range(&[0, -1], 3), Some(1));
    assert_eq!(out_of_range(&[i32::MIN], usize::MAX), Some(0));
    assert_eq!(out_of_range(&[], 0), None);
}

#[test]
fn gathers_rows_of_every_format() {
    const COLS: usize = 256;
    let x = values(5 * COLS);
    let ids = [3, 0, 3, 4];
    for &format in Format::ALL {
        let row_bytes = format.row_bytes(COLS).unwrap();
        // In f32, for the alignment of all formats.
        let mut table = vec![0f32; (5 * row_bytes).div_ceil(size_of::<f32>())];
        // SAFETY: the table has room for all rows.
        unsafe { format.encode(Isa::best(), x.as_ptr(), x.len(), table.as_mut_ptr().cast()) };
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; ids.len() * COLS];
            let table = Table { rows: table.as_ptr().cast(), format, cols: COLS };
            // SAFETY: five rows, ids below five, room for all results.
            unsafe { gather(isa, table, &ids, out.as_mut_ptr()) };
            for (i, &got) in out.iter().enumerate() {
                let at = ids[i / COLS] as usize * COLS + i % COLS;
                // SAFETY: an element of the table.
                let want = unsafe { format.element(table.rows, at) };
                assert_eq!(got.to_bits(), want.to_bits(), "{format:?} {} {i}", isa.name());
            }
        }
    }
}

#[test]
fn scatters_the_same_bits_however_columns_are_split() {
    let ids = [2, 0, 2, 2, 1, 0, 2];
    for cols in [1, 5, 16, 37, 64] {
        let x = values(ids.len() * cols);
        let mut want = vec![1.5; 4 * cols];
        for (i, &id) in ids.iter().enumerate() {
            for c in 0..cols {
                want[id as usize * cols + c] += x[i * cols + c];
            }
        }
        for isa in Isa::available() {
            for part in [cols, 3, 16] {
                let mut got = vec![1.5; 4 * cols];
                for first in (0..cols).step_by(part) {
                    let rows = Rows { start: x[first..].as_ptr(), stride: cols };
                    let out = Rows { start: got[first..].as_mut_ptr(), stride: cols };
                    // SAFETY: columns `first..first + part` of both matrices, ids below four.
                    unsafe { scatter_add(isa, rows, &ids, part.min(cols - first), out) };
                }
                assert_eq!(got, want, "{} {cols} {part}", isa.name());
            }
        }
    }
}
