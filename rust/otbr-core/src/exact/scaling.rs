//! Better potentials: Sinkhorn's algorithm on the core.
//!
//! Nothing here decides anything: `f32` does, and a few iterations.

use super::core::Core;
use super::duals::{exp2, shares};
use crate::geometry::Geometry;
use crate::problem::Transport;
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};

/// ε as a part of the spread of costs, what it is multiplied by from stage to stage, stages, iterations of each.
const EPSILON: f64 = 0.1;
const STEP: f64 = 0.5;
const STAGES: usize = 6;
const ITERATIONS: usize = 7;

/// Scalings within one ε.
const SCALINGS: (f32, f32) = (1e-30, 1e30);

/// Once, after this stage, cells are dropped that carry less than this part of what their row and their
/// column hold: some three quarters. Later there are few more.
const SIFTING_STAGE: usize = 1;
const IDLE: f32 = 1e-3;

/// Cells handled together. Most rows have as many groups of so many, so that loops over them end where a
/// processor expects it.
const LANES: usize = 8;

/// The core, each row filled up to whole groups by cells of infinite cost.
struct Groups {
    /// Groups of each row.
    start: Vec<usize>,
    cols: Vec<[u32; LANES]>,
    costs: Vec<[f64; LANES]>,
    kernel: Vec<[f32; LANES]>,
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
    let mut groups = Groups::new(core, n);
    let (mut x, mut y) = (vec![1.0_f32; n], vec![1.0_f32; m]);
    let (mut row_sums, mut col_sums) = (vec![0.0_f32; n], vec![0.0_f32; m]);
    let mut epsilon = EPSILON * spread;
    for stage in 0..STAGES {
        let per_unit = std::f64::consts::LOG2_E / epsilon.max(f64::MIN_POSITIVE);
        epsilon *= STEP;
        groups.make_kernel(v, per_unit);
        y.fill(1.0);
        for iteration in 0..ITERATIONS {
            groups.row_sums(&y, &mut row_sums);
            if iteration == 0 {
                // What x is exactly now; there is nothing to go beyond.
                x.iter_mut().zip(&a).zip(&row_sums).for_each(|((x, a), sum)| *x = a / sum);
            }
            rescale(&mut x, &a, &row_sums);
            groups.col_sums(&x, &mut col_sums);
            rescale(&mut y, &b, &col_sums);
        }
        for (v, y) in v.iter_mut().zip(&y) {
            *v += f64::from(y.log2()) / per_unit;
        }
        if stage == SIFTING_STAGE {
            groups.drop_idle((&x, &a), (&y, &b));
        }
    }
}

impl Groups {
    fn new<T: Scalar>(core: &Core<T>, n: usize) -> Self {
        let (mut start, mut cols, mut costs) = (vec![0], Vec::new(), Vec::new());
        for i in 0..n {
            let row = core.row(i);
            for (of_cols, of_costs) in core.cols[row.clone()].chunks(LANES).zip(core.costs[row].chunks(LANES))
            {
                let mut group = ([of_cols[0]; LANES], [f64::INFINITY; LANES]);
                group.0[..of_cols.len()].copy_from_slice(of_cols);
                group.1.iter_mut().zip(of_costs).for_each(|(c, cost)| *c = cost.to_f64());
                cols.push(group.0);
                costs.push(group.1);
            }
            start.push(cols.len());
        }
        let kernel = vec![[0.0; LANES]; cols.len()];
        Self { start, cols, costs, kernel }
    }

