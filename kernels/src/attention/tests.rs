//! Parity with the reference on every level, and what no reference can show.

use super::reference::{self, TOLERANCE};
use super::{Attention, Backward, Forward, Mask, forward, grad_head, sum_heads};
use crate::Isa;

/// Numbers in (-1, 1) from a seed (splitmix64).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
}

fn inputs(shape: &Attention) -> Inputs {
    let q = shape.batch * shape.queries * shape.heads * shape.dim;
    let k = shape.batch * shape.keys * shape.kv_heads * shape.dim;
    Inputs { q: noise(q, 1), k: noise(k, 2), v: noise(k, 3), dout: noise(q, 4) }
}

/// Runs both passes; tasks in the order that `reverse` says.
fn run(
    isa: Isa,
    shape: Attention,
    x: &Inputs,
    mask: Option<Mask>,
    reverse: bool,
) -> (reference::Output, reference::Gradients) {
    let order = |n: usize| (0..n).map(move |i| if reverse { n - 1 - i } else { i });
    let mut out = vec![f32::NAN; x.q.len()];
    let mut lse = vec![f32::NAN; shape.batch * shape.heads * shape.queries];
    let (q, k, v) = (x.q.as_ptr(), x.k.as_ptr(), x.v.as_ptr());
    let args = Forward { shape, q, k, v, mask, out: out.as_mut_ptr(), lse: lse.as_mut_ptr() };
    let mut scratch = vec![f32::NAN; shape.forward_scratch()];
    for task in order(shape.query_tasks()) {
        // SAFETY: every buffer above has the size its shape states.
        unsafe { forward(isa, &args, task, &mut scratch) };
    }
    let mut parts = vec![f32::NAN; shape.parts_len()];
    let mut grads = reference::Gradients {
        dq: vec![f32::NAN; x.q.len()],
        dk: vec![f32::NAN; x.k.len()],
        dv: vec![f32::NAN; x.v.len()],
    };
    let args = Backward {
        shape,
        q,
        k,
        v,
        mask,
        out: out.as_ptr(),
        dout: x.dout.as_ptr(),
        lse: lse.as_ptr(),
        parts: parts.as_mut_ptr(),
        dq: grads.dq.as_mut_ptr(),
        dk: grads.dk.as_mut_ptr(),
        dv: grads.dv.as_mut_ptr(),
    };
    let mut scratch = vec![f32::NAN; shape.backward_scratch()];
    for task in order(shape.head_tasks()) {
        // SAFETY: every buffer above has the size its shape states.
        unsafe { grad_head(isa, &args, task, &mut scratch) };
    }
    for task in order(shape.sum_tasks()) {
        // SAFETY: as above, and every head's task has ended.
        unsafe { sum_heads(isa, &args, task) };
    }
    (reference::Output { out, lse }, grads)
}

/// Compares within the tolerance; what goes in is of order one, so results that cancel to less are
/// held to that scale.
fn close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let most = want.iter().filter(|x| x.is_finite()).fold(1.0_f32, |m, x| m.max(x.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = g == w || (g - w).abs() <= TOLERANCE * most;
        assert!(same, "{what}[{i}]: {g} for {w} (greatest {most})");
    }
}

fn check(shape: Attention, mask: Option<(&[f32], Mask)>) {
    let x = inputs(&shape);
    let full: Option<Vec<f32>> = mask.map(|(data, m)| {
        let index = |n: usize| {
            let (j, n) = (n % shape.keys, n / shape.keys);
            let (i, n) = (n % shape.queries, n / shape.queries);
            let (h, b) = (n % shape.heads, n / shape.heads);
            data[b * m.batch_stride + h * m.head_stride + i * m.query_stride + j]
        };
        (0..shape.batch * shape.heads * shape.queries * shape.keys).map(index).collect()
    });
    let want = reference::forward(&shape, &x.q, &x.k, &x.v, full.as_deref());
    let grads = reference::backward(&shape, [&x.q, &x.k, &x.v, &x.dout], full.as_deref());
    for isa in Isa::available() {
        let name = format!("{} {shape:?}", isa.name());
        let (got, dgot) = run(isa, shape, &x, mask.map(|m| m.1), false);
        close(&format!("{name} out"), &got.out, &want.out);
        close(&format!("{name} lse"), &got.lse, &want.lse);
        close(&format!("{name} dq"), &dgot.dq, &grads.dq);
        close(&format!("{name} dk"), &dgot.dk, &grads.dk);
        close(&format!("{name} dv"), &dgot.dv, &grads.dv);
    }
}

fn shape(queries: usize, keys: usize, causal: bool, window: Option<usize>) -> Attention {
    Attention {
        batch: 2,
        queries,
        keys,
        heads: 4,
        kv_heads: 2,
        dim: 24,
        causal,
        window,
        scale: 0.7,
    }
}

