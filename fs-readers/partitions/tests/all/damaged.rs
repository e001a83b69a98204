//! Tables that are damaged, cut or made to mislead. Each crash or endless loop that was found stands here by name.

use stillframe_block::MemorySource;
use stillframe_partitions::{Scheme, read_table};

use crate::tools::{
    Images, MIB, assert_agreed, has_fault, read, read_at, rows, run, set_len, sfdisk, sfdisk_json, sgdisk,
    text, write_at,
};

/// An entry of a boot record: type, start and length in sectors.
fn entry(type_code: u8, start: u32, sectors: u32) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[4] = type_code;
    entry[8..12].copy_from_slice(&start.to_le_bytes());
    entry[12..].copy_from_slice(&sectors.to_le_bytes());
    entry
}

/// Writes a boot record into sector `sector` of `disk`.
fn put_record(disk: &mut [u8], sector: usize, entries: &[[u8; 16]]) {
    let record = &mut disk[sector * 512..][..512];
    for (index, entry) in entries.iter().enumerate() {
        record[446 + index * 16..][..16].copy_from_slice(entry);
    }
    record[510..].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn a_chain_that_comes_back_to_itself_ends() {
    let mut disk = vec![0; 4 << 20];
    put_record(&mut disk, 0, &[entry(5, 100, 4000)]);
    put_record(&mut disk, 100, &[entry(0x83, 10, 10), entry(5, 0, 100)]);
    let table = read_table(&MemorySource(disk)).unwrap();
    assert_eq!(table.partitions.len(), 2);
    assert!(has_fault(&table, "extended boot record chain"));
}

#[test]
fn a_chain_that_goes_back_two_records_ends() {
    let mut disk = vec![0; 4 << 20];
    put_record(&mut disk, 0, &[entry(5, 100, 4000)]);
    put_record(&mut disk, 100, &[entry(0x83, 10, 10), entry(5, 200, 100)]);
    put_record(&mut disk, 300, &[entry(0x83, 10, 10), entry(5, 100, 100)]);
    put_record(&mut disk, 200, &[entry(0x83, 10, 10), entry(5, 200, 100)]);
    let table = read_table(&MemorySource(disk)).unwrap();
    let starts: Vec<_> = table.partitions.iter().map(|partition| partition.start_bytes / 512).collect();
    assert_eq!(starts, [100, 110, 310, 210]);
    assert!(has_fault(&table, "extended boot record chain"));
}

#[test]
fn two_extended_partitions_that_share_a_chain_give_it_once() {
    let mut disk = vec![0; 4 << 20];
    put_record(&mut disk, 0, &[entry(5, 100, 4000), entry(0xf, 100, 4000)]);
    put_record(&mut disk, 100, &[entry(0x83, 10, 10)]);
    let table = read_table(&MemorySource(disk)).unwrap();
    assert_eq!(table.partitions.len(), 3);
    assert!(has_fault(&table, "extended boot record chain"));
}

#[test]
fn a_chain_without_end_is_cut() {
    let mut disk = vec![0; 4 << 20];
    put_record(&mut disk, 0, &[entry(5, 1, 8000)]);
    for sector in 1..8000_u32 {
        let at = usize::try_from(sector).unwrap();
        put_record(&mut disk, at, &[entry(0x83, 0, 1), entry(5, sector, 1)]);
    }
    let table = read_table(&MemorySource(disk)).unwrap();
    assert_eq!(table.partitions.len(), 257);
    assert!(has_fault(&table, "extended boot records"));
}

#[test]
fn an_extended_partition_without_records_is_a_fault() {
    let mut disk = vec![0; 4 << 20];
    put_record(&mut disk, 0, &[entry(5, 100, 4000)]);
    let table = read_table(&MemorySource(disk)).unwrap();
    assert_eq!(table.partitions.len(), 1);
    assert!(has_fault(&table, "boot record signature"));
}

#[test]
fn partitions_beyond_the_disk_and_over_each_other() {
    let images = Images::new();
    let disk = images.blank("cut", 100 * MIB);
    sfdisk(&disk, "label: dos\n2048,20480\n22528,100000\n122528,4096\n");
    set_len(&disk, 20 * MIB);
    // Begins inside the first one.
    write_at(&disk, 446 + 16 + 8, &10_000_u32.to_le_bytes());
    let table = read(&disk);
    let cut: Vec<_> = table.partitions.iter().map(|partition| partition.cut).collect();
    assert_eq!(cut, [false, true, true]);
    assert_eq!(table.partitions[1].len_bytes, 100_000 * 512);
    assert!(has_fault(&table, "partition end"));
    assert!(has_fault(&table, "partition start (partitions overlap)"));
}

#[test]
fn the_largest_numbers_of_an_mbr_stay_inside_u64() {
    let mut disk = vec![0; 1 << 20];
    put_record(&mut disk, 0, &[entry(5, u32::MAX, u32::MAX), entry(0x83, u32::MAX, u32::MAX)]);
    let table = read_table(&MemorySource(disk)).unwrap();
    assert_eq!(table.partitions.len(), 2);
    assert_eq!(table.partitions[1].end_bytes(), 2 * u64::from(u32::MAX) * 512);
}

fn gpt(images: &Images) -> std::path::PathBuf {
    let disk = images.blank("gpt", 100 * MIB);
    sgdisk(&disk, &["-n", "1:2048:+10M", "-c", "1:first", "-n", "2:0:+20M", "-n", "5:0:0"]);
    disk
}

#[test]
fn a_gpt_with_a_damaged_first_copy() {
    let images = Images::new();
    for (at, what) in [
        (512, "GPT header signature"),
        (512 + 24, "GPT header CRC"),
        (512 + 16, "GPT header CRC"),
        (1024 + 40, "GPT entries CRC"),
    ] {
        let disk = gpt(&images);
        let whole = read(&disk);
        let byte = read_at(&disk, at, 1)[0];
        write_at(&disk, at, &[byte ^ 0x10]);
        let table = read(&disk);
        assert!(table.used_backup, "{what}");
        assert!(has_fault(&table, what), "{what}: {:?}", table.faults);
        assert_eq!(table.partitions, whole.partitions);
        // sfdisk goes by the backup, too.
        assert_eq!(sfdisk_json(&disk).unwrap().2, rows(&table));
    }
}

#[test]
fn a_gpt_with_a_damaged_backup() {
    let images = Images::new();
    let disk = gpt(&images);
    write_at(&disk, 100 * MIB - 512, &[0; 8]);
    let table = read(&disk);
    assert!(!table.used_backup);
    assert!(has_fault(&table, "GPT header signature"));
    assert_eq!(sfdisk_json(&disk).unwrap().2, rows(&table));
}

#[test]
fn a_gpt_damaged_in_both_copies_gives_no_partition() {
    let images = Images::new();
    let disk = gpt(&images);
    write_at(&disk, 512 + 24, &[9]);
    write_at(&disk, 100 * MIB - 512 + 24, &[9]);
    let table = read(&disk);
    assert_eq!((table.scheme, table.partitions.len(), table.faults.len()), (Scheme::Gpt, 0, 2));
    assert_eq!(table.disk_id, None);
}

#[test]
fn the_backup_of_an_enlarged_disk_is_found() {
    let images = Images::new();
    let disk = gpt(&images);
    set_len(&disk, 300 * MIB);
    let whole = assert_agreed(&disk);
    assert_eq!(whole.unallocated.last(), Some(&(100 * MIB..300 * MIB)));
    // By the alternate LBA that a damaged header still names …
    write_at(&disk, 512 + 60, &[9]);
    let table = read(&disk);
    assert!(table.used_backup);
    assert_eq!(table.partitions, whole.partitions);
    // … and without any header by the size in the protective MBR.
    write_at(&disk, 512, &[0; 512]);
    let table = read(&disk);
    assert!(table.used_backup);
    assert_eq!(table.partitions, whole.partitions);
}

#[test]
fn a_disk_that_was_cut_keeps_its_first_copy() {
    let images = Images::new();
    let disk = gpt(&images);
    let whole = read(&disk);
    set_len(&disk, 50 * MIB);
    let table = read(&disk);
    assert_eq!(table.partitions.len(), 3);
    assert!(table.partitions[2].cut);
    assert_eq!(table.partitions[0], whole.partitions[0]);
    assert!(has_fault(&table, "GPT header"));
}

#[test]
fn a_gpt_without_its_protective_mbr() {
    let images = Images::new();
    let disk = gpt(&images);
    let whole = read(&disk);
    write_at(&disk, 0, &[0; 512]);
    let table = read(&disk);
    assert_eq!(table.partitions, whole.partitions);
    assert!(has_fault(&table, "protective MBR"));
    // The first mebibyte overwritten with zeros: the backup is all there is.
    write_at(&disk, 0, &vec![0; 1 << 20]);
    let table = read(&disk);
    assert!(table.used_backup);
    assert_eq!(table.partitions, whole.partitions);
}

#[test]
fn an_mbr_made_over_a_gpt_is_an_mbr() {
    let images = Images::new();
    let disk = gpt(&images);
    write_at(&disk, 446, &entry(0x83, 2048, 4096));
    let table = read(&disk);
    assert_eq!((table.scheme, table.partitions.len()), (Scheme::Mbr, 1));
    assert!(has_fault(&table, "GPT header"));
    assert_eq!(sfdisk_json(&disk).unwrap().0, "dos");
}

#[test]
fn entries_of_a_gpt_that_make_no_sense_are_faults() {
    let images = Images::new();
    let disk = gpt(&images);
    let mut image = std::fs::read(&disk).unwrap();
    let put = |image: &mut Vec<u8>, at: usize, number: u64| {
        image[at..at + 8].copy_from_slice(&number.to_le_bytes())
    };
    // The last sector before the first; the largest numbers.
    put(&mut image, 1024 + 40, 5);
    put(&mut image, 1024 + 128 + 32, u64::MAX - 1);
    put(&mut image, 1024 + 128 + 40, u64::MAX);
    put(&mut image, 1024 + 4 * 128 + 40, u64::MAX / 512 - 1);
    crate::mutated::refresh_checksums(&mut image, 512);
    let table = read_table(&MemorySource(image)).unwrap();
    assert!(!table.used_backup);
    let numbers: Vec<_> = table.partitions.iter().map(|partition| partition.number).collect();
    assert_eq!(numbers, [5]);
    assert!(table.partitions[0].cut);
    assert!(has_fault(&table, "GPT entry's last LBA"));
    assert!(has_fault(&table, "GPT entry outside the usable LBAs"));
}

#[test]
fn counts_and_sizes_of_a_gpt_are_capped() {
    let images = Images::new();
    let disk = gpt(&images);
    let image = std::fs::read(&disk).unwrap();
    for (at, number, what) in [
        (512 + 80, u32::MAX, "GPT entries"),
        (512 + 80, 16_385, "GPT entries"),
        (512 + 84, 0, "GPT entry size"),
        (512 + 84, 127, "GPT entry size"),
        (512 + 84, 8192, "GPT entry size"),
        (512 + 12, u32::MAX, "GPT header size"),
        (512 + 12, 20, "GPT header size"),
    ] {
        let mut image = image.clone();
        image[at..at + 4].copy_from_slice(&number.to_le_bytes());
        crate::mutated::refresh_header_checksum(&mut image, 512);
        let table = read_table(&MemorySource(image)).unwrap();
        assert!(table.used_backup && has_fault(&table, what), "{what} {number}: {:?}", table.faults);
    }
}

#[test]
fn sgdisk_agrees_that_what_we_read_is_whole() {
    let images = Images::new();
    let disk = gpt(&images);
    assert!(run("sgdisk", &["-v", text(&disk)], "").contains("No problems found"));
    assert_eq!(assert_agreed(&disk).partitions.len(), 3);
}
