//! Plans from potentials.

use pulp::{Simd, WithSimd};

use super::exponential::{GREATEST, exp};
use crate::error::{Error, Result};
use crate::problem::MatrixView;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// exp((f + g − M) / ε) of one row.
struct PlanRow<'a, T> {
    costs: &'a [T],
    f: f64,
    g: &'a [f64],
    inverse: f64,
    out: &'a mut [T],
}

impl<T: Scalar> WithSimd for PlanRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for ((p, c), g) in self.out.iter_mut().zip(self.costs).zip(self.g) {
            let x = (self.f + g - c.to_f64()) * self.inverse;
            *p = T::from_f64(exp::<S>(if x < GREATEST { x } else { GREATEST }));
        }
    }
}

/// Fill `out`, row-major, with exp((f + g − M) / reg), the plan of potentials (f, g).
///
/// # Errors
/// Potentials, or room for the plan, whose lengths do not fit the cost.
pub fn dense_plan<T: Scalar>(
    cost: &MatrixView<'_, T>,
    f: &[f64],
    g: &[f64],
    reg: f64,
    out: &mut [T],
    threads: &Threads,
) -> Result<()> {
    let (n, m) = (cost.rows(), cost.cols());
    for (name, unit, found, expected) in [
        ("f", "potentials", f.len(), n),
        ("g", "potentials", g.len(), m),
        ("out", "entries", out.len(), n * m),
    ] {
        if found != expected {
            return Err(Error::Shape { name, unit, found, expected });
        }
    }
    let arch = pulp::Arch::new();
    threads.fill_rows(out, m, 64, |first, rows| {
        for (offset, row) in rows.chunks_exact_mut(m).enumerate() {
            let i = first + offset;
            arch.dispatch(PlanRow { costs: cost.row(i), f: f[i], g, inverse: 1.0 / reg, out: row });
        }
    });
    Ok(())
}
