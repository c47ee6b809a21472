//! Every operation on every level, with every form of broadcasting.

use super::*;

/// Floats of all exponents and both signs, the special ones, and a dense range around zero.
fn sweep() -> Vec<f32> {
    let special = [0.0, 0.5, 1.0, 2.0, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::NAN];
    let mut all: Vec<f32> = special.iter().flat_map(|&x| [x, -x]).collect();
    all.extend((0..=u32::MAX).step_by(400_009).map(f32::from_bits));
    all.extend((-20_000..20_000).map(|i| i as f32 * 0.001_51));
    all
}

/// Whether the operation's first argument is a tanh or sigmoid, within -1..=1.
fn takes_result(op: Binary) -> bool {
    matches!(op, Binary::TanhGrad | Binary::SigmoidGrad)
}

/// `op` on pairs of elements, checked against its reference.
#[track_caller]
fn check(isa: Isa, op: Binary, a: &[f32], b: &[f32]) {
    let bound = if takes_result(op) { 1.0 } else { f32::INFINITY };
    let a: Vec<f32> = a.iter().map(|a| a.clamp(-bound, bound)).collect();
    let plan = Broadcast::new([&[a.len()][..], &[b.len()][..]]).unwrap();
    let mut z = vec![0.0; a.len()];
    // SAFETY: three vectors of that length.
    unsafe { apply(isa, op, &plan, 0..z.len(), (a.as_ptr(), b.as_ptr()), z.as_mut_ptr()) };
    for i in 0..z.len() {
        let want = op.reference(f64::from(a[i]), f64::from(b[i]));
        // The absolute part grows with |b|.
        let scale = if b[i].is_finite() { f64::from(b[i].abs()).max(1.0) } else { 1.0 };
        let tolerance = op.tolerance();
        let tolerance = tolerance.or_absolute(tolerance.absolute * scale);
        let at = (op.name(), isa.name(), a[i], b[i]);
        assert!(tolerance.accepts(z[i], want), "{at:?} = {:e}, not {want:e}", z[i]);
    }
}

#[test]
fn every_op_meets_its_tolerance_on_every_level() {
    let a = sweep();
    let moderate: Vec<f32> = (0..a.len()).map(|i| (i * 7 % 401) as f32 / 200.0 - 1.0).collect();
    let any: Vec<f32> = (0..a.len()).map(|i| a[i * 7_919 % a.len()]).collect();
    for isa in Isa::available() {
        for &op in Binary::SAMPLES {
            check(isa, op, &a, &moderate);
            check(isa, op, &a, &a);
            // A slope that vanishes in f32 but not in f64 differs where it meets infinity.
            if op.tolerance().absolute < 1e-40 {
                check(isa, op, &a, &any);
            }
        }
    }
}

/// Numbers that differ from element to element.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 - 50.0).collect()
}

/// Forms in which operands meet: full, along rows, along columns, single, and both ways.
const SHAPES: &[[&[usize]; 3]] = &[
    [&[5, 37], &[5, 37], &[5, 37]],
    [&[5, 37], &[37], &[1]],
    [&[37], &[5, 37], &[5, 1]],
    [&[5, 1], &[1, 37], &[]],
    [&[], &[], &[]],
    [&[2, 1, 3, 19], &[4, 1, 1], &[2, 1, 1, 19]],
    [&[1], &[3, 17], &[1]],
    [&[1], &[1], &[3, 17]],
    [&[3, 17], &[], &[3, 17]],
];

#[test]
fn operands_broadcast_and_ranges_add_up() {
    for isa in Isa::available() {
        for [sa, sb, _] in SHAPES {
            let plan = Broadcast::new([sa, sb]).unwrap();
            let (a, b) = (numbers(sa.iter().product()), numbers(sb.iter().product()));
            let mut z = vec![f32::NAN; plan.len()];
            let cuts = [0, plan.len() / 3, plan.len() / 3 + 1, plan.len()];
            for cut in cuts.windows(2) {
                let operands = (a.as_ptr(), b.as_ptr());
                let range = cut[0].min(cut[1])..cut[1];
                // SAFETY: vectors of the plan's shapes.
                unsafe { apply(isa, Binary::Sub, &plan, range, operands, z.as_mut_ptr()) };
            }
            for row in plan.rows(0..plan.len()) {
                for i in 0..row.len {
                    let at = |k: usize| row.operands[k] + i * usize::from(plan.steps()[k]);
                    assert_eq!(z[row.out + i], a[at(0)] - b[at(1)], "{sa:?} {sb:?}");
                }
            }
        }
    }
}

#[test]
fn select_takes_the_side_that_the_condition_names() {
    for isa in Isa::available() {
        for [sa, sb, sc] in SHAPES {
            for [s0, s1, s2] in [[sa, sb, sc], [sb, sc, sa], [sc, sa, sb]] {
                let plan = Broadcast::new([s0, s1, s2]).unwrap();
                let mut cond = numbers(s0.iter().product());
                cond.iter_mut().step_by(2).for_each(|c| *c = 0.0);
                let (a, b) = (numbers(s1.iter().product()), numbers(s2.iter().product()));
                let mut z = vec![f32::NAN; plan.len()];
                let operands = (cond.as_ptr(), a.as_ptr(), b.as_ptr());
                // SAFETY: vectors of the plan's shapes.
                unsafe { select(isa, &plan, 0..plan.len(), operands, z.as_mut_ptr()) };
                for row in plan.rows(0..plan.len()) {
                    for i in 0..row.len {
                        let at = |k: usize| row.operands[k] + i * usize::from(plan.steps()[k]);
                        let want = if cond[at(0)] == 0.0 { b[at(2)] } else { a[at(1)] };
                        assert_eq!(z[row.out + i], want, "{s0:?} {s1:?} {s2:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_result_may_replace_an_operand() {
    for isa in Isa::available() {
        let plan = Broadcast::new([&[3, 23][..], &[23][..]]).unwrap();
        let (mut a, b) = (numbers(69), numbers(23));
        let want: Vec<f32> = (0..69).map(|i| a[i] * b[i % 23]).collect();
        let p = a.as_mut_ptr();
        // SAFETY: vectors of the plan's shapes; the result replaces the full-size operand.
        unsafe { apply(isa, Binary::Mul, &plan, 0..69, (p, b.as_ptr()), p) };
        assert_eq!(a, want);
    }
}
