//! Entropic transport by a path of Newton steps on the dual.
//!
//! Minimises ⟨P, M⟩ + ε Σ P (log P − 1) over the couplings of (a, b) through its dual potentials:
//! P = exp((f + g − M) / ε). One pass over the costs finds f from g by a stabilised log-sum-exp,
//! adds up the column sums, which tell the error, and records the plan; on that record the dual is
//! maximised without looking at the costs ([`super::newton`]), and the next pass tells the truth.
//! A small ε is approached through larger ones (Schmitzer 2019), g extrapolated from the last two:
//! so Newton's steps start where they converge. Potentials stay finite for any ε: where a column
//! sum underflows, it is computed anew as a log-sum-exp of its own.

use super::kernel::{Format, Kernel};
use super::newton::{Budget, Dual, distance};
use super::options::{EntropicSolution, SinkhornOptions, check, check_start};
use super::pass::{Keep, Pass, Sums};
use super::side::Side;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::problem::Problem;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// The path to a small ε starts at most here, as a part of the largest cost.
const PATH_START: f64 = 0.06;

/// From one ε to the next.
const PATH_STEP: f64 = 0.5;

/// Relative L2 error of the column sums that is good enough on the way.
const PATH_ERROR: f64 = 1e-2;

/// Passes over the costs at an ε on the way, at most.
const PATH_PASSES: usize = 6;

/// A start from outside that is this far off in L1, of a mass of 1, is worse than none.
const BAD_START: f64 = 0.5;

/// Sinkhorn's iteration goes on without Newton's steps while it leaves at most this part of the error.
const GLIDE: f64 = 0.05;

/// A column that gets less than this part of its mass is found by a sum of its own.
const STARVED: f64 = 1e-8;

/// A column sum below this has lost terms to underflow.
const UNDERFLOW: f64 = 1e-200;

/// A step that makes things worse is shortened this often before Sinkhorn's is taken.
const RETREATS: usize = 3;

