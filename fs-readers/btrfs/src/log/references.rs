//! The names of inodes of the log.

use std::collections::{HashMap, HashSet};

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use super::Replay;
use super::names::{Reference, item_of_references, reference_keys};
use crate::node::{INODE_ITEM, INODE_REF, Key};

/// An `INODE_REF` item that would be longer than this gives way to `INODE_EXTREF`: a leaf holds no longer one.
const MAX_REFERENCE_BYTES: usize = 3800;
/// What an extended reference has before its name.
const REFERENCE_HEAD_BYTES: usize = 18;
/// Names that are held, so that the items of the log which they are in are not read for each of them.
const MAX_HELD_NAMES: usize = 1 << 14;

/// Parent and name.
type Name = (u64, Vec<u8>);

/// What items of the log refer to: the log does not change.
#[derive(Default)]
pub(super) struct LoggedNames {
    items: HashMap<Key, HashSet<Name>>,
    /// Names, and items that have none.
    held: usize,
}

impl Replay<'_> {
    /// The names of one item of the log: each is given, and those of the tree's item that the log does not have are taken.
    pub(super) fn references(&mut self, key: Key, item: &Structure<'_>) -> Result<(), FsError> {
        let inode = key.object;
        if !self.has(Key::new(inode, INODE_ITEM, 0))? {
            return Err(Fault::new("inode reference", inode, "an inode", "none").into());
        }
        let logged = self.references_of(key, item.bytes())?;
        let mut checked = HashSet::new();
        let mut has_parent = false;
        for reference in &logged {
            // Not all folders were logged; an inode may have a name in one that is not there.
            if !self.has(Key::new(reference.parent, INODE_ITEM, 0))? {
                if key.kind == INODE_REF {
                    return Ok(());
                }
                continue;
            }
            has_parent = true;
            if inode == reference.parent || self.is_in_directory(inode, reference)? {
                continue;
            }
            self.resolve_conflicts(inode, reference, &mut checked)?;
            self.link(reference.parent, inode, &reference.name, reference.index, false)?;
        }
        if !has_parent {
            return Ok(());
        }
        self.remove_old_names(key, &logged)?;
        self.overwrite(key, item)
    }

    /// Whether the name is there, both by name and by number.
    fn is_in_directory(&self, inode: u64, reference: &Reference) -> Result<bool, FsError> {
        let by_index = self.entry_by_index(reference.parent, reference.index, &reference.name)?;
        let by_name = self.entry_by_name(reference.parent, &reference.name)?;
        let is_it = |entry: &super::names::Entry| entry.location.object == inode;
        Ok(by_index.as_ref().is_some_and(is_it) && by_name.as_ref().is_some_and(is_it))
    }

    /// Removes names of the inode in the same folder that are not in the log, and what else has this name or number. Of the
    /// `checked` items and folders none are left: they gain no names here.
    fn resolve_conflicts(
        &mut self,
        inode: u64,
        reference: &Reference,
        checked: &mut HashSet<(Key, u64)>,
    ) -> Result<(), FsError> {
        for key in reference_keys(inode, reference.parent, &reference.name) {
            if !checked.insert((key, reference.parent)) {
                continue;
            }
            let Some(item) = self.item(key)? else { continue };
            for victim in self.references_of(key, &item)? {
                if victim.parent == reference.parent
                    && !self.is_reference_logged(inode, victim.parent, &victim.name)?
                {
                    self.fixups.insert(inode);
                    self.unlink(victim.parent, inode, &victim.name)?;
                }
            }
        }
        let by_index = self.entry_by_index(reference.parent, reference.index, &reference.name)?;
        if let Some(entry) = by_index {
            self.drop_entry(reference.parent, &entry)?;
        }
        if let Some(entry) = self.entry_by_name(reference.parent, &reference.name)? {
            self.drop_entry(reference.parent, &entry)?;
        }
        Ok(())
    }

    /// Removes the names of the tree's item that the log's item does not have.
    fn remove_old_names(&mut self, key: Key, logged: &[Reference]) -> Result<(), FsError> {
        let Some(item) = self.item(key)? else {
            return Ok(());
        };
        let logged: HashSet<(u64, &[u8])> = logged.iter().map(|one| (one.parent, &one.name[..])).collect();
        for old in self.references_of(key, &item)? {
            let is_logged = logged.contains(&(old.parent, &old.name[..]));
            if !is_logged && key.object != old.parent {
                self.fixups.insert(key.object);
                self.unlink(old.parent, key.object, &old.name)?;
            }
        }
        Ok(())
    }

    /// Whether the log says that the inode has this name.
    pub(super) fn is_reference_logged(
        &mut self,
        inode: u64,
        parent: u64,
        name: &[u8],
    ) -> Result<bool, FsError> {
        let wanted = (parent, name.to_vec());
        for key in reference_keys(inode, parent, name) {
            self.step(1)?;
            if !self.logged_names.items.contains_key(&key) {
                let item = self.logged(key)?.unwrap_or_default();
                let all = self.references_of(key, &item)?;
                self.logged_names.hold(key, all);
            }
            if self.logged_names.items.get(&key).is_some_and(|names| names.contains(&wanted)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn add_reference(
        &mut self,
        inode: u64,
        parent: u64,
        index: u64,
        name: &[u8],
    ) -> Result<(), FsError> {
        let [plain, extended] = reference_keys(inode, parent, name);
        let held = self.item(plain)?.unwrap_or_default();
        let fits = held.len().saturating_add(name.len()) < MAX_REFERENCE_BYTES;
        let (key, held) =
            if fits { (plain, held) } else { (extended, self.item(extended)?.unwrap_or_default()) };
        self.check_room("inode reference length", key, held.len(), REFERENCE_HEAD_BYTES, name)?;
        let mut all = self.references_of(key, &held)?;
        all.push(Reference { parent, index, name: name.to_vec() });
        self.put_or_remove(key, item_of_references(key, &all))
    }

    /// Removes the reference to a name; gives the number of its entry.
    pub(super) fn take_reference(
        &mut self,
        inode: u64,
        parent: u64,
        name: &[u8],
    ) -> Result<Option<u64>, FsError> {
        for key in reference_keys(inode, parent, name) {
            let Some(item) = self.item(key)? else { continue };
            let mut all = self.references_of(key, &item)?;
            let place = all.iter().position(|one| (one.parent, &one.name[..]) == (parent, name));
            if let Some(place) = place {
                let taken = all.remove(place);
                self.put_or_remove(key, item_of_references(key, &all))?;
                return Ok(Some(taken.index));
            }
        }
        Ok(None)
    }
}

impl LoggedNames {
    fn hold(&mut self, key: Key, references: Vec<Reference>) {
        if self.held > MAX_HELD_NAMES {
            *self = Self::default();
        }
        self.held = self.held.saturating_add(references.len().max(1));
        self.items.insert(key, references.into_iter().map(|one| (one.parent, one.name)).collect());
    }
}
