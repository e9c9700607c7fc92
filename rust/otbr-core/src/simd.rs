//! Which instructions the running machine gets, and vectors of them.
//!
//! The best that the machine has, unless the environment variable `OTBR_FAST_SIMD` names another of
//! its paths. It is read once.

use std::sync::OnceLock;

use pulp::{Simd, WithSimd};

/// The environment variable that forces a path.
const VARIABLE: &str = "OTBR_FAST_SIMD";

/// A SIMD path, with the proof that the machine has it.
#[derive(Clone, Copy)]
enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    Portable,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            Self::Portable => "portable",
        }
    }
}

/// The paths of this machine, the best first.
fn available() -> Vec<Path> {
    let mut paths = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        paths.extend(pulp::x86::V4::try_new().map(Path::Avx512));
        paths.extend(pulp::x86::V3::try_new().map(Path::Avx2));
    }
    #[cfg(target_arch = "aarch64")]
    paths.extend(pulp::aarch64::Neon::try_new().map(Path::Neon));
    paths.push(Path::Portable);
    paths
}

/// The path that is wanted, or what is wrong with the wish.
fn choose(wanted: Option<&str>) -> Result<Path, String> {
    let paths = available();
    let Some(wanted) = wanted.filter(|name| !name.is_empty()) else { return Ok(paths[0]) };
    paths.iter().copied().find(|path| path.name() == wanted).ok_or_else(|| {
        let names: Vec<_> = paths.iter().map(|path| path.name()).collect();
        format!("{VARIABLE} is {wanted:?}; this machine has {}, choose one or unset it", names.join(", "))
    })
}

fn chosen() -> &'static Result<Path, String> {
    static CHOSEN: OnceLock<Result<Path, String>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        choose(std::env::var_os(VARIABLE).map(|v| v.to_string_lossy().into_owned()).as_deref())
    })
}

/// Name of the SIMD path in use: "avx512", "avx2", "neon" or "portable".
///
/// # Errors
/// `OTBR_FAST_SIMD` names a path that does not exist or that this machine does not have.
pub fn path() -> Result<&'static str, &'static str> {
    chosen().as_ref().map(|path| path.name()).map_err(String::as_str)
}

/// Run code on the path in use. What is to profit must be inlined into `op`.
///
/// # Panics
/// If `OTBR_FAST_SIMD` asks for what is not there. Bindings ask [`path`] first.
#[inline(always)]
pub(crate) fn dispatch_simd<R>(op: impl WithSimd<Output = R>) -> R {
    match chosen() {
        #[cfg(target_arch = "x86_64")]
        Ok(Path::Avx512(simd)) => Simd::vectorize(*simd, op),
        #[cfg(target_arch = "x86_64")]
        Ok(Path::Avx2(simd)) => Simd::vectorize(*simd, op),
        #[cfg(target_arch = "aarch64")]
        Ok(Path::Neon(simd)) => Simd::vectorize(*simd, op),
        Ok(Path::Portable) => Simd::vectorize(pulp::Scalar, op),
        Err(message) => panic!("{message}"),
    }
}

/// Run code on the path in use. Only what is inlined into `f` gets its instructions: mark the
/// closure and the functions that it calls `#[inline(always)]`.
///
/// A closure that is called as `FnOnce` is called through a shim that is not inlined, hence `FnMut`.
#[inline(always)]
pub(crate) fn dispatch<R>(f: impl FnMut() -> R) -> R {
    struct Op<F>(F);
    impl<R, F: FnMut() -> R> WithSimd for Op<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    dispatch_simd(Op(f))
}

/// An element type of vectors. Element by element, but for `mul_add`, which rounds once or twice.
pub trait Lanes: Copy {
    /// A vector of elements.
    type Vector<S: Simd>: Copy;
    /// Elements in a vector.
    fn lanes<S: Simd>() -> usize;
    /// As many whole vectors as fit.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    /// As many whole vectors as fit.
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
    /// `x` in all lanes.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// a + b.
    fn add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a − b.
    fn sub<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a b.
    fn mul<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a b + c.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// The lesser.
    fn min<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Square root.
    fn sqrt<S: Simd>(simd: S, a: Self::Vector<S>) -> Self::Vector<S>;
    /// The least element.
    fn reduce_min<S: Simd>(simd: S, a: Self::Vector<S>) -> Self;
}

macro_rules! lanes {
    ($T:ty, $vector:ident, $LANES:ident, $vectors:ident, $vectors_mut:ident, $splat:ident, $add:ident,
     $sub:ident, $mul:ident, $mul_add:ident, $min:ident, $sqrt:ident, $reduce_min:ident) => {
        impl Lanes for $T {
            type Vector<S: Simd> = S::$vector;
            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$LANES
            }
            #[inline(always)]
            fn vectors<S: Simd>(slice: &[Self]) -> &[S::$vector] {
                S::$vectors(slice).0
            }
            #[inline(always)]
            fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$vector] {
                S::$vectors_mut(slice).0
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$vector {
                simd.$splat(x)
            }
            #[inline(always)]
            fn add<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn sub<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn mul<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn min<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$min(a, b)
            }
            #[inline(always)]
            fn sqrt<S: Simd>(simd: S, a: S::$vector) -> S::$vector {
                simd.$sqrt(a)
            }
            #[inline(always)]
            fn reduce_min<S: Simd>(simd: S, a: S::$vector) -> Self {
                simd.$reduce_min(a)
            }
        }
    };
}

lanes!(
    f32,
    f32s,
    F32_LANES,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    mul_add_e_f32s,
    min_f32s,
    sqrt_f32s,
    reduce_min_f32s
);
lanes!(
    f64,
    f64s,
    F64_LANES,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    mul_add_e_f64s,
    min_f64s,
    sqrt_f64s,
    reduce_min_f64s
);

/// The least of a power of two of numbers, by halves, so that it vectorises.
#[inline(always)]
pub(crate) fn least_of_lanes<T: Copy + PartialOrd, const LANES: usize>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for k in 0..half {
            lanes[k] = if lanes[k + half] < lanes[k] { lanes[k + half] } else { lanes[k] };
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_machine_can_be_forced_and_no_other() {
        for path in available() {
            assert_eq!(choose(Some(path.name())).map(Path::name), Ok(path.name()));
        }
        assert_eq!(choose(None).map(Path::name), choose(Some("")).map(Path::name));
        let message = choose(Some("mmx")).map(Path::name).unwrap_err();
        assert!(message.contains("OTBR_FAST_SIMD is \"mmx\"") && message.contains("portable"), "{message}");
    }
}
