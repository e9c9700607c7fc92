//! A fixed number of threads, with results that do not depend on it.
//!
//! Work is cut into chunks whose size does not depend on the number of threads, and chunk results
//! come back in order, so a reduction over them is the same for one thread and for many.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;

/// Pools are kept, since starting threads costs more than a small problem. The process is part of
/// the key: a forked child inherits the map but not the threads.
static POOLS: Mutex<BTreeMap<(u32, usize), Arc<rayon::ThreadPool>>> = Mutex::new(BTreeMap::new());

/// Matrix entries of one step, at least.
const STEP: usize = 1 << 25;

/// Asked once: the answer takes longer than a small problem.
static CORES: OnceLock<usize> = OnceLock::new();

/// Work below this many matrix entries is done on the calling thread.
const WORTH_SHARING: usize = 1 << 14;

/// More than any machine this is for has cores.
const MAX_THREADS: usize = 1024;

/// How many threads to use.
#[derive(Clone)]
pub struct Threads {
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Threads {
    /// `n_threads` threads, or as many as the machine has for `None`.
    pub fn new(n_threads: Option<usize>) -> Result<Self> {
        let n_threads = match n_threads {
            None => *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)),
            Some(n @ 1..=MAX_THREADS) => n,
            Some(n) => {
                let expected = "from 1 to 1024, or None for all cores";
                return Err(Error::Parameter { name: "n_threads", value: n as f64, expected });
            }
        };
        if n_threads == 1 {
            return Ok(Self { pool: None });
        }
        let key = (std::process::id(), n_threads);
        // The map is only ever added to, so a panic elsewhere cannot have left it half-changed.
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Ok(Self { pool: Some(Arc::clone(pool)) });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .thread_name(|i| format!("otbr-{i}"))
            .build()
            .map_err(|e| Error::Threads { n_threads, reason: e.to_string() })?;
        let pool = Arc::new(pool);
        pools.insert(key, Arc::clone(&pool));
        Ok(Self { pool: Some(pool) })
    }

    /// The calling thread alone.
    pub fn one() -> Self {
        Self { pool: None }
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Apply `f` to the rows of a `rows` × `cols` matrix, `chunk` rows at a time; results in order.
    pub(crate) fn map_rows<R: Send>(
        &self,
        rows: usize,
        cols: usize,
        chunk: usize,
        f: impl Fn(Range<usize>) -> R + Sync,
    ) -> Vec<R> {
        let ranges = |c: usize| c * chunk..((c + 1) * chunk).min(rows);
        let n_chunks = rows.div_ceil(chunk);
        match &self.pool {
            Some(pool) if rows * cols >= WORTH_SHARING => {
                pool.install(|| (0..n_chunks).into_par_iter().map(|c| f(ranges(c))).collect())
            }
            _ => (0..n_chunks).map(|c| f(ranges(c))).collect(),
        }
    }

    /// Rows between two questions whether to stop: whole chunks, one for each thread at least.
    fn step(&self, cols: usize, chunk: usize) -> usize {
        (STEP / (chunk * cols).max(1)).max(self.count()) * chunk
    }

    /// Like `map_rows`, in steps, between which the caller may stop.
    pub(crate) fn map_rows_in_steps<R: Send>(
        &self,
        rows: usize,
        cols: usize,
        chunk: usize,
        interrupt: Interrupt<'_>,
        f: impl Fn(Range<usize>) -> R + Sync,
    ) -> Result<Vec<R>> {
        let step = self.step(cols, chunk);
        let mut results = Vec::with_capacity(rows.div_ceil(chunk));
        for start in (0..rows).step_by(step) {
            interrupt.check()?;
            let part = (rows - start).min(step);
            results.extend(self.map_rows(part, cols, chunk, |r| f(start + r.start..start + r.end)));
        }
        Ok(results)
    }

    /// Apply `f` to the rows of `items`, `per_row` items a row, `chunk` rows at a time, each of which
    /// stands for `cols` entries of a matrix: `f(first row, rows' items)`; results in order. In steps, between
    /// which the caller may stop.
    pub(crate) fn map_rows_mut<I: Send, R: Send>(
        &self,
        items: &mut [I],
        per_row: usize,
        chunk: usize,
        cols: usize,
        interrupt: Interrupt<'_>,
        f: impl Fn(usize, &mut [I]) -> R + Sync,
    ) -> Result<Vec<R>> {
        let step = self.step(cols, chunk);
        let mut results = Vec::with_capacity(items.len() / (per_row * chunk) + 1);
        for (k, items) in items.chunks_mut(step * per_row).enumerate() {
            interrupt.check()?;
            let parts = |c: usize, part: &mut [I]| f(k * step + c * chunk, part);
            match &self.pool {
                Some(pool) if items.len() / per_row * cols >= WORTH_SHARING => {
                    results.extend(pool.install(|| {
                        let all = items.par_chunks_mut(chunk * per_row).enumerate();
                        all.map(|(c, part)| parts(c, part)).collect::<Vec<R>>()
                    }))
                }
                _ => results
                    .extend(items.chunks_mut(chunk * per_row).enumerate().map(|(c, part)| parts(c, part))),
            }
        }
        Ok(results)
    }

    /// Fill a row-major matrix, `chunk` rows at a time: `f(first row, rows' entries)`.
    pub(crate) fn fill_rows<T: Send>(
        &self,
        out: &mut [T],
        cols: usize,
        chunk: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        match &self.pool {
            Some(pool) if out.len() >= WORTH_SHARING => pool.install(|| {
                out.par_chunks_mut(chunk * cols).enumerate().for_each(|(c, part)| f(c * chunk, part));
            }),
            _ => out.chunks_mut(chunk * cols).enumerate().for_each(|(c, part)| f(c * chunk, part)),
        }
    }
}
