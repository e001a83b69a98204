use std::collections::HashMap;
use std::ops::Range;

use sha2::{Digest, Sha256};
use stillframe_block::BlockSource;

use crate::disk::{Disk, bytes_at};
use crate::layout;

/// Where a checksum, or some of its bits, is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The first byte, from the disk's start.
    pub at: u64,
    /// How many bytes: 1 to 4.
    pub len_bytes: usize,
    /// The lowest bit that is kept here.
    pub shift: u32,
    /// Whether the highest byte is the first.
    pub big_endian: bool,
}

impl Stored {
    /// 32 bits, lowest byte first.
    #[must_use]
    pub const fn u32_le(at: u64) -> Self {
        Self { at, len_bytes: 4, shift: 0, big_endian: false }
    }

    /// 32 bits, highest byte first.
    #[must_use]
    pub const fn u32_be(at: u64) -> Self {
        Self { at, len_bytes: 4, shift: 0, big_endian: true }
    }

    /// 16 of the bits, lowest byte first.
    #[must_use]
    pub const fn u16_le(at: u64, shift: u32) -> Self {
        Self { at, len_bytes: 2, shift, big_endian: false }
    }

    /// What is to be kept here where this much of the checksum changed.
    fn changed(&self, disk: &dyn BlockSource, difference: u32) -> Vec<u8> {
        let mut bytes = bytes_at(disk, self.at, self.len_bytes as u64);
        let mut delta = (difference >> self.shift).to_le_bytes()[..self.len_bytes].to_vec();
        if self.big_endian {
            delta.reverse();
        }
        bytes.iter_mut().zip(delta).for_each(|(byte, delta)| *byte ^= delta);
        bytes
    }
}

/// How a checksum is made.
///
/// A CRC is linear: what a change does to it depends on the change alone, and neither on what it began with nor on the
/// rest. So those are changed by their difference, and nobody needs to know the inode, the generation or the UUID that
/// an ext4 checksum begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// CRC-32C.
    Crc32c,
    /// CRC-32 of zlib.
    Crc32,
    /// CRC-16 of ext4's `gdt_csum`.
    Crc16,
    /// CRC-32C of an htree block of ext4, which ends with the entries in use: `counts_at` bytes into it are their limit
    /// and their count.
    Htree {
        /// Where the limit and the count are.
        counts_at: usize,
    },
    /// SHA-256, kept in 32 bytes.
    Sha256,
    /// xxHash64 with seed 0, kept in 8 bytes.
    XxHash64,
    /// BLAKE2b of 256 bits, kept in 32 bytes.
    Blake2b,
    /// The 16-bit sum of an exFAT directory entry set.
    ExfatSet,
    /// The 32-bit sum of the exFAT boot region, repeated over one sector of so many bytes.
    ExfatBoot(u64),
    /// The 32-bit sum of exFAT's up-case table.
    ExfatTable,
}

/// Some bytes of a disk and the checksum over them.
#[derive(Debug, Clone)]
pub struct Cover {
    /// What is covered, in order, from the disk's start.
    pub parts: Vec<Range<u64>>,
    /// What of it counts as zeros: mostly where the checksum itself is kept.
    pub zeroed: Vec<Range<u64>>,
    /// Where the checksum is kept.
    pub stored: Vec<Stored>,
    /// How it is made.
    pub sum: Sum,
    /// Whether file contents are covered, and no metadata.
    pub is_data: bool,
}

impl Cover {
    /// One range with its checksum inside, which counts as zeros.
    pub(crate) fn with_field(range: Range<u64>, stored: Stored, sum: Sum) -> Self {
        let field = stored.at..stored.at + stored.len_bytes as u64;
        Self { parts: vec![range], zeroed: vec![field], stored: vec![stored], sum, is_data: false }
    }

    /// One range with its checksum elsewhere.
    pub(crate) fn beside(range: Range<u64>, stored: Stored, sum: Sum) -> Self {
        Self { parts: vec![range], zeroed: Vec::new(), stored: vec![stored], sum, is_data: false }
    }

