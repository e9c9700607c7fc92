//! The dual maximised on a recorded plan: Sinkhorn steps far away, Newton steps nearby.
//!
//! With the rows always solved for, the dual is a concave function of γ, the logarithms of the
//! columns' scalings. Its gradient is b − c, its Hessian −S with S = diag(c) − Pᵀ diag(1/a) P.
//! S x = c log(b / c) is solved by conjugate gradients preconditioned by diag(c): their first
//! direction is Sinkhorn's step, the further ones make it Newton's. A product with S reads the
//! record once, as a Sinkhorn iteration does.
//!
//! Relaxed marginals change little: with s = ε / ρ on each side, a row's scaling is t^(−1/(1+s))
//! instead of 1/t for t = (Rv)ᵢ, b becomes b exp(−sγ), and S = diag(c + s b) − Pᵀ diag(1/r) P / (1+s).

use super::kernel::Kernel;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::threads::Threads;

/// Above this L1 error Sinkhorn's step is taken, at most so many times.
const FAR: f64 = 0.3;
const FAR_STEPS: usize = 4;

/// Newton steps on one record, at most.
const STEPS: usize = 30;

/// Products for one Newton step, at most.
const PRODUCTS: usize = 500;

/// No column's scaling moves by more than this against another's (logarithms): entries that the
/// record dropped or rounded to 0 could matter then.
const TRUST: f64 = 16.0;

/// Nor does the mass that relaxed marginals ask for change by more (logarithms).
const RELAXED_TRUST: f64 = 3.0;

/// A curvature below this part of the diagonal's is none.
const FLAT: f64 = 1e-14;

/// Column sums from a record are good to about this, relatively.
const RECORD_NOISE: f64 = 2e-7;

/// Passes over the matrix that have been made and may be made.
pub(super) struct Budget {
    pub spent: f64,
    pub limit: f64,
}

impl Budget {
    /// Whether there is room for as much and for one whole pass after it.
    fn allows(&self, share: f64) -> bool {
        self.spent + share + 1.0 <= self.limit
    }
}

/// A problem on a record.
pub(super) struct Dual<'k> {
    pub kernel: &'k Kernel,
    /// Row sums of the recorded plan.
    pub rows: &'k [f64],
    /// What the columns should sum to, at the potentials of the record.
    pub targets: &'k [f64],
    /// ε / ρ of the rows and of the columns; 0 where they are exact.
    pub slack: (f64, f64),
    pub threads: &'k Threads,
    pub interrupt: Interrupt<'k>,
}

/// Where an ascent ended.
pub(super) struct Ascent {
    /// Logarithms of the columns' scalings.
    pub gamma: Vec<f64>,
    /// Whether the goal is reached, as far as the record can tell.
    pub reached: bool,
    /// Whether there was any step.
    pub moved: bool,
}

/// A point of the dual.
struct Point {
    gamma: Vec<f64>,
    v: Vec<f64>,
    /// The weights of a product with S: aᵢ / (Rv)ᵢ² where rows are exact.
    curvature: Vec<f64>,
    columns: Vec<f64>,
    /// The column sums in S: the record's own, so that its rounding does not show in S 1.
    recorded: Vec<f64>,
    targets: Vec<f64>,
    value: f64,
}

/// L2 and L1 distance.
pub(super) fn distance(c: &[f64], b: &[f64]) -> (f64, f64) {
    let terms = c.iter().zip(b).map(|(c, b)| (c - b).abs());
    let (squares, sum) = terms.fold((0.0, 0.0), |(q, s), d| (q + d * d, s + d));
    (squares.sqrt(), sum)
}

impl Point {
    /// L2 and L1 error of the columns.
    fn error(&self) -> (f64, f64) {
        distance(&self.columns, &self.targets)
    }
}

