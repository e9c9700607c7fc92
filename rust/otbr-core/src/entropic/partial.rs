//! Entropic transport of a part of the mass.
//!
//! Minimises ⟨P, M⟩ + ε Σ P (log P − 1) over P1 ≤ a, Pᵀ1 ≤ b, ΣP = mass. With potentials f ≤ 0,
//! g ≤ l and a number l, P = exp((f + g − M) / ε). The dual is maximised over f, then over g and l
//! together, in turn: as Sinkhorn's, but no row, no column is scaled up beyond its limit, and l makes
//! the columns carry the mass (the projections of Benamou et al. 2015, two of them at once).

use super::newton::distance;
use super::options::{EntropicSolution, SinkhornOptions, check};
use super::pass::{Keep, Pass};
use super::side::Side;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::problem::{MatrixView, Problem, check_masses};
use crate::scalar::Scalar;
use crate::threads::Threads;

/// From one ε to the next when approaching a small one, passes and error on the way.
const STEP: f64 = 0.25;
const STAGE_PASSES: u64 = 50;
const STAGE_ERROR: f64 = 1e-2;

/// Transport `mass` of a to b, with an entropy; neither gives or takes more than it has.
///
/// The L2 error to stop at is that of the column sums, as they are against as they should be, as a
/// part of the mass that is moved.
///
/// # Errors
/// As [`super::sinkhorn`]; a mass that is not positive or is more than a or b hold.
pub fn sinkhorn_partial<T: Scalar>(
    cost: MatrixView<'_, T>,
    (a, b): (&[f64], &[f64]),
    mass: f64,
    options: SinkhornOptions,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<EntropicSolution> {
    check(options, cost.max_abs())?;
    let (in_a, in_b) = (check_masses("a", a, cost.rows())?, check_masses("b", b, cost.cols())?);
    // The checks of a problem, b scaled to the sum of a and back.
    let scaled: Vec<f64> = b.iter().map(|b| b * (in_a / in_b)).collect();
    let problem = Problem::new(cost, a, &scaled)?;
    if mass.is_nan() || mass <= 0.0 || mass > in_a.min(in_b) * (1.0 + 1e-12) {
        let expected = "positive and at most the sums of a and of b";
        return Err(Error::Parameter { name: "m", value: mass, expected });
    }
    let relative = |x: &[f64]| x.iter().map(|x| x / mass).collect::<Vec<f64>>();
    let run =
        Partial { problem: &problem, rows: Side::limited(relative(a)), b: relative(b), threads, interrupt };
    run.solve(options, mass)
}

struct Partial<'p, 'a, T> {
    problem: &'p Problem<'a, T>,
    rows: Side,
    /// Limits of the columns, relative to the mass that is moved, as are those of the rows.
    b: Vec<f64>,
    threads: &'p Threads,
    interrupt: Interrupt<'p>,
}

impl<T: Scalar> Partial<'_, '_, T> {
    fn solve(&self, options: SinkhornOptions, mass: f64) -> Result<EntropicSolution> {
        let (n, m) = (self.rows.masses.len(), self.b.len());
        let (mut f, mut g) = (vec![f64::NAN; n], vec![0.0; m]);
        let (mut errors, mut level, mut n_iter) = (Vec::new(), 0.0, 0);
        let mut epsilon = options.reg;
        while epsilon < self.problem.cost.max_abs() * STEP {
            epsilon /= STEP;
        }
        let converged = loop {
            let last = epsilon <= options.reg;
            let goal = if last { options.stop_threshold } else { STAGE_ERROR / (m as f64).sqrt() };
            // One pass is kept for the final ε.
            let end = if last { options.max_iter } else { (options.max_iter - 1).min(n_iter + STAGE_PASSES) };
            errors.clear();
            while n_iter < end {
                self.interrupt.check()?;
                n_iter += 1;
                let pass = self.pass(Some(&self.rows), epsilon);
                let columns = pass.sweep(&mut f, &g, Keep::Nothing).columns;
                let (targets, l) = self.level(&pass, &f, &mut g, &columns);
                level = l;
                errors.push(distance(&columns, &targets).0);
                if errors.last().is_some_and(|e| *e <= goal) {
                    break;
                }
            }
            if last {
                break errors.last().is_some_and(|e| *e <= goal);
            }
            epsilon = (epsilon * STEP).max(options.reg);
        };
        // The sums of the last g are the ones asked for; its rows exceed theirs by no more than the error.
        let plan = self.pass(None, options.reg).sweep(&mut f, &g, Keep::Plan(&mut [], mass));
        let scaled = |sums: &[f64]| sums.iter().map(|s| s * mass).collect::<Vec<f64>>();
        let (gap, error) = self.proof(&f, &g, level, mass, &scaled(&plan.rows), &scaled(&plan.columns));
        let shift = options.reg * mass.ln();
        f.iter_mut().for_each(|f| *f += shift);
        Ok(EntropicSolution {
            value: plan.value,
            duality_gap: gap,
            marginal_error: error,
            f,
            g,
            errors: scaled(&errors),
            converged,
            n_iter,
        })
    }

    fn pass<'s>(&'s self, rows: Option<&'s Side>, epsilon: f64) -> Pass<'s, 's, T> {
        Pass { problem: self.problem, rows, threads: self.threads, epsilon }
    }

    /// The best g and l for f; returns the column sums they give, and l.
    fn level(&self, pass: &Pass<'_, '_, T>, f: &[f64], g: &mut [f64], sums: &[f64]) -> (Vec<f64>, f64) {
        let epsilon = pass.epsilon;
        // Logarithms of the column sums at g = 0, and the l at which each column is full.
        let log_sums: Vec<f64> = (0..g.len())
            .map(|j| match (self.b[j] > 0.0, sums[j] > 1e-200) {
                (false, _) => f64::NEG_INFINITY,
                (true, true) => sums[j].ln() - g[j] / epsilon,
                (true, false) => pass.log_column_sum(f, g, j) - g[j] / epsilon,
            })
            .collect();
        let mut columns: Vec<usize> = (0..g.len()).filter(|&j| self.b[j] > 0.0).collect();
        let full_at = |j: usize| self.b[j].ln() - log_sums[j];
        columns.sort_by(|&i, &j| full_at(j).total_cmp(&full_at(i)));
        // From the last to fill to the first: those that are not full share what the others leave.
        let mut full: f64 = self.b.iter().sum();
        let mut l = columns.first().map_or(0.0, |&j| full_at(j));
        let mut open = f64::NEG_INFINITY;
        for &j in &columns {
            if full + (open + full_at(j)).exp() <= 1.0 {
                break;
            }
            full -= self.b[j];
            open = log_add(open, log_sums[j]);
            l = (1.0 - full).max(f64::MIN_POSITIVE).ln() - open;
        }
        let mut targets = vec![0.0; g.len()];
        for (j, g) in g.iter_mut().enumerate() {
            *g = epsilon * if self.b[j] > 0.0 { l.min(full_at(j)) } else { f64::NEG_INFINITY };
            targets[j] = if self.b[j] > 0.0 { self.b[j].min((log_sums[j] + l).exp()) } else { 0.0 };
        }
        (targets, l * epsilon)
    }

    /// Duality gap, and what the plan has too much of, with the mass that it lacks or has besides.
    fn proof(
        &self,
        f: &[f64],
        g: &[f64],
        level: f64,
        mass: f64,
        rows: &[f64],
        columns: &[f64],
    ) -> (f64, f64) {
        let side = |potentials: &[f64], level: f64, sums: &[f64], limits: &[f64]| {
            let terms = potentials.iter().zip(sums.iter().zip(limits));
            terms.fold((0.0, 0.0), |(gap, error), (p, (s, limit))| {
                let over = s - limit * mass;
                let term = if p.is_finite() { over * (p - level) } else { 0.0 };
                (gap + term, error + over.max(0.0))
            })
        };
        let (gap_rows, error_rows) = side(f, 0.0, rows, &self.rows.masses);
        let (gap_columns, error_columns) = side(g, level, columns, &self.b);
        let over = rows.iter().sum::<f64>() - mass;
        ((gap_rows + gap_columns + over * level).abs(), error_rows + error_columns + over.abs())
    }
}

/// log(eˣ + eʸ).
fn log_add(x: f64, y: f64) -> f64 {
    let (low, high) = (x.min(y), x.max(y));
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}
