//! LZO1X decompression (kernel `Documentation/staging/lzo.rst` describes the stream) and the frames in which btrfs
//! keeps it: a total length, then for each sector of content a length and a stream. A length field never crosses a
//! sector's end; zeros fill up to it.

const LENGTH_BYTES: usize = 4;

/// Decompresses a whole extent. `None` where it is damaged or longer than `most_bytes`.
pub(crate) fn decompress_extent(data: &[u8], sector_bytes: usize, most_bytes: usize) -> Option<Vec<u8>> {
    let total = length_at(data, 0).filter(|total| *total > LENGTH_BYTES)?;
    let data = data.get(..total)?;
    let mut content = Vec::new();
    let mut at = LENGTH_BYTES;
    while at < total && content.len() < most_bytes {
        let left = sector_bytes.checked_sub(at.checked_rem(sector_bytes)?)?;
        if left < LENGTH_BYTES {
            at = at.checked_add(left)?;
            if at >= total {
                break;
            }
        }
        let len = length_at(data, at)?;
        at = at.checked_add(LENGTH_BYTES)?;
        let stream = data.get(at..)?.get(..len)?;
        at = at.checked_add(len)?;
        let end = content.len().checked_add(sector_bytes)?;
        decompress(stream, end, &mut content)?;
    }
    (content.len() <= most_bytes).then_some(content)
}

fn length_at(data: &[u8], at: usize) -> Option<usize> {
    let field = data.get(at..)?.first_chunk::<LENGTH_BYTES>()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

/// Decompresses one stream onto the end of `content`, which may grow to `end`. Matches reach back to where the stream's
/// own output begins.
fn decompress(stream: &[u8], end: usize, content: &mut Vec<u8>) -> Option<()> {
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
    fn a_length_never_crosses_a_sector() {
        // Sectors of 32 bytes: a stream that ends 3 bytes before one leaves zeros, whether another follows or not.
        let mut extent = vec![0; 4];
        let stream = |literals: u8| {
            let mut stream = vec![literals + 17];
            stream.extend((0..literals).map(|literal| b'a' + literal));
            stream.extend_from_slice(b"\x11\0\0");
            stream
        };
        for literals in [17, 24] {
            let stream = stream(literals);
            extent.extend_from_slice(&u32::try_from(stream.len()).unwrap().to_le_bytes());
            extent.extend_from_slice(&stream);
            extent.resize(extent.len().next_multiple_of(32), 0);
            let total = u32::try_from(extent.len()).unwrap();
            extent[..4].copy_from_slice(&total.to_le_bytes());
        }
        assert_eq!(extent.len(), 64);
        let content = decompress_extent(&extent, 32, 64).unwrap();
        assert_eq!(content, b"abcdefghijklmnopqabcdefghijklmnopqrstuvwx");
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
        assert_eq!(decompress_extent(&[0; 8], 4096, 4096), None);
        assert_eq!(decompress_extent(&[255; 8], 4096, 4096), None);
    }
}
