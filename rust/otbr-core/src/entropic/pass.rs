//! One pass over the cost matrix: row potentials from column potentials, column sums on the way.

use std::ops::Range;
use std::slice::ChunksExactMut;
use std::sync::{Mutex, PoisonError};

use pulp::{Simd, WithSimd};

use super::exponential::{GREATEST, exp, fma};
use super::kernel::{Format, Kernel, Part, Record};
use super::side::Side;
use crate::problem::Problem;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// A row whose sum of exponentials lies within these lost nothing to underflow or overflow.
const SAFE: Range<f64> = 1e-200..1e200;

/// Rows that share one vector of partial column sums, whatever the number of threads.
pub(super) fn chunk_rows(n: usize) -> usize {
    n.div_ceil(32).max(16)
}

/// Potentials at one ε, and what a pass over the matrix is made with.
#[derive(Clone, Copy)]
pub(super) struct Pass<'p, 'a, T> {
    pub problem: &'p Problem<'a, T>,
    /// What the rows ask for; `None` where their potentials are to stay.
    pub rows: Option<&'p Side>,
    pub threads: &'p Threads,
    pub epsilon: f64,
}

/// What to keep of the plan that a pass makes, besides its sums.
pub(super) enum Keep<'k, T> {
    Nothing,
    /// All of it that counts, to iterate on.
    Record(&'k mut Kernel, Format),
    /// The plan itself, times a total, where there is room for it.
    Plan(&'k mut [T], f64),
}

/// Sums of a plan.
#[derive(Clone)]
pub(super) struct Sums {
    pub rows: Vec<f64>,
    pub columns: Vec<f64>,
    /// ⟨P, M⟩, where the plan was kept.
    pub value: f64,
}

/// What [`Keep`] says, for a chunk of rows.
enum Slot<'k, T> {
    Nothing,
    Record(Part<'k>),
    Plan(ChunksExactMut<'k, T>, f64),
}

/// Buffers for one row.
struct Scratch {
    weights: Vec<f64>,
    columns: Vec<f64>,
}

impl<T: Scalar> Pass<'_, '_, T> {
    /// Find f from g; f holds a guess on entry. Returns the sums of the plan they give.
    pub fn sweep(&self, f: &mut Vec<f64>, g: &[f64], keep: Keep<'_, T>) -> Sums {
        let (n, m) = (f.len(), g.len());
        let (arch, chunk, inverse) = (pulp::Arch::new(), chunk_rows(n), 1.0 / self.epsilon);
        let g: Vec<f64> = g.iter().map(|g| g * inverse).collect();
        let guess: &[f64] = f;
        let slots: Vec<Mutex<Slot<'_, T>>> = match keep {
            Keep::Nothing => (0..n.div_ceil(chunk)).map(|_| Mutex::new(Slot::Nothing)).collect(),
            Keep::Record(kernel, format) => {
                kernel.clear(format).into_iter().map(|part| Mutex::new(Slot::Record(part))).collect()
            }
            Keep::Plan(out, total) => {
                let mut parts = out.chunks_mut(chunk * m);
                let mut slot = || Slot::Plan(parts.next().unwrap_or_default().chunks_exact_mut(m), total);
                (0..n.div_ceil(chunk)).map(|_| Mutex::new(slot())).collect()
            }
        };
        let parts = self.threads.map_rows(n, m, chunk, |range| {
            let mut slot = slots[range.start / chunk].lock().unwrap_or_else(PoisonError::into_inner);
            let mut scratch = Scratch { weights: vec![0.0; m], columns: vec![0.0; m] };
            let mut value = 0.0;
            let rows = range.map(|i| {
                let (costs, guess) = (self.problem.cost.row(i), guess[i] * inverse);
                let target = |log_sum: f64| match self.rows {
                    Some(side) => side.solve(i, log_sum, self.epsilon),
                    None => (guess, (guess + log_sum).exp()),
                };
                let row = Row { costs, target, guess, g: &g, inverse, scratch: &mut scratch };
                let (f, mass, sum) = arch.dispatch(row);
                let weights = &scratch.weights;
                match &mut *slot {
                    Slot::Nothing => {}
                    Slot::Record(part) => arch.dispatch(Record { part, weights, scale: 1.0 / sum }),
                    Slot::Plan(rows, total) => {
                        let (out, scale) = (rows.next().unwrap_or_default(), mass / sum * *total);
                        value += arch.dispatch(PlanRow { weights, scale, costs, out });
                    }
                }
                (f * self.epsilon, mass)
            });
            (rows.collect::<Vec<(f64, f64)>>(), scratch.columns, value)
        });
        drop(slots);
        f.clear();
        let mut sums = Sums { rows: Vec::with_capacity(n), columns: vec![0.0; m], value: 0.0 };
        for (rows, columns, value) in parts {
            for (potential, mass) in rows {
                f.push(potential);
                sums.rows.push(mass);
            }
            sums.columns.iter_mut().zip(columns).for_each(|(t, s)| *t += s);
            sums.value += value;
        }
        sums
    }

    /// log Σᵢ exp((fᵢ + gⱼ − Mᵢⱼ) / ε), without underflow.
    pub fn log_column_sum(&self, f: &[f64], g: &[f64], j: usize) -> f64 {
        let exponent = |i: usize| (f[i] + g[j] - self.problem.cost.at(i, j)) / self.epsilon;
        let rows = 0..f.len();
        let largest = rows.clone().map(exponent).fold(f64::NEG_INFINITY, f64::max);
        largest + rows.map(|i| (exponent(i) - largest).exp()).sum::<f64>().ln()
    }
}

/// One row of the matrix, to be updated; potentials are in units of ε.
struct Row<'a, T, F> {
    costs: &'a [T],
    /// Potential and mass, given log Σⱼ exp(g − M / ε).
    target: F,
    guess: f64,
    g: &'a [f64],
    inverse: f64,
    scratch: &'a mut Scratch,
}

