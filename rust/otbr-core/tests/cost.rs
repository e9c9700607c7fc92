//! Distances against sums in `f64` of the exact differences.

use otbr_core::cost::{Metric, cost_matrix, self_distances};
use otbr_core::{Error, Interrupt, MatrixView, Result, Scalar, Threads};
use proptest::prelude::*;

fn distances<T: Scalar>(x: &[T], y: &[T], d: usize, metric: Metric, threads: &Threads) -> Result<Vec<T>> {
    let (n, m) = (x.len() / d, y.len() / d);
    let mut out = vec![T::ZERO; n * m];
    let x = MatrixView::new("X", x, n, d, threads)?;
    let y = MatrixView::new("Y", y, m, d, threads)?;
    cost_matrix(x, y, metric, &mut out, threads, Interrupt::never())?;
    Ok(out)
}

/// Distances among the rows of one matrix, checked to be symmetric, 0 for equal rows and those of
/// `cost_matrix`, to the bit.
fn among<T: Scalar + std::fmt::Debug>(x: &[T], d: usize, metric: Metric, threads: &Threads) -> Vec<T> {
    let n = x.len() / d;
    let mut out = vec![T::ONE; n * n];
    let rows = MatrixView::new("X", x, n, d, threads).unwrap();
    self_distances(rows, metric, &mut out, threads, Interrupt::never()).unwrap();
    assert_eq!(out, distances(x, x, d, metric, threads).unwrap());
    for i in 0..n {
        for j in 0..n {
            assert_eq!(out[i * n + j], out[j * n + i]);
            if x[i * d..][..d] == x[j * d..][..d] {
                assert_eq!(out[i * n + j], T::ZERO);
            }
        }
    }
    out
}

/// The documented bound, with NEAR = 1/16.
fn bound<T: Scalar>(d: usize) -> f64 {
    16.0 * (d as f64 + 8.0) * T::UNIT_ROUNDOFF
}

/// Every squared distance within the bound of its true value; equal rows exactly 0.
fn check<T: Scalar>(x: &[T], y: &[T], d: usize) -> std::result::Result<(), TestCaseError> {
    let found = distances(x, y, d, Metric::SqEuclidean, &Threads::one()).unwrap();
    let m = y.len() / d;
    for (i, x) in x.chunks(d).enumerate() {
        for (j, y) in y.chunks(d).enumerate() {
            let found = found[i * m + j].to_f64();
            let exact: f64 = x.iter().zip(y).map(|(x, y)| (x.to_f64() - y.to_f64()).powi(2)).sum();
            prop_assert!(
                (found - exact).abs() <= bound::<T>(d) * exact,
                "d({i}, {j})² = {found}, not {exact}"
            );
        }
    }
    Ok(())
}

