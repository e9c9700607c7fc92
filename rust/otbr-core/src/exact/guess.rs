//! Potentials to begin with where all costs are searched: Sinkhorn's algorithm on all of them.
//!
//! Nothing here decides anything: `f32` does, and a few iterations.

use pulp::{Simd, WithSimd};

use super::duals::{exp2, shares};
use super::scaling::rescaled;
use crate::geometry::Geometry;
use crate::problem::Transport;
use crate::scalar::Scalar;
use crate::simd::{dispatch, dispatch_simd, least_of_lanes};

/// Entries handled together.
const LANES: usize = 16;

/// The spread of a row is by how much the least of each so many-th of its costs exceeds the least of all.
const PARTS: usize = 4;

/// Where that is nothing, it is this part of what the mean exceeds the least by.
const SPREAD_OF_MEAN: f64 = 0.1;

/// Iterations with the spread for ε, and again with a quarter of it.
const ITERATIONS: usize = 4;

/// Weights below this part of a row's largest count as that, to the fourth power in the end.
const LEAST_SHARPENED: f32 = 1.0 / (1 << 15) as f32;

/// Potentials of the columns, and the spread of rows.
pub(super) fn guess<G: Geometry>(problem: &Transport<G>) -> (Vec<f64>, f64) {
    let (a, b) = (shares(&problem.a, problem.total), shares(&problem.b, problem.total));
    let (minima, spread) = row_minima(&problem.cost);
    let mut kernel = Kernel::new(&problem.cost, &minima, spread);
    let rough = dispatch_simd(Scale { kernel: &kernel, a: &a, b: &b });
    dispatch_simd(Sharpen { kernel: &mut kernel, y: &rough });
    let fine = dispatch_simd(Scale { kernel: &kernel, a: &a, b: &b });
    let potential = |(x, y): (&f32, &f32)| spread / 4.0 * (f64::from(*x).powi(4) * f64::from(*y)).ln();
    (rough.iter().zip(&fine).take(b.len()).map(potential).collect(), spread)
}

/// The least cost of each row, and the average spread of rows.
fn row_minima<G: Geometry>(cost: &G) -> (Vec<f64>, f64) {
    let (mut minima, mut buffer) = (Vec::with_capacity(cost.rows()), Vec::new());
    let (mut of_parts, mut of_mean) = (0.0, 0.0);
    dispatch(
        #[inline(always)]
        || {
            for i in 0..cost.rows() {
                let (parts, mean) = least_of_parts(cost.stretch(i, 0..cost.cols(), &mut buffer));
                let least = least_of_lanes(parts);
                for part in parts {
                    of_parts += if part < f64::INFINITY { part - least } else { 0.0 };
                }
                of_mean += mean - least;
                minima.push(least);
            }
        },
    );
    let sum = if of_parts > 0.0 { of_parts / PARTS as f64 } else { SPREAD_OF_MEAN * of_mean };
    (minima, (sum / cost.rows() as f64).max(f64::MIN_POSITIVE))
}

/// The least of each so many-th cost, and the mean of all.
#[inline(always)]
fn least_of_parts<T: Scalar>(costs: &[T]) -> ([f64; PARTS], f64) {
    let (mut least, mut sums) = ([f64::INFINITY; LANES], [0.0; LANES]);
    let (head, tail) = costs.as_chunks::<LANES>();
    for costs in head {
        for k in 0..LANES {
            let c = costs[k].to_f64();
            least[k] = if c < least[k] { c } else { least[k] };
            sums[k] += c;
        }
    }
    for ((least, sum), c) in least.iter_mut().zip(&mut sums).zip(tail) {
        *least = least.min(c.to_f64());
        *sum += c.to_f64();
    }
    let mut parts = [f64::INFINITY; PARTS];
    for k in 0..LANES {
        parts[k % PARTS] = if least[k] < parts[k % PARTS] { least[k] } else { parts[k % PARTS] };
    }
    (parts, sums.iter().sum::<f64>() / costs.len() as f64)
}

/// exp(−cost / ε), in each row as a part of its largest. Rows are filled up by zeros.
struct Kernel {
    per_row: usize,
    values: Vec<f32>,
}