    /// The first byte, and the one behind the last.
    #[must_use]
    pub fn bounds(&self) -> Range<u64> {
        let start = self.parts.iter().map(|part| part.start).min().unwrap_or(0);
        start..self.parts.iter().map(|part| part.end).max().unwrap_or(0)
    }

    /// The bytes that are covered.
    pub(crate) fn content(&self, disk: &dyn BlockSource) -> Vec<u8> {
        let mut content = Vec::new();
        for part in &self.parts {
            let mut bytes = bytes_at(disk, part.start, part.end - part.start);
            for zeroed in &self.zeroed {
                for at in zeroed.start.max(part.start)..zeroed.end.min(part.end) {
                    bytes[(at - part.start) as usize] = 0;
                }
            }
            content.append(&mut bytes);
        }
        content
    }

    fn refresh(&self, disk: &dyn BlockSource, before: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let after = self.content(disk);
        if after == before {
            return Vec::new();
        }
        let at = self.stored[0].at;
        match self.sum {
            Sum::Crc32c | Sum::Crc32 | Sum::Crc16 => {
                let delta: Vec<u8> =
                    before.iter().zip(&after).map(|(before, after)| before ^ after).collect();
                let difference = match self.sum {
                    Sum::Crc32c => crc32c_from(0, &delta),
                    Sum::Crc32 => crc32_from_0(&delta),
                    _ => crc16_from_0(&delta).into(),
                };
                self.stored.iter().map(|stored| (stored.at, stored.changed(disk, difference))).collect()
            }
            Sum::Htree { counts_at } => {
                let kept = u32::from_le_bytes(bytes_at(disk, at, 4).try_into().expect("four bytes"));
                let seed = htree_part(before, counts_at).map(|part| seed_of(kept, &part));
                let sum = seed.and_then(|seed| Some(crc32c_from(seed, &htree_part(&after, counts_at)?)));
                sum.map(|sum| (at, sum.to_le_bytes().to_vec())).into_iter().collect()
            }
            Sum::Sha256 => vec![(at, Sha256::digest(&after).to_vec())],
            Sum::XxHash64 => vec![(at, layout::btrfs_sums::xxhash64(&after).to_le_bytes().to_vec())],
            Sum::Blake2b => vec![(at, layout::btrfs_sums::blake2b_256(&after).to_vec())],
            Sum::ExfatSet => vec![(at, layout::exfat::set_sum(&after).to_le_bytes().to_vec())],
            Sum::ExfatTable => vec![(at, layout::exfat::table_sum(&after).to_le_bytes().to_vec())],
            Sum::ExfatBoot(sector_bytes) => {
                let sum = layout::exfat::table_sum(&after).to_le_bytes();
                vec![(at, sum.repeat((sector_bytes / 4) as usize))]
            }
        }
    }
}

/// CRC-32C continued from the register `state`, and not inverted at its end.
pub(crate) fn crc32c_from(state: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, bytes)
}

fn crc32_from_0(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    hasher.update(bytes);
    !hasher.finalize()
}

fn crc16_from_0(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xa001 } else { 0 })
    })
}

/// The register that CRC-32C began with where it came to `crc` over `bytes`: each step can be undone.
fn seed_of(crc: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().rev().fold(crc, |crc, byte| {
        let undone =
            (0..8).fold(crc, |crc, _| if crc >> 31 == 1 { ((crc ^ POLYNOMIAL) << 1) | 1 } else { crc << 1 });
        undone ^ u32::from(*byte)
    })
}

/// What of an htree block its checksum covers: up to the last entry in use, and the tail behind the limit, whose own
/// field counts as zeros.
fn htree_part(block: &[u8], counts_at: usize) -> Option<Vec<u8>> {
    let number = |at: usize| Some(usize::from(u16::from_le_bytes([*block.get(at)?, *block.get(at + 1)?])));
    let (limit, count) = (number(counts_at)?, number(counts_at + 2)?);
    let tail = block.get(counts_at + limit * 8..)?.get(..4)?;
    Some([block.get(..counts_at + count * 8)?, tail, &[0; 4]].concat())
}

