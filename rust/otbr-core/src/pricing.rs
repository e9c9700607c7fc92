//! Reduced costs of a dense matrix: one pass over rows, in `f64` for the bulk and in twice the
//! precision where `f64` cannot tell the sign.

use std::ops::Range;

use crate::double_double::Dd;
use crate::problem::MatrixView;
use crate::scalar::Scalar;

/// What one pass needs to know.
pub(crate) struct Pricing<'a, T> {
    pub cost: &'a MatrixView<'a, T>,
    /// Rounded potentials of rows and columns.
    pub u: &'a [f64],
    pub v: &'a [f64],
    /// Largest |v|.
    pub v_max: f64,
}

/// A cell and its cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub row: usize,
    pub col: usize,
    pub cost: f64,
}

/// A cell and its reduced cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub row: usize,
    pub col: usize,
    pub reduced_cost: Dd,
}

impl<'a, T: Scalar> Pricing<'a, T> {
    pub fn new(cost: &'a MatrixView<'a, T>, u: &'a [f64], v: &'a [f64]) -> Self {
        let v_max = v.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        Self { cost, u, v, v_max }
    }

    /// Bound on |computed − true| reduced cost in a row: three roundings of numbers no larger
    /// than the sum of magnitudes, and the rounding of the potentials themselves.
    fn rounding(&self, row: usize) -> f64 {
        4.0 * f64::EPSILON * (self.cost.max_abs() + self.u[row].abs() + self.v_max)
    }

    /// In each of these rows the cell of least reduced cost, if by `f64` alone it is surely negative.
    pub fn surely_negative(&self, rows: Range<usize>, arch: pulp::Arch, found: &mut Vec<Cell>) {
        for row in rows {
            let costs = self.cost.row(row);
            let least = least_difference(costs, self.v, arch);
            if least - self.u[row] < -self.rounding(row) {
                let is_least = |(c, v): (&T, &f64)| c.to_f64() - v == least;
                if let Some(col) = costs.iter().zip(self.v).position(is_least) {
                    found.push(Cell { row, col, cost: costs[col].to_f64() });
                }
            }
        }
    }

    /// The cell of least reduced cost in these rows, exactly, among those that may be below
    /// `threshold`; ties go to the first.
    pub fn least_exact(
        &self,
        rows: Range<usize>,
        threshold: f64,
        arch: pulp::Arch,
        exact: impl Fn(f64, usize, usize) -> Dd,
    ) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for i in rows {
            let limit = best.map_or(threshold, |b| b.reduced_cost.hi) + self.rounding(i);
            if least_difference(self.cost.row(i), self.v, arch) - self.u[i] > limit {
                continue;
            }
            for (j, (c, v)) in self.cost.row(i).iter().zip(self.v).enumerate() {
                if c.to_f64() - v - self.u[i] > limit {
                    continue;
                }
                let reduced_cost = exact(c.to_f64(), i, j);
                let bound = best.map_or(Dd::from(threshold), |b| b.reduced_cost);
                if (reduced_cost - bound).to_f64() < 0.0 {
                    best = Some(Candidate { row: i, col: j, reduced_cost });
                }
            }
        }
        best
    }
}

/// min over j of costs[j] − v[j].
fn least_difference<T: Scalar>(costs: &[T], v: &[f64], arch: pulp::Arch) -> f64 {
    const LANES: usize = 16;
    arch.dispatch(|| {
        let mut least = [f64::INFINITY; LANES];
        let (head, tail) = costs.as_chunks::<LANES>();
        let (v_head, v_tail) = v.as_chunks::<LANES>();
        for (c, v) in head.iter().zip(v_head) {
            for k in 0..LANES {
                let value = c[k].to_f64() - v[k];
                least[k] = if value < least[k] { value } else { least[k] };
            }
        }
        for (c, v) in tail.iter().zip(v_tail) {
            least[0] = least[0].min(c.to_f64() - v);
        }
        least.into_iter().fold(f64::INFINITY, f64::min)
    })
}
