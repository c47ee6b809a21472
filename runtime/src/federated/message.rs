//! A vector as bytes, little-endian:
//!
//! ```text
//!  0  "TNUP"       magic
//!  4  u16          version, 1
//!  6  u8           bits of a value: 32 (f32), 8, 4 or 2
//!  7  u8           parameter of the places' code (see `indices`); 255: every element is there
//!  8  u64          elements of the vector
//! 16  u64          elements that are there; the others are 0
//! 24  u64          bytes of the places
//! 32  f32 each     scales, one for 256 elements that are there; none where values are f32
//!     values       f32, or codes as `tenon_kernels::exchange` draws them, whole blocks
//!     places       ascending; none where every element is there
//! ```
//!
//! Nothing in it is believed: sizes are checked against the bytes there are, before anything else.
//! There is no checksum: what carries bytes has one.

use tenon_kernels::exchange::{BLOCK, Bits};

use super::indices::{self, Places};
use crate::error::{Error, Result};

/// Bytes before the scales.
pub const HEADER: usize = 32;

const MAGIC: [u8; 4] = *b"TNUP";
const VERSION: u16 = 1;
/// In the place of a parameter: every element is there.
const DENSE: u8 = 255;

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Elements of the vector.
    pub count: u64,
    /// Elements that are there.
    pub kept: u64,
    /// Width of codes; `None` for f32.
    pub bits: Option<Bits>,
    /// Parameter of the places' code; `None` where every element is there.
    pub(super) parameter: Option<u32>,
    pub(super) place_bytes: u64,
}

impl Head {
    /// A message of `kept` elements of `count`, with room for the longest places.
    pub(super) fn new(count: u64, kept: u64, bits: Option<Bits>) -> Option<Self> {
        let parameter = (kept < count).then(|| indices::parameter(count, kept));
        let place_bytes = match parameter {
            Some(_) => indices::most_bytes(count, kept)?,
            None => 0,
        };
        Some(Self { count, kept, bits, parameter, place_bytes })
    }

    /// Bytes of scales and values; `None` beyond u64.
    pub(super) fn parts(&self) -> Option<[u64; 2]> {
        match self.bits {
            None => Some([0, self.kept.checked_mul(4)?]),
            Some(bits) => {
                let blocks = self.kept.div_ceil(BLOCK as u64);
                Some([blocks.checked_mul(4)?, blocks.checked_mul(bits.block_bytes() as u64)?])
            }
        }
    }

    /// Bytes of the message.
    pub(super) fn bytes(&self) -> Option<u64> {
        let [scales, values] = self.parts()?;
        (HEADER as u64).checked_add(scales)?.checked_add(values)?.checked_add(self.place_bytes)
    }

    /// Writes the header.
    pub(super) fn write(&self, to: &mut [u8]) {
        to[0..4].copy_from_slice(&MAGIC);
        to[4..6].copy_from_slice(&VERSION.to_le_bytes());
        to[6] = self.bits.map_or(32, |bits| bits.count() as u8);
        to[7] = self.parameter.map_or(DENSE, |parameter| parameter as u8);
        to[8..16].copy_from_slice(&self.count.to_le_bytes());
        to[16..24].copy_from_slice(&self.kept.to_le_bytes());
        to[24..32].copy_from_slice(&self.place_bytes.to_le_bytes());
    }
}

/// A message whose sizes hold.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it says of itself.
    pub head: Head,
    pub(super) scales: &'a [u8],
    pub(super) values: &'a [u8],
    places: &'a [u8],
}

/// What is wrong with a message.
fn broken(why: impl std::fmt::Display) -> Error {
    Error::format("message", format!("not a compressed update: {why}; have it sent again"))
}

/// Eight bytes at `at`.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

impl<'a> Message<'a> {
    /// Reads the header and finds the parts.
    ///
    /// # Errors
    /// [`Error::Format`] for anything but a message of a known version whose sizes hold.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() < HEADER || bytes[..4] != MAGIC {
            return Err(broken("it does not begin as one"));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(broken(format!("version {version} is not {VERSION}")));
        }
        let bits = match bytes[6] {
            32 => None,
            count => Some(
                Bits::from_count(count.into())
                    .ok_or_else(|| broken(format!("{count} bits a value cannot be")))?,
            ),
        };
        let (count, kept) = (number(bytes, 8), number(bytes, 16));
        let parameter = match bytes[7] {
            DENSE => None,
            parameter => Some(u32::from(parameter)),
        };
        let head = Head { count, kept, bits, parameter, place_bytes: number(bytes, 24) };
        let fits = match parameter {
            None => kept == count && head.place_bytes == 0,
            Some(parameter) => kept < count && u32::try_from(count).is_ok() && parameter < 32,
        };
        if !fits {
            return Err(broken(format!("{kept} of {count} elements cannot be")));
        }
        if head.bytes() != Some(bytes.len() as u64) {
            return Err(broken(format!("its header does not fit its {} bytes", bytes.len())));
        }
        let sizes = head.parts().unwrap_or_default().map(|size| size as usize);
        let (scales, rest) = bytes[HEADER..].split_at(sizes[0]);
        let (values, places) = rest.split_at(sizes[1]);
        Ok(Self { head, scales, values, places })
    }

    /// The places of the elements that are there, where not all are.
    pub(super) fn places(&self) -> Option<Places<'a>> {
        Some(Places::new(self.places, self.head.parameter?, self.head.count))
    }

    /// Refuses places and numbers that cannot be.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub fn check(&self) -> Result<()> {
        let numbers = if self.head.bits.is_some() { self.scales } else { self.values };
        let is_finite = |n: &[u8]| f32::from_le_bytes([n[0], n[1], n[2], n[3]]).is_finite();
        if !numbers.chunks_exact(4).all(is_finite) {
            return Err(broken("it holds a number that is not finite"));
        }
        if let Some(mut places) = self.places() {
            let found = places.by_ref().take(self.head.kept as usize).count();
            if found as u64 != self.head.kept || !places.is_at_end() {
                return Err(broken("its places are not those of its elements"));
            }
        }
        Ok(())
    }
}
