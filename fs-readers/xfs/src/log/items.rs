//! The items of committed transactions: changed buffers, inodes, new inodes, and work that is done in several steps
//! (XFS Algorithms & Data Structures, "Log Items").

use std::collections::BTreeMap;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use super::inode_item::{self, bytes_of};
use super::transaction::{Item, Transaction};
use crate::changes::{CHUNK_BYTES, Changes, MappingChange};
use crate::superblock::Superblock;
use crate::volume::{SECTOR_BYTES, to_u64};

const INODE: u16 = 0x123b;
const BUFFER: u16 = 0x123c;
const NEW_INODES: u16 = 0x123f;
const MAPPING_INTENT: u16 = 0x1244;
const MAPPING_DONE: u16 = 0x1245;
const ATTRIBUTE_INTENT: u16 = 0x1246;
const ATTRIBUTE_DONE: u16 = 0x1247;
const EXCHANGE_INTENT: u16 = 0x1248;
const EXCHANGE_DONE: u16 = 0x1249;

/// `blf_flags`: of an inode buffer, and only the list of unlinked inodes in it.
const BUFFER_OF_INODES: u16 = 1 << 0;
const BUFFER_CANCELLED: u16 = 1 << 1;
/// What the buffer holds is above these bits.
const BUFFER_TYPE_SHIFT: u32 = 11;
const BUFFER_TYPE_INODES: u16 = 8;

/// The longest buffer that is logged piece by piece: a directory block, or inodes.
const MAX_BUFFER_BYTES: u64 = 64 * 1024;

/// `me_flags`.
const MAPPING_TYPE: u32 = 0xff;
const MAPPING_ADD: u32 = 1;
const MAPPING_REMOVE: u32 = 2;
const MAPPING_REALTIME: u32 = 1 << 29;
const MAPPING_UNWRITTEN: u32 = 1 << 30;
const MAPPING_OF_ATTRIBUTES: u32 = 1 << 31;
const MAPPING_BYTES: usize = 32;
/// The kernel takes one mapping of an intent.
const MAX_MAPPINGS: u32 = 16;
/// Begun work that waits to be finished.
const MAX_INTENTS: usize = 1 << 20;
/// `alfi_attr_filter`: links to parent folders, which are not shown.
const ATTRIBUTE_OF_PARENT: u32 = 1 << 3;

/// Buffers that hold nothing that reading asks for: free space, group headers, quota, bitmaps and indexes of directories.
const fn is_of_no_interest(buffer_type: u16) -> bool {
    matches!(buffer_type, 1..=3 | 5..=7 | 12 | 19 | 20)
}

/// Work that was begun.
enum Intent {
    Mappings(Vec<MappingChange>),
    Attributes { inode: u64, is_of_parent: bool },
    Exchange { inodes: [u64; 2] },
}

