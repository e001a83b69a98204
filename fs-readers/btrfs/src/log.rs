//! The log trees: what was synced since the last commit (kernel `fs/btrfs/tree-log.c` replays them at mount).
//!
//! Each subvolume may have one. It holds items of the inodes that were synced, and is no patch: what else must change
//! follows from names that are in the one tree and not in the other. Replay goes over it three times, as the kernel
//! does: inodes, then entries of directories, then names, attributes and extents; at last link counts are made right.
//! The outcome is [`Changes`] over the committed tree, in memory, of a bounded size. Checksums of new data stay in the log
//! tree, and are looked up there first.
//!
//! The kernel writes the time of the mount to folders from which a replay removes names; here they keep what was logged.

mod entries;
mod extents;
mod names;
mod references;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::node::{DIR_INDEX, EXTENT_DATA, INODE_EXTREF, INODE_ITEM, INODE_REF, Key, ROOT_ITEM, XATTR_ITEM};
use crate::store::Store;
use crate::subvolumes::Subvolumes;
use crate::superblock::Tree;
use crate::to_u64;
use crate::tree::Cursor;
use crate::view::{Changes, Items, View};
use names::{Entry, Reference};
use references::LoggedNames;

/// The object that the roots of log trees belong to.
const LOG_OBJECT: u64 = u64::MAX - 5;
/// The most memory that the changes of all log trees take.
const MAX_HELD_BYTES: usize = 24 << 20;
/// What an inode costs whose names are counted at last.
const FIXUP_COST_BYTES: usize = 32;
/// The most steps that all replays take: items and names that are gone over. These lie in nodes that were read before, so
/// no budget of reads ends that.
const MAX_STEPS: u64 = 1 << 26;
/// A search counts as so many steps.
const STEPS_OF_SEARCH: u64 = 16;
/// And an entry of a directory, of which more is taken than of a reference.
const STEPS_OF_ENTRY: u64 = 3;
/// And so many bytes that are copied as one.
const BYTES_OF_STEP: usize = 256;
/// Subvolumes that were synced in one transaction.
const MAX_LOGS: usize = 1 << 16;
const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_REGULAR: u32 = 0o100_000;

/// One subvolume's log, replayed.
pub(crate) struct Log {
    pub(crate) tree: Tree,
    pub(crate) changes: Changes,
}

/// The logs by subvolume.
#[derive(Default)]
pub(crate) struct Logs {
    pub(crate) logs: BTreeMap<u64, Log>,
    /// Why logs, or one of them, could not be replayed.
    pub(crate) faults: Vec<Fault>,
    pub(crate) are_whole: bool,
}

impl Logs {
    /// Replays all logs that there are. One that is damaged leaves its subvolume as it was committed.
    pub(crate) fn replay(store: &Store, subvolumes: &Subvolumes) -> Result<Self, FsError> {
        let mut logs = Self { are_whole: true, ..Self::default() };
        let Some(log_tree) = store.superblock.log_tree else {
            return Ok(logs);
        };
        let roots = logs.keep(log_tree.root, roots(store, log_tree))?.unwrap_or_default();
        let mut held_bytes = 0_usize;
        let steps = Cell::new(0);
        for (subvolume, log) in roots {
            let replayed = match subvolumes.tree(store, subvolume) {
                Ok(tree) => {
                    let most_bytes = MAX_HELD_BYTES.saturating_sub(held_bytes);
                    Replay::new(store, tree, log, most_bytes, &steps).run()
                }
                // It was deleted since.
                Err(FsError::NotFound) => continue,
                Err(error) => Err(error),
            };
            if let Some(changes) = logs.keep(log.root, replayed)? {
                held_bytes = held_bytes.saturating_add(changes.held_bytes());
                logs.logs.insert(subvolume, Log { tree: log, changes });
            }
        }
        Ok(logs)
    }

    /// Keeps the fault of what failed, unless it ends all reading.
    fn keep<T>(&mut self, at: u64, outcome: Result<T, FsError>) -> Result<Option<T>, FsError> {
        let error = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => error,
        };
        self.are_whole = false;
        self.faults.push(Fault::new("log tree", at, "replayed", "not applied"));
        match error {
            FsError::Corrupt(fault) => self.faults.push(fault),
            FsError::Limit { what, cap } => self.faults.push(Fault::new(what, at, cap, "more")),
            _ => {}
        }
        Ok(None)
    }
}

