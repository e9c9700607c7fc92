//! Zeros to be written over.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// From this many bytes on, large pages are asked for: the first write to each page of memory costs
/// a microsecond, and a matrix of 64 MB has 16,384 small ones.
const LARGE: usize = 4 << 20;

/// As many zeros as asked for at first.
pub(crate) enum Zeros {
    Few(Vec<f32>),
    Many(MmapMut),
}

impl Zeros {
    pub fn new(count: usize) -> Self {
        let bytes = count * size_of::<f32>();
        // Where a mapping is refused, the allocator may still have the memory.
        match if bytes < LARGE { None } else { MmapMut::map_anon(bytes).ok() } {
            Some(map) => {
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage); // A hint: without it all is slower.
                Self::Many(map)
            }
            None => Self::Few(vec![0.0; count]),
        }
    }
}

impl Deref for Zeros {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Few(values) => values,
            Self::Many(map) => bytemuck::cast_slice(map),
        }
    }
}

impl DerefMut for Zeros {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Few(values) => values,
            Self::Many(map) => bytemuck::cast_slice_mut(map),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_zeros_that_can_be_written() {
        for count in [0, 1, LARGE / 4 - 1, LARGE / 4, LARGE / 4 + 1] {
            let mut zeros = Zeros::new(count);
            assert_eq!(matches!(zeros, Zeros::Many(_)), count >= LARGE / 4);
            assert_eq!(*zeros, vec![0.0; count]);
            for (k, x) in zeros.iter_mut().enumerate() {
                *x = k as f32;
            }
            assert!(zeros.iter().enumerate().all(|(k, x)| *x == k as f32));
        }
    }
}
