//! The bit stream that XPRESS Huffman and LZX share: little-endian words of 16 bits, each read from its highest bit
//! down, with raw bytes between words where the format has some.
//!
//! Words are taken no earlier than needed, since what a raw byte follows is the last word that was taken.

use stillframe_bytes::Fault;

const WORD_BITS: u32 = 16;

/// A compressed chunk, read bit by bit.
pub(crate) struct BitStream<'a> {
    name: &'static str,
    at: u64,
    input: &'a [u8],
    /// The next byte of `input` that no word or raw byte was taken from.
    next: usize,
    /// Bits that were taken and not yet used, from the highest down.
    bits: u32,
    left: u32,
    /// Bits of `left` that stand for words past the end of the input.
    missing: u32,
}

impl<'a> BitStream<'a> {
    /// `input`, the chunk called `name` that begins at byte `at` of the volume.
    pub(crate) const fn new(name: &'static str, at: u64, input: &'a [u8]) -> Self {
        Self { name, at, input, next: 0, bits: 0, left: 0, missing: 0 }
    }

    /// Takes words until `count` bits (at most 16) can be looked at. Past the end there are zeros: a decoder looks
    /// further than it uses.
    pub(crate) fn ensure(&mut self, count: u32) {
        if self.left >= count {
            return;
        }
        let word = match self.input.get(self.next..).and_then(|rest| rest.first_chunk::<2>()) {
            Some(word) => {
                self.next = self.next.saturating_add(2);
                u16::from_le_bytes(*word)
            }
            None => {
                self.missing = self.missing.saturating_add(WORD_BITS);
                0
            }
        };
        // `left` is at most 15 here, so that the word has its place below it.
        self.bits |= u32::from(word).wrapping_shl(WORD_BITS.wrapping_sub(self.left));
        self.left = self.left.wrapping_add(WORD_BITS);
    }

    /// The next 16 bits, of which [`Self::ensure`] made as many sure as it was asked for.
    pub(crate) const fn peek(&self) -> u32 {
        self.bits >> WORD_BITS
    }

    /// Uses `count` bits (at most 16) that [`Self::ensure`] made sure.
    pub(crate) fn skip(&mut self, count: u32) {
        self.bits = self.bits.wrapping_shl(count);
        self.left = self.left.saturating_sub(count);
    }

    /// The next `count` bits (at most 16) as a number.
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        self.ensure(count);
        let number = self.bits.wrapping_shr(u32::BITS.saturating_sub(count));
        self.skip(count);
        number
    }

    /// Forgets the bits that are left of the words taken, so that raw bytes follow.
    pub(crate) fn align(&mut self) {
        (self.bits, self.left) = (0, 0);
    }

    /// `N` raw bytes from behind the last word taken.
    pub(crate) fn raw<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = self.input.get(self.next..).and_then(|rest| rest.first_chunk::<N>());
        let bytes = *bytes.ok_or_else(|| self.ended())?;
        self.next = self.next.saturating_add(N);
        Ok(bytes)
    }

    /// `len` raw bytes from behind the last word taken.
    pub(crate) fn raw_slice(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let bytes =
            self.input.get(self.next..).and_then(|rest| rest.get(..len)).ok_or_else(|| self.ended())?;
        self.next = self.next.saturating_add(len);
        Ok(bytes)
    }

    /// Whether bits were used that the input does not have.
    pub(crate) fn check_end(&self) -> Result<(), Fault> {
        if self.missing > self.left { Err(self.ended()) } else { Ok(()) }
    }

    fn ended(&self) -> Fault {
        Fault::new(self.name, self.at, "more compressed bytes", self.input.len())
    }

    /// A fault of the chunk.
    pub(crate) fn fault(&self, what: &'static str, claimed: usize, found: usize) -> Fault {
        let next = u64::try_from(self.next).unwrap_or(u64::MAX);
        Fault::new(what, self.at.saturating_add(next), claimed, found)
    }
}

/// Appends the `len` bytes that begin `distance` bytes before the end of `output`; they may overlap what is written.
///
/// # Errors
/// Where that is before the start of `output`, or past `cap` bytes of it.
pub(crate) fn copy_match(
    stream: &BitStream<'_>,
    output: &mut Vec<u8>,
    distance: usize,
    len: usize,
    cap: usize,
) -> Result<(), Fault> {
    let start = output.len().checked_sub(distance).filter(|start| *start < output.len());
    let start = start.ok_or_else(|| stream.fault("match distance", distance, output.len()))?;
    if len > cap.saturating_sub(output.len()) {
        return Err(stream.fault("decompressed chunk length", cap, output.len().saturating_add(len)));
    }
    let mut left = len;
    while left > 0 {
        // What was copied may be copied again, so each turn takes twice as much.
        let count = left.min(output.len().saturating_sub(start));
        output.extend_from_within(start..start.saturating_add(count));
        left = left.saturating_sub(count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_from_the_highest_of_each_word_and_raw_bytes_from_behind_it() {
        let mut stream = BitStream::new("chunk", 0, &[0x34, 0x12, 0xAA, 0x78, 0x56]);
        assert_eq!((stream.take(4), stream.take(8)), (0x1, 0x23));
        assert_eq!(stream.raw().unwrap(), [0xAA]);
        assert_eq!(stream.take(16), 0x4567);
        assert_eq!(stream.take(4), 8);
        stream.check_end().unwrap();
        stream.ensure(16);
        stream.check_end().unwrap();
        stream.take(1);
        assert!(stream.check_end().is_err());
        assert!(stream.raw::<1>().is_err());
    }

    #[test]
    fn a_match_repeats_what_it_writes_and_stays_inside() {
        let stream = BitStream::new("chunk", 0, &[]);
        let mut output = b"abc".to_vec();
        copy_match(&stream, &mut output, 2, 5, 8).unwrap();
        assert_eq!(output, b"abcbcbcb");
        for (distance, len, cap) in [(0, 1, 99), (9, 1, 99), (1, 2, 9)] {
            assert!(copy_match(&stream, &mut output, distance, len, cap).is_err());
        }
        assert_eq!(output.len(), 8);
    }
}
