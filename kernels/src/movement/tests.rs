//! Copies against the definition: one element at a time.

use proptest::prelude::*;

use super::*;

/// The copy by its definition: the reference. Exact, so the tolerance is none.
fn reference<T: Copy>(dims: &[usize], src: &Layout, dst: &Layout, from: &[T], to: &mut [T]) {
    for flat in 0..dims.iter().product() {
        let (mut rest, mut s, mut d) = (flat, src.offset, dst.offset);
        for i in (0..dims.len()).rev() {
            s += rest % dims[i] * src.strides[i];
            d += rest % dims[i] * dst.strides[i];
            rest /= dims[i];
        }
        to[d] = from[s];
    }
}

/// Row-major strides.
fn contiguous(dims: &[usize]) -> Vec<usize> {
    (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect()
}

fn check<T: Copy + PartialEq + std::fmt::Debug + Default>(
    dims: &[usize],
    src: &Layout,
    dst: &Layout,
    element: impl Fn(usize) -> T,
) {
    let last = |l: &Layout| {
        l.offset + dims.iter().zip(&l.strides).map(|(&d, s)| (d.max(1) - 1) * s).sum::<usize>()
    };
    let from: Vec<T> = (0..=last(src)).map(element).collect();
    let mut want = vec![T::default(); last(dst) + 1];
    let mut got = want.clone();
    reference(dims, src, dst, &from, &mut want);
    let copy = StridedCopy::new(dims, src, dst);
    assert_eq!(copy.len(), dims.iter().product::<usize>());
    for isa in Isa::available() {
        got.fill(T::default());
        for unit in (0..copy.units()).rev() {
            // SAFETY: the vectors reach to the last element of the layouts.
            unsafe { copy.run(isa, from.as_ptr(), got.as_mut_ptr(), unit) };
        }
        assert!(got == want, "{isa:?} {dims:?} {src:?} {dst:?}");
    }
}

#[test]
fn transposes_of_every_kind() {
    for dims in [[33, 70, 1], [5, 3, 40], [64, 64, 64], [1, 17, 200], [3, 40_000, 2]] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let own = contiguous(&dims);
            let (dims, strides) = (order.map(|i| dims[i]), order.map(|i| own[i]));
            let (src, dst) = (Layout::new(3, &strides), Layout::new(1, &contiguous(&dims)));
            check(&dims, &src, &dst, |i| i as u32);
            check(&dims, &src, &dst, |i| i as u16);
            check(&dims, &src, &dst, |i| i as u8);
        }
    }
}

#[test]
fn broadcasts_and_fills() {
    for strides in [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0], [9, 0, 1]] {
        let dims = [7, 50, 9];
        let dst = Layout::new(0, &contiguous(&dims));
        check(&dims, &Layout::new(2, &strides), &dst, |i| i as f32);
    }
}

#[test]
fn nothing_and_one_element() {
    let scalar = Layout::default();
    check(&[], &scalar, &scalar, |i| i as u32 + 5);
    let empty = StridedCopy::new(&[3, 0, 2], &scalar, &scalar);
    assert!(empty.is_empty());
    assert_eq!(empty.units(), 0);
}

#[test]
fn what_both_sides_walk_alike_is_one_run() {
    let layout = Layout::new(0, &[300_000, 1000, 10, 1]);
    let copy = StridedCopy::new(&[2, 300, 100, 10], &layout, &layout);
    assert_eq!((copy.outer_len, copy.rows.extent, copy.cols.extent), (0, 1, 600_000));
    assert_eq!(copy.units(), 600_000usize.div_ceil(UNIT));
}

proptest! {
    /// Boxes of contiguous tensors, permuted, at any step.
    #[test]
    fn any_box(
        dims in prop::collection::vec(1usize..6, 0..=8),
        steps in prop::collection::vec(0usize..3, 8),
        gaps in prop::collection::vec(1usize..3, 8),
        turn in 0usize..8,
        offsets in (0usize..5, 0usize..5),
    ) {
        // A destination with gaps, its dimensions in turned order; a source that skips or repeats.
        let rank = dims.len();
        let (mut src, mut dst) = (vec![0; rank], vec![0; rank]);
        let (mut src_stride, mut dst_stride) = (1, 1);
        for k in (0..rank).rev() {
            src[k] = src_stride * steps[k];
            src_stride = (src_stride * dims[k] * steps[k]).max(src_stride);
            let i = (k + turn) % rank;
            dst[i] = dst_stride;
            dst_stride *= dims[i] * gaps[i];
        }
        if src_stride < 1 << 20 && dst_stride < 1 << 20 {
            let (src, dst) = (Layout::new(offsets.0, &src), Layout::new(offsets.1, &dst));
            check(&dims, &src, &dst, |i| i as u32 + 1);
        }
    }
}
