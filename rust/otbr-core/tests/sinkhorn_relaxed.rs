//! Unbalanced, partial and rounded plans: what defines them, on degenerate input, for any threads.

use otbr_core::entropic::{
    Reference, Relaxation, SinkhornOptions, dense_plan, round_plan, sinkhorn_partial, sinkhorn_unbalanced,
};
use otbr_core::{Error, Interrupt, MatrixView, Threads};
use proptest::prelude::*;

fn masses(k: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![1 => Just(0.0), 6 => 0.01..2.0f64], k).prop_map(|mut x| {
        x[0] += 0.1;
        x
    })
}

fn instance() -> impl Strategy<Value = (Vec<f64>, Vec<f64>, Vec<f64>)> {
    (1usize..12, 1usize..12)
        .prop_flat_map(|(n, m)| (prop::collection::vec(0.0..1.0f64, n * m), masses(n), masses(m)))
}

fn sums(plan: &[f64], m: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = plan.chunks(m).map(|row| row.iter().sum()).collect();
    let columns = (0..m).map(|j| plan.iter().skip(j).step_by(m).sum()).collect();
    (rows, columns)
}

const OPTIONS: SinkhornOptions = SinkhornOptions { reg: 0.05, max_iter: 5000, stop_threshold: 1e-11 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn relaxed_marginals_pay_what_their_potentials_say(
        (cost, a, b) in instance(),
        // Potentials grow with the strengths, and what f64 can tell of the plan shrinks with them.
        exponents in (-1.0..5.0f64, -1.0..5.0f64),
        reg_exponent in -2.0..1.0f64,
    ) {
        let threads = Threads::one();
        let view = MatrixView::new("M", &cost, a.len(), b.len(), &threads).unwrap();
        let (rows, columns) = (10f64.powf(exponents.0), 10f64.powf(exponents.1));
        let relaxation = Relaxation { rows, columns, reference: Reference::Ones };
        let options = SinkhornOptions { reg: 10f64.powf(reg_exponent), stop_threshold: 1e-8, ..OPTIONS };
        let solution =
            sinkhorn_unbalanced(view.clone(), (&a, &b), relaxation, options, &threads, Interrupt::never()).unwrap();
        let mut plan = vec![f64::NAN; cost.len()];
        dense_plan(&view, &solution.f, &solution.g, options.reg, &mut plan, &threads).unwrap();
        prop_assert!(plan.iter().all(|p| p.is_finite()));
        let (row_sums, column_sums) = sums(&plan, b.len());
        for (side, potentials, strength, masses) in
            [(row_sums, &solution.f, rows, &a), (column_sums, &solution.g, columns, &b)]
        {
            for ((sum, p), mass) in side.iter().zip(potentials).zip(masses) {
                let wanted = if *mass > 0.0 { mass * (-p / strength).exp() } else { 0.0 };
                prop_assert!((sum - wanted).abs() <= 1e-7 * (1.0 + wanted), "{sum} instead of {wanted}");
            }
        }
        prop_assert!(solution.converged);
    }

    #[test]
    fn a_part_keeps_its_limits_and_its_mass((cost, a, b) in instance(), part in 0.05..1.0f64) {
        let threads = Threads::one();
        let view = MatrixView::new("M", &cost, a.len(), b.len(), &threads).unwrap();
        let mass = part * a.iter().sum::<f64>().min(b.iter().sum());
        let solution =
            sinkhorn_partial(view.clone(), (&a, &b), mass, OPTIONS, &threads, Interrupt::never()).unwrap();
        let mut plan = vec![f64::NAN; cost.len()];
        dense_plan(&view, &solution.f, &solution.g, OPTIONS.reg, &mut plan, &threads).unwrap();
        let (rows, columns) = sums(&plan, b.len());
        prop_assert!((plan.iter().sum::<f64>() - mass).abs() <= 1e-9 * mass);
        prop_assert!(columns.iter().zip(&b).all(|(s, b)| *s <= b * (1.0 + 1e-9)));
        if solution.converged {
            prop_assert!(rows.iter().zip(&a).all(|(s, a)| *s <= a + 1e-7));
            prop_assert!(solution.duality_gap <= 1e-6 && solution.marginal_error <= 1e-7);
        }
    }

    #[test]
    fn a_rounded_plan_has_the_sums_asked_for((plan, a, b) in instance()) {
        let threads = Threads::one();
        let scale = a.iter().sum::<f64>() / b.iter().sum::<f64>();
        let b: Vec<f64> = b.iter().map(|b| b * scale).collect();
        let view = MatrixView::new("G", &plan, a.len(), b.len(), &threads).unwrap();
        let mut rounded = vec![f64::NAN; plan.len()];
        round_plan(view, &a, &b, &mut rounded, &threads, Interrupt::never()).unwrap();
        let (rows, columns) = sums(&rounded, b.len());
        prop_assert!(rounded.iter().all(|x| *x >= 0.0));
        for (sum, mass) in rows.iter().zip(&a).chain(columns.iter().zip(&b)) {
            prop_assert!((sum - mass).abs() <= 1e-14 * (1.0 + mass), "{sum} instead of {mass}");
        }
    }
}

