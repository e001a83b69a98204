//! Canonical Huffman codes as XPRESS Huffman and LZX have them: given by the length of each symbol's code word, the
//! shorter before the longer, and those of one length in the order of their symbols.

use stillframe_bytes::Fault;

use crate::bits::BitStream;

/// No code word of either format is longer.
const LONGEST: usize = 16;
/// Code words up to this long are found with one look.
const TABLE_BITS: u32 = 10;
const TABLE_LEN: usize = 1 << TABLE_BITS;
/// How many symbols the largest alphabet has (XPRESS).
const SYMBOLS_AT_MOST: usize = 512;

/// A code that can be decoded. It is used again for the next chunk, so that it takes memory once.
pub(crate) struct Huffman {
    /// By the next [`TABLE_BITS`] bits: the symbol's number above the 4 bits of its length; 0 where it is longer.
    table: [u16; TABLE_LEN],
    /// By length: the first code word, and where its symbol stands in `symbols`.
    first: [u32; LONGEST + 1],
    index: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    symbols: [u16; SYMBOLS_AT_MOST],
}

impl Huffman {
    /// A code without any symbol.
    pub(crate) const fn new() -> Self {
        let by_length = [0; LONGEST + 1];
        Self {
            table: [0; TABLE_LEN],
            first: by_length,
            index: by_length,
            count: by_length,
            symbols: [0; SYMBOLS_AT_MOST],
        }
    }

    /// Takes the code whose symbols have words of these lengths, 0 for none.
    ///
    /// # Errors
    /// Where the words are more, or fewer, than bits can tell apart. No symbol at all is a code too: of what is not
    /// used.
    pub(crate) fn set(&mut self, stream: &BitStream<'_>, lengths: &[u8]) -> Result<(), Fault> {
        self.count = [0; LONGEST + 1];
        self.table = [0; TABLE_LEN];
        for length in lengths {
            let count = self.count.get_mut(usize::from(*length));
            let count =
                count.ok_or_else(|| stream.fault("code word length", LONGEST, usize::from(*length)))?;
            *count = count.saturating_add(1);
        }
        if self.count.first().is_some_and(|count| usize::try_from(*count).ok() == Some(lengths.len())) {
            self.count = [0; LONGEST + 1];
            return Ok(());
        }
        let (mut code, mut index) = (0_u32, 0_u32);
        let by_length = self.first.iter_mut().zip(&mut self.index).zip(&mut self.count);
        for (length, ((first, start), count)) in by_length.enumerate() {
            if length == 0 {
                *count = 0;
                continue;
            }
            // At most 512 symbols over 16 lengths: no more than 2^26.
            code = code.saturating_mul(2);
            (*first, *start) = (code, index);
            code = code.saturating_add(*count);
            index = index.saturating_add(*count);
        }
        if code != 1 << LONGEST {
            let found = usize::try_from(code).unwrap_or(usize::MAX);
            return Err(stream.fault("code words", 1 << LONGEST, found));
        }
        self.fill(lengths);
        Ok(())
    }

    fn fill(&mut self, lengths: &[u8]) {
        let mut next = self.index;
        for (symbol, length) in (0_u16..).zip(lengths).filter(|(_, length)| **length != 0) {
            let length = usize::from(*length);
            let Some(next) = next.get_mut(length) else { continue };
            if let Some(place) = usize::try_from(*next).ok().and_then(|at| self.symbols.get_mut(at)) {
                *place = symbol;
            }
            let rank = next.saturating_sub(self.index.get(length).copied().unwrap_or(0));
            *next = next.saturating_add(1);
            let bits = u32::try_from(length).unwrap_or(u32::MAX);
            let Some(spare) = TABLE_BITS.checked_sub(bits) else { continue };
            let code = self.first.get(length).copied().unwrap_or(0).saturating_add(rank);
            let start = usize::try_from(code.wrapping_shl(spare)).unwrap_or(usize::MAX);
            let end = start.saturating_add(1_usize.wrapping_shl(spare));
            let entry = symbol.wrapping_shl(4) | u16::try_from(length).unwrap_or(0);
            self.table.get_mut(start..end).unwrap_or_default().fill(entry);
        }
    }

    /// The next symbol.
    #[inline]
    pub(crate) fn decode(&self, stream: &mut BitStream<'_>) -> Result<usize, Fault> {
        stream.ensure(16);
        let next = stream.peek();
        let place = usize::try_from(next >> 16_u32.saturating_sub(TABLE_BITS)).unwrap_or(usize::MAX);
        let entry = self.table.get(place).copied().unwrap_or(0);
        if entry != 0 {
            stream.skip(u32::from(entry & 0xF));
            return Ok(usize::from(entry >> 4));
        }
        self.decode_long(stream, next)
    }

    fn decode_long(&self, stream: &mut BitStream<'_>, next: u32) -> Result<usize, Fault> {
        let by_length = self.first.iter().zip(&self.index).zip(&self.count);
        for (bits, ((first, index), count)) in (0_u32..).zip(by_length).skip(1) {
            let rank = (next >> 16_u32.saturating_sub(bits)).wrapping_sub(*first);
            if rank < *count {
                stream.skip(bits);
                let place = usize::try_from(index.saturating_add(rank)).unwrap_or(usize::MAX);
                return Ok(usize::from(self.symbols.get(place).copied().unwrap_or(0)));
            }
        }
        // The code is complete, so that this is one without symbols.
        Err(stream.fault("code words", 1, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(lengths: &[u8], input: &[u8], count: usize) -> Result<Vec<usize>, Fault> {
        let mut stream = BitStream::new("chunk", 0, input);
        let mut code = Huffman::new();
        code.set(&stream, lengths)?;
        (0..count).map(|_| code.decode(&mut stream)).collect()
    }

    #[test]
    fn words_are_given_in_the_order_of_length_and_symbol() {
        // 0: 10, 1: 0, 2: 110, 3: 111.
        assert_eq!(decoded(&[2, 1, 3, 3], &[0b1111_0000, 0b1001_1011], 6).unwrap(), [0, 1, 2, 3, 3, 1]);
    }

    #[test]
    fn words_longer_than_the_table_are_found() {
        // One word of each length to 16, and a second of the longest: 1, 01, …, as canonical codes count: 0, 10, 110, ….
        let lengths: Vec<u8> = (1..=16).chain([16]).collect();
        assert_eq!(decoded(&lengths, &[0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0x7F], 4).unwrap(), [16, 15, 0, 15]);
        assert_eq!(decoded(&lengths, &[0b1110_1111, 0xFF], 1).unwrap(), [11]);
    }

    #[test]
    fn words_that_are_too_many_or_too_few_are_refused() {
        assert!(decoded(&[1, 1, 1], &[], 0).is_err());
        assert!(decoded(&[1], &[], 0).is_err());
        assert!(decoded(&[17, 1], &[], 0).is_err());
        assert!(decoded(&[1; 512], &[], 0).is_err());
        assert_eq!(decoded(&[0; 512], &[0, 0], 0).unwrap(), []);
        assert!(decoded(&[0; 512], &[0, 0], 1).is_err());
    }
}
