//! Potentials from a smaller problem, for costs that grow with a distance in few dimensions.
//!
//! A few rows and columns stand for those near them and carry their masses. Which are near each
//! other is told by costs alone: by those to a few landmarks on the other side.

use super::engine::{self, Limits};
use super::{ExactOptions, Optimum};
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::problem::{MatrixView, Transport};
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

/// Rows (columns) that one stands for, on average.
const REPRESENTED: usize = 4;

/// Rows (columns) whose costs tell which columns (rows) are near each other.
const LANDMARKS: usize = 8;

/// Potentials of the columns: the least cost − u over the rows of the smaller problem.
pub(super) fn coarse_potentials<G: Geometry>(
    problem: &Transport<G>,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Vec<f64>> {
    let cost = &problem.cost;
    let (n, m) = (cost.rows(), cost.cols());
    let (rows, cols) = (spaced(n.div_ceil(REPRESENTED), n), spaced(m.div_ceil(REPRESENTED), m));
    let (a, b) = (
        gathered(&row_profiles(cost), &rows, &problem.a),
        gathered(&column_profiles(cost), &cols, &problem.b),
    );
    let mut buffer = Vec::new();
    let mut matrix = Vec::with_capacity(rows.len() * cols.len());
    for &i in &rows {
        let costs = cost.stretch(i, 0..m, &mut buffer);
        matrix.extend(cols.iter().map(|&j| costs[j]));
    }
    let view = MatrixView::new("M", &matrix, rows.len(), cols.len(), threads)?;
    let smaller = Transport::balanced(view, a, b);
    let mut limits = Limits::new(u64::MAX, None);
    let Optimum { duals, .. } =
        engine::solve(&smaller, ExactOptions::default(), &mut limits, threads, interrupt)?;
    let mut v = vec![f64::INFINITY; m];
    for (&i, u) in rows.iter().zip(&duals.u_hi) {
        let costs = cost.stretch(i, 0..m, &mut buffer);
        dispatch(
            #[inline(always)]
            || {
                for (v, c) in v.iter_mut().zip(costs) {
                    let value = c.to_f64() - u;
                    *v = if value < *v { value } else { *v };
                }
            },
        );
    }
    Ok(v)
}

/// So many of so many, at equal distances.
fn spaced(count: usize, of: usize) -> Vec<usize> {
    (0..count).map(|k| k * of / count).collect()
}

/// Costs to the landmarks, landmark by landmark, of all rows.
fn row_profiles(cost: &impl Geometry) -> Vec<f32> {
    let unit = cost.max_abs().max(f64::MIN_POSITIVE);
    let profile = |j| (0..cost.rows()).map(move |i| (cost.at(i, j) / unit) as f32);
    spaced(LANDMARKS, cost.cols()).into_iter().flat_map(profile).collect()
}

/// Likewise of all columns.
fn column_profiles(cost: &impl Geometry) -> Vec<f32> {
    let unit = cost.max_abs().max(f64::MIN_POSITIVE);
    let profile = |i| (0..cost.cols()).map(move |j| (cost.at(i, j) / unit) as f32);
    spaced(LANDMARKS, cost.rows()).into_iter().flat_map(profile).collect()
}

/// Each mass given to the nearest representative, nearest by profile.
fn gathered(profiles: &[f32], representatives: &[usize], masses: &[f64]) -> Vec<f64> {
    let count = masses.len();
    let (mut nearest, mut at) = (vec![f32::INFINITY; count], vec![0_u32; count]);
    let mut distances = vec![0.0_f32; count];
    for (k, &r) in representatives.iter().enumerate() {
        dispatch(
            #[inline(always)]
            || {
                distances.fill(0.0);
                for profile in profiles.chunks_exact(count) {
                    let own = profile[r];
                    for (distance, p) in distances.iter_mut().zip(profile) {
                        *distance += (p - own) * (p - own);
                    }
                }
                for ((nearest, at), distance) in nearest.iter_mut().zip(&mut at).zip(&distances) {
                    *at = if distance < nearest { k as u32 } else { *at };
                    *nearest = if distance < nearest { *distance } else { *nearest };
                }
            },
        );
    }
    let mut gathered = vec![0.0; representatives.len()];
    for (k, mass) in at.iter().zip(masses) {
        gathered[*k as usize] += mass;
    }
    gathered
}