fn roots(store: &Store, log_tree: Tree) -> Result<Vec<(u64, Tree)>, FsError> {
    let mut roots = Vec::new();
    let mut cursor = Cursor::seek(store, log_tree, Key::new(LOG_OBJECT, ROOT_ITEM, 0))?;
    while let Some((key, item)) = cursor.item() {
        if (key.object, key.kind) != (LOG_OBJECT, ROOT_ITEM) {
            break;
        }
        if roots.len() >= MAX_LOGS {
            return Err(FsError::Limit { what: "log trees", cap: 1 << 16 });
        }
        roots.push((key.offset, crate::subvolumes::root_of(&item)?));
        cursor.advance()?;
    }
    Ok(roots)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Inodes,
    Entries,
    All,
}

/// The replay of one subvolume's log.
struct Replay<'a> {
    store: &'a Store,
    tree: Tree,
    log: Tree,
    changes: Changes,
    /// Inodes whose names may have changed.
    fixups: BTreeSet<u64>,
    logged_names: LoggedNames,
    most_bytes: usize,
    /// Of all replays.
    steps: &'a Cell<u64>,
}

impl<'a> Replay<'a> {
    fn new(store: &'a Store, tree: Tree, log: Tree, most_bytes: usize, steps: &'a Cell<u64>) -> Self {
        let (changes, fixups, logged_names) = (Changes::default(), BTreeSet::new(), LoggedNames::default());
        Self { store, tree, log, changes, fixups, logged_names, most_bytes, steps }
    }

    fn run(mut self) -> Result<Changes, FsError> {
        for stage in [Stage::Inodes, Stage::Entries, Stage::All] {
            self.stage(stage)?;
        }
        self.fix_link_counts()?;
        Ok(self.changes)
    }

    fn stage(&mut self, stage: Stage) -> Result<(), FsError> {
        let mut cursor = Cursor::first(self.store, self.log)?;
        // An inode without names is left out with all that belongs to it.
        let mut left_out = None;
        while let Some((key, item)) = cursor.item() {
            self.step(1)?;
            if key.kind == INODE_ITEM {
                left_out = (item.u32_le(40)? == 0).then_some(key.object);
            }
            if left_out != Some(key.object) {
                match (stage, key.kind) {
                    (Stage::Inodes, INODE_ITEM) => self.inode(key, &item)?,
                    (Stage::Entries, DIR_INDEX) => self.entry(key, &item)?,
                    (Stage::All, XATTR_ITEM) => self.overwrite(key, &item)?,
                    (Stage::All, INODE_REF | INODE_EXTREF) => self.references(key, &item)?,
                    (Stage::All, EXTENT_DATA) => self.extent(key, &item)?,
                    _ => {}
                }
            }
            cursor.advance()?;
        }
        Ok(())
    }

    fn inode(&mut self, key: Key, item: &Structure<'_>) -> Result<(), FsError> {
        self.remove_attributes(key.object)?;
        let kind = item.u32_le(52)? & TYPE_MASK;
        if kind == TYPE_DIRECTORY {
            self.remove_entries(key.object, false)?;
        }
        self.overwrite(key, item)?;
        if kind == TYPE_REGULAR {
            self.cut(key.object)?;
        }
        self.fixups.insert(key.object);
        self.check_size()
    }

    /// Puts an item of the log over what is there.
    fn overwrite(&mut self, key: Key, item: &Structure<'_>) -> Result<(), FsError> {
        let existing = self.item(key)?;
        if existing.as_deref() == Some(item.bytes()) {
            return Ok(());
        }
        let mut new = item.bytes().to_vec();
        if key.kind == INODE_ITEM {
            let kind = item.u32_le(52)? & TYPE_MASK;
            let Some(existing) = existing else {
                if kind == TYPE_DIRECTORY {
                    // Grows with each entry.
                    set_size(&mut new, 0);
                }
                return self.put(key, new);
            };
            let fields = Structure::new("inode item", 0, &existing);
            let same_kind = fields.u32_le(52)? & TYPE_MASK == kind;
            let size = item.u64_le(16)?;
            // Generation 0 says that only the inode's being there was logged, and its size where it has one.
            if item.u64_le(0)? == 0 {
                if kind == TYPE_REGULAR && same_kind && size != 0 {
                    let mut grown = existing.clone();
                    set_size(&mut grown, size);
                    return self.put(key, grown);
                }
                return Ok(());
            }
            if kind == TYPE_DIRECTORY {
                set_size(&mut new, if same_kind { fields.u64_le(16)? } else { 0 });
            }
        }
        self.put(key, new)
    }

