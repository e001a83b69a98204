//! The reader of FAT over volumes that begin with a sound boot sector of FAT12, or with the fuzzer's own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stillframe_block::MemorySource;
use stillframe_fuzz::read;
use stillframe_probe::FsKind;

const SECTOR_BYTES: usize = 512;

/// Sectors of 512 bytes, one to a cluster; one reserved, one table of one sector, 16 entries in the root directory.
fn boot_sector(sectors: u16) -> Vec<u8> {
    let mut sector = vec![0; SECTOR_BYTES];
    sector[..13].copy_from_slice(b"\xeb\x3c\x90MSWIN4.1\x00\x02");
    sector[13..22].copy_from_slice(&[1, 1, 0, 1, 16, 0, 0, 0, 0xf8]);
    sector[19..21].copy_from_slice(&sectors.to_le_bytes());
    sector[22] = 1;
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fuzz_target!(|data: &[u8]| {
    // A volume is whole sectors long.
    let mut volume = data.to_vec();
    volume.resize(data.len().next_multiple_of(SECTOR_BYTES), 0);
    read(FsKind::Fat, MemorySource(volume.clone()));
    let mut sound = boot_sector(u16::try_from(volume.len() / SECTOR_BYTES + 1).unwrap_or(u16::MAX));
    sound.append(&mut volume);
    read(FsKind::Fat, MemorySource(sound));
});
