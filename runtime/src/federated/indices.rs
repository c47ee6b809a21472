//! Ascending places as bits: Rice's code of the gaps between them (Rice and Plaunt 1971).
//!
//! A gap is its upper part as so many zero bits and a one, then its lower `parameter` bits, from the
//! lowest bit of the first byte on. Where a share `p` of places is taken at random, a place takes
//! within 4 % of the least bits possible: 8.1 for 1 %.

/// The parameter that suits `kept` of `count` places: gaps' upper parts are about one.
pub(super) fn parameter(count: u64, kept: u64) -> u32 {
    let mean = count as f64 / kept.max(1) as f64 * std::f64::consts::LN_2;
    (mean.max(1.0).log2().floor() as u32).min(31)
}

/// Most bytes that `kept` of `count` places take.
pub(super) fn most_bytes(count: u64, kept: u64) -> Option<u64> {
    let bits = parameter(count, kept);
    let each = kept.checked_mul(u64::from(bits) + 1)?;
    Some(each.checked_add(count >> bits)?.div_ceil(8))
}

/// Writes places.
pub(super) struct Writer<'a> {
    parameter: u32,
    /// As many as [`most_bytes`].
    to: &'a mut [u8],
    at: usize,
    /// Bits that fill no byte yet, fewer than 8.
    bits: u64,
    held: u32,
    next: u64,
}

impl<'a> Writer<'a> {
    /// A writer with room for [`most_bytes`].
    pub(super) fn new(parameter: u32, to: &'a mut [u8]) -> Self {
        Self { parameter, to, at: 0, bits: 0, held: 0, next: 0 }
    }

    /// Goes on with `places`.
    pub(super) fn write(&mut self, places: &[u32]) {
        let lower = (1 << self.parameter) - 1;
        for &place in places {
            let gap = u64::from(place) - self.next;
            self.next = u64::from(place) + 1;
            let mut zeros = gap >> self.parameter;
            while zeros > 16 {
                self.put(0, 16);
                zeros -= 16;
            }
            let upper = zeros as u32 + 1;
            self.put((gap & lower) << upper | 1 << zeros, upper + self.parameter);
        }
    }

    /// Writes the bits of `value`, at most 56: whole bytes go out, eight at a time where there is room.
    #[inline(always)]
    fn put(&mut self, value: u64, count: u32) {
        self.bits |= value << self.held;
        self.held += count;
        let bytes = self.bits.to_le_bytes();
        let to = &mut self.to[self.at..];
        match to.first_chunk_mut() {
            Some(to) => *to = bytes,
            None => to.copy_from_slice(&bytes[..to.len()]),
        }
        self.at += self.held as usize / 8;
        self.bits >>= self.held / 8 * 8;
        self.held %= 8;
    }

    /// The bytes that were taken.
    pub(super) fn end(self) -> usize {
        self.at + usize::from(self.held > 0)
    }
}

/// Places read back one by one.
pub(super) struct Places<'a> {
    rest: std::slice::Iter<'a, u8>,
    parameter: u32,
    count: u64,
    next: u64,
    bits: u64,
    held: u32,
}

impl<'a> Places<'a> {
    /// Those of `bytes`, all below `count`.
    pub(super) fn new(bytes: &'a [u8], parameter: u32, count: u64) -> Self {
        Self { rest: bytes.iter(), parameter, count, next: 0, bits: 0, held: 0 }
    }

    /// Whether nothing but the padding of the last byte is left, and that is zero.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.len() == 0 && self.held < 8 && self.bits == 0
    }

    fn fill(&mut self) {
        while self.held <= 56 {
            let Some(&byte) = self.rest.next() else { return };
            self.bits |= u64::from(byte) << self.held;
            self.held += 8;
        }
    }

    fn skip(&mut self, count: u32) {
        self.bits = if count < 64 { self.bits >> count } else { 0 };
        self.held -= count;
    }
}

impl Iterator for Places<'_> {
    type Item = u32;

    /// The next place; `None` where the bits say none below `count`.
    fn next(&mut self) -> Option<u32> {
        let mut upper = 0;
        loop {
            self.fill();
            let zeros = self.bits.trailing_zeros().min(self.held);
            upper += u64::from(zeros);
            if self.held == 0 || upper > self.count {
                return None;
            }
            self.skip(zeros);
            if self.held > 0 {
                self.skip(1);
                break;
            }
        }
        self.fill();
        if self.held < self.parameter {
            return None;
        }
        let lower = self.bits & ((1 << self.parameter) - 1);
        self.skip(self.parameter);
        let place = self.next + (upper << self.parameter | lower);
        self.next = place + 1;
        if place < self.count { place.try_into().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        for (count, places) in [
            (1, vec![0]),
            (1 << 31, vec![0, 1, 77, (1 << 31) - 1]),
            (1000, (0..1000).step_by(7).collect()),
            (100_000, vec![99_999]),
            (u64::from(u32::MAX), vec![5, u32::MAX - 1]),
        ] {
            let kept = places.len() as u64;
            let parameter = parameter(count, kept);
            let mut bytes = vec![0; most_bytes(count, kept).unwrap() as usize];
            let mut writer = Writer::new(parameter, &mut bytes);
            places.chunks(3).for_each(|places| writer.write(places));
            let end = writer.end();
            let mut back = Places::new(&bytes[..end], parameter, count);
            let read: Vec<u32> = back.by_ref().take(places.len()).collect();
            assert_eq!(read, places);
            assert!(back.is_at_end() && back.next().is_none());
            let cut = Places::new(&bytes[..end - 1], parameter, count).take(places.len());
            assert!(cut.count() < places.len());
        }
    }
}
