//! The content of files of the log: an extent of the log takes the place of what lies in its range.

use stillframe_bytes::Structure;
use stillframe_fs::FsError;

use super::Replay;
use crate::extent::{Content, Extent};
use crate::node::{EXTENT_DATA, INODE_ITEM, Key};

impl Replay<'_> {
    /// Takes away what lies past the end of a file.
    pub(super) fn cut(&mut self, inode: u64) -> Result<(), FsError> {
        let Some(item) = self.item(Key::new(inode, INODE_ITEM, 0))? else {
            return Ok(());
        };
        let size = Structure::new("inode item", 0, &item).u64_le(16)?;
        let sector_bytes = self.store.superblock.sector_bytes;
        let Some(end) = size.checked_next_multiple_of(sector_bytes) else {
            return Ok(());
        };
        self.drop_extents(inode, end, u64::MAX)
    }

    /// One extent of the log.
    pub(super) fn extent(&mut self, key: Key, item: &Structure<'_>) -> Result<(), FsError> {
        if !self.has(Key::new(key.object, INODE_ITEM, 0))? {
            return Ok(());
        }
        let sector_bytes = self.store.superblock.sector_bytes;
        let extent = Extent::parse(key.offset, item, sector_bytes)?;
        if self.item(key)?.as_deref() == Some(item.bytes()) {
            return Ok(());
        }
        let end = extent.end().checked_next_multiple_of(sector_bytes).unwrap_or(u64::MAX);
        self.drop_extents(key.object, key.offset, end)?;
        self.put(key, item.bytes().to_vec())
    }

    /// Takes away what lies from `start` to `end`; of an extent that goes beyond, what lies there stays.
    fn drop_extents(&mut self, inode: u64, start: u64, end: u64) -> Result<(), FsError> {
        let sector_bytes = self.store.superblock.sector_bytes;
        let first = Key::new(inode, EXTENT_DATA, start);
        let items = self.place(|view| view.seek_before(self.store, first))?;
        let before =
            items.item().map(|(key, _)| key).filter(|key| (key.object, key.kind) == (inode, EXTENT_DATA));
        let mut from = Some(before.unwrap_or(first).min(first));
        let mut run = None;
        while let Some((key, item)) = from.map(|from| self.next_of_kind(from)).transpose()?.flatten() {
            if key.offset >= end {
                break;
            }
            let fields = Structure::new("extent item", 0, &item);
            let extent = Extent::parse(key.offset, &fields, sector_bytes)?;
            let is_inline = matches!(extent.source, Content::Inline { .. });
            if extent.end() > start || (is_inline && key.offset >= start) {
                self.remove_run(*run.get_or_insert(key), key)?;
                if !is_inline {
                    if key.offset < start {
                        self.put(key, part(&item, 0, start.saturating_sub(key.offset)))?;
                    }
                    if extent.end() > end {
                        let skipped = end.saturating_sub(key.offset);
                        let rest = part(&item, skipped, extent.end().saturating_sub(end));
                        self.put(Key { offset: end, ..key }, rest)?;
                        break;
                    }
                }
            }
            from = key.next().filter(|next| (next.object, next.kind) == (inode, EXTENT_DATA));
        }
        Ok(())
    }
}

/// A part of an extent that is no inline one: its item, begun `skipped` bytes later, `len_bytes` long.
fn part(item: &[u8], skipped: u64, len_bytes: u64) -> Vec<u8> {
    let mut item = item.to_vec();
    if let Some((offset, len)) = item.get_mut(37..53).and_then(|fields| fields.split_first_chunk_mut::<8>()) {
        *offset = u64::from_le_bytes(*offset).saturating_add(skipped).to_le_bytes();
        len.copy_from_slice(&len_bytes.to_le_bytes());
    }
    item
}
