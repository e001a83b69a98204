//! Directories and extended attributes of the log.

use std::collections::BTreeSet;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use super::names::{ENTRY_HEAD_BYTES, Entry, by_index, by_name, item_of};
use super::{Replay, TYPE_DIRECTORY, TYPE_MASK, set_size};
use crate::node::{
    DIR_INDEX, DIR_LOG_INDEX, HEADER_BYTES, INODE_EXTREF, INODE_ITEM, INODE_REF, ITEM_BYTES, Key, XATTR_ITEM,
};
use crate::to_usize;
use crate::tree::Cursor;

/// Type of an entry that is a directory.
const TYPE_OF_DIRECTORY: u8 = 2;

impl Replay<'_> {
    /// Takes away the attributes that the log does not have.
    pub(super) fn remove_attributes(&mut self, inode: u64) -> Result<(), FsError> {
        let mut from = Some(Key::new(inode, XATTR_ITEM, 0));
        while let Some((key, item)) = from.map(|from| self.next_of_kind(from)).transpose()?.flatten() {
            let logged = self.logged(key)?.map(|item| self.entries(&item)).transpose()?.unwrap_or_default();
            let logged: BTreeSet<&[u8]> = logged.iter().map(|entry| &entry.name[..]).collect();
            let mut kept = self.entries(&item)?;
            let count = kept.len();
            kept.retain(|entry| logged.contains(&entry.name[..]));
            if kept.len() < count {
                self.put_or_remove(key, item_of(&kept))?;
            }
            from = key.next().filter(|next| (next.object, next.kind) == (inode, XATTR_ITEM));
        }
        Ok(())
    }

    /// Takes away the entries of a directory that lie in a range which the log has whole, and are not in the log: the
    /// names that were removed. Or all of them.
    pub(super) fn remove_entries(&mut self, directory: u64, all: bool) -> Result<(), FsError> {
        if !self.has(Key::new(directory, INODE_ITEM, 0))? {
            return Ok(());
        }
        if all {
            return self.remove_range(directory, 0, u64::MAX, true);
        }
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut cursor = Cursor::seek(self.store, self.log, Key::new(directory, DIR_LOG_INDEX, 0))?;
        while let Some((key, item)) = cursor.item() {
            if (key.object, key.kind) != (directory, DIR_LOG_INDEX) {
                break;
            }
            let end = item.u64_le(0)?;
            match ranges.last_mut() {
                Some(last) if last.1.saturating_add(1) >= key.offset => last.1 = last.1.max(end),
                _ => ranges.push((key.offset, end)),
            }
            cursor.advance()?;
        }
        for (start, end) in ranges {
            self.remove_range(directory, start, end, false)?;
        }
        Ok(())
    }

    fn remove_range(&mut self, directory: u64, start: u64, end: u64, all: bool) -> Result<(), FsError> {
        let mut from = Some(by_index(directory, start));
        let mut run = None;
        while let Some((key, item)) = from.map(|from| self.next_of_kind(from)).transpose()?.flatten() {
            if key.offset > end {
                break;
            }
            for entry in self.entries(&item)? {
                if all || !self.is_logged(key, &entry.name)? {
                    self.drop_entry(directory, &entry)?;
                }
            }
            if self.has(key)? {
                run = None;
            } else {
                self.remove_run(*run.get_or_insert(key), key)?;
            }
            from = key.next().filter(|next| (next.object, next.kind) == (directory, DIR_INDEX));
        }
        Ok(())
    }

    fn is_logged(&self, key: Key, name: &[u8]) -> Result<bool, FsError> {
        let logged = self.logged(key)?.map(|item| self.entries(&item)).transpose()?.unwrap_or_default();
        Ok(logged.iter().any(|entry| entry.name == name))
    }

    /// Removes the name that an entry is, if its inode is there.
    pub(super) fn drop_entry(&mut self, directory: u64, entry: &Entry) -> Result<(), FsError> {
        let inode = entry.location.object;
        if entry.location.kind != INODE_ITEM || !self.has(entry.location)? {
            return Err(Fault::new("directory entry location", directory, "an inode", "none").into());
        }
        self.fixups.insert(inode);
        self.unlink(directory, inode, &entry.name)
    }

    /// One entry of the log. It is added here only where the log has no reference of the inode to it: else, with that.
    pub(super) fn entry(&mut self, key: Key, item: &Structure<'_>) -> Result<(), FsError> {
        let directory = key.object;
        for logged in self.entries(item.bytes())? {
            let is_there = self.has(logged.location)?;
            let by_name = self.entry_by_name(directory, &logged.name)?;
            let name_matches = self.make_way(directory, by_name, &logged, is_there)?;
            let by_index = self.entry_by_index(directory, key.offset, &logged.name)?;
            let index_matches = self.make_way(directory, by_index, &logged, is_there)?;
            if (name_matches && index_matches) || !is_there || logged.location.kind != INODE_ITEM {
                continue;
            }
            let inode = logged.location.object;
            if self.is_reference_logged(inode, directory, &logged.name)? {
                continue;
            }
            if name_matches || index_matches {
                // The name is there at another place, and stays.
                continue;
            }
            self.link(directory, inode, &logged.name, key.offset, true)?;
            if logged.entry_type != TYPE_OF_DIRECTORY {
                self.fixups.insert(inode);
            }
        }
        Ok(())
    }

    /// Drops what is where `logged` is to be, if that is another file and the new one is there. `true` where it is the same.
    fn make_way(
        &mut self,
        directory: u64,
        existing: Option<Entry>,
        logged: &Entry,
        is_there: bool,
    ) -> Result<bool, FsError> {
        let Some(existing) = existing else {
            return Ok(false);
        };
        if (existing.location, existing.entry_type) == (logged.location, logged.entry_type) {
            return Ok(true);
        }
        if is_there {
            self.drop_entry(directory, &existing)?;
        }
        Ok(false)
    }

    pub(super) fn entry_by_name(&self, directory: u64, name: &[u8]) -> Result<Option<Entry>, FsError> {
        self.entry_at(by_name(directory, name), name)
    }

    pub(super) fn entry_by_index(
        &self,
        directory: u64,
        index: u64,
        name: &[u8],
    ) -> Result<Option<Entry>, FsError> {
        self.entry_at(by_index(directory, index), name)
    }

    fn entry_at(&self, key: Key, name: &[u8]) -> Result<Option<Entry>, FsError> {
        let all = self.item(key)?.map(|item| self.entries(&item)).transpose()?.unwrap_or_default();
        Ok(all.into_iter().find(|entry| entry.name == name))
    }

    /// Gives an inode a name.
    pub(super) fn link(
        &mut self,
        directory: u64,
        inode: u64,
        name: &[u8],
        index: u64,
        with_reference: bool,
    ) -> Result<(), FsError> {
        if self.entry_by_name(directory, name)?.is_some() {
            return Ok(());
        }
        let Some(item) = self.item(Key::new(inode, INODE_ITEM, 0))? else {
            return Ok(());
        };
        let mode = Structure::new("inode item", 0, &item).u32_le(52)?;
        if !self.has(Key::new(directory, INODE_ITEM, 0))? {
            return Err(Fault::new("directory", directory, "an inode", "none").into());
        }
        if with_reference {
            self.add_reference(inode, directory, index, name)?;
        }
        let entry = Entry::new(Key::new(inode, INODE_ITEM, 0), entry_type(mode), name);
        let key = by_name(directory, name);
        let held = self.item(key)?.unwrap_or_default();
        self.check_room("directory item length", key, held.len(), ENTRY_HEAD_BYTES, name)?;
        let mut all = self.entries(&held)?;
        all.push(entry.clone());
        self.put_or_remove(key, item_of(&all))?;
        self.put_or_remove(by_index(directory, index), item_of(&[entry]))?;
        self.resize_directory(directory, name.len(), true)
    }

    /// Takes a name from an inode.
    pub(super) fn unlink(&mut self, directory: u64, inode: u64, name: &[u8]) -> Result<(), FsError> {
        let key = by_name(directory, name);
        let mut all = self.item(key)?.map(|item| self.entries(&item)).transpose()?.unwrap_or_default();
        let count = all.len();
        all.retain(|entry| entry.name != name);
        if all.len() == count {
            return Err(Fault::new("directory item", directory, "the name of an index", "none").into());
        }
        let Some(index) = self.take_reference(inode, directory, name)? else {
            return Err(Fault::new("inode reference", inode, "the name of an entry", "none").into());
        };
        self.put_or_remove(key, item_of(&all))?;
        self.remove(by_index(directory, index))?;
        self.resize_directory(directory, name.len(), false)
    }

    /// A directory's size is twice the length of all names in it.
    fn resize_directory(&mut self, directory: u64, name_len: usize, grows: bool) -> Result<(), FsError> {
        let key = Key::new(directory, INODE_ITEM, 0);
        let Some(mut item) = self.item(key)? else {
            return Ok(());
        };
        let size = Structure::new("inode item", 0, &item).u64_le(16)?;
        let by = crate::to_u64(name_len.saturating_mul(2));
        set_size(&mut item, if grows { size.saturating_add(by) } else { size.saturating_sub(by) });
        self.put(key, item)
    }

    /// Fails where the kernel finds no room for another name in an item, and does not mount: one that has some already, and
    /// outgrows a leaf.
    pub(super) fn check_room(
        &self,
        what: &'static str,
        key: Key,
        held_bytes: usize,
        head_bytes: usize,
        name: &[u8],
    ) -> Result<(), FsError> {
        let leaf = to_usize(self.store.superblock.node_bytes).saturating_sub(HEADER_BYTES);
        // The kernel counts the entry of the item's table for what is there, and for what is added.
        let most = leaf.saturating_sub(ITEM_BYTES.saturating_mul(2));
        let bytes = held_bytes.saturating_add(head_bytes).saturating_add(name.len());
        if held_bytes > 0 && bytes > most {
            return Err(Fault::new(what, key.object, most, bytes).into());
        }
        Ok(())
    }

    pub(super) fn put_or_remove(&mut self, key: Key, item: Option<Vec<u8>>) -> Result<(), FsError> {
        match item {
            Some(item) => self.put(key, item),
            None => self.remove(key),
        }
    }

    /// Counts the names of inodes that gained or lost some. A directory without a name is gone with all that is in it: those
    /// are looked for first, so that what has names in many of them is counted once.
    pub(super) fn fix_link_counts(&mut self) -> Result<(), FsError> {
        let mut counted = BTreeSet::new();
        while let Some(inode) = self.fixups.pop_last() {
            counted.insert(inode);
            if self.is_directory(inode)? && !self.has_name(inode)? {
                self.remove_entries(inode, true)?;
            }
        }
        for inode in counted {
            self.fix_link_count(inode)?;
        }
        Ok(())
    }

    fn fix_link_count(&mut self, inode: u64) -> Result<(), FsError> {
        let key = Key::new(inode, INODE_ITEM, 0);
        let Some(mut item) = self.item(key)? else {
            return Ok(());
        };
        let links = self.count_names(inode)?.to_le_bytes();
        match item.get_mut(40..44) {
            Some(field) if field != links => {
                field.copy_from_slice(&links);
                self.put(key, item)
            }
            _ => Ok(()),
        }
    }

    fn is_directory(&self, inode: u64) -> Result<bool, FsError> {
        let Some(item) = self.item(Key::new(inode, INODE_ITEM, 0))? else {
            return Ok(false);
        };
        Ok(Structure::new("inode item", 0, &item).u32_le(52)? & TYPE_MASK == TYPE_DIRECTORY)
    }

    fn has_name(&self, inode: u64) -> Result<bool, FsError> {
        for kind in [INODE_REF, INODE_EXTREF] {
            let mut from = Some(Key::new(inode, kind, 0));
            while let Some((key, item)) = from.map(|from| self.next_of_kind(from)).transpose()?.flatten() {
                if !item.is_empty() {
                    return Ok(true);
                }
                from = key.next().filter(|next| (next.object, next.kind) == (inode, kind));
            }
        }
        Ok(false)
    }

    fn count_names(&self, inode: u64) -> Result<u32, FsError> {
        let mut count = 0_u32;
        for kind in [INODE_REF, INODE_EXTREF] {
            let mut from = Some(Key::new(inode, kind, 0));
            while let Some((key, item)) = from.map(|from| self.next_of_kind(from)).transpose()?.flatten() {
                let names = u32::try_from(self.references_of(key, &item)?.len()).unwrap_or(u32::MAX);
                count = count.saturating_add(names);
                from = key.next().filter(|next| (next.object, next.kind) == (inode, kind));
            }
        }
        Ok(count)
    }
}

/// The type that an entry has for a mode (the order of `DT_*` is another).
fn entry_type(mode: u32) -> u8 {
    match mode & TYPE_MASK {
        0o100_000 => 1,
        TYPE_DIRECTORY => TYPE_OF_DIRECTORY,
        0o020_000 => 3,
        0o060_000 => 4,
        0o010_000 => 5,
        0o140_000 => 6,
        0o120_000 => 7,
        _ => 0,
    }
}
