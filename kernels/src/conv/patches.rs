//! What a patch matrix would hold, packed by panels straight from the images.
//!
//! The vectors of a panel are found once and listed; a source channel then costs a load and a store
//! for each. They are written whole and in order: what one writes too much the next overwrites, so
//! that no store is masked.

use super::axis::{Axis, Taps};
use super::direct::Direction;
use crate::simd::{MAX_LANES, Simd};

/// What the taps of one phase of the destination read along an axis: of its position `u`, tap `i`
/// reads `stride * u + taps.shift + i * taps.shift_step`.
#[derive(Clone, Copy)]
pub(super) struct Reads {
    pub(super) taps: Taps,
    pub(super) stride: usize,
}

impl Reads {
    /// One tap that reads its own position.
    pub(super) const SELF: Self =
        Self { taps: Taps { first: 0, step: 1, count: 1, shift: 0, shift_step: 0 }, stride: 1 };

    /// `None` where no tap reaches the phase.
    pub(super) fn of(axis: &Axis, direction: Direction, phase: usize) -> Option<Self> {
        match direction {
            Direction::Forward => Some(Self {
                taps: Taps {
                    first: 0,
                    step: 1,
                    count: axis.kernel,
                    shift: -(axis.pad as isize),
                    shift_step: axis.dilation as isize,
                },
                stride: axis.stride,
            }),
            Direction::InputGrad => {
                axis.taps(phase).map(|taps| Self { taps: taps.reversed(), stride: 1 })
            }
        }
    }

    /// Source positions from the first to the last that `n` positions read.
    pub(super) fn reach(&self, n: usize) -> usize {
        n.saturating_sub(1) * self.stride + self.taps.span() + 1
    }

    /// The source position that tap `i` of position `u` reads.
    #[inline(always)]
    fn at(&self, u: usize, i: usize) -> isize {
        (self.stride * u) as isize + self.taps.shift + i as isize * self.taps.shift_step
    }

    /// Of `n` positions, the first of which reads `at`, those that read inside `size`.
    #[inline(always)]
    fn inside(&self, at: isize, n: usize, size: usize) -> (usize, usize) {
        let end = usize::try_from(size as isize - at).unwrap_or(0).div_ceil(self.stride).min(n);
        let first = usize::try_from(-at).unwrap_or(0).div_ceil(self.stride);
        (first.min(end), end)
    }
}

/// A vector of a panel: where it begins in the first channel of the panel's first image, and in
/// the panel's rows of one channel.
#[derive(Clone, Copy)]
#[repr(C)]
struct Item {
    from: i32,
    to: u32,
}

/// f32 of the list for each tap and column.
pub(super) const ITEM: usize = size_of::<Item>() / size_of::<f32>();
/// Reads zeros.
const ZERO: i32 = i32::MIN;

/// The zeros that it reads.
static ZEROS: [f32; MAX_LANES] = [0.0; MAX_LANES];

/// The patches of one phase of a destination.
pub(super) struct Patches {
    /// The group's first channel in the first image, and the end of all images.
    pub(super) data: *const f32,
    pub(super) end: *const f32,
    /// f32 from one image to the next.
    pub(super) image: usize,
    /// Rows and columns of the source, and of this phase of the destination.
    pub(super) source: [usize; 2],
    pub(super) size: [usize; 2],
    /// Vertical and horizontal reads.
    pub(super) reads: [Reads; 2],
    /// The list.
    pub(super) items: *mut f32,
}

/// Columns of one panel, and the rows of some channels.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// First column and how many, and those that there is room for.
    pub(super) column: usize,
    pub(super) columns: usize,
    pub(super) width: usize,
    /// First channel, and how many.
    pub(super) channels: (usize, usize),
}

impl Patches {
    /// Taps of a channel.
    #[inline(always)]
    pub(super) fn taps(&self) -> usize {
        self.reads[0].taps.count * self.reads[1].taps.count
    }

