use std::ops::Range;
use std::sync::Mutex;

use crate::{BlockSource, ReadError, check_bounds};

/// 16 GiB of zeros that keep the hints they were given. For tests.
#[derive(Default)]
pub(crate) struct Hints(Mutex<Vec<Range<u64>>>);

impl Hints {
    /// The hints since the last call, without empty ones.
    pub(crate) fn taken(&self) -> Vec<Range<u64>> {
        let mut hints = std::mem::take(&mut *self.0.lock().unwrap());
        hints.retain(|hint| !hint.is_empty());
        hints
    }
}

impl BlockSource for Hints {
    fn len_bytes(&self) -> u64 {
        16 << 30
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        check_bounds(offset, buffer.len(), self.len_bytes())?;
        buffer.fill(0);
        Ok(())
    }

    fn prefetch(&self, ranges: &[Range<u64>]) {
        self.0.lock().unwrap().extend_from_slice(ranges);
    }

    fn wants_hints(&self) -> bool {
        true
    }
}
