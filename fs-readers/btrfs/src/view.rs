//! A tree as it is read: what was committed, with the changes that a log makes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use stillframe_bytes::Structure;
use stillframe_fs::FsError;

use crate::node::Key;
use crate::store::Store;
use crate::superblock::Tree;
use crate::tree::Cursor;

/// Items that take the place of those in a tree, and items that are taken away.
#[derive(Default)]
pub(crate) struct Changes {
    items: BTreeMap<Key, Box<[u8]>>,
    /// From the first key of a run to its last: no item of the tree in there is shown. A run is passed in one step, however
    /// many items it hides.
    hidden: BTreeMap<Key, Key>,
    held_bytes: usize,
    /// How many runs searches passed so far: a replay counts them among its steps.
    passed: AtomicU64,
}

/// The most runs of hidden items, one behind the other, that a search passes.
const MAX_PASSED: usize = 1 << 17;
/// What an item costs besides its bytes: its place in the map, and what the allocator adds.
const ITEM_COST_BYTES: usize = 128;

impl Changes {
    pub(crate) fn put(&mut self, key: Key, item: Box<[u8]>) {
        self.held_bytes = self.held_bytes.saturating_add(item.len()).saturating_add(ITEM_COST_BYTES);
        if let Some(before) = self.items.insert(key, item) {
            self.release(before.len());
        }
    }

    /// Takes away all from `first` to `last`: the tree has nothing else between them that is shown.
    pub(crate) fn remove(&mut self, first: Key, last: Key) {
        if let Some(before) = self.items.remove(&last) {
            self.release(before.len());
        }
        let (start, end) = self.run_of(first).unwrap_or((first, first));
        let mut end = end.max(last);
        while let Some((next, next_end)) = self.hidden.range(start..=end).next().map(|(a, b)| (*a, *b)) {
            self.hidden.remove(&next);
            self.release(0);
            end = end.max(next_end);
        }
        self.hidden.insert(start, end);
        self.held_bytes = self.held_bytes.saturating_add(ITEM_COST_BYTES);
    }

    fn release(&mut self, len: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(len.saturating_add(ITEM_COST_BYTES));
    }

    /// The memory that they take.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How many runs of hidden items searches passed so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Bounds what one step goes over: these items were read before, so no budget ends it.
    fn count_passed(&self, passed: &mut usize) -> Result<(), FsError> {
        *passed = passed.saturating_add(1);
        self.passed.fetch_add(1, Ordering::Relaxed);
        if *passed > MAX_PASSED {
            return Err(FsError::Limit { what: "runs of items that a log tree removes", cap: 1 << 17 });
        }
        Ok(())
    }

    /// What takes the place of the item with this key; the inner `None` is nothing.
    #[allow(clippy::option_option, reason = "not changed and taken away differ")]
    pub(crate) fn get(&self, key: Key) -> Option<Option<&[u8]>> {
        match self.items.get(&key) {
            Some(item) => Some(Some(item)),
            None => self.run_of(key).map(|_| None),
        }
    }

    /// The run of hidden items that `key` is in.
    fn run_of(&self, key: Key) -> Option<(Key, Key)> {
        let (first, last) = self.hidden.range(..=key).next_back()?;
        (*last >= key).then_some((*first, *last))
    }

    /// The first item from `key` on.
    fn first_from(&self, key: Bound<Key>) -> Option<(Key, &[u8])> {
        let (key, item) = self.items.range((key, Bound::Unbounded)).next()?;
        Some((*key, item))
    }

    fn last_to(&self, key: Key) -> Option<Key> {
        self.items.range(..=key).next_back().map(|(key, _)| *key)
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
            return Ok(found.map(|base| Items { store, tree: self.tree, base, changes: None, change: None }));
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
        let base = Cursor::unplaced(store, self.tree)?;
        Ok(Items { store, tree: self.tree, base, changes: self.changes, change: None })
    }

    /// At the last item whose key is `key` or less; where all are greater, at the first.
    pub(crate) fn seek_before(self, store: &'a Store, key: Key) -> Result<Items<'a>, FsError> {
        let mut base = Cursor::seek_before(store, self.tree, key)?;
        let Some(changes) = self.changes else {
            return Ok(Items { store, tree: self.tree, base, changes: None, change: None });
        };
        // Items that were taken away may lie before it: the one before all of them is looked for, as far as the nearest
        // item of the changes.
        let change = changes.last_to(key);
        let mut wanted = base.item().map(|(found, _)| found).filter(|found| *found <= key);
        let mut passed = 0_usize;
        while let Some(found) = wanted.filter(|found| Some(*found) > change) {
            let Some((first, _)) = changes.run_of(found) else { break };
            let Some(before) = first.previous() else { break };
            base = Cursor::seek_before(store, self.tree, before)?;
            wanted = base.item().map(|(next, _)| next).filter(|next| *next < found);
            changes.count_passed(&mut passed)?;
        }
        self.seek(store, wanted.max(change).unwrap_or(key))
    }
}

/// A place in a view, at an item or past the last.
pub(crate) struct Items<'a> {
    store: &'a Store,
    tree: Tree,
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
            (base, Some((key, _))) if base.as_ref().is_none_or(|(base, _)| key <= *base) => {
                self.change = changes.first_from(Bound::Excluded(key));
                // Past what could not be read.
                if base.is_none() && !self.base.is_at_end() {
                    self.base.advance()?;
                }
                self.pass_changed()
            }
            _ => {
                self.base.advance()?;
                self.pass_changed()
            }
        }
    }

    /// Passes the items that the changes have something else for, up to the next item of the changes.
    fn pass_changed(&mut self) -> Result<(), FsError> {
        let Some(changes) = self.changes else { return Ok(()) };
        let mut passed = 0;
        while let Some((key, _)) = self.base.item() {
            if self.change.is_some_and(|(change, _)| change <= key) {
                break;
            }
            match changes.run_of(key) {
                Some((_, last)) => {
                    let Some(next) = last.next() else { break };
                    self.base = Cursor::seek(self.store, self.tree, next)?;
                }
                None if changes.items.contains_key(&key) => self.base.advance()?,
                None => break,
            }
            changes.count_passed(&mut passed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_in_order_is_one_run() {
        let key = |offset| Key::new(256, 108, offset);
        let mut changes = Changes::default();
        for offset in [4096, 8192, 20480] {
            changes.remove(key(4096), key(offset));
        }
        changes.remove(key(40960), key(40960));
        assert_eq!(changes.run_of(key(16384)), Some((key(4096), key(20480))));
        assert_eq!((changes.hidden.len(), changes.run_of(key(20481))), (2, None));
        // What is put there is shown, until it is taken away again.
        changes.put(key(8192), Box::from(&b"item"[..]));
        assert_eq!(changes.get(key(8192)), Some(Some(&b"item"[..])));
        changes.remove(key(8192), key(8192));
        assert_eq!((changes.get(key(8192)), changes.get(key(0))), (Some(None), None));
        changes.remove(key(20480), key(40960));
        assert_eq!(changes.hidden.len(), 1);
        assert_eq!(changes.held_bytes(), ITEM_COST_BYTES);
    }
}
