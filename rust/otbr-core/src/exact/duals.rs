//! Potentials to begin with: Sinkhorn's algorithm, first on some rows, then on the core.
//!
//! Nothing here decides anything: `f32` does, and a few iterations.

use super::bounds::BLOCK;
use super::core::Core;
use crate::geometry::Geometry;
use crate::problem::{Extent, Transport};
use crate::scalar::Scalar;
use crate::simd::dispatch;

/// Entries handled together.
const LANES: usize = 16;

/// Rows that tell what costs measure.
const UNIT_ROWS: usize = 16;

/// One row in so many is drawn, within limits.
const ROWS_PER_SAMPLE: usize = 8;
const SAMPLES: (usize, usize) = (128, 512);

/// Iterations on the sample, at this part of the spread of costs in a row.
const ITERATIONS: usize = 3;
const EPSILON: f64 = 0.3;

/// On the core: ε, what it is multiplied by from stage to stage, stages, iterations of each.
const CORE_EPSILON: f64 = 0.1;
const CORE_STEP: f64 = 0.5;
const CORE_STAGES: usize = 6;
const CORE_ITERATIONS: usize = 7;

/// Scalings on the core within one ε.
const SCALINGS: (f32, f32) = (1e-30, 1e30);

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
    pub fn new<G: Geometry>(problem: &Transport<G>) -> Self {
        let unit = unit_of(&problem.cost);
        let (sample, spread, mean) = draw(problem, unit);
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
        let m = v.len();
        let (mut first, mut second) = (vec![f32::INFINITY; m], vec![f32::INFINITY; m]);
        self.sample.for_each(self.unit, v, |reduced, least| {
            dispatch(
                #[inline(always)]
                || second_least(reduced, least, &mut first, &mut second),
            );
        });
        second.into_iter().map(|x| f64::from(x) * self.unit).collect()
    }
}

impl Sample {
    /// Each row's costs − v and the least of them.
    fn for_each(&self, unit: f64, v: &[f64], mut f: impl FnMut(&[f32], f32)) {
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
            f(&reduced, least);
        }
    }
}

/// Keep the two least reduced costs of each column.
#[inline(always)]
fn second_least(reduced: &[f32], least: f32, first: &mut [f32], second: &mut [f32]) {
    for ((f, s), r) in first.iter_mut().zip(second).zip(reduced) {
        let r = r - least;
        let larger = if r > *f { r } else { *f };
        *f = if r < *f { r } else { *f };
        *s = if larger < *s { larger } else { *s };
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

/// Rows at equal distances along the sum of masses. With them by how much the least of `BLOCK` costs exceeds
/// the least of a row on average, and by how much the mean does.
fn draw<G: Geometry>(problem: &Transport<G>, unit: f64) -> (Sample, f64, f64) {
    let (n, m) = (problem.a.len(), problem.b.len());
    let count = (n / ROWS_PER_SAMPLE).clamp(SAMPLES.0.min(n), SAMPLES.1);
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
fn shares(masses: &[f64], total: f64) -> Vec<f32> {
    let least = LEAST_MASS / masses.len() as f64;
    masses.iter().map(|mass| (mass / total).max(least) as f32).collect()
}

/// Sinkhorn's algorithm on the core, by scaling a kernel that is made anew for each ε.
pub(super) fn core_sinkhorn<G: Geometry>(
    problem: &Transport<G>,
    core: &Core<G::Cost>,
    v: &mut [f64],
    spread: f64,
) {
    let (n, m) = (problem.a.len(), v.len());
    let (a, b) = (shares(&problem.a, problem.total), shares(&problem.b, problem.total));
    let mut kernel = vec![0.0_f32; core.cols.len()];
    let (mut x, mut y) = (vec![1.0_f32; n], vec![1.0_f32; m]);
    let (mut row_sums, mut col_sums) = (vec![0.0_f32; n], vec![0.0_f32; m]);
    let mut epsilon = CORE_EPSILON * spread;
    for _ in 0..CORE_STAGES {
        let per_unit = std::f64::consts::LOG2_E / epsilon.max(f64::MIN_POSITIVE);
        epsilon *= CORE_STEP;
        for i in 0..n {
            let least = core.least_difference(i, v);
            for (k, (j, cost)) in kernel[core.row(i)].iter_mut().zip(core.row_cells(i)) {
                *k = ((least + v[j] - cost) * per_unit) as f32;
            }
        }
        dispatch(
            #[inline(always)]
            || kernel.iter_mut().for_each(|k| *k = exp2(*k)),
        );
        y.fill(1.0);
        for iteration in 0..CORE_ITERATIONS {
            for (i, sum) in row_sums.iter_mut().enumerate() {
                *sum = weighted_sum(&kernel[core.row(i)], &core.cols[core.row(i)], &y);
            }
            if iteration == 0 {
                // What x is exactly now; there is nothing to go beyond.
                x.iter_mut().zip(&a).zip(&row_sums).for_each(|((x, a), sum)| *x = a / sum);
            }
            rescale(&mut x, &a, &row_sums);
            col_sums.fill(0.0);
            for (i, x) in x.iter().enumerate() {
                for (k, &j) in kernel[core.row(i)].iter().zip(&core.cols[core.row(i)]) {
                    col_sums[j as usize] += k * x;
                }
            }
            rescale(&mut y, &b, &col_sums);
        }
        for (v, y) in v.iter_mut().zip(&y) {
            *v += f64::from(y.log2()) / per_unit;
        }
    }
}

/// Scalings from sums without them: half as far again as to what is exact, over-relaxation by 1.5.
fn rescale(scalings: &mut [f32], masses: &[f32], sums: &[f32]) {
    dispatch(
        #[inline(always)]
        || {
            for ((scaling, mass), sum) in scalings.iter_mut().zip(masses).zip(sums) {
                let exact = mass / sum;
                let next = exact * (exact / *scaling).sqrt();
                // A column that gets next to nothing must not end at potential −∞.
                let next = next.clamp(SCALINGS.0, SCALINGS.1);
                *scaling = if *sum > f32::MIN_POSITIVE { next } else { *scaling };
            }
        },
    );
}

/// Σ kernel[k] · y[cols[k]].
fn weighted_sum(kernel: &[f32], cols: &[u32], y: &[f32]) -> f32 {
    let ((kernel, kernel_tail), (cols, cols_tail)) = (kernel.as_chunks::<4>(), cols.as_chunks::<4>());
    let mut sums = [0.0_f32; 4];
    for (kernel, cols) in kernel.iter().zip(cols) {
        for k in 0..4 {
            sums[k] += kernel[k] * y[cols[k] as usize];
        }
    }
    let tail = kernel_tail.iter().zip(cols_tail).map(|(k, &j)| k * y[j as usize]);
    tail.chain(sums).sum()
}

/// 2ˣ for x ≤ 0, to about 1e-4; at least 2⁻⁶⁰.
#[inline(always)]
fn exp2(x: f32) -> f32 {
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
