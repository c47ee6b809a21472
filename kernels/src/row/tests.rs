//! Parity of every level with f64 references.

use super::TOLERANCE;
use super::cross_entropy::{self, Running, Strip};
use super::layer_norm::{LayerNorm, LayerNormGrad, layer_norm, layer_norm_grad};
use super::rms_norm::{AddRmsNorm, add_rms_norm, rms_norm, rms_norm_grad};
use super::rope::{Layout, Rope, rope};
use super::softmax::{log_softmax, log_softmax_grad, softmax, softmax_grad};
use crate::isa::Isa;

const SIZES: [usize; 7] = [1, 3, 16, 17, 64, 100, 1000];
const ROWS: usize = 3;

fn noise(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 200.0 - 2.5).collect()
}

/// Compares rows, each relative to its largest magnitude.
fn close(got: &[f32], want: &[f64], cols: usize, what: &str) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.chunks(cols).zip(want.chunks(cols)) {
        let largest = w.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for (a, b) in g.iter().zip(w) {
            let error = (f64::from(*a) - b).abs();
            assert!(error <= f64::from(TOLERANCE) * largest, "{what} {cols}: {a} is not {b}");
        }
    }
}

fn each_row(x: &[f32], cols: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
    wide.chunks(cols).flat_map(f).collect()
}

fn reference_softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
    let sum: f64 = x.iter().map(|v| (v - max).exp()).sum();
    x.iter().map(|v| (v - max).exp() / sum).collect()
}

/// The gradient of `sum(dy * f(x))` by central differences in f64.
fn differences(x: &[f64], dy: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let dot = |x: &[f64]| f(x).iter().zip(dy).map(|(a, b)| a * b).sum::<f64>();
    (0..x.len())
        .map(|i| {
            let (mut up, mut down) = (x.to_vec(), x.to_vec());
            (up[i], down[i]) = (x[i] + 1e-5, x[i] - 1e-5);
            (dot(&up) - dot(&down)) / 2e-5
        })
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn softmax_family() {
    for isa in Isa::available() {
        for cols in SIZES {
            let (x, dy) = (noise(ROWS * cols, 1), noise(ROWS * cols, 2));
            let mut y = vec![0.0; x.len()];
            let mut dx = vec![0.0; x.len()];
            softmax(isa, cols, &x, &mut y);
            close(&y, &each_row(&x, cols, reference_softmax), cols, "softmax");
            softmax_grad(isa, cols, &y, &dy, &mut dx);
            let want: Vec<f64> = (0..ROWS)
                .flat_map(|r| {
                    let (x, dy) = (wide(&x[r * cols..][..cols]), wide(&dy[r * cols..][..cols]));
                    let y = reference_softmax(&x);
                    let dot: f64 = y.iter().zip(&dy).map(|(a, b)| a * b).sum();
                    y.iter().zip(&dy).map(|(a, b)| a * (b - dot)).collect::<Vec<_>>()
                })
                .collect();
            close(&dx, &want, cols, "softmax_grad");
            log_softmax(isa, cols, &x, &mut y);
            let log = |x: &[f64]| reference_softmax(x).iter().map(|p| p.ln()).collect();
            close(&y, &each_row(&x, cols, log), cols, "log_softmax");
            log_softmax_grad(isa, cols, &y, &dy, &mut dx);
            let want: Vec<f64> = (0..ROWS)
                .flat_map(|r| {
                    let (x, dy) = (wide(&x[r * cols..][..cols]), wide(&dy[r * cols..][..cols]));
                    let total: f64 = dy.iter().sum();
                    let p = reference_softmax(&x);
                    dy.iter().zip(&p).map(|(d, p)| d - p * total).collect::<Vec<_>>()
                })
                .collect();
            close(&dx, &want, cols, "log_softmax_grad");
        }
    }
}

#[test]
fn softmax_of_extremes() {
    for isa in Isa::available() {
        let mut y = [0.0; 4];
        softmax(isa, 4, &[f32::NEG_INFINITY, 1e38, -1e38, 1e38], &mut y);
        assert_eq!(y, [0.0, 0.5, 0.0, 0.5]);
        log_softmax(isa, 2, &[1e30, 1e30, 0.0, -1000.0], &mut y);
        assert_eq!([y[2], y[3]], [0.0, -1000.0]);
    }
}

#[test]
fn rows_with_a_nan_end_as_one() {
    for (at, odd) in (0..150).step_by(7).flat_map(|at| [(at, f32::NAN), (at, f32::INFINITY)]) {
        let mut x = noise(2 * 150, 5);
        x[at] = odd;
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            softmax(isa, 150, &x, &mut y);
            assert!(y[at].is_nan() && y[150..].iter().all(|y| y.is_finite()));
            log_softmax(isa, 150, &x, &mut y);
            assert!(y[at].is_nan() && y[150..].iter().all(|y| y.is_finite()));
            let mut running = [Running::START; 2];
            cross_entropy::accumulate(isa, 150, &x, &mut running);
            assert!(running[0].lse().is_nan() && running[1].lse().is_finite());
        }
    }
}

