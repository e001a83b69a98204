//! Volumes that bear the signatures of what they were before.

use std::path::Path;

use stillframe_probe::{Content, EncryptionKind, FsKind, MdVersion, MemberKind, SwapKind};

use crate::superblocks::{md_superblock, md_superblock_at, write_physical_volume};
use crate::tools::{Images, MIB, blkid_answer, probe_file, read_at, run, run_with_input, text, write_at};

const EXT: Content = Content::Filesystem(FsKind::Ext);
const LVM: Content = Content::Member(MemberKind::Lvm2);

fn md(version: MdVersion) -> Content {
    Content::Member(MemberKind::Md(version))
}

fn make(tool: &str, arguments: &[&str], path: &Path) {
    let mut arguments = arguments.to_vec();
    arguments.push(text(path));
    run(tool, &arguments);
}

fn make_ext(path: &Path, blocks_4k: Option<u64>) {
    let blocks = blocks_4k.map(|blocks| blocks.to_string());
    let mut arguments = vec!["-q", "-F", "-b", "4096", text(path)];
    arguments.extend(blocks.as_deref());
    run("mkfs.ext4", &arguments);
}

fn write_md(path: &Path, version: MdVersion, len_bytes: u64) {
    let at = md_superblock_at(version, len_bytes);
    write_at(path, at, &md_superblock(version, at));
}

#[test]
fn a_mirror_that_begins_with_its_filesystem_is_a_member() {
    let images = Images::new();
    for version in [MdVersion::V0_90, MdVersion::V1_0] {
        let path = images.blank("mirror", 64 * MIB);
        // As mkfs makes it on the array, which ends before the superblock.
        make_ext(&path, Some(64 * MIB / 4096 - 64));
        write_md(&path, version, 64 * MIB);
        let found = probe_file(&path);
        assert_eq!(found.content, md(version));
        assert_eq!(found.others, [EXT]);
        assert_eq!(blkid_answer(&path), format!("linux_raid_member {version}"));
    }
}

#[test]
fn a_striped_member_holds_a_filesystem_larger_than_itself() {
    let images = Images::new();
    let path = images.blank("stripe", 256 * MIB);
    make_ext(&path, None);
    let half = 128 * MIB;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(half).unwrap();
    write_md(&path, MdVersion::V1_0, half);
    assert_eq!(probe_file(&path).content, md(MdVersion::V1_0));
}

#[test]
fn a_filesystem_over_the_whole_of_a_former_member_is_alive() {
    let images = Images::new();
    let len = 64 * MIB;
    for version in MdVersion::ALL {
        let path = images.blank("former", len);
        write_md(&path, *version, len);
        make_ext(&path, None);
        assert_eq!(probe_file(&path).content, EXT, "{version}");
        // mke2fs wipes the last 64 KiB too; tools that do not leave a superblock there. One at the start cannot survive.
        let trailing = matches!(version, MdVersion::V0_90 | MdVersion::V1_0);
        if trailing {
            write_md(&path, *version, len);
        }
        let found = probe_file(&path);
        assert_eq!(found.content, EXT, "{version}");
        assert_eq!(found.others.contains(&md(*version)), trailing, "{version}");
    }
    let path = images.blank("former-fat", len);
    write_md(&path, MdVersion::V1_0, len);
    make("mkfs.fat", &["-F", "32"], &path);
    let found = probe_file(&path);
    assert_eq!((found.content, found.others), (Content::Filesystem(FsKind::Fat), vec![md(MdVersion::V1_0)]));
    let path = images.blank("former-xfs", 320 * MIB);
    write_md(&path, MdVersion::V0_90, 320 * MIB);
    make("mkfs.xfs", &["-q", "-f"], &path);
    assert_eq!(probe_file(&path).content, Content::Filesystem(FsKind::Xfs));
}

#[test]
fn a_member_made_over_a_filesystem_is_alive() {
    let images = Images::new();
    let len = 64 * MIB;
    let arguments: [(&str, &[&str]); 3] = [
        ("mkfs.ext4", &["-q", "-F", "-b", "4096"]),
        ("mkfs.fat", &["-F", "32"]),
        ("mkfs.fat", &["-F", "16"]),
    ];
    for (tool, arguments) in arguments {
        let path = images.blank("over", len);
        make(tool, arguments, &path);
        write_md(&path, MdVersion::V1_2, len);
        assert_eq!(probe_file(&path).content, md(MdVersion::V1_2), "{tool} {arguments:?}");
    }
}

#[test]
fn a_damaged_md_superblock_loses_to_a_filesystem_and_stands_alone() {
    let images = Images::new();
    let len = 64 * MIB;
    let path = images.blank("damaged", len);
    write_md(&path, MdVersion::V1_0, len);
    write_at(&path, md_superblock_at(MdVersion::V1_0, len) + 100, &[9]);
    assert_eq!(probe_file(&path).content, md(MdVersion::V1_0));
    make_ext(&path, Some(len / 4096 - 64));
    assert_eq!(probe_file(&path).content, EXT);
}

