//! Every level against the scalar references, bit for bit.

use super::*;
use crate::random::Philox;

/// Lengths below, at and beyond what vectors and blocks take at a time.
const LENGTHS: &[usize] =
    if cfg!(miri) { &[0, 1, 15, 16, 37] } else { &[0, 1, 7, 16, 63, 256, 257, 1000] };

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let random = Philox::new(seed, 9);
    (0..n as u64).map(|i| random.normal(i) * 10f32.powi((i % 7) as i32 - 5)).collect()
}

#[test]
fn streams_are_their_references() {
    for op in Stream::SAMPLES {
        for &n in LENGTHS {
            let y: Vec<u32> = noise(n, 1).into_iter().map(f32::to_bits).collect();
            let mut x: Vec<u32> = noise(n, 2).into_iter().map(f32::to_bits).collect();
            if n > 6 {
                let odd = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42];
                x[..6].copy_from_slice(&odd.map(f32::to_bits));
            }
            struct Want(u32, u32);
            impl StreamVisitor for Want {
                type Out = u32;
                fn visit<O: StreamOp>(self, op: O) -> u32 {
                    op.reference(self.0, self.1)
                }
            }
            for isa in Isa::available() {
                let mut got = y.clone();
                op.run(isa, &mut got, &x);
                for i in 0..n {
                    let want = op.visit(Want(y[i], x[i]));
                    let nan = f32::from_bits(got[i]).is_nan() && f32::from_bits(want).is_nan();
                    assert!(got[i] == want || nan, "{} of {n}, {i}, {}", op.name(), isa.name());
                }
            }
        }
    }
}

#[test]
fn masks_cancel_and_are_the_generators_words() {
    let pair = |negative| Mask { random: Philox::new(77, 3), negative };
    let other = Mask { random: Philox::new(78, 3), negative: false };
    for first in [0, 3, (1 << 34) - 500, u64::MAX >> 2] {
        for &n in LENGTHS {
            let words: Vec<u32> = (0..n as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
            for isa in Isa::available() {
                let mut got = words.clone();
                add_masks(isa, &[pair(false), other], first, &mut got);
                for (i, (&word, &got)) in words.iter().zip(&got).enumerate() {
                    let at = first + i as u64;
                    assert_eq!(got, other.apply(at, pair(false).apply(at, word)), "{}", isa.name());
                }
                add_masks(isa, &[pair(true)], first, &mut got);
                add_masks(isa, &[Mask { negative: true, ..other }], first, &mut got);
                assert_eq!(got, words, "{}", isa.name());
            }
        }
    }
}

/// The words, the scale and what is lacking of a block, one element at a time.
fn encode(bits: Bits, random: Philox, first: u64, x: &[f32]) -> (Vec<u8>, f32, Vec<f32>) {
    let largest = x.iter().fold(0f32, |most, x| most.max(x.abs()));
    let [scale, inverse] = bits.scale(largest);
    let mut words = vec![0u32; BLOCK / 32 * bits.count() as usize];
    let mut lacking = Vec::new();
    for i in 0..BLOCK {
        let word = random.word(first / 4 + (i % 64) as u64);
        let value = x.get(i).copied().unwrap_or_default();
        let code = bits.code(i, value, inverse, word);
        let at = i % words.len();
        words[at] |= code << (i / words.len() * bits.count() as usize);
        lacking.push(value - bits.value(code) * scale);
    }
    lacking.truncate(x.len());
    (words.iter().flat_map(|w| w.to_le_bytes()).collect(), scale, lacking)
}

#[test]
fn codes_are_their_reference() {
    let random = Philox::new(5, 6);
    for &bits in Bits::ALL {
        for &n in LENGTHS {
            let (x, y) = (noise(n, 1), noise(n, 2));
            let blocks = n.div_ceil(BLOCK);
            let room = || (vec![0; 4 * blocks], vec![0; bits.block_bytes() * blocks]);
            for (x, y) in [(&x[..], &y[..]), (&x, &[]), (&[], &y)] {
                let both = |i: usize| x.get(i).unwrap_or(&0.0) + y.get(i).unwrap_or(&0.0);
                let whole: Vec<f32> = (0..n).map(both).collect();
                for isa in Isa::available() {
                    let ((mut scales, mut codes), mut left) = (room(), y.to_vec());
                    assert!(bits.encode(isa, random, 512, x, &mut left, &mut scales, &mut codes));
                    let mut sum = vec![0.25; n];
                    bits.add(isa, 0.5, &scales, &codes, &mut sum);
                    for (block, part) in whole.chunks(BLOCK).enumerate() {
                        let first = 512 + (block * BLOCK) as u64;
                        let (words, scale, lacking) = encode(bits, random, first, part);
                        let at = block * bits.block_bytes();
                        assert_eq!(codes[at..][..words.len()], words, "{bits:?} {}", isa.name());
                        assert_eq!(scales[4 * block..][..4], scale.to_le_bytes());
                        for (i, lacking) in lacking.into_iter().enumerate() {
                            let i = block * BLOCK + i;
                            assert!(y.is_empty() || left[i].to_bits() == lacking.to_bits());
                            let value = whole[i] - lacking;
                            assert!(lacking.abs() <= scale * 1.0001, "a step is the error's bound");
                            assert!(
                                (sum[i] - 0.25 - 0.5 * value).abs() <= 1e-5 * (1.0 + value.abs())
                            );
                        }
                    }
                }
            }
        }
    }
}

/// To the standard error of the mean over many draws.
#[test]
fn rounding_is_right_in_the_mean() {
    const DRAWS: u64 = 2000;
    let x = [1.0, 0.3, -0.8, 0.01, -0.99];
    for &bits in Bits::ALL {
        let (mut scales, mut codes, mut sum) = ([0; 4], vec![0; bits.block_bytes()], [0.0; 5]);
        for draw in 0..DRAWS {
            let random = Philox::new(draw, 1);
            bits.encode(Isa::best(), random, 0, &x, &mut [], &mut scales, &mut codes);
            bits.add(Isa::best(), 1.0 / DRAWS as f32, &scales, &codes, &mut sum);
        }
        for (sum, x) in sum.into_iter().zip(x) {
            let step = f32::from_le_bytes(scales);
            assert!((sum - x).abs() < 5.0 * 0.5 * step / (DRAWS as f32).sqrt(), "{sum} of {x}");
        }
    }
}

#[test]
fn what_is_not_finite_is_seen() {
    for isa in Isa::available() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 255, 256, 700] {
                let mut x = noise(701, 3);
                x[at] = wrong;
                let (mut scales, mut codes) = ([0; 12], [0; 3 * 128]);
                let encoded = Bits::Four.encode(
                    isa,
                    Philox::new(1, 1),
                    0,
                    &x,
                    &mut [],
                    &mut scales,
                    &mut codes,
                );
                assert!(!encoded && !survey(isa, [1.0; 2], &x, &[], &mut []).finite);
                // Of a sum that is not, though both its terms are.
                x[at] = -3e38;
                assert!(survey(isa, [1.0; 2], &x, &[], &mut []).finite);
                assert!(!survey(isa, [1.0; 2], &x, &x, &mut []).finite);
            }
        }
    }
}

