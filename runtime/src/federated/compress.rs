//! Vectors to messages, and messages to sums.
//!
//! Of an update, the elements of largest magnitude can be sent alone (top-k: Aji and Heafield 2017),
//! values as codes of few bits rounded at random (QSGD: Alistarh et al. 2017), or both. What is not
//! sent can be kept and added to the next update (error feedback: Karimireddy et al. 2019).

use tenon_kernels::Isa;
use tenon_kernels::exchange::{BLOCK, Bits, Stream, collect};
use tenon_kernels::random::Philox;

use super::message::{HEADER, Head, Message};
use super::select::{Largest, add_and_choose, largest, not_finite};
use super::{PART, Workers, each, indices, same_length, sums};
use crate::error::{Error, Result};

/// How a vector is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// Elements to send; 0, or as many as there are, for all.
    pub keep: usize,
    /// Width of codes; `None` for f32.
    pub bits: Option<Bits>,
    /// What rounding is drawn from, with `round`: equal numbers give equal bytes.
    pub seed: u64,
    /// Number of the round.
    pub round: u64,
}

impl Compression {
    fn head(&self, count: usize) -> Result<Head> {
        let kept = if self.keep == 0 { count } else { self.keep.min(count) };
        Head::new(count as u64, kept as u64, self.bits).ok_or(Error::OutOfMemory(usize::MAX))
    }

    /// Most bytes that a vector of `count` elements takes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for more than memory holds.
    pub fn most_bytes(&self, count: usize) -> Result<usize> {
        let bytes = self.head(count)?.bytes().and_then(|bytes| usize::try_from(bytes).ok());
        bytes.ok_or(Error::OutOfMemory(usize::MAX))
    }
}

/// Compresses `update`, with `residual` added, into `to`, which has [`Compression::most_bytes`];
/// gives how many were taken. `residual` gets what was not sent.
///
/// # Errors
/// [`Error::Usage`] for lengths that do not fit, and for an element that is not finite: `residual`
/// is then as it was, and what `to` holds is of no use. [`Error::OutOfMemory`].
pub fn compress(
    workers: &dyn Workers,
    how: &Compression,
    update: &[f32],
    mut residual: Option<&mut [f32]>,
    to: &mut [u8],
) -> Result<usize> {
    let needed = how.most_bytes(update.len())?;
    if to.len() < needed {
        let why = format!("{} bytes do not hold the message: give {needed}", to.len());
        return Err(Error::Usage(why));
    }
    if let Some(residual) = residual.as_deref() {
        same_length("the residual", residual.len(), update.len())?;
        // Before anything is added to it.
        all_finite(workers.isa(), update)?;
    }
    let mut head = how.head(update.len())?;
    let sizes = head.parts().ok_or(Error::OutOfMemory(usize::MAX))?.map(|size| size as usize);
    let (start, rest) = to.split_at_mut(HEADER);
    let (scales, rest) = rest.split_at_mut(sizes[0]);
    let (values, rest) = rest.split_at_mut(sizes[1]);
    match (head.parameter, how.bits) {
        (None, Some(bits)) => {
            let random = Philox::new(how.seed, how.round);
            let residual = residual.unwrap_or_default();
            encode(workers, bits, random, update, residual, scales, values)?;
        }
        (None, None) => {
            let whole = with_residual(workers, update, residual.as_deref_mut())?;
            all_finite(workers.isa(), whole)?;
            copy(whole.iter().copied(), values);
            residual.unwrap_or_default().fill(0.0);
        }
        (Some(parameter), bits) => {
            let (isa, k) = (workers.isa(), head.kept as usize);
            let Largest { places, values: mut kept } = match residual.as_deref_mut() {
                Some(residual) => add_and_choose(isa, update, residual, k)?,
                None => largest(isa, update, k)?,
            };
            if let Some(bits) = bits {
                let random = Philox::new(how.seed, how.round);
                encode(workers, bits, random, &[], &mut kept, scales, values)?;
            } else {
                copy(kept.iter().copied(), values);
                kept.fill(0.0);
            }
            if let Some(residual) = residual {
                for (&left, &place) in kept.iter().zip(&places) {
                    residual[place as usize] = left;
                }
            }
            head.place_bytes = indices::encode(&places, parameter, rest) as u64;
        }
    }
    head.write(start);
    Ok(HEADER + sizes[0] + sizes[1] + head.place_bytes as usize)
}

