//! Numbers of twice the precision of `f64`, for potentials and certificates.
//!
//! A value is the unevaluated sum `hi + lo` with `|lo|` at most half an ulp of `hi` (Dekker 1971;
//! Knuth, TAOCP 2, 4.2.2). Relative error of a sum is about 2⁻¹⁰⁴.

use std::ops::{Add, AddAssign, Neg, Sub};

/// `hi + lo`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Dd {
    pub hi: f64,
    pub lo: f64,
}

/// The rounded sum and its exact error (Knuth's TwoSum).
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

impl Dd {
    pub const ZERO: Self = Self { hi: 0.0, lo: 0.0 };

    /// The exact product of two `f64`, unless it underflows.
    #[inline(always)]
    pub fn product(a: f64, b: f64) -> Self {
        let hi = a * b;
        Self { hi, lo: a.mul_add(b, -hi) }
    }

    /// The product with an `f64`.
    #[inline(always)]
    pub fn times(self, x: f64) -> Self {
        Self::product(self.hi, x) + Self::product(self.lo, x)
    }

    /// a − x − y, rounded to `f64`: off by at most 2⁻¹⁰³ of the largest of the three, or by the
    /// rounding of the result. Quicker than two differences, and it vectorises.
    #[inline(always)]
    pub fn difference(a: f64, x: Self, y: Self) -> f64 {
        let (d, e) = two_sum(a, -x.hi);
        let (d, f) = two_sum(d, -y.hi);
        d + ((e + f) - x.lo - y.lo)
    }

    /// Rounded to `f64`.
    pub fn to_f64(self) -> f64 {
        self.hi + self.lo
    }
}

impl From<f64> for Dd {
    #[inline(always)]
    fn from(x: f64) -> Self {
        Self { hi: x, lo: 0.0 }
    }
}

impl Add for Dd {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let (s, e) = two_sum(self.hi, other.hi);
        let (t, f) = two_sum(self.lo, other.lo);
        let (s, e) = two_sum(s, e + t);
        let (hi, lo) = two_sum(s, e + f);
        Self { hi, lo }
    }
}

impl AddAssign for Dd {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Neg for Dd {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self { hi: -self.hi, lo: -self.lo }
    }
}

impl Sub for Dd {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Integers below 2¹⁰⁰ as exact sums of two floats.
    fn exact(x: i128) -> Dd {
        let hi = x as f64;
        Dd { hi, lo: (x - hi as i128) as f64 }
    }

    proptest! {
        #[test]
        fn sums_of_integers_are_exact_to_100_bits(a in -(1i128 << 99)..1 << 99, b in -(1i128 << 99)..1 << 99) {
            let s = exact(a) + exact(b);
            let back = s.hi as i128 + s.lo as i128;
            let error = (back - (a + b)).unsigned_abs();
            prop_assert!(error <= ((a + b).unsigned_abs() >> 100) + 1, "{a} + {b} is off by {error}");
        }

        #[test]
        fn differences_are_exact_to_100_bits(
            a in -(1i64 << 52)..1 << 52, x in -(1i128 << 99)..1 << 99, y in -(1i128 << 99)..1 << 99
        ) {
            // With and without cancellation.
            for y in [y, -x, (i128::from(a) << 47) - x] {
                let a = i128::from(a) << 47;
                let difference = Dd::difference(a as f64, exact(x), exact(y));
                let (found, right) = (difference as i128, a - x - y);
                let error = (found - right).unsigned_abs();
                prop_assert!(error <= (right.unsigned_abs() >> 52) + 1, "{a} - {x} - {y} is off by {error}");
            }
        }

        #[test]
        fn products_are_exact(a in -(1i64 << 52)..1 << 52, b in -(1i64 << 52)..1 << 52) {
            let p = Dd::product(a as f64, b as f64);
            prop_assert_eq!(p.hi as i128 + p.lo as i128, i128::from(a) * i128::from(b));
        }
    }
}