#[test]
fn ext_over_a_physical_volume_and_the_other_way_round() {
    let images = Images::new();
    let len = 64 * MIB;
    let path = images.blank("pv", len);
    write_physical_volume(&path, len);
    let label = read_at(&path, 512, 512);
    make_ext(&path, None);
    assert_eq!(probe_file(&path).content, EXT);
    // The label put back, as a tool that leaves the boot block alone would have left it: the metadata area behind it is
    // gone, so the filesystem is the younger.
    write_at(&path, 512, &label);
    let found = probe_file(&path);
    assert_eq!((found.content, found.others), (EXT, vec![LVM]));
    // A physical volume made over the filesystem has its metadata area where the group descriptors were.
    write_physical_volume(&path, len);
    assert_eq!(probe_file(&path).content, LVM);
}

#[test]
fn swap_and_its_predecessors() {
    let images = Images::new();
    let len = 64 * MIB;
    let path = images.blank("was-pv", len);
    write_physical_volume(&path, len);
    make("mkswap", &["-q", "-f"], &path);
    assert_eq!(probe_file(&path).content, Content::Swap(SwapKind::Swap));

    // ext over swap: the signature at the end of the first page survives, the header does not.
    let path = images.blank("was-swap", len);
    make("mkswap", &[], &path);
    make_ext(&path, None);
    let found = probe_file(&path);
    assert_eq!(found.content, EXT);
    assert_eq!(read_at(&path, 4086, 10) == b"SWAPSPACE2", found.others == [Content::Swap(SwapKind::Swap)]);

    let path = images.blank("was-ext", len);
    make_ext(&path, None);
    make("mkswap", &["-f"], &path);
    assert_eq!(probe_file(&path).content, Content::Swap(SwapKind::Swap));
}

#[test]
fn a_boot_sector_left_in_front_of_ext() {
    let images = Images::new();
    let len = 64 * MIB;
    for (tool, arguments) in
        [("mkfs.fat", &["-F", "32"][..]), ("mkfs.ntfs", &["-q", "-F"]), ("mkfs.exfat", &[])]
    {
        let path = images.blank("was-dos", len);
        make(tool, arguments, &path);
        let boot_sector = read_at(&path, 0, 512);
        make_ext(&path, None);
        // mke2fs zeroes it; other tools that make ext do not.
        write_at(&path, 0, &boot_sector);
        let found = probe_file(&path);
        assert_eq!(found.content, EXT, "{tool}");
        assert_eq!(found.others.len(), 1, "{tool}");
    }
}

#[test]
fn a_filesystem_with_boot_code_in_front_is_that_filesystem() {
    let images = Images::new();
    let path = images.blank("bootable", 64 * MIB);
    make_ext(&path, None);
    let mut boot_sector = std::fs::read("/usr/lib/grub/i386-pc/boot.img").expect("grub-pc-bin is installed");
    boot_sector[510..].copy_from_slice(&[0x55, 0xaa]);
    write_at(&path, 0, &boot_sector);
    let found = probe_file(&path);
    assert_eq!((found.content, found.others), (EXT, Vec::new()));
}

#[test]
fn filesystems_made_one_over_the_other() {
    let images = Images::new();
    let tools: [(&str, &[&str], FsKind); 6] = [
        ("mkfs.ext4", &["-q", "-F"], FsKind::Ext),
        ("mkfs.xfs", &["-q", "-f"], FsKind::Xfs),
        ("mkfs.btrfs", &["-q", "-f"], FsKind::Btrfs),
        ("mkfs.ntfs", &["-q", "-F"], FsKind::Ntfs),
        ("mkfs.fat", &["-F", "32"], FsKind::Fat),
        ("mkfs.exfat", &[], FsKind::ExFat),
    ];
    for (first_tool, first_arguments, first) in &tools {
        for (tool, arguments, kind) in &tools {
            let path = images.blank("twice", 320 * MIB);
            make(first_tool, first_arguments, &path);
            make(tool, arguments, &path);
            let found = probe_file(&path).content;
            assert_eq!(found, Content::Filesystem(*kind), "{tool} over {first}");
        }
    }
}

#[test]
fn a_filesystem_over_luks() {
    let images = Images::new();
    let path = images.blank("was-luks", 64 * MIB);
    let arguments = [
        "luksFormat",
        "-q",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        "--key-file",
        "-",
        text(&path),
    ];
    run_with_input("cryptsetup", &arguments, "correct horse");
    make_ext(&path, None);
    // LUKS2 keeps its second header at 16 KiB, which ext may leave alone.
    assert_eq!(probe_file(&path).content, EXT);
    run_with_input("cryptsetup", &arguments, "correct horse");
    assert_eq!(probe_file(&path).content, Content::Encrypted(EncryptionKind::Luks2));
}

#[test]
fn xfs_over_a_partition_table() {
    let images = Images::new();
    let path = images.blank("was-gpt", 320 * MIB);
    run("sgdisk", &["-n", "1:2048:0", text(&path)]);
    make("mkfs.xfs", &["-q", "-f"], &path);
    assert_eq!(probe_file(&path).content, Content::Filesystem(FsKind::Xfs));
}
