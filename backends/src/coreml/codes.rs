//! Constants as codes: where the numbers of each block of [`BLOCK`] lie on evenly spaced levels, as
//! those of weights quantized in blocks do, they are written as codes with a scale and an offset for each
//! block. It is found in the numbers themselves, whatever format they came from.

use half::f16;

use super::proto::DataType;

/// Numbers that share a scale, along the last axis.
pub const BLOCK: usize = 32;

/// `(code - offset) * scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// Of four bits, two a byte with the first in the low half; or of eight.
    pub codes: Vec<u8>,
    /// Their type.
    pub data_type: DataType,
    /// One for each block.
    pub scales: Vec<f32>,
    /// One for each block.
    pub offsets: Vec<f32>,
}

/// The codes of numbers that were computed in f32, or rounded to f16; none if they lie on no levels.
#[must_use]
pub fn find(values: &[f32], is_half: bool) -> Option<Codes> {
    let four = || encode(values, 15, is_half);
    let (codes, scales, offsets) = four().or_else(|| encode(values, 255, is_half))?;
    let is_four = codes.iter().all(|&code| code < 16);
    let codes = if is_four {
        codes.as_chunks::<2>().0.iter().map(|[low, high]| low | high << 4).collect()
    } else {
        codes
    };
    let data_type = if is_four { DataType::Uint4 } else { DataType::Uint8 };
    Some(Codes { codes, data_type, scales, offsets })
}

/// A code for each number, a scale and an offset for each block.
fn encode(values: &[f32], most: u8, is_half: bool) -> Option<(Vec<u8>, Vec<f32>, Vec<f32>)> {
    let (blocks, []) = values.as_chunks::<BLOCK>() else { return None };
    let mut found = (Vec::with_capacity(values.len()), Vec::new(), Vec::new());
    for block in blocks {
        let (scale, offset) = levels(block, most, is_half)?;
        found.0.extend(block.iter().map(|&value| code(value, scale, offset)));
        found.1.push(scale);
        found.2.push(offset);
    }
    Some(found)
}

fn code(value: f32, scale: f32, offset: f32) -> u8 {
    (value / scale + offset).round() as u8
}

/// The scale and the offset of levels on which a block lies.
fn levels(block: &[f32; BLOCK], most: u8, is_half: bool) -> Option<(f32, f32)> {
    let low = block.iter().copied().fold(f32::INFINITY, f32::min);
    let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (range, largest) = (high - low, low.abs().max(high.abs()));
    if block.iter().any(|value| !value.is_finite()) {
        return None;
    }
    // Twice what an error of half a unit in the last place of the scale makes of the largest code.
    let bound = largest * if is_half { 2.0 * f16::EPSILON.to_f32() } else { 4.0 * f32::EPSILON };
    if range <= bound {
        return Some(if low == 0.0 { (1.0, 0.0) } else { (low, -1.0) });
    }
    for steps in 1..=most {
        let scale = rounded(range / f32::from(steps), is_half);
        let offset = rounded(-low / scale, is_half);
        // Symmetric formats have a whole one.
        for offset in [offset.round(), offset] {
            let fits = |&value: &f32| {
                let code = f32::from(code(value, scale, offset));
                code <= f32::from(most) && ((code - offset) * scale - value).abs() <= bound
            };
            if block.iter().all(fits) {
                return Some((scale, offset));
            }
        }
    }
    None
}

fn rounded(value: f32, is_half: bool) -> f32 {
    if is_half { f16::from_f32(value).to_f32() } else { value }
}

#[cfg(test)]
mod tests {
    use tenon_kernels::random::Philox;

    use super::*;

    fn decoded(codes: &Codes) -> Vec<f32> {
        let split = |byte: &u8| [byte & 15, byte >> 4];
        let codes_of: Vec<u8> = match codes.data_type {
            DataType::Uint4 => codes.codes.iter().flat_map(split).collect(),
            _ => codes.codes.clone(),
        };
        let place = |(i, code): (usize, u8)| {
            (f32::from(code) - codes.offsets[i / BLOCK]) * codes.scales[i / BLOCK]
        };
        codes_of.into_iter().enumerate().map(place).collect()
    }

    /// Levels as quantized weights have them: `scale * code + low`, both of half precision.
    fn quantized(levels: f32, is_symmetric: bool, is_half: bool) -> Vec<f32> {
        let random = Philox::new(3, levels as u64);
        let number = |i: usize| {
            let half = |v: f32| f16::from_f32(v).to_f32();
            let block = 1000 + 2 * (i / BLOCK) as u64;
            let scale = half(0.001 + 0.01 * random.uniform(block));
            let low = if is_symmetric {
                -(levels / 2.0).floor() * scale
            } else {
                half(-0.1 * random.uniform(block + 1))
            };
            let value = (random.uniform(i as u64 + 9000) * levels).floor() * scale + low;
            if is_half { half(value) } else { value }
        };
        (0..BLOCK * 64).map(number).collect()
    }

    #[test]
    fn quantized_weights_are_found() {
        for (levels, kind) in [(16.0, DataType::Uint4), (255.0, DataType::Uint8)] {
            for is_symmetric in [true, false] {
                let values = quantized(levels, is_symmetric, false);
                let codes = find(&values, false).expect("levels");
                assert_eq!(codes.data_type, kind);
                for (value, found) in values.iter().zip(decoded(&codes)) {
                    assert!((value - found).abs() <= 2e-6, "{value} {found}");
                }
            }
        }
        for is_symmetric in [true, false] {
            let codes = find(&quantized(16.0, is_symmetric, true), true).expect("rounded levels");
            assert_eq!(codes.data_type, DataType::Uint4);
        }
    }

    #[test]
    fn other_numbers_are_left() {
        let random = Philox::new(5, 0);
        let values: Vec<f32> = (0..BLOCK as u64).map(|i| random.normal(i)).collect();
        assert_eq!(find(&values, false), None);
        assert_eq!(find(&[1.0; 31], false), None);
        assert_eq!(find(&[f32::NAN; 32], false), None);
    }

    #[test]
    fn equal_numbers_are_one_level() {
        for value in [0.0, -3.5] {
            let codes = find(&[value; BLOCK], false).expect("one level");
            assert_eq!(decoded(&codes), [value; BLOCK]);
        }
    }
}
