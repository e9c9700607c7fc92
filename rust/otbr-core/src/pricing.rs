//! Reduced costs: in `f64` for the bulk, in twice the precision where `f64` cannot tell the sign.

use std::cell::RefCell;
use std::ops::Range;

use crate::double_double::Dd;
use crate::geometry::Geometry;
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};

/// A reduced cost above −2⁻⁸⁰ of the scale of the numbers it comes from counts as zero: the
/// rounding of potentials in twice the precision of `f64` stays below that.
const EXACT_ZERO: f64 = 1.0 / (1u128 << 80) as f64;

/// Shifts that potentials in `f64` gather rounding of, before they are computed anew.
pub(crate) const SHIFTS: u32 = 1 << 14;

/// Costs whose reduced costs are computed together.
const STRETCH: usize = 64;

/// Costs that are compared together where few are.
const WORD: usize = 8;

/// Cells whose reduced costs are asked for, row by row: all of a matrix, or some.
pub(crate) trait Rows {
    /// Number of rows.
    fn count(&self) -> usize;
    /// Least cost − v of a row's cells, rounded to `f64`.
    fn least(&self, row: usize, v: &[f64]) -> f64;
    /// The cells of a row whose cost − v, rounded, is at most `bound`, in order.
    fn near(&self, row: usize, v: &[f64], bound: f64, found: impl FnMut(Cell));
    /// In each of these rows the first cell of least cost − u − v, if that is below `limit`, all rounded.
    fn least_below(&self, rows: Range<usize>, u: &[f64], v: &[f64], limit: f64, found: &mut Vec<Cell>) {
        for row in rows {
            let least = self.least(row, v);
            if least - u[row] < limit {
                let mut first = None;
                self.near(row, v, least, |cell| first = first.or(Some(cell)));
                found.extend(first);
            }
        }
    }
}

/// All cells.
pub(crate) struct Whole<'a, G: Geometry> {
    geometry: &'a G,
    buffer: RefCell<Vec<G::Cost>>,
}

impl<'a, G: Geometry> Whole<'a, G> {
    pub fn new(geometry: &'a G) -> Self {
        Self { geometry, buffer: RefCell::default() }
    }
}

impl<G: Geometry> Rows for Whole<'_, G> {
    fn count(&self) -> usize {
        self.geometry.rows()
    }

    fn least(&self, row: usize, v: &[f64]) -> f64 {
        let buffer = &mut self.buffer.borrow_mut();
        least_difference(self.geometry.stretch(row, 0..v.len(), buffer), v)
    }

    fn near(&self, row: usize, v: &[f64], bound: f64, mut found: impl FnMut(Cell)) {
        let buffer = &mut self.buffer.borrow_mut();
        let costs = self.geometry.stretch(row, 0..v.len(), buffer);
        dispatch(
            #[inline(always)]
            || places_up_to(costs, v, bound, |col| found(Cell { row, col, cost: costs[col].to_f64() })),
        );
    }

    fn least_below(&self, rows: Range<usize>, u: &[f64], v: &[f64], limit: f64, found: &mut Vec<Cell>) {
        let buffer = &mut self.buffer.borrow_mut();
        dispatch(
            #[inline(always)]
            || {
                // First some rows' least, then what depends on them: no step waits for a wrong guess long.
                for start in rows.clone().step_by(WORD) {
                    let some = start..(start + WORD).min(rows.end);
                    let mut least = [f64::INFINITY; WORD];
                    for (row, least) in some.clone().zip(&mut least) {
                        *least = least_of_differences(self.geometry.stretch(row, 0..v.len(), buffer), v);
                    }
                    for (row, least) in some.zip(least).filter(|&(row, least)| least - u[row] < limit) {
                        let costs = self.geometry.stretch(row, 0..v.len(), buffer);
                        let col = first_up_to(costs, v, least);
                        found.push(Cell { row, col, cost: costs[col].to_f64() });
                    }
                }
            },
        );
    }
}

/// A cell and its cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub row: usize,
    pub col: usize,
    pub cost: f64,
}

/// Potentials, as the high parts of their double-double values, and the scale of their rounding.
#[derive(Clone, Copy)]
pub(crate) struct Potentials<'a> {
    u: Halves<'a>,
    v: Halves<'a>,
    /// Largest |cost| and largest |v|.
    scale: f64,
}

/// Double-double numbers, their high and their low parts.
#[derive(Clone, Copy)]
pub(crate) struct Halves<'a> {
    pub hi: &'a [f64],
    pub lo: &'a [f64],
}

/// Potentials of rows and columns as double-double numbers.
pub(crate) struct Duals {
    pub u_hi: Vec<f64>,
    pub u_lo: Vec<f64>,
    pub v_hi: Vec<f64>,
    pub v_lo: Vec<f64>,
}

