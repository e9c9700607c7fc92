//! The nearest coupling to a plan that is almost one (Altschuler, Weed, Rigollet 2017, algorithm 2).

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::problem::{MatrixView, Problem, check_magnitude};
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Rows at a time.
const CHUNK: usize = 64;

/// Shrink rows, then columns, that have too much, and spread what is missing: `out` becomes a plan whose sums are
/// those of a and b to rounding, no further than 2 (|G1 − a|₁ + |Gᵀ1 − b|₁) from G in L1.
///
/// # Errors
/// Marginals or an `out` that do not fit, a negative or non-finite entry, an interrupt.
pub fn round_plan<T: Scalar>(
    plan: MatrixView<'_, T>,
    a: &[f64],
    b: &[f64],
    out: &mut [f64],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let (found, expected) = (out.len(), plan.data().len());
    if found != expected {
        return Err(Error::Shape { name: "out", unit: "entries", found, expected });
    }
    if let Some(index) = plan.data().iter().position(|x| x.to_f64() < 0.0) {
        let (row, col) = (index / plan.cols(), index % plan.cols());
        return Err(Error::Negative { name: "G", row, col, value: plan.data()[index].to_f64() });
    }
    check_magnitude("the largest entry of G", plan.max_abs())?;
    // The plan stands where a problem has its cost: the same checks of shapes and masses.
    let problem = Problem::new(plan, a, b)?;
    let plan = &problem.cost;
    let m = plan.cols();
    threads.fill_rows(out, m, CHUNK, |first, rows| {
        for (offset, out) in rows.chunks_exact_mut(m).enumerate() {
            let row = plan.row(first + offset);
            let factor = shrink(problem.a[first + offset], pairwise(row));
            out.iter_mut().zip(row).for_each(|(o, x)| *o = x.to_f64() * factor);
        }
    });
    interrupt.check()?;
    let factors: Vec<f64> =
        column_sums(out, m, threads).iter().zip(&problem.b).map(|(&sum, &b)| shrink(b, sum)).collect();
    threads.fill_rows(out, m, CHUNK, |_, rows| {
        for row in rows.chunks_exact_mut(m) {
            row.iter_mut().zip(&factors).for_each(|(x, f)| *x *= f);
        }
    });
    interrupt.check()?;
    let rows = threads.map_rows(plan.rows(), m, CHUNK, |range| {
        range.map(|i| pairwise(&out[i * m..(i + 1) * m])).collect::<Vec<f64>>()
    });
    let missing = |masses: &[f64], sums: &[f64]| -> Vec<f64> {
        masses.iter().zip(sums).map(|(mass, sum)| (mass - sum).max(0.0)).collect()
    };
    let left = missing(&problem.a, &rows.concat());
    let right = missing(&problem.b, &column_sums(out, m, threads));
    let total: f64 = pairwise(&right);
    if total > 0.0 {
        interrupt.check()?;
        threads.fill_rows(out, m, CHUNK, |first, rows| {
            for (offset, row) in rows.chunks_exact_mut(m).enumerate() {
                let share = left[first + offset] / total;
                row.iter_mut().zip(&right).for_each(|(x, r)| *x += share * r);
            }
        });
    }
    Ok(())
}

/// The factor that takes a sum down to a mass, never up.
fn shrink(mass: f64, sum: f64) -> f64 {
    if sum > mass { mass / sum } else { 1.0 }
}

/// The sum of a few numbers at a time: an error that grows with the logarithm of their number.
fn pairwise<T: Scalar>(values: &[T]) -> f64 {
    const FEW: usize = 32;
    if values.len() <= FEW {
        return values.iter().map(|x| x.to_f64()).sum();
    }
    let (left, right) = values.split_at(values.len() / 2);
    pairwise(left) + pairwise(right)
}

fn column_sums(plan: &[f64], m: usize, threads: &Threads) -> Vec<f64> {
    let parts = threads.map_rows(plan.len() / m, m, CHUNK, |range| {
        let mut sums = vec![0.0; m];
        for row in plan[range.start * m..range.end * m].chunks_exact(m) {
            sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
        sums
    });
    let mut sums = vec![0.0; m];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(s, x)| *s += x);
    }
    sums
}
