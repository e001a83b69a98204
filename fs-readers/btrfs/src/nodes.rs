//! The nodes that were read last: one is read and checked once for the many searches that pass through it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillframe_fs::FsError;

use crate::node::Node;
use crate::to_usize;

/// For each open filesystem.
const CACHE_BYTES: u64 = 32 << 20;
/// How many nodes with the same mixed address are held.
const WAYS: usize = 4;

type Set = Mutex<[Option<Arc<Node>>; WAYS]>;

/// Sets of a few nodes by address, the one that was used last in front.
pub(crate) struct NodeCache {
    node_bytes: u64,
    sets: Vec<Set>,
}

impl NodeCache {
    pub(crate) fn new(node_bytes: u64) -> Self {
        let nodes = to_usize(CACHE_BYTES.checked_div(node_bytes).unwrap_or(0));
        let sets = nodes.checked_div(WAYS).unwrap_or(0).max(1);
        Self { node_bytes, sets: (0..sets).map(|_| Mutex::default()).collect() }
    }

    /// The node at `logical`. Nobody waits for another thread's read, which may be slow: two threads that want a node that
    /// is not held both read it.
    pub(crate) fn node(
        &self,
        logical: u64,
        read: impl FnOnce() -> Result<Node, FsError>,
    ) -> Result<Arc<Node>, FsError> {
        let Some(set) = self.set(logical) else {
            return Ok(Arc::new(read()?));
        };
        if let Some(node) = taken_to_front(&mut *locked(set), logical) {
            return Ok(node);
        }
        let node = Arc::new(read()?);
        let mut set = locked(set);
        // Another thread may have been faster.
        if let Some(held) = taken_to_front(&mut *set, logical) {
            return Ok(held);
        }
        set.rotate_right(1);
        if let Some(first) = set.first_mut() {
            *first = Some(node.clone());
        }
        Ok(node)
    }

    /// The node at `logical`, if it is held and nobody waits for it.
    pub(crate) fn held(&self, logical: u64) -> Option<Arc<Node>> {
        let set = self.set(logical)?.try_lock().ok()?;
        set.iter().flatten().find(|node| node.logical == logical).cloned()
    }

    fn set(&self, logical: u64) -> Option<&Set> {
        let number = logical.checked_div(self.node_bytes).unwrap_or(0);
        // Neighbours go to different sets, and so do nodes that lie a power of two apart.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        to_usize(mixed).checked_rem(self.sets.len()).and_then(|set| self.sets.get(set))
    }
}

fn locked(set: &Set) -> MutexGuard<'_, [Option<Arc<Node>>; WAYS]> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node at `logical` if it is held, from now on the first of its set.
fn taken_to_front(set: &mut [Option<Arc<Node>>], logical: u64) -> Option<Arc<Node>> {
    let place = set.iter().position(|node| node.as_ref().is_some_and(|node| node.logical == logical))?;
    set.get_mut(..=place)?.rotate_right(1);
    set.first().and_then(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_keeps_nobody_waiting() {
        let cache = NodeCache::new(16384);
        let mut inner = None;
        let outer = cache.node(1 << 20, || {
            // What another thread would do while this one reads.
            inner =
                Some((cache.node(1 << 20, || Err(FsError::NotADirectory)), cache.held(1 << 20).is_none()));
            Err(FsError::NotFound)
        });
        assert!(matches!(outer, Err(FsError::NotFound)));
        assert!(matches!(inner, Some((Err(FsError::NotADirectory), true))));
    }
}
