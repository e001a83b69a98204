//! The checksums of data (On-disk format, "Checksum item"): runs of them, each for one sector.

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{Extent, FsError};

use crate::node::{EXTENT_CSUM, Key};
use crate::store::Store;
use crate::superblock::Tree;
use crate::tree::Cursor;
use crate::{to_u64, to_usize};

/// The object that all checksum items belong to.
const CHECKSUM_OBJECT: u64 = u64::MAX - 9;

/// Leaves of checksums that are named to the source at once: each is for some 16 MiB of data.
const HINTED_LEAVES: usize = 16;

/// Finds checksums, and stays where it found some: what is read next mostly comes next.
pub(crate) struct Checksums<'a> {
    store: &'a Store,
    tree: Tree,
    /// The log tree of the file's subvolume: what was synced last has its checksums there.
    log: Option<Tree>,
    /// At the item that was used last.
    place: Option<Cursor<'a>>,
}

impl<'a> Checksums<'a> {
    pub(crate) fn new(store: &'a Store, tree: Tree, log: Option<Tree>) -> Self {
        Self { store, tree, log, place: None }
    }

    /// The checksums of the sectors of a range. The kernel lets no sector without one be read, nor does this.
    pub(crate) fn of(&mut self, logical: u64, len_bytes: u64) -> Result<Vec<u8>, FsError> {
        let end = logical.saturating_add(len_bytes);
        let mut found = Vec::new();
        let mut at = logical;
        while at < end {
            let mut stop = end;
            if let Some(log) = self.log {
                let logged = Cursor::seek_before(self.store, log, key(at))?;
                if self.take(&logged, &mut at, end, &mut found) {
                    continue;
                }
                stop = next_run(logged, at)?.map_or(end, |next| next.min(end));
            }
            self.go_to(at)?;
            let taken = self.place.take();
            let has_taken = taken.as_ref().is_some_and(|place| self.take(place, &mut at, stop, &mut found));
            self.place = taken;
            if !has_taken {
                return Err(Fault::new("data checksum", at, "one for each sector", "none").into());
            }
        }
        Ok(found)
    }

    /// Adds the places of the nodes that have the checksums of a range.
    pub(crate) fn add_nodes(&self, extents: &mut Vec<Extent>, logical: u64, len_bytes: u64) {
        let last = logical.saturating_add(len_bytes).saturating_sub(1);
        self.store.add_nodes(extents, self.tree, (key(logical), key(last)), HINTED_LEAVES);
    }

    /// Goes to the item that may have the checksum of `at`: from the last place where that is near.
    fn go_to(&mut self, at: u64) -> Result<(), FsError> {
        for _ in 0..2 {
            let Some((key, item)) = self.place.as_ref().and_then(Cursor::item) else { break };
            if key.offset > at || (key.object, key.kind) != (CHECKSUM_OBJECT, EXTENT_CSUM) {
                break;
            }
            if at < key.offset.saturating_add(self.covered(&item)) {
                return Ok(());
            }
            if let Some(place) = &mut self.place {
                place.advance()?;
            }
        }
        self.place = Some(Cursor::seek_before(self.store, self.tree, key(at))?);
        Ok(())
    }

    /// Takes what the item at `place` has from `at` on.
    fn take(&self, place: &Cursor<'_>, at: &mut u64, end: u64, found: &mut Vec<u8>) -> bool {
        let covering =
            place.item().filter(|(key, _)| (key.object, key.kind) == (CHECKSUM_OBJECT, EXTENT_CSUM));
        let part = covering.and_then(|(key, item)| {
            part_of(&item, key.offset, *at, end, self.each(), self.store.superblock.sector_bytes)
        });
        let Some(part) = part else { return false };
        found.extend_from_slice(part);
        let sectors = to_u64(part.len().checked_div(self.each()).unwrap_or(0));
        *at = at.saturating_add(sectors.saturating_mul(self.store.superblock.sector_bytes));
        true
    }

    fn covered(&self, item: &Structure<'_>) -> u64 {
        let sectors = to_u64(item.len().checked_div(self.each()).unwrap_or(0));
        sectors.saturating_mul(self.store.superblock.sector_bytes)
    }

    fn each(&self) -> usize {
        self.store.superblock.checksum.len_bytes()
    }
}

fn key(at: u64) -> Key {
    Key::new(CHECKSUM_OBJECT, EXTENT_CSUM, at)
}

/// Where the next run behind `at` begins.
fn next_run(mut place: Cursor<'_>, at: u64) -> Result<Option<u64>, FsError> {
    for _ in 0..2 {
        match place.item() {
            Some((found, _)) if found > key(at) => {
                let is_run = (found.object, found.kind) == (CHECKSUM_OBJECT, EXTENT_CSUM);
                return Ok(is_run.then_some(found.offset));
            }
            Some(_) => place.advance()?,
            None => break,
        }
    }
    Ok(None)
}

/// The checksums in `item`, whose first is that of the sector at `start`, from `at` to `end` as far as they go.
fn part_of<'a>(
    item: &Structure<'a>,
    start: u64,
    at: u64,
    end: u64,
    each: usize,
    sector_bytes: u64,
) -> Option<&'a [u8]> {
    let before = to_usize(at.checked_sub(start)?.checked_div(sector_bytes)?).checked_mul(each)?;
    let wanted = to_usize(end.checked_sub(at)?.div_ceil(sector_bytes)).checked_mul(each)?;
    let there = item.bytes().get(before..)?;
    let whole = there.len().checked_div(each)?.checked_mul(each)?;
    there.get(..wanted.min(whole)).filter(|part| !part.is_empty())
}
