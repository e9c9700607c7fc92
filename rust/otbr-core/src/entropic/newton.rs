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
        let mut here = Point {
            gamma: vec![0.0; m],
            v: vec![1.0; m],
            curvature: self.rows.iter().map(|r| r / (1.0 + self.slack.0)).collect(),
            columns,
            targets: self.targets.to_vec(),
            value: 0.0,
        };
        let (mut reached, mut moved) = (false, false);
        for step in 0..STEPS {
            let (l2, l1) = here.error();
            let noise = RECORD_NOISE * distance(&vec![0.0; m], &here.targets).0;
            let goal = goal.max(noise);
            reached = step > 0 && l2 <= goal;
            if reached || !budget.allows(2.0 * share) {
                break;
            }
            let sinkhorn = self.sinkhorn(&here);
            if l1 > FAR * mass && step < FAR_STEPS {
                let Some(next) = self.step(&here, &sinkhorn, 1.0, budget)? else { break };
                (here, moved) = (next, true);
                continue;
            }
            let reduction = (0.3 * goal / l2).max(0.1_f64.min(l1 / mass)).max(1e-4);
            let reduction = if l2 <= 30.0 * noise { 1e-3 } else { reduction };
            let newton = self.direction(&here, sinkhorn, reduction, budget)?;
            if l2 <= 30.0 * noise && step == 0 {
                // The record could not tell whether this helps; the next pass over the costs will.
                return Ok(Ascent { gamma: newton, reached: false, moved: true });
            }
            match self.search(&here, &newton, l2, budget)? {
                Some(next) => (here, moved) = (next, true),
                None => break,
            }
        }
        Ok(Ascent { gamma: here.gamma, reached, moved })
    }

    /// Sinkhorn's step: log(b / c) / (1 + s), less its mean where it does not matter; 0 without mass.
    fn sinkhorn(&self, at: &Point) -> Vec<f64> {
        let step = |(c, b): (&f64, &f64)| {
            if *b > 0.0 && *c > 0.0 { (b / c).ln() / (1.0 + self.slack.1) } else { 0.0 }
        };
        let mut x: Vec<f64> = at.columns.iter().zip(&at.targets).map(step).collect();
        self.centre(&mut x, at);
        x
    }

    /// Take off the mean, where there is mass, if the plan does not depend on it.
    fn centre(&self, x: &mut [f64], at: &Point) {
        if self.slack != (0.0, 0.0) {
            return;
        }
        let mean = dot(x, &at.columns) / at.columns.iter().sum::<f64>();
        for (x, b) in x.iter_mut().zip(&at.targets) {
            *x = if *b > 0.0 { *x - mean } else { 0.0 };
        }
    }

    /// The point `length` times x away; `None` out of trust.
    fn step(&self, here: &Point, x: &[f64], length: f64, budget: &mut Budget) -> Result<Option<Point>> {
        self.interrupt.check()?;
        let gamma: Vec<f64> = here.gamma.iter().zip(x).map(|(g, x)| g + length * x).collect();
        if spread(&gamma) > TRUST {
            return Ok(None);
        }
        budget.spent += self.kernel.share();
        let v: Vec<f64> = gamma.iter().map(|g| g.exp()).collect();
        let power = 1.0 / (1.0 + self.slack.0);
        let scaled = |i: usize, t: f64| if t > 0.0 { self.rows[i] * t.powf(-power) } else { 0.0 };
        let (t, z) = self.kernel.fused(&v, scaled, self.threads);
        let curvature = |(i, &t): (usize, &f64)| if t > 0.0 { power * scaled(i, t) / t } else { 0.0 };
        let columns = z.iter().zip(&v).map(|(z, v)| z * v).collect();
        let targets = self.targets.iter().zip(&gamma).map(|(b, g)| b * (-self.slack.1 * g).exp()).collect();
        let curvature = t.iter().enumerate().map(curvature).collect();
        let value = self.value(&gamma, &t);
        Ok(Some(Point { gamma, v, curvature, columns, targets, value }))
    }

    /// How much higher the dual is than at the record, in units of ε.
    fn value(&self, gamma: &[f64], t: &[f64]) -> f64 {
        // Both terms have a logarithm as their limit for exact marginals.
        let gain = |slack: f64, x: f64| if slack == 0.0 { x } else { (slack * x).exp_m1() / slack };
        let power = self.slack.0 / (1.0 + self.slack.0);
        let rows = t.iter().zip(self.rows).filter(|(t, _)| **t > 0.0).map(|(t, r)| r * gain(power, t.ln()));
        let columns = gamma.iter().zip(self.targets).map(|(g, b)| b * gain(self.slack.1, -g));
        -rows.sum::<f64>() - columns.sum::<f64>()
    }

    /// x with S x ≈ diag(c + s b) rhs, to a relative `reduction` of the residual.
    fn direction(&self, at: &Point, rhs: Vec<f64>, reduction: f64, budget: &mut Budget) -> Result<Vec<f64>> {
        let diagonal = self.diagonal(at);
        let m = diagonal.len();
        let mut x = vec![0.0; m];
        let mut residual: Vec<f64> = rhs.iter().zip(&diagonal).map(|(r, d)| r * d).collect();
        let mut direction = rhs;
        let mut norm = dot(&residual, &direction);
        let enough = norm * reduction * reduction;
        let mut products = 0;
        while norm > enough && products < PRODUCTS && budget.allows(2.0 * self.kernel.share()) {
            self.interrupt.check()?;
            budget.spent += self.kernel.share();
            products += 1;
            let image = self.product(at, &diagonal, &direction);
            let curvature = dot(&direction, &image);
            if curvature <= 0.0 {
                break;
            }
            let length = norm / curvature;
            for j in 0..m {
                x[j] += length * direction[j];
                residual[j] -= length * image[j];
            }
            let scaled = |j: usize| if diagonal[j] > 0.0 { residual[j] / diagonal[j] } else { 0.0 };
            let next: f64 = (0..m).map(|j| residual[j] * scaled(j)).sum();
            for (j, d) in direction.iter_mut().enumerate() {
                *d = scaled(j) + next / norm * *d;
            }
            norm = next;
        }
        self.centre(&mut x, at);
        Ok(x)
    }

    /// c + s b.
    fn diagonal(&self, at: &Point) -> Vec<f64> {
        at.columns.iter().zip(&at.targets).map(|(c, b)| c + self.slack.1 * b).collect()
    }

    /// S x.
    fn product(&self, at: &Point, diagonal: &[f64], x: &[f64]) -> Vec<f64> {
        let y: Vec<f64> = x.iter().zip(&at.v).map(|(x, v)| x * v).collect();
        let (_, z) = self.kernel.fused(&y, |i, t| at.curvature[i] * t, self.threads);
        (0..x.len()).map(|j| diagonal[j] * x[j] - at.v[j] * z[j]).collect()
    }

    /// Go along x until the dual rises enough or the error falls; `None` if it does neither.
    fn search(&self, here: &Point, x: &[f64], error: f64, budget: &mut Budget) -> Result<Option<Point>> {
        let slope: f64 = (0..x.len()).map(|j| (here.targets[j] - here.columns[j]) * x[j]).sum();
        let mut length = 1.0;
        while length > 1e-4 && budget.allows(self.kernel.share()) {
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

/// Largest minus least, 0 being one of them.
fn spread(x: &[f64]) -> f64 {
    let (low, high) = x.iter().fold((0.0_f64, 0.0_f64), |(l, h), &x| (l.min(x), h.max(x)));
    high - low
}
