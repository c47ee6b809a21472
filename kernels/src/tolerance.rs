//! How far a kernel's result may lie from its reference.

/// The bound `|got - want| <= absolute + relative * |want|`, in which equal infinities and two
/// NaN also agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The part in the units of the result.
    pub absolute: f64,
    /// The part relative to the reference.
    pub relative: f64,
}

impl Tolerance {
    /// The reference correctly rounded.
    pub const EXACT: Self = Self { absolute: 0.0, relative: 0.0 };

    /// `n` units in the last place of an f32, and of the smallest normal one below it.
    #[must_use]
    pub const fn ulps(n: u32) -> Self {
        Self { absolute: n as f64 * 1.401_298_464_324_817e-45, relative: n as f64 / 8_388_608.0 }
    }

    /// With `absolute` allowed besides.
    #[must_use]
    pub const fn or_absolute(self, absolute: f64) -> Self {
        Self { absolute, ..self }
    }

    /// Whether `got` is within this bound of `want`.
    #[must_use]
    pub fn accepts(self, got: f32, want: f64) -> bool {
        let rounded = want as f32;
        if got.is_nan() || rounded.is_nan() {
            return got.is_nan() && rounded.is_nan();
        }
        let error = (f64::from(got) - want).abs();
        got == rounded || want.is_finite() && error <= self.absolute + self.relative * want.abs()
    }
}

#[cfg(test)]
mod tests {
    use super::Tolerance;

    #[test]
    fn bounds_hold_on_both_sides() {
        let two = Tolerance::ulps(2);
        let ulp = f64::from(f32::EPSILON);
        assert!(two.accepts(1.0, 1.0 + 1.9 * ulp) && two.accepts(1.0, 1.0 - 1.9 * ulp));
        assert!(!two.accepts(1.0, 1.0 + 2.1 * ulp) && !two.accepts(1.0, 1.0 - 2.1 * ulp));
        assert!(Tolerance::EXACT.accepts(0.1, 0.1) && !Tolerance::EXACT.accepts(0.100_000_01, 0.1));
        assert!(two.or_absolute(0.5).accepts(0.0, 0.5) && !two.or_absolute(0.5).accepts(0.0, 0.6));
    }

    #[test]
    fn what_is_not_finite_agrees_only_with_itself() {
        let loose = Tolerance { absolute: 1e30, relative: 1.0 };
        assert!(loose.accepts(f32::NAN, f64::NAN) && loose.accepts(f32::INFINITY, 1e300));
        assert!(!loose.accepts(f32::NAN, 0.0) && !loose.accepts(0.0, f64::NAN));
        assert!(!Tolerance::ulps(9).accepts(f32::INFINITY, 1.0));
        assert!(!Tolerance::ulps(9).accepts(f32::INFINITY, f64::NEG_INFINITY));
    }
}
