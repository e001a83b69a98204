//! The content of files: extents in order, each sector checked against the checksum tree unless the inode says that it
//! has no checksums.

use std::ops::Range;

use stillframe_bytes::Fault;
use stillframe_fs::{Extent as DeviceExtent, FileContent, FsError, HINT_EXTENTS_AT_MOST};

use crate::checksums::Checksums;
use crate::compression::Compression;
use crate::extent::{Content, Extent, Packed};
use crate::inode::Inode;
use crate::node::{EXTENT_DATA, Key};
use crate::store::Store;
use crate::view::{Items, View};
use crate::{to_u64, to_usize};

/// A read that is no longer than this and does not begin and end with sectors is done at once, and copied; of a longer
/// one only the sectors at its ends are.
const COPIED_BYTES: usize = 256 << 10;

/// One open file.
pub(crate) struct BtrfsFile<'a> {
    store: &'a Store,
    view: View<'a>,
    /// `None` where the content has no checksums.
    checksums: Option<Checksums<'a>>,
    inode: Inode,
    /// The compressed extent that was read last: a reader takes it in many small steps.
    unpacked: Option<(Packed, Vec<u8>)>,
    /// For sectors of which a part is wanted.
    scratch: Vec<u8>,
}

impl<'a> BtrfsFile<'a> {
    pub(crate) fn new(
        store: &'a Store,
        view: View<'a>,
        checksums: Option<Checksums<'a>>,
        inode: Inode,
    ) -> Self {
        Self { store, view, checksums, inode, unpacked: None, scratch: Vec::new() }
    }

    fn sector_bytes(&self) -> u64 {
        self.store.superblock.sector_bytes
    }

