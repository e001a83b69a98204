//! Volumes that are parts of something: LVM2, bcache, ZFS, Windows pools and dynamic disks, firmware RAID, and
//! device-mapper targets.
//!
//! Specifications: libvslvm's documentation ("Physical volume label", "Metadata area"); the kernel's
//! `include/uapi/linux/bcache.h` and `block/partitions/ldm.h`; OpenZFS' On-Disk Format section 1.3; SNIA Common RAID
//! DDF 2.0 section 4.2; the kernel's `drivers/md/dm-thin-metadata.c`, `dm-integrity.c`.

use stillframe_bytes::Structure;

use crate::candidate::Candidate;
use crate::view::{View, ensure};
use crate::{Content, MemberKind};

/// LVM2 seeds its CRC with this, and inverts it neither before nor after.
const LVM_CRC_SEED: u32 = 0xf597_a6cf;
/// Data areas and metadata areas that a label can list in its sector.
const LVM_AREAS_CAP: usize = 29;

/// The label in one of the first four sectors, with its CRC.
pub(crate) fn lvm2(view: &View) -> Option<Candidate> {
    (0..4_u64).find_map(|sector| {
        let at = sector.checked_mul(512)?;
        let label = view.structure("LVM2 label", at, 512)?;
        ensure(label.slice(0, 8).ok()? == b"LABELONE" && label.slice(24, 8).ok()? == b"LVM2 001")?;
        ensure(label.u64_le(8).ok()? == sector)?;
        ensure(label.u32_le(16).ok()? == lvm_crc(label.slice(20, 492).ok()?))?;
        let header =
            label.rest("LVM2 physical volume header", usize::try_from(label.u32_le(20).ok()?).ok()?).ok()?;
        // A metadata area in its place says that nothing was made over it. Without one (a volume that keeps none)
        // only the label speaks. pvcreate zeroes the first four sectors.
        Some(
            Candidate::new(Content::Member(MemberKind::Lvm2), at)
                .certain(lvm_metadata_area_is_there(view, &header).unwrap_or(false))
                .clears(0..2048)
                .ends_at(header.u64_le(32).ok()?)
                .uuid(lvm_uuid(&header)),
        )
    })
}

fn lvm_crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!LVM_CRC_SEED);
    hasher.update(bytes);
    !hasher.finalize()
}

fn lvm_metadata_area_is_there(view: &View, header: &Structure<'_>) -> Option<bool> {
    // Two lists of (offset, size), each ended by zeros: data areas, then metadata areas.
    let mut lists_ended = 0;
    for index in 0..LVM_AREAS_CAP {
        let at = header.u64_le(index.checked_mul(16)?.checked_add(40)?).ok()?;
        if at == 0 {
            lists_ended = if lists_ended == 0 { 1 } else { return Some(false) };
        } else if lists_ended == 1 {
            let area = view.structure("LVM2 metadata area", at, 512)?;
            let magic_is_right = area.slice(4, 16).ok()? == b" LVM2 x[5A%r0N*>";
            return Some(magic_is_right && area.u32_le(0).ok()? == lvm_crc(area.slice(4, 508).ok()?));
        }
    }
    None
}

/// 32 letters and digits, written in groups of 6-4-4-4-4-4-6.
fn lvm_uuid(header: &Structure<'_>) -> Option<String> {
    let field = header.slice(0, 32).ok()?;
    ensure(field.iter().all(u8::is_ascii_alphanumeric))?;
    let mut text = String::with_capacity(38);
    for (index, byte) in field.iter().enumerate() {
        if matches!(index, 6 | 10 | 14 | 18 | 22 | 26) {
            text.push('-');
        }
        text.push(char::from(*byte));
    }
    Some(text)
}

const BCACHE_MAGIC: [u8; 16] =
    [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];

/// The superblock at 4 KiB, which says where it lies.
pub(crate) fn bcache(view: &View) -> Option<Candidate> {
    let superblock = view.structure("bcache superblock", 4096, 256)?;
    ensure(superblock.slice(24, 16).ok()? == BCACHE_MAGIC && superblock.u64_le(8).ok()? == 8)?;
    Some(Candidate::new(Content::Member(MemberKind::Bcache), 4096).clears(4096..4352))
}

const ZFS_UBERBLOCK_MAGIC: u64 = 0x00ba_b10c;
const ZFS_UBERBLOCKS_AT: u64 = 128 << 10;

