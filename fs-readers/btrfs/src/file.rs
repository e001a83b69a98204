//! The content of files: extents in order, each sector checked against the checksum tree (On-disk format, "Checksum
//! item") unless the inode says that it has no checksums.

use std::ops::Range;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileContent, FsError, HINT_EXTENTS_AT_MOST};

use crate::compression::Compression;
use crate::extent::{Content, Extent, Packed};
use crate::inode::Inode;
use crate::node::{EXTENT_CSUM, EXTENT_DATA, Key};
use crate::store::Store;
use crate::superblock::Tree;
use crate::tree::Cursor;
use crate::{to_u64, to_usize};

/// The object that all checksum items belong to.
const CHECKSUM_OBJECT: u64 = u64::MAX - 9;
/// How much is read and checked at once.
const PIECE_BYTES: u64 = 128 << 10;

/// One open file.
pub(crate) struct BtrfsFile<'a> {
    store: &'a Store,
    tree: Tree,
    /// `None` where the content has no checksums.
    checksums: Option<Tree>,
    inode: Inode,
    /// The compressed extent that was read last: a reader takes it in many small steps.
    unpacked: Option<(Packed, Vec<u8>)>,
}

impl<'a> BtrfsFile<'a> {
    pub(crate) fn new(store: &'a Store, tree: Tree, checksums: Option<Tree>, inode: Inode) -> Self {
        Self { store, tree, checksums, inode, unpacked: None }
    }

    /// Fills `buffer` from `offset`; both lie inside the file.
    fn read_range(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let key = Key::new(self.inode.number, EXTENT_DATA, offset);
        let mut cursor = Cursor::seek_before(self.store, self.tree, key)?;
        let mut at = offset;
        let mut rest = buffer;
        let mut previous_end = 0;
        while !rest.is_empty() {
            let Some((key, item)) = cursor.item() else {
                break;
            };
            if (key.object, key.kind) != (self.inode.number, EXTENT_DATA) {
                if key > Key::new(self.inode.number, EXTENT_DATA, 0) {
                    break;
                }
                cursor.advance()?;
                continue;
            }
            let extent = Extent::parse(key.offset, &item, self.store.superblock.sector_bytes)?;
            if extent.start < previous_end {
                return Err(item.fault("extent order", 0, previous_end, extent.start).into());
            }
            previous_end = extent.end();
            let gap = to_usize(extent.start.saturating_sub(at)).min(rest.len());
            let (hole, mapped) = rest.split_at_mut(gap);
            hole.fill(0);
            at = at.saturating_add(to_u64(gap));
            let (now, later) =
                mapped.split_at_mut(to_usize(extent.end().saturating_sub(at)).min(mapped.len()));
            if !now.is_empty() {
                self.read_extent(&extent, at.saturating_sub(extent.start), now)?;
            }
            at = at.saturating_add(to_u64(now.len()));
            rest = later;
            cursor.advance()?;
        }
        rest.fill(0);
        Ok(())
    }

    /// Fills `buffer` from `within` the extent.
    fn read_extent(&mut self, extent: &Extent, within: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        match &extent.source {
            Content::Zeros => buffer.fill(0),
            Content::Inline { data, compression: Compression::None, at } => {
                copy(data, within, buffer, *at)?;
            }
            Content::Inline { data, compression, at } => {
                let sector_bytes = self.store.superblock.sector_bytes;
                let content = compression.decompress(data, extent.len_bytes, sector_bytes, *at)?;
                copy(&content, within, buffer, *at)?;
            }
            Content::Plain { logical } => self.read_plain(logical.saturating_add(within), buffer)?,
            Content::Compressed { packed, skip } => {
                let content = self.unpack(*packed)?;
                copy(content, skip.saturating_add(within), buffer, packed.logical)?;
            }
        }
        Ok(())
    }