impl Duals {
    /// For costs of at most `cost_scale`.
    pub fn potentials(&self, cost_scale: f64) -> Potentials<'_> {
        let (u, v) = (Halves { hi: &self.u_hi, lo: &self.u_lo }, Halves { hi: &self.v_hi, lo: &self.v_lo });
        Potentials::new(u, v, cost_scale)
    }

    /// Potentials of the rows and of the columns, rounded.
    pub fn to_f64(&self) -> (Vec<f64>, Vec<f64>) {
        let rounded = |hi: &[f64], lo: &[f64]| hi.iter().zip(lo).map(|(hi, lo)| hi + lo).collect();
        (rounded(&self.u_hi, &self.u_lo), rounded(&self.v_hi, &self.v_lo))
    }
}

impl Halves<'_> {
    #[inline(always)]
    fn at(&self, k: usize) -> Dd {
        Dd { hi: self.hi[k], lo: self.lo[k] }
    }
}

impl<'a> Potentials<'a> {
    /// `cost_scale` is the largest |cost|.
    pub fn new(u: Halves<'a>, v: Halves<'a>, cost_scale: f64) -> Self {
        Self { u, v, scale: cost_scale + largest(v.hi) }
    }

    /// Potentials of the columns, rounded.
    pub fn v(&self) -> &'a [f64] {
        self.v.hi
    }

    /// Potential of a row, rounded.
    pub fn u_at(&self, row: usize) -> f64 {
        self.u.hi[row]
    }

    /// Magnitude of costs and potentials.
    pub fn magnitude(&self) -> f64 {
        self.scale + largest(self.u.hi)
    }

    /// Whether all are integers that leave sums with costs, if those are integers, exact in `f64`.
    pub fn are_integers(&self) -> bool {
        let of_side = |side: Halves<'_>| {
            side.lo.iter().all(|x| *x == 0.0) && side.hi.iter().all(|x| x.round_ties_even() == *x)
        };
        self.magnitude() < 1.0 / f64::EPSILON && of_side(self.u) && of_side(self.v)
    }

    /// A reduced cost below this is negative even by potentials in `f64` that were shifted up to
    /// `SHIFTS` times.
    pub fn rough_zero(&self) -> f64 {
        -4.0 * f64::from(SHIFTS) * f64::EPSILON * self.scale
    }

    /// Bound on |computed − true| reduced cost in a row: three roundings of numbers no larger
    /// than the sum of magnitudes, and the rounding of the potentials themselves.
    pub fn rounding(&self, row: usize) -> f64 {
        4.0 * f64::EPSILON * (self.scale + self.u.hi[row].abs())
    }

    /// A reduced cost below this is negative.
    pub fn zero(&self) -> f64 {
        -EXACT_ZERO * self.scale
    }

    /// cost − u − v of a cell.
    #[inline(always)]
    pub fn reduced_cost(&self, cell: Cell) -> Dd {
        Dd::from(cell.cost) - self.u.at(cell.row) - self.v.at(cell.col)
    }

    /// In each of these rows the cell of least reduced cost, if that is below `limit` by `f64`.
    pub fn least_below(&self, of: &impl Rows, rows: Range<usize>, limit: f64, found: &mut Vec<Cell>) {
        of.least_below(rows, self.u.hi, self.v.hi, limit, found);
    }

    /// The least reduced cost of a row's costs from column `first` on, exactly but for the rounding
    /// of the result, and its column.
    pub fn least_of_stretch<T: Scalar>(&self, row: usize, first: usize, costs: &[T]) -> (f64, usize) {
        let (u, cols) = (self.u.at(row), first..first + costs.len());
        let v = Halves { hi: &self.v.hi[cols.clone()], lo: &self.v.lo[cols] };
        let mut best = (f64::INFINITY, first);
        dispatch(
            #[inline(always)]
            || {
                for (k, costs) in costs.chunks(STRETCH).enumerate() {
                    let (mut reduced, start) = ([f64::INFINITY; STRETCH], k * STRETCH);
                    let v = v.hi[start..].iter().zip(&v.lo[start..]).map(|(&hi, &lo)| Dd { hi, lo });
                    for ((r, c), v) in reduced.iter_mut().zip(costs).zip(v) {
                        *r = Dd::difference(c.to_f64(), u, v);
                    }
                    let least = least_of_lanes(reduced);
                    if least < best.0 {
                        let place = reduced.iter().position(|&r| r == least).unwrap_or(0);
                        best = (least, first + start + place);
                    }
                }
            },
        );
        best
    }

    /// The cell of least reduced cost in a row, exactly, if that is below `limit`.
    pub fn least_exact(&self, of: &impl Rows, row: usize, limit: f64) -> Option<(Cell, Dd)> {
        let rounding = self.rounding(row);
        let least = of.least(row, self.v.hi);
        if least - self.u.hi[row] > limit + rounding {
            return None;
        }
        let mut best: Option<(Cell, Dd)> = None;
        of.near(row, self.v.hi, least + 2.0 * rounding, |cell| {
            let exact = self.reduced_cost(cell);
            if best.is_none_or(|b| (exact - b.1).to_f64() < 0.0) {
                best = Some((cell, exact));
            }
        });
        let best = best?;
        ((best.1 - Dd::from(limit)).to_f64() < 0.0).then_some(best)
    }
}

