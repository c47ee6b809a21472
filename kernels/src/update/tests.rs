//! Against the definitions in f64, and level against level.

use half::bf16;

use super::state::{Block, EMPTY};
use super::*;

const N: usize = 37;

fn rounding(step: u64) -> Rounding {
    Rounding { random: Philox::new(7, step), first: 0 }
}

fn noise(seed: usize) -> Vec<f32> {
    (0..N).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 200.0 - 2.5).collect()
}

fn close(got: &[f32], want: &[f64]) {
    for (a, b) in got.iter().zip(want) {
        let bound = f64::from(TOLERANCE) * b.abs().max(1.0);
        assert!((f64::from(*a) - b).abs() <= bound, "{a} is not {b}");
    }
}

#[test]
fn sgd_is_pytorchs() {
    for isa in Isa::available() {
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            let (lr, weight_decay, scale) = (0.1, 0.01, 0.5);
            let h = Sgd { lr, momentum, nesterov, weight_decay, scale };
            let (mut p, g) = (noise(1), noise(2));
            let mut buffer = if momentum == 0.0 { vec![] } else { vec![0.0; N] };
            let mut want: Vec<f64> = p.iter().map(|&v| f64::from(v)).collect();
            let mut moment = vec![0f64; N];
            for _ in 0..3 {
                sgd(isa, h, rounding(0), &mut p, &g, State::F32(&mut buffer));
                for i in 0..N {
                    let grad = 0.5 * f64::from(g[i]) + f64::from(0.01f32) * want[i];
                    moment[i] = f64::from(momentum) * moment[i] + grad;
                    let ahead = grad + f64::from(momentum) * moment[i];
                    want[i] -= f64::from(0.1f32) * if nesterov { ahead } else { moment[i] };
                }
            }
            close(&p, &want);
        }
    }
}

#[test]
fn adam_is_pytorchs() {
    for isa in Isa::available() {
        for decoupled in [false, true] {
            let (mut p, g) = (noise(1), noise(2));
            let (mut m, mut v) = (vec![0.0; N], vec![0.0; N]);
            let mut want: Vec<f64> = p.iter().map(|&x| f64::from(x)).collect();
            let (mut m64, mut v64) = (vec![0f64; N], vec![0f64; N]);
            for t in 1..=3 {
                let h = Adam {
                    lr: 0.01,
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    decoupled,
                    step: t as f32,
                    scale: 2.0,
                };
                let (m, v) = (State::F32(&mut m), State::F32(&mut v));
                adam(isa, h, rounding(0), &mut p, &g, m, v);
                let (b1, b2) = (f64::from(0.9f32), f64::from(0.999f32));
                for i in 0..N {
                    let mut grad = 2.0 * f64::from(g[i]);
                    if decoupled {
                        want[i] *= 1.0 - 0.01 * 0.1;
                    } else {
                        grad += 0.1 * want[i];
                    }
                    m64[i] = b1 * m64[i] + (1.0 - b1) * grad;
                    v64[i] = b2 * v64[i] + (1.0 - b2) * grad * grad;
                    let m_hat = m64[i] / (1.0 - b1.powi(t));
                    let v_hat = v64[i] / (1.0 - b2.powi(t));
                    want[i] -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
                }
            }
            close(&p, &want);
        }
    }
}

#[test]
fn accumulation_starts_afresh() {
    for isa in Isa::available() {
        let x = noise(3);
        let mut total = vec![f32::NAN; N];
        accumulate(isa, 0.0, &mut total, &x);
        assert_eq!(total, x);
        accumulate(isa, 1.0, &mut total, &x);
        assert!(total.iter().zip(&x).all(|(t, v)| *t == 2.0 * v));
    }
}

/// A state with room for `n` elements.
struct Room {
    format: StateFormat,
    wide: Vec<f32>,
    half: Vec<bf16>,
    codes: Vec<i8>,
    scales: Vec<f32>,
}

