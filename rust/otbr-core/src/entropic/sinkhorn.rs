//! Sinkhorn's algorithm in the log domain.
//!
//! Minimises ⟨P, M⟩ + ε Σ P (log P − 1) over the couplings of (a, b) through its dual potentials:
//! P = exp((f + g − M) / ε). One pass over the rows finds f from g by a stabilised log-sum-exp and,
//! while a row is at hand, adds its part to the column sums, which give the marginal error and the
//! next g. Potentials stay finite for any ε: where a column sum underflows, it is computed anew as
//! a log-sum-exp of its own. A small ε is approached through larger ones (Schmitzer 2019, ε-scaling).

use super::exponential::exp;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::problem::{MatrixView, Problem};
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

/// From one ε to the next when approaching a small one.
const EPSILON_STEP: f64 = 0.25;

/// Relative L1 error of the marginals that is good enough at an ε on the way.
const STAGE_ERROR: f64 = 1e-2;

/// Iterations at an ε on the way, at most.
const STAGE_ITERATIONS: u64 = 50;

/// A column sum below this has lost terms to underflow.
const UNDERFLOW: f64 = 1e-200;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct SinkhornOptions {
    /// ε, in units of the cost.
    pub reg: f64,
    /// Passes over the matrix, at most; those on the way to a small ε count.
    pub max_iter: u64,
    /// L2 norm of the column marginals' error at which to stop.
    pub stop_threshold: f64,
}

/// Potentials and what they give.
#[derive(Debug, Clone)]
pub struct EntropicSolution {
    /// Potentials of the rows, length n; −∞ where a is 0.
    pub f: Vec<f64>,
    /// Potentials of the columns, length m; −∞ where b is 0.
    pub g: Vec<f64>,
    /// ⟨P, M⟩, without the entropy.
    pub value: f64,
    /// |⟨f, P1 − a⟩ + ⟨g, Pᵀ1 − b⟩|: primal minus dual of the entropic problem.
    pub duality_gap: f64,
    /// L1 distance of the plan's marginals from (a, b).
    pub marginal_error: f64,
    /// L2 error of the column marginals, iteration by iteration, at the final ε.
    pub errors: Vec<f64>,
    /// Whether the stopping threshold was reached.
    pub converged: bool,
    /// Passes made.
    pub n_iter: u64,
}

/// Solve an entropic problem; `start` are potentials (f, g) from an earlier solution.
///
/// # Errors
/// A parameter out of range, potentials of the wrong length or not a number, an interrupt.
pub fn sinkhorn<T: Scalar>(
    problem: &Problem<'_, T>,
    options: SinkhornOptions,
    start: Option<&[f64]>,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<EntropicSolution> {
    check(options, problem.cost.max_abs())?;
    let m = problem.b.len();
    let mut epsilon = options.reg;
    let mut g = vec![0.0; m];
    match start {
        Some(given) => g.copy_from_slice(check_start(given, m)?),
        None => {
            while epsilon < problem.cost.max_abs() * EPSILON_STEP {
                epsilon /= EPSILON_STEP;
            }
        }
    }
    for (g, &b) in g.iter_mut().zip(&problem.b) {
        if b == 0.0 {
            *g = f64::NEG_INFINITY;
        } else if *g == f64::NEG_INFINITY {
            *g = 0.0;
        }
    }
    let mut run = Run { problem, threads, interrupt, f: vec![0.0; problem.a.len()], g, n_iter: 0 };
    while epsilon > options.reg {
        // One pass is kept for the final ε: its f gives the plan exact row sums.
        let stage_end = (options.max_iter - 1).min(run.n_iter + STAGE_ITERATIONS);
        run.iterate(epsilon, stage_end, STAGE_ERROR * problem.total / (m as f64).sqrt())?;
        epsilon = (epsilon * EPSILON_STEP).max(options.reg);
    }
    let (errors, converged) = run.iterate(options.reg, options.max_iter, options.stop_threshold)?;
    Ok(run.finish(options.reg, errors, converged))
}

/// Below this part of the largest cost, rounding of the potentials would show in the plan.
const LEAST_RELATIVE_REG: f64 = 1e-10;

/// Above this, potentials overflow.
const GREATEST_REG: f64 = 1e120;

fn check(options: SinkhornOptions, largest_cost: f64) -> Result<()> {
    let SinkhornOptions { reg, max_iter, stop_threshold } = options;
    if !(reg.is_finite() && reg > 0.0) {
        let expected = "a positive finite number, in units of the cost";
        return Err(Error::Parameter { name: "reg", value: reg, expected });
    }
    if reg > GREATEST_REG {
        let expected = "at most 1e120; at 1e10 of the largest cost the plan is that of no cost at all";
        return Err(Error::Parameter { name: "reg", value: reg, expected });
    }
    if reg < LEAST_RELATIVE_REG * largest_cost {
        let expected = "at least 1e-10 of the largest cost; below that use the exact solver";
        return Err(Error::Parameter { name: "reg", value: reg, expected });
    }
    if max_iter == 0 {
        return Err(Error::Parameter { name: "numItermax", value: 0.0, expected: "at least 1" });
    }
    if stop_threshold.is_nan() || stop_threshold < 0.0 {
        let expected = "not negative";
        return Err(Error::Parameter { name: "stopThr", value: stop_threshold, expected });
    }
    Ok(())
}

fn check_start(g: &[f64], m: usize) -> Result<&[f64]> {
    if g.len() != m {
        let (found, expected) = (g.len(), m);
        return Err(Error::Shape { name: "warmstart", unit: "column potentials", found, expected });
    }
    if let Some(&value) = g.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
        let expected = "finite, or -inf where b is 0";
        return Err(Error::Parameter { name: "warmstart", value, expected });
    }
    Ok(g)
}

