//! Searching a tree and walking its items in order.
//!
//! A child must lie one level below its parent, begin with the key that the parent has for it, and end before the next
//! one: so a walk only goes forward, and ends, whatever the pointers say.

use std::sync::Arc;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::node::{Key, Node};
use crate::store::Store;
use crate::superblock::Tree;

/// A place in a tree, at an item or past the last.
pub(crate) struct Cursor<'a> {
    store: &'a Store,
    /// From the root down; the last is a leaf unless a child could not be read.
    path: Vec<(Arc<Node>, usize)>,
}

impl<'a> Cursor<'a> {
    /// At the first item.
    pub(crate) fn first(store: &'a Store, tree: Tree) -> Result<Self, FsError> {
        Self::seek(store, tree, Key::new(0, 0, 0))
    }

    /// The item with this key.
    pub(crate) fn find(store: &'a Store, tree: Tree, key: Key) -> Result<Option<Self>, FsError> {
        let mut cursor = Self::unplaced(store, tree)?;
        cursor.descend(key)?;
        let Some((leaf, index)) = cursor.path.last_mut() else { return Ok(None) };
        *index = leaf.count_before(key, false);
        Ok(cursor.item().is_some_and(|(found, _)| found == key).then_some(cursor))
    }

    /// At the first item whose key is `key` or greater.
    pub(crate) fn seek(store: &'a Store, tree: Tree, key: Key) -> Result<Self, FsError> {
        let mut cursor = Self::unplaced(store, tree)?;
        cursor.place_at(key)?;
        Ok(cursor)
    }

    /// At the last item whose key is `key` or less; where all are greater, at the first.
    pub(crate) fn seek_before(store: &'a Store, tree: Tree, key: Key) -> Result<Self, FsError> {
        let mut cursor = Self::unplaced(store, tree)?;
        cursor.descend(key)?;
        if let Some((leaf, index)) = cursor.path.last_mut() {
            *index = leaf.count_before(key, true).saturating_sub(1);
        }
        Ok(cursor)
    }

    /// At the root: [`Self::place_at`] goes on, and may be followed by [`Self::advance`] where it fails.
    pub(crate) fn unplaced(store: &'a Store, tree: Tree) -> Result<Self, FsError> {
        Ok(Self { store, path: vec![(store.node(tree)?, 0)] })
    }

    /// Goes to the first item whose key is `key` or greater.
    pub(crate) fn place_at(&mut self, key: Key) -> Result<(), FsError> {
        self.descend(key)?;
        let Some((leaf, index)) = self.path.last_mut() else {
            return Ok(());
        };
        *index = leaf.count_before(key, false);
        if *index < leaf.len() {
            return Ok(());
        }
        self.advance()
    }

    /// The item at the cursor.
    pub(crate) fn item(&self) -> Option<(Key, Structure<'_>)> {
        let (leaf, index) = self.path.last()?;
        leaf.item(*index)
    }

    /// Whether there is anything left to advance to.
    pub(crate) fn is_at_end(&self) -> bool {
        self.path.is_empty()
    }

    /// Goes to the next item. After an error, goes past the node that could not be read.
    pub(crate) fn advance(&mut self) -> Result<(), FsError> {
        loop {
            let Some((node, index)) = self.path.last_mut() else {
                return Ok(());
            };
            *index = index.saturating_add(1);
            if *index >= node.len() {
                self.path.pop();
                continue;
            }
            return if node.level == 0 { Ok(()) } else { self.descend(Key::new(0, 0, 0)) };
        }
    }

    /// Goes down from the last node of the path to the leaf that holds `key`, or would: to the right of the place that
    /// an inner node is at already, never to the left.
    fn descend(&mut self, key: Key) -> Result<(), FsError> {
        loop {
            let Some((node, index)) = self.path.last_mut() else {
                return Ok(());
            };
            if node.level == 0 {
                return Ok(());
            }
            *index = node.count_before(key, true).saturating_sub(1).max(*index);
            let (Some((child, generation)), Some(first_key)) = (node.child(*index), node.key(*index)) else {
                return Err(Fault::new("node item count", node.logical, node.len(), *index).into());
            };
            let level = node.level.saturating_sub(1);
            let child = self.store.node(Tree { root: child, level, generation })?;
            if child.key(0) != Some(first_key) {
                return Err(Fault::new("node first key", child.logical, "its parent's", "another").into());
            }
            if let (Some(bound), Some(last)) = (self.bound(), child.last_key())
                && last >= bound
            {
                return Err(Fault::new("node last key", child.logical, "before its sibling", "not").into());
            }
            self.path.push((child, 0));
        }
    }

    /// The key that everything below the current place comes before.
    fn bound(&self) -> Option<Key> {
        self.path.iter().rev().find_map(|(node, index)| node.key(index.saturating_add(1)))
    }
}
