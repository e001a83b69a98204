//! A volume seen through its replayed journal: blocks by number, inodes by number, faults on the side.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use stillframe_block::{BLOCK_BYTES, BlockSource};
use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::FsError;

use crate::checksum::{crc16, crc32c_raw};
use crate::fast_commit::Changes;
use crate::inode::Inode;
use crate::superblock::{Superblock, incompat, ro_compat};

/// The most faults that are remembered besides those that end a read.
const MAX_FAULTS: usize = 1000;
/// The most bytes of group descriptors that are kept; those of 128 MiB have 64 bytes, so these are of 16 TiB.
const MAX_DESCRIPTOR_BYTES: usize = 8 << 20;

pub(crate) struct Volume {
    pub(crate) source: Arc<dyn BlockSource>,
    pub(crate) superblock: Superblock,
    /// What fast commits change.
    pub(crate) changes: Changes,
    descriptor_blocks: RwLock<HashMap<u64, Arc<[u8]>>>,
    faults: Mutex<Vec<Fault>>,
}

impl Volume {
    pub(crate) fn new(source: Arc<dyn BlockSource>, superblock: Superblock) -> Self {
        let volume = Self {
            source,
            superblock,
            changes: Changes::default(),
            descriptor_blocks: RwLock::default(),
            faults: Mutex::default(),
        };
        if let Some(fault) = volume.superblock.checksum_fault {
            volume.push_fault(fault);
        }
        volume
    }