/// The state of an iteration.
struct Run<'p, 'a, T> {
    problem: &'p Problem<'a, T>,
    threads: &'p Threads,
    interrupt: Interrupt<'p>,
    f: Vec<f64>,
    g: Vec<f64>,
    n_iter: u64,
}

impl<T: Scalar> Run<'_, '_, T> {
    /// Iterate at one ε. The plan of the last f and g has exact row sums.
    fn iterate(&mut self, epsilon: f64, max_iter: u64, threshold: f64) -> Result<(Vec<f64>, bool)> {
        let mut errors = Vec::new();
        while self.n_iter < max_iter {
            self.interrupt.check()?;
            let sums = self.row_pass(epsilon);
            self.n_iter += 1;
            let squares = sums.iter().zip(&self.problem.b).map(|(s, b)| (s - b) * (s - b));
            let error = squares.sum::<f64>().sqrt();
            errors.push(error);
            if error <= threshold {
                return Ok((errors, true));
            }
            if self.n_iter < max_iter {
                self.column_update(epsilon, &sums);
            }
        }
        Ok((errors, false))
    }

    /// New f from g; returns the column sums of the plan they give.
    fn row_pass(&mut self, epsilon: f64) -> Vec<f64> {
        let (n, m) = (self.problem.a.len(), self.problem.b.len());
        // As many chunks as leave the partial sums small beside the matrix, whatever the threads.
        let chunk = n.div_ceil(32).max(16);
        let g = &self.g;
        let parts = self.threads.map_rows(n, m, chunk, |range| {
            let mut sums = vec![0.0; m];
            let mut weights = vec![0.0; m];
            let rows = range.map(|i| {
                let (costs, mass) = (self.problem.cost.row(i), self.problem.a[i]);
                dispatch(
                    #[inline(always)]
                    || one_row(costs, mass, g, epsilon, &mut weights, &mut sums),
                )
            });
            (rows.collect::<Vec<f64>>(), sums)
        });
        let mut total = vec![0.0; m];
        self.f.clear();
        for (f, sums) in parts {
            self.f.extend(f);
            for (t, s) in total.iter_mut().zip(sums) {
                *t += s;
            }
        }
        total
    }

    /// New g, such that the column sums come out as b.
    fn column_update(&mut self, epsilon: f64, sums: &[f64]) {
        for (j, (&sum, &b)) in sums.iter().zip(&self.problem.b).enumerate() {
            if b > 0.0 {
                let log_sum = if sum < UNDERFLOW { self.log_column_sum(j, epsilon) } else { sum.ln() };
                self.g[j] += epsilon * (b.ln() - log_sum);
            }
        }
    }

    /// log Σᵢ exp((fᵢ + gⱼ − Mᵢⱼ) / ε), without underflow.
    fn log_column_sum(&self, j: usize, epsilon: f64) -> f64 {
        let exponent = |i: usize| (self.f[i] + self.g[j] - self.problem.cost.at(i, j)) / epsilon;
        let rows = 0..self.f.len();
        let largest = rows.clone().map(exponent).fold(f64::NEG_INFINITY, f64::max);
        largest + rows.map(|i| (exponent(i) - largest).exp()).sum::<f64>().ln()
    }

