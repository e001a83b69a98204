//! Compressed extents: zlib, LZO and zstd, each extent on its own (On-disk format, "Extent data", `compression`).
//!
//! What an extent claims to hold is bounded before anything is allocated, and no decoder gives more than that.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::StreamingDecoder;
use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use crate::lzo;
use crate::{to_u64, to_usize};

/// The kernel compresses 128 KiB at once. Others may have written more, but not without end.
pub(crate) const MAX_EXTENT_BYTES: u64 = 1 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How an extent is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Zlib,
    Lzo,
    Zstd,
}

impl Compression {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Zlib),
            2 => Some(Self::Lzo),
            3 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses an extent to `len_bytes`. A stream that ends before is followed by zeros, as the kernel has it; one
    /// that breaks off is damage.
    pub(crate) fn decompress(
        self,
        data: &[u8],
        len_bytes: u64,
        sector_bytes: u64,
        at: u64,
    ) -> Result<Vec<u8>, FsError> {
        if len_bytes > MAX_EXTENT_BYTES {
            return Err(Fault::new("compressed extent length", at, MAX_EXTENT_BYTES, len_bytes).into());
        }
        let len = to_usize(len_bytes);
        let content = match self {
            Self::None => Some(data.to_vec()),
            Self::Lzo => lzo::decompress_extent(
                data,
                to_usize(sector_bytes),
                len.next_multiple_of(to_usize(sector_bytes).max(1)),
            ),
            Self::Zlib => guarded("zlib", || zlib(data, len))?,
            Self::Zstd => guarded("zstd", || zstd(data, len))?,
        };
        let mut content = content.ok_or_else(|| Fault::new(self.name(), at, "a whole stream", "damage"))?;
        content.resize(len, 0);
        Ok(content)
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "extent",
            Self::Zlib => "zlib extent",
            Self::Lzo => "LZO extent",
            Self::Zstd => "zstd extent",
        }
    }
}

/// Decoders that we did not write must not take the walk with them.
fn guarded(
    reader: &'static str,
    decode: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, FsError> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|_| FsError::Reader { reader, what: "panicked" })
}

fn zlib(data: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut content = vec![0; len];
    let mut decoder = Decompress::new(true);
    let status = decoder.decompress(data, &mut content, FlushDecompress::Finish).ok()?;
    let written = to_usize(decoder.total_out());
    content.truncate(written);
    (status == Status::StreamEnd || written == len).then_some(content)
}

fn zstd(data: &[u8], len: usize) -> Option<Vec<u8>> {
    if zstd_window_bytes(data)? > MAX_EXTENT_BYTES {
        return None;
    }
    let decoder = StreamingDecoder::new(data).ok()?;
    let mut content = Vec::with_capacity(len);
    decoder.take(to_u64(len)).read_to_end(&mut content).ok()?;
    Some(content)
}

/// What a decoder must keep of its output (RFC 8878, section 3.1.1.1): it allocates that at once.
fn zstd_window_bytes(data: &[u8]) -> Option<u64> {
    let header = data.strip_prefix(&ZSTD_MAGIC)?;
    let descriptor = *header.first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = *header.get(1)?;
        let base = 1_u64.checked_shl(u32::from(window >> 3).checked_add(10)?)?;
        return (base / 8).checked_mul(u64::from(window & 7))?.checked_add(base);
    }
    let dictionary_bytes = match descriptor & 3 {
        0 => 0_usize,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let size = header.get(dictionary_bytes.checked_add(1)?..)?;
    match descriptor >> 6 {
        0 => size.first().map(|size| u64::from(*size)),
        1 => u64::from(u16::from_le_bytes(*size.first_chunk()?)).checked_add(256),
        2 => Some(u32::from_le_bytes(*size.first_chunk()?).into()),
        _ => Some(u64::from_le_bytes(*size.first_chunk()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_bounded() {
        let huge = Compression::Zlib.decompress(&[], 1 << 40, 4096, 7).unwrap_err();
        assert!(matches!(huge, FsError::Corrupt(fault) if fault.at == 7));
        // A window of 2^41 bytes, and a single segment of 2^32 - 1.
        assert_eq!(zstd_window_bytes(&[0x28, 0xb5, 0x2f, 0xfd, 0, 31 << 3]), Some(1 << 41));
        let single = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 255, 255, 255, 255];
        assert_eq!(zstd_window_bytes(&single), Some(u32::MAX.into()));
        assert!(Compression::Zstd.decompress(&single, 4096, 4096, 0).is_err());
    }

    #[test]
    fn a_stream_that_breaks_off_is_damage() {
        // Made by zlib itself, through Python.
        let whole =
            [0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x90, 0x00, 0x3a, 0x2e, 0x06, 0x7d];
        let content = Compression::Zlib.decompress(&whole, 20, 4096, 0).unwrap();
        assert_eq!(content, b"hello hello hello\0\0\0");
        assert!(Compression::Zlib.decompress(&whole[..8], 20, 4096, 0).is_err());
        assert!(Compression::Zlib.decompress(b"no zlib at all", 20, 4096, 0).is_err());
    }
}
