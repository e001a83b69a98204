//! Random and changed input for the decompressors: they end, stay inside their bounds, and give bytes or a fault.

use crate::huffman::Huffman;
use crate::lzx::Lzx;
use crate::{lznt1, xpress};

const CHUNK_LEN: usize = 4000;

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn number(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number().to_le_bytes()[0]).collect()
    }
}

/// Decodes with each decoder; `Ok` is as long as it was asked to be. Says which had bytes.
fn decoded(input: &[u8], output_len: usize) -> [bool; 3] {
    let mut output = Vec::new();
    let by_xpress = xpress::decompress(&mut Huffman::new(), 0, input, output_len, &mut output);
    assert!(output.len() <= output_len && (by_xpress.is_err() || output.len() == output_len));
    let by_lzx = Lzx::new().decompress(0, input, output_len, &mut output);
    assert!(output.len() <= output_len && (by_lzx.is_err() || output.len() == output_len));
    let by_lznt1 = lznt1::decompress(0, input, output_len);
    assert!(by_lznt1.as_ref().is_ok_and(|output| output.len() == output_len) || by_lznt1.is_err());
    [by_xpress.is_ok(), by_lzx.is_ok(), by_lznt1.is_ok()]
}

#[test]
fn random_input_is_bytes_or_a_fault() {
    let mut random = Random(1);
    for turn in 0..4000 {
        let len = random.number() % [20, 400, 5000][turn % 3];
        let output_len = 1 + random.number() % 32_768;
        let mut input = random.bytes(len);
        // Past the first tables: a complete code of 512 words of 9 bits, or an LZX block of a known type.
        match turn % 4 {
            0 => input.iter_mut().take(256).for_each(|byte| *byte = 0x99),
            1 => input.iter_mut().skip(1).take(1).for_each(|byte| *byte = 0x30 | (*byte & 0xF)),
            2 => input.iter_mut().skip(1).take(1).for_each(|byte| *byte = 0x50 | (*byte & 0xF)),
            _ => {}
        }
        decoded(&input, output_len);
    }
}

/// A bit stream as XPRESS and LZX have it.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, count: u32, number: usize) {
        self.0.extend((0..count).rev().map(|bit| number >> bit & 1 == 1));
    }

    fn bytes(&self) -> Vec<u8> {
        let words = self.0.chunks(16).map(|bits| {
            bits.iter().zip((0..16).rev()).fold(0_u16, |word, (bit, place)| word | u16::from(*bit) << place)
        });
        words.flat_map(u16::to_le_bytes).collect()
    }
}

/// An LZX chunk of one block, and what it stands for: all 496 symbols have words of 8 or 9 bits, all 249 of 7 or 8.
fn lzx_chunk(random: &mut Random, aligned: bool) -> (Vec<u8>, Vec<u8>) {
    let mut bits = Bits::default();
    bits.put(3, if aligned { 2 } else { 1 });
    bits.put(1, 0);
    bits.put(16, CHUNK_LEN);
    if aligned {
        (0..8).for_each(|_| bits.put(3, 3));
    }
    // 16 words of 8 bits and 480 of 9 are a complete code; so are 7 words of 7 bits and 242 of 8.
    for (symbols, short, length) in [(256, 16, 8), (240, 0, 8), (249, 7, 7)] {
        // The symbols of the lengths: two, each with a word of one bit. A length is the one before (0) less the symbol.
        let (first, second) = (17 - length, 17 - length - 1);
        for symbol in 0..20 {
            bits.put(4, usize::from(symbol == first || symbol == second));
        }
        for symbol in 0..symbols {
            // The greater symbol has the word 1: it makes the shorter length.
            bits.put(1, usize::from(symbol < short));
        }
    }
    let mut output = Vec::new();
    while output.len() < CHUNK_LEN {
        let left = CHUNK_LEN - output.len();
        if !random.number().is_multiple_of(3) || left < 300 || output.len() < 40 {
            // No byte that begins a call, which would be translated.
            let byte = random.number() % 0xE8;
            put_main(&mut bits, byte);
            output.push(byte as u8);
            continue;
        }
        // Slots 8 to 9 reach 14 to 29 bytes back, 3 to 7 no further than 13; 0 is the distance before.
        let slot = [3, 4, 7, 8, 9][random.number() % 5];
        let len = random.number() % 256;
        put_main(&mut bits, 256 + slot * 8 + len.min(7));
        if let Some(long) = len.checked_sub(7) {
            if long < 7 { bits.put(7, long) } else { bits.put(8, 14 + long - 7) }
        }
        let extra_bits = slot as u32 / 2 - 1;
        let extra = random.number() & ((1 << extra_bits) - 1);
        // The low three bits are a word of the aligned code: of 3 bits for each symbol.
        bits.put(extra_bits, extra);
        let base = [0, 0, 0, 3, 4, 6, 8, 12, 16, 24][slot];
        (0..len + 2).for_each(|_| output.push(output[output.len() + 2 - base - extra]));
    }
    (bits.bytes(), output)
}

/// A word of the main code: the 16 first symbols have 8 bits.
fn put_main(bits: &mut Bits, symbol: usize) {
    if symbol < 16 { bits.put(8, symbol) } else { bits.put(9, 32 + symbol - 16) }
}

/// An XPRESS chunk of literals and copies, by a code in which the word of each symbol is its number, and what it stands
/// for.
fn xpress_chunk(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let (mut bits, mut output) = (Bits::default(), Vec::new());
    while output.len() < CHUNK_LEN {
        if !random.number().is_multiple_of(3) || CHUNK_LEN - output.len() < 20 || output.len() < 20 {
            let byte = random.number() % 256;
            bits.put(9, byte);
            output.push(byte as u8);
            continue;
        }
        let (distance_bits, len) = (random.number() % 5, random.number() % 15);
        bits.put(9, 256 + distance_bits * 16 + len);
        let low = random.number() & ((1 << distance_bits) - 1);
        bits.put(distance_bits as u32, low);
        let distance = 1 << distance_bits | low;
        let distance = if distance > output.len() { return xpress_chunk(random) } else { distance };
        (0..len + 3).for_each(|_| output.push(output[output.len() - distance]));
    }
    ([vec![0x99; 256], bits.bytes()].concat(), output)
}

#[test]
fn chunks_whose_codes_are_whole_and_what_is_changed_in_them() {
    let mut random = Random(7);
    let mut output = Vec::new();
    let mut other = 0;
    for turn in 0..300 {
        let (mut input, expected) = match turn % 3 {
            0 => xpress_chunk(&mut random),
            kind => lzx_chunk(&mut random, kind == 1),
        };
        let decode = |input: &[u8], output: &mut Vec<u8>| match turn % 3 {
            0 => xpress::decompress(&mut Huffman::new(), 0, input, CHUNK_LEN, output),
            _ => Lzx::new().decompress(0, input, CHUNK_LEN, output),
        };
        decode(&input, &mut output).unwrap();
        assert!(output == expected, "turn {turn}");
        assert!(decode(&input[..input.len() / 2], &mut output).is_err());
        // One bit of the codes, and one of the symbols.
        for range in [100, input.len()] {
            let (at, bit) = (random.number() % range, 1 << (random.number() % 8));
            input[at] ^= bit;
            other += usize::from(decode(&input, &mut output).is_err() || output != expected);
            decoded(&input, CHUNK_LEN);
            input[at] ^= bit;
        }
    }
    assert!(other > 500, "{other}");
}
