//! A tree as it is read: what was committed, with the changes that a log makes.

use std::collections::BTreeMap;
use std::ops::Bound;

use stillframe_bytes::Structure;
use stillframe_fs::FsError;

use crate::node::Key;
use crate::store::Store;
use crate::superblock::Tree;
use crate::tree::Cursor;

/// Items that take the place of those in a tree; `None` takes one away.
#[derive(Default)]
pub(crate) struct Changes {
    items: BTreeMap<Key, Option<Box<[u8]>>>,
    held_bytes: usize,
}

/// What an item costs besides its bytes.
const ITEM_COST_BYTES: usize = 64;

impl Changes {
    pub(crate) fn set(&mut self, key: Key, item: Option<Box<[u8]>>) {
        let cost = |item: &Option<Box<[u8]>>| {
            item.as_ref().map_or(0, |bytes| bytes.len()).saturating_add(ITEM_COST_BYTES)
        };
        self.held_bytes = self.held_bytes.saturating_add(cost(&item));
        if let Some(before) = self.items.insert(key, item) {
            self.held_bytes = self.held_bytes.saturating_sub(cost(&before));
        }
    }

    /// The memory that they take.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(crate) fn get(&self, key: Key) -> Option<Option<&[u8]>> {
        self.items.get(&key).map(Option::as_deref)
    }

    /// The first item that is there from `key` on.
    fn first_from(&self, key: Bound<Key>) -> Option<(Key, &[u8])> {
        let mut all = self.items.range((key, Bound::Unbounded));
        all.find_map(|(key, item)| Some((*key, item.as_deref()?)))
    }

    fn last_to(&self, key: Key) -> Option<Key> {
        let mut all = self.items.range(..=key).rev();
        all.find_map(|(key, item)| item.as_ref().map(|_| *key))
    }
}

/// One tree to be read.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) tree: Tree,
    pub(crate) changes: Option<&'a Changes>,
}

impl<'a> View<'a> {
    /// At the item with this key, where there is one.
    pub(crate) fn find(self, store: &'a Store, key: Key) -> Result<Option<Items<'a>>, FsError> {
        if self.changes.is_none() {
            let found = Cursor::find(store, self.tree, key)?;
            return Ok(found.map(|base| Items { base, changes: None, change: None }));
        }
        let items = self.seek(store, key)?;
        Ok(items.item().is_some_and(|(found, _)| found == key).then_some(items))
    }

    /// At the first item whose key is `key` or greater.
    pub(crate) fn seek(self, store: &'a Store, key: Key) -> Result<Items<'a>, FsError> {
        let mut items = self.unplaced(store)?;
        items.place_at(key)?;
        Ok(items)
    }

    /// At the root: [`Items::place_at`] goes on, and may be followed by [`Items::advance`] where it fails.
    pub(crate) fn unplaced(self, store: &'a Store) -> Result<Items<'a>, FsError> {
        Ok(Items { base: Cursor::unplaced(store, self.tree)?, changes: self.changes, change: None })
    }

    /// At the last item whose key is `key` or less; where all are greater, at the first.
    pub(crate) fn seek_before(self, store: &'a Store, key: Key) -> Result<Items<'a>, FsError> {
        let mut base = Cursor::seek_before(store, self.tree, key)?;
        let Some(changes) = self.changes else {
            return Ok(Items { base, changes: None, change: None });
        };
        // Items that were taken away may lie before it: the one before all of them is looked for.
        let mut wanted = base.item().map(|(found, _)| found).filter(|found| *found <= key);
        while let Some(found) = wanted.filter(|found| changes.get(*found) == Some(None)) {
            let Some(before) = found.previous() else { break };
            base = Cursor::seek_before(store, self.tree, before)?;
            wanted = base.item().map(|(next, _)| next).filter(|next| *next < found);
        }
        let start = wanted.max(changes.last_to(key)).unwrap_or(key);
        self.seek(store, start)
    }
}

/// A place in a view, at an item or past the last.
pub(crate) struct Items<'a> {
    base: Cursor<'a>,
    changes: Option<&'a Changes>,
    /// The next item of the changes.
    change: Option<(Key, &'a [u8])>,
}

impl Items<'_> {
    /// Goes to the first item whose key is `key` or greater.
    pub(crate) fn place_at(&mut self, key: Key) -> Result<(), FsError> {
        self.change = self.changes.and_then(|changes| changes.first_from(Bound::Included(key)));
        self.base.place_at(key)?;
        self.pass_changed()
    }

    /// The item here.
    pub(crate) fn item(&self) -> Option<(Key, Structure<'_>)> {
        match (self.base.item(), self.change) {
            (Some(base), Some((key, _))) if base.0 < key => Some(base),
            (_, Some((key, bytes))) => Some((key, Structure::new("item of the log", 0, bytes))),
            (base, None) => base,
        }
    }

    /// Whether there is anything left to advance to.
    pub(crate) fn is_at_end(&self) -> bool {
        self.base.is_at_end() && self.change.is_none()
    }

    /// Goes to the next item. After an error, goes past the node that could not be read.
    pub(crate) fn advance(&mut self) -> Result<(), FsError> {
        let Some(changes) = self.changes else {
            return self.base.advance();
        };
        match (self.base.item(), self.change) {
            (base, Some((key, _))) if base.as_ref().is_none_or(|(base, _)| key < *base) => {
                self.change = changes.first_from(Bound::Excluded(key));
                // Past what could not be read.
                if base.is_none() && !self.base.is_at_end() {
                    self.base.advance()?;
                    self.pass_changed()?;
                }
                Ok(())
            }
            _ => {
                self.base.advance()?;
                self.pass_changed()
            }
        }
    }

    /// Passes the items that the changes have something else for.
    fn pass_changed(&mut self) -> Result<(), FsError> {
        let Some(changes) = self.changes else { return Ok(()) };
        while self.base.item().is_some_and(|(key, _)| changes.get(key).is_some()) {
            self.base.advance()?;
        }
        Ok(())
    }
}
