//! Exact optimal transport against an integer reference and its own certificate.

use otbr_core::exact::{ExactOptions, ExactSolution, Search, Start, Status, solve};
use otbr_core::{Error, Interrupt, MatrixView, Problem, Threads};
use proptest::prelude::*;

/// Minimum cost of integer transport by successive shortest paths (Bellman–Ford), in integers.
fn reference(cost: &[i64], supply: &[i64], demand: &[i64]) -> i64 {
    let (n, m) = (supply.len(), demand.len());
    let (mut left, mut open) = (supply.to_vec(), demand.to_vec());
    let mut flow = vec![0_i64; n * m];
    let mut total = 0;
    while let Some(source) = left.iter().position(|&s| s > 0) {
        // Distances over rows 0..n and columns n..n + m in the residual graph.
        let mut distance = vec![i64::MAX / 4; n + m];
        let mut from = vec![usize::MAX; n + m];
        distance[source] = 0;
        for _ in 0..n + m {
            for i in 0..n {
                for j in 0..m {
                    let c = cost[i * m + j];
                    if distance[i] + c < distance[n + j] {
                        (distance[n + j], from[n + j]) = (distance[i] + c, i);
                    }
                    if flow[i * m + j] > 0 && distance[n + j] - c < distance[i] {
                        (distance[i], from[i]) = (distance[n + j] - c, n + j);
                    }
                }
            }
        }
        let sink = (0..m).filter(|&j| open[j] > 0).min_by_key(|&j| distance[n + j]).unwrap();
        let mut path = vec![];
        let mut x = n + sink;
        while x != source {
            path.push((from[x], x));
            x = from[x];
        }
        let back = |&(a, b): &(usize, usize)| (a >= n).then(|| flow[b * m + a - n]);
        let limit = path.iter().filter_map(back).min().unwrap_or(i64::MAX);
        let amount = limit.min(left[source]).min(open[sink]);
        for &(a, b) in &path {
            if a < n {
                flow[a * m + b - n] += amount;
                total += amount * cost[a * m + b - n];
            } else {
                flow[b * m + a - n] -= amount;
                total -= amount * cost[b * m + a - n];
            }
        }
        left[source] -= amount;
        open[sink] -= amount;
    }
    total
}

/// Solve in every way, with a proof each time.
fn solved(cost: &[f64], a: &[f64], b: &[f64], threads: &Threads) -> ExactSolution {
    let view = MatrixView::new("M", cost, a.len(), b.len(), threads).unwrap();
    let problem = Problem::new(view, a, b).unwrap();
    let solutions = [Search::Auto, Search::Core, Search::Whole].map(|search| {
        let options = ExactOptions { search, ..ExactOptions::default() };
        let solution = solve(&problem, options, threads, Interrupt::never()).unwrap();
        assert_eq!(solution.status, Status::Optimal, "{search:?}: {:?}", solution.certificate);
        assert!(solution.plan.masses.len() < a.len() + b.len());
        assert!(solution.certificate.marginal_error <= 1e-13 * problem.total);
        solution
    });
    let [first, core, whole] = solutions;
    // Two proofs to a relative 1e-9 or to what twice the precision of f64 can tell.
    let scale = cost.iter().fold(0.0, |m: f64, c| m.max(c.abs())) * problem.total;
    for other in [core, whole] {
        let difference = (first.certificate.value - other.certificate.value).abs();
        assert!(difference <= 2e-9 * first.certificate.value.abs() + 1e-15 * scale, "{difference}");
    }
    first
}

/// Solve on the core, from results of problems with other masses, of the same costs and of others.
fn solved_from_others(cost: &[f64], a: &[f64], b: &[f64], threads: &Threads) -> [ExactSolution; 2] {
    let (n, m) = (a.len(), b.len());
    let solved = |cost: &[f64], a: &[f64], b: &[f64], from: Option<&ExactSolution>| {
        let view = MatrixView::new("M", cost, n, m, threads).unwrap();
        let start = from.map(|s| Start { v: &s.v, core: &s.hint.core, basis: &s.hint.basis });
        let options = ExactOptions { start, search: Search::Core, ..ExactOptions::default() };
        solve(&Problem::new(view, a, b).unwrap(), options, threads, Interrupt::never()).unwrap()
    };
    let backwards: Vec<f64> = cost.iter().rev().copied().collect();
    [cost, &backwards].map(|other| {
        let first = solved(other, &vec![m as f64; n], &vec![n as f64; m], None);
        solved(cost, a, b, Some(&first))
    })
}

