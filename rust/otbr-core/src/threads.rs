//! A fixed number of threads, with results that do not depend on it.
//!
//! Work is cut into chunks whose size does not depend on the number of threads, and chunk results
//! come back in order, so a reduction over them is the same for one thread and for many.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Pools are kept, since starting threads costs more than a small problem. The process is part of
/// the key: a forked child inherits the map but not the threads.
static POOLS: Mutex<BTreeMap<(u32, usize), Arc<rayon::ThreadPool>>> = Mutex::new(BTreeMap::new());

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

    /// Apply `f` to the rows of `items`, `per_row` items a row, `chunk` rows at a time, each of which
    /// stands for `cols` entries of a matrix: `f(first row, rows' items)`; results in order.
    pub(crate) fn map_rows_mut<I: Send, R: Send>(
        &self,
        items: &mut [I],
        per_row: usize,
        chunk: usize,
        cols: usize,
        f: impl Fn(usize, &mut [I]) -> R + Sync,
    ) -> Vec<R> {
        let entries = items.len() / per_row * cols;
        match &self.pool {
            Some(pool) if entries >= WORTH_SHARING => pool.install(|| {
                let parts = items.par_chunks_mut(chunk * per_row).enumerate();
                parts.map(|(c, part)| f(c * chunk, part)).collect()
            }),
            _ => items.chunks_mut(chunk * per_row).enumerate().map(|(c, part)| f(c * chunk, part)).collect(),
        }
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
