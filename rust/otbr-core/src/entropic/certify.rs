//! Plans from potentials, and what they prove.

use std::sync::{Mutex, PoisonError};

use pulp::{Simd, WithSimd};

use super::exponential::{GREATEST, exp, fma};
use super::pass::chunk_rows;
use crate::error::{Error, Result};
use crate::problem::MatrixView;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Sums over the plan of potentials, computed from the costs in `f64`.
pub(super) struct Measured {
    pub rows: Vec<f64>,
    pub columns: Vec<f64>,
    /// ⟨P, M⟩.
    pub value: f64,
}

/// Measure the plan of potentials (f, g), and write it to `out` where that has room for it.
pub(super) fn measure<T: Scalar>(
    cost: &MatrixView<'_, T>,
    f: &[f64],
    g: &[f64],
    epsilon: f64,
    threads: &Threads,
    out: &mut [T],
) -> Measured {
    let (n, m) = (f.len(), g.len());
    let (arch, chunk) = (pulp::Arch::new(), chunk_rows(n));
    let slots: Vec<Mutex<&mut [T]>> = out.chunks_mut(chunk * m).map(Mutex::new).collect();
    let parts = threads.map_rows(n, m, chunk, |range| {
        let mut slot =
            slots.get(range.start / chunk).map(|s| s.lock().unwrap_or_else(PoisonError::into_inner));
        let first = range.start;
        let (mut row, mut columns, mut value) = (vec![0.0_f64; m], vec![0.0; m], 0.0);
        let rows: Vec<f64> = range
            .map(|i| {
                let costs = cost.row(i);
                arch.dispatch(PlanRow { costs, f: f[i], g, inverse: 1.0 / epsilon, out: &mut row });
                let (sum, part) = arch.dispatch(Sums { row: &row, costs, columns: &mut columns });
                value += part;
                if let Some(out) = &mut slot {
                    arch.dispatch(Narrow { row: &row, out: &mut out[(i - first) * m..(i - first + 1) * m] });
                }
                sum
            })
            .collect();
        (rows, columns, value)
    });
    let mut all = Measured { rows: Vec::with_capacity(n), columns: vec![0.0; m], value: 0.0 };
    for (rows, columns, part) in parts {
        all.rows.extend(rows);
        all.columns.iter_mut().zip(columns).for_each(|(c, p)| *c += p);
        all.value += part;
    }
    all
}

/// A row in the element type of the costs.
struct Narrow<'a, T> {
    row: &'a [f64],
    out: &'a mut [T],
}

impl<T: Scalar> WithSimd for Narrow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.out.iter_mut().zip(self.row).for_each(|(o, x)| *o = T::from_f64(*x));
    }
}

/// Sum of a row of the plan and its cost; adds it to the column sums.
struct Sums<'a, T> {
    row: &'a [f64],
    costs: &'a [T],
    columns: &'a mut [f64],
}

impl<T: Scalar> WithSimd for Sums<'_, T> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
        const LANES: usize = 16;
        let (mut mass, mut cost) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        let blocks = self.row.chunks(LANES).zip(self.costs.chunks(LANES));
        for ((row, costs), columns) in blocks.zip(self.columns.chunks_mut(LANES)) {
            for (k, ((p, c), s)) in row.iter().zip(costs).zip(columns).enumerate() {
                mass[k] += p;
                cost[k] = fma::<S>(*p, c.to_f64(), cost[k]);
                *s += p;
            }
        }
        (mass.into_iter().sum(), cost.into_iter().sum())
    }
}

/// exp((f + g − M) / ε) of one row.
struct PlanRow<'a, T, P> {
    costs: &'a [T],
    f: f64,
    g: &'a [f64],
    inverse: f64,
    out: &'a mut [P],
}

impl<T: Scalar, P: Scalar> WithSimd for PlanRow<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for ((p, c), g) in self.out.iter_mut().zip(self.costs).zip(self.g) {
            let x = (self.f + g - c.to_f64()) * self.inverse;
            *p = P::from_f64(exp::<S>(if x < GREATEST { x } else { GREATEST }));
        }
    }
}

/// exp((f + g − M) / reg), the plan of potentials (f, g), row-major.
///
/// # Errors
/// Potentials whose lengths do not fit the cost.
pub fn dense_plan<T: Scalar>(
    cost: &MatrixView<'_, T>,
    f: &[f64],
    g: &[f64],
    reg: f64,
    threads: &Threads,
) -> Result<Vec<T>> {
    for (name, found, expected) in [("f", f.len(), cost.rows()), ("g", g.len(), cost.cols())] {
        if found != expected {
            return Err(Error::Shape { name, unit: "potentials", found, expected });
        }
    }
    let (arch, m) = (pulp::Arch::new(), cost.cols());
    let mut out = vec![T::ZERO; cost.rows() * m];
    threads.fill_rows(&mut out, m, 64, |first, rows| {
        for (offset, row) in rows.chunks_exact_mut(m).enumerate() {
            let i = first + offset;
            arch.dispatch(PlanRow { costs: cost.row(i), f: f[i], g, inverse: 1.0 / reg, out: row });
        }
    });
    Ok(out)
}
