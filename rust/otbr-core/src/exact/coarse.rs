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
const REPRESENTED: usize = 6;

/// Rows (columns) whose costs tell which columns (rows) are near each other.
const LANDMARKS: usize = 8;

/// Representatives are trusted if costs between them differ from costs between those they stand for
/// by less than this part of what costs differ from their mean.
const TRUSTED: f64 = 0.3;

/// Cells by which that is judged.
const JUDGED: usize = 2048;

/// Potentials of the columns: the least cost − u over the rows of the smaller problem. None where
/// costs do not tell who is near whom.
pub(super) fn coarse_potentials<G: Geometry>(
    problem: &Transport<G>,
    unit: f64,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Option<Vec<f64>>> {
    let cost = &problem.cost;
    let (n, m) = (cost.rows(), cost.cols());
    let (rows, cols) = (spaced(n.div_ceil(REPRESENTED), n), spaced(m.div_ceil(REPRESENTED), m));
    let at_rows = nearest(&row_profiles(cost, unit), &rows);
    let at_cols = nearest(&column_profiles(cost, unit), &cols);
    let distortion = distortion(cost, (&rows, &at_rows), (&cols, &at_cols));
    if distortion.is_nan() || distortion > TRUSTED {
        return Ok(None);
    }
    let mut buffer = Vec::new();
    let mut matrix = Vec::with_capacity(rows.len() * cols.len());
    for &i in &rows {
        let costs = cost.stretch(i, 0..m, &mut buffer);
        matrix.extend(cols.iter().map(|&j| costs[j]));
    }
    let view = MatrixView::unread("M", &matrix, rows.len(), cols.len())?;
    let (a, b) = (gathered(&at_rows, rows.len(), &problem.a), gathered(&at_cols, cols.len(), &problem.b));
    let smaller = Transport::balanced(view, a, b);
    let mut limits = Limits::new(u64::MAX, None);
    let Optimum { duals, .. } =
        engine::solve(&smaller, ExactOptions::default(), &mut limits, threads, interrupt.uncounted())?;
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
    Ok(Some(v))
}

/// So many of so many, at equal distances.
fn spaced(count: usize, of: usize) -> Vec<usize> {
    (0..count).map(|k| k * of / count).collect()
}

/// Costs to the landmarks, landmark by landmark, of all rows.
fn row_profiles(cost: &impl Geometry, unit: f64) -> Vec<f32> {
    let profile = |j| (0..cost.rows()).map(move |i| (cost.at(i, j) / unit) as f32);
    spaced(LANDMARKS, cost.cols()).into_iter().flat_map(profile).collect()
}

/// Likewise of all columns.
fn column_profiles(cost: &impl Geometry, unit: f64) -> Vec<f32> {
    let profile = |i| (0..cost.cols()).map(move |j| (cost.at(i, j) / unit) as f32);
    spaced(LANDMARKS, cost.rows()).into_iter().flat_map(profile).collect()
}

/// The representative that is nearest to each, by profile.
fn nearest(profiles: &[f32], representatives: &[usize]) -> Vec<u32> {
    let count = profiles.len() / LANDMARKS;
    let (mut least, mut at) = (vec![f32::INFINITY; count], vec![0_u32; count]);
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
                for ((least, at), distance) in least.iter_mut().zip(&mut at).zip(&distances) {
                    *at = if distance < least { k as u32 } else { *at };
                    *least = if distance < least { *distance } else { *least };
                }
            },
        );
    }
    at
}

/// By how much costs between representatives differ from costs between those they stand for, as a
/// part of what costs differ from their mean.
fn distortion(cost: &impl Geometry, rows: (&[usize], &[u32]), cols: (&[usize], &[u32])) -> f64 {
    let (n, m) = (cost.rows(), cost.cols());
    // Steps without a common divisor with most sizes, so that cells are scattered.
    let cells: Vec<(usize, usize)> = (0..JUDGED).map(|k| (k * 7919 % n, k * 104_729 % m)).collect();
    let of_cells: Vec<f64> = cells.iter().map(|&(i, j)| cost.at(i, j)).collect();
    let mean = of_cells.iter().sum::<f64>() / JUDGED as f64;
    let spread: f64 = of_cells.iter().map(|c| (c - mean).abs()).sum();
    let between = |(i, j): (usize, usize)| cost.at(rows.0[rows.1[i] as usize], cols.0[cols.1[j] as usize]);
    let errors = cells.iter().zip(&of_cells).map(|(&cell, c)| (c - between(cell)).abs());
    if spread > 0.0 { errors.sum::<f64>() / spread } else { f64::INFINITY }
}

/// The masses that representatives carry.
fn gathered(at: &[u32], representatives: usize, masses: &[f64]) -> Vec<f64> {
    let mut gathered = vec![0.0; representatives];
    for (k, mass) in at.iter().zip(masses) {
        gathered[*k as usize] += mass;
    }
    gathered
}