impl<T: Scalar, F: Fn(f64) -> (f64, f64)> WithSimd for Row<'_, T, F> {
    type Output = (f64, f64, f64);

    /// Potential, mass and the sum of the weights; adds the row's plan to the column sums.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f64, f64, f64) {
        let Scratch { weights, columns } = self.scratch;
        let mut shift = self.guess;
        let mut sum = exponentials(simd, self.costs, self.g, self.inverse, shift, weights);
        if !SAFE.contains(&sum) {
            shift = -largest_exponent(self.costs, self.g, self.inverse);
            sum = exponentials(simd, self.costs, self.g, self.inverse, shift, weights);
        }
        let (potential, mass) = (self.target)(sum.ln() - shift);
        let scale = mass / sum;
        for (s, w) in columns.iter_mut().zip(&*weights) {
            *s = fma::<S>(*w, scale, *s);
        }
        (potential, mass, sum)
    }
}

/// A row of the plan: weights times a scale; what it costs.
struct PlanRow<'a, T> {
    weights: &'a [f64],
    scale: f64,
    costs: &'a [T],
    out: &'a mut [T],
}

impl<T: Scalar> WithSimd for PlanRow<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        const LANES: usize = 16;
        let Self { weights, scale, costs, out } = self;
        for (out, w) in out.iter_mut().zip(weights) {
            *out = T::from_f64(w * scale);
        }
        let mut lanes = [0.0_f64; LANES];
        for (weights, costs) in weights.chunks(LANES).zip(costs.chunks(LANES)) {
            for ((lane, w), c) in lanes.iter_mut().zip(weights).zip(costs) {
                *lane = fma::<S>(*w, c.to_f64(), *lane);
            }
        }
        lanes.into_iter().sum::<f64>() * scale
    }
}

/// exp(shift + g − M / ε), and their sum in an order that vectorises; NaN if the shift is not finite.
#[inline(always)]
fn exponentials<S: Simd, T: Scalar>(
    simd: S,
    costs: &[T],
    g: &[f64],
    inverse: f64,
    shift: f64,
    out: &mut [f64],
) -> f64 {
    if !shift.is_finite() {
        return f64::NAN;
    }
    for ((out, cost), g) in out.iter_mut().zip(costs).zip(g) {
        let x = fma::<S>(cost.to_f64(), -inverse, g + shift);
        *out = exp::<S>(if x < GREATEST { x } else { GREATEST });
    }
    sum(simd, out)
}

/// Sum in an order that vectorises.
#[inline(always)]
fn sum<S: Simd>(simd: S, values: &[f64]) -> f64 {
    let (head, tail) = S::as_simd_f64s(values);
    let (quads, rest) = head.as_chunks::<4>();
    let mut lanes = [simd.splat_f64s(0.0); 4];
    for quad in quads {
        for (lane, x) in lanes.iter_mut().zip(quad) {
            *lane = simd.add_f64s(*lane, *x);
        }
    }
    for x in rest {
        lanes[0] = simd.add_f64s(lanes[0], *x);
    }
    let [x, y, z, w] = lanes;
    let all = simd.add_f64s(simd.add_f64s(x, y), simd.add_f64s(z, w));
    simd.reduce_sum_f64s(all) + tail.iter().sum::<f64>()
}

#[inline(always)]
fn largest_exponent<T: Scalar>(costs: &[T], g: &[f64], inverse: f64) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [f64::NEG_INFINITY; LANES];
    for (costs, g) in costs.chunks(LANES).zip(g.chunks(LANES)) {
        for ((lane, c), g) in lanes.iter_mut().zip(costs).zip(g) {
            let x = g - c.to_f64() * inverse;
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.into_iter().fold(f64::NEG_INFINITY, f64::max)
}
