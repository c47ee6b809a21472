//! Every method against a plain statement of it, one element at a time.

use tenon_kernels::Isa;
use tenon_kernels::exchange::{Bits, Mask};
use tenon_kernels::random::Philox;

use super::compress::{Compression, add, compress};
use super::message::Message;
use super::secure::{self, FixedPoint};
use super::submodel::{Axis, Submodel};
use super::{select, sums};
use crate::tensor::Shape;

/// An update as they are: most elements small, a few large, some equal.
fn update(n: usize, seed: u64) -> Vec<f32> {
    let random = Philox::new(seed, 11);
    let one = |i: u64| random.normal(2 * i).powi(3) * 1e-3;
    (0..n as u64).map(|i| if i % 5 == 0 { (one(i) * 1e4).round() / 1e4 } else { one(i) }).collect()
}

fn workers() -> Isa {
    Isa::from_env().unwrap()
}

/// The places of the `k` largest by a sort, ties by place.
fn sorted(x: &[f32], k: usize) -> Vec<u32> {
    let mut all: Vec<u32> = (0..x.len() as u32).collect();
    all.sort_by(|&a, &b| x[b as usize].abs().total_cmp(&x[a as usize].abs()).then(a.cmp(&b)));
    all.truncate(k);
    all.sort_unstable();
    all
}

#[test]
fn the_largest_are_those_of_a_sort() {
    let mut cases = vec![update(100_000, 1), vec![0.0; 70_000], vec![-2.5; 50_000]];
    // Only a few are not zero; a staircase; large ones where a sample does not look.
    cases.push((0..90_000).map(|i| if i % 1000 == 7 { i as f32 } else { 0.0 }).collect());
    cases.push((0..66_000).map(|i| (i / 1000) as f32).collect());
    cases.push((0..200_000).map(|i| if i < 9000 { 1e6 + i as f32 } else { 1e-9 }).collect());
    for x in cases {
        for k in [0, 1, 5, 1000, 4321, x.len() / 2, x.len() - 1, x.len()] {
            let want = sorted(&x, k);
            let half: Vec<f32> = x.iter().map(|x| x / 2.0).collect();
            for (x, more) in [(&x, &[][..]), (&half, &half)] {
                assert_eq!(chosen(x, more, k).unwrap(), want, "{k}");
            }
        }
        assert!(chosen(&x, &[], x.len() + 1).is_err());
    }
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut x = update(100_000, 1);
        x[99_999] = wrong;
        assert!(chosen(&x, &[], 10).is_err());
    }
}

/// The places of the `k` largest of a sum, in two parts.
fn chosen(x: &[f32], more: &[f32], k: usize) -> crate::Result<Vec<u32>> {
    let mut bound = select::Bound::new(workers(), x, more, k)?;
    let whole: Vec<f32> = (0..x.len()).map(|i| x[i] + more.get(i).unwrap_or(&0.0)).collect();
    let mut all = Vec::new();
    for half in [0..whole.len() / 2, whole.len() / 2..whole.len()] {
        let reach = half.filter(|&i| whole[i].abs() >= bound.least);
        let (mut places, mut values): (Vec<u32>, Vec<f32>) =
            reach.map(|i| (i as u32, whole[i])).unzip();
        let count = bound.cut(&mut places, &mut values);
        all.extend(&places[..count]);
    }
    Ok(all)
}

/// All ways to compress `n` elements.
fn ways(n: usize) -> Vec<Compression> {
    let bits = [None, Some(Bits::Eight), Some(Bits::Four), Some(Bits::Two)];
    let keeps = [0, 1, n / 100, n / 10, n / 2, n];
    let way = |keep, bits| Compression { keep, bits, seed: 3, round: 4 };
    keeps.into_iter().flat_map(|keep| bits.map(|bits| way(keep, bits))).collect()
}