#[test]
fn small_and_large_masses_are_solved_as_well_as_others() {
    let threads = Threads::one();
    let cost = [0.1, 0.7, 0.4, 0.3, 0.2, 0.9];
    let view = MatrixView::new("M", &cost, 2, 3, &threads).unwrap();
    let options = SinkhornOptions { stop_threshold: 1e-8, ..OPTIONS };
    for scale in [1e-60, 1e-10, 1.0, 1e10, 1e60] {
        let (a, b) = ([0.4 * scale, 0.6 * scale], [0.5 * scale, 0.2 * scale, 0.3 * scale]);
        let relaxation = Relaxation { rows: 0.7, columns: 0.4, reference: Reference::Ones };
        let solution =
            sinkhorn_unbalanced(view.clone(), (&a, &b), relaxation, options, &threads, Interrupt::never())
                .unwrap();
        assert!(solution.converged, "masses times {scale}");
        let mut plan = vec![f64::NAN; cost.len()];
        dense_plan(&view, &solution.f, &solution.g, options.reg, &mut plan, &threads).unwrap();
        let (_, columns) = sums(&plan, 3);
        for (sum, (mass, p)) in columns.iter().zip(b.iter().zip(&solution.g)) {
            let wanted = mass * (-p / 0.4).exp();
            assert!((sum - wanted).abs() <= 1e-6 * wanted, "{sum} instead of {wanted}");
        }
        let part =
            sinkhorn_partial(view.clone(), (&a, &b), 0.3 * scale, options, &threads, Interrupt::never())
                .unwrap();
        assert!(part.converged, "masses times {scale}");
    }
}

#[test]
fn what_is_out_of_the_range_of_numbers_is_no_solution() {
    let threads = Threads::one();
    let view = MatrixView::new("M", &[0.1, 0.7, 0.4, 0.3], 2, 2, &threads).unwrap();
    let relaxation = Relaxation { rows: 1.0, columns: 1.0, reference: Reference::Product };
    let solve = |a: f64, b: f64| {
        let masses = (&[a, a][..], &[b, b][..]);
        sinkhorn_unbalanced(view.clone(), masses, relaxation, OPTIONS, &threads, Interrupt::never())
    };
    assert!(solve(1e15, 1e-15).unwrap().converged);
    assert!(matches!(solve(1e60, 1e-60), Err(Error::Diverged)));
}

#[test]
fn threads_do_not_matter() {
    let (n, m) = (211, 307);
    let cost: Vec<f64> = (0..n * m).map(|k| (k * 7919 % 10007) as f64 / 10007.0).collect();
    let (a, b) = (vec![1.0 / n as f64; n], vec![2.0 / m as f64; m]);
    let relaxation = Relaxation { rows: 1.0, columns: f64::INFINITY, reference: Reference::Product };
    let run = |threads: &Threads| {
        let view = MatrixView::new("M", &cost, n, m, threads).unwrap();
        let unbalanced =
            sinkhorn_unbalanced(view.clone(), (&a, &b), relaxation, OPTIONS, threads, Interrupt::never())
                .unwrap();
        let partial =
            sinkhorn_partial(view.clone(), (&a, &b), 0.5, OPTIONS, threads, Interrupt::never()).unwrap();
        let mut out = vec![f64::NAN; n * m];
        let rounded = round_plan(view, &a, &a.repeat(2)[..m], &mut out, threads, Interrupt::never()).err();
        (unbalanced.f, unbalanced.g, partial.f, partial.g, rounded)
    };
    assert_eq!(run(&Threads::one()), run(&Threads::new(Some(3)).unwrap()));
}

#[test]
fn strengths_and_masses_out_of_range_are_refused() {
    let threads = Threads::one();
    let view = MatrixView::new("M", &[0.0, 1.0], 1, 2, &threads).unwrap();
    for rows in [0.0, -1.0, f64::NAN] {
        let relaxation = Relaxation { rows, columns: 1.0, reference: Reference::Product };
        let masses = (&[1.0][..], &[0.5, 0.5][..]);
        let result =
            sinkhorn_unbalanced(view.clone(), masses, relaxation, OPTIONS, &threads, Interrupt::never());
        assert!(matches!(result, Err(Error::Parameter { name: "reg_m", .. })), "reg_m = {rows}");
    }
    for mass in [0.0, -1.0, 1.1, f64::NAN] {
        let masses = (&[1.0][..], &[0.5, 0.7][..]);
        let result = sinkhorn_partial(view.clone(), masses, mass, OPTIONS, &threads, Interrupt::never());
        assert!(matches!(result, Err(Error::Parameter { name: "m", .. })), "m = {mass}");
    }
    let result =
        sinkhorn_partial(view.clone(), (&[1.0], &[0.0, 0.0]), 0.5, OPTIONS, &threads, Interrupt::never());
    assert!(matches!(result, Err(Error::NoMass { name: "b" })));
    let mut out = [f64::NAN; 2];
    let plan = MatrixView::new("G", &[1.0, -1.0], 1, 2, &threads).unwrap();
    let result = round_plan(plan, &[1.0], &[0.5, 0.5], &mut out, &threads, Interrupt::never());
    assert!(matches!(result, Err(Error::Negative { row: 0, col: 1, .. })));
    let relaxation = Relaxation { rows: 1.0, columns: 1.0, reference: Reference::Product };
    let masses = (&[1.0][..], &[0.0, 0.0][..]);
    let result = sinkhorn_unbalanced(view.clone(), masses, relaxation, OPTIONS, &threads, Interrupt::never());
    assert!(matches!(result, Err(Error::NoMass { name: "b" })));
}
