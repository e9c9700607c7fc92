//! eˣ without branches, so that loops over it vectorise.

use std::any::TypeId;

use pulp::Simd;

/// x y + z, in one instruction where there is one: without it, `mul_add` would be a call.
#[inline(always)]
pub(super) fn fma<S: Simd>(x: f64, y: f64, z: f64) -> f64 {
    if TypeId::of::<S>() == TypeId::of::<pulp::Scalar>() { x * y + z } else { x.mul_add(y, z) }
}

/// The largest x that [`exp`] is for.
pub(super) const GREATEST: f64 = 700.0;

/// eˣ for x ≤ 700, with a relative error below 2⁻⁵⁰; exactly 0 below −600, where denormal results
/// would slow down what follows.
#[inline(always)]
pub(super) fn exp<S: Simd>(x: f64) -> f64 {
    /// Adding it leaves the nearest integer in the low bits.
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1; // ln 2 with the last 21 bits zero
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const LEAST: f64 = -600.0;
    /// 1/k! for k = 13, 12, …, 0: the Taylor series on |r| ≤ ln(2)/2 ends below 2⁻⁵⁶.
    const INVERSE_FACTORIALS: [f64; 14] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    // x = k ln 2 + r, eˣ = 2ᵏ eʳ.
    let clamped = if x > LEAST { x } else { LEAST };
    let shifted = fma::<S>(clamped, std::f64::consts::LOG2_E, MAGIC);
    let k = shifted - MAGIC;
    let r = fma::<S>(k, -LN_2_LOW, fma::<S>(k, -LN_2_HIGH, clamped));
    let mut sum = INVERSE_FACTORIALS[0];
    for coefficient in &INVERSE_FACTORIALS[1..] {
        sum = fma::<S>(sum, r, *coefficient);
    }
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x > LEAST { sum * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn exp(x: f64) -> f64 {
        let fused = super::exp::<pulp::Scalar>(x);
        #[cfg(target_arch = "x86_64")]
        {
            let separate = super::exp::<pulp::x86::V3>(x);
            assert!((fused - separate).abs() <= fused * 2.0_f64.powi(-50));
        }
        fused
    }

    proptest! {
        #[test]
        fn agrees_with_the_library(x in -599.9..700.0_f64) {
            let (ours, theirs) = (exp(x), x.exp());
            prop_assert!((ours - theirs).abs() <= theirs * 2.0_f64.powi(-50), "exp({x}) = {ours}, {theirs}");
        }
    }

    #[test]
    fn vanishes_far_below() {
        assert_eq!(exp(-600.0), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }
}