#[test]
fn what_is_sent_and_what_is_kept_are_the_update() {
    for n in [0, 1, 300, 70_000] {
        let x = update(n, 2);
        for how in ways(n) {
            let mut to = vec![0; how.most_bytes(n).unwrap()];
            let mut residual = update(n, 5);
            let whole: Vec<f32> = residual.iter().zip(&x).map(|(r, x)| r + x).collect();
            let size = compress(&workers(), &how, &x, Some(&mut residual), &mut to).unwrap();
            let mut sent = vec![0.0; n];
            add(&workers(), 1.0, &to[..size], &mut sent).unwrap();
            let kept = if how.keep == 0 { n } else { how.keep.min(n) };
            let chosen = sorted(&whole, kept);
            let largest = whole.iter().fold(0f32, |m, x| m.max(x.abs()));
            let step = how.bits.map_or(0.0, |bits| bits.scale(largest)[0]);
            let mut at = 0;
            for i in 0..n {
                let is_chosen = at < chosen.len() && chosen[at] as usize == i;
                at += usize::from(is_chosen);
                if !is_chosen {
                    assert!(sent[i] == 0.0 && residual[i] == whole[i], "{i} of {how:?}");
                }
                // Up to a rounding of the subtraction.
                let error = (sent[i] + residual[i] - whole[i]).abs();
                assert!(error <= 1e-6 * whole[i].abs().max(step), "{i} of {how:?}");
                assert!(!is_chosen || residual[i].abs() <= step * 1.0001, "{i} of {how:?}");
            }
            let head = Message::read(&to[..size]).unwrap().head;
            assert_eq!((head.count, head.kept), (n as u64, kept as u64));
            // The same seed gives the same bytes, another does not matter to f32.
            let mut again = vec![0; to.len()];
            let mut other = update(n, 5);
            let size = compress(&workers(), &how, &x, Some(&mut other), &mut again).unwrap();
            assert_eq!((&again[..size], &other), (&to[..size], &residual));
            // Without a residual, and a weight, added twice.
            let size = compress(&workers(), &how, &whole, None, &mut again).unwrap();
            assert_eq!(again[..size], to[..size]);
            let mut sum = vec![1.0; n];
            add(&workers(), 0.25, &to[..size], &mut sum).unwrap();
            for (sum, sent) in sum.into_iter().zip(&sent) {
                assert!((sum - 1.0 - 0.25 * sent).abs() <= 1e-6 * (1.0 + sent.abs()));
            }
        }
    }
}

#[test]
fn a_hundredth_with_four_bits_is_far_below_a_thirtieth() {
    let n = 1 << 20;
    let how = Compression { keep: n / 100, bits: Some(Bits::Four), seed: 1, round: 1 };
    let mut to = vec![0; how.most_bytes(n).unwrap()];
    let size = compress(&workers(), &how, &update(n, 2), None, &mut to).unwrap();
    assert!(size * 240 < 4 * n, "{size} of {}", 4 * n);
    let tenth = Compression { keep: n / 10, ..how };
    let mut to = vec![0; tenth.most_bytes(n).unwrap()];
    let size = compress(&workers(), &tenth, &update(n, 2), None, &mut to).unwrap();
    assert!(size * 34 < 4 * n, "{size} of {}", 4 * n);
}

#[test]
fn what_fails_changes_nothing() {
    let n = 70_000;
    for how in ways(n) {
        let mut to = vec![0; how.most_bytes(n).unwrap()];
        // Of the update, of the residual, and of their sum alone.
        for (update_has, residual_has) in [(f32::NAN, 0.0), (0.0, f32::INFINITY), (3e38, 3e38)] {
            let (mut x, mut before) = (update(n, 2), update(n, 5));
            (x[n - 1], before[n - 1]) = (update_has, residual_has);
            let mut residual = before.clone();
            assert!(compress(&workers(), &how, &x, Some(&mut residual), &mut to).is_err());
            assert!(residual == before, "{how:?}");
            let alone = compress(&workers(), &how, &x, None, &mut to);
            assert_eq!(alone.is_err(), update_has.is_nan(), "{how:?}");
        }
        let (x, before, short) = (update(n, 2), update(n, 5), to.len() - 1);
        let mut residual = before.clone();
        assert!(compress(&workers(), &how, &x, Some(&mut residual), &mut to[..short]).is_err());
        assert!(compress(&workers(), &how, &x, Some(&mut residual[1..]), &mut to).is_err());
        assert_eq!(residual, before);
    }
}

