//! Matrix products, by the `gemm` crate.

use crate::scalar::Scalar;

/// `out` = X Yᵀ for row-major X (p × d), Y (q × d) and `out` (p × q), on the calling thread.
///
/// # Panics
/// If the lengths are not multiples of `d` and `q`, or do not fit each other.
pub(crate) fn product_transposed<T: Scalar>(x: &[T], y: &[T], d: usize, out: &mut [T]) {
    let (p, q) = (x.len() / d, y.len() / d);
    assert!(x.len() == p * d && y.len() == q * d && out.len() == p * q, "shapes must fit");
    // SAFETY: the three buffers are valid for p·d, q·d and p·q elements, as asserted, which is what
    // the strides below reach; `out` is borrowed mutably and so overlaps neither input.
    unsafe {
        gemm::gemm(
            p,
            q,
            d,
            out.as_mut_ptr(),
            1,
            q as isize,
            false,
            x.as_ptr(),
            1,
            d as isize,
            y.as_ptr(),
            d as isize,
            1,
            T::ZERO,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Small integers multiply exactly, whatever the order of summation.
        #[test]
        fn equals_the_schoolbook_product(p in 1usize..20, q in 1usize..20, d in 1usize..40, seed in any::<u64>()) {
            let value = |k: usize| ((seed.wrapping_mul(k as u64 + 1) >> 33) % 17) as f32 - 8.0;
            let x: Vec<f32> = (0..p * d).map(value).collect();
            let y: Vec<f32> = (0..q * d).map(|k| value(k + 7777)).collect();
            let mut out = vec![0.0; p * q];
            product_transposed(&x, &y, d, &mut out);
            for i in 0..p {
                for j in 0..q {
                    let expected: f32 = (0..d).map(|k| x[i * d + k] * y[j * d + k]).sum();
                    prop_assert_eq!(out[i * q + j], expected);
                }
            }
        }
    }
}
