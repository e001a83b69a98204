//! Superblocks whose own tools write to block devices only, built here byte by byte. The tests let `mdadm --examine` and
//! `blkid` judge them.

use std::path::Path;

use stillframe_probe::MdVersion;

use crate::tools::write_at;

/// Where an md superblock of this version lies on a device of `len_bytes`.
pub(crate) fn md_superblock_at(version: MdVersion, len_bytes: u64) -> u64 {
    match version {
        MdVersion::V0_90 => (len_bytes & !0xffff) - 0x1_0000,
        MdVersion::V1_0 => (len_bytes - 8192) & !0xfff,
        MdVersion::V1_1 => 0,
        _ => 4096,
    }
}

/// A mirror's superblock with a right checksum.
pub(crate) fn md_superblock(version: MdVersion, at: u64) -> Vec<u8> {
    if version == MdVersion::V0_90 { md_superblock_0_90() } else { md_superblock_1(version, at) }
}

fn md_superblock_1(version: MdVersion, at: u64) -> Vec<u8> {
    let mut superblock = vec![0_u8; 256 + 2 * 2];
    let mut put =
        |offset: usize, bytes: &[u8]| superblock[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    put(16, b"0123456789abcdef");
    put(32, b"host:0");
    put(72, &1_u32.to_le_bytes());
    put(80, &16_384_u64.to_le_bytes());
    put(92, &2_u32.to_le_bytes());
    let data_sector: u64 = if version == MdVersion::V1_0 { 0 } else { 2048 };
    put(128, &data_sector.to_le_bytes());
    put(136, &16_384_u64.to_le_bytes());
    put(144, &(at / 512).to_le_bytes());
    put(168, b"fedcba9876543210");
    put(220, &2_u32.to_le_bytes());
    put(258, &1_u16.to_le_bytes());
    let sum: u64 =
        superblock.chunks_exact(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    superblock[216..220].copy_from_slice(&u32::try_from(folded).unwrap().to_le_bytes());
    superblock
}

fn md_superblock_0_90() -> Vec<u8> {
    let mut words = [0_u32; 1024];
    words[0] = 0xa92b_4efc;
    words[2] = 90;
    words[5] = 0x1234_5678;
    words[6] = 1_600_000_000;
    words[7] = 1;
    words[8] = 8192;
    words[9] = 2;
    words[10] = 2;
    words[13] = 0x9abc_def0;
    words[32] = 1_600_000_000;
    words[33] = 1;
    words[34] = 2;
    words[35] = 2;
    let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
    words[38] = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// LVM2's label in sector 1 and its metadata area at 4 KiB, both with right checksums.
pub(crate) fn write_physical_volume(path: &Path, len_bytes: u64) {
    let mut label = vec![0_u8; 512];
    label[..8].copy_from_slice(b"LABELONE");
    label[8..16].copy_from_slice(&1_u64.to_le_bytes());
    label[20..24].copy_from_slice(&32_u32.to_le_bytes());
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(b"abcdefGHIJklmnOPQRstuvWXYZ012345");
    let numbers = [len_bytes, 1 << 20, 0, 0, 0, 4096, (1 << 20) - 4096, 0, 0];
    for (index, number) in numbers.iter().enumerate() {
        label[64 + index * 8..72 + index * 8].copy_from_slice(&number.to_le_bytes());
    }
    let checksum = lvm_checksum(&label[20..]);
    label[16..20].copy_from_slice(&checksum.to_le_bytes());
    write_at(path, 512, &label);
    let mut area = vec![0_u8; 512];
    area[4..20].copy_from_slice(b" LVM2 x[5A%r0N*>");
    area[20..24].copy_from_slice(&1_u32.to_le_bytes());
    area[24..32].copy_from_slice(&4096_u64.to_le_bytes());
    area[32..40].copy_from_slice(&((1_u64 << 20) - 4096).to_le_bytes());
    let checksum = lvm_checksum(&area[4..]);
    area[..4].copy_from_slice(&checksum.to_le_bytes());
    write_at(path, 4096, &area);
}

/// CRC-32 bit by bit, from LVM's own seed.
fn lvm_checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