/// Every byte of a message changed in turn, every cut, and every number of the header at its worst:
/// an error that changes nothing, or a sum of numbers.
#[test]
fn hostile_messages_are_refused_or_harmless() {
    let n = 700;
    for how in ways(n) {
        let mut to = vec![0; how.most_bytes(n).unwrap()];
        let size = compress(&workers(), &how, &update(n, 2), None, &mut to).unwrap();
        let whole = &to[..size];
        let mut sum = vec![0.0; n];
        for cut in 0..size {
            assert!(add(&workers(), 1.0, &whole[..cut], &mut sum).is_err(), "{cut} of {how:?}");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert!(add(&workers(), 1.0, &longer, &mut sum).is_err());
        assert!(add(&workers(), 1.0, whole, &mut sum[1..]).is_err());
        for at in 0..size {
            for flip in [1, 0x80, 0xff] {
                let mut bad = whole.to_vec();
                bad[at] ^= flip;
                let before = sum.clone();
                if add(&workers(), 1e-9, &bad, &mut sum).is_err() {
                    assert_eq!(sum, before);
                } else {
                    assert!(at >= 7, "{at} of {how:?}");
                    sum = before;
                }
            }
        }
        for at in [8, 16, 24] {
            for number in [0, 1, u64::MAX, u64::MAX / 4, 1 << 32, 1 << 62] {
                let mut bad = whole.to_vec();
                bad[at..at + 8].copy_from_slice(&number.to_le_bytes());
                let _ = add(&workers(), 0.0, &bad, &mut sum);
            }
        }
    }
}

#[test]
fn masks_cancel_and_a_lost_clients_are_made_again() {
    let (n, clients, round) = (70_001, 4u64, 9);
    let fixed = FixedPoint { clip: 1.0, clients: clients as u32 };
    let updates: Vec<Vec<f32>> = (0..clients).map(|c| update(n, 20 + c)).collect();
    let weights = [0.5, 0.25, 2.0, 1.0];
    let seed = |a: u64, b: u64| 1000 + a.min(b) * 10 + a.max(b);
    // The lower of a pair adds, the higher takes away.
    let mask = |of: u64, with: u64| Mask {
        random: Philox::new(seed(of, with), round),
        negative: of > with,
    };
    let masked = |client: u64| {
        let mut words = vec![0; n];
        let index = client as usize;
        secure::encode(&workers(), fixed, weights[index], &updates[index], &mut words).unwrap();
        let plain = words.clone();
        let masks: Vec<Mask> =
            (0..clients).filter(|&c| c != client).map(|c| mask(client, c)).collect();
        secure::mask(&workers(), &masks, &mut words);
        let hidden = words.iter().zip(&plain).filter(|(a, b)| a != b).count();
        assert!(hidden > n - 10, "what is sent is masked");
        words
    };
    // What the server should get: a plain sum of the rounded numbers.
    let scale = f64::from(fixed.scale().unwrap());
    let want = |present: &[u64], i: usize| -> f64 {
        let one = |&c: &u64| {
            let x = updates[c as usize][i] * weights[c as usize];
            (f64::from(x.clamp(-1.0, 1.0)) * scale).round_ties_even() / scale
        };
        present.iter().map(one).sum()
    };
    for present in [&[0, 1, 2, 3][..], &[0, 2, 3]] {
        let mut sum = vec![0; n];
        for &client in present {
            secure::accumulate(&workers(), &masked(client), &mut sum).unwrap();
        }
        // Client 1 sent nothing: what the others had masked against it is taken back.
        if present.len() < 4 {
            let back: Vec<Mask> = present
                .iter()
                .map(|&c| Mask { negative: !mask(c, 1).negative, ..mask(c, 1) })
                .collect();
            secure::mask(&workers(), &back, &mut sum);
        }
        let mut out = vec![0.0; n];
        secure::decode(&workers(), fixed, 1.0, &sum, &mut out).unwrap();
        for i in 0..n {
            let want = want(present, i);
            assert!((f64::from(out[i]) - want).abs() <= 1e-6 * want.abs() + 0.01 / scale, "{i}");
        }
    }
}

#[test]
fn fixed_points_hold_the_sum_of_all() {
    for (clip, clients) in
        [(1.0, 1), (1.0, 3), (0.7, 100), (1e-6, 7), (1e6, 1000), (3.3, 65_535), (1e38, 1)]
    {
        let fixed = FixedPoint { clip, clients };
        let mut words = vec![0; 3];
        secure::encode(&workers(), fixed, 1.0, &[clip * 2.0, -clip, f32::NAN], &mut words).unwrap();
        let most = i64::from(words[0].cast_signed()) * i64::from(clients);
        assert!(most <= i64::from(i32::MAX) && most > 1 << 28, "{clip} {clients}: {most}");
        assert_eq!((words[1].cast_signed(), words[2]), (-words[0].cast_signed(), 0));
    }
    for (clip, clients) in
        [(0.0, 1), (-1.0, 1), (f32::NAN, 1), (f32::INFINITY, 1), (1.0, 0), (3e38, 1), (1e38, 2)]
    {
        assert!(FixedPoint { clip, clients }.scale().is_err());
    }
}

#[test]
fn sums_are_plain_sums() {
    let (x, weights) = (update(70_000, 1), update(70_000, 2));
    let mut sum = update(70_000, 3);
    let before = sum.clone();
    sums::accumulate(&workers(), 0.3, &x, &mut sum).unwrap();
    assert!((0..x.len()).all(|i| sum[i] == before[i] + 0.3 * x[i]));
    let before = sum.clone();
    sums::average(&workers(), &weights, &mut sum).unwrap();
    let mean = |i: usize| if weights[i] == 0.0 { 0.0 } else { before[i] / weights[i] };
    assert!((0..x.len()).all(|i| sum[i] == mean(i)));
    assert!(sums::average(&workers(), &weights[1..], &mut sum).is_err());
}

#[test]
fn windows_roll_over_their_axes() {
    let shape = |dims: &[usize]| Shape::new(dims).unwrap();
    // A width of 6 (heads of 2), an input of 5, an output of 3, and a kernel.
    let parameters = [
        ("in.weight", shape(&[6, 5])),
        ("in.bias", shape(&[6])),
        ("out.weight", shape(&[3, 6])),
        ("conv.weight", shape(&[6, 6, 2])),
        ("none", shape(&[])),
        ("empty", shape(&[6, 0])),
    ];
    let whole_count = 30 + 6 + 18 + 72 + 1;
    let whole: Vec<f32> = (0..whole_count).map(|i| i as f32).collect();
    for (start, length, unit) in [(0, 3, 1), (4, 3, 1), (7, 6, 1), (2, 2, 2), (0, 6, 1), (5, 1, 1)]
    {
        let axis = |parameters: &str, axis| Axis {
            parameters: parameters.into(),
            axis,
            length,
            start,
            unit,
        };
        let axes = [
            axis("in.weight", 0),
            axis("in.bias", 0),
            axis("out.weight", 1),
            axis("conv.weight", 0),
            axis("conv.weight", 1),
            axis("empty", 0),
        ];
        let sub = Submodel::new(&parameters, &axes).unwrap();
        // The indices of the window, as the papers have them.
        let units = 6 / unit;
        let window: Vec<usize> = (0..length)
            .flat_map(|i| (0..unit).map(move |u| (start + i) % units * unit + u))
            .collect();
        let mut want = Vec::new();
        want.extend(window.iter().flat_map(|&r| (0..5).map(move |c| r * 5 + c)));
        want.extend(window.iter().map(|&r| 30 + r));
        want.extend((0..3).flat_map(|r| window.iter().map(move |&c| 36 + r * 6 + c)));
        for &a in &window {
            want.extend(window.iter().flat_map(|&b| (0..2).map(move |c| 54 + (a * 6 + b) * 2 + c)));
        }
        want.push(126);
        assert_eq!((sub.whole_count(), sub.part_count()), (whole_count, want.len()));
        let mut part = vec![0.0; want.len()];
        sub.extract(&whole, &mut part).unwrap();
        assert!(part.iter().zip(&want).all(|(&got, &want)| got == want as f32));
        let (mut sum, mut weights) = (vec![0.0; whole_count], vec![0.0; whole_count]);
        sub.add(&workers(), 2.0, &part, &mut sum, &mut weights).unwrap();
        sub.add(&workers(), 0.5, &part, &mut sum, &mut weights).unwrap();
        for i in 0..whole_count {
            let there = if want.contains(&i) { 2.5 } else { 0.0 };
            assert_eq!((sum[i], weights[i]), (there * i as f32, there), "{i}");
        }
        sums::average(&workers(), &weights, &mut sum).unwrap();
        assert!(want.iter().all(|&i| sum[i] == i as f32));
        assert!(sub.extract(&whole[1..], &mut part).is_err());
    }
    let axis = |parameters: &str, axis, length, unit| {
        [Axis { parameters: parameters.into(), axis, length, start: 0, unit }]
    };
    for bad in [
        axis("nothing", 0, 1, 1),
        axis("in.bias", 1, 1, 1),
        axis("in.bias", 0, 7, 1),
        axis("in.bias", 0, 0, 1),
        axis("in.bias", 0, 1, 4),
        axis("in.bias", 0, 1, 0),
    ] {
        assert!(Submodel::new(&parameters, &bad).is_err());
    }
    let [one] = axis("in.bias", 0, 1, 1);
    assert!(Submodel::new(&parameters, &[one.clone(), one]).is_err());
}
