//! Sparse maps against sums written out.

use otbr_core::mix::{SparseMap, mix};
use otbr_core::{Error, Interrupt, Scalar, Threads};
use proptest::prelude::*;

/// A map: entries of each output, and pooled inputs.
#[derive(Debug, Clone)]
struct Map {
    inputs: usize,
    outputs: Vec<Vec<(usize, f64)>>,
    pooled: Vec<usize>,
}

impl Map {
    fn arrays(&self) -> (Vec<i32>, Vec<i32>, Vec<f64>, Vec<i32>) {
        let mut starts = vec![0];
        starts.extend(self.outputs.iter().scan(0, |end, row| {
            *end += row.len() as i32;
            Some(*end)
        }));
        let entries: Vec<_> = self.outputs.iter().flatten().copied().collect();
        let columns = entries.iter().map(|e| e.0 as i32).collect();
        let pooled = self.pooled.iter().map(|&i| i as i32).collect();
        (starts, columns, entries.iter().map(|e| e.1).collect(), pooled)
    }

    fn apply<T: Scalar>(&self, x: &[T], base: &[T], keep: f64, inner: usize, threads: &Threads) -> Vec<T> {
        let (starts, columns, factors, pooled) = self.arrays();
        let map = SparseMap::new(&starts, &columns, &factors, &pooled, self.inputs).unwrap();
        let outer = x.len() / (self.inputs * inner);
        let mut out = vec![T::ONE; outer * self.outputs.len() * inner];
        mix(&map, x, keep, base, inner, &mut out, threads, Interrupt::never()).unwrap();
        out
    }

    /// One entry, in `f64`, and the size of what is summed up.
    fn entry<T: Scalar>(&self, x: &[T], inner: usize, o: usize, k: usize, q: usize) -> (f64, f64) {
        let at = |i: usize| x[(o * self.inputs + i) * inner + q].to_f64();
        let mean = |of: &dyn Fn(f64) -> f64| {
            self.pooled.iter().map(|&i| of(at(i))).sum::<f64>() / self.pooled.len().max(1) as f64
        };
        let input = |i: usize, of: &dyn Fn(f64) -> f64| if i < self.inputs { of(at(i)) } else { mean(of) };
        let sum = |of: &dyn Fn(f64) -> f64| self.outputs[k].iter().map(|&(i, f)| of(f) * input(i, of)).sum();
        (sum(&|x| x), sum(&f64::abs))
    }
}

fn maps() -> impl Strategy<Value = Map> {
    (1usize..12, 0usize..12, any::<bool>()).prop_flat_map(|(inputs, outputs, pools)| {
        let pooled = prop::collection::btree_set(0..inputs, usize::from(pools)..=inputs * usize::from(pools));
        (Just(inputs), Just(outputs), pooled).prop_flat_map(|(inputs, outputs, pooled)| {
            let all = inputs + usize::from(!pooled.is_empty());
            let row = prop::collection::vec((0..all, -2.0..2.0f64), 0..4);
            let pooled: Vec<usize> = pooled.into_iter().collect();
            prop::collection::vec(row, outputs).prop_map(move |outputs| Map {
                inputs,
                outputs,
                pooled: pooled.clone(),
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// For every length of a stretch: those known, short, long, and not whole pieces.
    #[test]
    fn sums_are_those_written_out(
        map in maps(),
        inner in prop_oneof![Just(1usize), Just(9), 2usize..70, 100usize..200],
        outer in 0usize..6,
        keep in prop_oneof![Just(0.0), Just(0.5)],
        seed in any::<u32>(),
    ) {
        let number = |k: usize| ((k * 7919 + seed as usize) % 10007) as f32 / 5000.0 - 1.0;
        let x: Vec<f32> = (0..outer * map.inputs * inner).map(number).collect();
        let size = outer * map.outputs.len() * inner;
        let base: Vec<f32> = (7..7 + size).map(number).collect();
        let found = map.apply(&x, if keep == 0.0 { &[] } else { &base }, keep, inner, &Threads::one());
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let exact = map.apply(&wide, &[], 0.0, inner, &Threads::new(Some(2)).unwrap());
        for (place, &found) in found.iter().enumerate() {
            let (q, k, o) = (place % inner, place / inner % map.outputs.len(), place / inner / map.outputs.len());
            let (sum, terms) = map.entry(&wide, inner, o, k, q);
            prop_assert!((exact[place] - sum).abs() <= 1e-14 * terms);
            let kept = keep * f64::from(base[place]);
            let error = (f64::from(found) - sum - kept).abs();
            prop_assert!(error <= f64::from(f32::EPSILON) * (terms + kept.abs()), "{error} of {sum}");
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let outputs = (0..300).map(|k| vec![(k * 7 % 200, 0.3), (200, 0.1), (k % 200, 1.7)]).collect();
    let map = Map { inputs: 200, outputs, pooled: (0..50).collect() };
    for inner in [9, 3000] {
        let x: Vec<f32> = (0..200 * 30 * 9).map(|k| (k * 7919 % 10007) as f32).collect();
        let x = &x[..x.len() / (200 * inner) * 200 * inner];
        let one = map.apply(x, &[], 0.0, inner, &Threads::one());
        assert_eq!(one, map.apply(x, &[], 0.0, inner, &Threads::new(Some(3)).unwrap()));
    }
}

#[test]
fn maps_of_what_is_not_there_are_refused() {
    let refused = |starts: &[i32], columns: &[i32], factors: &[f64], pooled: &[i32]| {
        let told = SparseMap::new(starts, columns, factors, pooled, 3).map(|_| ());
        assert!(matches!(told, Err(Error::Shape { name: "map", .. })), "{told:?}");
    };
    refused(&[], &[], &[], &[]);
    refused(&[1, 1], &[0], &[1.0], &[]);
    refused(&[0, 2, 1], &[0], &[1.0], &[]);
    refused(&[0, 2], &[0], &[1.0], &[]);
    refused(&[0, 1], &[0], &[1.0, 2.0], &[]);
    refused(&[0, 1], &[3], &[1.0], &[]);
    refused(&[0, 1], &[-1], &[1.0], &[]);
    refused(&[0, 1], &[4], &[1.0], &[0]);
    refused(&[0, 1], &[0], &[1.0], &[3]);
    let map = SparseMap::new(&[0, 1], &[0], &[1.0], &[], 3).unwrap();
    let refused = |x: &[f32], base: &[f32], out: &mut [f32]| {
        let told = mix(&map, x, 0.5, base, 2, out, &Threads::one(), Interrupt::never());
        assert!(matches!(told, Err(Error::Shape { .. })), "{told:?}");
    };
    refused(&[0.0; 5], &[], &mut [0.0; 2]);
    refused(&[0.0; 6], &[], &mut [0.0; 3]);
    refused(&[0.0; 6], &[0.0; 1], &mut [0.0; 2]);
}
