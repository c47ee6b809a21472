//! Every method of every level against scalar arithmetic.

use half::{bf16, f16};

use super::Simd;
use crate::isa::{Isa, Kernel};

/// Widest level in lanes.
const MAX_LANES: usize = 16;

/// Of many values alike, how many a test goes on by: an interpreter looks at memory, not at values.
const SPARSE: usize = if cfg!(miri) { 499 } else { 1 };

type Lanes = [f32; MAX_LANES];

/// Applies a vector function to the first `LANES` of two arrays.
fn map2<S: Simd>(s: S, a: &Lanes, b: &Lanes, f: impl Fn(S::F, S::F) -> S::F) -> Lanes {
    let mut out = [0.0; MAX_LANES];
    // SAFETY: the arrays have at least `LANES` elements on every level.
    unsafe { s.store(out.as_mut_ptr(), f(s.load(a.as_ptr()), s.load(b.as_ptr()))) };
    out
}

/// A vector from the first `LANES` of an array.
fn load<S: Simd>(s: S, a: &Lanes) -> S::F {
    // SAFETY: the array has at least `LANES` elements on every level.
    unsafe { s.load(a.as_ptr()) }
}

/// The lanes of a vector, zero beyond `LANES`.
fn lanes<S: Simd>(s: S, v: S::F) -> Lanes {
    let mut out = [0.0; MAX_LANES];
    // SAFETY: the array has at least `LANES` elements on every level.
    unsafe { s.store(out.as_mut_ptr(), v) };
    out
}

/// Bits equal, or both NaN.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

#[track_caller]
fn assert_lanes<S: Simd>(_: S, got: &Lanes, want: impl Fn(usize) -> f32, what: &str) {
    for i in 0..S::LANES {
        assert!(same(got[i], want(i)), "{what}, lane {i}: {} instead of {}", got[i], want(i));
    }
}

/// Runs a `fn check<S: Simd>(s: S)` on every level.
macro_rules! on_every_level {
    ($($test:ident)*) => {$(
        #[test]
        fn $test() {
            struct Check;
            impl Kernel for Check {
                type Out = ();
                const BF16: bool = true;
                const BYTES: bool = true;
                fn run<S: Simd>(self, s: S) {
                    checks::$test(s);
                }
            }
            for isa in Isa::available() {
                isa.run(Check);
            }
        }
    )*};
}

on_every_level! {
    arithmetic minimum_and_maximum compare bitwise rounding scaling across_lanes tails
    half_floats bytes blocks narrowing transposing transposing_pairs bfloat16_pairs byte_products
    integers wide_integers masks
}

mod checks {
    use super::*;

    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    const A: Lanes =
        [1.5, -2.25, 0.1, 3e38, -0.0, INF, NAN, 7.0, 1e-40, -1e10, 0.3, 2.0, -INF, NAN, 9.0, 1.0];
    const B: Lanes =
        [0.3, 4.0, -0.1, 3e38, 0.0, -INF, 1.0, NAN, 2e-40, 1e-3, 0.3, -2.0, -INF, NAN, 3.0, 1.0];

