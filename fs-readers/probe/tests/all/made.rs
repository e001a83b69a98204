//! Each kind as its own tool makes it, compared with `blkid`.

use std::path::{Path, PathBuf};

use stillframe_probe::{
    BootCodeKind, Content, EncryptionKind, FsKind, MdVersion, MemberKind, SwapKind, UnsupportedKind,
};

use crate::superblocks::{md_superblock, md_superblock_at, write_physical_volume};
use crate::tools::{
    Images, MIB, blkid, blkid_answer, blkid_name, probe_file, read_at, run, run_with_input, text, write_at,
};

/// The probe says `content`, alone, and `blkid` says the same.
fn assert_agreed(path: &Path, content: Content) {
    let found = probe_file(path);
    assert_eq!(found.content, content, "{}", path.display());
    assert_eq!(found.others, [], "{}", path.display());
    assert_eq!(blkid_answer(path), blkid_name(content), "{}", path.display());
}

#[test]
fn filesystems_with_a_reader() {
    let images = Images::new();
    let make = |name: &str, mib: u64, tool: &str, arguments: &[&str]| -> PathBuf {
        let path = images.blank(name, mib * MIB);
        let mut arguments = arguments.to_vec();
        arguments.push(text(&path));
        run(tool, &arguments);
        path
    };
    let cases: &[(&str, u64, &str, &[&str], FsKind)] = &[
        ("ext2", 8, "mkfs.ext2", &["-q", "-F"], FsKind::Ext),
        ("ext3", 16, "mkfs.ext3", &["-q", "-F"], FsKind::Ext),
        ("ext4", 16, "mkfs.ext4", &["-q", "-F"], FsKind::Ext),
        ("ext4-4k", 64, "mkfs.ext4", &["-q", "-F", "-b", "4096"], FsKind::Ext),
        ("ext4-bigalloc", 64, "mkfs.ext4", &["-q", "-F", "-O", "bigalloc", "-b", "1024"], FsKind::Ext),
        ("ext4-no-csum", 64, "mkfs.ext4", &["-q", "-F", "-O", "^metadata_csum,^64bit"], FsKind::Ext),
        ("ext4-meta_bg", 64, "mkfs.ext4", &["-q", "-F", "-O", "meta_bg,^resize_inode"], FsKind::Ext),
        ("xfs", 320, "mkfs.xfs", &["-q"], FsKind::Xfs),
        ("xfs-v4", 320, "mkfs.xfs", &["-q", "-m", "crc=0"], FsKind::Xfs),
        ("xfs-4k", 320, "mkfs.xfs", &["-q", "-s", "size=4096"], FsKind::Xfs),
        ("btrfs", 128, "mkfs.btrfs", &["-q"], FsKind::Btrfs),
        ("btrfs-xxhash", 128, "mkfs.btrfs", &["-q", "--csum", "xxhash"], FsKind::Btrfs),
        ("ntfs", 16, "mkfs.ntfs", &["-q", "-F"], FsKind::Ntfs),
        ("ntfs-64k", 64, "mkfs.ntfs", &["-q", "-F", "-c", "65536"], FsKind::Ntfs),
        ("fat12", 2, "mkfs.fat", &["-F", "12"], FsKind::Fat),
        ("fat16", 32, "mkfs.fat", &["-F", "16"], FsKind::Fat),
        ("fat32", 64, "mkfs.fat", &["-F", "32"], FsKind::Fat),
        ("fat32-4k", 512, "mkfs.fat", &["-F", "32", "-S", "4096"], FsKind::Fat),
        ("exfat", 16, "mkfs.exfat", &[], FsKind::ExFat),
    ];
    for (name, mib, tool, arguments, kind) in cases {
        assert_agreed(&make(name, *mib, tool, arguments), Content::Filesystem(*kind));
    }
    let floppy = images.blank("floppy", 1440 << 10);
    run("mformat", &["-i", text(&floppy), "-f", "1440", "::"]);
    assert_agreed(&floppy, Content::Filesystem(FsKind::Fat));
}