/// What is subtracted before the exponentials comes from the first elements.
#[test]
fn rows_that_begin_far_below_their_greatest() {
    let cols = 2501;
    let mut x = noise(3 * cols, 4);
    x[..70].fill(f32::NEG_INFINITY);
    x[cols..].iter_mut().enumerate().for_each(|(i, x)| *x += (i % cols) as f32 * 0.02);
    x[2 * cols + 64] = 90.0;
    for isa in Isa::available() {
        let mut y = vec![0.0; x.len()];
        softmax(isa, cols, &x, &mut y);
        close(&y, &each_row(&x, cols, reference_softmax), cols, "softmax");
        let mut running = [Running::START; 3];
        cross_entropy::accumulate(isa, cols, &x, &mut running);
        log_softmax(isa, cols, &x, &mut y);
        for (row, running) in running.iter().enumerate() {
            let last = row * cols + cols - 1;
            let p = reference_softmax(&wide(&x[row * cols..=last]))[cols - 1];
            for lse in [running.lse(), x[last] - y[last]] {
                let want = f64::from(x[last]) - p.ln();
                assert!((f64::from(lse) - want).abs() < 1e-5, "row {row}: {lse} is not {want}");
            }
        }
    }
}

#[test]
fn add_rms_norm_has_the_bits_of_its_parts() {
    for isa in Isa::available() {
        for cols in SIZES {
            let (x, h, weight) = (noise(ROWS * cols, 1), noise(ROWS * cols, 4), noise(cols, 2));
            let parts: Vec<f32> = x.iter().zip(&h).map(|(x, h)| x + h).collect();
            let (mut want, mut want_rstd) = (vec![0.0; x.len()], vec![0.0; ROWS]);
            rms_norm(isa, 1e-5, &parts, &weight, &mut want, &mut want_rstd);
            let (mut sum, mut y, mut rstd) = (want.clone(), vec![0.0; x.len()], vec![0.0; ROWS]);
            let (x, h, weight) = (&x, &h, &weight);
            let eps = 1e-5;
            let (sum, y, rstd) = (&mut sum, &mut y, &mut rstd);
            add_rms_norm(isa, AddRmsNorm { eps, x, h, weight, sum, y, rstd });
            assert_eq!((&*sum, &*y, &*rstd), (&parts, &want, &want_rstd));
        }
    }
}

#[test]
fn rms_norm_and_gradient() {
    for isa in Isa::available() {
        for cols in SIZES {
            let (x, w, dy) = (noise(ROWS * cols, 1), noise(cols, 2), noise(ROWS * cols, 3));
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let mut rstd = vec![0.0; ROWS];
            let weights = wide(&w);
            let f = |x: &[f64]| -> Vec<f64> {
                let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
                let rstd = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
                x.iter().zip(&weights).map(|(v, w)| v * rstd * w).collect()
            };
            rms_norm(isa, 1e-5, &x, &w, &mut y, &mut rstd);
            close(&y, &each_row(&x, cols, f), cols, "rms_norm");
            rms_norm_grad(isa, &x, &w, &rstd, &dy, &mut dx);
            check_gradient(&x, &dy, &dx, cols, f);
        }
    }
}

#[test]
fn layer_norm_and_gradient() {
    for isa in Isa::available() {
        for cols in SIZES {
            let (x, w, b) = (noise(ROWS * cols, 1), noise(cols, 2), noise(cols, 4));
            let dy = noise(ROWS * cols, 3);
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let (mut mean, mut rstd) = (vec![0.0; ROWS], vec![0.0; ROWS]);
            let (weights, biases) = (wide(&w), wide(&b));
            let f = |x: &[f64]| -> Vec<f64> {
                let mean = x.iter().sum::<f64>() / x.len() as f64;
                let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
                let rstd = 1.0 / (var + f64::from(1e-2f32)).sqrt();
                let affine = weights.iter().zip(&biases);
                x.iter().zip(affine).map(|(v, (w, b))| (v - mean) * rstd * w + b).collect()
            };
            layer_norm(
                isa,
                LayerNorm {
                    eps: 1e-2,
                    cols,
                    x: &x,
                    weight: Some(&w),
                    bias: Some(&b),
                    y: &mut y,
                    mean: &mut mean,
                    rstd: &mut rstd,
                },
            );
            close(&y, &each_row(&x, cols, f), cols, "layer_norm");
            let (x, dy, mean, rstd) = (&x[..], &dy[..], &mean[..], &rstd[..]);
            let weight = Some(&w[..]);
            layer_norm_grad(isa, LayerNormGrad { cols, x, weight, mean, rstd, dy, dx: &mut dx });
            check_gradient(x, dy, &dx, cols, f);
        }
    }
}