    pub(crate) fn push_fault(&self, fault: Fault) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < MAX_FAULTS && !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) const fn block_bytes(&self) -> usize {
        // At most 64 KiB: a `u32` that always fits.
        self.superblock.block_bytes as usize
    }

    /// The byte offset of `block`, if the filesystem and the volume hold it.
    pub(crate) fn block_at(&self, what: &'static str, block: u64) -> Result<u64, Fault> {
        let at = block.checked_mul(u64::from(self.superblock.block_bytes));
        let end = at.and_then(|at| at.checked_add(u64::from(self.superblock.block_bytes)));
        match (at, end) {
            (Some(at), Some(end))
                if block < self.superblock.blocks_count && end <= self.source.len_bytes() =>
            {
                Ok(at)
            }
            _ => {
                let block_bytes = u64::from(self.superblock.block_bytes);
                let blocks = self.source.len_bytes().checked_div(block_bytes).unwrap_or(0);
                let last = self.superblock.blocks_count.min(blocks).saturating_sub(1);
                Err(Fault::new(what, at.unwrap_or(u64::MAX), block, Quantity::Number(last)))
            }
        }
    }

    /// Reads a block that holds metadata.
    pub(crate) fn read_block(&self, what: &'static str, block: u64) -> Result<(u64, Vec<u8>), FsError> {
        let at = self.block_at(what, block)?;
        let mut bytes = vec![0; self.block_bytes()];
        self.source.read_exact_at(at, &mut bytes)?;
        Ok((at, bytes))
    }

    /// Inode `number` as the last commit left it. One that is in place is checked.
    pub(crate) fn inode(&self, number: u64) -> Result<Inode, FsError> {
        match self.changes.inode(number) {
            Some(changed) => changed.parse(&self.superblock, number),
            None => {
                let (at, bytes) = self.inode_bytes(number)?;
                Inode::parse(&self.superblock, number, at, bytes)
            }
        }
    }

    /// The bytes of inode `number` in place, and where they are.
    pub(crate) fn inode_bytes(&self, number: u64) -> Result<(u64, Vec<u8>), FsError> {
        let at = self.inode_at(number)?;
        let mut bytes = vec![0; usize::from(self.superblock.inode_bytes)];
        self.source.read_exact_at(at, &mut bytes)?;
        Ok((at, bytes))
    }

    /// Says that these inodes will be read soon. What goes wrong here goes wrong again when they are.
    pub(crate) fn will_read_inodes(&self, numbers: impl Iterator<Item = u64>) {
        let inode_bytes = u64::from(self.superblock.inode_bytes);
        let mut places: Vec<u64> = numbers.filter_map(|number| self.inode_at(number).ok()).collect();
        places.sort_unstable();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for at in places {
            let end = at.saturating_add(inode_bytes);
            match ranges.last_mut() {
                // Neighbours, mostly: one range for all that one block holds.
                Some(run) if at.saturating_sub(run.end) < BLOCK_BYTES => run.end = end,
                _ => ranges.push(at..end),
            }
        }
        self.source.prefetch(&ranges);
    }

    /// Where inode `number` lies, in bytes.
    fn inode_at(&self, number: u64) -> Result<u64, FsError> {
        let superblock = &self.superblock;
        if number == 0 || number > u64::from(superblock.inodes_count) {
            return Err(Fault::new("inode number", 0, number, superblock.inodes_count).into());
        }
        let index = number.saturating_sub(1);
        let per_group = u64::from(superblock.inodes_per_group);
        let group = index.checked_div(per_group).unwrap_or(0);
        let within =
            index.checked_rem(per_group).unwrap_or(0).saturating_mul(u64::from(superblock.inode_bytes));
        let table = self.inode_table(group)?;
        let block_bytes = u64::from(superblock.block_bytes);
        let block = table.saturating_add(within.checked_div(block_bytes).unwrap_or(0));
        let at = self.block_at("inode table block", block)?;
        Ok(at.saturating_add(within.checked_rem(block_bytes).unwrap_or(0)))
    }

    /// The first block of the inode table of `group`.
    fn inode_table(&self, group: u64) -> Result<u64, FsError> {
        let first = self.inode_table_by(group, 0);
        // Who damaged the first superblock may have damaged what follows it.
        match self.superblock.copy_in_group {
            Some(copy) if !matches!(first, Ok(1..)) && !self.has_meta_groups() => {
                self.inode_table_by(group, copy)
            }
            _ => first,
        }
    }

    /// As [`Self::inode_table`], by the descriptors behind the superblock in group `copy`.
    fn inode_table_by(&self, group: u64, copy: u64) -> Result<u64, FsError> {
        let superblock = &self.superblock;
        let descriptor_bytes = usize::from(superblock.descriptor_bytes);
        let per_block = self.block_bytes().checked_div(descriptor_bytes).unwrap_or(1);
        let per_block = u64::try_from(per_block).unwrap_or(1);
        let index = group.checked_div(per_block).unwrap_or(0);
        let (at, block) = self.descriptor_block(index, per_block, copy)?;
        let within = usize::try_from(group.checked_rem(per_block).unwrap_or(0))
            .unwrap_or(0)
            .saturating_mul(descriptor_bytes);
        let descriptor = Structure::new("group descriptors", at, &block).part(
            "group descriptor",
            within,
            descriptor_bytes,
        )?;
        if let Err(fault) = self.check_descriptor(group, &descriptor) {
            // Where inodes have checksums, with their numbers in them, a wrong table gives no wrong inode.
            if superblock.checksum_seed.is_none()
                || superblock.copy_in_group.is_some_and(|group| group != copy)
            {
                return Err(fault.into());
            }
            self.push_fault(fault);
        }
        let high = if descriptor_bytes >= 64 { descriptor.u32_le(0x28)? } else { 0 };
        Ok(u64::from(high) << 32 | u64::from(descriptor.u32_le(8)?))
    }

    fn has_meta_groups(&self) -> bool {
        self.superblock.has_incompat(incompat::META_BG)
    }

    /// Block `index` of the descriptors, and where it is: those behind the superblock, or behind its copy in group `copy`.
    /// `meta_bg` spreads them over the groups that they describe.
    fn descriptor_block(&self, index: u64, per_block: u64, copy: u64) -> Result<(u64, Arc<[u8]>), FsError> {
        let superblock = &self.superblock;
        let first = u64::from(superblock.first_data_block);
        let is_meta = self.has_meta_groups() && index >= u64::from(superblock.first_meta_bg);
        let block = if is_meta {
            let group = index.saturating_mul(per_block);
            let mut skip = u64::from(superblock.group_has_superblock(group));
            // With 1 KiB blocks and bigalloc the superblock is block 1 and group 0 begins at 0.
            if superblock.block_bytes == 1024 && index == 0 && first == 0 {
                skip = skip.saturating_add(1);
            }
            self.group_start(group).saturating_add(skip)
        } else {
            // The superblock's block is 1 with 1 KiB blocks, else 0.
            let first = u64::from(superblock.block_bytes == 1024);
            let superblock_block = if copy == 0 { first } else { self.group_start(copy) };
            superblock_block.saturating_add(index).saturating_add(1)
        };
        let at = self.block_at("group descriptor block", block)?;
        let kept = self.descriptor_blocks.read().unwrap_or_else(PoisonError::into_inner).get(&block).cloned();
        if let Some(bytes) = kept {
            return Ok((at, bytes));
        }
        let bytes: Arc<[u8]> = self.read_block("group descriptor block", block)?.1.into();
        let mut blocks = self.descriptor_blocks.write().unwrap_or_else(PoisonError::into_inner);
        if blocks.len().saturating_add(1).saturating_mul(bytes.len()) <= MAX_DESCRIPTOR_BYTES {
            blocks.insert(block, bytes.clone());
        }
        Ok((at, bytes))
    }

    fn group_start(&self, group: u64) -> u64 {
        group
            .saturating_mul(u64::from(self.superblock.blocks_per_group))
            .saturating_add(u64::from(self.superblock.first_data_block))
    }

    /// Compares a group descriptor with its checksum (`bg_checksum` at 0x1e).
    fn check_descriptor(&self, group: u64, descriptor: &Structure<'_>) -> Result<(), Fault> {
        let superblock = &self.superblock;
        let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
        let (before, after) =
            (descriptor.slice(0, 0x1e)?, descriptor.rest("group descriptor", 0x20)?.bytes());
        let computed = if let Some(seed) = superblock.checksum_seed {
            let crc = crc32c_raw(crc32c_raw(seed, &number), before);
            let crc = crc32c_raw(crc32c_raw(crc, &[0, 0]), after);
            u16::try_from(crc & 0xffff).unwrap_or(0)
        } else if superblock.ro_compat & ro_compat::GDT_CSUM != 0 {
            crc16(crc16(crc16(crc16(u16::MAX, &superblock.uuid), &number), before), after)
        } else {
            return Ok(());
        };
        let stored = descriptor.u16_le(0x1e)?;
        if stored == computed {
            return Ok(());
        }
        let hex = |crc: u16| Quantity::Hex(crc.into());
        Err(descriptor.fault("group descriptor checksum", 0x1e, hex(stored), hex(computed)))
    }
}