/// Gathers what transactions change.
pub(super) struct Replay<'a> {
    superblock: &'a Superblock,
    changes: Changes,
    /// By kind and number of the intent; the first is its place in the log's order.
    intents: BTreeMap<(u16, u64), (u64, Intent)>,
    intents_met: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(superblock: &'a Superblock) -> Self {
        Self { superblock, changes: Changes::new(superblock), intents: BTreeMap::new(), intents_met: 0 }
    }

    /// Takes a committed transaction in. Within it buffers come first, then inodes, then what is given up.
    pub(super) fn apply(&mut self, transaction: &Transaction) -> Result<(), FsError> {
        for item in transaction.items() {
            match kind(&item)? {
                BUFFER if !is_cancelled(&item)? => self.buffer(&item, transaction.lsn)?,
                NEW_INODES => self.new_inodes(&item)?,
                _ => {}
            }
        }
        for item in transaction.items() {
            self.other(&item, kind(&item)?, transaction.lsn)?;
        }
        for item in transaction.items() {
            if kind(&item)? == BUFFER && is_cancelled(&item)? {
                let (start, len) = buffer_place(&item.region(0)?)?;
                self.changes.cancel(start, len);
            }
        }
        Ok(())
    }

    fn other(&mut self, item: &Item<'_>, kind: u16, lsn: u64) -> Result<(), FsError> {
        match kind {
            INODE => {
                let order = if self.superblock.has_checksums { lsn } else { 0 };
                let logged = inode_item::parse(self.superblock, item, order)?;
                if logged.has_new_owner {
                    self.changes.set_new_owner(logged.number);
                }
                self.changes.insert_inode(logged.at, logged.change, logged.flush_count)
            }
            MAPPING_INTENT | ATTRIBUTE_INTENT | EXCHANGE_INTENT => self.intent(&item.region(0)?, kind),
            MAPPING_DONE | ATTRIBUTE_DONE | EXCHANGE_DONE => {
                let number = item.region(0)?.u64_le(8)?;
                self.intents.remove(&(kind.saturating_sub(1), number));
                Ok(())
            }
            // Space to be freed, quota, the reverse map and reference counts, of the realtime device too: whether or not they
            // are finished, files show the same.
            0x1236 | 0x1237 | BUFFER | 0x123d | 0x123e | NEW_INODES | 0x1240..=0x1243 | 0x124a..=0x124f => {
                Ok(())
            }
            _ => Err(FsError::Unsupported("an unknown item of an XFS log")),
        }
    }

    fn buffer(&mut self, item: &Item<'_>, lsn: u64) -> Result<(), FsError> {
        let header = item.region(0)?;
        let flags = header.u16_le(4)?;
        let buffer_type = flags.checked_shr(BUFFER_TYPE_SHIFT).unwrap_or(0);
        if flags & BUFFER_OF_INODES != 0 || is_of_no_interest(buffer_type) {
            return Ok(());
        }
        let (start, len) = buffer_place(&header)?;
        if len > MAX_BUFFER_BYTES {
            return Err(header.fault("log buffer length", 6, MAX_BUFFER_BYTES, len).into());
        }
        let order = if self.superblock.has_checksums { lsn } else { 0 };
        let Some(unit) = self.changes.unit(start, len, order)? else {
            return Ok(());
        };
        let words = usize::try_from(header.u32_le(16)?).unwrap_or(usize::MAX);
        let map = header.part("log buffer map", 20, words.saturating_mul(4))?;
        let is_set = |bit: u64| {
            let byte = usize::try_from(bit / 8).ok().and_then(|byte| map.bytes().get(byte));
            byte.is_some_and(|byte| {
                byte.checked_shr(u32::try_from(bit % 8).unwrap_or(0)).unwrap_or(0) & 1 != 0
            })
        };
        let bits = to_u64(map.len()).saturating_mul(8);
        let mut bit = 0;
        for number in 1..item.regions() {
            while bit < bits && !is_set(bit) {
                bit = bit.saturating_add(1);
            }
            let region = item.region(number)?;
            for chunk in region.bytes().chunks_exact(CHUNK_BYTES) {
                // A run of changed pieces ends where the map says so, whatever the region's length.
                if bit >= bits || !is_set(bit) {
                    break;
                }
                let within = bit.saturating_mul(to_u64(CHUNK_BYTES));
                if within >= len {
                    return Err(header.fault("log buffer map", 16, len, within).into());
                }
                self.changes.insert_chunk(unit, start.saturating_add(within), order, chunk)?;
                if buffer_type == BUFFER_TYPE_INODES {
                    self.changes.forget_inodes(start.saturating_add(within), to_u64(CHUNK_BYTES));
                }
                bit = bit.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Inodes that were allocated together: all of them are free until an inode item says more.
    fn new_inodes(&mut self, item: &Item<'_>) -> Result<(), FsError> {
        let header = item.region(0)?;
        let (group, block, blocks) = (header.u32_be(4)?, header.u32_be(8)?, header.u32_be(20)?);
        let start = self.superblock.group_offset(group.into(), block.into());
        let len = u64::from(blocks).checked_mul(self.superblock.block_bytes);
        match start.zip(len) {
            Some((start, len)) if len > 0 && start.checked_add(len).is_some() => {
                self.changes.insert_new_inodes(start, len)
            }
            _ => Err(header.fault("log new inodes", 8, "on the volume", block).into()),
        }
    }

    fn intent(&mut self, header: &Structure<'_>, kind: u16) -> Result<(), FsError> {
        if self.intents.len() >= MAX_INTENTS {
            return Err(FsError::Limit { what: "intents of a log", cap: to_u64(MAX_INTENTS) });
        }
        let number = header.u64_le(8)?;
        let intent = match kind {
            MAPPING_INTENT => Intent::Mappings(mappings(header)?),
            ATTRIBUTE_INTENT => Intent::Attributes {
                inode: header.u64_le(16)?,
                is_of_parent: header.u32_le(36)? & ATTRIBUTE_OF_PARENT != 0,
            },
            _ => Intent::Exchange { inodes: [header.u64_le(16)?, header.u64_le(24)?] },
        };
        self.intents.insert((kind, number), (self.intents_met, intent));
        self.intents_met = self.intents_met.saturating_add(1);
        Ok(())
    }

    /// What the log changes, when all of it was taken in: the intents that are left were not finished.
    pub(super) fn finish(mut self) -> Changes {
        let mut left: Vec<_> = self.intents.into_values().collect();
        left.sort_by_key(|(place, _)| *place);
        for (_, intent) in left {
            match intent {
                Intent::Mappings(mappings) => {
                    mappings.into_iter().for_each(|mapping| self.changes.add_mapping_change(mapping));
                }
                Intent::Attributes { is_of_parent: true, .. } => {}
                Intent::Attributes { inode, .. } => self.changes.set_unfinished_attributes(inode),
                Intent::Exchange { inodes } => self.changes.set_unfinished_exchange(&inodes),
            }
        }
        self.changes
    }
}

fn kind(item: &Item<'_>) -> Result<u16, Fault> {
    item.region(0)?.u16_le(0)
}

fn is_cancelled(item: &Item<'_>) -> Result<bool, Fault> {
    Ok(item.region(0)?.u16_le(4)? & BUFFER_CANCELLED != 0)
}

/// Where a buffer begins, and its length, in bytes.
fn buffer_place(header: &Structure<'_>) -> Result<(u64, u64), Fault> {
    let start = bytes_of(header, header.u64_le(8)?)?;
    Ok((start, u64::from(header.u16_le(6)?).saturating_mul(SECTOR_BYTES)))
}

fn mappings(header: &Structure<'_>) -> Result<Vec<MappingChange>, Fault> {
    let count = header.u32_le(4)?;
    if count > MAX_MAPPINGS {
        return Err(header.fault("log mapping count", 4, MAX_MAPPINGS, count));
    }
    let mut mappings = Vec::new();
    for number in 0..usize::try_from(count).unwrap_or(0) {
        let start = number.saturating_mul(MAPPING_BYTES).saturating_add(16);
        let fields = header.part("log mapping", start, MAPPING_BYTES)?;
        let flags = fields.u32_le(28)?;
        let is_added = match flags & MAPPING_TYPE {
            MAPPING_ADD => true,
            MAPPING_REMOVE => false,
            other => return Err(fields.fault("log mapping type", 28, "1 or 2", other)),
        };
        mappings.push(MappingChange {
            inode: fields.u64_le(0)?,
            start_block: fields.u64_le(8)?,
            file_block: fields.u64_le(16)?,
            blocks: fields.u32_le(24)?.into(),
            is_added,
            is_unwritten: flags & MAPPING_UNWRITTEN != 0,
            is_of_attributes: flags & MAPPING_OF_ATTRIBUTES != 0,
            is_realtime: flags & MAPPING_REALTIME != 0,
        });
    }
    Ok(mappings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::superblock::tests::version_4;

    fn intent(kind: u16, number: u64, rest: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &1_u16.to_le_bytes(), &1_u32.to_le_bytes(), &number.to_le_bytes(), rest]
            .concat()
    }

    fn mapping(inode: u64, file_block: u64, flags: u32) -> Vec<u8> {
        let fields = [inode, 77, file_block].map(u64::to_le_bytes).concat();
        [fields, 3_u32.to_le_bytes().to_vec(), flags.to_le_bytes().to_vec()].concat()
    }

    fn replayed(items: &[Vec<u8>]) -> Result<Changes, FsError> {
        let superblock = Superblock::parse(&version_4()).unwrap();
        let mut replay = Replay::new(&superblock);
        replay.apply(&Transaction::of_items(items))?;
        Ok(replay.finish())
    }

    #[test]
    fn only_unfinished_work_is_left_and_in_its_order() {
        let changes = replayed(&[
            intent(MAPPING_INTENT, 9, &mapping(131, 40, MAPPING_REMOVE)),
            intent(MAPPING_INTENT, 3, &mapping(131, 50, MAPPING_ADD | MAPPING_UNWRITTEN)),
            intent(MAPPING_INTENT, 4, &mapping(132, 60, MAPPING_ADD)),
            intent(MAPPING_DONE, 4, &[]),
            intent(EXCHANGE_INTENT, 5, &[200_u64, 201].map(u64::to_le_bytes).concat()),
            intent(EXCHANGE_INTENT, 6, &[300_u64, 301].map(u64::to_le_bytes).concat()),
            intent(EXCHANGE_DONE, 6, &[]),
        ])
        .unwrap();
        let left: Vec<_> = changes
            .mapping_changes(131)
            .iter()
            .map(|change| (change.file_block, change.blocks, change.is_added, change.is_unwritten))
            .collect();
        assert_eq!(left, [(40, 3, false, false), (50, 3, true, true)]);
        assert!(changes.mapping_changes(132).is_empty());
        assert!(changes.has_unfinished_exchange(200) && changes.has_unfinished_exchange(201));
        assert!(!changes.has_unfinished_exchange(300));
    }

    #[test]
    fn attributes_that_were_being_changed_are_named_but_for_links_to_parents() {
        let attribute =
            |inode: u64, filter: u32| [&inode.to_le_bytes()[..], &[0; 12], &filter.to_le_bytes()].concat();
        let changes = replayed(&[
            intent(ATTRIBUTE_INTENT, 1, &attribute(131, 0)),
            intent(ATTRIBUTE_INTENT, 2, &attribute(132, ATTRIBUTE_OF_PARENT)),
            intent(ATTRIBUTE_INTENT, 3, &attribute(133, 0)),
            intent(ATTRIBUTE_DONE, 3, &[]),
        ])
        .unwrap();
        let unfinished = [131, 132, 133].map(|inode| changes.has_unfinished_attributes(inode));
        assert_eq!(unfinished, [true, false, false]);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(matches!(replayed(&[intent(0x1250, 1, &[])]), Err(FsError::Unsupported(_))));
        assert!(replayed(&[intent(MAPPING_INTENT, 1, &mapping(131, 40, 7))]).is_err());
    }
}