    /// Reads whole sectors around what is wanted, since a checksum covers a sector.
    fn read_plain(&self, logical: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let sector_bytes = self.store.superblock.sector_bytes;
        let within = logical.checked_rem(sector_bytes).unwrap_or(0);
        let mut at = logical.saturating_sub(within);
        let mut skip = within;
        let mut rest = buffer;
        while !rest.is_empty() {
            let wanted = skip.saturating_add(to_u64(rest.len()));
            let wanted = wanted.checked_next_multiple_of(sector_bytes).unwrap_or(wanted);
            let len = self.store.contiguous(at, wanted.min(PIECE_BYTES))?;
            let piece = self.read_checked(at, len)?;
            let (now, later) = rest.split_at_mut(to_usize(len.saturating_sub(skip)).min(rest.len()));
            copy(&piece, skip, now, at)?;
            at = at.saturating_add(len);
            skip = 0;
            rest = later;
        }
        Ok(())
    }

    fn unpack(&mut self, packed: Packed) -> Result<&[u8], FsError> {
        if self.unpacked.as_ref().is_none_or(|(held, _)| *held != packed) {
            let mut data = Vec::new();
            let mut at = packed.logical;
            while to_u64(data.len()) < packed.disk_bytes {
                let left = packed.disk_bytes.saturating_sub(to_u64(data.len()));
                let piece = self.read_checked(at, self.store.contiguous(at, left.min(PIECE_BYTES))?)?;
                at = at.saturating_add(to_u64(piece.len()));
                data.extend_from_slice(&piece);
            }
            let sector_bytes = self.store.superblock.sector_bytes;
            let content =
                packed.compression.decompress(&data, packed.content_bytes, sector_bytes, packed.logical)?;
            self.unpacked = Some((packed, content));
        }
        Ok(self.unpacked.as_ref().map_or(&[], |(_, content)| content))
    }

    /// Reads whole sectors of one chunk; a copy that fails its checksums gives way to another.
    fn read_checked(&self, logical: u64, len_bytes: u64) -> Result<Vec<u8>, FsError> {
        let Some(tree) = self.checksums else {
            return self.store.try_copies(logical, len_bytes, Ok);
        };
        let checksums = Checksums::read(self.store, tree, logical, len_bytes)?;
        self.store.try_copies(logical, len_bytes, |data| {
            for ((offset, sector), stored) in self.store.sectors(&data).zip(checksums.each()) {
                if !self.store.superblock.checksum.matches(sector, stored) {
                    let at = logical.saturating_add(offset);
                    return Err(Fault::new("data checksum", at, "a match", "none").into());
                }
            }
            Ok(data)
        })
    }
}

impl FileContent for BtrfsFile<'_> {
    fn len_bytes(&self) -> u64 {
        self.inode.size_bytes
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = self.inode.size_bytes.saturating_sub(offset).min(to_u64(buffer.len()));
        let Some(wanted) = buffer.get_mut(..to_usize(left)).filter(|wanted| !wanted.is_empty()) else {
            return Ok(0);
        };
        self.read_range(offset, wanted)?;
        Ok(wanted.len())
    }

    fn will_read(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.inode.size_bytes);
        if self.store.wants_hints()
            && let Ok(hints) = self.device_ranges(&range)
        {
            self.store.prefetch(&hints);
        }
    }
}