/// Compares a gradient with differences; for short rows, whose differences are cheap.
fn check_gradient(x: &[f32], dy: &[f32], dx: &[f32], cols: usize, f: impl Fn(&[f64]) -> Vec<f64>) {
    if cols > 100 {
        return;
    }
    for r in 0..ROWS {
        let row = r * cols..(r + 1) * cols;
        let want = differences(&wide(&x[row.clone()]), &wide(&dy[row.clone()]), &f);
        for (a, b) in dx[row].iter().zip(&want) {
            assert!((f64::from(*a) - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} is not {b}");
        }
    }
}

#[test]
fn rope_turns_and_turns_back() {
    let (positions, heads, dim) = (5, 3, 24);
    let x = noise(positions * heads * dim, 1);
    for isa in Isa::available() {
        for layout in [Layout::Half, Layout::Interleaved] {
            for half in [12, 5] {
                let angle = |i: usize| (i / half) as f64 * 0.5f64.powi((i % half) as i32);
                let table = |f: fn(f64) -> f64| -> Vec<f32> {
                    (0..positions * half).map(|i| f(angle(i)) as f32).collect()
                };
                let (cos, sin) = (table(f64::cos), table(f64::sin));
                let turn = |x: &[f32], inverse| {
                    let mut y = vec![0.0; x.len()];
                    let (cos, sin, y_out) = (&cos[..], &sin[..], &mut y[..]);
                    rope(isa, Rope { layout, inverse, heads, dim, x, cos, sin, y: y_out });
                    y
                };
                let y = turn(&x, false);
                close(&turn(&y, true), &wide(&x), x.len(), "there and back");
                let at = 3 * heads * dim + dim;
                let (i, j) = if layout == Layout::Half { (2, half + 2) } else { (4, 5) };
                let angle = angle(3 * half + 2);
                let (a, b) = (f64::from(x[at + i]), f64::from(x[at + j]));
                close(&[y[at + i]], &[a * angle.cos() - b * angle.sin()], 1, "rope");
                close(&[y[at + j]], &[b * angle.cos() + a * angle.sin()], 1, "rope");
                assert_eq!(y[at + 2 * half..at + dim], x[at + 2 * half..at + dim]);
            }
        }
    }
}

#[test]
fn cross_entropy_in_strips() {
    let (rows, cols) = (4, 77);
    let logits = noise(rows * cols, 5);
    let targets = [0, 76, -100, 40];
    for isa in Isa::available() {
        let mut running = [Running::START; 4];
        let cuts = [0, 30, 46, 77];
        let strip = |from: usize, to: usize| -> Vec<f32> {
            logits.chunks(cols).flat_map(|r| r[from..to].to_vec()).collect()
        };
        for w in cuts.windows(2) {
            cross_entropy::accumulate(isa, w[1] - w[0], &strip(w[0], w[1]), &mut running);
        }
        let lse: Vec<f32> = running.iter().map(|r| r.lse()).collect();
        for w in cuts.windows(2) {
            let mut got = strip(w[0], w[1]);
            let cols_here = w[1] - w[0];
            cross_entropy::gradient(
                isa,
                Strip {
                    first: w[0],
                    cols: cols_here,
                    logits: &mut got,
                    lse: &lse,
                    targets: &targets,
                    ignore: -100,
                    scale: &[0.5; 4],
                },
            );
            for r in 0..rows {
                let p = reference_softmax(&wide(&logits[r * cols..][..cols]));
                for c in 0..cols_here {
                    let hit = f64::from(u8::from(targets[r] == (w[0] + c) as i32));
                    let want = if targets[r] < 0 { 0.0 } else { 0.5 * (p[w[0] + c] - hit) };
                    let error = (f64::from(got[r * cols_here + c]) - want).abs();
                    assert!(error < 1e-6, "row {r} column {c}");
                }
            }
        }
    }
}