/// The first label: its list of names and values at 16 KiB, and uberblocks from 128 KiB on.
pub(crate) fn zfs(view: &View) -> Option<Candidate> {
    let uberblocks = (0..128_u64).filter(|index| {
        let at = index.saturating_mul(1024).saturating_add(ZFS_UBERBLOCKS_AT);
        let magic = view.structure("ZFS uberblock", at, 8).and_then(|block| block.u64_le(0).ok());
        magic.is_some_and(|magic| magic == ZFS_UBERBLOCK_MAGIC || magic.swap_bytes() == ZFS_UBERBLOCK_MAGIC)
    });
    let uberblocks = uberblocks.count();
    // XDR encoding, either byte order, then version 0 and the flag for unique names.
    let list = view.bytes(16 << 10, 12)?;
    let has_list = matches!(list, [1, 0 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    // Old uberblocks survive in the free space of what came later, one or two in any disk's noise.
    ensure(uberblocks >= 4 || (has_list && uberblocks >= 1))?;
    Some(
        Candidate::new(Content::Member(MemberKind::Zfs), ZFS_UBERBLOCKS_AT)
            .certain(has_list)
            .clears(16 << 10..256 << 10),
    )
}

/// `SPACEDB` at 0 and its catalogue's `SDBC` at 4 KiB.
pub(crate) fn storage_spaces(view: &View) -> Option<Candidate> {
    ensure(view.has(0, b"SPACEDB ") && view.has(4096, b"SDBC    "))?;
    Some(Candidate::new(Content::Member(MemberKind::StorageSpaces), 0).clears(0..8192))
}

/// The private header in sector 6 of an MBR disk, or the database of a GPT disk in a partition of its own.
pub(crate) fn logical_disk_manager(view: &View) -> Option<Candidate> {
    let on_disk = view.has(6 * 512, b"PRIVHEAD");
    let in_partition = view.has(512, b"TOCBLOCK") && view.has(17 * 512, b"VMDB");
    ensure(on_disk || in_partition)?;
    let at = if on_disk { 6 * 512 } else { 512 };
    Some(Candidate::new(Content::Member(MemberKind::LogicalDiskManager), at))
}

/// The anchor in the second sector from the end, for disks of 512 and of 4096-byte sectors.
pub(crate) fn intel_matrix(view: &View) -> Option<Candidate> {
    [1024_u64, 8192].iter().find_map(|before_end| {
        let at = view.len_bytes().checked_sub(*before_end)?;
        ensure(view.has(at, b"Intel Raid ISM Cfg Sig. "))?;
        Some(Candidate::new(Content::Member(MemberKind::IntelMatrix), at).trailing())
    })
}

/// The anchor header in the last sector, with its CRC.
pub(crate) fn ddf(view: &View) -> Option<Candidate> {
    let at = view.len_bytes().checked_sub(512)?;
    let anchor = view.structure("DDF anchor header", at, 512)?;
    ensure(anchor.u32_be(0).ok()? == 0xde11_de11 || anchor.u32_le(0).ok()? == 0xde11_de11)?;
    // The CRC is counted with its own field set to ones.
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(anchor.slice(0, 4).ok()?);
    hasher.update(&[0xff; 4]);
    hasher.update(anchor.slice(8, 504).ok()?);
    let crc = hasher.finalize();
    let crc_is_right = anchor.u32_be(4).ok()? == crc || anchor.u32_le(4).ok()? == crc;
    Some(Candidate::new(Content::Member(MemberKind::Ddf), at).certain(crc_is_right).trailing())
}

/// Formats that a long magic names beyond doubt: the kind, where the magic lies, the magic.
const SIGNATURES: [(MemberKind, u64, &[u8]); 7] = [
    (MemberKind::Stratis, 516, b"!Stra0tis\x86\xff\x02^\x41rh"),
    (MemberKind::Stratis, 4612, b"!Stra0tis\x86\xff\x02^\x41rh"),
    (MemberKind::Vdo, 0, b"dmvdo001"),
    (MemberKind::DmIntegrity, 0, b"integrt\0"),
    (MemberKind::DmVerityHash, 0, b"verity\0\0"),
    (MemberKind::OracleAsm, 32, b"ORCLDISK"),
    (MemberKind::BlueStore, 0, b"bluestore block device"),
];
const THIN_POOL_MAGIC: u64 = 27_022_010;

pub(crate) fn by_signature(view: &View) -> Option<Candidate> {
    let found = SIGNATURES.iter().find(|(_, at, magic)| view.has(*at, magic));
    if let Some((kind, at, _)) = found {
        return Some(Candidate::new(Content::Member(*kind), *at));
    }
    let superblock = view.structure("thin pool superblock", 0, 48)?;
    ensure(superblock.u64_le(32).ok()? == THIN_POOL_MAGIC && (1..=2).contains(&superblock.u32_le(40).ok()?))?;
    Some(Candidate::new(Content::Member(MemberKind::ThinPoolMetadata), 32))
}