#[test]
fn collects_what_is_large_enough() {
    for &n in LENGTHS {
        let x = noise(n, 4);
        for least in [0.0, 1e-3, 0.5, 1e9] {
            let want: Vec<usize> = (0..n).filter(|&i| x[i].abs() >= least).collect();
            let values: Vec<f32> = want.iter().map(|&i| x[i]).collect();
            let want: Vec<u32> = want.into_iter().map(|i| i as u32).collect();
            let half: Vec<f32> = x.iter().map(|x| x / 2.0).collect();
            for isa in Isa::available() {
                for adds in [false, true] {
                    let mut sum = half.clone();
                    let mut run = |places: &mut [u32], values: &mut [f32]| {
                        if !adds {
                            return collect(isa, least, &x, places, values);
                        }
                        sum.copy_from_slice(&half);
                        let found = add_and_collect(isa, least, &half, &mut sum, places, values);
                        assert_eq!(sum, x);
                        found
                    };
                    let (mut places, mut seen) = (vec![0; n + 64], vec![0.0; n + 64]);
                    let found = run(&mut places, &mut seen);
                    assert_eq!(found, want.len());
                    assert_eq!(places[..found], want, "{}", isa.name());
                    assert_eq!(seen[..found], values, "{}", isa.name());
                    // Too little room: the count is right, and nothing is written beyond it.
                    let short = want.len() / 2;
                    places.fill(7);
                    let found = run(&mut places[..short], &mut seen[..short]);
                    assert_eq!(found, want.len());
                    assert!(places[short..].iter().all(|&p| p == 7));
                }
            }
        }
    }
}

#[test]
fn surveys_what_lies_between() {
    for &n in LENGTHS {
        let x = noise(n, 4);
        let half: Vec<f32> = x.iter().map(|x| x / 2.0).collect();
        for [low, high] in [[0.0, 1e-3], [0.1, 0.5], [0.5, 0.5], [0.0, f32::INFINITY], [1e8, 1e9]] {
            let between = |x: &&f32| (low..high).contains(&x.abs());
            let want: Vec<f32> = x.iter().filter(between).copied().collect();
            let above = x.iter().filter(|x| x.abs() >= high).count();
            let all = Surveyed { above, between: want.len(), finite: true };
            for isa in Isa::available() {
                for (x, more) in [(&x, &[][..]), (&half, &half)] {
                    for room in [0, want.len() / 2, want.len(), want.len() + 64] {
                        let mut values = vec![0.0; room];
                        assert_eq!(survey(isa, [low, high], x, more, &mut values), all);
                        let written = want.len().min(room);
                        assert!(room < want.len() || values[..written] == want, "{}", isa.name());
                    }
                }
            }
        }
    }
}