/// Which checksums a change is followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// None: the damage that wear and bad memory do.
    None,
    /// Those of metadata: what someone does who crafts a disk.
    Metadata,
    /// Those of file contents, too.
    Data,
}

/// Every checksum of a disk that is known here.
#[derive(Debug, Default)]
pub struct Covers {
    all: Vec<Cover>,
    /// By page: those that have a byte in it.
    by_page: HashMap<u64, Vec<usize>>,
}

const PAGE_BYTES: u64 = 4096;
/// A checksum's field may be covered itself: an entry of a journal's descriptor block, whose tail covers it.
const DEEPEST: usize = 8;

impl Covers {
    /// Those of `disk`: of its partition tables, and of the filesystems that begin where `volumes` says, each with what
    /// [`stillframe_probe::FsKind::name`] calls it.
    #[must_use]
    pub fn of(disk: &dyn BlockSource, pages: &[u64], volumes: &[(Range<u64>, String)]) -> Self {
        let mut covers = Self::default();
        for cover in layout::covers(disk, pages, volumes) {
            covers.push(cover);
        }
        covers
    }

    fn push(&mut self, cover: Cover) {
        for part in &cover.parts {
            for page in part.start / PAGE_BYTES..part.end.div_ceil(PAGE_BYTES) {
                let of_page = self.by_page.entry(page).or_default();
                if of_page.last() != Some(&self.all.len()) {
                    of_page.push(self.all.len());
                }
            }
        }
        self.all.push(cover);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Cover] {
        &self.all
    }

    /// Puts `bytes` at `offset`, and makes right each checksum over them, and each over a checksum that was changed for
    /// that.
    pub fn write(&self, disk: &mut dyn Disk, offset: u64, bytes: &[u8], depth: Depth) {
        self.write_below(disk, offset, bytes, depth, DEEPEST);
    }

    fn write_below(&self, disk: &mut dyn Disk, offset: u64, bytes: &[u8], depth: Depth, levels: usize) {
        let end = offset + bytes.len() as u64;
        let mut touched: Vec<usize> = Vec::new();
        if levels > 0 && depth != Depth::None {
            let pages = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
            touched.extend(pages.filter_map(|page| self.by_page.get(&page)).flatten());
            touched.sort_unstable();
            touched.dedup();
            touched.retain(|index| {
                let cover = &self.all[*index];
                let is_in = cover.parts.iter().any(|part| part.start < end && offset < part.end);
                is_in && (depth == Depth::Data || !cover.is_data)
            });
        }
        let before: Vec<Vec<u8>> = touched.iter().map(|index| self.all[*index].content(disk)).collect();
        disk.put(offset, bytes);
        for (index, before) in touched.into_iter().zip(before) {
            for (at, bytes) in self.all[index].refresh(disk, &before) {
                self.write_below(disk, at, &bytes, depth, levels - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crc_is_undone_to_what_it_began_with() {
        for seed in [0, 1, u32::MAX, 0x1234_5678] {
            assert_eq!(seed_of(crc32c_from(seed, b"some bytes"), b"some bytes"), seed);
        }
    }

    #[test]
    fn a_difference_is_that_of_the_bytes_whatever_the_rest() {
        let (one, other) = (b"some bytes", b"same bytec");
        let delta: Vec<u8> = one.iter().zip(other).map(|(one, other)| one ^ other).collect();
        for seed in [0, 7, u32::MAX] {
            assert_eq!(crc32c_from(seed, one) ^ crc32c_from(seed, other), crc32c_from(0, &delta));
        }
        assert_eq!(crc32fast::hash(one) ^ crc32fast::hash(other), crc32_from_0(&delta));
    }
}
