//! Potentials to begin with: Sinkhorn's algorithm on some rows.
//!
//! Nothing here decides anything: `f32` does, and a few iterations.

use super::bounds::BLOCK;
use crate::geometry::Geometry;
use crate::problem::{Extent, Transport};
use crate::scalar::Scalar;
use crate::simd::dispatch;

/// Entries handled together.
const LANES: usize = 16;

/// Rows that tell what costs measure.
const UNIT_ROWS: usize = 16;

/// Rows drawn to tell what a problem is like; for all else one row in so many is, within limits.
const FEW: usize = 32;
const ROWS_PER_SAMPLE: usize = 8;
const SAMPLES: (usize, usize) = (128, 512);

/// A column's limit is its reduced cost of this rank in the sample. Fewer leave some columns with one or
/// two cells, and many pivots to repair that.
const LIMIT_RANK: usize = 3;

/// Iterations on the sample, at this part of the spread of costs in a row.
const ITERATIONS: usize = 3;
const EPSILON: f64 = 0.3;

/// A mass below this part of the mean counts as this.
const LEAST_MASS: f64 = 1e-3;

/// A few rows, drawn in proportion to their mass, and what they tell of all.
pub(super) struct Sampled {
    sample: Sample,
    /// Largest |cost| in some rows, or 1: the unit of what is in `f32`.
    pub unit: f64,
    /// By how much the least of `BLOCK` costs exceeds the least of a row, on average.
    pub spread: f64,
    /// The same as a part of what the mean of a row exceeds its least by.
    pub relative_spread: f64,
}

/// A few rows, and the masses they stand for.
struct Sample {
    masses: Vec<f32>,
    /// Costs less the row's first, in units of the largest cost, row by row.
    costs: Vec<f32>,
}

impl Sampled {
    /// Enough to tell what the problem is like.
    pub fn new<G: Geometry>(problem: &Transport<G>) -> Self {
        Self::drawn(problem, unit_of(&problem.cost), FEW.min(problem.a.len()))
    }

    /// Enough for Sinkhorn's algorithm, and for limits that few cells are below.
    pub fn enlarged<G: Geometry>(self, problem: &Transport<G>) -> Self {
        let count = (problem.a.len() / ROWS_PER_SAMPLE).clamp(SAMPLES.0, SAMPLES.1);
        Self::drawn(problem, self.unit, count.min(problem.a.len()))
    }

    fn drawn<G: Geometry>(problem: &Transport<G>, unit: f64, count: usize) -> Self {
        let (sample, spread, mean) = draw(problem, unit, count);
        let relative_spread = if mean > 0.0 { spread / mean } else { 0.0 };
        Self { sample, unit, spread: spread * unit, relative_spread }
    }

    /// Potentials of the columns by Sinkhorn's algorithm.
    pub fn sinkhorn<G>(&self, problem: &Transport<G>) -> Vec<f64> {
        let m = problem.b.len();
        let spread = self.spread / self.unit;
        let logs: Vec<f32> = shares(&problem.b, problem.total).iter().map(|b| b.log2()).collect();
        let per_unit = (std::f64::consts::LOG2_E / (EPSILON * spread.max(f64::MIN_POSITIVE))) as f32;
        let (mut g, mut weights, mut sums) = (vec![0.0_f32; m], vec![0.0_f32; m], vec![0.0_f32; m]);
        for _ in 0..ITERATIONS {
            sums.fill(0.0);
            for (costs, mass) in self.sample.costs.chunks_exact(m).zip(&self.sample.masses) {
                dispatch(
                    #[inline(always)]
                    || add_row(costs, *mass, &g, per_unit, &mut weights, &mut sums),
                );
            }
            for ((g, s), l) in g.iter_mut().zip(&sums).zip(&logs) {
                if *s > f32::MIN_POSITIVE {
                    *g += (l - s.log2()) / per_unit;
                }
            }
        }
        g.iter().map(|&x| f64::from(x) * self.unit).collect()
    }

    /// Under potentials v, of each column a reduced cost that few of its cells are below.
    pub fn column_limits(&self, v: &[f64]) -> Vec<f64> {
        let mut ranks: [Vec<f32>; LIMIT_RANK] = std::array::from_fn(|_| vec![f32::INFINITY; v.len()]);
        self.sample.for_each(self.unit, v, |reduced, least| {
            dispatch(
                #[inline(always)]
                || keep_least(reduced, least, &mut ranks),
            );
        });
        ranks[LIMIT_RANK - 1].iter().map(|&x| f64::from(x) * self.unit).collect()
    }
}

impl Sample {
    /// Each row's costs − v and the least of them.
    fn for_each(&self, unit: f64, v: &[f64], mut f: impl FnMut(&mut [f32], f32)) {
        let g: Vec<f32> = v.iter().map(|x| (x / unit) as f32).collect();
        let mut reduced = vec![0.0_f32; v.len()];
        for costs in self.costs.chunks_exact(v.len()) {
            let least = dispatch(
                #[inline(always)]
                || {
                    for ((r, c), g) in reduced.iter_mut().zip(costs).zip(&g) {
                        *r = c - g;
                    }
                    least(&reduced)
                },
            );
            f(&mut reduced, least);
        }
    }
}

