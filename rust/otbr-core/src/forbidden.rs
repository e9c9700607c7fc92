//! Costs of +∞: cells that must not carry anything.
//!
//! They are solved as cells that cost more than any way around them can. If a plan without them
//! exists, the difference between it and a plan that uses one holds a cycle, on which at most
//! 2 min(n, m) cells cost at most the largest |M| each: a barrier above that is never worth its price.

use crate::error::{Error, Result};
use crate::exact::{ExactSolution, Status};
use crate::problem::MAGNITUDE;
use crate::scalar::Scalar;

/// Part of the mass that rounding of the marginals may leave to forbidden cells; it is dropped.
const ROUNDING: f64 = 1e-12;

/// A copy of a cost in which +∞ is a finite barrier.
pub struct Allowed<T> {
    /// Row-major entries.
    pub data: Vec<T>,
    cols: usize,
    barrier: f64,
}

impl<T: Scalar> Allowed<T> {
    /// From the entries of a matrix with `cols` columns; anything else that is not finite stays.
    ///
    /// # Errors
    /// A barrier that the element type cannot hold.
    pub fn new(data: &[T], cols: usize) -> Result<Self> {
        let finite = data.iter().map(|x| x.to_f64().abs()).filter(|x| x.is_finite());
        let largest = finite.fold(0.0, f64::max);
        let (shorter, unit) = (cols.min(data.len() / cols), if largest > 0.0 { largest } else { 1.0 });
        let barrier = 4.0 * shorter as f64 * unit;
        let most = (T::MAX / 4.0).min(MAGNITUDE.1);
        if barrier > most {
            let what = "the largest finite |M| beside infinite entries";
            let high = most / (4.0 * shorter as f64);
            return Err(Error::Magnitude { what, value: largest, low: 0.0, high });
        }
        let allowed = |x: &T| if x.to_f64() == f64::INFINITY { T::from_f64(barrier) } else { *x };
        Ok(Self { data: data.iter().map(allowed).collect(), cols, barrier })
    }

    /// The solution of the problem with the original costs `data`.
    ///
    /// # Errors
    /// `Error::Forbidden` where mass is left to forbidden cells.
    pub fn without_forbidden(&self, data: &[T], mut solution: ExactSolution) -> Result<ExactSolution> {
        let plan = &mut solution.plan;
        let is_forbidden =
            |i: u32, j: u32| data[i as usize * self.cols + j as usize].to_f64() == f64::INFINITY;
        let cells = plan.rows.iter().zip(&plan.cols).zip(&plan.masses);
        let mass: f64 = cells.filter(|((i, j), _)| is_forbidden(**i, **j)).map(|(_, mass)| mass).sum();
        if mass > ROUNDING * plan.masses.iter().sum::<f64>() {
            let cut_short = matches!(solution.status, Status::IterationLimit | Status::TimeLimit);
            return Err(Error::Forbidden { mass, remedy: if cut_short { RAISE } else { ALLOW } });
        }
        if mass > 0.0 {
            plan.retain(|i, j| !is_forbidden(i, j));
            solution.certificate.value -= mass * self.barrier;
            solution.certificate.marginal_error += 2.0 * mass;
        }
        Ok(solution)
    }
}

const RAISE: &str = "raise the limit that cut the solver short";
const ALLOW: &str = "make more of M finite";
