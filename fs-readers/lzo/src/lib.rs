//! LZO1X decompression (kernel `Documentation/staging/lzo.rst` describes the stream).
//!
//! Nothing is allocated on a claim: output grows as the stream makes it, up to a bound that the caller gives.

/// Decompresses one stream onto the end of `content`, which may grow to `end` bytes. Matches reach back to where the
/// stream's own output begins. `None` where the stream is damaged or holds more; what was made until then is in `content`.
pub fn decompress(stream: &[u8], end: usize, content: &mut Vec<u8>) -> Option<()> {
    let mut output = Output { start: content.len(), end, content };
    let mut input = Input { rest: stream };
    // How many literals went before: 0 to 3 with the last match, or 4 for a run of their own.
    let mut literals = 0;
    if let Some(first) = stream.first().copied().filter(|first| *first >= 18) {
        input.byte()?;
        let run = usize::from(first).checked_sub(17)?;
        output.literals(&mut input, run)?;
        literals = run.min(4);
    }
    loop {
        let code = input.byte()?;
        let low = usize::from(code);
        let (len, distance, after) = match code {
            0..16 if literals == 0 => {
                let run = input.long_length(low, 15)?.checked_add(3)?;
                output.literals(&mut input, run)?;
                literals = 4;
                continue;
            }
            0..16 => {
                let distance = usize::from(input.byte()?).checked_mul(4)?.checked_add(low >> 2)?;
                if literals == 4 {
                    (3, distance.checked_add(2049)?, low & 3)
                } else {
                    (2, distance.checked_add(1)?, low & 3)
                }
            }
            16..32 => {
                let len = input.long_length(low & 7, 7)?.checked_add(2)?;
                let word = input.word()?;
                let distance = ((low & 8) << 11).checked_add(word >> 2)?;
                if distance == 0 {
                    return input.rest.is_empty().then_some(());
                }
                (len, distance.checked_add(16384)?, word & 3)
            }
            32..64 => {
                let len = input.long_length(low & 31, 31)?.checked_add(2)?;
                let word = input.word()?;
                (len, (word >> 2).checked_add(1)?, word & 3)
            }
            64.. => {
                let (len, middle) = if code < 128 {
                    ((low >> 5 & 1).checked_add(3)?, low >> 2 & 7)
                } else {
                    ((low >> 5 & 3).checked_add(5)?, low >> 2 & 7)
                };
                let distance = usize::from(input.byte()?).checked_mul(8)?.checked_add(middle)?;
                (len, distance.checked_add(1)?, low & 3)
            }
        };
        output.repeat(distance, len)?;
        output.literals(&mut input, after)?;
        literals = after;
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn word(&mut self) -> Option<usize> {
        let (word, rest) = self.rest.split_first_chunk::<2>()?;
        self.rest = rest;
        Some(u16::from_le_bytes(*word).into())
    }

    /// A length that did not fit its bits is 0 there, and goes on in bytes: 255 for each zero, then the rest.
    fn long_length(&mut self, bits: usize, most: usize) -> Option<usize> {
        if bits != 0 {
            return Some(bits);
        }
        let mut len = most;
        loop {
            match self.byte()? {
                0 => len = len.checked_add(255)?,
                last => return len.checked_add(last.into()),
            }
        }
    }
}

struct Output<'a> {
    start: usize,
    end: usize,
    content: &'a mut Vec<u8>,
}

impl Output<'_> {
    fn literals(&mut self, input: &mut Input<'_>, len: usize) -> Option<()> {
        let (bytes, rest) = input.rest.split_at_checked(len)?;
        input.rest = rest;
        self.has_room(len)?;
        self.content.extend_from_slice(bytes);
        Some(())
    }

    /// Repeats what lies `distance` back. It may overlap what it makes: then it is a pattern.
    fn repeat(&mut self, distance: usize, len: usize) -> Option<()> {
        self.has_room(len)?;
        let from = self.content.len().checked_sub(distance).filter(|from| *from >= self.start)?;
        for at in (from..).take(len) {
            let byte = *self.content.get(at)?;
            self.content.push(byte);
        }
        Some(())
    }

    fn has_room(&self, len: usize) -> Option<()> {
        (self.content.len().checked_add(len)? <= self.end).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        decompress(bytes, 4096, &mut content)?;
        Some(content)
    }

    #[test]
    fn each_kind_of_instruction_is_known() {
        // Written by hand from the description of the stream. The end is 0x11 0 0.
        assert_eq!(stream(b"\x15abcd\x11\0\0").unwrap(), b"abcd");
        // A run by its own instruction: 3 + 2 literals.
        assert_eq!(stream(b"\x02abcde\x11\0\0").unwrap(), b"abcde");
        // A run whose length goes on in bytes: 15 + 255 + 1 + 3.
        let mut long = vec![0, 0, 1];
        long.extend_from_slice(&[b'x'; 274]);
        long.extend_from_slice(b"\x11\0\0");
        assert_eq!(stream(&long).unwrap(), [b'x'; 274]);
        // 0x4c: three bytes, from (0 << 3) + 3 + 1 = 4 back; no literals after it.
        assert_eq!(stream(b"\x15abcd\x4c\0\x11\0\0").unwrap(), b"abcdabc");
        // 0xa1: six bytes from 1 back, an overlap; one literal after it.
        assert_eq!(stream(b"\x15abcd\xa1\0z\x11\0\0").unwrap(), b"abcdddddddz");
        // 0x24: 2 + 4 bytes from (0x000c >> 2) + 1 = 4 back.
        assert_eq!(stream(b"\x15abcd\x24\x0c\0\x11\0\0").unwrap(), b"abcdabcdab");
        // After one to three literals: two bytes from (0 << 2) + 1 + 1 = 2 back.
        assert_eq!(stream(b"\x13ab\x04\0\x11\0\0").unwrap(), b"abab");
    }

    #[test]
    fn damage_is_no_content() {
        assert_eq!(stream(b""), None);
        assert_eq!(stream(b"\x15abc"), None);
        // A match before the start, and more than fits.
        assert_eq!(stream(b"\x15abcd\x50\x01\x11\0\0"), None);
        let mut long = vec![0x15, 1, 2, 3, 4, 0x20];
        long.extend_from_slice(&[0; 40]);
        assert_eq!(stream(&long), None);
    }
}
