//! XPRESS with Huffman codes, as [MS-XCA] 2.2 describes it: one chunk of at most 64 KiB.
//!
//! A chunk begins with 512 lengths of code words, 4 bits each. Symbols below 256 are bytes; the others are copies, whose
//! low 4 bits are the length and whose high 4 bits are how many bits the distance has below its highest.

use stillframe_bytes::Fault;

use crate::bits::{BitStream, copy_match};
use crate::huffman::Huffman;

const LENGTHS_LEN: usize = 256;
const SYMBOLS: usize = 512;
const NAME: &str = "XPRESS chunk";

/// Decodes `input`, which begins at byte `at` of the volume, to `output_len` bytes.
///
/// # Errors
/// [`Fault`] where the chunk ends early, or refers to what is not there.
pub(crate) fn decompress(
    code: &mut Huffman,
    at: u64,
    input: &[u8],
    output_len: usize,
    output: &mut Vec<u8>,
) -> Result<(), Fault> {
    output.clear();
    let Some((packed, rest)) = input.split_at_checked(LENGTHS_LEN) else {
        return Err(Fault::new("XPRESS code lengths", at, LENGTHS_LEN, input.len()));
    };
    let mut lengths = [0; SYMBOLS];
    for (pair, byte) in lengths.chunks_exact_mut(2).zip(packed) {
        pair.copy_from_slice(&[byte & 0xF, byte >> 4]);
    }
    let mut stream = BitStream::new(NAME, at, rest);
    code.set(&stream, &lengths)?;
    while output.len() < output_len {
        let symbol = code.decode(&mut stream)?;
        if let Ok(byte) = u8::try_from(symbol) {
            output.push(byte);
            continue;
        }
        let len = match symbol & 0xF {
            15 => long_length(&mut stream)?,
            short => short,
        };
        let distance_bits = u32::try_from((symbol >> 4) & 0xF).unwrap_or(0);
        let low = stream.take(distance_bits);
        let distance = usize::try_from(1_u32.wrapping_shl(distance_bits) | low).unwrap_or(usize::MAX);
        copy_match(&stream, output, distance, len.saturating_add(3), output_len)?;
    }
    stream.check_end()
}

/// The length of a copy, less 3, where the symbol has no place for it: in 1, 3 or 7 raw bytes.
fn long_length(stream: &mut BitStream<'_>) -> Result<usize, Fault> {
    stream.ensure(16);
    let [byte] = stream.raw()?;
    if byte != 0xFF {
        return Ok(usize::from(byte).saturating_add(15));
    }
    let len = match u16::from_le_bytes(stream.raw()?) {
        0 => usize::try_from(u32::from_le_bytes(stream.raw()?)).unwrap_or(usize::MAX),
        len => usize::from(len),
    };
    // What is below would have had a shorter form.
    if len < 15 { Err(stream.fault("XPRESS match length", 15, len)) } else { Ok(len) }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "test code")]
mod tests {
    use super::*;

    fn chunk(lengths: &[(usize, u8)], rest: &[u8]) -> Vec<u8> {
        let mut chunk = vec![0; LENGTHS_LEN];
        for (at, byte) in lengths {
            chunk[*at] = *byte;
        }
        [chunk, rest.to_vec()].concat()
    }

    fn decoded(input: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
        let mut output = Vec::new();
        decompress(&mut Huffman::new(), 0x100, input, len, &mut output).map(|()| output)
    }

    /// [MS-XCA] 3.2, the second example.
    fn repeated() -> Vec<u8> {
        chunk(&[(48, 0x30), (49, 0x23), (128, 0x02), (143, 0x20)], &[0xa8, 0xdc, 0, 0, 0xff, 0x26, 0x01])
    }

    #[test]
    fn the_examples_of_the_specification_decode() {
        let mut lengths: Vec<_> = (49..59).map(|at| (at, 0x55)).collect();
        lengths.extend([(48, 0x50), (59, 0x45), (60, 0x44), (61, 0x04), (128, 0x04)]);
        let alphabet = chunk(
            &lengths,
            &[
                0xd8, 0x52, 0x3e, 0xd7, 0x94, 0x11, 0x5b, 0xe9, 0x19, 0x5f, 0xf9, 0xd6, 0x7c, 0xdf, 0x8d,
                0x04, 0, 0, 0, 0,
            ],
        );
        assert_eq!(decoded(&alphabet, 26).unwrap(), b"abcdefghijklmnopqrstuvwxyz");
        assert_eq!(decoded(&repeated(), 300).unwrap(), b"abc".repeat(100));
    }

    #[test]
    fn hostile_chunks_are_faults() {
        let what = |input: &[u8], len| decoded(input, len).unwrap_err().what;
        let whole = repeated();
        assert_eq!(what(&whole[..255], 300), "XPRESS code lengths");
        assert_eq!(what(&whole[..256], 300), "XPRESS chunk");
        assert_eq!(what(&whole[..whole.len() - 1], 300), "XPRESS chunk");
        assert_eq!(what(&whole, 299), "decompressed chunk length");
        let mut changed = whole.clone();
        changed[48] = 0x31;
        assert_eq!(what(&changed, 300), "code words");
        // A copy before any byte: symbol 287 has the word 10.
        let mut early = whole.clone();
        early[256..258].copy_from_slice(&[0, 0x80]);
        assert_eq!(what(&early, 300), "match distance");
        let mut short = whole;
        short[261..].copy_from_slice(&[14, 0]);
        assert_eq!(what(&short, 300), "XPRESS match length");
        assert_eq!(what(&[0; 300], 1), "code words");
    }
}