    pub(super) fn arithmetic<S: Simd>(s: S) {
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.add(a, b)), |i| A[i] + B[i], "add");
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.sub(a, b)), |i| A[i] - B[i], "sub");
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.mul(a, b)), |i| A[i] * B[i], "mul");
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.div(a, b)), |i| A[i] / B[i], "div");
        assert_lanes(s, &map2(s, &A, &B, |a, _| s.sqrt(a)), |i| A[i].sqrt(), "sqrt");
        assert_lanes(s, &map2(s, &A, &B, |a, _| s.neg(a)), |i| -A[i], "neg");
        assert_lanes(s, &map2(s, &A, &B, |a, _| s.abs(a)), |i| A[i].abs(), "abs");
        let fma = map2(s, &A, &B, |a, b| s.fma(a, b, s.splat(0.7)));
        for i in 0..S::LANES {
            let fused = A[i].mul_add(B[i], 0.7);
            let twice = A[i] * B[i] + 0.7;
            assert!(same(fma[i], fused) || same(fma[i], twice), "fma, lane {i}: {}", fma[i]);
        }
    }

    pub(super) fn minimum_and_maximum<S: Simd>(s: S) {
        let min = |i: usize| if A[i] < B[i] { A[i] } else { B[i] };
        let max = |i: usize| if A[i] > B[i] { A[i] } else { B[i] };
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.min(a, b)), min, "min");
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.max(a, b)), max, "max");
    }

    pub(super) fn compare<S: Simd>(s: S) {
        let pick = |holds: bool| if holds { 1.0 } else { 2.0 };
        let select = |m: S::M| s.select(m, s.splat(1.0), s.splat(2.0));
        let lt = map2(s, &A, &B, |a, b| select(s.lt(a, b)));
        assert_lanes(s, &lt, |i| pick(A[i] < B[i]), "lt");
        let le = map2(s, &A, &B, |a, b| select(s.le(a, b)));
        assert_lanes(s, &le, |i| pick(A[i] <= B[i]), "le");
        let eq = map2(s, &A, &B, |a, b| select(s.eq(a, b)));
        assert_lanes(s, &eq, |i| pick(A[i] == B[i]), "eq");
    }

    pub(super) fn masks<S: Simd>(s: S) {
        let (a, b) = (load(s, &A), load(s, &B));
        let want = (0..S::LANES).fold(0, |bits, i| bits | u32::from(A[i] < B[i]) << i);
        assert_eq!(s.bits(s.lt(a, b)), want, "bits");
        for bits in [0, 1, want, 0b1001 % (1 << S::LANES), (1 << S::LANES) - 1] {
            let mut out = [0.0; MAX_LANES];
            // SAFETY: no level has more lanes.
            unsafe { s.store_chosen(out.as_mut_ptr(), a, bits) };
            let chosen = (0..S::LANES).filter(|i| bits >> i & 1 == 1);
            for (to, from) in chosen.enumerate() {
                assert!(same(out[to], A[from]), "store_chosen of {bits:b}, lane {to}");
            }
        }
        let x: Lanes = [
            0.5,
            1.5,
            -2.5,
            2147483500.0,
            -2147483648.0,
            8388609.0,
            -16777216.0,
            0.0,
            123456.78,
            -1e-30,
            4194303.5,
            -4194304.5,
            1e9,
            -1e9,
            33554434.0,
            0.49999997,
        ];
        let got = lanes(s, s.round_i32(load(s, &x)));
        for i in 0..S::LANES {
            let want = x[i].round_ties_even() as i32;
            assert_eq!(got[i].to_bits().cast_signed(), want, "round_i32 of {}", x[i]);
        }
    }

    pub(super) fn bitwise<S: Simd>(s: S) {
        let bits = |i: usize| (A[i].to_bits(), B[i].to_bits());
        let want = |f: fn(u32, u32) -> u32| move |i| f32::from_bits(f(bits(i).0, bits(i).1));
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.and(a, b)), want(|a, b| a & b), "and");
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.or(a, b)), want(|a, b| a | b), "or");
        assert_lanes(s, &map2(s, &A, &B, |a, b| s.xor(a, b)), want(|a, b| a ^ b), "xor");
    }

    pub(super) fn rounding<S: Simd>(s: S) {
        let x: Lanes = [
            0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, 4194303.5, -4194303.5, 0.0, 7.3, -7.7, 1e6,
            -2.5, 3.5, 1e-30, -1e-30,
        ];
        let got = lanes(s, s.round(load(s, &x)));
        for i in 0..S::LANES {
            assert_eq!(got[i], x[i].round_ties_even(), "round {}", x[i]);
        }
    }

    pub(super) fn scaling<S: Simd>(s: S) {
        for n in -126..=127i32 {
            let got = lanes(s, s.exp2i(s.splat(n as f32)));
            assert_lanes(s, &got, |_| 2f64.powi(n) as f32, "exp2i");
        }
        for n in -252..=254i32 {
            let got = lanes(s, s.ldexp(s.splat(1.234_567), s.splat(n as f32)));
            let want = (f64::from(1.234_567_f32) * 2f64.powi(n)) as f32;
            assert_lanes(s, &got, |_| want, "ldexp");
        }
        assert_lanes(s, &lanes(s, s.exp2i(s.splat(-127.0))), |_| 0.0, "exp2i");
        for n in -252..=127i32 {
            let got = lanes(s, s.ldexp_down(s.splat(1.25), s.splat(n as f32)));
            let want = (1.25 * 2f64.powi(n)) as f32;
            let flushed = want < f32::MIN_POSITIVE && got[0] == 0.0;
            assert_lanes(s, &got, |_| if flushed { 0.0 } else { want }, "ldexp_down");
        }
        for x in [1.0, 0.5, 0.999_999_9, f32::MIN_POSITIVE, f32::MAX, 6.02e23, 3.0] {
            let (m, e) = s.frexp(s.splat(x));
            let (m, e) = (lanes(s, m), lanes(s, e));
            for i in 0..S::LANES {
                assert!((0.5..1.0).contains(&m[i]), "frexp {x}: mantissa {}", m[i]);
                assert_eq!(f64::from(m[i]) * 2f64.powi(e[i] as i32), f64::from(x));
            }
        }
    }

    pub(super) fn across_lanes<S: Simd>(s: S) {
        let x: Lanes = std::array::from_fn(|i| (i * i) as f32 - 20.0);
        let want: f32 = x[..S::LANES].iter().sum();
        assert_eq!(s.sum(load(s, &x)), want);
        for i in 0..S::LANES {
            let mut y: Lanes = std::array::from_fn(|i| -3.0 - i as f32);
            y[i] = -1.0;
            assert_eq!(s.max_lane(load(s, &y)), -1.0);
        }
    }

    pub(super) fn tails<S: Simd>(s: S) {
        for n in 0..S::LANES {
            let x = vec![2.5f32; n];
            let mut out = vec![7.0f32; S::LANES];
            // SAFETY: `n` elements are read from and written to vectors that hold them.
            let v = unsafe { s.load_n(x.as_ptr(), n) };
            let all = lanes(s, v);
            assert_lanes(s, &all, |i| if i < n { 2.5 } else { 0.0 }, "load_n");
            // SAFETY: as above.
            unsafe { s.store_n(out.as_mut_ptr(), s.splat(4.0), n) };
            assert!(out[..n].iter().all(|&y| y == 4.0) && out[n..].iter().all(|&y| y == 7.0));
        }
    }

    pub(super) fn half_floats<S: Simd>(s: S) {
        for first in (0..=u16::MAX).step_by(S::LANES * SPARSE) {
            let bits: [u16; MAX_LANES] = std::array::from_fn(|i| first.wrapping_add(i as u16));
            // SAFETY: the array has at least `LANES` elements.
            let v = unsafe { s.load_f16(bits.as_ptr()) };
            assert_lanes(s, &lanes(s, v), |i| f16::from_bits(bits[i]).to_f32(), "load_f16");
            // SAFETY: as above.
            let v = unsafe { s.load_bf16(bits.as_ptr()) };
            assert_lanes(s, &lanes(s, v), |i| bf16::from_bits(bits[i]).to_f32(), "load_bf16");
        }
    }

    pub(super) fn narrowing<S: Simd>(s: S) {
        // Steps through all exponents, with mantissas on and beside the rounding ties.
        for step in (0..u32::MAX / 0x4fff).step_by(SPARSE) {
            let x: Lanes = std::array::from_fn(|i| {
                f32::from_bits(
                    ((step * 0x4fff) & !0x1fff).wrapping_add([0, 0xfff, 0x1000, 0x1001][i % 4]),
                )
            });
            let mut out = [0u16; MAX_LANES];
            // SAFETY: the array has at least `LANES` elements.
            unsafe { s.store_f16(out.as_mut_ptr(), load(s, &x)) };
            for i in 0..S::LANES {
                let (got, want) = (f16::from_bits(out[i]), f16::from_f32_const(x[i]));
                assert!(same(got.to_f32(), want.to_f32()), "store_f16 {:e}: {got}", x[i]);
            }
            // SAFETY: as above.
            unsafe { s.store_bf16(out.as_mut_ptr(), load(s, &x)) };
            for i in 0..S::LANES {
                let (got, want) = (bf16::from_bits(out[i]), bf16::from_f32(x[i]));
                assert!(same(got.to_f32(), want.to_f32()), "store_bf16 {:e}: {got}", x[i]);
            }
        }
    }

    pub(super) fn bytes<S: Simd>(s: S) {
        for first in (0..=u8::MAX).step_by(S::LANES) {
            let x: [u8; MAX_LANES] = std::array::from_fn(|i| first.wrapping_add(i as u8));
            let p = x.as_ptr();
            // SAFETY: the array has at least `LANES` elements.
            let (signed, unsigned, low, high) = unsafe {
                (s.load_i8(p.cast()), s.load_u8(p), s.load_low_nibbles(p), s.load_high_nibbles(p))
            };
            assert_lanes(s, &lanes(s, signed), |i| f32::from(x[i].cast_signed()), "load_i8");
            assert_lanes(s, &lanes(s, unsigned), |i| f32::from(x[i]), "load_u8");
            assert_lanes(s, &lanes(s, low), |i| f32::from(x[i] & 15), "load_low_nibbles");
            assert_lanes(s, &lanes(s, high), |i| f32::from(x[i] >> 4), "load_high_nibbles");
        }
    }

    pub(super) fn blocks<S: Simd>(s: S) {
        /// Blocks of an even number of bytes, which is not that of four lanes.
        fn check<S: Simd, const BYTES: usize>(s: S) {
            let fours = S::LANES / 4;
            let byte = |at: usize| (at * 37 % 60 + 2) as u8;
            let float = |at: usize| f32::from_le_bytes(std::array::from_fn(|i| byte(at + i)));
            for n in 1..=fours {
                // Of exactly the size of `n` places.
                let data: Vec<u8> = (0..n * BYTES).map(byte).collect();
                let p = data.as_ptr().cast::<[u8; BYTES]>();
                // SAFETY: `n` places of at least 18 bytes.
                let (four, [one], two) = unsafe {
                    (
                        s.load_fours::<_, 1>(p, n),
                        s.load_f16_of_four::<_, 1>([p; 4], n),
                        s.load_f16_of_four::<_, 2>([p; 4], n),
                    )
                };
                let at = |i: usize| i / 4 * BYTES;
                let there = |i: usize, x: f32| if i / 4 < n { x } else { 0.0 };
                let of_four = |i| there(i, float(at(i) + 2 + i % 4 * 4));
                let half = |word: usize| {
                    move |i| {
                        let bits = [0, 1].map(|b| byte(at(i) + 2 * word + b));
                        there(i, f16::from_le_bytes(bits).to_f32())
                    }
                };
                assert_lanes(s, &lanes(s, four), of_four, "load_fours");
                assert_lanes(s, &lanes(s, one), half(0), "load_f16_of_four");
                assert_lanes(s, &lanes(s, two[0]), half(0), "load_f16_of_four");
                assert_lanes(s, &lanes(s, two[1]), half(1), "load_f16_of_four");
            }
            let data: [[u8; BYTES]; 16] = std::array::from_fn(|i| [i as u8; BYTES]);
            let columns = [0, 4, 8, 12].map(|i| data[i..].as_ptr());
            // SAFETY: four successive places behind each.
            let [half] = unsafe { s.load_f16_of_four::<_, 1>(columns, fours) };
            let want = |i| f16::from_le_bytes([(i % 4 * 4 + i / 4) as u8; 2]).to_f32();
            assert_lanes(s, &lanes(s, half), want, "load_f16_of_four");
        }
        check::<S, 18>(s);
        check::<S, 20>(s);
        check::<S, 34>(s);
        for first in 0..=u8::MAX {
            let bytes = |i: usize| [0, 80, 160, 240].map(|add| first.wrapping_add(add + i as u8));
            let x: Lanes = std::array::from_fn(|i| f32::from_le_bytes(bytes(i)));
            let (v, center) = (load(s, &x), s.splat(8.0));
            let each = |f: fn(u8) -> u8| move |i| f32::from_le_bytes(bytes(i).map(f));
            let (low, high) = (s.low_nibbles(v), s.high_nibbles(v));
            assert_lanes(s, &lanes(s, low), each(|byte| byte & 15), "low_nibbles");
            assert_lanes(s, &lanes(s, high), each(|byte| byte >> 4), "high_nibbles");
            for byte in 0..4 {
                let want = |i| f32::from(bytes(i)[byte] & 15) - 8.0;
                assert_lanes(s, &lanes(s, s.widen_nibble(low, byte, center)), want, "widen_nibble");
                let want = |i| f32::from(bytes(i)[byte].cast_signed());
                assert_lanes(s, &lanes(s, s.widen_byte(v, byte)), want, "widen_byte");
            }
        }
        let x: [Lanes; 4] = std::array::from_fn(|v| std::array::from_fn(|i| (v * 100 + i) as f32));
        let sums = s.sum_each([0, 1, 2, 3].map(|v| load(s, &x[v])));
        for (v, sum) in sums.into_iter().enumerate() {
            assert_eq!(sum, x[v][..S::LANES].iter().sum::<f32>(), "sum_each");
        }
        let v = load(s, &x[1]);
        for (c, sum) in s.sum_fours(v).into_iter().enumerate() {
            let of_column = x[1][..S::LANES].iter().skip(c).step_by(4);
            assert_eq!(sum, of_column.sum::<f32>(), "sum_fours");
        }
        let spread = [s.spread::<0>(v), s.spread::<1>(v), s.spread::<2>(v), s.spread::<3>(v)];
        for (c, v) in spread.into_iter().enumerate() {
            assert_lanes(s, &lanes(s, v), |i| x[1][i / 4 * 4 + c], "spread");
        }
    }

    pub(super) fn transposing<S: Simd>(s: S) {
        let (from, to) = (S::LANES + 3, S::LANES + 1);
        let src: Vec<f32> = (0..S::LANES * from).map(|i| i as f32).collect();
        for n in 1..=S::LANES {
            let mut dst = vec![-1.0; S::LANES * to];
            // SAFETY: `LANES` rows of `from` and of `to`, both at least `LANES`.
            unsafe { s.transpose(src.as_ptr(), from, dst.as_mut_ptr(), to, n) };
            for (i, &got) in dst.iter().enumerate() {
                let (row, col) = (i / to, i % to);
                let want = if col < n { src[col * from + row] } else { -1.0 };
                assert_eq!(got, want, "{n} rows, element {row}, {col}");
            }
        }
    }

    pub(super) fn transposing_pairs<S: Simd>(s: S) {
        let (from, to) = (2 * S::LANES + 3, S::LANES + 1);
        // Small whole numbers, which bfloat16 has.
        let src: Vec<f32> = (0..S::LANES * from).map(|i| (i % 199) as f32).collect();
        let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
        for n in 1..=S::LANES {
            let mut dst = vec![-1.0f32; S::LANES * to];
            // SAFETY: `LANES` rows of `from`, at least `2 LANES`, and of `to`, at least `LANES`.
            unsafe { s.transpose_pairs(src.as_ptr(), from, dst.as_mut_ptr(), to, n) };
            for (i, &got) in dst.iter().enumerate() {
                let (row, col) = (i / to, i % to);
                let at = col * from + 2 * row;
                let pair = |at: usize| bits(src[at + 1]) << 16 | bits(src[at]);
                let want = if col < n { pair(at) } else { (-1f32).to_bits() };
                assert_eq!(got.to_bits(), want, "{n} rows, element {row}, {col}");
            }
        }
    }

    pub(super) fn bfloat16_pairs<S: Simd>(s: S) {
        let pairs = map2(s, &A, &B, |a, b| s.pair_bf16(a, b));
        let round = |x: f32| bf16::from_f32(x);
        for i in 0..S::LANES {
            let bits = pairs[i].to_bits();
            for (half, want) in [(bits as u16, A[i]), ((bits >> 16) as u16, B[i])] {
                let flushed = half & 0x7fff == 0 && want.abs() < f32::MIN_POSITIVE;
                let got = bf16::from_bits(half);
                assert!(flushed || same(got.to_f32(), round(want).to_f32()), "pair of {want}");
            }
        }
        let x: Lanes = std::array::from_fn(|i| 1.0 + i as f32 / 7.0);
        let y: Lanes = std::array::from_fn(|i| 3.0 - i as f32 / 5.0);
        let dot =
            map2(s, &x, &y, |x, y| s.dot_bf16(s.pair_bf16(x, y), s.pair_bf16(y, y), s.splat(0.25)));
        for i in 0..S::LANES {
            let (x, y) = (round(x[i]).to_f64(), round(y[i]).to_f64());
            let want = x * y + y * y + 0.25;
            assert!((f64::from(dot[i]) - want).abs() <= 1e-6 * want, "dot, lane {i}: {}", dot[i]);
        }
    }

    pub(super) fn byte_products<S: Simd>(s: S) {
        fn check<S: Simd, const BITS: usize>(s: S) {
            let top = ((1u32 << BITS.min(8)) - 1) as u8;
            // The extremes, where 16-bit sums of pairs saturate, and everything between.
            let unsigned = [0, 1, top / 2, top - 1, top];
            let mut signed: Vec<i8> = (-127..=127).step_by(5).collect();
            signed.push(i8::MAX);
            if BITS == 9 {
                signed.extend([i8::MIN; 4]);
            }
            for (turn, &x) in unsigned.iter().enumerate() {
                for (at, &y) in signed.iter().enumerate() {
                    let a = |lane: usize, i: usize| unsigned[(turn + lane * i) % unsigned.len()];
                    let less = if S::SIGNED_BYTES && BITS >= 8 { 128 } else { 0 };
                    let b = |lane: usize, i: usize| signed[(at + lane * i) % signed.len()];
                    let of = |f: &dyn Fn(usize) -> [u8; 4]| -> Lanes {
                        std::array::from_fn(|lane| f32::from_bits(u32::from_le_bytes(f(lane))))
                    };
                    let left = of(&|lane| std::array::from_fn(|i| a(lane, i).wrapping_sub(less)));
                    let right = of(&|lane| std::array::from_fn(|i| b(lane, i).cast_unsigned()));
                    let start = 7 - 300_000 * i32::from(y);
                    let sum = s.splat(f32::from_bits(start.cast_unsigned()));
                    let got = s.dot_bytes::<BITS>(load(s, &left), load(s, &right), sum);
                    for (lane, got) in lanes(s, got).into_iter().enumerate().take(S::LANES) {
                        let dot =
                            |i| (i32::from(a(lane, i)) - i32::from(less)) * i32::from(b(lane, i));
                        let want = start + (0..4).map(dot).sum::<i32>();
                        let got = got.to_bits().cast_signed();
                        assert_eq!(got, want, "{BITS} bits, {x} by {y}, lane {lane}");
                    }
                }
            }
        }
        check::<S, 7>(s);
        check::<S, 8>(s);
        check::<S, 9>(s);
    }

    pub(super) fn integers<S: Simd>(s: S) {
        for x in [0, 1, -1, 16_777_217, -16_777_219, i32::MAX, i32::MIN, 1_040_384] {
            let got = lanes(s, s.convert_i32(s.splat(f32::from_bits(x.cast_unsigned()))));
            assert_lanes(s, &got, |_| x as f32, "convert_i32");
        }
        for first in (-256..=256).step_by(S::LANES) {
            let x: Lanes =
                std::array::from_fn(|i| ((first + i as i32) as f32 / 2.0).clamp(-128.0, 127.0));
            let mut out = [99i8; MAX_LANES + 1];
            // SAFETY: the array has more than `LANES` elements.
            unsafe { s.store_i8(out.as_mut_ptr(), load(s, &x)) };
            for i in 0..S::LANES {
                assert_eq!(f32::from(out[i]), x[i].round_ties_even(), "store_i8 {}", x[i]);
            }
            assert_eq!(out[S::LANES], 99, "store_i8 writes its lanes only");
            let four = std::array::from_fn(|i| x.map(|x| if i % 2 == 0 { x } else { -0.75 * x }));
            let packed = lanes(s, s.pack_i8(four.each_ref().map(|x: &Lanes| load(s, x))));
            for lane in 0..S::LANES {
                let want = four.map(|x| (x[lane].round_ties_even() as i8).cast_unsigned());
                assert_eq!(packed[lane].to_bits().to_le_bytes(), want, "pack_i8 {}", x[lane]);
            }
        }
    }

    pub(super) fn wide_integers<S: Simd>(s: S) {
        let bits = |i: usize, seed: u32| (i as u32 + 1).wrapping_mul(seed);
        let of = |seed: u32| -> Lanes { std::array::from_fn(|i| f32::from_bits(bits(i, seed))) };
        let (a, b) = (of(0x9e37_79b9), of(0xd251_1f53));
        let sum = map2(s, &a, &b, |a, b| s.add_i32(a, b));
        let product = map2(s, &a, &b, |a, b| s.mul_wide_u32(a, b));
        let moved = map2(s, &a, &b, |a, _| s.odd_to_even(a));
        let even = map2(s, &a, &b, |a, b| s.even(a, b));
        let up = map2(s, &a, &b, |a, _| s.shift_left::<20>(a));
        let down = map2(s, &a, &b, |a, _| s.shift_right::<20>(a));
        let rows = [3, 5, 7, 11].map(of);
        let zipped = s.zip_even([0, 1, 2, 3].map(|row| load(s, &rows[row]))).map(|v| lanes(s, v));
        let a_and_b = [a, b];
        for i in 0..S::LANES {
            let (a, b) = (bits(i, 0x9e37_79b9), bits(i, 0xd251_1f53));
            assert_eq!(sum[i].to_bits(), a.wrapping_add(b));
            let half = if i < S::LANES / 2 { a_and_b[0] } else { a_and_b[1] };
            assert_eq!(even[i].to_bits(), half[2 * i % S::LANES].to_bits());
            assert_eq!((up[i].to_bits(), down[i].to_bits()), (a << 20, a >> 20));
            let from = i / 4 * 4;
            assert_eq!(zipped[0][i].to_bits(), rows[i % 4][from].to_bits());
            assert_eq!(zipped[1][i].to_bits(), rows[i % 4][from + 2].to_bits());
            if i % 2 == 0 {
                let wide = u64::from(a) * u64::from(b);
                assert_eq!(product[i].to_bits(), wide as u32);
                assert_eq!(product[i + 1].to_bits(), (wide >> 32) as u32);
                assert_eq!(moved[i].to_bits(), bits(i + 1, 0x9e37_79b9));
            }
        }
    }
}