    /// exp((v − cost) / ε), in each row as a part of its largest.
    fn make_kernel(&mut self, v: &[f64], per_unit: f64) {
        dispatch(
            #[inline(always)]
            || {
                for row in self.start.windows(2) {
                    let row = row[0]..row[1];
                    let mut least = [f64::INFINITY; LANES];
                    for (cols, costs) in self.cols[row.clone()].iter().zip(&self.costs[row.clone()]) {
                        for k in 0..LANES {
                            let value = costs[k] - v[cols[k] as usize];
                            least[k] = if value < least[k] { value } else { least[k] };
                        }
                    }
                    let least = least_of_lanes(least);
                    let cells = self.cols[row.clone()].iter().zip(&self.costs[row.clone()]);
                    for (kernel, (cols, costs)) in self.kernel[row].iter_mut().zip(cells) {
                        for k in 0..LANES {
                            kernel[k] = ((least + v[cols[k] as usize] - costs[k]) * per_unit) as f32;
                        }
                    }
                }
                self.kernel.as_flattened_mut().iter_mut().for_each(|k| *k = exp2(*k));
            },
        );
    }

    /// Keep the cells that carry something: with a smaller ε the others will carry even less.
    fn drop_idle(&mut self, (x, a): (&[f32], &[f32]), (y, b): (&[f32], &[f32])) {
        let (mut from, mut to) = (0, 0);
        let mut kept = Vec::new();
        for (i, end) in self.start.iter_mut().skip(1).enumerate() {
            kept.clear();
            let cells =
                self.cols[from..*end].as_flattened().iter().zip(self.costs[from..*end].as_flattened());
            for ((&j, &cost), kernel) in cells.zip(self.kernel[from..*end].as_flattened()) {
                let (flow, least) = (kernel * x[i] * y[j as usize], a[i].min(b[j as usize]));
                if flow > IDLE * least {
                    kept.push((j, cost));
                }
            }
            from = *end;
            for cells in kept.chunks(LANES) {
                self.cols[to] = [cells[0].0; LANES];
                self.costs[to] = [f64::INFINITY; LANES];
                for (k, cell) in cells.iter().enumerate() {
                    (self.cols[to][k], self.costs[to][k]) = *cell;
                }
                to += 1;
            }
            *end = to;
        }
        self.cols.truncate(to);
        self.costs.truncate(to);
        self.kernel.truncate(to);
    }

    /// Σ kernel · y in each row.
    fn row_sums(&self, y: &[f32], sums: &mut [f32]) {
        dispatch(
            #[inline(always)]
            || {
                for (row, sum) in self.start.windows(2).zip(sums.iter_mut()) {
                    let mut lanes = [0.0_f32; LANES];
                    for (kernel, cols) in self.kernel[row[0]..row[1]].iter().zip(&self.cols[row[0]..row[1]]) {
                        for k in 0..LANES {
                            lanes[k] += kernel[k] * y[cols[k] as usize];
                        }
                    }
                    *sum = lanes.iter().sum();
                }
            },
        );
    }

    /// Σ kernel · x in each column.
    fn col_sums(&self, x: &[f32], sums: &mut [f32]) {
        sums.fill(0.0);
        for (row, x) in self.start.windows(2).zip(x) {
            for (kernel, cols) in self.kernel[row[0]..row[1]].iter().zip(&self.cols[row[0]..row[1]]) {
                for k in 0..LANES {
                    sums[cols[k] as usize] += kernel[k] * x;
                }
            }
        }
    }
}

/// Scalings from sums without them.
fn rescale(scalings: &mut [f32], masses: &[f32], sums: &[f32]) {
    dispatch(
        #[inline(always)]
        || {
            for ((scaling, mass), sum) in scalings.iter_mut().zip(masses).zip(sums) {
                *scaling = rescaled(*scaling, *mass, *sum);
            }
        },
    );
}

/// Half as far again as to what is exact: over-relaxation by 1.5.
#[inline(always)]
pub(super) fn rescaled(scaling: f32, mass: f32, sum: f32) -> f32 {
    let exact = mass / sum;
    let next = exact * (exact / scaling).sqrt();
    // A column that gets next to nothing must not end at potential −∞.
    let next = next.clamp(SCALINGS.0, SCALINGS.1);
    if sum > f32::MIN_POSITIVE { next } else { scaling }
}
