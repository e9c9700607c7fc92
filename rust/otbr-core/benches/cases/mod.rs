//! What is timed and what instructions are counted of: the parts, through the public interface.

use otbr_core::cost::{Metric, cost_matrix};
use otbr_core::entropic::{SinkhornOptions, sinkhorn};
use otbr_core::exact::{ExactOptions, solve};
use otbr_core::{Interrupt, MatrixView, Problem, Scalar, Threads};

/// A case and how to make it.
type Recipe = (&'static str, fn() -> Box<dyn FnMut()>);

const RECIPES: [Recipe; 7] = [
    ("distances f32 512 x 512 x 256", || distances::<f32>(512, 256)),
    ("distances f64 512 x 512 x 256", || distances::<f64>(512, 256)),
    ("distances f32 1024 x 1024 x 2", || distances::<f32>(1024, 2)),
    ("one Sinkhorn pass f32 1024 x 1024", sinkhorn_pass),
    ("exact 64 x 64", || exact(64, 16)),
    ("exact 512 x 512", || exact(512, 64)),
    ("exact in the plane 512 x 512", || exact(512, 2)),
];

/// All cases' names.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|recipe| recipe.0)
}

/// A case by its name.
pub fn case(name: &str) -> Option<Box<dyn FnMut()>> {
    RECIPES.iter().find(|recipe| recipe.0 == name).map(|recipe| recipe.1())
}

/// Pseudo-random numbers from −1 to 1, the same on each machine.
fn numbers<T: Scalar>(count: usize, mut seed: u64) -> Vec<T> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::from_f64((seed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0)
    };
    (0..count).map(|_| next()).collect()
}

fn fill<T: Scalar>(x: &[T], y: &[T], d: usize, out: &mut [T]) {
    let threads = Threads::one();
    let x = MatrixView::new("X", x, x.len() / d, d, &threads).unwrap();
    let y = MatrixView::new("Y", y, y.len() / d, d, &threads).unwrap();
    cost_matrix(x, y, Metric::Euclidean, out, &threads, Interrupt::never()).unwrap();
}

fn distances<T: Scalar>(n: usize, d: usize) -> Box<dyn FnMut()> {
    let (x, y) = (numbers::<T>(n * d, 1), numbers::<T>(n * d, 2));
    let mut out = vec![T::ZERO; n * n];
    Box::new(move || fill(&x, &y, d, &mut out))
}

/// Distances between n random points.
fn costs<T: Scalar>(n: usize, d: usize) -> Vec<T> {
    let mut out = vec![T::ZERO; n * n];
    fill(&numbers(n * d, 1), &numbers(n * d, 2), d, &mut out);
    out
}

/// Masses of very different size, with the sum 1.
fn masses(n: usize) -> Vec<f64> {
    let masses: Vec<f64> = numbers::<f64>(n, 3).into_iter().map(|x| (2.0 * x).exp()).collect();
    let total: f64 = masses.iter().sum();
    masses.into_iter().map(|x| x / total).collect()
}

fn sinkhorn_pass() -> Box<dyn FnMut()> {
    let n = 1024;
    let (cost, a, b) = (costs::<f32>(n, 64), vec![1.0 / n as f64; n], masses(n));
    Box::new(move || {
        let threads = Threads::one();
        let view = MatrixView::new("M", &cost, n, n, &threads).unwrap();
        let problem = Problem::new(view, &a, &b).unwrap();
        let options = SinkhornOptions { reg: 0.5, max_iter: 1, stop_threshold: 0.0 };
        sinkhorn(&problem, options, None, &mut [], &threads, Interrupt::never()).unwrap();
    })
}

fn exact(n: usize, d: usize) -> Box<dyn FnMut()> {
    let (cost, a, b) = (costs::<f64>(n, d), vec![1.0 / n as f64; n], masses(n));
    Box::new(move || {
        let threads = Threads::one();
        let view = MatrixView::new("M", &cost, n, n, &threads).unwrap();
        let problem = Problem::new(view, &a, &b).unwrap();
        solve(&problem, ExactOptions::default(), &threads, Interrupt::never()).unwrap();
    })
}
