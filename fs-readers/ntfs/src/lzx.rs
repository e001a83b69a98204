//! LZX as Windows Imaging files and WOF have it: chunks of 32 KiB that know nothing of each other.
//!
//! The format is that of [MS-PATCH] 2 (LZX) with these differences, for which wimlib's documentation is the source: a
//! window of 32 KiB; a block's size is one bit for 32 KiB, or 16 bits; every chunk begins with codes of no length and the
//! distances 1, 1, 1; and calls of x86 code (0xE8) are always translated, as of a file of 12,000,000 bytes.

use stillframe_bytes::Fault;

use crate::bits::{BitStream, copy_match};
use crate::huffman::Huffman;

const NAME: &str = "LZX chunk";
/// What a chunk decodes to.
pub(crate) const CHUNK_LEN: usize = 32 << 10;
const BYTES: usize = 256;
/// Of a window of 32 KiB.
const DISTANCE_SLOTS: usize = 30;
const MAIN_SYMBOLS: usize = BYTES + 8 * DISTANCE_SLOTS;
const LENGTH_SYMBOLS: usize = 249;
const LENGTH_BITS_SYMBOLS: usize = 20;
const ALIGNED_SYMBOLS: usize = 8;
const VERBATIM: u32 = 1;
const ALIGNED: u32 = 2;
const UNCOMPRESSED: u32 = 3;
const TRANSLATION_SIZE: i32 = 12_000_000;

/// The codes of a chunk, kept from chunk to chunk for their memory alone.
pub(crate) struct Lzx {
    main: Huffman,
    length: Huffman,
    aligned: Huffman,
    length_bits: Huffman,
    main_lengths: [u8; MAIN_SYMBOLS],
    length_lengths: [u8; LENGTH_SYMBOLS],
    /// The last distances, the newest first.
    recent: [usize; 3],
}

impl Lzx {
    /// Ready for any chunk.
    pub(crate) const fn new() -> Self {
        Self {
            main: Huffman::new(),
            length: Huffman::new(),
            aligned: Huffman::new(),
            length_bits: Huffman::new(),
            main_lengths: [0; MAIN_SYMBOLS],
            length_lengths: [0; LENGTH_SYMBOLS],
            recent: [1; 3],
        }
    }

    /// Decodes `input`, which begins at byte `at` of the volume, to `output_len` bytes.
    ///
    /// # Errors
    /// [`Fault`] where the chunk ends early, or refers to what is not there.
    pub(crate) fn decompress(
        &mut self,
        at: u64,
        input: &[u8],
        output_len: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        output.clear();
        self.main_lengths = [0; MAIN_SYMBOLS];
        self.length_lengths = [0; LENGTH_SYMBOLS];
        self.recent = [1; 3];
        let mut stream = BitStream::new(NAME, at, input);
        while output.len() < output_len {
            self.block(&mut stream, output_len, output)?;
        }
        stream.check_end()?;
        undo_translation(output);
        Ok(())
    }

    fn block(
        &mut self,
        stream: &mut BitStream<'_>,
        output_len: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let kind = stream.take(3);
        let len = if stream.take(1) == 1 { CHUNK_LEN } else { usize::try_from(stream.take(16)).unwrap_or(0) };
        let left = output_len.saturating_sub(output.len());
        if len == 0 || len > left {
            return Err(stream.fault("LZX block length", left, len));
        }
        let end = output.len().saturating_add(len);
        match kind {
            VERBATIM => {
                self.codes(stream)?;
                self.symbols::<false>(stream, end, output)
            }
            ALIGNED => {
                let mut lengths = [0; ALIGNED_SYMBOLS];
                lengths.fill_with(|| low_byte(stream.take(3)));
                self.aligned.set(stream, &lengths)?;
                self.codes(stream)?;
                self.symbols::<true>(stream, end, output)
            }
            UNCOMPRESSED => self.stored(stream, len, output),
            other => Err(stream.fault("LZX block type", 3, usize::try_from(other).unwrap_or(0))),
        }
    }

    /// Reads the main and the length code, which are told by what changed since the last block.
    fn codes(&mut self, stream: &mut BitStream<'_>) -> Result<(), Fault> {
        let Self { main, length, length_bits, main_lengths, length_lengths, .. } = self;
        let (bytes, copies) = main_lengths.split_at_mut(BYTES);
        for lengths in [bytes, copies] {
            changed_lengths(length_bits, stream, lengths)?;
        }
        main.set(stream, main_lengths)?;
        changed_lengths(length_bits, stream, length_lengths)?;
        length.set(stream, length_lengths)
    }

