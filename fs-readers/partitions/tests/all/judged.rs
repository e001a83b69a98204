//! Disks without a table whose first sector looks like one, and tables among leftovers.

use std::path::Path;

use stillframe_partitions::{PartitionTable, Scheme};

use crate::tools::{Images, MIB, has_fault, read, read_at, run, set_len, sfdisk, sgdisk, text, write_at};

fn make(tool: &str, arguments: &[&str], path: &Path) {
    let mut arguments = arguments.to_vec();
    arguments.push(text(path));
    run(tool, &arguments, "");
}

fn assert_none(table: &PartitionTable, what: &str) {
    assert_eq!(table.scheme, Scheme::None, "{what}");
    assert_eq!((table.partitions.len(), table.unallocated.len()), (0, 0), "{what}");
}

const FILESYSTEMS: &[(&str, &[&str])] = &[
    ("mkfs.fat", &["-F", "12"]),
    ("mkfs.fat", &["-F", "16"]),
    ("mkfs.fat", &["-F", "32"]),
    // With a table in its boot sector that has one partition over all of the disk.
    ("mkfs.fat", &["-F", "32", "--mbr=yes"]),
    ("mkfs.ntfs", &["-q", "-F"]),
    ("mkfs.exfat", &[]),
    ("mkfs.ext4", &["-q", "-F"]),
    ("mkfs.xfs", &["-q", "-f"]),
    ("mkfs.btrfs", &["-q", "-f"]),
    ("mkswap", &["-q"]),
];

#[test]
fn a_filesystem_on_the_whole_disk_is_no_table() {
    let images = Images::new();
    for (tool, arguments) in FILESYSTEMS {
        let len = if arguments.contains(&"12") { 8 * MIB } else { 320 * MIB };
        let disk = images.blank("whole", len);
        make(tool, arguments, &disk);
        assert_none(&read(&disk), tool);
    }
}

#[test]
fn boot_code_in_front_of_ext_is_no_table() {
    let images = Images::new();
    let disk = images.blank("boot-code", 64 * MIB);
    make("mkfs.ext4", &["-q", "-F"], &disk);
    let code = std::fs::read("/usr/lib/grub/i386-pc/boot.img").expect("grub-pc-bin is installed");
    write_at(&disk, 0, &code);
    assert_eq!(read_at(&disk, 510, 2), [0x55, 0xaa]);
    assert_none(&read(&disk), "ext behind boot.img");
}

#[test]
fn boot_code_in_the_mbr_does_not_hide_the_table() {
    let images = Images::new();
    let disk = images.blank("bootable", 64 * MIB);
    sfdisk(&disk, "label: dos\n2048,,83\n");
    let code = std::fs::read("/usr/lib/grub/i386-pc/boot.img").expect("grub-pc-bin is installed");
    write_at(&disk, 0, &code[..440]);
    let table = read(&disk);
    assert_eq!((table.scheme, table.partitions.len()), (Scheme::Mbr, 1));
}

/// mkfs over a disk that had a GPT: its backup at the end survives some of the tools.
#[test]
fn a_filesystem_over_a_gpt_is_no_table() {
    let images = Images::new();
    for (tool, arguments) in FILESYSTEMS {
        let len = if arguments.contains(&"12") { 8 * MIB } else { 320 * MIB };
        let disk = images.blank("was-gpt", len);
        sgdisk(&disk, &["-n", "1:2048:0"]);
        let backup = read_at(&disk, len - 33 * 512, 33 * 512);
        make(tool, if *tool == "mkswap" { &["-q", "-f"] } else { arguments }, &disk);
        // As if none of them had cleared it.
        write_at(&disk, len - 33 * 512, &backup);
        assert_none(&read(&disk), tool);
    }
}

#[test]
fn a_table_over_a_filesystem_is_a_table() {
    let images = Images::new();
    for label in ["dos", "gpt"] {
        let disk = images.blank("was-ext", 64 * MIB);
        make("mkfs.ext4", &["-q", "-F"], &disk);
        sfdisk(&disk, &format!("label: {label}\n2048,,\n"));
        let table = read(&disk);
        assert_eq!(table.partitions.len(), 1, "{label}");
        assert_eq!(table.faults, [], "{label}");
    }
}

/// The checksummed superblock of a mirror, as version 1.0 puts it at the end and 1.2 at 4 KiB.
fn md_superblock(at: u64, data_sector: u64) -> Vec<u8> {
    let mut words = [0_u32; 64];
    words[0] = 0xa92b_4efc;
    words[1] = 1;
    words[18] = 1;
    words[20] = 16_384;
    words[23] = 2;
    words[32] = u32::try_from(data_sector).unwrap();
    words[34] = 16_384;
    words[36] = u32::try_from(at / 512).unwrap();
    let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
    words[54] = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn the_superblock_of_the_last_partition_is_not_the_disks() {
    let images = Images::new();
    let len = 64 * MIB;
    let disk = images.blank("raid-partition", len);
    sfdisk(&disk, "label: dos\n2048,,fd\n");
    let at = len - 8192;
    write_at(&disk, at, &md_superblock(at - MIB, 0));
    assert_eq!(read(&disk).scheme, Scheme::Mbr);
    // Even where it says that it counts from the disk's start: it lies inside the partition.
    write_at(&disk, at, &md_superblock(at, 0));
    assert_eq!(read(&disk).scheme, Scheme::Mbr);
}

#[test]
fn a_table_inside_a_mirror_of_whole_disks_is_the_arrays() {
    let images = Images::new();
    let len = 64 * MIB;
    for label in ["dos", "gpt"] {
        let disk = images.blank("raid-disk", len - MIB);
        sfdisk(&disk, &format!("label: {label}\n2048,,\n"));
        set_len(&disk, len);
        let at = len - 8192;
        write_at(&disk, at, &md_superblock(at, 0));
        assert_none(&read(&disk), label);
    }
}

#[test]
fn a_whole_disk_member_and_an_old_table() {
    let images = Images::new();
    let len = 64 * MIB;
    let disk = images.blank("old-table", len);
    sfdisk(&disk, "label: dos\n2048,,83\n");
    write_at(&disk, 4096, &md_superblock(4096, 4096));
    assert_none(&read(&disk), "nothing in the partition");
    // A filesystem where the partition begins, and not where the array's data does: the superblock is the leftover.
    run("mkfs.ext4", &["-q", "-F", "-E", "offset=1048576", text(&disk), "32M"], "");
    assert_eq!(read(&disk).scheme, Scheme::Mbr);
    write_at(&disk, 4096, &md_superblock(4096, 2048));
    assert_none(&read(&disk), "the array's data explains the filesystem");
}

#[test]
fn nothing_at_all_is_no_table() {
    let images = Images::new();
    for len in [0, 1, 511, 512, 513, 4096, 5000, MIB] {
        let table = read(&images.blank("nothing", len));
        assert_none(&table, "zeros");
        assert_eq!(table.faults, []);
    }
    let disk = images.blank("only-55aa", MIB);
    write_at(&disk, 510, &[0x55, 0xaa]);
    let table = read(&disk);
    assert_eq!((table.scheme, table.partitions.len()), (Scheme::Mbr, 0));
    assert!(!has_fault(&table, "partition end"));
}