    /// Writes `[channels][taps][width]` to `to`, zero past the columns, and up to a vector more,
    /// where [`Patches::list`] has listed `count` vectors for these columns.
    ///
    /// # Safety
    /// The images must be readable, the panel lie inside them, and `to` have room.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd>(&self, s: S, count: usize, panel: Panel, to: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe {
            match self.reads[1].stride {
                1 => self.copy::<S, 1>(s, count, panel, to),
                2 => self.copy::<S, 2>(s, count, panel, to),
                _ => self.copy::<S, 0>(s, count, panel, to),
            }
        }
    }

    /// f32 from one channel to the next.
    #[inline(always)]
    pub(super) fn plane(&self) -> usize {
        self.source[0] * self.source[1]
    }

    /// Where the columns lie side by side in the first channel, if each reads itself only.
    #[inline(always)]
    pub(super) fn in_place(&self, column: usize, columns: usize) -> Option<*const f32> {
        let itself =
            |reads: &Reads| reads.taps.count == 1 && reads.stride == 1 && reads.at(0, 0) == 0;
        let (image, at) = (column / self.plane(), column % self.plane());
        let whole = self.source == self.size && self.reads.iter().all(itself);
        let near = at + columns <= self.plane();
        (whole && near).then(|| self.data.wrapping_add(image * self.image + at))
    }

    /// Where what some columns read begins in the first channel, and f32 of it there: whole rows
    /// of the source, cut at its borders; of columns in several images, what the first one has.
    #[inline(always)]
    pub(super) fn span(&self, column: usize, columns: usize) -> (*const f32, usize) {
        let ([image, y, x], [last, end, _]) =
            (self.place(column), self.place(column + columns - 1));
        let [rows, cols] = self.source;
        if self.size[0] == 1 {
            let from = self.data.wrapping_add(image * self.image + x);
            return (from, columns.min(cols - x.min(cols)));
        }
        let end = if last == image { end } else { self.size[0] - 1 };
        let inside = |row: isize| usize::try_from(row).unwrap_or(0).min(rows);
        let low = inside(self.reads[0].at(y, 0));
        let high = inside(self.reads[0].at(end, self.reads[0].taps.count - 1) + 1);
        let from = self.data.wrapping_add(image * self.image + low * cols);
        (from, high.saturating_sub(low) * cols)
    }

    /// Image, row and column of a column.
    #[inline(always)]
    fn place(&self, column: usize) -> [usize; 3] {
        let [rows, cols] = self.size;
        let (line, x) = (column / cols, column % cols);
        [line / rows, line % rows, x]
    }

    /// Lists the vectors of a panel's columns, for any channels, in the order of its rows, and
    /// counts them.
    ///
    /// # Safety
    /// The columns must exist, and the list have room for [`ITEM`] f32 for each tap and column.
    #[inline(always)]
    pub(super) unsafe fn list<S: Simd>(&self, panel: Panel) -> usize {
        let [y_reads, x_reads] = &self.reads;
        let base = self.place(panel.column)[0];
        let mut list = List { at: self.items.cast(), count: 0 };
        for tap in 0..self.taps() {
            let (i, j) = (tap / x_reads.taps.count, tap % x_reads.taps.count);
            let row = tap * panel.width;
            let mut done = 0;
            while done < panel.columns {
                let [image, y, x] = self.place(panel.column + done);
                let n = (self.size[1] - x).min(panel.columns - done);
                let (sy, sx) = (y_reads.at(y, i), x_reads.at(x, j));
                let (first, end) = if (0..self.source[0] as isize).contains(&sy) {
                    x_reads.inside(sx, n, self.source[1])
                } else {
                    (n, n)
                };
                let line = ((image - base) * self.image) as isize + sy * self.source[1] as isize;
                let to = row + done;
                // SAFETY: the caller's contract: no two vectors begin at the same column.
                unsafe {
                    list.zeros::<S>(to, first);
                    for at in (first..end).step_by(S::LANES) {
                        list.push((line + sx + (at * x_reads.stride) as isize) as i32, to + at);
                    }
                    list.zeros::<S>(to + end, n - end);
                }
                done += n;
            }
            // SAFETY: as above.
            unsafe { list.zeros::<S>(row + done, panel.width - done) };
        }
        list.count
    }

    /// Copies the vectors of the list, of every channel.
    ///
    /// # Safety
    /// As for [`Patches::pack`].
    #[inline(always)]
    unsafe fn copy<S: Simd, const STRIDE: usize>(
        &self,
        s: S,
        count: usize,
        panel: Panel,
        mut to: *mut f32,
    ) {
        let plane = self.plane();
        let (first, channels) = panel.channels;
        let image = self.place(panel.column)[0] * self.image;
        let mut from = self.data.wrapping_add(image + first * plane);
        let items = self.items.cast_const().cast::<Item>();
        for _ in 0..channels {
            for i in 0..count {
                // SAFETY: listed vectors begin inside the channel, and end inside the panel or a
                // vector past it.
                unsafe {
                    let item = *items.add(i);
                    let v = if item.from == ZERO {
                        s.zero()
                    } else {
                        self.read::<S, STRIDE>(s, from.wrapping_offset(item.from as isize))
                    };
                    s.store(to.add(item.to as usize), v);
                }
            }
            from = from.wrapping_add(plane);
            to = to.wrapping_add(self.taps() * panel.width);
        }
    }

    /// Every `STRIDE`-th value, or as the reads say where that is 0; of what lies past the end of
    /// the images, zeros.
    ///
    /// # Safety
    /// `from` must lie inside the images.
    #[inline(always)]
    unsafe fn read<S: Simd, const STRIDE: usize>(&self, s: S, from: *const f32) -> S::F {
        let left = (self.end.addr() - from.addr()) / size_of::<f32>();
        // SAFETY: what is read lies before the end.
        unsafe {
            match STRIDE {
                1 if left >= S::LANES => s.load(from),
                1 => s.load_n(from, left),
                2 if left >= 2 * S::LANES => s.even(s.load(from), s.load(from.add(S::LANES))),
                _ => {
                    let stride = self.reads[1].stride;
                    let mut values = ZEROS;
                    for (lane, value) in values[..S::LANES].iter_mut().enumerate() {
                        if lane * stride < left {
                            *value = *from.add(lane * stride);
                        }
                    }
                    s.load(values.as_ptr())
                }
            }
        }
    }
}

/// A list being written.
struct List {
    at: *mut Item,
    count: usize,
}

impl List {
    /// # Safety
    /// There must be room for one more.
    #[inline(always)]
    unsafe fn push(&mut self, from: i32, to: usize) {
        // SAFETY: the caller's contract.
        unsafe { *self.at.add(self.count) = Item { from, to: to as u32 } };
        self.count += 1;
    }

    /// # Safety
    /// There must be room for `n` more.
    #[inline(always)]
    unsafe fn zeros<S: Simd>(&mut self, to: usize, n: usize) {
        for at in (0..n).step_by(S::LANES) {
            // SAFETY: the caller's contract.
            unsafe { self.push(ZERO, to + at) };
        }
    }
}
