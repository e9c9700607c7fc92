//! Proof of optimality, computed from the plan, the potentials and the cost alone.

use crate::double_double::Dd;
use crate::geometry::Geometry;
use crate::plan::SparsePlan;
use crate::pricing::{Cell, Potentials};
use crate::problem::Transport;
use crate::simd::dispatch;

/// What a plan and potentials prove.
///
/// For reduced costs r = M − u − v and any plan Q with the marginals of P,
/// ⟨P − Q, M⟩ = ⟨P, r⟩ − ⟨Q, r⟩ ≤ ⟨P, r⟩ + max(0, −min r) · mass: the duality gap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certificate {
    /// ⟨P, M⟩.
    pub value: f64,
    /// No plan with the marginals of P costs less than `value − duality_gap`.
    pub duality_gap: f64,
    /// Least reduced cost over all cells; optimal means not negative.
    pub worst_reduced_cost: f64,
    /// L1 distance of the plan's marginals from those asked for.
    pub marginal_error: f64,
    /// Total mass.
    mass: f64,
    /// Magnitude of costs and potentials, the scale of rounding.
    scale: f64,
}

impl Certificate {
    /// Optimal to a relative 1e-9; for values near zero, to 1e-20 of the scale of the costs, which
    /// is what twice the precision of `f64` can tell.
    pub fn proves_optimal(&self) -> bool {
        let floor = 1e-20 * self.scale * self.mass;
        self.duality_gap <= (1e-9 * self.value.abs()).max(floor) && self.marginal_error <= 1e-12 * self.mass
    }
}

/// From a plan, potentials and the least reduced cost over all cells that they give.
pub(crate) fn certify<G: Geometry>(
    problem: &Transport<G>,
    plan: &SparsePlan,
    potentials: Potentials<'_>,
    least: f64,
) -> Certificate {
    let (mut value, mut slack) = (Dd::ZERO, Dd::ZERO);
    // All costs first: they are far apart in memory, and sums wait for the one before.
    let costs: Vec<f64> = plan.entries().map(|(row, col, _)| problem.cost.at(row, col)).collect();
    // Where the machine has no fused multiplication, products take much longer.
    dispatch(
        #[inline(always)]
        || {
            for ((row, col, mass), &cost) in plan.entries().zip(&costs) {
                value += Dd::product(cost, mass);
                slack += potentials.reduced_cost(Cell { row, col, cost }).times(mass);
            }
        },
    );
    let gap = slack + Dd::product(problem.total, (-least).max(0.0));
    Certificate {
        value: value.to_f64(),
        duality_gap: gap.to_f64().max(0.0),
        worst_reduced_cost: least,
        marginal_error: plan.marginal_error(&problem.a, &problem.b),
        mass: problem.total,
        scale: potentials.magnitude(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::Halves;
    use crate::problem::{MatrixView, Problem};
    use crate::threads::Threads;

    const COST: [f64; 4] = [0.0, 1.0, 1.0, 0.0];

    fn check(entries: Vec<(u32, u32, f64)>, u: [f64; 2], v: [f64; 2]) -> Certificate {
        let threads = Threads::one();
        let view = MatrixView::new("M", &COST, 2, 2, &threads).unwrap();
        let problem = Problem::new(view, &[0.5, 0.5], &[0.5, 0.5]).unwrap();
        let plan = SparsePlan::from_entries((2, 2), entries);
        let halves = |hi| Halves { hi, lo: &[0.0; 2] };
        let potentials = Potentials::new(halves(&u), halves(&v), problem.cost.max_abs());
        let reduced = |k: usize| COST[k] - u[k / 2] - v[k % 2];
        let least = (0..4).map(reduced).fold(f64::INFINITY, f64::min);
        certify(&problem, &plan, potentials, least)
    }

    #[test]
    fn an_optimal_plan_with_its_potentials_is_proven() {
        let certificate = check(vec![(0, 0, 0.5), (1, 1, 0.5)], [0.0, 0.0], [0.0, 0.0]);
        assert!(certificate.proves_optimal());
        assert_eq!((certificate.value, certificate.duality_gap), (0.0, 0.0));
    }

    #[test]
    fn a_plan_that_costs_more_is_not() {
        let certificate = check(vec![(0, 1, 0.5), (1, 0, 0.5)], [0.0, 0.0], [0.0, 0.0]);
        assert!(!certificate.proves_optimal());
        assert_eq!(certificate.duality_gap, 1.0);
    }

    #[test]
    fn potentials_that_are_not_feasible_prove_nothing() {
        let certificate = check(vec![(0, 0, 0.5), (1, 1, 0.5)], [0.0, 0.25], [0.0, -0.25]);
        assert!(certificate.proves_optimal(), "these are feasible, and tight on the plan");
        let certificate = check(vec![(0, 0, 0.5), (1, 1, 0.5)], [2.0, 0.0], [-2.0, 0.0]);
        assert_eq!(certificate.worst_reduced_cost, -1.0);
        assert!(!certificate.proves_optimal());
    }

    #[test]
    fn wrong_marginals_prove_nothing() {
        let certificate = check(vec![(0, 0, 0.5), (1, 1, 0.5 - 1e-9)], [0.0, 0.0], [0.0, 0.0]);
        assert!(!certificate.proves_optimal());
    }
}
