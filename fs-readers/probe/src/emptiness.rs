//! Whether a volume without a signature holds anything at all.

use stillframe_block::{BlockSource, ReadError};

use crate::Content;

const PIECE_BYTES: u64 = 1 << 20;
const SAMPLE_BYTES: u64 = 64 << 10;
/// Bits per byte. 64 KiB of random bytes give 7.997; program code and text stay below 6.5.
const RANDOM_ENTROPY: f64 = 7.9;
/// Fewer bytes than this cannot show that they are random.
const SAMPLE_LEAST_BYTES: usize = 8 << 10;

pub(crate) fn content_without_signature(volume: &dyn BlockSource) -> Result<Content, ReadError> {
    let Some(first_non_zero) = first_non_zero(volume)? else { return Ok(Content::Empty) };
    let len = SAMPLE_BYTES.min(volume.len_bytes().saturating_sub(first_non_zero));
    let mut sample = vec![0; usize::try_from(len).unwrap_or(0)];
    volume.read_exact_at(first_non_zero, &mut sample)?;
    Ok(Content::Unknown { first_non_zero, looks_random: looks_random(&sample) })
}

fn first_non_zero(volume: &dyn BlockSource) -> Result<Option<u64>, ReadError> {
    let len_bytes = volume.len_bytes();
    let mut buffer = Vec::new();
    let mut offset = 0;
    while let Some(written) = volume.next_written(offset)? {
        let end = written.end.min(len_bytes);
        let mut at = written.start.max(offset);
        if at >= end {
            return Ok(None);
        }
        while at < end {
            let len = PIECE_BYTES.min(end.saturating_sub(at));
            buffer.resize(usize::try_from(len).unwrap_or(0), 0);
            volume.read_exact_at(at, &mut buffer)?;
            if let Some(index) = buffer.iter().position(|byte| *byte != 0) {
                return Ok(Some(at.saturating_add(u64::try_from(index).unwrap_or(0))));
            }
            at = at.saturating_add(len);
        }
        offset = end;
    }
    Ok(None)
}

fn looks_random(sample: &[u8]) -> bool {
    let Ok(total) = u32::try_from(sample.len()) else { return false };
    if sample.len() < SAMPLE_LEAST_BYTES {
        return false;
    }
    let mut counts = [0_u32; 256];
    for byte in sample {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count = count.saturating_add(1);
        }
    }
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / f64::from(total))
        .map(|share| -share * share.log2())
        .sum();
    entropy >= RANDOM_ENTROPY
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicU64, Ordering};

    use stillframe_block::MemorySource;

    use super::*;

    /// A terabyte of which nothing but 4 KiB was ever written.
    struct Hole {
        written: Range<u64>,
        read_bytes: AtomicU64,
    }

    impl BlockSource for Hole {
        fn len_bytes(&self) -> u64 {
            1 << 40
        }

        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
            self.read_bytes.fetch_add(u64::try_from(buffer.len()).unwrap(), Ordering::Relaxed);
            for (index, byte) in (offset..).zip(buffer.iter_mut()) {
                *byte = u8::from(self.written.contains(&index));
            }
            Ok(())
        }

        fn next_written(&self, offset: u64) -> Result<Option<Range<u64>>, ReadError> {
            Ok((offset < self.written.end).then(|| self.written.start.max(offset)..self.written.end))
        }
    }

    #[test]
    fn holes_cost_nothing() {
        let hole = Hole { written: 0..0, read_bytes: AtomicU64::new(0) };
        assert_eq!(content_without_signature(&hole).unwrap(), Content::Empty);
        assert_eq!(hole.read_bytes.into_inner(), 0);
        let start = 1 << 39;
        let spot = Hole { written: start..start + 4096, read_bytes: AtomicU64::new(0) };
        let unknown = Content::Unknown { first_non_zero: start, looks_random: false };
        assert_eq!(content_without_signature(&spot).unwrap(), unknown);
        assert!(spot.read_bytes.into_inner() <= 4096 + SAMPLE_BYTES);
    }

    #[test]
    fn written_zeros_are_empty_and_one_byte_is_not() {
        let mut bytes = vec![0; 3 << 20];
        assert_eq!(content_without_signature(&MemorySource(bytes.clone())).unwrap(), Content::Empty);
        *bytes.last_mut().unwrap() = 1;
        let unknown = Content::Unknown { first_non_zero: (3 << 20) - 1, looks_random: false };
        assert_eq!(content_without_signature(&MemorySource(bytes)).unwrap(), unknown);
        assert_eq!(content_without_signature(&MemorySource(Vec::new())).unwrap(), Content::Empty);
    }

    #[test]
    fn random_bytes_look_random_and_text_does_not() {
        let mut state = 1_u64;
        let random: Vec<u8> = (0..1 << 16)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        assert!(looks_random(&random));
        assert!(!looks_random(&b"some words of plain text, ".repeat(2000)));
    }
}
