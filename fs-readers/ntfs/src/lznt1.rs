//! LZNT1, as [MS-XCA] 2.5 describes it.
//!
//! A stream is a row of chunks; each begins with a 16-bit header and decodes to at most 4096 bytes. A compressed chunk
//! is groups of a flag byte and eight elements: a literal byte, or a 16-bit copy whose split between distance and
//! length moves with the position in the chunk.

use stillframe_bytes::{Fault, Structure};

/// What a chunk decodes to, in bytes.
const CHUNK_BYTES: usize = 4096;

/// Decodes `input` to at most `output_len` bytes, and fills what it does not reach with zeros, as a compression unit
/// is when its tail was never written.
///
/// # Errors
/// [`Fault`] where a chunk is cut off, or refers to what is not there. `at` is where `input` begins on the volume.
pub(crate) fn decompress(at: u64, input: &[u8], output_len: usize) -> Result<Vec<u8>, Fault> {
    let stream = Structure::new("LZNT1 chunk", at, input);
    let mut output = Vec::with_capacity(output_len);
    let mut offset = 0_usize;
    while output.len() < output_len && offset.saturating_add(2) <= input.len() {
        let header = stream.u16_le(offset)?;
        if header == 0 {
            break;
        }
        let len = usize::from(header & 0x0FFF).saturating_add(1);
        let start = offset.saturating_add(2);
        if header & 0x7000 != 0x3000 {
            return Err(stream.fault("LZNT1 chunk signature", offset, 3_u8, (header >> 12) & 7));
        }
        let chunk = stream.part("LZNT1 chunk", start, len)?;
        // Every chunk but the last stands for 4096 bytes, however few it decodes to.
        output.resize(output.len().next_multiple_of(CHUNK_BYTES), 0);
        if header & 0x8000 == 0 {
            output.extend_from_slice(chunk.bytes());
        } else {
            decompress_chunk(&chunk, &mut output)?;
        }
        offset = start.saturating_add(len);
    }
    output.resize(output_len, 0);
    Ok(output)
}

fn decompress_chunk(chunk: &Structure<'_>, output: &mut Vec<u8>) -> Result<(), Fault> {
    let chunk_start = output.len();
    let mut offset = 0_usize;
    while offset < chunk.len() {
        let flags = chunk.u8(offset)?;
        offset = offset.saturating_add(1);
        for bit in 0..8 {
            if offset >= chunk.len() {
                break;
            }
            let written = output.len().saturating_sub(chunk_start);
            if (flags >> bit) & 1 == 0 {
                if written >= CHUNK_BYTES {
                    return Err(chunk.fault(
                        "LZNT1 chunk length",
                        offset,
                        CHUNK_BYTES,
                        written.saturating_add(1),
                    ));
                }
                output.push(chunk.u8(offset)?);
                offset = offset.saturating_add(1);
            } else {
                let copy = chunk.u16_le(offset)?;
                let length_bits = length_bits(written);
                let length = usize::from(copy & !(u16::MAX << length_bits)).saturating_add(3);
                let distance = usize::from(copy >> length_bits).saturating_add(1);
                if distance > written {
                    return Err(chunk.fault("LZNT1 copy distance", offset, distance, written));
                }
                if length > CHUNK_BYTES.saturating_sub(written) {
                    let end = written.saturating_add(length);
                    return Err(chunk.fault("LZNT1 chunk length", offset, CHUNK_BYTES, end));
                }
                for _ in 0..length {
                    // A copy may overlap what it writes, so byte by byte.
                    let byte = output.get(output.len().saturating_sub(distance)).copied().unwrap_or(0);
                    output.push(byte);
                }
                offset = offset.saturating_add(2);
            }
        }
    }
    Ok(())
}

/// How many bits of a copy are its length, `written` bytes into a chunk: the distance takes as many as it needs to
/// reach the chunk's start, but at least 4.
fn length_bits(written: usize) -> u32 {
    let needed = usize::BITS.saturating_sub(written.saturating_sub(1).leading_zeros());
    16_u32.saturating_sub(needed.clamp(4, 12))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test code")]
mod tests {
    use super::*;

    fn chunk(body: &[u8]) -> Vec<u8> {
        let header = 0xB000 | u16::try_from(body.len() - 1).unwrap();
        [&header.to_le_bytes()[..], body].concat()
    }

    #[test]
    fn the_example_of_the_specification_decodes() {
        // [MS-XCA] 3.3: LZNT1.
        let input = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01,
            0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24,
            0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48,
            0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01, 0x18, 0x90, 0x00,
        ];
        let expected = "F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D \
                        E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        let output = decompress(0, &input, expected.len()).unwrap();
        assert_eq!(output, expected.as_bytes());
    }

    #[test]
    fn the_split_of_a_copy_moves_with_the_position() {
        let bits: Vec<_> = [1, 16, 17, 32, 33, 2048, 2049, 4095].map(length_bits).into();
        assert_eq!(bits, [12, 12, 11, 11, 10, 5, 4, 4]);
    }

    #[test]
    fn a_copy_may_overlap_itself() {
        // A literal, then a copy of 4095 bytes from distance 1.
        let input = chunk(&[0b10, b'x', 0xFC, 0x0F]);
        assert_eq!(decompress(0, &input, 4096).unwrap(), vec![b'x'; 4096]);
    }

    #[test]
    fn stored_chunks_short_chunks_and_the_end_marker() {
        let mut input = vec![0x02, 0x30, b'a', b'b', b'c'];
        input.extend(chunk(&[0, b'd']));
        input.extend([0, 0, 9, 9]);
        let output = decompress(0, &input, 8192).unwrap();
        assert_eq!((&output[..4], &output[4096..4099]), (&b"abc\0"[..], &b"d\0\0"[..]));
        assert_eq!(output.len(), 8192);
    }

    #[test]
    fn hostile_chunks_are_faults() {
        let what = |input: &[u8]| decompress(0x100, input, 8192).unwrap_err().what;
        assert_eq!(what(&chunk(&[0b1, 0, 0])), "LZNT1 copy distance");
        assert_eq!(what(&chunk(&[0b10, b'x', 0, 0x10])), "LZNT1 copy distance");
        assert_eq!(what(&chunk(&[0b10, b'x', 0xFF, 0x0F])), "LZNT1 chunk length");
        assert_eq!(what(&chunk(&[0b10, b'x', 0xFF])), "LZNT1 chunk");
        assert_eq!(what(&[0xFF, 0xBF, 0]), "LZNT1 chunk");
        assert_eq!(what(&[0x01, 0x80, 0, 0]), "LZNT1 chunk signature");
        // 4097 literals.
        let mut body = Vec::new();
        for _ in 0..455 {
            body.extend([0; 9]);
        }
        body.extend([0b1000_0000; 1]);
        body.extend([1, 1]);
        assert!(decompress(0, &chunk(&body), 8192).is_ok());
        let long = chunk(&[&[0b10, b'x', 0xFC, 0x0F][..], b"y"].concat());
        assert_eq!(what(&long), "LZNT1 chunk length");
    }
}
