//! Memory of a bench, aligned as the runtime's tensors are.

use std::ops::{Deref, DerefMut};

/// f32 from the start of a cache line on. Large blocks of the system allocator begin 16 bytes after
/// one, where each vector of 64 bytes takes two lines: 512 cubed 135 instead of 153 GFLOP/s (Ice
/// Lake).
pub struct Aligned {
    room: Vec<f32>,
    first: usize,
    len: usize,
}

impl Aligned {
    /// The value of each index.
    pub fn new(len: usize, value: impl Fn(usize) -> f32) -> Self {
        let mut all = Self::zeroed(len);
        all.iter_mut().enumerate().for_each(|(i, x)| *x = value(i));
        all
    }

    /// Zeros.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        const LINE: usize = 64;
        let room = vec![0.0; len + LINE / size_of::<f32>()];
        let first = room.as_ptr().align_offset(LINE);
        Self { room, first, len }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.room[self.first..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.room[self.first..][..self.len]
    }
}
