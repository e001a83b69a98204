//! The compressors of squashfs. Each block is a stream of its own: zlib, raw LZO1X, xz, an LZ4 block, a zstd frame.
//!
//! What a block may hold is known before it is decompressed, and no decoder gives or keeps more than that.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flate2::{Decompress, FlushDecompress, Status};
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;
use stillframe_bytes::Fault;
use stillframe_fs::FsError;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest block, which no dictionary or window needs to pass.
const WINDOW_CAP_BYTES: u64 = 1 << 20;
/// What an xz decoder may take: its dictionary, which is as long as a block, and its tables.
const XZ_MEMORY_KIB: u32 = 2048;

/// How the blocks of a filesystem are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Lzo,
    Xz,
    Lz4,
    Zstd,
}

impl Compression {
    /// `None` for LZMA1 (2), which the kernel does not read either, and what is not known.
    pub(crate) fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Gzip),
            3 => Some(Self::Lzo),
            4 => Some(Self::Xz),
            5 => Some(Self::Lz4),
            6 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses a block of at most `most` bytes, whose compressed form lies at `at`.
    pub(crate) fn decompress(self, data: &[u8], most: usize, at: u64) -> Result<Vec<u8>, FsError> {
        let content = match self {
            Self::Gzip => guarded("zlib", || zlib(data, most)),
            Self::Lzo => {
                let mut content = Vec::new();
                Ok(stillframe_lzo::decompress(data, most, &mut content).map(|()| content))
            }
            Self::Xz => guarded("xz", || xz(data, most)),
            Self::Lz4 => guarded("LZ4", || lz4(data, most)),
            Self::Zstd => guarded("zstd", || zstd(data, most)),
        };
        content?.ok_or_else(|| Fault::new(self.name(), at, "a whole stream", "damage").into())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "zlib block",
            Self::Lzo => "LZO block",
            Self::Xz => "xz block",
            Self::Lz4 => "LZ4 block",
            Self::Zstd => "zstd block",
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

fn zlib(data: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut content = vec![0; most];
    let mut decoder = Decompress::new(true);
    let status = decoder.decompress(data, &mut content, FlushDecompress::Finish).ok()?;
    content.truncate(usize::try_from(decoder.total_out()).ok()?);
    (status == Status::StreamEnd).then_some(content)
}

fn lz4(data: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut content = vec![0; most];
    let len = lz4_flex::block::decompress_into(data, &mut content).ok()?;
    content.truncate(len);
    Some(content)
}

fn xz(data: &[u8], most: usize) -> Option<Vec<u8>> {
    at_most(XzReader::new_mem_limit(data, false, XZ_MEMORY_KIB), most)
}

fn zstd(data: &[u8], most: usize) -> Option<Vec<u8>> {
    if zstd_window_bytes(data)? > WINDOW_CAP_BYTES {
        return None;
    }
    at_most(StreamingDecoder::new(data).ok()?, most)
}

/// Reads to the end, which one byte more than `most` is not.
fn at_most(decoder: impl Read, most: usize) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(most);
    let cap = u64::try_from(most).ok()?.checked_add(1)?;
    decoder.take(cap).read_to_end(&mut content).ok()?;
    (content.len() <= most).then_some(content)
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
    fn windows_and_dictionaries_are_bounded_before_they_are_allocated() {
        // A window of 2^41 bytes, and a single segment of 2^32 - 1.
        assert_eq!(zstd_window_bytes(&[0x28, 0xb5, 0x2f, 0xfd, 0, 31 << 3]), Some(1 << 41));
        assert_eq!(zstd(&[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 255, 255, 255, 255], 4096), None);
        // `xz --lzma2=dict=1GiB` of nothing: header, block header with a dictionary of 2^30.
        let header = [0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1, 0x69, 0x22, 0xde, 0x36];
        let block = [2, 0, 0x21, 1, 36, 0, 0, 0];
        assert_eq!(xz(&[&header[..], &block].concat(), 4096), None);
    }

    #[test]
    fn a_block_that_holds_more_than_it_may_is_damage() {
        // Made by zlib itself, through Python: 17 bytes.
        let whole =
            [0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x90, 0x00, 0x3a, 0x2e, 0x06, 0x7d];
        assert_eq!(Compression::Gzip.decompress(&whole, 17, 0).unwrap(), b"hello hello hello");
        assert!(Compression::Gzip.decompress(&whole, 16, 0).is_err());
        assert!(Compression::Gzip.decompress(&whole[..8], 20, 0).is_err());
        // An LZ4 block of eight literals.
        let lz4 = b"\x80literals";
        assert_eq!(Compression::Lz4.decompress(lz4, 8, 0).unwrap(), b"literals");
        assert!(Compression::Lz4.decompress(lz4, 7, 0).is_err());
        assert!(Compression::Lzo.decompress(b"\x15abcd\x11\0\0", 3, 0).is_err());
    }
}
