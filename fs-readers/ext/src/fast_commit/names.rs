//! The names that fast commits make and remove, and the directories that these are in.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_bytes::Fault;
use stillframe_fs::{FileKind, FsError};

use super::replay::{HELD_BYTES_EACH, LINKS_AT, Living, Replay, SIZE_AT, SIZE_HIGH_AT, empty_extent_header};
use crate::block_map::BlockMap;
use crate::directory;
use crate::inode::{BLOCK_MAP_AT, BLOCK_MAP_BYTES};
use crate::journal::Name;

/// Behind the number of its parent, the rest of an inline directory's first part is one entry that is not in use.
const INLINE_PARENT_BYTES: usize = 4;

impl Replay<'_> {
    pub(super) fn create(&mut self, name: &Name) -> Result<(), FsError> {
        let inode = if Self::is_file_number(name.inode) { self.living(name.inode)? } else { None };
        let Some(inode) = inode else {
            return Err(Fault::new("inode of a fast commit", 0, name.inode, "not in use").into());
        };
        if inode.kind == FileKind::Directory {
            if self.living(name.parent)?.is_none() {
                return Ok(());
            }
            if let Some(fault) = self.new_folder(name, &inode)? {
                return self.leave_out(fault);
            }
        }
        self.link(name, &inode)?;
        self.changed(name.inode)?.put(LINKS_AT, &1_u16.to_le_bytes());
        Ok(())
    }

    /// Gives a directory the one block that a new one has, or the inode's own space. One that has a first block is not new:
    /// the kernel neither empties it nor gives it the name.
    fn new_folder(&mut self, name: &Name, inode: &Living) -> Result<Option<Fault>, FsError> {
        let number = name.inode;
        let refused = |found: &'static str| {
            Ok(Some(Fault::new("directory that a fast commit makes", inode.at, "a new one", found)))
        };
        if inode.has_inline_data {
            // The kernel would empty it; by that a fast commit could hide what is in place.
            if self.has_entries_in_place(number)? {
                return refused("one with entries");
            }
            self.in_place.remove(&number);
            let mut space = [0; BLOCK_MAP_BYTES];
            let parent = name.parent.to_le_bytes();
            let len = u16::try_from(BLOCK_MAP_BYTES.saturating_sub(INLINE_PARENT_BYTES)).unwrap_or(0);
            let entry = [0, 0, 0, 0].into_iter().chain(len.to_le_bytes());
            space.iter_mut().zip(parent.into_iter().chain(entry)).for_each(|(slot, byte)| *slot = byte);
            self.forget(number);
            self.changed(number)?.put(BLOCK_MAP_AT, &space);
            return Ok(None);
        }
        if self.done.folders.contains_key(&u64::from(number)) || self.reserved.contains(&number) {
            return refused("one with a first block");
        }
        let Some(whole) = self.whole(number)? else { return refused("none") };
        match BlockMap::new(self.volume, &whole).holds(0) {
            Ok(false) => {}
            Ok(true) => return refused("one with a first block"),
            Err(FsError::Corrupt(fault)) => return Ok(Some(fault)),
            Err(error) => return Err(error),
        }
        drop(whole);
        self.hold(HELD_BYTES_EACH)?;
        self.done.folders.entry(number.into()).or_default().is_new = true;
        let block_bytes = self.volume.superblock.block_bytes;
        self.forget(number);
        self.changed(number)?.put(SIZE_AT, &block_bytes.to_le_bytes());
        Ok(None)
    }

    /// Whether a directory is in place there, with any entry.
    fn has_entries_in_place(&mut self, number: u32) -> Result<bool, FsError> {
        let inode = match self.untouched(number) {
            Ok(Some(inode)) if inode.kind() == FileKind::Directory => inode,
            Ok(_) | Err(FsError::Corrupt(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.search(inode.size_bytes.max(self.volume.superblock.block_bytes.into()))?;
        let mut is_found = false;
        let end = directory::read(self.volume, &inode, &mut |_| {
            is_found = true;
            ControlFlow::Break(())
        });
        match end {
            Err(error) if error.is_final() => Err(error),
            _ => Ok(is_found),
        }
    }

    /// Adds the name and counts it, where its directory is there.
    pub(super) fn link(&mut self, name: &Name, inode: &Living) -> Result<(), FsError> {
        if is_unusable(&name.name) {
            let what = "name of a fast commit";
            let fault = Fault::new(what, inode.at, "a name without separator", name.name.len());
            return self.leave_out(fault);
        }
        let Some(folder) = self.folder(name.parent)? else { return Ok(()) };
        match self.find(&folder, name) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(FsError::Unsupported(what)) => {
                return self.leave_out(Fault::new("fast commit", inode.at, "replayed", what));
            }
            Err(error) => return Err(error),
        }
        self.hold(name.name.len().saturating_add(HELD_BYTES_EACH))?;
        if folder.ignores_case {
            self.hold(name.name.len().saturating_mul(2).saturating_add(HELD_BYTES_EACH))?;
            self.spelled.insert((name.parent, name.name.to_ascii_lowercase()), name.name.clone());
        }
        let entry = Some((name.inode, inode.kind));
        self.done.folders.entry(name.parent.into()).or_default().names.insert(name.name.clone(), entry);
        let changed = self.changed(name.inode)?;
        let links = u16::from_le_bytes(changed.field(LINKS_AT)?).saturating_add(1);
        changed.put(LINKS_AT, &links.to_le_bytes());
        Ok(())
    }

    pub(super) fn unlink(&mut self, name: &Name) -> Result<(), FsError> {
        let Some(inode) = self.living(name.inode)? else { return Ok(()) };
        let found = match self.folder(name.parent) {
            Ok(Some(folder)) => self.find(&folder, name),
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        };
        let (found, of) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            // The kernel finds no such name without a key.
            Err(FsError::Encrypted(what) | FsError::Unsupported(what)) => {
                return self.leave_out(Fault::new("fast commit", inode.at, "replayed", what));
            }
            Err(error) => return Err(error),
        };
        // A name that is another file's by now stays; the link is counted off all the same.
        if of == name.inode {
            self.hold(found.len().saturating_add(HELD_BYTES_EACH))?;
            self.done.folders.entry(name.parent.into()).or_default().names.insert(found, None);
        }
        let changed = self.changed(name.inode)?;
        let links = u16::from_le_bytes(changed.field(LINKS_AT)?).saturating_sub(1);
        changed.put(LINKS_AT, &links.to_le_bytes());
        if links == 0 {
            // The file goes, and its blocks with it: the inode may be another file's next.
            let map = if inode.has_extents { empty_extent_header().to_vec() } else { Vec::new() };
            changed.put(BLOCK_MAP_AT, &[0; BLOCK_MAP_BYTES]);
            changed.put(BLOCK_MAP_AT, &map);
            changed.put(SIZE_AT, &[0; 4]);
            changed.put(SIZE_HIGH_AT, &[0; 4]);
            Arc::make_mut(&mut changed.moved).clear();
            self.forget(name.inode);
            self.reserved.remove(&name.inode);
            self.in_place.remove(&name.inode);
            self.done.folders.remove(&u64::from(name.inode));
        }
        Ok(())
    }

    /// The directory `number`, if it is one.
    fn folder(&mut self, number: u32) -> Result<Option<Living>, FsError> {
        let Some(folder) = self.living(number)? else { return Ok(None) };
        if folder.kind != FileKind::Directory {
            return Err(FsError::NotADirectory);
        }
        if folder.is_encrypted {
            return Err(FsError::Encrypted("ext4 file encryption"));
        }
        Ok(Some(folder))
    }

    /// The entry of that name as it is now: the name on the disk, and its inode.
    fn find(&mut self, folder: &Living, name: &Name) -> Result<Option<(Vec<u8>, u32)>, FsError> {
        let parent = name.parent;
        self.read_in_place(parent, folder)?;
        if let Some(inode) = self.exactly(parent, &name.name) {
            return Ok(Some((name.name.clone(), inode)));
        }
        if !folder.ignores_case {
            return Ok(None);
        }
        let other = self.spelled.get(&(parent, name.name.to_ascii_lowercase()));
        if let Some(other) = other
            && let Some(inode) = self.exactly(parent, other)
        {
            return Ok(Some((other.clone(), inode)));
        }
        // Which of other letters are the same is written in tables that are not here.
        if name.name.is_ascii() {
            return Ok(None);
        }
        Err(FsError::Unsupported("a fast commit of such a name in a folder that ignores case"))
    }

    fn exactly(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let changes = self.done.folders.get(&u64::from(parent));
        match changes.and_then(|changes| changes.names.get(name)) {
            Some(entry) => entry.map(|(inode, _)| inode),
            None if changes.is_some_and(|changes| changes.is_new) => None,
            None => self.in_place.get(&parent)?.get(name).copied(),
        }
    }

    /// Reads the directory in place, once, for the names that are mentioned.
    fn read_in_place(&mut self, parent: u32, folder: &Living) -> Result<(), FsError> {
        let is_new = self.done.folders.get(&u64::from(parent)).is_some_and(|changes| changes.is_new);
        if is_new || self.in_place.contains_key(&parent) {
            return Ok(());
        }
        self.search(folder.size_bytes.max(self.volume.superblock.block_bytes.into()))?;
        let Some(whole) = self.whole(parent)? else { return Ok(()) };
        let mut found = HashMap::new();
        let mut held_bytes = 0_usize;
        let room = self.room();
        if let Some(mentioned) = self.mentioned.get(&parent) {
            let folded: HashSet<Vec<u8>> = if folder.ignores_case {
                mentioned.iter().map(|name| name.to_ascii_lowercase()).collect()
            } else {
                HashSet::new()
            };
            let spelled = &mut self.spelled;
            let end = directory::read(self.volume, &whole, &mut |entry| {
                let lower = (!folded.is_empty()).then(|| entry.name.to_ascii_lowercase());
                let lower = lower.filter(|lower| folded.contains(lower));
                if lower.is_none() && !mentioned.contains(entry.name) {
                    return ControlFlow::Continue(());
                }
                let each = entry.name.len().saturating_mul(3).saturating_add(2 * HELD_BYTES_EACH);
                held_bytes = held_bytes.saturating_add(each);
                if held_bytes > room {
                    return ControlFlow::Break(());
                }
                let inode = u32::try_from(entry.id.number).unwrap_or(0);
                found.entry(entry.name.to_vec()).or_insert(inode);
                if let Some(lower) = lower {
                    spelled.insert((parent, lower), entry.name.to_vec());
                }
                ControlFlow::Continue(())
            });
            // Damage is met again, and told, when the directory is read.
            if let Err(error @ FsError::Read(_)) = end {
                return Err(error);
            }
        }
        self.in_place.insert(parent, found);
        self.hold(held_bytes)
    }
}

fn is_unusable(name: &[u8]) -> bool {
    matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/'))
}