    /// Decodes the symbols of a block up to `end` bytes of output.
    fn symbols<const HAS_ALIGNED: bool>(
        &mut self,
        stream: &mut BitStream<'_>,
        end: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        while output.len() < end {
            let symbol = self.main.decode(stream)?;
            if let Ok(byte) = u8::try_from(symbol) {
                output.push(byte);
                continue;
            }
            let copy = symbol.saturating_sub(BYTES);
            let len = match copy & 7 {
                7 => self.length.decode(stream)?.saturating_add(7),
                short => short,
            };
            let distance = self.distance::<HAS_ALIGNED>(stream, copy >> 3)?;
            copy_match(stream, output, distance, len.saturating_add(2), end)?;
        }
        Ok(())
    }

    fn distance<const HAS_ALIGNED: bool>(
        &mut self,
        stream: &mut BitStream<'_>,
        slot: usize,
    ) -> Result<usize, Fault> {
        let [newest, middle, oldest] = self.recent;
        self.recent = match slot {
            0 => [newest, middle, oldest],
            1 => [middle, newest, oldest],
            2 => [oldest, middle, newest],
            _ => {
                let (base, extra_bits) = slot_base(slot);
                let extra = match extra_bits.checked_sub(3) {
                    Some(high_bits) if HAS_ALIGNED => {
                        let high = usize::try_from(stream.take(high_bits)).unwrap_or(0);
                        (high << 3) | self.aligned.decode(stream)?
                    }
                    _ => usize::try_from(stream.take(extra_bits)).unwrap_or(0),
                };
                // The slots count from two below, for the three recent distances.
                let distance = base.saturating_add(extra).saturating_sub(2);
                [distance, newest, middle]
            }
        };
        Ok(self.recent[0])
    }

    /// A block of bytes as they are, behind the three recent distances.
    fn stored(&mut self, stream: &mut BitStream<'_>, len: usize, output: &mut Vec<u8>) -> Result<(), Fault> {
        // 1 to 16 bits fill the word, so that a word that is full is followed by an empty one.
        stream.ensure(1);
        stream.check_end()?;
        stream.align();
        for recent in &mut self.recent {
            let distance = u32::from_le_bytes(stream.raw()?);
            *recent = usize::try_from(distance).unwrap_or(usize::MAX);
        }
        output.extend_from_slice(stream.raw_slice(len)?);
        if !len.is_multiple_of(2) {
            // What fills the last word may be missing at the end; anything that follows would miss it.
            let _ = stream.raw::<1>();
        }
        Ok(())
    }
}

fn low_byte(number: u32) -> u8 {
    u8::try_from(number & 0xFF).unwrap_or(0)
}

/// The lowest distance of a slot from 3 on, counted from two below, and how many bits say which of the slot it is.
fn slot_base(slot: usize) -> (usize, u32) {
    let bits = u32::try_from(slot / 2).unwrap_or(0).saturating_sub(1);
    let base = if bits == 0 { slot } else { (2 | (slot & 1)).wrapping_shl(bits) };
    (base, bits)
}