/// Refuses a vector that must not be sent.
fn all_finite(isa: Isa, x: &[f32]) -> Result<()> {
    let found = collect(isa, f32::INFINITY, x, &mut [], &mut []);
    if found.finite { Ok(()) } else { Err(not_finite()) }
}

/// The vector to send: the update, or the residual with the update added.
fn with_residual<'a>(
    workers: &dyn Workers,
    update: &'a [f32],
    residual: Option<&'a mut [f32]>,
) -> Result<&'a [f32]> {
    let Some(residual) = residual else { return Ok(update) };
    sums::accumulate(workers, 1.0, update, residual)?;
    Ok(residual)
}

/// Values as they are.
fn copy(values: impl Iterator<Item = f32>, to: &mut [u8]) {
    for (to, value) in to.chunks_exact_mut(4).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

/// Encodes `x + residual`, of which one may be empty, by all threads.
fn encode(
    workers: &dyn Workers,
    bits: Bits,
    random: Philox,
    x: &[f32],
    residual: &mut [f32],
    scales: &mut [u8],
    codes: &mut [u8],
) -> Result<()> {
    let blocks = PART / BLOCK;
    let mut residuals = residual.chunks_mut(PART);
    let parts = scales.chunks_mut(4 * blocks).zip(codes.chunks_mut(bits.block_bytes() * blocks));
    let parts = parts.enumerate().map(|(i, (scales, codes))| {
        let first = i * PART;
        let x = &x[first.min(x.len())..(first + PART).min(x.len())];
        (first as u64, x, residuals.next().unwrap_or_default(), scales, codes)
    });
    let finite = std::sync::atomic::AtomicBool::new(true);
    each(workers, parts, |(first, x, residual, scales, codes)| {
        if !bits.encode(workers.isa(), random, first, x, residual, scales, codes) {
            finite.store(false, std::sync::atomic::Ordering::Relaxed);
        }
    });
    if finite.into_inner() { Ok(()) } else { Err(not_finite()) }
}

/// Adds `weight` times the vector of a message to `sum`.
///
/// # Errors
/// [`Error::Format`] for bytes that are no message; [`Error::Usage`] for one of another length.
/// Nothing is added then.
pub fn add(workers: &dyn Workers, weight: f32, bytes: &[u8], sum: &mut [f32]) -> Result<()> {
    let message = Message::read(bytes)?;
    let Message { head, scales, values, .. } = message;
    if head.count != sum.len() as u64 {
        let (count, len) = (head.count, sum.len());
        return Err(Error::Usage(format!("the message is of {count} elements, the sum of {len}")));
    }
    message.check()?;
    let isa = workers.isa();
    if let (None, Some(bits)) = (head.parameter, head.bits) {
        let blocks = PART / BLOCK;
        let codes = values.chunks(bits.block_bytes() * blocks);
        let parts = sum.chunks_mut(PART).zip(scales.chunks(4 * blocks)).zip(codes);
        each(workers, parts, |((sum, scales), codes)| bits.add(isa, weight, scales, codes, sum));
        return Ok(());
    }
    let mut places = message.places();
    let block_bytes = head.bits.map_or(4 * BLOCK, Bits::block_bytes);
    for (block, values) in values.chunks(block_bytes).enumerate() {
        let first = block * BLOCK;
        let mut wide = [0f32; BLOCK];
        let wide = &mut wide[..BLOCK.min(head.kept as usize - first)];
        match head.bits {
            Some(bits) => bits.add(isa, 1.0, &scales[4 * block..][..4], values, wide),
            None => {
                for (to, from) in wide.iter_mut().zip(values.chunks_exact(4)) {
                    *to = f32::from_le_bytes([from[0], from[1], from[2], from[3]]);
                }
            }
        }
        match &mut places {
            None => Stream::AddScaled { weight }.run(isa, &mut sum[first..][..wide.len()], wide),
            Some(places) => {
                for (value, place) in wide.iter().zip(places) {
                    sum[place as usize] += weight * value;
                }
            }
        }
    }
    Ok(())
}
