//! Entropic transport: marginals, optimality and stability.

use otbr_core::entropic::{EntropicSolution, SinkhornOptions, dense_plan, sinkhorn};
use otbr_core::{Error, Interrupt, MatrixView, Problem, Threads};
use proptest::prelude::*;

fn run(cost: &[f64], a: &[f64], b: &[f64], reg: f64, threads: &Threads) -> (EntropicSolution, Vec<f64>) {
    run_for(20_000, cost, a, b, reg, threads)
}

fn run_for(
    max_iter: u64,
    cost: &[f64],
    a: &[f64],
    b: &[f64],
    reg: f64,
    threads: &Threads,
) -> (EntropicSolution, Vec<f64>) {
    let view = MatrixView::new("M", cost, a.len(), b.len(), threads).unwrap();
    let problem = Problem::new(view, a, b).unwrap();
    let options = SinkhornOptions { reg, max_iter, stop_threshold: 1e-9 };
    let mut plan = vec![f64::NAN; cost.len()];
    let solution = sinkhorn(&problem, options, None, &mut plan, threads, Interrupt::never()).unwrap();
    let mut of_potentials = vec![f64::NAN; cost.len()];
    dense_plan(&problem.cost, &solution.f, &solution.g, reg, &mut of_potentials, threads).unwrap();
    for (k, (p, q)) in plan.iter().zip(&of_potentials).enumerate() {
        // Potentials that are large in units of reg lose digits of the plan.
        let (f, g) = (solution.f[k / b.len()], solution.g[k % b.len()]);
        let size = (f.abs() + g.abs() + cost[k].abs()) / reg;
        let rounding = if size.is_finite() { (1e-15 * size + 1e-13) * q } else { 0.0 };
        assert!((p - q).abs() <= rounding + 1e-250, "{p} in the plan, {q} by potentials");
    }
    (solution, of_potentials)
}

fn masses(k: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![1 => Just(0.0), 6 => 0.01..1.0f64, 1 => 1e-14..1e-10f64], k).prop_map(
        |mut x| {
            x[0] += 0.1;
            let total: f64 = x.iter().sum();
            x.iter().map(|v| v / total).collect()
        },
    )
}

fn instance() -> impl Strategy<Value = (Vec<f64>, Vec<f64>, Vec<f64>)> {
    (1usize..12, 1usize..12)
        .prop_flat_map(|(n, m)| (prop::collection::vec(0.0..1.0f64, n * m), masses(n), masses(m)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn no_regularisation_gives_nan((cost, a, b) in instance(), exponent in -4.0..0.0f64) {
        let (solution, plan) = run(&cost, &a, &b, 10f64.powf(exponent), &Threads::one());
        prop_assert!(plan.iter().all(|p| p.is_finite() && *p >= 0.0));
        prop_assert!(solution.value.is_finite() && solution.marginal_error.is_finite());
        for (i, row) in plan.chunks(b.len()).enumerate() {
            let sum: f64 = row.iter().sum();
            prop_assert!((sum - a[i]).abs() <= 1e-10, "row {i} sums to {sum}, not {}", a[i]);
        }
        if solution.converged {
            prop_assert!(solution.marginal_error <= 1e-8);
            prop_assert!(solution.duality_gap <= 1e-7);
        }
    }

    #[test]
    fn a_run_cut_short_still_gives_the_row_sums(
        (cost, a, b) in instance(),
        exponent in -4.0..3.0f64,
        mass_exponent in -9.0..9.0f64,
        max_iter in 1u64..40,
    ) {
        let scale = |x: &[f64]| x.iter().map(|x| x * 10f64.powf(mass_exponent)).collect::<Vec<_>>();
        let (a, b) = (scale(&a), scale(&b));
        let (solution, plan) = run_for(max_iter, &cost, &a, &b, 10f64.powf(exponent), &Threads::one());
        prop_assert!(solution.n_iter <= max_iter && !solution.errors.is_empty());
        for (row, mass) in plan.chunks(b.len()).zip(&a) {
            prop_assert!((row.iter().sum::<f64>() - mass).abs() <= 1e-10 * mass + 1e-300);
        }
    }

    #[test]
    fn moderate_regularisation_converges((cost, a, b) in instance()) {
        prop_assert!(run(&cost, &a, &b, 0.1, &Threads::one()).0.converged);
    }
}

#[test]
fn columns_that_no_row_wants_do_not_underflow() {
    // Every row is nearest to column 0, by 10,000 times the regularisation.
    let (n, m) = (7, 5);
    let cost: Vec<f64> = (0..n * m).map(|k| if k % m == 0 { 0.0 } else { 1.0 + (k % 3) as f64 }).collect();
    let (a, b) = (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m]);
    let (solution, plan) = run(&cost, &a, &b, 1e-4, &Threads::one());
    assert!(plan.iter().all(|p| p.is_finite()));
    assert!(solution.converged, "errors end at {:?}", solution.errors.last());
}

#[test]
fn threads_do_not_matter() {
    let (n, m) = (211, 307);
    let cost: Vec<f64> = (0..n * m).map(|k| (k * 7919 % 10007) as f64 / 10007.0).collect();
    let (a, b) = (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m]);
    let (one, plan_one) = run(&cost, &a, &b, 0.02, &Threads::one());
    let (four, plan_four) = run(&cost, &a, &b, 0.02, &Threads::new(Some(4)).unwrap());
    assert_eq!((one.f, one.g, one.value, one.n_iter), (four.f, four.g, four.value, four.n_iter));
    assert_eq!(plan_one, plan_four);
}

#[test]
fn parameters_out_of_range_are_refused() {
    let threads = Threads::one();
    let view = MatrixView::new("M", &[0.0, 1.0], 1, 2, &threads).unwrap();
    let problem = Problem::new(view, &[1.0], &[0.5, 0.5]).unwrap();
    for reg in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-11, 1e200] {
        let options = SinkhornOptions { reg, max_iter: 10, stop_threshold: 1e-9 };
        let result = sinkhorn(&problem, options, None, &mut [], &threads, Interrupt::never());
        assert!(matches!(result, Err(Error::Parameter { name: "reg", .. })), "reg = {reg}");
    }
}