/// Reads lengths of code words: each is told by how much shorter than before it is, modulo 17.
fn changed_lengths(code: &mut Huffman, stream: &mut BitStream<'_>, lengths: &mut [u8]) -> Result<(), Fault> {
    let mut of_code = [0; LENGTH_BITS_SYMBOLS];
    of_code.fill_with(|| low_byte(stream.take(4)));
    code.set(stream, &of_code)?;
    let mut rest = lengths;
    while let Some(before) = rest.first().copied() {
        let (count, length) = match code.decode(stream)? {
            17 => (stream.take(4).saturating_add(4), 0),
            18 => (stream.take(5).saturating_add(20), 0),
            19 => {
                let count = stream.take(1).saturating_add(4);
                let symbol = code.decode(stream)?;
                (count, shorter(stream, before, symbol)?)
            }
            symbol => (1, shorter(stream, before, symbol)?),
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let all = rest.len();
        let (now, later) =
            rest.split_at_mut_checked(count).ok_or_else(|| stream.fault("LZX code lengths", all, count))?;
        now.fill(length);
        rest = later;
    }
    Ok(())
}

/// `before` less `symbol`, modulo 17.
fn shorter(stream: &BitStream<'_>, before: u8, symbol: usize) -> Result<u8, Fault> {
    let symbol = u8::try_from(symbol).ok().filter(|symbol| *symbol <= 16);
    let symbol = symbol.ok_or_else(|| stream.fault("LZX code length", 16, 17))?;
    Ok(before.checked_sub(symbol).unwrap_or_else(|| before.wrapping_add(17).wrapping_sub(symbol)))
}

/// Makes the targets of x86 calls, which are written as places in the file, distances from the call again.
fn undo_translation(bytes: &mut [u8]) {
    // In the last 10 bytes of a chunk nothing is translated.
    let end = bytes.len().saturating_sub(10);
    let mut at = 0_usize;
    while let Some(skipped) = bytes.get(at..end).and_then(|rest| rest.iter().position(|byte| *byte == 0xE8)) {
        let call = at.saturating_add(skipped);
        let position = i32::try_from(call).unwrap_or(i32::MAX);
        let target = bytes.get_mut(call.saturating_add(1)..).and_then(|rest| rest.first_chunk_mut::<4>());
        if let Some(target) = target {
            let place = i32::from_le_bytes(*target);
            if (0..TRANSLATION_SIZE).contains(&place) {
                *target = place.wrapping_sub(position).to_le_bytes();
            } else if place < 0 && place >= position.wrapping_neg() {
                *target = place.wrapping_add(TRANSLATION_SIZE).to_le_bytes();
            }
        }
        at = call.saturating_add(5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
        let mut output = Vec::new();
        Lzx::new().decompress(0x100, input, len, &mut output).map(|()| output)
    }

    /// A block of bytes as they are: type 3, no standard length, `len`, filled up to the second word.
    fn stored(len: u16, bytes: &[u8]) -> Vec<u8> {
        let bits = (0b0110_u32 << 28) | (u32::from(len) << 12);
        let [a, b, c, d] = bits.to_be_bytes();
        let recent = [1_u32, 1, 1].map(u32::to_le_bytes).concat();
        [&[b, a, d, c][..], &recent, bytes].concat()
    }

    #[test]
    fn slots_are_as_the_specification_lists_them() {
        let slots = [3, 4, 5, 6, 7, 8, 29].map(slot_base);
        assert_eq!(slots, [(3, 0), (4, 1), (6, 1), (8, 2), (12, 2), (16, 3), (24576, 13)]);
    }

    #[test]
    fn stored_blocks_and_what_is_wrong_with_them() {
        assert_eq!(decoded(&stored(4, b"abcd"), 4).unwrap(), b"abcd");
        let two = [stored(3, b"abc\0"), stored(2, b"de")].concat();
        assert_eq!(decoded(&two, 5).unwrap(), b"abcde");
        let what = |input: &[u8], len| decoded(input, len).unwrap_err().what;
        assert_eq!(what(&stored(4, b"abc"), 4), "LZX chunk");
        assert_eq!(what(&stored(5, b"abcde"), 4), "LZX block length");
        assert_eq!(what(&stored(0, b""), 4), "LZX block length");
        assert_eq!(what(&[0xFF; 40], 3), "LZX block length");
        assert_eq!(what(&[0; 40], 3), "LZX block length");
        assert_eq!(what(&[], 3), "LZX block length");
        assert_eq!(what(&[0x10, 0x00, 0x10, 0x00], 1), "LZX block length");
        assert_eq!(what(&[0x00, 0x40, 0x00, 0x10], 1), "code words");
    }

    #[test]
    fn calls_are_translated_back_where_they_lead_into_the_file() {
        let mut bytes = [0; 64];
        let calls = [(0, 7), (20, 100), (30, -30), (40, -41), (50, TRANSLATION_SIZE), (54, 100)];
        for (at, place) in calls {
            let call = [&[0xE8][..], &i32::to_le_bytes(place)].concat();
            bytes.iter_mut().skip(at).zip(call).for_each(|(byte, new)| *byte = new);
        }
        undo_translation(&mut bytes);
        let targets = calls.map(|(at, _)| {
            let target: Vec<u8> = bytes.iter().copied().skip(at).skip(1).take(4).collect();
            i32::from_le_bytes(target.try_into().unwrap())
        });
        // The last but one lost its end to the last, which lies in the last 10 bytes.
        let expected = [7, 80, TRANSLATION_SIZE - 30, -41];
        assert_eq!(targets[..4], expected);
        assert_eq!(targets[5], 100);
    }
}