impl Room {
    fn new(format: StateFormat, n: usize) -> Self {
        let (wide, half, codes) = (vec![0.0; n], vec![bf16::ZERO; n], vec![0; n]);
        Self { format, wide, half, codes, scales: vec![0.0; n.div_ceil(BLOCK)] }
    }

    /// The elements of `range`.
    fn part(&mut self, range: std::ops::Range<usize>) -> State<'_> {
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        match self.format {
            StateFormat::F32 => State::F32(&mut self.wide[range]),
            StateFormat::Bf16 => State::Bf16(&mut self.half[range]),
            StateFormat::Int8 => {
                let scales = &mut self.scales[blocks];
                State::Int8 { codes: &mut self.codes[range], scales }
            }
        }
    }

    /// Everything stored, to compare.
    fn bits(&self) -> Vec<u32> {
        let floats = self.wide.iter().chain(&self.scales).map(|x| x.to_bits());
        let rest = self.half.iter().map(|x| x.to_bits().into());
        floats.chain(rest).chain(self.codes.iter().map(|&x| x as u32)).collect()
    }
}

const HYPER: Adam = Adam {
    lr: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.1,
    decoupled: true,
    step: 3.0,
    scale: 0.5,
};

/// Three steps of both rules, cut at `cut`; the bits of all that they wrote.
fn steps(isa: Isa, format: StateFormat, n: usize, cut: usize) -> Vec<u32> {
    let wave = |by: f32| (0..n).map(move |i| (i as f32 * by).sin() * 1.5f32.powi(i as i32 % 40));
    let mut rooms: [Room; 3] = std::array::from_fn(|_| Room::new(format, n));
    let (mut p, mut q): (Vec<f32>, Vec<f32>) = (wave(0.3).collect(), wave(0.5).collect());
    for step in 1..4u8 {
        let grad: Vec<f32> = wave(f32::from(step)).collect();
        for range in [0..cut, cut..n] {
            let rounding = Rounding { first: range.start as u64, ..rounding(step.into()) };
            let [m, v, momentum] = rooms.each_mut().map(|room| room.part(range.clone()));
            let grad = &grad[range.clone()];
            let hyper = Adam { step: step.into(), ..HYPER };
            adam(isa, hyper, rounding, &mut p[range.clone()], grad, m, v);
            let hyper =
                Sgd { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.1, scale: 0.5 };
            sgd(isa, hyper, rounding, &mut q[range], grad, momentum);
        }
    }
    let written = p.iter().chain(&q).map(|x| x.to_bits());
    written.chain(rooms.iter().flat_map(Room::bits)).collect()
}

#[test]
fn every_level_and_every_cut_gives_the_same_bits() {
    for (name, format) in StateFormat::ALL {
        let want = steps(Isa::PORTABLE, format, 1003, 0);
        for isa in Isa::available() {
            for cut in [0, 256, 768] {
                assert!(steps(isa, format, 1003, cut) == want, "{name} on {}", isa.name());
            }
        }
    }
}

/// A block narrowed and widened again.
struct Turn<'a, const SIGNED: bool>(StateFormat, u64, &'a Block);

impl<const SIGNED: bool> Kernel for Turn<'_, SIGNED> {
    type Out = Block;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Block {
        let (mut room, mut random, mut to) = (Room::new(self.0, BLOCK), EMPTY, EMPTY);
        rounding(self.1).random.vectors(s).fill(0, &mut random.0);
        room.part(0..BLOCK).narrow::<S, SIGNED>(s, 0, self.2, &random);
        room.part(0..BLOCK).widen::<S, SIGNED>(s, 0, &mut to);
        to
    }
}

