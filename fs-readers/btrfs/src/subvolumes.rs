//! Subvolumes (On-disk format, "Root item" and "Root reference"): the trees that files are in, and the places where
//! one is entered from another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::node::{DIR_ITEM, Key, ROOT_BACKREF, ROOT_ITEM};
use crate::store::Store;
use crate::superblock::{MAX_LEVEL, Tree};
use crate::tree::Cursor;

/// The top-level subvolume, and the numbers that others have.
pub(crate) const TOP_LEVEL: u64 = 5;
const FIRST_SUBVOLUME: u64 = 256;
const LAST_SUBVOLUME: u64 = u64::MAX - 255;
/// The tree of data checksums.
pub(crate) const CHECKSUM_TREE: u64 = 7;
/// Trees whose root is remembered; others are looked up each time.
const MAX_KNOWN: usize = 1 << 16;
/// Where the default subvolume's entry is: the hash of its name (On-disk format, "Directory item").
const DEFAULT_NAME: &[u8] = b"default";
const DEFAULT_HASH: u64 = 0x8dbf_c2d2;

/// Roots of trees by number.
#[derive(Default)]
pub(crate) struct Subvolumes {
    known: Mutex<HashMap<u64, Tree>>,
}

impl Subvolumes {
    /// Tree number `id`, where it was looked up before.
    pub(crate) fn known(&self, id: u64) -> Option<Tree> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Tree number `id`, from the root tree.
    pub(crate) fn tree(&self, store: &Store, id: u64) -> Result<Tree, FsError> {
        if let Some(tree) = self.known(id) {
            return Ok(tree);
        }
        let tree = look_up(store, id)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_KNOWN {
            known.insert(id, tree);
        }
        Ok(tree)
    }
}

fn look_up(store: &Store, id: u64) -> Result<Tree, FsError> {
    let cursor = Cursor::seek(store, store.superblock.root_tree, Key::new(id, ROOT_ITEM, 0))?;
    let Some((_, item)) = cursor.item().filter(|(key, _)| (key.object, key.kind) == (id, ROOT_ITEM)) else {
        return Err(FsError::NotFound);
    };
    // Nothing refers to a subvolume that is being deleted.
    if item.u32_le(216)? == 0 {
        return Err(FsError::NotFound);
    }
    root_of(&item)
}

/// The tree that a root item names.
pub(crate) fn root_of(item: &Structure<'_>) -> Result<Tree, FsError> {
    let level = item.u8(238)?;
    if level > MAX_LEVEL {
        return Err(item.fault("root item level", 238, MAX_LEVEL, level).into());
    }
    Ok(Tree { root: item.u64_le(176)?, level, generation: item.u64_le(160)? })
}

/// The subvolume that a mount without `subvol=` shows: what the entry `default` of the root tree's directory names, and
/// where there is none, the top level.
pub(crate) fn default(store: &Store) -> Result<u64, FsError> {
    let superblock = &store.superblock;
    let key = Key::new(superblock.root_directory, DIR_ITEM, DEFAULT_HASH);
    let Some(cursor) = Cursor::find(store, superblock.root_tree, key)? else {
        return Ok(TOP_LEVEL);
    };
    let Some((_, item)) = cursor.item() else {
        return Ok(TOP_LEVEL);
    };
    let location = Key::parse(&item, 0)?;
    let is_named = item.slice(30, item.u16_le(27)?.into())? == DEFAULT_NAME;
    let is_subvolume =
        location.object == TOP_LEVEL || (FIRST_SUBVOLUME..=LAST_SUBVOLUME).contains(&location.object);
    if !is_named || location.kind != ROOT_ITEM || !is_subvolume {
        return Err(item.fault("default subvolume", 0, ROOT_ITEM, location.kind).into());
    }
    Ok(location.object)
}

/// Whether the directory entry `name` of `directory` in `parent` is where subvolume `child` is entered. A snapshot of
/// `parent` has the entry too, and nothing behind it.
///
/// Each subvolume has one place where it is entered, taken from its first back reference, and the top level has none:
/// so subvolumes make no cycle.
pub(crate) fn is_entered_at(
    store: &Store,
    parent: u64,
    directory: u64,
    name: &[u8],
    child: u64,
) -> Result<bool, FsError> {
    if !(FIRST_SUBVOLUME..=LAST_SUBVOLUME).contains(&child) {
        return Err(Fault::new("subvolume number", directory, FIRST_SUBVOLUME, child).into());
    }
    let cursor = Cursor::seek(store, store.superblock.root_tree, Key::new(child, ROOT_BACKREF, 0))?;
    let Some((key, item)) = cursor.item() else {
        return Ok(false);
    };
    if (key.object, key.kind, key.offset) != (child, ROOT_BACKREF, parent) {
        return Ok(false);
    }
    let len = usize::from(item.u16_le(16)?);
    Ok(item.u64_le(0)? == directory && item.slice(18, len)? == name)
}
