//! Random bytes with a magic among them are nothing, and no changed byte makes the probe panic.

use stillframe_block::MemorySource;
use stillframe_probe::{Content, probe};

use crate::superblocks::{md_superblock, md_superblock_at, write_physical_volume};
use crate::tools::{Images, MIB, Seeded, run, text};

/// Short magics: what they would be, where they lie, their bytes.
const WEAK: &[(&str, usize, &[u8])] = &[
    ("ext", 1024 + 0x38, &[0x53, 0xef]),
    ("FAT", 510, &[0x55, 0xaa]),
    ("XFS", 0, b"XFSB"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("minix 1", 1024 + 16, &[0x7f, 0x13]),
    ("minix 2", 1024 + 16, &[0x68, 0x24]),
    ("minix 3", 1024 + 24, &[0x5a, 0x4d]),
    ("NILFS2", 1024 + 6, &[0x34, 0x34]),
    ("HFS", 1024, b"BD"),
    ("HFS+", 1024, b"H+"),
    ("F2FS", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    ("EROFS", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("squashfs", 0, b"hsqs"),
    ("cramfs", 0, &[0x45, 0x3d, 0xcd, 0x28]),
    ("APFS", 32, b"NXSB"),
    ("JFS", 32 << 10, b"JFS1"),
    ("GFS2", 64 << 10, &[0x01, 0x16, 0x19, 0x70]),
    ("UFS1", 8192 + 1372, &[0x54, 0x19, 0x01, 0x00]),
    ("UFS2", (64 << 10) + 1372, &[0x19, 0x01, 0x54, 0x19]),
    ("md 1.2", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("md 1.0", (1 << 20) - 8192, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("md 0.90", (1 << 20) - 65_536, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("btrfs", (64 << 10) + 64, b"_BHRfS_M"),
    ("LVM2", 512, b"LABELONE"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("CoreStorage", 88, b"CS"),
    ("ZFS", 128 << 10, &[0x0c, 0xb1, 0xba, 0x00]),
    ("GRUB", 510, &[0x20, 0x08]),
    ("ELF", 0, b"\x7fELF"),
    ("Sun label", 508, &[0xda, 0xbe]),
    ("Apple map", 0, b"ER"),
];

#[test]
fn a_magic_among_random_bytes_is_nothing() {
    let mut seeded = Seeded(0x5eed_0001);
    for (name, at, magic) in WEAK {
        for round in 0..20 {
            let mut bytes = seeded.bytes(1 << 20);
            bytes[*at..at + magic.len()].copy_from_slice(magic);
            let found = probe(&MemorySource(bytes)).unwrap().content;
            assert!(matches!(found, Content::Unknown { looks_random: true, .. }), "{name}, {round}: {found}");
        }
    }
}

#[test]
fn a_magic_among_zeros_is_nothing() {
    for (name, at, magic) in WEAK {
        let mut bytes = vec![0; 1 << 20];
        bytes[*at..at + magic.len()].copy_from_slice(magic);
        let found = probe(&MemorySource(bytes)).unwrap().content;
        assert!(matches!(found, Content::Unknown { looks_random: false, .. }), "{name}: {found}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let images = Images::new();
    let made: Vec<Vec<u8>> = [
        ("mkfs.ext4", &["-q", "-F"][..]),
        ("mkfs.btrfs", &["-q"]),
        ("mkfs.ntfs", &["-q", "-F"]),
        ("mkfs.fat", &[]),
        ("mkfs.exfat", &[]),
        ("mkfs.minix", &[]),
        ("mkfs.f2fs", &["-q"]),
        ("mkswap", &[]),
    ]
    .iter()
    .map(|(tool, arguments)| {
        let path = images.blank("image", 128 * MIB);
        let mut arguments = arguments.to_vec();
        arguments.push(text(&path));
        run(tool, &arguments);
        head_and_tail(&path)
    })
    .chain([members(&images)])
    .collect();
    let mut seeded = Seeded(0x5eed_0002);
    let mut still_known = 0;
    for image in &made {
        for _ in 0..300 {
            let mut bytes = image.clone();
            let places = [4096, 4096, 70 << 10, 260 << 10, bytes.len()];
            for _ in 0..=seeded.next() % 8 {
                let within = places[usize::try_from(seeded.next() % 5).unwrap()];
                let at = usize::try_from(seeded.next()).unwrap() % within;
                let change = seeded.next();
                bytes[at] = if change.is_multiple_of(4) { 0xff } else { change.to_le_bytes()[5] };
            }
            let cut = seeded.next();
            if cut.is_multiple_of(8) {
                bytes.truncate(usize::try_from(cut).unwrap() % bytes.len());
            }
            let content = probe(&MemorySource(bytes)).unwrap().content;
            still_known += u32::from(!matches!(content, Content::Unknown { .. } | Content::Empty));
        }
    }
    // Most changes hit nothing that matters: had the mutants lost their signatures, nothing would have been tested.
    assert!(still_known > 1800, "{still_known}");
}

/// The places where signatures lie, without what lies between.
fn head_and_tail(path: &std::path::Path) -> Vec<u8> {
    let mut bytes = crate::tools::read_at(path, 0, 512 << 10);
    bytes.extend(crate::tools::read_at(path, 127 * MIB, 1 << 20));
    bytes
}

/// Every kind of member at once.
fn members(images: &Images) -> Vec<u8> {
    let path = images.blank("members", 2 * MIB);
    write_physical_volume(&path, 2 * MIB);
    for version in stillframe_probe::MdVersion::ALL {
        let at = md_superblock_at(*version, 2 * MIB);
        if at > 4096 {
            crate::tools::write_at(&path, at, &md_superblock(*version, at));
        }
    }
    std::fs::read(path).unwrap()
}