/// Costs without structure.
fn scattered(count: u64) -> Vec<f64> {
    (0..count)
        .map(|k| (k.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(k | 1) >> 40) as f64)
        .collect()
}

/// Sizes, costs with many ties, masses with zeros, of equal sum.
fn instance() -> impl Strategy<Value = (Vec<i64>, Vec<i64>, Vec<i64>)> {
    (1usize..9, 1usize..9, 1i64..12).prop_flat_map(|(n, m, spread)| {
        let costs = prop::collection::vec(-spread..=spread, n * m);
        let masses = |k| prop::collection::vec(prop_oneof![Just(0), 1i64..4, 1i64..1000], k);
        (costs, masses(n), masses(m)).prop_map(|(cost, mut a, mut b)| {
            let difference = a.iter().sum::<i64>() - b.iter().sum::<i64>();
            if difference > 0 {
                *b.last_mut().unwrap() += difference;
            } else {
                a[0] -= difference;
            }
            if a.iter().sum::<i64>() == 0 {
                a[0] += 1;
                b[0] += 1;
            }
            (cost, a, b)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_integers((cost, a, b) in instance()) {
        let floats = |x: &[i64]| x.iter().map(|&x| x as f64).collect::<Vec<_>>();
        let (m, p, q) = (floats(&cost), floats(&a), floats(&b));
        let solution = solved(&m, &p, &q, &Threads::one());
        for warm in solved_from_others(&m, &p, &q, &Threads::one()) {
            prop_assert_eq!(warm.status, Status::Optimal);
            prop_assert_eq!(warm.certificate.value, solution.certificate.value);
        }
        prop_assert_eq!(solution.certificate.value, reference(&cost, &a, &b) as f64);
        for (i, j, mass) in solution.plan.entries() {
            prop_assert!(a[i] > 0 && b[j] > 0);
            prop_assert_eq!(mass, mass.round());
        }
    }

    #[test]
    fn any_scale_is_solved_with_a_proof(
        (cost, a, b) in instance(),
        cost_exponent in -110i32..110,
        mass_exponent in -110i32..110,
        noise in 0.0..1e-9f64,
    ) {
        let scale = |x: &[i64], e: i32| -> Vec<f64> {
            x.iter().enumerate().map(|(k, &x)| x as f64 * (1.0 + noise * k as f64) * 10f64.powi(e)).collect()
        };
        let (a, b) = (scale(&a, mass_exponent), scale(&b, mass_exponent));
        let solution = solved(&scale(&cost, cost_exponent), &a, &b, &Threads::one());
        prop_assert!(solution.certificate.duality_gap >= 0.0);
    }
}

/// Costs of each kind that is prepared in its own way: without structure, distances in the plane,
/// ties.
fn kinds(n: usize) -> [Vec<f64>; 3] {
    let points: Vec<f64> = scattered(2 * n as u64);
    let at = |i: usize| (points[2 * i], points[2 * i + 1]);
    let distance = |k: usize| (at(k / n).0 - at(k % n).1).hypot(at(k / n).1 - at(k % n).0);
    let tie = |c: f64| (c / 1_677_722.0).floor();
    let scattered = scattered((n * n) as u64);
    [scattered.clone(), (0..n * n).map(distance).collect(), scattered.into_iter().map(tie).collect()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Costs that are checked while they are read are checked all the same.
    #[test]
    fn a_cost_that_is_not_finite_is_named_wherever_it_is(
        row in 0usize..300, col in 0usize..300, value in prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
        metric in any::<bool>(), two in any::<bool>()
    ) {
        let (n, threads) = (300, Threads::new(Some(1 + usize::from(two))).unwrap());
        for mut cost in kinds(n) {
            cost[row * n + col] = value;
            let view = MatrixView::unread("M", &cost, n, n).unwrap();
            let problem = Problem::unread(view, &vec![1.0; n], &vec![1.0; n]).unwrap();
            let options = ExactOptions { metric, ..ExactOptions::default() };
            let error = solve(&problem, options, &threads, Interrupt::never()).err().unwrap();
            let named = matches!(error, Error::NonFinite { row: r, col: c, .. } if (r, c) == (row, col));
            prop_assert!(named, "{error}");
        }
    }

    /// Points that are on both sides, some of them alike, in few dimensions or many, in order or not, and costs
    /// that are no metric's but look like it.
    #[test]
    fn metric_mode_finds_the_optimum_whatever_it_is_told(
        seed in any::<u64>(), n in 300usize..700, dimension in prop::sample::select(vec![1, 2, 40]),
        turned in any::<bool>(), broken in any::<bool>(), bad in any::<bool>(),
    ) {
        let of = |k: usize, of: usize| ((seed ^ k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % of;
        // One in eight is the origin.
        let coordinate = |i: usize, k: usize| if i % 8 == 3 { 0.0 } else { of(64 * i + k, 1000) as f64 };
        let square = |i, j, k| (coordinate(i, k) - coordinate(j, k)).powi(2);
        let distance = |i: usize, j: usize| (0..dimension).map(|k| square(i, j, k)).sum::<f64>().sqrt();
        let place = |j: usize| if turned { (j + 1) % n } else { j };
        let mut cost: Vec<f64> = (0..n * n).map(|k| distance(k / n, place(k % n))).collect();
        if broken {
            // Ways round that are shorter.
            (0..n).for_each(|k| cost[of(k, n * n)] *= 0.25);
        }
        let (a, b): (Vec<f64>, Vec<f64>) = (0..n).map(|k| (1.0, (1 + of(k, 7)) as f64)).unzip();
        let total: f64 = b.iter().sum();
        let a: Vec<f64> = a.iter().map(|x| x * total / n as f64).collect();
        let solved = |metric, cost: &[f64], threads: usize| {
            let view = MatrixView::unread("M", cost, n, n).unwrap();
            let options = ExactOptions { metric, ..ExactOptions::default() };
            let problem = Problem::unread(view, &a, &b).unwrap();
            solve(&problem, options, &Threads::new(Some(threads)).unwrap(), Interrupt::never())
        };
        let [plain, metric, two] =
            [(false, 1), (true, 1), (true, 2)].map(|(metric, threads)| solved(metric, &cost, threads).unwrap());
        prop_assert_eq!((metric.status, two.status), (Status::Optimal, Status::Optimal));
        prop_assert_eq!(&metric.plan, &two.plan);
        prop_assert!((metric.certificate.value - plain.certificate.value).abs() <= 2e-9 * plain.certificate.value);
        prop_assert!(metric.certificate.marginal_error <= 1e-12 * total);
        if bad {
            let place = of(n, n * n);
            cost[place] = f64::NAN;
            let error = solved(true, &cost, 1).err().unwrap();
            let named = matches!(error, Error::NonFinite { row, col, .. } if row * n + col == place);
            prop_assert!(named, "{error}");
        }
    }

    #[test]
    fn threads_do_not_matter(seed in any::<u64>(), n in 100usize..200, m in 600usize..800) {
        let cost: Vec<f64> = (0..n * m).map(|k| ((seed ^ k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64).collect();
        let (a, b) = (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m]);
        let one = solved(&cost, &a, &b, &Threads::one());
        let three = solved(&cost, &a, &b, &Threads::new(Some(3)).unwrap());
        prop_assert_eq!(one.plan, three.plan);
        prop_assert_eq!(one.certificate, three.certificate);
    }
}

#[test]
fn costs_of_any_kind_and_scale_are_solved_with_a_proof() {
    let (n, threads) = (300, Threads::one());
    for cost in kinds(n) {
        for scale in [1e-90, 1.0, 1e90] {
            let cost: Vec<f64> = cost.iter().map(|c| c * scale).collect();
            // Costs that the first rows do not tell of.
            let mut uneven = cost.clone();
            uneven[..n].fill(0.0);
            uneven[n * n - 1] *= 1e15;
            for cost in [cost, uneven] {
                let masses: Vec<f64> = (0..n).map(|i| (1 + i % 7) as f64).collect();
                solved(&cost, &masses, &vec![masses.iter().sum::<f64>() / n as f64; n], &threads);
            }
        }
    }
}

#[test]
fn few_rows_and_many_columns_are_solved_with_a_proof() {
    for (n, m) in [(1, 100_000), (2, 60_000), (5, 40_000), (40_000, 3)] {
        let cost = scattered((n * m) as u64);
        let (a, b) = (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m]);
        solved(&cost, &a, &b, &Threads::one());
    }
}

#[test]
fn masses_of_very_different_size_keep_their_marginals() {
    let a = [1e-12, 1.0, 1e-30, 0.5];
    let b = [0.75, 1e-13, 0.75];
    let cost = [3.0, 1.0, 2.0, 5.0, 1.0, 4.0, 1.0, 1.0, 9.0, 2.0, 6.0, 5.0];
    let solution = solved(&cost, &a, &b, &Threads::one());
    assert!(solution.certificate.marginal_error < 1e-12 * 1.5);
}

#[test]
fn an_interrupt_stops_the_solver() {
    let cost = scattered(200 * 200);
    let masses = vec![1.0; 200];
    let view = MatrixView::new("M", &cost, 200, 200, &Threads::one()).unwrap();
    let problem = Problem::new(view, &masses, &masses).unwrap();
    let stop = || true;
    let result = solve(&problem, ExactOptions::default(), &Threads::one(), Interrupt::new(&stop));
    assert_eq!(result.unwrap_err(), Error::Interrupted);
}

#[test]
fn a_limit_gives_a_plan_with_an_honest_gap() {
    let cost = scattered(100 * 100);
    let masses = vec![1.0; 100];
    let view = MatrixView::new("M", &cost, 100, 100, &Threads::one()).unwrap();
    let problem = Problem::new(view, &masses, &masses).unwrap();
    let three = ExactOptions { max_iter: 3, ..ExactOptions::default() };
    let cut = solve(&problem, three, &Threads::one(), Interrupt::never()).unwrap();
    let best = solve(&problem, ExactOptions::default(), &Threads::one(), Interrupt::never()).unwrap();
    assert_eq!((cut.status, cut.n_iter), (Status::IterationLimit, 3));
    assert!(cut.certificate.value > best.certificate.value);
    assert!(cut.certificate.value - cut.certificate.duality_gap <= best.certificate.value);
}

#[test]
fn bad_input_is_refused_by_name() {
    let threads = Threads::one();
    let view = |data: &'static [f64], n, m| MatrixView::new("M", data, n, m, &threads);
    assert!(matches!(view(&[], 0, 3), Err(Error::Empty { .. })));
    assert!(matches!(view(&[1.0], 1, 2), Err(Error::Shape { .. })));
    let refused = view(&[1.0, 2.0, f64::NAN, f64::INFINITY], 2, 2).err().unwrap();
    assert_eq!(refused.to_string(), "M[1, 0] is NaN; replace it with a finite number");
    let problem =
        |a: &[f64], b: &[f64]| Problem::new(view(&[1.0, 2.0, 3.0, 4.0], 2, 2).unwrap(), a, b).map(|_| ());
    assert!(matches!(problem(&[1.0], &[1.0, 0.0]), Err(Error::Shape { name: "a", .. })));
    assert!(matches!(problem(&[1.0, -1e-9], &[1.0, 0.0]), Err(Error::InvalidMass { index: 1, .. })));
    assert!(matches!(problem(&[1.0, f64::NAN], &[1.0, 0.0]), Err(Error::InvalidMass { .. })));
    assert!(matches!(problem(&[0.0, 0.0], &[1.0, 0.0]), Err(Error::NoMass { name: "a" })));
    assert!(matches!(problem(&[1.0, 1.0], &[1.0, 0.0]), Err(Error::MassMismatch { .. })));
    let huge = Problem::new(view(&[1e200], 1, 1).unwrap(), &[1.0], &[1.0]);
    assert!(matches!(huge.err(), Some(Error::Magnitude { .. })));
}