/// The largest |x|.
fn largest(values: &[f64]) -> f64 {
    let (words, rest) = values.as_chunks::<WORD>();
    let mut largest = [0.0; WORD];
    for word in words {
        for k in 0..WORD {
            largest[k] = if word[k].abs() > largest[k] { word[k].abs() } else { largest[k] };
        }
    }
    rest.iter().map(|x| x.abs()).chain(largest).fold(0.0, f64::max)
}

/// min over j of costs[j] − v[j].
pub(crate) fn least_difference<T: Scalar>(costs: &[T], v: &[f64]) -> f64 {
    dispatch(
        #[inline(always)]
        || least_of_differences(costs, v),
    )
}

/// The first place of the least costs[j] − v[j].
pub(crate) fn least_place<T: Scalar>(costs: &[T], v: &[f64]) -> usize {
    dispatch(
        #[inline(always)]
        || first_up_to(costs, v, least_of_differences(costs, v)),
    )
}

/// min over j of costs[j] − v[j], in vectors only where inlined.
#[inline(always)]
fn least_of_differences<T: Scalar>(costs: &[T], v: &[f64]) -> f64 {
    let (least, (costs, v)) = least_in_lanes::<T, 16>(costs, v);
    if costs.is_empty() {
        return least;
    }
    let (rest, (costs, v)) = least_in_lanes::<T, WORD>(costs, v);
    let last = costs.iter().zip(v).map(|(c, v)| c.to_f64() - v).fold(f64::INFINITY, f64::min);
    least.min(rest).min(last)
}

/// The least over whole groups of `LANES`, and what is left of costs and v.
#[inline(always)]
fn least_in_lanes<'a, T: Scalar, const LANES: usize>(
    costs: &'a [T],
    v: &'a [f64],
) -> (f64, (&'a [T], &'a [f64])) {
    let (head, tail) = costs.as_chunks::<LANES>();
    let (v_head, v_tail) = v.as_chunks::<LANES>();
    let mut least = [f64::INFINITY; LANES];
    for (c, v) in head.iter().zip(v_head) {
        for k in 0..LANES {
            let value = c[k].to_f64() - v[k];
            least[k] = if value < least[k] { value } else { least[k] };
        }
    }
    (least_of_lanes(least), (tail, v_tail))
}

/// The first place where costs[j] − v[j] is at most `bound`; 0 if there is none.
#[inline(always)]
fn first_up_to<T: Scalar>(costs: &[T], v: &[f64], bound: f64) -> usize {
    let is_near = |k: usize| costs[k].to_f64() - v[k] <= bound;
    let words = costs.as_chunks::<WORD>().0.iter().zip(v.as_chunks::<WORD>().0);
    let mut skipped = 0;
    for (c, v) in words {
        let near = (0..WORD).fold(false, |near, k| near | (c[k].to_f64() - v[k] <= bound));
        if near {
            break;
        }
        skipped += WORD;
    }
    (skipped..costs.len()).find(|&k| is_near(k)).unwrap_or(0)
}

/// The places where costs[j] − v[j] is at most `bound`.
#[inline(always)]
pub(crate) fn places_up_to<T: Scalar>(costs: &[T], v: &[f64], bound: f64, mut found: impl FnMut(usize)) {
    let wide = places_in_lanes::<T, 32>(costs, v, bound, 0, &mut found);
    let first = wide + places_in_lanes::<T, WORD>(&costs[wide..], &v[wide..], bound, wide, &mut found);
    for (k, (c, v)) in costs[first..].iter().zip(&v[first..]).enumerate() {
        if c.to_f64() - v <= bound {
            found(first + k);
        }
    }
}

/// Those in whole groups of `LANES`, counted from `first` on, and how many entries these are.
#[inline(always)]
fn places_in_lanes<T: Scalar, const LANES: usize>(
    costs: &[T],
    v: &[f64],
    bound: f64,
    first: usize,
    found: &mut impl FnMut(usize),
) -> usize {
    let groups = costs.as_chunks::<LANES>().0;
    for (g, (c, v)) in groups.iter().zip(v.as_chunks::<LANES>().0).enumerate() {
        let mut places = 0_u32;
        for k in 0..LANES {
            places |= u32::from(c[k].to_f64() - v[k] <= bound) << k;
        }
        while places != 0 {
            found(first + g * LANES + places.trailing_zeros() as usize);
            places &= places - 1;
        }
    }
    groups.len() * LANES
}
