//! The log's sectors as a ring, and the cycle number that each begins with.

use std::sync::Arc;

use stillframe_block::{BlockSource, ReadError};
use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use crate::superblock::Superblock;
use crate::volume::{SECTOR_BYTES, part, to_u64, to_usize};

/// In place of a cycle number at a record's start; the number follows it.
pub(super) const RECORD_MAGIC: u32 = 0xfeed_babe;
/// Sectors that are read at once: a log is read from its tail to its head in runs of this.
const RUN_SECTORS: u64 = 2048;
/// How far ahead a source is told what will be read: 32 MiB.
const AHEAD_SECTORS: u64 = 64 * 1024;

/// The internal log.
pub(super) struct LogDevice {
    source: Arc<dyn BlockSource>,
    start: u64,
    /// How many sectors of 512 bytes it has, whatever the sector size of the device.
    pub(super) sectors: u64,
    /// What its records carry: the filesystem's own, which is another than that of metadata where it was changed later.
    pub(super) uuid: [u8; 16],
}

impl LogDevice {
    pub(super) fn new(source: &Arc<dyn BlockSource>, superblock: &Superblock) -> Result<Self, FsError> {
        let start = superblock.run_offset(superblock.log_start, superblock.log_blocks);
        let start = start.ok_or_else(|| {
            Fault::new("superblock log start", 48, superblock.data_blocks, superblock.log_start)
        })?;
        let sectors = superblock.log_blocks.saturating_mul(superblock.block_bytes) / SECTOR_BYTES;
        Ok(Self { source: source.clone(), start, sectors, uuid: superblock.uuid })
    }

    /// Where a sector lies on the volume, for faults.
    pub(super) fn at(&self, sector: u64) -> u64 {
        self.start.saturating_add(sector.saturating_mul(SECTOR_BYTES))
    }

    /// How far `to` lies behind `from`, going forward around the ring.
    pub(super) fn distance(&self, from: u64, to: u64) -> u64 {
        if to >= from {
            to.saturating_sub(from)
        } else {
            self.sectors.saturating_sub(from).saturating_add(to)
        }
    }

    /// The sector `count` behind `sector`.
    pub(super) fn forward(&self, sector: u64, count: u64) -> u64 {
        sector.saturating_add(count).checked_rem(self.sectors).unwrap_or(0)
    }

    /// The sector `count`, at most a whole turn, before `sector`.
    pub(super) fn back(&self, sector: u64, count: u64) -> u64 {
        self.forward(sector, self.sectors.saturating_sub(count))
    }

    /// `count` sectors from `first` on, around the ring's end.
    pub(super) fn read(&self, first: u64, count: u64) -> Result<Vec<u8>, ReadError> {
        let count = count.min(self.sectors);
        let until_end = count.min(self.sectors.saturating_sub(first));
        let mut bytes = vec![0; to_usize(count.saturating_mul(SECTOR_BYTES))];
        let (now, wrapped) = bytes.split_at_mut(to_usize(until_end.saturating_mul(SECTOR_BYTES)));
        self.source.read_exact_at(self.at(first), now)?;
        if !wrapped.is_empty() {
            self.source.read_exact_at(self.at(0), wrapped)?;
        }
        Ok(bytes)
    }

    /// The cycle in which a sector was written.
    pub(super) fn cycle(&self, sector: u64) -> Result<u32, ReadError> {
        Ok(cycle_of(&self.read(sector, 1)?))
    }

    /// Says that what lies from `from` up to `to` will be read.
    pub(super) fn will_read(&self, from: u64, to: u64) {
        if !self.source.wants_hints() {
            return;
        }
        if from <= to {
            self.source.prefetch(std::slice::from_ref(&(self.at(from)..self.at(to))));
        } else {
            self.source.prefetch(&[self.at(from)..self.at(self.sectors), self.at(0)..self.at(to)]);
        }
    }
}

/// The cycle number that a sector begins with.
pub(super) fn cycle_of(sector: &[u8]) -> u32 {
    let word = |at: usize| {
        sector.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word))
    };
    if word(0) == RECORD_MAGIC { word(4) } else { word(0) }
}

/// Reads on along the log in long runs.
pub(super) struct Stream<'a> {
    device: &'a LogDevice,
    /// Where it began.
    tail: u64,
    /// Where it stops.
    end: u64,
    /// How far from the tail the source was told of.
    hinted: u64,
    first: u64,
    run: Vec<u8>,
}

impl<'a> Stream<'a> {
    /// From `tail` up to `head`.
    pub(super) const fn new(device: &'a LogDevice, tail: u64, head: u64) -> Self {
        Self { device, tail, end: head, hinted: 0, first: tail, run: Vec::new() }
    }

    /// Says what will be read next, where that is more than was said before.
    fn hint(&mut self, next: u64) {
        let all = self.device.distance(self.tail, self.end);
        let ahead = self.device.distance(self.tail, next).saturating_add(AHEAD_SECTORS).min(all);
        if ahead.saturating_sub(self.hinted) >= RUN_SECTORS || (ahead == all && self.hinted < all) {
            let (from, to) =
                (self.device.forward(self.tail, self.hinted), self.device.forward(self.tail, ahead));
            self.device.will_read(from, to);
            self.hinted = ahead;
        }
    }

    /// `count` sectors from `at` on. Sectors are asked for in their order; what lies before `at` is given up.
    pub(super) fn sectors(&mut self, at: u64, count: u64) -> Result<&[u8], ReadError> {
        let within = self.device.distance(self.first, at).saturating_mul(SECTOR_BYTES);
        let len = to_usize(count.saturating_mul(SECTOR_BYTES));
        if part(&self.run, within, len).is_none() {
            let kept = self.run.split_off(to_usize(within).min(self.run.len()));
            let have = to_u64(kept.len()) / SECTOR_BYTES;
            let next = self.device.forward(at, have);
            self.hint(next);
            let left = self.device.distance(next, self.end);
            let more = left.min(RUN_SECTORS).max(count.saturating_sub(have));
            self.run = kept;
            self.run.extend(self.device.read(next, more)?);
            self.first = at;
            return Ok(self.run.get(..len).unwrap_or(&self.run));
        }
        Ok(part(&self.run, within, len).unwrap_or_default())
    }
}