    /// The tree as it is by now.
    fn view(&self) -> View<'_> {
        View { tree: self.tree, changes: Some(&self.changes) }
    }

    fn item(&self, key: Key) -> Result<Option<Vec<u8>>, FsError> {
        match self.changes.get(key) {
            Some(changed) => self.copied(changed),
            None => self.found(self.tree, key),
        }
    }

    /// The item of the log with this key.
    fn logged(&self, key: Key) -> Result<Option<Vec<u8>>, FsError> {
        self.found(self.log, key)
    }

    fn found(&self, tree: Tree, key: Key) -> Result<Option<Vec<u8>>, FsError> {
        let found = Cursor::find(self.store, tree, key)?;
        self.copied(found.as_ref().and_then(Cursor::item).as_ref().map(|(_, item)| item.bytes()))
    }

    /// A copy of what a search found.
    fn copied(&self, item: Option<&[u8]>) -> Result<Option<Vec<u8>>, FsError> {
        let len = item.map_or(0, <[u8]>::len);
        self.step(STEPS_OF_SEARCH.saturating_add(to_u64(len.checked_div(BYTES_OF_STEP).unwrap_or(0))))?;
        Ok(item.map(<[u8]>::to_vec))
    }

    fn entries(&self, item: &[u8]) -> Result<Vec<Entry>, FsError> {
        let all = names::entries(item)?;
        self.step(to_u64(all.len()).saturating_mul(STEPS_OF_ENTRY))?;
        Ok(all)
    }

    fn references_of(&self, key: Key, item: &[u8]) -> Result<Vec<Reference>, FsError> {
        let all = names::references(key, item)?;
        self.step(to_u64(all.len()))?;
        Ok(all)
    }

    /// Counts what is done. Whatever goes over a number of items or names that the disk says counts it.
    fn step(&self, steps: u64) -> Result<(), FsError> {
        let steps = self.steps.get().saturating_add(steps);
        self.steps.set(steps);
        if steps > MAX_STEPS {
            return Err(FsError::Limit { what: "steps of replaying log trees", cap: MAX_STEPS });
        }
        Ok(())
    }

    /// A place in the tree as it is by now.
    fn place<'b>(
        &'b self,
        search: impl FnOnce(View<'b>) -> Result<Items<'b>, FsError>,
    ) -> Result<Items<'b>, FsError> {
        let before = self.changes.passed();
        let found = search(self.view());
        let searches = self.changes.passed().saturating_sub(before).saturating_add(1);
        self.step(searches.saturating_mul(STEPS_OF_SEARCH))?;
        found
    }

    fn has(&self, key: Key) -> Result<bool, FsError> {
        self.step(STEPS_OF_SEARCH)?;
        match self.changes.get(key) {
            Some(changed) => Ok(changed.is_some()),
            None => Ok(Cursor::find(self.store, self.tree, key)?.is_some()),
        }
    }

    /// The first item from `key` on that is of the same object and kind.
    fn next_of_kind(&self, key: Key) -> Result<Option<(Key, Vec<u8>)>, FsError> {
        let items = self.place(|view| view.seek(self.store, key))?;
        let found = items.item().filter(|(found, _)| (found.object, found.kind) == (key.object, key.kind));
        let item = self.copied(found.as_ref().map(|(_, item)| item.bytes()))?;
        Ok(found.map(|(found, _)| found).zip(item))
    }

    fn put(&mut self, key: Key, item: Vec<u8>) -> Result<(), FsError> {
        self.changes.put(key, item.into_boxed_slice());
        self.check_size()
    }

    /// Takes an item away.
    fn remove(&mut self, key: Key) -> Result<(), FsError> {
        self.remove_run(key, key)
    }

    /// Takes away the last of a run of items of which the others are taken away already.
    fn remove_run(&mut self, first: Key, last: Key) -> Result<(), FsError> {
        self.changes.remove(first, last);
        self.check_size()
    }

    fn check_size(&self) -> Result<(), FsError> {
        let fixups = self.fixups.len().saturating_mul(FIXUP_COST_BYTES);
        if self.changes.held_bytes().saturating_add(fixups) > self.most_bytes {
            return Err(FsError::Limit { what: "bytes of replayed log trees", cap: to_u64(MAX_HELD_BYTES) });
        }
        Ok(())
    }
}

/// Writes the size of an inode item.
fn set_size(item: &mut [u8], size_bytes: u64) {
    if let Some(field) = item.get_mut(16..24) {
        field.copy_from_slice(&size_bytes.to_le_bytes());
    }
}
