//! Real images that nobody here made, judged as `blkid` judges them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stillframe_probe::{Content, FsKind, MemberKind, UnsupportedKind};

use crate::tools::{Images, blkid_answer, blkid_name, probe_file};

/// The corpora's folder of filesystem images, where the environment names it.
fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("STILLFRAME_CORPORA");
    if folder.is_none() {
        eprintln!("STILLFRAME_CORPORA is not set: real images are not looked at");
    }
    Some(PathBuf::from(folder?).join("fs"))
}

/// Decompresses to a file of its own, with holes where `xz` leaves them.
fn unpacked(image: &Path, images: &Images) -> Option<PathBuf> {
    let path = images.path("image");
    let mut input = File::open(image).unwrap_or_else(|error| panic!("{}: {error}", image.display()));
    let mut output = File::create(&path).unwrap();
    match image.extension()?.to_str()? {
        "gz" => {
            io::copy(&mut flate2::read::GzDecoder::new(input), &mut output).unwrap();
        }
        "zst" => {
            io::copy(&mut ruzstd::decoding::StreamingDecoder::new(input).unwrap(), &mut output).unwrap();
        }
        "xz" => {
            let xz = Command::new("xz").args(["-dc"]).stdin(Stdio::from(input)).stdout(output).status();
            assert!(xz.expect("xz is needed by this test").success(), "{}", image.display());
        }
        "bin" | "dd" | "iso" | "sqs" => {
            io::copy(&mut input, &mut output).unwrap();
        }
        _ => return None,
    }
    Some(path)
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// What `blkid` does not know, names as a partition table only, or refuses because what lies behind the superblock is
/// damaged: here the reader says so.
const BEYOND_BLKID: [(&str, Content); 7] = [
    ("btrfs-progs-fuzz/bad-superblock-1.raw.xz", Content::Filesystem(FsKind::Btrfs)),
    ("btrfs-progs-fuzz/bad-superblock-2.raw.xz", Content::Filesystem(FsKind::Btrfs)),
    ("dissect-ntfs/boot_2m.bin.gz", Content::Filesystem(FsKind::Ntfs)),
    ("dm/dm-thin-metadata.bin.gz", Content::Member(MemberKind::ThinPoolMetadata)),
    ("dm/dm-thin-empty-metadata.bin.gz", Content::Member(MemberKind::ThinPoolMetadata)),
    ("disk/apm.bin", Content::Unsupported(UnsupportedKind::ApplePartitionMap)),
    ("disk/bsd.bin", Content::Unsupported(UnsupportedKind::BsdDisklabel)),
];

#[test]
fn real_images_are_what_blkid_says() {
    let Some(corpora) = corpora() else { return };
    let images = Images::new();
    let mut files = Vec::new();
    files_below(&corpora, &mut files);
    let (mut known, mut wrong) = (0, Vec::new());
    for file in files.iter().filter(|file| !file.starts_with(corpora.join("expected"))) {
        let Some(path) = unpacked(file, &images) else { continue };
        let found = probe_file(&path).content;
        let name = file.strip_prefix(&corpora).unwrap().display().to_string();
        if let Some((_, expected)) = BEYOND_BLKID.iter().find(|(end, _)| name.ends_with(end)) {
            assert_eq!(found, *expected, "{name}");
            continue;
        }
        let answer = blkid_answer(&path);
        let ours = match found {
            Content::Unknown { .. } | Content::Empty => String::new(),
            found => blkid_name(found),
        };
        known += u32::from(!answer.is_empty());
        if ours != answer {
            wrong.push(format!("{name}: {ours}, and not {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(known >= 170, "{known} images with a signature");
}

#[test]
fn physical_volumes_have_the_uuid_that_blkid_says() {
    let Some(corpora) = corpora() else { return };
    let images = Images::new();
    for name in ["lvm.bin.gz", "lvm-thin.bin.gz"] {
        let path = unpacked(&corpora.join("dissect-volume/lvm").join(name), &images).unwrap();
        let uuid = crate::tools::blkid(&path).remove("UUID");
        assert!(uuid.is_some(), "{name}");
        assert_eq!(probe_file(&path).detail.uuid, uuid, "{name}");
    }
}
