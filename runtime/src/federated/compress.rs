//! Vectors to messages, and messages to sums.
//!
//! Of an update, the elements of largest magnitude can be sent alone (top-k: Aji and Heafield 2017),
//! values as codes of few bits rounded at random (QSGD: Alistarh et al. 2017), or both. What is not
//! sent can be kept and added to the next update (error feedback: Karimireddy et al. 2019).

use tenon_kernels::Isa;
use tenon_kernels::exchange::{BLOCK, Bits, Stream, add_and_collect, collect, survey};
use tenon_kernels::random::Philox;
use tenon_kernels::simd::MAX_LANES;

use super::message::{HEADER, Head, Message};
use super::select::{Bound, not_finite};
use super::{PART, Workers, each, indices, room, same_length, sums};
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
/// [`Error::Usage`] for lengths that do not fit, and for an element that is not finite, of either or of
/// the sum. [`Error::OutOfMemory`]. `residual` is then as it was, and what `to` holds is of no use.
pub fn compress(
    workers: &dyn Workers,
    how: &Compression,
    update: &[f32],
    residual: Option<&mut [f32]>,
    to: &mut [u8],
) -> Result<usize> {
    let needed = how.most_bytes(update.len())?;
    if to.len() < needed {
        let why = format!("{} bytes do not hold the message: give {needed}", to.len());
        return Err(Error::Usage(why));
    }
    let mut head = how.head(update.len())?;
    let sizes = head.parts().ok_or(Error::OutOfMemory(usize::MAX))?.map(|size| size as usize);
    let (start, rest) = to.split_at_mut(HEADER);
    let (scales, rest) = rest.split_at_mut(sizes[0]);
    let (values, rest) = rest.split_at_mut(sizes[1]);
    let random = Philox::new(how.seed, how.round);
    // What can fail comes first: a sum cannot be undone. It reads the residual once more.
    let before = residual.as_deref().unwrap_or_default();
    if residual.is_some() {
        same_length("the residual", before.len(), update.len())?;
    }
    match head.parameter {
        None => {
            // Codes without a residual tell by themselves.
            if residual.is_some() || how.bits.is_none() {
                all_finite(workers.isa(), update, before)?;
            }
            let residual = residual.unwrap_or_default();
            if let Some(bits) = how.bits {
                encode(workers, bits, random, update, residual, scales, values)?;
            } else if residual.is_empty() {
                copy(update, values);
            } else {
                sums::accumulate(workers, 1.0, update, residual)?;
                copy(residual, values);
                residual.fill(0.0);
            }
        }
        Some(parameter) => {
            let isa = workers.isa();
            let bound = Bound::new(isa, update, before, head.kept as usize)?;
            let room = Chosen::room()?;
            let to = Parts { bits: how.bits, random, scales, values };
            let places = indices::Writer::new(parameter, rest);
            head.place_bytes = choose(isa, bound, update, residual, room, to, places) as u64;
        }
    }
    head.write(start);
    Ok(HEADER + sizes[0] + sizes[1] + head.place_bytes as usize)
}

/// Refuses a vector that must not be sent, or two whose sum must not.
fn all_finite(isa: Isa, x: &[f32], more: &[f32]) -> Result<()> {
    let found = survey(isa, [f32::INFINITY; 2], x, more, &mut []);
    if found.finite { Ok(()) } else { Err(not_finite()) }
}

/// Elements that are looked at while they lie in the nearest cache.
const NEAR: usize = 1 << 13;

/// Elements that were chosen and are not sent yet.
struct Chosen {
    places: Vec<u32>,
    values: Vec<f32>,
}

/// Elements whose codes are made together.
const TOGETHER: usize = 2 * BLOCK;

impl Chosen {
    /// Room for as many as there can be: all that are looked at, those left over before, and a vector.
    fn room() -> Result<Self> {
        const MOST: usize = NEAR + TOGETHER + MAX_LANES;
        Ok(Self { places: room(MOST)?, values: room(MOST)? })
    }
}

/// Where values of chosen elements go.
struct Parts<'a> {
    bits: Option<Bits>,
    random: Philox,
    scales: &'a mut [u8],
    values: &'a mut [u8],
}

impl Parts<'_> {
    /// Sends values, whole blocks but for the last, from element `first` on; leaves what is not sent of
    /// them.
    fn send(&mut self, isa: Isa, first: usize, chosen: &mut [f32]) {
        let blocks = first / BLOCK..(first + chosen.len()).div_ceil(BLOCK);
        match self.bits {
            Some(bits) => {
                let size = bits.block_bytes();
                let scales = &mut self.scales[4 * blocks.start..4 * blocks.end];
                let codes = &mut self.values[size * blocks.start..size * blocks.end];
                bits.encode(isa, self.random, first as u64, &[], chosen, scales, codes);
            }
            None => {
                copy(chosen, &mut self.values[4 * first..]);
                chosen.fill(0.0);
            }
        }
    }
}

/// Sends the chosen elements of `update + residual`, a part at a time, so that it is still near when
/// `residual` gets what was not sent; gives the bytes that places take.
fn choose(
    isa: Isa,
    mut bound: Bound,
    update: &[f32],
    mut residual: Option<&mut [f32]>,
    Chosen { mut places, mut values }: Chosen,
    mut to: Parts<'_>,
    mut code: indices::Writer<'_>,
) -> usize {
    let (mut sent, mut held) = (0, 0);
    for (part, x) in update.chunks(NEAR).enumerate() {
        let first = part * NEAR;
        let (new_places, new_values) = (&mut places[held..], &mut values[held..]);
        let found = match residual.as_deref_mut() {
            Some(residual) => {
                let sum = &mut residual[first..][..x.len()];
                add_and_collect(isa, bound.least, x, sum, new_places, new_values)
            }
            None => collect(isa, bound.least, x, new_places, new_values),
        };
        let found = bound.cut(&mut new_places[..found], &mut new_values[..found]);
        for place in &mut new_places[..found] {
            *place += first as u32;
        }
        code.write(&new_places[..found]);
        held += found;
        let is_last = first + x.len() == update.len();
        let now = if is_last { held } else { held - held % TOGETHER };
        to.send(isa, sent, &mut values[..now]);
        if let Some(residual) = residual.as_deref_mut() {
            for (&place, &left) in places[..now].iter().zip(&values) {
                residual[place as usize] = left;
            }
        }
        places.copy_within(now..held, 0);
        values.copy_within(now..held, 0);
        (sent, held) = (sent + now, held - now);
    }
    code.end()
}

/// Values as they are.
fn copy(values: &[f32], to: &mut [u8]) {
    for (to, value) in to.chunks_exact_mut(4).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

/// Encodes `x + residual` by all threads; `residual` may be empty.
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
        let x = &x[first..(first + PART).min(x.len())];
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
