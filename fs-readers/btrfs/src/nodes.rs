//! The nodes that were read last: one is read and checked once for the many searches that pass through it.

use std::sync::{Arc, Mutex, PoisonError};

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

    /// The node at `logical`. Who wants one that another thread reads waits for it; so no node is read twice at once.
    pub(crate) fn node(
        &self,
        logical: u64,
        read: impl FnOnce() -> Result<Node, FsError>,
    ) -> Result<Arc<Node>, FsError> {
        let number = logical.checked_div(self.node_bytes).unwrap_or(0);
        // Neighbours go to different sets, and so do nodes that lie a power of two apart.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let Some(set) = to_usize(mixed).checked_rem(self.sets.len()).and_then(|set| self.sets.get(set))
        else {
            return Ok(Arc::new(read()?));
        };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |node: &Option<Arc<Node>>| node.as_ref().is_some_and(|node| node.logical == logical);
        match set.iter().position(holds).and_then(|place| set.get_mut(..=place)) {
            Some(moved) => moved.rotate_right(1),
            None => {
                let node = Arc::new(read()?);
                set.rotate_right(1);
                if let Some(first) = set.first_mut() {
                    *first = Some(node);
                }
            }
        }
        set.first().and_then(Clone::clone).ok_or(FsError::NotFound)
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