/// Solve an entropic problem; `start` are column potentials of an earlier solution. The plan is
/// written to `plan`, row by row, unless that is empty: the pass that proves the solution makes it too.
///
/// # Errors
/// A parameter out of range, potentials of the wrong length or not a number, room for a plan that does
/// not fit it, an interrupt.
pub fn sinkhorn<T: Scalar>(
    problem: &Problem<'_, T>,
    options: SinkhornOptions,
    start: Option<&[f64]>,
    plan: &mut [T],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<EntropicSolution> {
    let (found, expected) = (plan.len(), problem.cost.data().len());
    if found != 0 && found != expected {
        return Err(Error::Shape { name: "plan", unit: "entries", found, expected });
    }
    let per_mass = |x: &[f64]| x.iter().map(|x| x / problem.total).collect::<Vec<f64>>();
    let sides = (Side::exact(per_mass(&problem.a)), Side::exact(per_mass(&problem.b)));
    relaxed(problem, sides, options, start, plan, threads, interrupt)
}

/// Solve for exact or relaxed marginals, whose masses are relative to the problem's total; the plan is
/// written to where there is room for it.
pub(super) fn relaxed<T: Scalar>(
    problem: &Problem<'_, T>,
    (rows, columns): (Side, Side),
    options: SinkhornOptions,
    start: Option<&[f64]>,
    plan: &mut [T],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<EntropicSolution> {
    check(options, problem.cost.max_abs())?;
    let (n, m) = (problem.a.len(), problem.b.len());
    let start = start.map(|g| check_start(g, m)).transpose()?;
    let mut run = Run {
        problem,
        rows,
        columns,
        threads,
        interrupt,
        f: vec![f64::NAN; n],
        g: vec![0.0; m],
        kernel: Kernel::new((n, m)),
        format: Format::Dense,
        plan,
        proven: None,
        budget: Budget { spent: 0.0, limit: options.max_iter as f64 },
        errors: Vec::new(),
    };
    let warm = match start {
        Some(g) => run.is_good(g, options.reg),
        None => false,
    };
    if !warm {
        run.follow(options.reg)?;
    }
    run.mask();
    let converged = run.settle(options.reg, options.stop_threshold)?;
    let solution = run.finish(options.reg, converged);
    if solution.f.iter().chain(&solution.g).any(|x| x.is_nan() || *x == f64::INFINITY) {
        return Err(Error::Diverged);
    }
    Ok(solution)
}

/// The state of a solution. Masses are relative to the total.
struct Run<'p, 'a, T> {
    problem: &'p Problem<'a, T>,
    rows: Side,
    columns: Side,
    threads: &'p Threads,
    interrupt: Interrupt<'p>,
    f: Vec<f64>,
    g: Vec<f64>,
    kernel: Kernel,
    format: Format,
    /// Room for the plan, or none.
    plan: &'p mut [T],
    /// The sums of the plan of the last pass, if that wrote it.
    proven: Option<Sums>,
    budget: Budget,
    errors: Vec<f64>,
}

/// What a pass is made for.
#[derive(Clone, Copy)]
enum Look {
    /// Its sums.
    Sums,
    /// Something to iterate on.
    Record,
    /// The plan, as it seems to be the solution.
    Plan,
}

/// A point to go back to.
struct Mark {
    g: Vec<f64>,
    sums: Vec<f64>,
    value: f64,
    error: f64,
    retreats: usize,
}

impl<T: Scalar> Run<'_, '_, T> {
    /// −∞ where there is no mass.
    fn mask(&mut self) {
        for (g, &b) in self.g.iter_mut().zip(&self.columns.masses) {
            if b == 0.0 {
                *g = f64::NEG_INFINITY;
            } else if !g.is_finite() {
                *g = 0.0;
            }
        }
    }

    /// A pass that finds f; returns its sums.
    fn look(&mut self, epsilon: f64, what: Look) -> Sums {
        self.budget.spent += 1.0;
        let pass = Pass { problem: self.problem, rows: Some(&self.rows), threads: self.threads, epsilon };
        let keep = match what {
            Look::Sums => Keep::Nothing,
            Look::Record => Keep::Record(&mut self.kernel, self.format),
            Look::Plan => Keep::Plan(self.plan, self.problem.total),
        };
        let sums = pass.sweep(&mut self.f, &self.g, keep);
        self.proven = matches!(what, Look::Plan).then(|| sums.clone());
        sums
    }

    /// A recorded pass; what it finds tells how to record the next.
    fn sweep(&mut self, epsilon: f64) -> Sums {
        let sums = self.look(epsilon, Look::Record);
        self.format = self.kernel.next_format();
        sums
    }

    /// Whether a start is worth having; it becomes g if so.
    fn is_good(&mut self, start: &[f64], epsilon: f64) -> bool {
        self.g.copy_from_slice(start);
        self.mask();
        if self.budget.limit < 2.0 {
            return true;
        }
        let sums = self.sweep(epsilon);
        let targets = self.columns.targets(&self.g, epsilon);
        if distance(&sums.columns, &targets).1 <= BAD_START * targets.iter().sum::<f64>() {
            self.budget.spent -= 1.0; // The same pass is made again, to iterate from.
            return true;
        }
        self.g.fill(0.0);
        false
    }

    /// From a large ε to `reg`, leaving a good g for it.
    fn follow(&mut self, reg: f64) -> Result<()> {
        let mut epsilon = reg;
        while epsilon < PATH_START * PATH_STEP * self.problem.cost.max_abs() {
            epsilon /= PATH_STEP;
        }
        // For ε → ∞ the plan is a bᵀ and g = ε log b; for ε → 0 g is linear in ε.
        let mut slope: Vec<f64> = self.columns.masses.iter().map(|b| b.ln()).collect();
        self.g = slope.iter().map(|s| epsilon * s).collect();
        let mut before: Option<Vec<f64>> = None;
        while epsilon > reg * (1.0 + f64::EPSILON) {
            self.mask();
            self.approach(epsilon)?;
            let next = (epsilon * PATH_STEP).max(reg);
            if let Some(before) = before {
                let rise = self.g.iter().zip(&before).map(|(g, b)| b - g);
                slope = rise.map(|r| r * PATH_STEP / (epsilon - next)).collect();
            }
            before = Some(self.g.clone());
            for (g, s) in self.g.iter_mut().zip(&slope) {
                *g -= (epsilon - next) * s;
            }
            epsilon = next;
        }
        Ok(())
    }

    /// Sinkhorn's iteration for as long as it converges fast, without a record: where ε is large it is
    /// all it takes. The pass that is to reach the goal is made for `at_last`. Returns whether the goal
    /// was reached, with the errors on the way.
    fn glide(
        &mut self,
        epsilon: f64,
        at_last: Look,
        goal: impl Fn(&[f64]) -> f64,
    ) -> Result<(bool, Vec<f64>)> {
        let mut errors = Vec::new();
        let (mut last, mut look) = (f64::INFINITY, Look::Sums);
        while self.budget.spent + 2.0 <= self.budget.limit {
            self.interrupt.check()?;
            let sums = self.look(epsilon, look);
            let targets = self.columns.targets(&self.g, epsilon);
            let (error, goal) = (distance(&sums.columns, &targets).0, goal(&targets));
            errors.push(error);
            if error <= goal {
                return Ok((true, errors));
            }
            self.column_update(epsilon, &sums.columns);
            if error > GLIDE * last {
                break;
            }
            if error * (error / last) <= goal {
                look = at_last;
            }
            last = error;
        }
        Ok((false, errors))
    }

    /// Get to a modest error at an ε on the way.
    fn approach(&mut self, epsilon: f64) -> Result<()> {
        let mut mark = None;
        let modest = |targets: &[f64]| PATH_ERROR * distance(&vec![0.0; targets.len()], targets).0;
        if self.kernel.is_empty() && self.glide(epsilon, Look::Sums, modest)?.0 {
            return Ok(());
        }
        for _ in 0..PATH_PASSES {
            if self.budget.spent + 2.0 > self.budget.limit {
                return Ok(());
            }
            let sums = self.sweep(epsilon);
            let targets = self.columns.targets(&self.g, epsilon);
            let goal = modest(&targets);
            let error = distance(&sums.columns, &targets).0;
            if error <= goal || self.advance(epsilon, sums, goal, &mut mark)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Iterate at the final ε; whether the error got down to that part of the mass. The plan of the
    /// last f and g has exact row sums.
    fn settle(&mut self, epsilon: f64, part: f64) -> Result<bool> {
        let (mut mark, mut reached) = (None, false);
        let goal = |targets: &[f64]| part * targets.iter().sum::<f64>();
        if self.kernel.is_empty() {
            let (done, errors) = self.glide(epsilon, Look::Plan, goal)?;
            self.errors = errors;
            if done {
                return Ok(true);
            }
        }
        loop {
            self.interrupt.check()?;
            let sums = self.look(epsilon, if reached { Look::Plan } else { Look::Record });
            let targets = self.columns.targets(&self.g, epsilon);
            let (error, goal) = (distance(&sums.columns, &targets).0, goal(&targets));
            self.errors.push(error);
            if error <= goal {
                return Ok(true);
            }
            if self.budget.spent + 1.0 > self.budget.limit {
                return Ok(false);
            }
            if std::mem::take(&mut reached) {
                self.errors.pop(); // The same pass is made again, recorded.
                continue;
            }
            self.format = self.kernel.next_format();
            reached = self.advance(epsilon, sums, 0.5 * goal, &mut mark)?;
        }
    }

    /// A better g after a sweep; whether the record says that the goal is reached.
    fn advance(&mut self, epsilon: f64, sums: Sums, goal: f64, mark: &mut Option<Mark>) -> Result<bool> {
        let targets = self.columns.targets(&self.g, epsilon);
        let mass = if self.rows.is_exact() { 0.0 } else { sums.rows.iter().sum() };
        let value = self.rows.dual(&self.f, &sums.rows, epsilon) - mass
            + self.columns.dual(&self.g, &targets, epsilon);
        let error = distance(&sums.columns, &targets).0;
        if let Some(last) = mark.as_mut().filter(|last| value < last.value && error > last.error) {
            last.retreats += 1;
            if last.retreats <= RETREATS {
                for (g, old) in self.g.iter_mut().zip(&last.g) {
                    *g = if old.is_finite() { old + 0.25 * (*g - old) } else { *old };
                }
            } else {
                self.g.clone_from(&last.g);
                let sums = std::mem::take(&mut last.sums);
                *mark = None;
                self.column_update(epsilon, &sums);
            }
            return Ok(false);
        }
        *mark = Some(Mark { g: self.g.clone(), sums: sums.columns.clone(), value, error, retreats: 0 });
        let starved = |(c, b): (&f64, &f64)| *c < STARVED * *b;
        if sums.columns.iter().zip(&targets).any(starved) {
            self.column_update(epsilon, &sums.columns);
            return Ok(false);
        }

        let dual = Dual {
            kernel: &self.kernel,
            rows: &sums.rows,
            targets: &targets,
            slack: (self.rows.slack(epsilon), self.columns.slack(epsilon)),
            threads: self.threads,
            interrupt: self.interrupt,
        };
        let ascent = dual.ascend(sums.columns.clone(), goal, &mut self.budget)?;
        if ascent.moved {
            self.g.iter_mut().zip(ascent.gamma).for_each(|(g, x)| *g += epsilon * x);
        } else {
            self.column_update(epsilon, &sums.columns);
        }
        Ok(ascent.reached)
    }

    /// Sinkhorn's step: a g with which the column sums come out as they should.
    fn column_update(&mut self, epsilon: f64, sums: &[f64]) {
        let pass = Pass { problem: self.problem, rows: Some(&self.rows), threads: self.threads, epsilon };
        for (j, &sum) in sums.iter().enumerate() {
            if self.columns.masses[j] > 0.0 {
                let log_sum =
                    if sum < UNDERFLOW { pass.log_column_sum(&self.f, &self.g, j) } else { sum.ln() };
                self.g[j] = epsilon * self.columns.solve(j, log_sum - self.g[j] / epsilon, epsilon).0;
            }
        }
    }

    fn finish(mut self, epsilon: f64, converged: bool) -> EntropicSolution {
        let n_iter = self.budget.spent.ceil() as u64;
        let plan = match self.proven.take() {
            Some(sums) => sums,
            None => self.look(epsilon, Look::Plan),
        };
        let Self { problem, rows, columns, mut f, g, errors, .. } = self;
        let total = problem.total;
        let scaled = |sums: Vec<f64>| sums.iter().map(|s| s * total).collect::<Vec<f64>>();
        let targets = |side: &Side, potentials: &[f64], given: &[f64]| {
            if side.is_exact() { given.to_vec() } else { scaled(side.targets(potentials, epsilon)) }
        };
        let row_targets = targets(&rows, &f, &problem.a);
        let column_targets = targets(&columns, &g, &problem.b);
        let shift = epsilon * total.ln();
        f.iter_mut().for_each(|f| *f += shift);
        let (gap_rows, error_rows) = rows.residual(&f, &scaled(plan.rows), &row_targets);
        let (gap_columns, error_columns) = columns.residual(&g, &scaled(plan.columns), &column_targets);
        EntropicSolution {
            value: plan.value,
            duality_gap: (gap_rows + gap_columns).abs(),
            marginal_error: error_rows + error_columns,
            f,
            g,
            errors: scaled(errors),
            converged,
            n_iter,
        }
    }
}
