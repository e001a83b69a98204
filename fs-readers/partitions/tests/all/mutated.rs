//! Golden disks with bytes changed by seed and the checksums refreshed, so that the code behind them is reached.

use stillframe_block::MemorySource;
use stillframe_partitions::{PartitionRole, Scheme, read_table};

use crate::tools::{Images, MIB, run, sfdisk, sgdisk, text};

/// CRC-32 bit by bit: the tests do not share the reader's crate.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn number(image: &[u8], at: usize) -> usize {
    usize::try_from(u32::from_le_bytes(image[at..at + 4].try_into().unwrap())).unwrap()
}

pub(crate) fn refresh_header_checksum(image: &mut [u8], at: usize) {
    let len = number(image, at + 12).clamp(92, 512);
    image[at + 16..at + 20].fill(0);
    let crc = crc32(&image[at..at + len]);
    image[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
}

/// Of the entries where the header says that they are, then of the header at `at`.
pub(crate) fn refresh_checksums(image: &mut [u8], at: usize) {
    let entries_at = number(image, at + 72).saturating_mul(512);
    let len = number(image, at + 80).saturating_mul(number(image, at + 84)).min(32 << 10);
    if let Some(entries) = image.get(entries_at..entries_at.saturating_add(len)) {
        let crc = crc32(entries);
        image[at + 88..at + 92].copy_from_slice(&crc.to_le_bytes());
    }
    refresh_header_checksum(image, at);
}

struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

/// Reads `image` and checks what holds for any disk.
fn check(image: Vec<u8>) -> (Scheme, usize) {
    let len = u64::try_from(image.len()).unwrap();
    let table = read_table(&MemorySource(image)).unwrap();
    assert!(table.partitions.len() <= 16_384 && table.faults.len() <= 256);
    for partition in &table.partitions {
        let end = partition.start_bytes.checked_add(partition.len_bytes).expect("inside u64");
        assert_eq!(partition.cut, end > len);
        let sector_bytes = u64::from(table.sector_bytes);
        assert!(partition.start_bytes.is_multiple_of(sector_bytes) && partition.len_bytes > 0);
    }
    for gap in &table.unallocated {
        assert!(gap.start < gap.end && gap.end <= len);
        let is_free = |partition: &stillframe_partitions::Partition| {
            partition.role == PartitionRole::Extended
                || partition.end_bytes() <= gap.start
                || partition.start_bytes >= gap.end
        };
        assert!(table.partitions.iter().all(is_free));
    }
    (table.scheme, table.partitions.len())
}

#[test]
fn changed_gpt_disks() {
    let images = Images::new();
    let disk = images.blank("gpt", 2 * MIB);
    sgdisk(&disk, &["-a", "1", "-n", "1:64:+64K", "-n", "2:0:+256K", "-n", "7:0:0", "-c", "7:name"]);
    let golden = std::fs::read(&disk).unwrap();
    let backup_at = golden.len() - 512;
    let mut seeded = Seeded(0x5eed_1001);
    let (mut with_partitions, mut without) = (0, 0);
    for round in 0..3000 {
        let mut image = golden.clone();
        for _ in 0..=seeded.below(6) {
            // The header, the first entries, the rest of the first and last 34 sectors.
            let at = match seeded.below(6) {
                0 => seeded.below(512),
                1 | 2 => 512 + seeded.below(96),
                3 => 1024 + seeded.below(3 * 128),
                4 => seeded.below(34 * 512),
                _ => image.len() - 34 * 512 + seeded.below(34 * 512),
            };
            image[at] = if seeded.below(4) == 0 { 0xff } else { seeded.next().to_le_bytes()[4] };
        }
        if round % 4 != 0 {
            refresh_checksums(&mut image, 512);
            refresh_checksums(&mut image, backup_at);
        }
        match check(image) {
            (_, 0) => without += 1,
            _ => with_partitions += 1,
        }
    }
    // Both the entries and the refusals were reached.
    assert!(with_partitions > 1500 && without > 10, "{with_partitions} with partitions, {without} without");
}

const SCRIPT: &str = "label: dos\n1 : start=64, size=256, type=83\n2 : start=512, size=3000, type=5\n\
                      5 : start=576, size=256\n6 : start=1024, size=256\n7 : start=1600, size=256\n";

#[test]
fn changed_mbr_disks() {
    let images = Images::new();
    let disk = images.blank("mbr", 2 * MIB);
    sfdisk(&disk, SCRIPT);
    run("mkfs.ext2", &["-q", "-F", "-E", "offset=32768", text(&disk), "128k"], "");
    let golden = std::fs::read(&disk).unwrap();
    let records = [0, 512, 1023, 1599].map(|sector: usize| sector * 512);
    assert_eq!(check(golden.clone()), (Scheme::Mbr, 5));
    assert!(records.iter().all(|record| golden[record + 510..][..2] == [0x55, 0xaa]));
    let mut seeded = Seeded(0x5eed_1002);
    let mut logical = 0;
    for _ in 0..3000 {
        let mut image = golden.clone();
        for _ in 0..=seeded.below(4) {
            let record = records[seeded.below(4)];
            // The four entries, seldom the signature.
            let at =
                record + 446 + if seeded.below(20) == 0 { 64 + seeded.below(2) } else { seeded.below(64) };
            image[at] = if seeded.below(3) == 0 { 5 } else { seeded.next().to_le_bytes()[4] };
        }
        logical += usize::from(check(image).1 >= 4);
    }
    assert!(logical > 1000, "{logical} with logical partitions");
}