#[test]
fn exfat_is_known_by_its_backup_where_its_first_sector_is_lost() {
    let images = Images::new();
    let path = images.blank("exfat", 16 * MIB);
    run("mkfs.exfat", &[text(&path)]);
    write_at(&path, 0, &[0; 512]);
    let found = probe_file(&path);
    assert_eq!((found.content, found.signature_at), (Content::Filesystem(FsKind::ExFat), 12 * 512));
    // A sector that somebody else signed is no damage, and a backup that is damaged too is none.
    write_at(&path, 510, &[0x55, 0xaa]);
    assert_ne!(probe_file(&path).content, Content::Filesystem(FsKind::ExFat));
    write_at(&path, 510, &[0, 0]);
    write_at(&path, 12 * 512 + 200, &[0xEE]);
    assert_ne!(probe_file(&path).content, Content::Filesystem(FsKind::ExFat));
}

#[test]
fn discs_are_known_by_their_descriptors() {
    let images = Images::new();
    let tree = images.tree();
    let path = images.path("disc");
    run("genisoimage", &["-quiet", "-joliet", "-rock", "-output", text(&path), text(&tree)]);
    assert_agreed(&path, Content::Filesystem(FsKind::Iso9660));
    // One with UDF too is read by its other tree; the reader says what it leaves out.
    run("genisoimage", &["-quiet", "-udf", "-output", text(&path), text(&tree)]);
    let found = probe_file(&path);
    assert_eq!(found.content, Content::Filesystem(FsKind::Iso9660));
    assert_eq!(found.others, [Content::Unsupported(UnsupportedKind::Udf)]);
    // High Sierra says so eight bytes later.
    write_at(&path, 32 << 10, &[0; 4096]);
    write_at(&path, (32 << 10) + 9, b"CDROM\x01");
    assert_eq!(probe_file(&path).content, Content::Unsupported(UnsupportedKind::HighSierra));
}

#[test]
fn squashfs_before_version_4_has_no_reader() {
    let images = Images::new();
    let tree = images.tree();
    let path = images.path("squashfs");
    run("mksquashfs", &[text(&tree), text(&path), "-quiet", "-no-progress"]);
    write_at(&path, 28, &[3, 0]);
    assert_eq!(probe_file(&path).content, Content::Unsupported(UnsupportedKind::OldSquashfs));
    write_at(&path, 0, b"sqsh");
    write_at(&path, 28, &[0, 3]);
    assert_eq!(probe_file(&path).content, Content::Unsupported(UnsupportedKind::OldSquashfs));
}

#[test]
fn an_external_journal_is_no_filesystem() {
    let images = Images::new();
    let path = images.blank("journal", 16 * MIB);
    run("mke2fs", &["-q", "-F", "-O", "journal_dev", text(&path)]);
    assert_agreed(&path, Content::Unsupported(UnsupportedKind::ExtJournal));
}

#[test]
fn filesystems_without_a_reader() {
    let images = Images::new();
    let tree = images.tree();
    let squashfs = images.path("squashfs");
    run("mksquashfs", &[text(&tree), text(&squashfs), "-quiet", "-no-progress"]);
    assert_agreed(&squashfs, Content::Filesystem(FsKind::Squashfs));
    let erofs = images.path("erofs");
    run("mkfs.erofs", &[text(&erofs), text(&tree)]);
    assert_agreed(&erofs, Content::Unsupported(UnsupportedKind::Erofs));
    let cramfs = images.path("cramfs");
    run("mkfs.cramfs", &[text(&tree), text(&cramfs)]);
    assert_agreed(&cramfs, Content::Unsupported(UnsupportedKind::Cramfs));
    let f2fs = images.blank("f2fs", 64 * MIB);
    run("mkfs.f2fs", &["-q", text(&f2fs)]);
    assert_agreed(&f2fs, Content::Unsupported(UnsupportedKind::F2fs));
    for version in ["-1", "-2", "-3"] {
        let minix = images.blank("minix", 20 * MIB);
        run("mkfs.minix", &[version, text(&minix)]);
        assert_agreed(&minix, Content::Unsupported(UnsupportedKind::Minix));
    }
}

