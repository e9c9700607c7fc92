//! The element types of matrices: `f32` and `f64`.

use crate::simd::Lanes;

/// A matrix element. All arithmetic that decides anything happens in `f64`.
pub trait Scalar: Lanes + Send + Sync + PartialEq + 'static {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Half the distance from 1 to the next number.
    const UNIT_ROUNDOFF: f64;
    /// Largest finite number.
    const MAX: f64;
    /// Smallest normal number.
    const MIN_POSITIVE: f64;
    /// Widen; exact.
    fn to_f64(self) -> f64;
    /// Narrow; rounds to nearest.
    fn from_f64(x: f64) -> Self;
}

impl Scalar for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const UNIT_ROUNDOFF: f64 = f32::EPSILON as f64 / 2.0;
    const MAX: f64 = f32::MAX as f64;
    const MIN_POSITIVE: f64 = f32::MIN_POSITIVE as f64;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;
    const MAX: f64 = f64::MAX;
    const MIN_POSITIVE: f64 = f64::MIN_POSITIVE;

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
}