/// Rows, some of which are copies of others, moved by tiny amounts or not at all.
fn rows(d: usize) -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    let near = prop_oneof![Just(0.0), Just(1e-12), Just(1e-6), Just(1e-3)];
    let offset = prop_oneof![Just(0.0), Just(1.0), Just(1000.0)];
    (prop::collection::vec(-1.0..1.0f64, 12 * d), near, offset).prop_map(move |(x, near, offset)| {
        let x: Vec<f64> = x.iter().map(|v| v + offset).collect();
        let mut y: Vec<f64> = x[..6 * d].iter().enumerate().map(|(k, v)| v + near * (k % 5) as f64).collect();
        y.extend(x[6 * d..9 * d].iter().map(|v| v * 3.0 - 1.0));
        (x, y)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Rows of very different size beside each other, equal ones among them.
    #[test]
    fn small_rows_beside_large_ones_keep_the_bound(
        d in prop_oneof![Just(3usize), Just(40)],
        exponents in prop::collection::vec(-40i32..1, 8),
        seed in any::<u32>(),
    ) {
        let row = |e: i32, r: usize| -> Vec<f32> {
            (0..d).map(|k| (((seed as usize + 31 * k + 7 * r) % 101) as f32 / 50.0 - 1.0) * 10f32.powi(e)).collect()
        };
        let mut x: Vec<f32> = exponents.iter().enumerate().flat_map(|(r, &e)| row(e, r)).collect();
        x.extend(row(0, 0));
        let found = distances(&x, &x, d, Metric::Euclidean, &Threads::one()).unwrap();
        let n = x.len() / d;
        for i in 0..n {
            prop_assert_eq!(found[i * n + i], 0.0);
            for j in 0..n {
                let pairs = x[i * d..(i + 1) * d].iter().zip(&x[j * d..(j + 1) * d]);
                let exact = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt();
                let error = (f64::from(found[i * n + j]) - exact).abs();
                prop_assert!(error <= bound::<f32>(d) * exact + 1e-45, "{error} at {exact}");
            }
        }
    }

    #[test]
    fn squares_keep_the_bound((d, (x, y)) in (1usize..80).prop_flat_map(|d| (Just(d), rows(d)))) {
        check(&x, &y, d)?;
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        check(&narrow(&x), &narrow(&y), d)?;
    }

    /// Of any number of rows: less than a tile, several chunks, several panels.
    #[test]
    fn one_matrix_against_itself_is_symmetric(
        n in prop_oneof![1usize..40, 90usize..110, 190usize..200],
        d in prop_oneof![1usize..20, Just(200)],
        scale in prop_oneof![Just(1e-30f32), Just(1.0), Just(1e30)],
        seed in any::<u32>(),
    ) {
        let number = |k: usize| ((k * 7919 + seed as usize) % 10007) as f32 / 5000.0 - 1.0;
        let mut x: Vec<f32> = (0..n * d).map(|k| scale * number(k)).collect();
        let (from, to, zero) = (seed as usize % n, (seed as usize / 7) % n, (seed as usize / 49) % n);
        x.copy_within(from * d..(from + 1) * d, to * d);
        x[zero * d..][..d].fill(0.0);
        among(&x, d, Metric::Euclidean, &Threads::one());
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        among(&wide, d, Metric::SqEuclidean, &Threads::one());
    }

    #[test]
    fn cosine_is_half_the_square_of_directions((d, (x, y)) in (1usize..60).prop_flat_map(|d| (Just(d), rows(d)))) {
        let found = distances(&x, &y, d, Metric::Cosine, &Threads::one()).unwrap();
        let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        for (i, x) in x.chunks(d).enumerate() {
            for (j, y) in y.chunks(d).enumerate() {
                let dot: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                let expected = 1.0 - dot / norm(x) / norm(y);
                let value = found[i * (y_len(&found, 12)) + j];
                prop_assert!((value - expected).abs() <= 1e-13, "{value} {expected}");
                if x == y { prop_assert_eq!(value, 0.0); }
            }
        }
    }
}

fn y_len(found: &[f64], n: usize) -> usize {
    found.len() / n
}

#[test]
fn huge_and_tiny_values_neither_overflow_nor_vanish() {
    for d in [3, 40] {
        for scale in [1e-34f32, 1e-20, 1e20, 1e36] {
            let x: Vec<f32> = (0..2 * d).map(|k| scale * (1.0 + k as f32 / 7.0)).collect();
            let found = distances(&x, &x, d, Metric::Euclidean, &Threads::one()).unwrap();
            let row = |i: usize| &x[i * d..(i + 1) * d];
            let square: f64 =
                row(0).iter().zip(row(1)).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            assert_eq!((found[0], found[3]), (0.0, 0.0));
            assert!((f64::from(found[1]) / square.sqrt() - 1.0).abs() < 1e-5, "{found:?} {}", square.sqrt());
        }
    }
    let refused = distances(&[1e30f32, 0.0], &[0.0, 0.0], 1, Metric::SqEuclidean, &Threads::one());
    assert!(matches!(refused, Err(Error::Magnitude { .. })));
}

#[test]
fn threads_do_not_matter() {
    let x: Vec<f32> = (0..300 * 70).map(|k| (k * 7919 % 10007) as f32 / 100.0).collect();
    let one = distances(&x, &x, 70, Metric::Euclidean, &Threads::one()).unwrap();
    let three = distances(&x, &x, 70, Metric::Euclidean, &Threads::new(Some(3)).unwrap()).unwrap();
    assert_eq!(one, three);
    assert_eq!(one, among(&x, 70, Metric::Euclidean, &Threads::new(Some(2)).unwrap()));
    assert!((0..300).all(|i| one[i * 300 + i] == 0.0));
}

/// Rows so wide that not all columns are packed at a time, and so many that chunks are large.
#[test]
fn one_matrix_in_several_panels_against_itself() {
    for (n, d) in [(150, 1 << 18), (1100, 3)] {
        let mut x: Vec<f32> = (0..n * d).map(|k| (k * 7919 % 10007) as f32 / 100.0).collect();
        x.copy_within(3 * d..4 * d, 140 * d);
        among(&x, d, Metric::Euclidean, &Threads::one());
    }
}

#[test]
fn cosine_is_right_or_refused_at_the_ends_of_the_range() {
    let one = Threads::one();
    let found = distances(&[1e280, 1e280], &[1e-280, 0.0], 2, Metric::Cosine, &one).unwrap();
    assert!((found[0] - (1.0 - 0.5f64.sqrt())).abs() < 1e-15);
    for extreme in [1e-310, 1.7e308] {
        let refused = distances(&[extreme, 0.0], &[1.0, 0.0], 2, Metric::Cosine, &one);
        assert!(matches!(refused, Err(Error::Magnitude { .. })));
    }
}

#[test]
fn a_zero_row_has_no_direction() {
    let refused = distances(&[1.0, 0.0], &[1.0], 1, Metric::Cosine, &Threads::one());
    assert_eq!(refused.unwrap_err(), Error::ZeroVector { name: "X", row: 1 });
}

/// Runs this file's other tests anew in a process for each SIMD path that the machine has.
#[test]
fn every_simd_path_keeps_the_bounds() {
    if std::env::var_os("OTBR_FAST_SIMD").is_some() {
        return; // One of those processes, or a run that is about one path.
    }
    let paths = ["avx512", "avx2", "neon", "portable"];
    let run = |path: &str| {
        let this = std::env::current_exe().unwrap();
        std::process::Command::new(this).env("OTBR_FAST_SIMD", path).output().unwrap()
    };
    let mut ran = Vec::new();
    for path in paths {
        let output = run(path);
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        if output.status.success() {
            ran.push(path);
        } else {
            assert!(told.contains("this machine has"), "{path}: {told}");
        }
    }
    assert!(ran.contains(&otbr_core::simd::path().unwrap()) && ran.contains(&"portable"), "{ran:?}");
}