#[test]
fn luks_with_its_uuid() {
    let images = Images::new();
    for (version, kind) in [("luks1", EncryptionKind::Luks1), ("luks2", EncryptionKind::Luks2)] {
        let path = images.blank(version, 20 * MIB);
        let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"];
        let mut arguments = vec!["luksFormat", "-q", "--type", version];
        arguments.extend(cheap);
        arguments.push(text(&path));
        run_with_input("cryptsetup", &arguments, "correct horse");
        assert_agreed(&path, Content::Encrypted(kind));
        assert_eq!(probe_file(&path).detail.uuid.as_ref(), blkid(&path).get("UUID"), "{version}");
        if kind == EncryptionKind::Luks2 {
            write_at(&path, 0, &[0; 4096]);
            assert_eq!(probe_file(&path).content, Content::Encrypted(kind));
            assert_eq!(probe_file(&path).signature_at, 0x4000);
            assert_eq!(blkid_answer(&path), "crypto_LUKS 2");
        }
    }
}

#[test]
fn swap_of_every_page_size() {
    let images = Images::new();
    for page_bytes in ["4096", "8192", "16384", "32768", "65536"] {
        let path = images.blank("swap", 4 * MIB);
        run("mkswap", &["-p", page_bytes, text(&path)]);
        assert_agreed(&path, Content::Swap(SwapKind::Swap));
        // What the kernel writes over the signature when it hibernates.
        let at = page_bytes.parse::<u64>().unwrap() - 10;
        write_at(&path, at, b"S1SUSPEND\0");
        assert_agreed(&path, Content::Swap(SwapKind::Hibernation));
    }
}

#[test]
fn a_physical_volume_with_its_uuid() {
    let images = Images::new();
    let path = images.blank("pv", 16 * MIB);
    write_physical_volume(&path, 16 * MIB);
    assert_agreed(&path, Content::Member(MemberKind::Lvm2));
    assert_eq!(probe_file(&path).detail.uuid.as_ref(), blkid(&path).get("UUID"));
    assert!(probe_file(&path).detail.uuid.is_some());
}

#[test]
fn md_members_of_every_version() {
    let images = Images::new();
    for version in MdVersion::ALL {
        let path = images.blank("md", 16 * MIB);
        let at = md_superblock_at(*version, 16 * MIB);
        write_at(&path, at, &md_superblock(*version, at));
        assert_agreed(&path, Content::Member(MemberKind::Md(*version)));
        // mdadm itself accepts the superblock and its checksum.
        let examined = run("mdadm", &["--examine", text(&path)]);
        assert!(examined.contains("- correct"), "{examined}");
    }
}

#[test]
fn a_grub_core_image() {
    let images = Images::new();
    let core = images.path("core.img");
    let modules = ["-p", "/boot/grub", "biosdisk", "part_gpt", "ext2"];
    let mut arguments = vec!["-O", "i386-pc", "-o", text(&core)];
    arguments.extend(modules);
    run("grub-mkimage", &arguments);
    let partition = images.blank("bios-boot", MIB);
    write_at(&partition, 0, &std::fs::read(&core).unwrap());
    assert_eq!(probe_file(&partition).content, Content::BootCode(BootCodeKind::GrubCore));
    // The BIOS boot sector is no core image, and half a sector is neither.
    write_at(&partition, 0, &vec![0; 512]);
    assert!(matches!(probe_file(&partition).content, Content::Unknown { first_non_zero: 512.., .. }));
    let first = read_at(&core, 0, 512);
    assert_eq!(first[0], 0x52);
}

#[test]
fn nothing_and_something_unknown() {
    let images = Images::new();
    let empty = images.blank("empty", 64 * MIB);
    assert_agreed_empty(&empty);
    write_at(&empty, 40 * MIB + 5, b"some words");
    let unknown = Content::Unknown { first_non_zero: 40 * MIB + 5, looks_random: false };
    assert_eq!(probe_file(&empty).content, unknown);
    assert_eq!(blkid_answer(&empty), "");
}

#[test]
fn a_window_behind_the_end_of_its_disk_is_empty() {
    let disk = std::sync::Arc::new(stillframe_block::MemorySource(vec![1; 4096]));
    for start in [4095, 4096, 5000, u64::MAX] {
        let window = stillframe_block::WindowSource::new(disk.clone(), start, MIB);
        let expected = if start == 4095 {
            Content::Unknown { first_non_zero: 0, looks_random: false }
        } else {
            Content::Empty
        };
        assert_eq!(stillframe_probe::identify(&window).unwrap(), expected);
    }
}

fn assert_agreed_empty(path: &Path) {
    assert_eq!(probe_file(path).content, Content::Empty);
    assert_eq!(blkid_answer(path), "");
}
