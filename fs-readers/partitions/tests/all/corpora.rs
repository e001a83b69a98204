//! Real tables that nobody here made.
//!
//! Most are the first sectors of a disk only: they are put on a sparse disk as large as the header says, so that `sfdisk`
//! and `fdisk` read them.

use std::path::{Path, PathBuf};

use stillframe_block::FileSource;
use stillframe_partitions::{Scheme, read_table};

use crate::tools::{Images, MIB, fdisk_4k, read, rows, run, set_len, sfdisk_json, text};

fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("STILLFRAME_CORPORA");
    if folder.is_none() {
        eprintln!("STILLFRAME_CORPORA is not set: real images are not looked at");
    }
    folder.map(PathBuf::from)
}

/// The image as a disk of `len_bytes`, or as long as it is.
fn disk(image: &Path, images: &Images, len_bytes: Option<u64>) -> PathBuf {
    let bytes = std::fs::read(image).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
    let bytes = if image.extension().is_some_and(|extension| extension == "gz") {
        let mut unpacked = Vec::new();
        std::io::copy(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut unpacked).unwrap();
        unpacked
    } else {
        bytes
    };
    let path = images.blank("disk", 0);
    std::fs::write(&path, bytes).unwrap();
    if let Some(len_bytes) = len_bytes {
        set_len(&path, len_bytes);
    }
    path
}

#[test]
fn real_tables_of_512_byte_sectors() {
    let Some(corpora) = corpora() else { return };
    let images = Images::new();
    let folder = corpora.join("fs/dissect-volume/disk");
    let cases = [
        ("gpt.bin", Some(61_440_000 * 512), Scheme::Gpt, 2),
        ("gpt_esxi.bin", Some(297_795_584 * 512), Scheme::Gpt, 5),
        ("gpt_hybrid.bin", Some(4096 * 512), Scheme::Gpt, 3),
        ("mbr.bin", Some(60_000 * MIB), Scheme::Mbr, 2),
    ];
    for (name, len, scheme, count) in cases {
        let path = disk(&folder.join(name), &images, len);
        let table = read(&path);
        assert_eq!((table.scheme, table.partitions.len()), (scheme, count), "{name}");
        // sfdisk lists in the order of the slots, as we do.
        assert_eq!(rows(&table), sfdisk_json(&path).unwrap().2, "{name}");
        // The same partitions are read from the few sectors alone; those past their end are cut.
        let bare = read(&disk(&folder.join(name), &images, None));
        assert_eq!(rows(&bare), rows(&table), "{name}");
        assert!(bare.partitions.iter().all(|partition| partition.cut), "{name}");
    }
    let mirror = read(&disk(&corpora.join("libguestfs/files/mbr-ext2-empty.img.gz"), &images, None));
    assert_eq!((mirror.scheme, mirror.partitions.len(), mirror.faults.len()), (Scheme::Mbr, 1, 0));
    assert_eq!((mirror.partitions[0].start_bytes, mirror.partitions[0].len_bytes), (512, 2879 * 512));
}

#[test]
fn a_real_table_of_4096_byte_sectors() {
    let Some(corpora) = corpora() else { return };
    let images = Images::new();
    let path = disk(&corpora.join("fs/dissect-volume/disk/gpt_4k.bin"), &images, Some(4192 * 4096));
    let table = read(&path);
    assert_eq!((table.scheme, table.sector_bytes), (Scheme::Gpt, 4096));
    let ours: Vec<_> = table
        .partitions
        .iter()
        .map(|partition| (partition.number, partition.start_bytes / 4096, partition.len_bytes / 4096))
        .collect();
    assert_eq!(ours, fdisk_4k(&path));
    assert_eq!(ours.len(), 3);
}

/// Its entries were shortened by hand and their CRC was not: like sfdisk, we take nothing from it.
#[test]
fn a_real_table_with_a_wrong_crc() {
    let Some(corpora) = corpora() else { return };
    let images = Images::new();
    let path =
        disk(&corpora.join("fs/dissect-volume/disk/gpt_no_name_xff.bin"), &images, Some(41_943_040 * 512));
    let table = read(&path);
    assert_eq!(sfdisk_json(&path).unwrap().0, "dos");
    assert_eq!((table.scheme, table.partitions.len()), (Scheme::Gpt, 0));
    assert!(!table.faults.is_empty());
}

#[test]
fn entries_of_go_diskfs_in_tables_around_them() {
    let Some(corpora) = corpora() else { return };
    let images = Images::new();
    let entry = std::fs::read(corpora.join("fs/go-diskfs/partition/mbr/testdata/mbr_partition.dat")).unwrap();
    let path = images.blank("mbr", 100 * MIB);
    crate::tools::write_at(&path, 446, &entry);
    crate::tools::write_at(&path, 510, &[0x55, 0xaa]);
    let table = read(&path);
    assert_eq!(table.partitions.len(), 1);
    assert_eq!(rows(&table), sfdisk_json(&path).unwrap().2);

    let entry = std::fs::read(corpora.join("fs/go-diskfs/partition/gpt/testdata/gpt_partition.dat")).unwrap();
    let path = images.blank("gpt", 10 * MIB);
    run("sgdisk", &["-n", "1:2048:4000", text(&path)], "");
    let mut image = std::fs::read(&path).unwrap();
    image[1024..1024 + 128].copy_from_slice(&entry[..128]);
    crate::mutated::refresh_checksums(&mut image, 512);
    std::fs::write(&path, image).unwrap();
    let table = read(&path);
    assert_eq!(table.partitions.len(), 1);
    assert_eq!(rows(&table), sfdisk_json(&path).unwrap().2);
}

/// Volumes that fill their disk have no table, whatever their first sector ends in.
#[test]
fn real_filesystems_are_no_table() {
    let Some(corpora) = corpora() else { return };
    let images = Images::new();
    let names = [
        "dissect-ntfs/ntfs.bin.gz",
        "dissect-extfs/ext4.bin.gz",
        "dissect-xfs/xfs.bin.gz",
        "dissect-btrfs/btrfs-default.bin.gz",
        "dissect-volume/lvm/lvm.bin.gz",
        "dissect-volume/md/md-90-1.bin.gz",
        "dissect-volume/md/md-raid1-1.bin.gz",
        "sleuthkit/image.dd",
    ];
    for name in names {
        let path = disk(&corpora.join("fs").join(name), &images, None);
        let table = read_table(&FileSource::open(&path).unwrap()).unwrap();
        assert_eq!((table.scheme, table.partitions.len()), (Scheme::None, 0), "{name}");
    }
}
