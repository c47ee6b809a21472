//! The stated errors, over a sweep of all exponents, on every level.

use super::*;
use crate::isa::{Isa, Kernel};
use crate::reference;

/// Applies one of the functions to arrays in place of `x`.
struct Apply<'a> {
    name: &'a str,
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Apply<'_> {
    type Out = ();
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_exact_mut(S::LANES).zip(self.y.chunks_exact(S::LANES)) {
            // SAFETY: the chunks have `LANES` elements.
            let (a, b) = unsafe { (s.load(x.as_ptr()), s.load(y.as_ptr())) };
            let v = match self.name {
                "exp" => exp(s, a),
                "exp_weight" => exp_weight(s, a),
                "exp_factors" => {
                    let [a, b] = exp_factors(s, a);
                    s.mul(a, b)
                }
                "normal" => odd(s, a, &odd::NORMAL),
                "exp_neg_abs" => exp_neg_abs(s, a),
                "exp2" => exp2_below(s, a),
                "log" => log(s, a),
                "log1p_unit" => log1p_unit(s, a),
                "tanh" => tanh(s, a),
                "sigmoid" => sigmoid(s, a),
                "erf" => erf(s, a),
                "sin" => sin(s, a),
                "cos" => cos(s, a),
                "pow" => pow(s, a, b),
                "round" => round(s, a),
                "floor" => floor(s, a),
                "trunc" => trunc(s, a),
                name => unreachable!("{name}"),
            };
            // SAFETY: as above.
            unsafe { s.store(x.as_mut_ptr(), v) };
        }
    }
}

/// Distance of `got` from the exact `want` in units of the last place of the rounded `want`.
fn ulps(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if got.is_nan() && rounded.is_nan() || got == rounded {
        return 0.0;
    }
    if !got.is_finite() || !rounded.is_finite() {
        return f64::INFINITY;
    }
    let exponent = want.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
    (f64::from(got) - want).abs() / 2f64.powi(exponent - 23)
}

/// Floats of all exponents and both signs with spread mantissas, and the special ones.
fn sweep() -> Vec<f32> {
    let special = [
        0.0,
        1.0,
        0.5,
        2.0,
        3.0,
        1e-45,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        88.7,
        88.73,
        87.3,
        103.9,
        104.0,
        0.9,
        4.0,
        8_388_607.5,
        4_194_303.5,
        8_388_608.0,
    ];
    let mut all: Vec<f32> = special.iter().flat_map(|&x| [x, -x]).collect();
    all.extend((0..=u32::MAX).step_by(30_011).map(f32::from_bits));
    // Where most functions have their features.
    all.extend((-200_000..200_000).map(|i| i as f32 * 0.000_51));
    all.resize(all.len().next_multiple_of(16), 1.0);
    all
}

#[track_caller]
fn check(name: &str, x: &[f32], y: &[f32], bound: f64, reference: impl Fn(f64, f64) -> f64) {
    for isa in Isa::available() {
        let mut got = x.to_vec();
        isa.run(Apply { name, x: &mut got, y });
        for i in 0..x.len() {
            let want = reference(f64::from(x[i]), f64::from(y[i]));
            let error = ulps(got[i], want);
            assert!(
                error <= bound,
                "{name}({:e}, {:e}) = {:e} on {}: {error} ULP from {want:e}",
                x[i],
                y[i],
                got[i],
                isa.name()
            );
        }
    }
}

#[track_caller]
fn check_unary(name: &str, bound: f64, reference: fn(f64) -> f64) {
    let x = sweep();
    check(name, &x, &x, bound, |x, _| reference(x));
}

/// Up to `most`, where the result is normal or so small that it is zero on every level.
#[track_caller]
fn check_below(name: &str, most: f32, bound: f64, reference: fn(f64) -> f64) {
    let tested = |x: &f32| {
        let want = reference(f64::from(*x));
        x.is_nan() || *x <= most && (want >= f64::from(f32::MIN_POSITIVE) || want < 1e-46)
    };
    let mut x: Vec<f32> = sweep().into_iter().filter(tested).collect();
    x.resize(x.len().next_multiple_of(16), 1.0);
    check(name, &x, &x, bound, |x, _| reference(x));
}

/// The same for bounds that are not relative to the result.
#[track_caller]
fn check_absolute(name: &str, most: f32, bound: f64, reference: fn(f64) -> f64) {
    let x: Vec<f32> = sweep().into_iter().map(|x| if x <= most { x } else { -x }).collect();
    for isa in Isa::available() {
        let mut got = x.clone();
        isa.run(Apply { name, x: &mut got, y: &x });
        for (&x, &got) in x.iter().zip(&got) {
            let want = reference(f64::from(x));
            let close = (f64::from(got) - want).abs() <= bound || got.is_nan() && want.is_nan();
            assert!(close, "{name}({x:e}) = {got:e} on {}, not {want:e}", isa.name());
        }
    }
}

#[test]
fn exponentials() {
    check_absolute("exp_weight", 0.0, 2e-7, f64::exp);
    check_absolute("exp_factors", 0.0, 2e-7, f64::exp);
    check_unary("exp", 1.0, f64::exp);
    check_unary("exp_neg_abs", 2.0, |x| (-x.abs()).exp());
    check_below("exp2", 127.0, 3.0, f64::exp2);
    check_unary("tanh", 3.0, f64::tanh);
    check_unary("sigmoid", 3.0, reference::sigmoid);
}

#[test]
fn logarithms() {
    check_unary("log", 1.0, f64::ln);
    let mut x: Vec<f32> = sweep().into_iter().filter(|x| !(*x < 0.0 || *x > 1.0)).collect();
    x.resize(x.len().next_multiple_of(16), 1.0);
    check("log1p_unit", &x, &x, 2.0, |x, _| x.ln_1p());
}

#[test]
fn error_function() {
    check_unary("erf", 3.0, reference::erf);
    let normal = |x: f64| 0.5 * reference::erf(x * std::f64::consts::FRAC_1_SQRT_2);
    check_absolute("normal", f32::INFINITY, 1e-7, normal);
}

#[test]
fn angles() {
    check_unary("sin", 3.0, f64::sin);
    check_unary("cos", 3.0, f64::cos);
}

#[test]
fn integers() {
    check_unary("round", 0.0, f64::round_ties_even);
    check_unary("floor", 0.0, f64::floor);
    check_unary("trunc", 0.0, f64::trunc);
}

#[test]
fn powers() {
    let exponents = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        1.5,
        0.1,
        10.0,
        33.3,
        -77.0,
        1e9,
        1e30,
        16_777_215.0,
        -16_777_216.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e-40,
    ];
    for y in exponents {
        let x = sweep();
        let y = vec![y; x.len()];
        check("pow", &x, &y, 8.0, f64::powf);
    }
    let x: Vec<f32> = (1..40_000).map(|i| i as f32 * 0.000_26).collect();
    for y in [-2.75, -1.5, 0.3, 0.5, 1.0, 2.0, 2.9] {
        let moderate = |x: &f32| (1e-3..1e3).contains(&x.powf(y));
        let mut x: Vec<f32> = x.iter().copied().filter(moderate).collect();
        x.resize(x.len().next_multiple_of(16), 1.0);
        let y = vec![y; x.len()];
        check("pow", &x, &y, 2.0, f64::powf);
    }
}
