//! Marginals as integers, perturbed so that no two partial sums agree.
//!
//! Flows in integers are exact, and without ties no pivot is degenerate: each one lowers the cost,
//! so the simplex cannot cycle. Every mass is scaled by one power of two to an integer and moved
//! up by `SHIFT` bits; below them goes the perturbation, m + 1 for a row and 1 for a column (the
//! last column takes what balances the two). A set of nodes is balanced only if it is empty or all
//! of them, so no tree arc ever carries a zero flow. The perturbation of any arc's flow is below
//! half a unit, so rounding takes it away again exactly.

use crate::problem::Transport;

/// Bits of an integer total: leaves room in `i128` for sums of flows.
const TOTAL_BITS: i32 = 120;

/// Integer supplies and demands.
pub(super) struct IntegerMasses {
    pub supply: Vec<i128>,
    pub demand: Vec<i128>,
    /// Bits that hold the perturbation.
    shift: u32,
    /// A unit above the perturbation is worth 2^`exponent`.
    exponent: i32,
}

impl IntegerMasses {
    pub fn new<G>(problem: &Transport<G>) -> Self {
        let (n, m) = (problem.a.len() as i128, problem.b.len() as i128);
        let shift = i128::BITS - (2 * n * (m + 1)).leading_zeros();
        let total_exponent = problem.total.log2().ceil() as i32;
        let exponent = total_exponent - (TOTAL_BITS - shift as i32);
        let mut supply: Vec<i128> = problem.a.iter().map(|&x| to_integer(x, exponent)).collect();
        let mut demand: Vec<i128> = problem.b.iter().map(|&x| to_integer(x, exponent)).collect();
        balance(&supply, &mut demand, problem);
        for x in &mut supply {
            *x = (*x << shift) + m + 1;
        }
        for x in &mut demand {
            *x = (*x << shift) + 1;
        }
        demand[problem.b.len() - 1] += n * (m + 1) - m;
        Self { supply, demand, shift, exponent }
    }

    /// The flow without its perturbation, as a mass.
    pub fn to_mass(&self, flow: i128) -> f64 {
        let half = 1_i128 << (self.shift - 1);
        ((flow + half) >> self.shift) as f64 * 2.0_f64.powi(self.exponent)
    }
}

/// x / 2^exponent, rounded to nearest.
fn to_integer(x: f64, exponent: i32) -> i128 {
    let bits = x.to_bits();
    let (biased, fraction) = ((bits >> 52) as i32, i128::from(bits & ((1 << 52) - 1)));
    // x = mantissa · 2^(e − 1075); numbers with biased exponent 0 lack the implicit bit.
    let (mantissa, e) = if biased == 0 { (fraction, 1) } else { (fraction | 1 << 52, biased) };
    match e - 1075 - exponent {
        up @ 0.. => mantissa << up,
        down @ -60..0 => (mantissa + (1 << (-down - 1))) >> -down,
        _ => 0,
    }
}

/// Give what rounding left over to the demands, in proportion, the rest to the largest.
fn balance<G>(supply: &[i128], demand: &mut [i128], problem: &Transport<G>) {
    let excess = supply.iter().sum::<i128>() - demand.iter().sum::<i128>();
    let mut rest = excess;
    for (x, &mass) in demand.iter_mut().zip(&problem.b) {
        let share = (excess as f64 * (mass / problem.total)) as i128;
        *x += share;
        rest -= share;
    }
    if let Some(largest) = demand.iter_mut().max() {
        *largest += rest;
    }
}
