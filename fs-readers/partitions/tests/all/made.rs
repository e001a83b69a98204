//! Tables as the tools make them.

use stillframe_partitions::{PartitionRole, Scheme, TypeCode};

use crate::tools::{
    Images, MIB, assert_agreed, fdisk_4k, has_fault, read, run, sfdisk, sgdisk, text, write_at,
};

#[test]
fn mbr_with_primary_partitions() {
    let images = Images::new();
    let disk = images.blank("mbr", 100 * MIB);
    sfdisk(&disk, "label: dos\nlabel-id: 0x1a2b3c4d\n2048,20480,83,*\n22528,20480,7\n43008,,c\n");
    let table = assert_agreed(&disk);
    assert_eq!(table.partitions[0].part_uuid.as_deref(), Some("1a2b3c4d-01"));
    assert_eq!(table.partitions[2].type_code, TypeCode::Mbr(0x0c));
    assert_eq!(table.unallocated.first(), Some(&(512..MIB)));
    assert_eq!(table.unallocated.len(), 1);
}

#[test]
fn mbr_with_logical_partitions() {
    let images = Images::new();
    for extended in ["5", "f", "85"] {
        let disk = images.blank("logical", 200 * MIB);
        let script = format!(
            "label: dos\n1 : start=2048, size=20480, type=83\n2 : start=22528, size=300000, type={extended}\n\
             3 : start=330000, size=8192, type=82\n5 : start=24576, size=20480, type=83\n\
             6 : size=40960, type=8e\n7 : size=4096, type=7\n8 : type=83\n"
        );
        sfdisk(&disk, &script);
        let table = assert_agreed(&disk);
        let roles: Vec<_> = table.partitions.iter().map(|partition| partition.role).collect();
        assert_eq!(roles[..3], [PartitionRole::Primary, PartitionRole::Extended, PartitionRole::Primary]);
        assert_eq!(roles[3..], [PartitionRole::Logical; 4]);
        assert_eq!(table.partitions[6].number, 8);
    }
}

#[test]
fn logical_partitions_out_of_order() {
    let images = Images::new();
    let disk = images.blank("backwards", 200 * MIB);
    let script = "label: dos\n1 : start=2048, size=400000, type=5\n5 : start=200704, size=20480, type=83\n\
                  6 : start=4096, size=20480, type=83\n7 : start=100352, size=2048, type=83\n";
    sfdisk(&disk, script);
    let table = assert_agreed(&disk);
    assert!(table.partitions[1].start_bytes > table.partitions[2].start_bytes);
}

#[test]
fn many_logical_partitions() {
    let images = Images::new();
    let disk = images.blank("many", 200 * MIB);
    let mut script = "label: dos\n1 : start=2048, type=5\n".to_owned();
    for number in 5..55 {
        script.push_str(&format!("{number} : size=4096, type=83\n"));
    }
    sfdisk(&disk, &script);
    assert_eq!(assert_agreed(&disk).partitions.len(), 51);
}

#[test]
fn an_empty_table_of_either_kind() {
    let images = Images::new();
    for label in ["dos", "gpt"] {
        let disk = images.blank(label, 50 * MIB);
        sfdisk(&disk, &format!("label: {label}\n"));
        let table = assert_agreed(&disk);
        assert_eq!(table.partitions, []);
        assert_eq!(table.unallocated.len(), 1);
    }
}

#[test]
fn gpt_with_names_and_gaps() {
    let images = Images::new();
    let disk = images.blank("gpt", 200 * MIB);
    sgdisk(
        &disk,
        &[
            "-n",
            "1:2048:+10M",
            "-t",
            "1:ef00",
            "-c",
            "1:EFI System",
            "-n",
            "14:32768:+4M",
            "-t",
            "14:ef02",
            "-n",
            "128:102400:0",
            "-c",
            "128:données – 数据 🗄",
        ],
    );
    let table = assert_agreed(&disk);
    let numbers: Vec<_> = table.partitions.iter().map(|partition| partition.number).collect();
    assert_eq!(numbers, [1, 14, 128]);
    assert_eq!(table.partitions[2].name.as_deref(), Some("données – 数据 🗄"));
    assert!(!table.used_backup);
    let gaps: Vec<_> = table.unallocated.iter().map(|gap| (gap.start / 512, gap.end / 512)).collect();
    assert_eq!(gaps, [(34, 2048), (22528, 32768), (40960, 102_400)]);
}