    /// At the extent that `offset` lies in, or the first behind it.
    fn extents_from(&self, offset: u64) -> Result<Items<'a>, FsError> {
        let first = Key::new(self.inode.number, EXTENT_DATA, 0);
        let mut items = self.view.seek_before(self.store, Key { offset, ..first })?;
        if items.item().is_some_and(|(key, _)| key < first) {
            items.advance()?;
        }
        Ok(items)
    }

    /// Fills `buffer` from `offset`; both lie inside the file.
    fn read_range(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let mut items = self.extents_from(offset)?;
        let mut at = offset;
        let mut rest = buffer;
        let mut previous_end = 0;
        while !rest.is_empty() {
            let Some((key, item)) = items.item() else {
                break;
            };
            if (key.object, key.kind) != (self.inode.number, EXTENT_DATA) {
                break;
            }
            let extent = Extent::parse(key.offset, &item, self.sector_bytes())?;
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
            if !rest.is_empty() {
                items.advance()?;
            }
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
                let content = compression.decompress(data, extent.len_bytes, self.sector_bytes(), *at)?;
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
    fn read_plain(&mut self, logical: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let sector = to_usize(self.sector_bytes());
        let before = to_usize(logical.checked_rem(self.sector_bytes()).unwrap_or(0));
        let behind = before.saturating_add(buffer.len()).checked_rem(sector).unwrap_or(0);
        if before == 0 && behind == 0 {
            return self.read_checked(logical, buffer);
        }
        if buffer.len() <= COPIED_BYTES {
            return self.read_copied(logical, before, buffer);
        }
        let head = if before == 0 { 0 } else { sector.saturating_sub(before).min(buffer.len()) };
        let (first, rest) = buffer.split_at_mut(head);
        let (middle, last) = rest.split_at_mut(rest.len().saturating_sub(behind));
        if !first.is_empty() {
            self.read_copied(logical, before, first)?;
        }
        let middle_at = logical.saturating_add(to_u64(head));
        self.read_checked(middle_at, middle)?;
        if !last.is_empty() {
            self.read_copied(middle_at.saturating_add(to_u64(middle.len())), 0, last)?;
        }
        Ok(())
    }

    /// Reads what begins `before` bytes inside a sector by way of the scratch memory.
    fn read_copied(&mut self, logical: u64, before: usize, buffer: &mut [u8]) -> Result<(), FsError> {
        let len = before.saturating_add(buffer.len()).next_multiple_of(to_usize(self.sector_bytes()).max(1));
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(len, 0);
        let start = logical.saturating_sub(to_u64(before));
        let read = self.read_checked(start, &mut scratch);
        let copied = read.and_then(|()| Ok(copy(&scratch, to_u64(before), buffer, logical)?));
        self.scratch = scratch;
        copied
    }

    fn unpack(&mut self, packed: Packed) -> Result<&[u8], FsError> {
        if self.unpacked.as_ref().is_none_or(|(held, _)| *held != packed) {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.resize(to_usize(packed.disk_bytes), 0);
            let read = self.read_checked(packed.logical, &mut scratch);
            let content = read.and_then(|()| {
                let sector_bytes = self.sector_bytes();
                packed.compression.decompress(&scratch, packed.content_bytes, sector_bytes, packed.logical)
            });
            self.scratch = scratch;
            self.unpacked = Some((packed, content?));
        }
        Ok(self.unpacked.as_ref().map_or(&[], |(_, content)| content))
    }

    /// Fills `buffer` with whole sectors; a copy that fails its checksums gives way to another.
    fn read_checked(&mut self, logical: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let Some(checksums) = &mut self.checksums else {
            return self.store.read_data(logical, buffer, false, &|_, _| Ok(()));
        };
        let stored = checksums.of(logical, to_u64(buffer.len()))?;
        let superblock = &self.store.superblock;
        let (each, sector_bytes) = (superblock.checksum.len_bytes(), to_usize(superblock.sector_bytes));
        self.store.read_data(logical, buffer, true, &|at, bytes| {
            let before = to_usize(at.saturating_sub(logical)).checked_div(sector_bytes).unwrap_or(0);
            let stored = stored.get(before.saturating_mul(each)..).unwrap_or_default().chunks(each);
            for ((number, sector), stored) in bytes.chunks(sector_bytes).enumerate().zip(stored) {
                if !superblock.checksum.matches(sector, stored) {
                    let at = at.saturating_add(to_u64(number.saturating_mul(sector_bytes)));
                    return Err(Fault::new("data checksum", at, "a match", "none"));
                }
            }
            Ok(())
        })
    }

    /// Adds the places of the checksums of what `range` begins with.
    fn add_checksum_nodes(&self, range: &Range<u64>, found: &mut Vec<DeviceExtent>) {
        let Some(checksums) = &self.checksums else { return };
        let Ok(items) = self.extents_from(range.start) else { return };
        let Some((key, item)) = items.item() else { return };
        if (key.object, key.kind) != (self.inode.number, EXTENT_DATA) || key.offset >= range.end {
            return;
        }
        let Ok(extent) = Extent::parse(key.offset, &item, self.sector_bytes()) else { return };
        match extent.source {
            Content::Plain { logical } => {
                let start = range.start.clamp(extent.start, extent.end());
                let len = extent.end().min(range.end).saturating_sub(start);
                let within = start.saturating_sub(extent.start);
                checksums.add_nodes(found, logical.saturating_add(within), len.max(1));
            }
            Content::Compressed { packed, .. } => {
                checksums.add_nodes(found, packed.logical, packed.disk_bytes.max(1));
            }
            Content::Zeros | Content::Inline { .. } => {}
        }
    }

    /// Where the extents of `range` lie; a compressed one whole, since it is read so.
    fn device_extents(&self, range: &Range<u64>, found: &mut Vec<DeviceExtent>) -> Result<(), FsError> {
        let sector_bytes = self.sector_bytes();
        let mut items = self.extents_from(range.start)?;
        let mut previous_end = 0;
        for _ in 0..HINT_EXTENTS_AT_MOST {
            let Some((key, item)) = items.item() else { break };
            if key >= Key::new(self.inode.number, EXTENT_DATA, range.end) {
                break;
            }
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
                        self.store.add_extents(found, logical, to.saturating_sub(from))
                    }
                    Content::Compressed { packed, .. } => {
                        self.store.add_extents(found, packed.logical, packed.disk_bytes)
                    }
                };
            if !goes_on {
                break;
            }
            items.advance()?;
        }
        Ok(())
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

    fn extents(&mut self, range: Range<u64>) -> Vec<DeviceExtent> {
        let range = range.start..range.end.min(self.inode.size_bytes);
        let mut found = Vec::new();
        if !range.is_empty() {
            // Damage ends the list; a read will meet it.
            let _ = self.device_extents(&range, &mut found);
        }
        found
    }

    fn will_read(&mut self, range: Range<u64>) {
        if self.store.wants_hints() {
            let mut extents = Vec::new();
            let range = range.start..range.end.min(self.inode.size_bytes);
            self.add_checksum_nodes(&range, &mut extents);
            extents.append(&mut self.extents(range));
            self.store.prefetch(&extents);
        }
    }
}

fn copy(content: &[u8], offset: u64, buffer: &mut [u8], at: u64) -> Result<(), Fault> {
    let part = content.get(to_usize(offset)..).and_then(|rest| rest.get(..buffer.len()));
    let Some(part) = part else {
        return Err(Fault::new("extent content", at, buffer.len(), content.len()));
    };
    buffer.copy_from_slice(part);
    Ok(())
}
