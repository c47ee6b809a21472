//! Copies a band of an image to scratch: padded, and one phase of its stride.

use crate::simd::Simd;

/// Consecutive channels of one image.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) data: *const f32,
    pub(super) channels: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// Which positions of every `step`-th row and column a band holds, along one axis.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// Position, within the phase, of the band's first item; what lies outside the image is zero.
    pub(super) start: isize,
    /// Items of the band.
    pub(super) len: usize,
    /// Image positions from one item to the next.
    pub(super) step: usize,
    /// Image position of item 0 of the phase.
    pub(super) phase: usize,
}

impl Window {
    /// The image position of item `i`, if it lies in an image of `size`.
    #[inline(always)]
    fn place(&self, i: usize, size: usize) -> Option<usize> {
        let at = usize::try_from(self.start + i as isize).ok()? * self.step + self.phase;
        (at < size).then_some(at)
    }

    /// The items that lie in an image of `size`.
    #[inline(always)]
    fn inside(&self, size: usize) -> (usize, usize) {
        let items = size.saturating_sub(self.phase).div_ceil(self.step) as isize;
        let first = (-self.start).clamp(0, self.len as isize);
        let end = (items - self.start).clamp(first, self.len as isize);
        (first as usize, end as usize)
    }
}

impl Source {
    /// Writes `[channels][rows.len][cols.len]` to `to`, and up to a vector past its end.
    ///
    /// Rows are written in order by whole vectors, of which the next row overwrites what is too
    /// much.
    ///
    /// # Safety
    /// The source must be readable and `to` valid for writing that many f32 and `MAX_LANES` more.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd>(self, s: S, rows: Window, cols: Window, to: *mut f32) {
        let (first, end) = cols.inside(self.cols);
        for c in 0..self.channels {
            for r in 0..rows.len {
                // SAFETY: row `r` of channel `c` lies inside `to`; `place` and `inside` keep the
                // reads inside the image.
                unsafe {
                    let line = to.add((c * rows.len + r) * cols.len);
                    let Some(y) = rows.place(r, self.rows).filter(|_| first < end) else {
                        fill(s, line, cols.len);
                        continue;
                    };
                    fill(s, line, first);
                    let x = (cols.start + first as isize) as usize * cols.step + cols.phase;
                    let from = self.data.add((c * self.rows + y) * self.cols + x);
                    let done = first + gather(s, from, cols.step, line.add(first), end - first);
                    fill(s, line.add(done), cols.len.saturating_sub(done));
                }
            }
        }
    }
}

/// Copies `n` values that lie `step` apart, and writes zeros up to a whole vector; gives how many
/// were written.
///
/// # Safety
/// `from` must be readable at those places and `to` valid for writing `n` f32 up to whole vectors.
#[inline(always)]
unsafe fn gather<S: Simd>(s: S, from: *const f32, step: usize, to: *mut f32, n: usize) -> usize {
    // SAFETY: the caller's contract.
    unsafe {
        if step > 1 {
            for i in 0..n {
                *to.add(i) = *from.add(i * step);
            }
            return n;
        }
        let mut i = 0;
        while i + S::LANES <= n {
            s.store(to.add(i), s.load(from.add(i)));
            i += S::LANES;
        }
        if i < n {
            s.store(to.add(i), s.load_n(from.add(i), n - i));
            i += S::LANES;
        }
        i
    }
}

/// Writes `n` zeros, up to whole vectors.
///
/// # Safety
/// `to` must be valid for writing that many f32.
#[inline(always)]
pub(super) unsafe fn fill<S: Simd>(s: S, to: *mut f32, n: usize) {
    for i in (0..n).step_by(S::LANES) {
        // SAFETY: the caller's contract.
        unsafe { s.store(to.add(i), s.zero()) };
    }
}
