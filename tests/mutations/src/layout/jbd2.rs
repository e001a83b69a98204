//! The journal of ext3 and ext4 with checksums of version 2 or 3 (kernel documentation, `filesystems/ext4/journal.rst`): its
//! superblock, descriptor, revoke and commit blocks, the copies of blocks, and fast commits.
//!
//! A journal is told by its superblock and taken to lie in one piece, as mke2fs makes it.

use crate::covers::{Cover, Stored, Sum};
use crate::disk::{Fields, bytes_at};
use crate::layout::Place;
use crate::layout::ext::Geometry;

const MAGIC: [u8; 4] = [0xc0, 0x3b, 0x39, 0x98];
const HAS_64_BIT: u32 = 2;
const CSUM_V2: u32 = 8;
const CSUM_V3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
const SAME_UUID: u16 = 2;
const LAST_TAG: u16 = 8;
const FAST_COMMIT_TAIL: u16 = 8;
/// What mke2fs gives fast commits where the superblock does not say.
const FAST_COMMIT_BLOCKS: u32 = 256;

struct Journal<'a> {
    place: &'a Place<'a>,
    start: u64,
    block_bytes: u64,
    first: u64,
    /// The first block behind those that go round.
    end: u64,
    last: u64,
    incompat: u32,
}

pub(super) fn covers(place: &Place<'_>) -> Vec<Cover> {
    let Some(geometry) = Geometry::of(place) else { return Vec::new() };
    let mut covers = Vec::new();
    for at in place.written(geometry.block_bytes) {
        let bytes = bytes_at(place.disk, at, 1024);
        let superblock = Fields(&bytes);
        let is_superblock = superblock.is(0, &MAGIC) && matches!(superblock.u32_be(4), 3 | 4);
        let block_bytes = u64::from(superblock.u32_be(12));
        if !is_superblock || block_bytes != geometry.block_bytes {
            continue;
        }
        let incompat = superblock.u32_be(0x28);
        let last = u64::from(superblock.u32_be(16));
        let fast = match superblock.u32_be(0x54) {
            _ if incompat & FAST_COMMIT == 0 => 0,
            0 => FAST_COMMIT_BLOCKS,
            blocks => blocks,
        };
        let end = last.saturating_sub(fast.into());
        let first = superblock.u32_be(20).into();
        let journal = Journal { place, start: at, block_bytes, first, end, last, incompat };
        if incompat & (CSUM_V2 | CSUM_V3) != 0 {
            covers.push(Cover::with_field(at..at + 1024, Stored::u32_be(at + 0xfc), Sum::Crc32c));
            (journal.first..journal.end).for_each(|block| journal.log_block(block, &mut covers));
        }
        journal.fast_commits(&mut covers);
    }
    covers
}

impl Journal<'_> {
    fn at(&self, block: u64) -> u64 {
        self.start + block * self.block_bytes
    }

    fn log_block(&self, block: u64, covers: &mut Vec<Cover>) {
        let at = self.at(block);
        let bytes = bytes_at(self.place.disk, at, self.block_bytes);
        if !Fields(&bytes).is(0, &MAGIC) {
            return;
        }
        let all = at..at + self.block_bytes;
        match Fields(&bytes).u32_be(4) {
            kind @ (1 | 5) => {
                let tail = Stored::u32_be(all.end - 4);
                covers.push(Cover::with_field(all, tail, Sum::Crc32c));
                if kind == 1 {
                    self.tags(block, &bytes, covers);
                }
            }
            2 => covers.push(Cover::with_field(all, Stored::u32_be(at + 16), Sum::Crc32c)),
            _ => {}
        }
    }

    /// The copies of blocks that follow a descriptor, whose checksums are in its tags.
    fn tags(&self, descriptor: u64, bytes: &[u8], covers: &mut Vec<Cover>) {
        let is_v3 = self.incompat & CSUM_V3 != 0;
        let high_bytes = if self.incompat & HAS_64_BIT != 0 { 4 } else { 0 };
        let tag_bytes = if is_v3 { 16 } else { 10 + high_bytes };
        let (mut tag, mut block) = (12, descriptor);
        while tag + tag_bytes + 4 <= bytes.len() {
            block += 1;
            if block >= self.end {
                block = self.first;
            }
            let tag_at = self.at(descriptor) + tag as u64;
            let stored = if is_v3 {
                Stored::u32_be(tag_at + 12)
            } else {
                Stored { at: tag_at + 4, len_bytes: 2, shift: 0, big_endian: true }
            };
            let copy = self.at(block)..self.at(block) + self.block_bytes;
            if copy.end > self.place.end {
                return;
            }
            covers.push(Cover::beside(copy, stored, Sum::Crc32c));
            let flags = Fields(bytes).u16_be(tag + 6);
            if flags & LAST_TAG != 0 {
                return;
            }
            tag += tag_bytes + if flags & SAME_UUID == 0 { 16 } else { 0 };
        }
    }

    /// From the first tag, or from behind one tail, to the next: its checksum is in the tail.
    fn fast_commits(&self, covers: &mut Vec<Cover>) {
        let mut parts: Vec<std::ops::Range<u64>> = Vec::new();
        for block in self.end..self.last {
            let at = self.at(block);
            if at + self.block_bytes > self.place.end {
                return;
            }
            let bytes = bytes_at(self.place.disk, at, self.block_bytes);
            let mut within = 0;
            while within + 4 < bytes.len() {
                let (tag, len) = (Fields(&bytes).u16(within), usize::from(Fields(&bytes).u16(within + 2)));
                let next = within + 4 + len;
                if !(1..=10).contains(&tag) || next > bytes.len() {
                    return;
                }
                if tag == FAST_COMMIT_TAIL {
                    parts.push(at + within as u64..at + within as u64 + 8);
                    let stored = Stored::u32_le(at + within as u64 + 8);
                    let parts = std::mem::take(&mut parts);
                    covers.push(Cover { parts, ..Cover::beside(at..at, stored, Sum::Crc32c) });
                } else {
                    parts.push(at + within as u64..at + next as u64);
                }
                within = next;
            }
        }
    }
}