/// Checks the stated error and that there is none in the mean, for magnitudes down to `2^-octaves`
/// of the largest.
fn check_rounding<const SIGNED: bool>(format: StateFormat, bound: f64, octaves: f32) {
    const DRAWS: u64 = 1000;
    let isa = Isa::best();
    let mut x = EMPTY;
    for (i, x) in x.0.iter_mut().enumerate() {
        let size = 3.0e-3 * (-octaves * i as f32 / BLOCK as f32).exp2();
        *x = if SIGNED && i % 2 == 1 { -size } else { size };
    }
    let mut sums = [0f64; BLOCK];
    for draw in 0..DRAWS {
        let turned = isa.run(Turn::<SIGNED>(format, draw, &x));
        for ((sum, &got), &want) in sums.iter_mut().zip(&turned.0).zip(&x.0) {
            let error = f64::from(got / want) - 1.0;
            assert!(error.abs() < bound, "{want:e} became {got:e}");
            *sum += error;
        }
    }
    // Five deviations of a mean of numbers that spread over `bound`.
    let mean = 5.0 * bound / 2.0 / (DRAWS as f64).sqrt();
    assert!(sums.iter().all(|sum| (sum / DRAWS as f64).abs() < mean));
    // Rounded again, what was rounded stays as it is.
    let once = isa.run(Turn::<SIGNED>(format, 0, &x));
    assert!(isa.run(Turn::<SIGNED>(format, 1, &once)).0 == once.0);
}

#[test]
fn rounding_errs_no_more_than_stated_and_not_in_the_mean() {
    check_rounding::<true>(StateFormat::Bf16, 1.0 / 128.0, 60.0);
    check_rounding::<true>(StateFormat::Int8, 1.0 / 8.0, 14.8);
    check_rounding::<false>(StateFormat::Int8, 1.0 / 8.0, 30.8);
}

#[test]
fn small_values_of_a_block_are_drawn_or_kept_from_zero() {
    let mut x = EMPTY;
    x.0[0] = 1.0;
    x.0[1] = 1e-5;
    let zeros = (0..1000)
        .filter(|&draw| {
            let signed = Isa::best().run(Turn::<true>(StateFormat::Int8, draw, &x)).0;
            let square = Isa::best().run(Turn::<false>(StateFormat::Int8, draw, &x)).0;
            assert!(square[1] > 0.0 && square[2] == 0.0 && signed[2] == 0.0);
            signed[1] == 0.0
        })
        .count();
    // The smallest code is 2^-15 * 1.125.
    assert!((660..760).contains(&zeros), "{zeros}");
    x.0[1] = 1e-30;
    assert!(Isa::best().run(Turn::<false>(StateFormat::Int8, 0, &x)).0[1] > 0.0);
    x.0[1] = f32::NAN;
    for format in [StateFormat::Bf16, StateFormat::Int8] {
        assert!(Isa::best().run(Turn::<true>(format, 0, &x)).0[1].is_nan());
    }
}

/// Rounded to the nearest, a second moment with a decay of 0.999 would stay where it starts.
#[test]
fn a_rounded_second_moment_follows_the_gradient() {
    for format in [StateFormat::Bf16, StateFormat::Int8] {
        let (mut m, mut v) = (Room::new(format, BLOCK), Room::new(format, BLOCK));
        let (mut p, grad) = (vec![0.0; BLOCK], vec![1.0; BLOCK]);
        let mut step = |count: u64, lr: f32, scale: f32| {
            let before = p.clone();
            for t in 0..count {
                let hyper = Adam { lr, beta1: 0.0, weight_decay: 0.0, step: 1e9, scale, ..HYPER };
                let (m, v) = (m.part(0..BLOCK), v.part(0..BLOCK));
                adam(Isa::best(), hyper, rounding(t), &mut p, &grad, m, v);
            }
            // One step is lr * g / sqrt(v).
            p.iter().zip(before).map(|(p, b)| f64::from(scale / (b - p)).powi(2)).sum::<f64>()
                / BLOCK as f64
        };
        step(1, 0.0, 2.0);
        step(2000, 0.0, 1.0);
        let want = 1.0 + (0.004 - 1.0) * 0.999f64.powi(2000);
        let got = step(1, 1.0, 1.0);
        assert!((got / want - 1.0).abs() < 0.05, "{format:?}: {got} is not {want}");
    }
}