#[test]
fn gpt_of_uncommon_sizes() {
    let images = Images::new();
    for (name, script) in [
        ("small", "label: gpt\ntable-length: 4\n2048,2048\n"),
        ("large", "label: gpt\ntable-length: 1024\nfirst-lba: 2048\n4096,2048,L,\n,4096\n"),
    ] {
        let disk = images.blank(name, 50 * MIB);
        sfdisk(&disk, script);
        assert!(!assert_agreed(&disk).partitions.is_empty());
    }
}

#[test]
fn a_disk_of_no_whole_number_of_sectors() {
    let images = Images::new();
    let disk = images.blank("odd", 50 * MIB + 100);
    sfdisk(&disk, "label: gpt\n2048,2048\n");
    assert_agreed(&disk);
}

#[test]
fn hybrid_mbr() {
    let images = Images::new();
    let disk = images.blank("hybrid", 100 * MIB);
    sgdisk(&disk, &["-n", "1:2048:+10M", "-n", "2:40960:+10M", "-n", "3:81920:0", "-h", "1:2"]);
    let table = assert_agreed(&disk);
    assert_eq!((table.scheme, table.partitions.len()), (Scheme::Gpt, 3));
    // The start of the first hybrid entry, changed: it is no partition of the GPT any more.
    write_at(&disk, 446 + 16 + 8, &5000_u32.to_le_bytes());
    let table = read(&disk);
    assert_eq!(table.partitions.len(), 3);
    assert!(has_fault(&table, "hybrid MBR entry"), "{:?}", table.faults);
}

#[test]
fn gpt_in_sectors_of_4096_bytes() {
    let images = Images::new();
    let disk = images.blank("gpt-4k", 64 * MIB);
    run("fdisk", &["-b", "4096", text(&disk)], "g\nn\n1\n\n+8M\nn\n2\n\n\nw\n");
    let table = read(&disk);
    assert_eq!((table.scheme, table.sector_bytes), (Scheme::Gpt, 4096));
    assert_eq!(table.faults, []);
    assert_eq!(starts_and_sectors(&table), fdisk_4k(&disk));
    // The first copy gone, the one in the last sector of 4 KiB is read.
    write_at(&disk, 4096, &[0; 4096]);
    let backup = read(&disk);
    assert!(backup.used_backup);
    assert_eq!(backup.partitions, table.partitions);
}

#[test]
fn mbr_in_sectors_of_4096_bytes() {
    let images = Images::new();
    let disk = images.blank("mbr-4k", 64 * MIB);
    run("fdisk", &["-b", "4096", text(&disk)], "o\nn\np\n1\n\n+8M\nn\ne\n2\n\n\nn\n\n+4M\nn\n\n+4M\nw\n");
    // Its extended boot records lie where sectors of 4 KiB put them.
    let table = read(&disk);
    assert_eq!((table.scheme, table.sector_bytes), (Scheme::Mbr, 4096));
    assert_eq!(starts_and_sectors(&table), fdisk_4k(&disk));
    assert_eq!(table.partitions.len(), 4);

    // Without them only a filesystem can tell.
    let disk = images.blank("mbr-4k-plain", 64 * MIB);
    run("fdisk", &["-b", "4096", text(&disk)], "o\nn\np\n1\n\n+32M\nw\n");
    assert_eq!(read(&disk).sector_bytes, 512);
    let offset = format!("offset={}", fdisk_4k(&disk)[0].1 * 4096);
    run("mkfs.ext4", &["-q", "-F", "-E", &offset, text(&disk), "16M"], "");
    let table = read(&disk);
    assert_eq!(table.sector_bytes, 4096);
    assert_eq!(starts_and_sectors(&table), fdisk_4k(&disk));
}

fn starts_and_sectors(table: &stillframe_partitions::PartitionTable) -> Vec<(u32, u64, u64)> {
    table
        .partitions
        .iter()
        .map(|partition| (partition.number, partition.start_bytes / 4096, partition.len_bytes / 4096))
        .collect()
}
