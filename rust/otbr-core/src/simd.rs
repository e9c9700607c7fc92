//! Which instructions the running machine gets.

/// Name of the SIMD path that is chosen at run time: "avx512", "avx2", "neon" or "portable".
pub fn path() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::is_available() {
            return "avx512";
        }
        if pulp::x86::V3::is_available() {
            return "avx2";
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "portable" }
}

/// Run code with the best instructions of the running machine. Only what is inlined into `f` gets
/// them: mark the closure and the functions that it calls `#[inline(always)]`.
///
/// A closure that is called as `FnOnce` is called through a shim that is not inlined, hence `FnMut`.
#[inline(always)]
pub(crate) fn dispatch<R>(f: impl FnMut() -> R) -> R {
    struct Op<F>(F);
    impl<R, F: FnMut() -> R> pulp::WithSimd for Op<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Op(f))
}