/// Keep the least reduced costs of each column, rank by rank.
#[inline(always)]
fn keep_least(reduced: &mut [f32], least: f32, ranks: &mut [Vec<f32>]) {
    reduced.iter_mut().for_each(|r| *r -= least);
    for rank in ranks {
        for (kept, r) in rank.iter_mut().zip(reduced.iter_mut()) {
            (*kept, *r) = if *r < *kept { (*r, *kept) } else { (*kept, *r) };
        }
    }
}

/// The largest |cost| in a few rows, or 1 where that is no number to divide by.
pub(super) fn unit_of<G: Geometry>(cost: &G) -> f64 {
    let (n, m) = (cost.rows(), cost.cols());
    let (mut extent, mut buffer) = (Extent::default(), Vec::new());
    for k in 0..UNIT_ROWS.min(n) {
        extent.take(cost.stretch(k * n / UNIT_ROWS.min(n), 0..m, &mut buffer));
    }
    let largest = extent.value();
    if largest.is_normal() { largest } else { 1.0 }
}

/// So many rows at equal distances along the sum of masses. With them by how much the least of `BLOCK` costs exceeds
/// the least of a row on average, and by how much the mean does.
fn draw<G: Geometry>(problem: &Transport<G>, unit: f64, count: usize) -> (Sample, f64, f64) {
    let m = problem.b.len();
    let step = problem.total / count as f64;
    let mut sample = Sample { masses: Vec::new(), costs: Vec::with_capacity(count * m) };
    let (mut spread, mut mean) = (0.0, 0.0);
    let (mut sum, mut taken, mut buffer, inverse) = (0.0, 0.0, Vec::new(), 1.0 / unit);
    for (i, &mass) in problem.a.iter().enumerate() {
        sum += mass;
        let hits = ((sum / step + 0.5).floor() - taken).max(0.0);
        if hits == 0.0 {
            continue;
        }
        taken += hits;
        let costs = problem.cost.stretch(i, 0..m, &mut buffer);
        let start = sample.costs.len();
        sample.costs.resize(start + m, 0.0);
        let row = &mut sample.costs[start..];
        dispatch(
            #[inline(always)]
            || {
                let first = costs[0].to_f64();
                for (r, c) in row.iter_mut().zip(costs) {
                    *r = ((c.to_f64() - first) * inverse) as f32;
                }
                let least = f64::from(least(row));
                spread += hits * (least_of_blocks(row) - least);
                mean += hits * (f64::from(sum_of(row)) / m as f64 - least);
            },
        );
        sample.masses.push((hits / count as f64) as f32);
    }
    (sample, spread / taken.max(1.0), mean / taken.max(1.0))
}

/// Mean of the least of each block.
#[inline(always)]
fn least_of_blocks(row: &[f32]) -> f64 {
    let blocks = row.chunks(BLOCK);
    let count = blocks.len() as f64;
    blocks.map(|block| f64::from(least(block))).sum::<f64>() / count
}

/// Add to the column sums what a row sends under potentials g of the columns.
#[inline(always)]
fn add_row(costs: &[f32], mass: f32, g: &[f32], per_unit: f32, weights: &mut [f32], sums: &mut [f32]) {
    for ((w, c), g) in weights.iter_mut().zip(costs).zip(g) {
        *w = c - g;
    }
    let least = least(weights);
    for w in weights.iter_mut() {
        *w = exp2((least - *w) * per_unit);
    }
    let scale = mass / sum_of(weights);
    for (s, w) in sums.iter_mut().zip(weights) {
        *s += *w * scale;
    }
}

/// Masses as parts of the total, none much below the mean.
pub(super) fn shares(masses: &[f64], total: f64) -> Vec<f32> {
    let least = LEAST_MASS / masses.len() as f64;
    masses.iter().map(|mass| (mass / total).max(least) as f32).collect()
}

/// 2ˣ for x ≤ 0, to about 1e-4; at least 2⁻⁶⁰.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits.
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³
    let x = if x > -60.0 { x } else { -60.0 };
    let shifted = x + MAGIC;
    let r = x - (shifted - MAGIC);
    // ln(2)ᵏ / k!
    let series = 1.0 + r * (std::f32::consts::LN_2 + r * (0.240_226_5 + r * (0.055_504_1 + r * 0.009_618_1)));
    series * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

#[inline(always)]
fn least(values: &[f32]) -> f32 {
    let lanes = lanes(values, f32::INFINITY, |a, b| if b < a { b } else { a });
    lanes.into_iter().fold(f32::INFINITY, f32::min)
}

#[inline(always)]
fn sum_of(values: &[f32]) -> f32 {
    lanes(values, 0.0, |a, b| a + b).into_iter().sum()
}

/// Reduction in a fixed order that vectorises.
#[inline(always)]
fn lanes(values: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    let (head, tail) = values.as_chunks::<LANES>();
    for chunk in head {
        for k in 0..LANES {
            lanes[k] = f(lanes[k], chunk[k]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane = f(*lane, x);
    }
    lanes
}
