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
