//! From logical addresses to places on the device (On-disk format, "Chunk tree").
//!
//! A chunk with one or more whole copies on this device can be read: single, DUP, RAID1 with two to four copies, and
//! RAID0 of one stripe. What is spread over devices cannot.

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::node::{CHUNK_ITEM, Key};
use crate::superblock::Superblock;

/// Chunks are 8 MiB at the least in practice.
const MAX_CHUNKS: usize = 1 << 20;
const CHUNK_BYTES: usize = 48;
const STRIPE_BYTES: usize = 32;
const KEY_BYTES: usize = 17;
/// No profile has more copies on one device than DUP; more stripes than devices there cannot be.
const MAX_COPIES: usize = 4;

const PROFILE_RAID0: u64 = 1 << 3;
const PROFILE_RAID1: u64 = 1 << 4;
const PROFILE_DUP: u64 = 1 << 5;
const PROFILE_RAID1_C3: u64 = 1 << 9;
const PROFILE_RAID1_C4: u64 = 1 << 10;
/// All profile bits; RAID10, RAID5 and RAID6 are the ones not named above.
const PROFILES: u64 = 0x7f8;

#[derive(Debug, Clone)]
struct Chunk {
    logical: u64,
    len_bytes: u64,
    /// Where whole copies of it begin on this device.
    copies: Vec<u64>,
}

/// All chunks by logical address.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkMap {
    /// Sorted, without overlap.
    chunks: Vec<Chunk>,
}

impl ChunkMap {
    /// The chunks that the chunk tree itself lies in, from the superblock.
    pub(crate) fn from_system_chunks(superblock: &Superblock) -> Result<Self, FsError> {
        let mut map = Self::default();
        let array = Structure::new("system chunk array", 0, &superblock.system_chunks);
        let mut at = 0;
        while at < array.len() {
            let key = Key::parse(&array, at)?;
            if key.kind != CHUNK_ITEM {
                return Err(array.fault("system chunk key", at, CHUNK_ITEM, key.kind).into());
            }
            let item = array.rest("chunk item", at.saturating_add(KEY_BYTES))?;
            let len = map.insert(superblock, key.offset, &item)?;
            at = at.saturating_add(KEY_BYTES).saturating_add(len);
        }
        Ok(map)
    }

    /// Adds a chunk item; gives its length. One that is there already is left alone.
    pub(crate) fn insert(
        &mut self,
        superblock: &Superblock,
        logical: u64,
        item: &Structure<'_>,
    ) -> Result<usize, FsError> {
        let len_bytes = item.u64_le(0)?;
        let profile = item.u64_le(24)? & PROFILES;
        let stripe_count = usize::from(item.u16_le(44)?);
        let stripes = item.part("chunk stripes", CHUNK_BYTES, stripe_count.saturating_mul(STRIPE_BYTES))?;
        let whole = profile == 0
            || [PROFILE_RAID1, PROFILE_DUP, PROFILE_RAID1_C3, PROFILE_RAID1_C4].contains(&profile)
            || (profile == PROFILE_RAID0 && stripe_count == 1);
        let mut copies = Vec::new();
        for offset in (0..stripes.len()).step_by(STRIPE_BYTES) {
            if whole && copies.len() < MAX_COPIES && stripes.u64_le(offset)? == superblock.device {
                copies.push(stripes.u64_le(offset.saturating_add(8))?);
            }
        }
        let aligned = len_bytes.is_multiple_of(superblock.sector_bytes)
            && logical.is_multiple_of(superblock.sector_bytes);
        let end = logical.checked_add(len_bytes).filter(|_| len_bytes > 0 && aligned);
        let Some(end) = end else {
            return Err(item.fault("chunk length", 0, superblock.sector_bytes, len_bytes).into());
        };
        if copies.iter().any(|copy| copy.checked_add(len_bytes).is_none()) {
            return Err(item.fault("chunk stripe offset", CHUNK_BYTES, "inside 2^64", "beyond").into());
        }
        self.place(Chunk { logical, len_bytes, copies }, end)?;
        Ok(CHUNK_BYTES.saturating_add(stripes.len()))
    }

    fn place(&mut self, chunk: Chunk, end: u64) -> Result<(), FsError> {
        if self.chunks.len() >= MAX_CHUNKS {
            return Err(FsError::Limit { what: "chunks", cap: 1 << 20 });
        }
        let place = self.chunks.partition_point(|other| other.logical < chunk.logical);
        if self.chunks.get(place).is_some_and(|other| other.logical == chunk.logical) {
            return Ok(());
        }
        let before = place.checked_sub(1).and_then(|before| self.chunks.get(before));
        let overlaps = before
            .is_some_and(|other| other.logical.saturating_add(other.len_bytes) > chunk.logical)
            || self.chunks.get(place).is_some_and(|other| end > other.logical);
        if overlaps {
            return Err(Fault::new("chunk address", chunk.logical, "a free range", "an overlap").into());
        }
        self.chunks.insert(place, chunk);
        Ok(())
    }

    /// Refuses a filesystem of which a part lies on other devices only.
    pub(crate) fn check_complete(&self) -> Result<(), FsError> {
        if self.chunks.iter().any(|chunk| chunk.copies.is_empty()) {
            return Err(FsError::Unsupported("btrfs over several devices"));
        }
        Ok(())
    }

    /// Where the copies of `logical` are, and how many bytes follow it in its chunk.
    pub(crate) fn locate(&self, logical: u64) -> Result<(impl Iterator<Item = u64> + '_, u64), Fault> {
        let place = self.chunks.partition_point(|chunk| chunk.logical <= logical);
        let chunk = place.checked_sub(1).and_then(|place| self.chunks.get(place));
        let within = chunk.map(|chunk| (chunk, logical.saturating_sub(chunk.logical)));
        match within.filter(|(chunk, within)| *within < chunk.len_bytes) {
            Some((chunk, within)) => Ok((
                chunk.copies.iter().map(move |copy| copy.saturating_add(within)),
                chunk.len_bytes.saturating_sub(within),
            )),
            None => Err(Fault::new("logical address", logical, "in a chunk", "in none")),
        }
    }
}