impl Kernel {
    fn new<G: Geometry>(cost: &G, minima: &[f64], epsilon: f64) -> Self {
        let (m, per_unit) = (cost.cols(), std::f64::consts::LOG2_E / epsilon);
        let per_row = m.next_multiple_of(LANES);
        let (mut values, mut buffer) = (vec![0.0; minima.len() * per_row], Vec::new());
        dispatch(
            #[inline(always)]
            || {
                for (i, (row, least)) in values.chunks_exact_mut(per_row).zip(minima).enumerate() {
                    let costs = cost.stretch(i, 0..m, &mut buffer);
                    for (k, c) in row.iter_mut().zip(costs) {
                        *k = exp2(((least - c.to_f64()) * per_unit) as f32);
                    }
                }
            },
        );
        Self { per_row, values }
    }
}

/// Scalings of the columns by Sinkhorn's algorithm, over-relaxed. They are filled up by zeros.
struct Scale<'a> {
    kernel: &'a Kernel,
    a: &'a [f32],
    b: &'a [f32],
}

impl WithSimd for Scale<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let per_row = self.kernel.per_row;
        let (mut x, mut y, mut sums) = (vec![0.0; self.a.len()], vec![0.0; per_row], vec![0.0; per_row]);
        y[..self.b.len()].fill(1.0);
        for iteration in 0..ITERATIONS {
            // The first ones are exact; there is nothing to go beyond.
            let next = |scaling: f32, mass: f32, sum: f32| {
                rescaled(if iteration == 0 { mass / sum } else { scaling }, mass, sum)
            };
            sums.fill(0.0);
            for ((row, x), a) in self.kernel.values.chunks_exact(per_row).zip(&mut x).zip(self.a) {
                let (row, y) = (S::as_simd_f32s(row).0, S::as_simd_f32s(&y).0);
                let mut sum = simd.splat_f32s(0.0);
                for (kernel, y) in row.iter().zip(y) {
                    sum = simd.mul_add_e_f32s(*kernel, *y, sum);
                }
                *x = next(*x, *a, simd.reduce_sum_f32s(sum));
                let x = simd.splat_f32s(*x);
                for (sum, kernel) in S::as_mut_simd_f32s(&mut sums).0.iter_mut().zip(row) {
                    *sum = simd.mul_add_e_f32s(*kernel, x, *sum);
                }
            }
            for ((y, b), sum) in y.iter_mut().zip(self.b).zip(&sums) {
                *y = next(*y, *b, *sum);
            }
        }
        y
    }
}

/// Take scalings in, and make ε a quarter of what it is.
struct Sharpen<'a> {
    kernel: &'a mut Kernel,
    y: &'a [f32],
}

impl WithSimd for Sharpen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.kernel.values.chunks_exact_mut(self.kernel.per_row) {
            let mut largest = simd.splat_f32s(0.0);
            for (kernel, y) in S::as_mut_simd_f32s(row).0.iter_mut().zip(S::as_simd_f32s(self.y).0) {
                *kernel = simd.mul_f32s(*kernel, *y);
                largest = simd.max_f32s(largest, *kernel);
            }
            let inverse = 1.0 / simd.reduce_max_f32s(largest);
            for k in row {
                let part = *k * inverse;
                let part = if part > LEAST_SHARPENED { part } else { LEAST_SHARPENED };
                *k = (part * part) * (part * part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{MatrixView, Problem};

    #[test]
    fn potentials_are_finite_whatever_costs_and_masses_are() {
        let huge = |i: usize, j: usize| if (i + j).is_multiple_of(3) { 1e120 } else { 1e-120 };
        let makes: [fn(usize, usize) -> f64; 4] =
            [|_, _| 0.0, |_, _| -7.5, |i, j| 1.0 + ((i * j) % 5) as f64 * f64::EPSILON, huge];
        for (n, m) in [(1, 1), (1, 5), (40, 1), (3, 17), (50, 64)] {
            for make in makes {
                let data: Vec<f64> = (0..n * m).map(|k| make(k / m, k % m)).collect();
                let view = MatrixView::unread("M", &data, n, m).unwrap();
                let mass = |k: usize| if k == 0 { 1.0 } else { 1e-300 };
                let (a, b) = ((0..n).map(mass).collect(), (0..m).map(mass).collect());
                let (v, spread) = guess(&Problem::balanced(view, a, b));
                assert_eq!(v.len(), m);
                assert!(spread > 0.0 && v.iter().all(|x| x.is_finite()), "{n} x {m}: {spread} {v:?}");
            }
        }
    }
}