    fn finish(self, epsilon: f64, errors: Vec<f64>, converged: bool) -> EntropicSolution {
        let Self { problem, threads, f, g, n_iter, .. } = self;
        let (n, m) = (problem.a.len(), problem.b.len());
        let parts = threads.map_rows(n, m, n.div_ceil(32).max(16), |range| {
            let (mut row, mut columns, mut value) = (vec![0.0_f64; m], vec![0.0; m], 0.0);
            let rows: Vec<f64> = range
                .map(|i| {
                    let costs = problem.cost.row(i);
                    dispatch(
                        #[inline(always)]
                        || plan_row(costs, f[i], &g, epsilon, &mut row),
                    );
                    value += row.iter().zip(costs).map(|(p, c)| p * c.to_f64()).sum::<f64>();
                    columns.iter_mut().zip(&row).for_each(|(c, p)| *c += p);
                    row.iter().sum()
                })
                .collect();
            (rows, columns, value)
        });
        let (mut row_sums, mut column_sums, mut value) = (Vec::new(), vec![0.0; m], 0.0);
        for (rows, columns, part) in parts {
            row_sums.extend(rows);
            column_sums.iter_mut().zip(columns).for_each(|(c, p)| *c += p);
            value += part;
        }
        let (gap_rows, error_rows) = residual(&f, &row_sums, &problem.a);
        let (gap_columns, error_columns) = residual(&g, &column_sums, &problem.b);
        EntropicSolution {
            value,
            duality_gap: (gap_rows + gap_columns).abs(),
            marginal_error: error_rows + error_columns,
            f,
            g,
            errors,
            converged,
            n_iter,
        }
    }
}

/// ⟨potential, sums − masses⟩ and |sums − masses|₁; a potential of −∞ belongs to mass 0.
fn residual(potential: &[f64], sums: &[f64], masses: &[f64]) -> (f64, f64) {
    let terms = potential.iter().zip(sums.iter().zip(masses));
    terms.fold((0.0, 0.0), |(gap, error), (p, (s, mass))| {
        let term = if p.is_finite() { p * (s - mass) } else { 0.0 };
        (gap + term, error + (s - mass).abs())
    })
}

/// f of one row: ε (log a − log Σⱼ exp((gⱼ − Mⱼ) / ε)); adds the row's plan to the column sums.
#[inline(always)]
fn one_row<T: Scalar>(
    costs: &[T],
    mass: f64,
    g: &[f64],
    epsilon: f64,
    weights: &mut [f64],
    sums: &mut [f64],
) -> f64 {
    if mass == 0.0 {
        return f64::NEG_INFINITY;
    }
    let inverse = 1.0 / epsilon;
    for ((w, c), g) in weights.iter_mut().zip(costs).zip(g) {
        *w = (g - c.to_f64()) * inverse;
    }
    let largest = reduce(weights, f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
    for w in weights.iter_mut() {
        *w = exp(*w - largest);
    }
    let sum = reduce(weights, 0.0, |a, b| a + b);
    let scale = mass / sum;
    for (s, w) in sums.iter_mut().zip(weights) {
        *s += *w * scale;
    }
    epsilon * (mass.ln() - largest - sum.ln())
}

/// Reduction in a fixed order that vectorises.
#[inline(always)]
fn reduce(values: &[f64], start: f64, f: impl Fn(f64, f64) -> f64) -> f64 {
    const LANES: usize = 16;
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
    lanes.into_iter().fold(start, f)
}

/// exp((f + g − M) / ε) of one row.
#[inline(always)]
fn plan_row<T: Scalar, P: Scalar>(costs: &[T], f: f64, g: &[f64], epsilon: f64, out: &mut [P]) {
    for ((p, c), g) in out.iter_mut().zip(costs).zip(g) {
        *p = P::from_f64(exp((f + g - c.to_f64()) / epsilon));
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
    let m = cost.cols();
    let mut out = vec![T::ZERO; cost.rows() * m];
    threads.fill_rows(&mut out, m, 64, |first, rows| {
        for (offset, row) in rows.chunks_exact_mut(m).enumerate() {
            let i = first + offset;
            dispatch(
                #[inline(always)]
                || plan_row(cost.row(i), f[i], g, reg, row),
            );
        }
    });
    Ok(out)
}