#[test]
fn matches_the_reference() {
    for (queries, keys) in [(1, 1), (5, 5), (33, 33), (64, 64), (7, 150), (150, 70), (131, 131)] {
        for causal in [false, true] {
            for window in [None, Some(1), Some(9), Some(80)] {
                check(shape(queries, keys, causal, window), None);
            }
        }
    }
}

/// Long enough that a task has several blocks of queries.
#[test]
fn matches_the_reference_for_long_sequences() {
    for (queries, keys) in [(530, 530), (1040, 300)] {
        for window in [None, Some(70)] {
            let shape = shape(queries, keys, true, window);
            check(Attention { batch: 1, heads: 2, kv_heads: 1, dim: 8, ..shape }, None);
        }
    }
}

/// What lies beside it in a vector is not touched, wherever it is.
#[test]
fn a_nan_query_is_its_own_matter() {
    let shape = shape(33, 70, false, None);
    let row = shape.heads * shape.dim;
    for isa in Isa::available() {
        let mut x = inputs(&shape);
        let (clean, _) = run(isa, shape, &x, None, false);
        for query in [0, 3, 15, 20, 31, 32] {
            x.q[query * row..(query + 1) * row].fill(f32::NAN);
            let (got, _) = run(isa, shape, &x, None, false);
            for (i, (got, want)) in got.out.iter().zip(&clean.out).enumerate() {
                let same = if i / row == query { got.is_nan() } else { got == want };
                assert!(same, "{} query {query} element {i}: {got} for {want}", isa.name());
            }
            x = inputs(&shape);
        }
    }
}

#[test]
fn matches_the_reference_for_odd_heads() {
    for (heads, kv_heads, dim) in [(1, 1, 1), (3, 1, 7), (6, 6, 64), (2, 1, 65)] {
        check(Attention { heads, kv_heads, dim, ..shape(40, 45, true, None) }, None);
    }
}

#[test]
fn adds_a_mask_in_every_broadcast_form() {
    let shape = shape(70, 66, false, None);
    let (queries, keys) = (shape.queries, shape.keys);
    let full = shape.batch * shape.heads * queries * keys;
    let forms = [
        (full, [shape.heads * queries * keys, queries * keys, keys]),
        (shape.batch * keys, [keys, 0, 0]),
        (queries * keys, [0, 0, keys]),
        (shape.heads * keys, [0, keys, 0]),
    ];
    for (len, [batch_stride, head_stride, query_stride]) in forms {
        let mut data = noise(len, 9);
        for hidden in [f32::NEG_INFINITY, f32::MIN] {
            data.iter_mut().step_by(3).for_each(|x| *x = hidden);
            let mask = Mask { data: data.as_ptr(), batch_stride, head_stride, query_stride };
            check(shape, Some((&data, mask)));
        }
    }
}

#[test]
fn a_query_that_sees_nothing_gives_zeros() {
    // Sixty queries against twenty keys: causal, the first forty stand before every key.
    let shape = shape(60, 20, true, None);
    let x = inputs(&shape);
    for isa in Isa::available() {
        let (got, grads) = run(isa, shape, &x, None, false);
        let blind = 40 * shape.heads * shape.dim;
        assert!(got.out[..blind].iter().all(|&x| x == 0.0));
        assert!(got.lse[..40].iter().all(|&x| x == f32::NEG_INFINITY));
        assert!(grads.dq[..blind].iter().all(|&x| x == 0.0));
    }
    check(shape, None);
    // No keys at all.
    check(self::shape(5, 0, true, None), None);
}

#[test]
fn bits_do_not_depend_on_the_order_of_tasks() {
    let shape = shape(100, 100, true, None);
    let x = inputs(&shape);
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for isa in Isa::available() {
        let (a, da) = run(isa, shape, &x, None, false);
        let (b, db) = run(isa, shape, &x, None, true);
        assert_eq!(bits(&a.out), bits(&b.out));
        assert_eq!(bits(&da.dq), bits(&db.dq));
        assert_eq!(bits(&da.dk), bits(&db.dk));
        assert_eq!(bits(&da.dv), bits(&db.dv));
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let shape = Attention { scale: 500.0, ..shape(40, 40, true, None) };
    let x = inputs(&shape);
    let want = reference::forward(&shape, &x.q, &x.k, &x.v, None);
    for isa in Isa::available() {
        let (got, grads) = run(isa, shape, &x, None, false);
        // Scores near 2000 carry an error of 2^-24 of that, which the exponential magnifies.
        for (g, w) in got.out.iter().zip(&want.out) {
            assert!((g - w).abs() < 5e-3, "{g} for {w}");
        }
        assert!(grads.dq.iter().chain(&grads.dk).all(|x| x.is_finite()));
    }
}
