//! Extent items (On-disk format, "Extent data"): what a range of a file is made of.

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::compression::{Compression, MAX_EXTENT_BYTES};
use crate::to_u64;

/// Where inline content begins.
const INLINE_OFFSET: usize = 21;

/// One extent item of a file.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    /// Where in the file it begins, and how long it is there.
    pub(crate) start: u64,
    pub(crate) len_bytes: u64,
    pub(crate) source: Content,
}

/// Where the content of an extent is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Nowhere: zeros.
    Zeros,
    /// In the item.
    Inline { data: Vec<u8>, compression: Compression, at: u64 },
    /// At a logical address, as it is.
    Plain { logical: u64 },
    /// At a logical address, compressed; the extent begins `skip` bytes into the content.
    Compressed { packed: Packed, skip: u64 },
}

/// A compressed extent as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) logical: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) content_bytes: u64,
    pub(crate) compression: Compression,
}

impl Extent {
    /// Where in the file it ends.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.len_bytes)
    }

    /// Parses the item of the extent that begins at `start` in the file.
    pub(crate) fn parse(start: u64, item: &Structure<'_>, sector_bytes: u64) -> Result<Self, FsError> {
        let content_bytes = item.u64_le(8)?;
        if item.u8(17)? != 0 {
            return Err(FsError::Encrypted("btrfs content"));
        }
        if item.u16_le(18)? != 0 {
            return Err(FsError::Unsupported("another btrfs extent encoding"));
        }
        let number = item.u8(16)?;
        let Some(compression) = Compression::from_number(number) else {
            return Err(item.fault("extent compression", 16, 3_u8, number).into());
        };
        match item.u8(20)? {
            0 => Ok(Self::parse_inline(start, item, content_bytes, compression)?),
            1 => Ok(Self::parse_regular(start, item, sector_bytes, content_bytes, compression)?),
            // Allocated ahead and never written.
            2 => Ok(Self {
                source: Content::Zeros,
                ..Self::parse_regular(start, item, sector_bytes, content_bytes, compression)?
            }),
            other => Err(item.fault("extent type", 20, 2_u8, other).into()),
        }
    }

    fn parse_inline(
        start: u64,
        item: &Structure<'_>,
        content_bytes: u64,
        compression: Compression,
    ) -> Result<Self, Fault> {
        let data = item.rest("inline extent", INLINE_OFFSET)?;
        let stored = to_u64(data.len());
        if start != 0 {
            return Err(item.fault("inline extent place", 0, 0_u8, start));
        }
        if (compression == Compression::None && content_bytes != stored) || content_bytes > MAX_EXTENT_BYTES {
            return Err(item.fault("inline extent length", 8, stored, content_bytes));
        }
        let source = Content::Inline { data: data.bytes().to_vec(), compression, at: data.at() };
        Ok(Self { start, len_bytes: content_bytes, source })
    }

    fn parse_regular(
        start: u64,
        item: &Structure<'_>,
        sector_bytes: u64,
        content_bytes: u64,
        compression: Compression,
    ) -> Result<Self, Fault> {
        let (logical, disk_bytes) = (item.u64_le(21)?, item.u64_le(29)?);
        let (skip, len_bytes) = (item.u64_le(37)?, item.u64_le(45)?);
        let aligned = [start, logical, disk_bytes, skip, len_bytes]
            .iter()
            .all(|number| number.is_multiple_of(sector_bytes));
        let end = skip.checked_add(len_bytes);
        if !aligned || len_bytes == 0 || start.checked_add(len_bytes).is_none() {
            return Err(item.fault("extent length", 45, sector_bytes, len_bytes));
        }
        let most = if compression == Compression::None { disk_bytes } else { content_bytes };
        let source = if logical == 0 {
            Content::Zeros
        } else if end.is_none_or(|end| end > most) || logical.checked_add(disk_bytes).is_none() {
            return Err(item.fault("extent range", 37, most, end.unwrap_or(u64::MAX)));
        } else if compression == Compression::None {
            Content::Plain { logical: logical.saturating_add(skip) }
        } else if disk_bytes > MAX_EXTENT_BYTES || content_bytes > MAX_EXTENT_BYTES {
            return Err(item.fault(
                "compressed extent length",
                8,
                MAX_EXTENT_BYTES,
                disk_bytes.max(content_bytes),
            ));
        } else {
            Content::Compressed { packed: Packed { logical, disk_bytes, content_bytes, compression }, skip }
        };
        Ok(Self { start, len_bytes, source })
    }
}