impl BtrfsFile<'_> {
    /// Where the extents of `range` lie on the device; a compressed one whole, since it is read so.
    fn device_ranges(&self, range: &Range<u64>) -> Result<Vec<Range<u64>>, FsError> {
        let sector_bytes = self.store.superblock.sector_bytes;
        let first = Key::new(self.inode.number, EXTENT_DATA, range.start);
        let mut cursor = Cursor::seek_before(self.store, self.tree, first)?;
        let mut hints = Vec::new();
        let mut previous_end = 0;
        let mut items = 0_usize;
        while let Some((key, item)) = cursor.item() {
            if key >= Key::new(self.inode.number, EXTENT_DATA, range.end) || items > HINT_EXTENTS_AT_MOST {
                break;
            }
            items = items.saturating_add(1);
            if (key.object, key.kind) == (self.inode.number, EXTENT_DATA) {
                let extent = Extent::parse(key.offset, &item, sector_bytes)?;
                if extent.start < previous_end {
                    break;
                }
                previous_end = extent.end();
                let (start, end) = (extent.start.max(range.start), extent.end().min(range.end));
                let goes_on = start >= end
                    || match &extent.source {
                        Content::Zeros | Content::Inline { .. } => true,
                        Content::Plain { logical } => {
                            // Whole sectors, as they are read.
                            let from = start.saturating_sub(extent.start);
                            let from = from.saturating_sub(from.checked_rem(sector_bytes).unwrap_or(0));
                            let to = end.saturating_sub(extent.start);
                            let to = to.checked_next_multiple_of(sector_bytes).unwrap_or(to);
                            let logical = logical.saturating_add(from);
                            self.store.add_hints(&mut hints, logical, to.saturating_sub(from))
                        }
                        Content::Compressed { packed, .. } => {
                            self.store.add_hints(&mut hints, packed.logical, packed.disk_bytes)
                        }
                    };
                if !goes_on {
                    break;
                }
            }
            cursor.advance()?;
        }
        Ok(hints)
    }
}

/// The checksums of a range of sectors, one after another.
struct Checksums {
    bytes: Vec<u8>,
    each: usize,
}

impl Checksums {
    /// Collects them from the items that cover the range. The kernel lets no sector without one be read, nor does this.
    fn read(store: &Store, tree: Tree, logical: u64, len_bytes: u64) -> Result<Self, FsError> {
        let each = store.superblock.checksum.len_bytes();
        let sector_bytes = store.superblock.sector_bytes;
        let end = logical.saturating_add(len_bytes);
        let mut cursor = Cursor::seek_before(store, tree, Key::new(CHECKSUM_OBJECT, EXTENT_CSUM, logical))?;
        let mut bytes = Vec::new();
        let mut at = logical;
        while at < end {
            let covering = cursor
                .item()
                .filter(|(key, _)| (key.object, key.kind) == (CHECKSUM_OBJECT, EXTENT_CSUM))
                .and_then(|(key, item)| part_of(&item, key.offset, at, end, each, sector_bytes));
            let Some(part) = covering else {
                return Err(Fault::new("data checksum", at, "one for each sector", "none").into());
            };
            bytes.extend_from_slice(part);
            let sectors = to_u64(part.len().checked_div(each).unwrap_or(0));
            at = at.saturating_add(sectors.saturating_mul(sector_bytes));
            cursor.advance()?;
        }
        Ok(Self { bytes, each })
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.each)
    }
}

/// The checksums in `item`, whose first is that of the sector at `start`, from `at` to `end` as far as they go.
fn part_of<'a>(
    item: &Structure<'a>,
    start: u64,
    at: u64,
    end: u64,
    each: usize,
    sector_bytes: u64,
) -> Option<&'a [u8]> {
    let before = to_usize(at.checked_sub(start)?.checked_div(sector_bytes)?).checked_mul(each)?;
    let wanted = to_usize(end.checked_sub(at)?.div_ceil(sector_bytes)).checked_mul(each)?;
    let there = item.bytes().get(before..)?;
    let whole = there.len().checked_div(each)?.checked_mul(each)?;
    there.get(..wanted.min(whole)).filter(|part| !part.is_empty())
}

fn copy(content: &[u8], offset: u64, buffer: &mut [u8], at: u64) -> Result<(), Fault> {
    let part = content.get(to_usize(offset)..).and_then(|rest| rest.get(..buffer.len()));
    let Some(part) = part else {
        return Err(Fault::new("extent content", at, buffer.len(), content.len()));
    };
    buffer.copy_from_slice(part);
    Ok(())
}