impl Dual<'_> {
    /// Improve on the recorded plan, whose true column sums are given, until the L2 error of the
    /// columns is at most `goal` as far as the record can tell.
    pub fn ascend(&self, columns: Vec<f64>, goal: f64, budget: &mut Budget) -> Result<Ascent> {
        let (m, share) = (self.targets.len(), self.kernel.share());
        let (_, mass) = distance(&vec![0.0; m], self.targets);
        let mut here = self.start(columns, budget)?;
        let (mut reached, mut moved) = (false, false);
        for step in 0..STEPS {
            let (l2, l1) = here.error();
            let noise = RECORD_NOISE * distance(&vec![0.0; m], &here.targets).0;
            let goal = goal.max(noise);

            reached = step > 0 && l2 <= goal;
            let (low, high) = self.range(&here.gamma);
            if reached || high - low > TRUST - 1.0 || !budget.allows(2.0 * share) {
                break;
            }
            if l1 > FAR * mass && step < FAR_STEPS {
                let Some(next) = self.step(&here, &self.sinkhorn(&here), 1.0, budget)? else { break };
                (here, moved) = (next, true);
                continue;
            }
            let reduction = (0.3 * goal / l2).max(0.1_f64.min(l1 / mass)).max(1e-4);
            let reduction = if l2 <= 30.0 * noise { 1e-3 } else { reduction };
            let newton = self.direction(&here, reduction, budget)?;
            if l2 <= 30.0 * noise && step == 0 {
                // The record could not tell whether this helps; the next pass over the costs will.
                let length = self.longest(&here, &newton);
                let gamma: Vec<f64> = newton.iter().map(|x| length * x).collect();
                let moved = gamma.iter().any(|x| *x != 0.0);
                return Ok(Ascent { gamma, reached: false, moved });
            }
            match self.search(&here, &newton, l2, budget)? {
                Some(next) => (here, moved) = (next, true),
                None => break,
            }
        }
        Ok(Ascent { gamma: here.gamma, reached, moved })
    }

    /// The recorded plan, with its true column sums.
    fn start(&self, columns: Vec<f64>, budget: &mut Budget) -> Result<Point> {
        let zeros = vec![0.0; columns.len()];
        if self.slack == (0.0, 0.0) {
            return Ok(Point {
                v: vec![1.0; columns.len()],
                gamma: zeros,
                curvature: self.rows.to_vec(),
                recorded: columns.clone(),
                columns,
                targets: self.targets.to_vec(),
                value: 0.0,
            });
        }
        // With relaxed marginals S 1 is not 0 but it may be small, and matters.
        Ok(Point { columns, ..self.at(zeros, budget)? })
    }

    /// Sinkhorn's step: log(b / c) / (1 + s); 0 without mass.
    fn sinkhorn(&self, at: &Point) -> Vec<f64> {
        let step = |(c, b): (&f64, &f64)| {
            if *b > 0.0 && *c > 0.0 { (b / c).ln() / (1.0 + self.slack.1) } else { 0.0 }
        };
        at.columns.iter().zip(&at.targets).map(step).collect()
    }

    /// What S x is to be: Sinkhorn's step times diag(c + s b), which is b − c to first order, shifted to
    /// have the sum of b − c.
    fn gradient(&self, at: &Point, diagonal: &[f64]) -> Vec<f64> {
        let x = self.sinkhorn(at);
        let gap: f64 = at.targets.iter().zip(&at.columns).map(|(b, c)| b - c).sum();
        let shift = (gap - dot(&x, diagonal)) / diagonal.iter().sum::<f64>();
        x.iter().zip(diagonal).map(|(x, d)| (x + shift) * d).collect()
    }

    /// The point `length` times x away; `None` out of trust.
    fn step(&self, here: &Point, x: &[f64], length: f64, budget: &mut Budget) -> Result<Option<Point>> {
        let gamma: Vec<f64> = here.gamma.iter().zip(x).map(|(g, x)| g + length * x).collect();
        let (low, high) = self.range(&gamma);
        let relaxed = self.slack.0.max(self.slack.1) * low.abs().max(high.abs());
        if high - low > TRUST || relaxed > RELAXED_TRUST {
            return Ok(None);
        }
        self.at(gamma, budget).map(Some)
    }

    /// The point of a γ.
    fn at(&self, gamma: Vec<f64>, budget: &mut Budget) -> Result<Point> {
        self.interrupt.check()?;
        budget.spent += self.kernel.share();
        // A shift of γ as a whole is kept out of the exponentials: rows and columns share it.
        let (low, high) = self.range(&gamma);
        let shift = f64::midpoint(low, high);
        let scaling = |(g, b): (&f64, &f64)| if *b > 0.0 { (g - shift).exp() } else { 0.0 };
        let v: Vec<f64> = gamma.iter().zip(self.targets).map(scaling).collect();
        let power = 1.0 / (1.0 + self.slack.0);
        let left = ((1.0 - power) * shift).exp();
        let scaled = |i: usize, t: f64| if t > 0.0 { self.rows[i] * t.powf(-power) * left } else { 0.0 };
        let (t, z) = self.kernel.fused(&v, scaled, self.threads);
        let curvature = |(i, &t): (usize, &f64)| if t > 0.0 { power * scaled(i, t) / t } else { 0.0 };
        let columns: Vec<f64> = z.iter().zip(&v).map(|(z, v)| z * v).collect();
        let targets = self.targets.iter().zip(&gamma).map(|(b, g)| b * (-self.slack.1 * g).exp()).collect();
        let curvature = t.iter().enumerate().map(curvature).collect();
        let log_t: Vec<f64> = t.iter().map(|t| t.ln() + shift).collect();
        let value = self.value(&gamma, &log_t);
        Ok(Point { gamma, v, curvature, recorded: columns.clone(), columns, targets, value })
    }

    /// Least and largest, where there is mass.
    fn range(&self, gamma: &[f64]) -> (f64, f64) {
        let held = gamma.iter().zip(self.targets).filter(|(_, b)| **b > 0.0);
        held.fold((f64::MAX, f64::MIN), |(low, high), (&x, _)| (low.min(x), high.max(x)))
    }

    /// How much higher the dual is than at the record, in units of ε.
    fn value(&self, gamma: &[f64], log_t: &[f64]) -> f64 {
        // Both terms have a logarithm as their limit for exact marginals.
        let gain = |slack: f64, x: f64| if slack == 0.0 { x } else { (slack * x).exp_m1() / slack };
        let power = self.slack.0 / (1.0 + self.slack.0);
        let rows = log_t.iter().zip(self.rows).filter(|(_, r)| **r > 0.0).map(|(t, r)| r * gain(power, *t));
        let columns = gamma.iter().zip(self.targets).map(|(g, b)| b * gain(self.slack.1, -g));
        -rows.sum::<f64>() - columns.sum::<f64>()
    }

    /// x with S x ≈ the gradient, to a relative `reduction` of the residual.
    fn direction(&self, at: &Point, reduction: f64, budget: &mut Budget) -> Result<Vec<f64>> {
        let diagonal = self.diagonal(at);
        let m = diagonal.len();
        let mut x = vec![0.0; m];
        let mut residual = self.gradient(at, &diagonal);
        let flat = self.flat(at);
        let flatness: f64 = flat.iter().sum();
        let mut direction = precondition(&residual, &diagonal, flatness);
        let mut norm = dot(&residual, &direction);
        let enough = norm * reduction * reduction;
        let mut products = 0;
        while norm > enough && products < PRODUCTS && budget.allows(2.0 * self.kernel.share()) {
            self.interrupt.check()?;
            budget.spent += self.kernel.share();
            products += 1;
            let image = self.product(at, &diagonal, &flat, &direction);
            let curvature = dot(&direction, &image);
            // S is at most the diagonal; what is left of it here is rounding.
            let most: f64 = direction.iter().zip(&diagonal).map(|(d, s)| d * d * s).sum();
            if curvature <= FLAT * most {
                break;
            }
            let length = norm / curvature;
            for j in 0..m {
                x[j] += length * direction[j];
                residual[j] -= length * image[j];
            }
            let ahead = precondition(&residual, &diagonal, flatness);
            let next = dot(&residual, &ahead);
            direction.iter_mut().zip(ahead).for_each(|(d, a)| *d = a + next / norm * *d);
            norm = next;
        }

        Ok(x)
    }

    /// S 1: small near exact marginals and 0 for them; a shift of all columns is the one direction in
    /// which the dual is nearly flat, and what it does is known.
    fn flat(&self, at: &Point) -> Vec<f64> {
        let share = self.slack.0 / (1.0 + self.slack.0);
        at.recorded.iter().zip(&at.targets).map(|(c, b)| share * c + self.slack.1 * b).collect()
    }

    /// c + s b.
    fn diagonal(&self, at: &Point) -> Vec<f64> {
        at.recorded.iter().zip(&at.targets).map(|(c, b)| c + self.slack.1 * b).collect()
    }

    /// S x; the part of x that is the same for all columns does not go through the record.
    fn product(&self, at: &Point, diagonal: &[f64], flat: &[f64], x: &[f64]) -> Vec<f64> {
        let mean = dot(x, &at.recorded) / at.recorded.iter().sum::<f64>();
        let size = x.iter().fold(f64::MIN_POSITIVE, |s: f64, x| s.max((x - mean).abs()));
        let y: Vec<f64> = x.iter().zip(&at.v).map(|(x, v)| (x - mean) / size * v).collect();
        let (_, z) = self.kernel.fused(&y, |i, t| at.curvature[i] * t, self.threads);
        let row = |j: usize| diagonal[j] * (x[j] - mean) - at.v[j] * z[j] * size + mean * flat[j];
        (0..x.len()).map(row).collect()
    }

    /// How far along x the record can be trusted, at most 1. Where it falls apart into pieces, they are
    /// moved as far as that; the next one tells what connects them then.
    fn longest(&self, here: &Point, x: &[f64]) -> f64 {
        let ((low, high), (least, most)) = (self.range(&here.gamma), self.range(x));
        ((TRUST - (high - low)) / (most - least).max(f64::MIN_POSITIVE)).min(1.0)
    }

    /// Go along x until the dual rises enough or the error falls; `None` if it does neither.
    fn search(&self, here: &Point, x: &[f64], error: f64, budget: &mut Budget) -> Result<Option<Point>> {
        let slope: f64 = (0..x.len()).map(|j| (here.targets[j] - here.columns[j]) * x[j]).sum();
        let longest = self.longest(here, x);
        let mut length = longest;
        while length > 1e-4 * longest && budget.allows(self.kernel.share()) {
            if let Some(next) = self.step(here, x, length, budget)? {
                let rises = next.value >= here.value + 1e-4 * length * slope;
                if rises || next.error().0 <= 0.5 * error {
                    return Ok(Some(next));
                }
            }
            length *= 0.5;
        }
        Ok(None)
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// diag⁻¹ r and a shift of all: what solves S 1 for the sum of r, or, where S 1 = 0, what takes off the
/// mean.
fn precondition(r: &[f64], diagonal: &[f64], curvature: f64) -> Vec<f64> {
    let sum: f64 = r.iter().sum();
    let shift = if curvature > 0.0 { sum / curvature } else { -sum / diagonal.iter().sum::<f64>() };
    r.iter().zip(diagonal).map(|(r, d)| if *d > 0.0 { r / d + shift } else { 0.0 }).collect()
}
