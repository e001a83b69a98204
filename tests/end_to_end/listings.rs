//! Every golden image, listed and hashed by the program, compared with what another tool lists.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use stillframe_block::Budget;
use stillframe_fixtures::{ExpectedEntry, expected, golden_names};
use stillframe_fs::{FileKind, ReadOnlyFs};
use stillframe_model::{Coverage, Status};
use stillframe_scanner::Disk;
use stillframe_scanner::files::{FilesOptions, files};
use stillframe_scanner::progress::Progress;

use crate::harness::Place;
use crate::listing::{Known, Side, assert_only, differences, golden_listing, listed, tree, volumes};

/// The filesystem's own files, which the fixtures leave out: ntfs-3g does not show them.
const METAFILES: Known = Known {
    side: Side::Extra,
    paths: &[
        "/$AttrDef",
        "/$BadClus",
        "/$BadClus:$Bad",
        "/$Bitmap",
        "/$Boot",
        "/$Extend",
        "/$Extend/$ObjId",
        "/$Extend/$Quota",
        "/$Extend/$Reparse",
        "/$LogFile",
        "/$MFT",
        "/$MFTMirr",
        "/$Secure",
        "/$Secure:$SDS",
        "/$UpCase",
        "/$UpCase:$Info",
        "/$Volume",
    ],
    why: "NTFS keeps its own structures in files; our listing has them, the kernel's view has not",
};

const LOCKED: Known = Known {
    side: Side::Missing,
    paths: &["/locked/*"],
    why: "names and contents are encrypted; no name is better than a made-up one, and the folder is a fault in the row",
};

fn known(image: &str) -> Vec<Known> {
    match image {
        "ntfs-streams" | "ntfs-metadata" | "ntfs-wof" | "windows-shape" => vec![METAFILES],
        "ext4-encrypt" => vec![LOCKED],
        _ => Vec::new(),
    }
}

/// The rows that leave a listing incomplete: what, how far, why. All other images are complete.
fn unread(image: &str) -> &'static [&'static str] {
    match image {
        "ext4-encrypt" => &[
            "disk0 Partial: 1 fault; what was whole was read; /locked encrypted: found ext4 file encryption",
        ],
        "btrfs-stale" => &[
            "disk0/p1 Partial: 1 fault; what was whole was read; device generation at 0x48: claimed 8, found 7",
        ],
        "luks" => &["disk0/p1 Encrypted: LUKS2", "disk0/p2 Encrypted: LUKS1"],
        "lvm-pv" => &["disk0/p1 Unsupported: not read yet: LVM2 physical volume"],
        "md-member" => &["disk0/p1 Unsupported: not read yet: md 1.2 member"],
        "unknown-content" => &[
            "disk0/p1 Unsupported: content of unknown kind; content at 0x0: claimed a known signature, found bytes without a known signature",
        ],
        _ => &[],
    }
}

#[test]
fn every_golden_image_is_listed_as_another_tool_lists_it() {
    let mut compared = 0;
    for name in golden_names() {
        let place = Place::new();
        let image = place.golden(&name);
        let expected = golden_listing(&name);
        let (found, code) = listed(&place, &[&image]);
        assert_only(&name, &known(&name), &differences(&expected, &found));
        assert_eq!(code, if unread(&name).is_empty() { 0 } else { 2 }, "{name}");
        compared += expected.len();
    }
    assert!(compared > 13_000, "only {compared} entries were compared");
}

#[test]
fn what_a_listing_lacks_is_in_its_rows() {
    for name in golden_names().into_iter().filter(|name| !unread(name).is_empty()) {
        let place = Place::new();
        let disks = Disk::open_all(&[place.golden(&name)], 16 << 20).unwrap();
        let options = FilesOptions { sha256: true, budget: Budget::default() };
        let rows = files(&disks, options, &Progress::default(), &mut Vec::new()).unwrap();
        let incomplete: Vec<_> = rows.iter().filter(|row| !row.is_complete()).map(told).collect();
        assert_eq!(incomplete, unread(&name), "{name}");
    }
}

/// A row with its reason and faults in one line.
fn told(row: &Coverage) -> String {
    assert_ne!(row.status, Status::Scanned);
    let faults = row.faults.iter().map(|fault| match &fault.path {
        Some(path) => format!("; {path} {}", fault.line()),
        None => format!("; {}", fault.line()),
    });
    let reason = row.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{} {:?}: {reason}{}", row.name, row.status, faults.collect::<String>())
}

/// Where a snapshot was taken of a subvolume that holds another: the folder has no inode, and the kernel makes one
/// up: 0755 of root, changed when it is looked at.
const PLACEHOLDER: (&str, &[u8]) = ("btrfs-zstd", b"/snapshots/first/nested");

/// How many values were compared of each kind.
type Compared = BTreeMap<&'static str, usize>;

#[test]
fn mode_owner_and_time_are_those_that_another_tool_shows() {
    let mut compared = Compared::new();
    for name in golden_names() {
        let place = Place::new();
        let unlisted: Vec<Known> = known(&name);
        let expected = expected(&name);
        for volume in volumes(&place.golden(&name)) {
            let fs =
                stillframe_readers::open_devices(volume.kind, volume.source.clone(), volume.more).unwrap();
            let tree = tree(&*fs);
            for entry in expected.iter().filter(|entry| entry.filesystem == volume.short_name) {
                let shown = format!("{name} {}", entry.path.escape_ascii());
                let Some(id) = tree.get(&entry.path) else {
                    let is_stream = fs.description().kind == "ntfs" && entry.path.contains(&b':');
                    assert!(is_stream || !unlisted.is_empty(), "{shown} is not there");
                    continue;
                };
                if (name.as_str(), entry.path.as_slice()) == PLACEHOLDER {
                    let metadata = fs.metadata(*id).unwrap();
                    assert_eq!(
                        (metadata.mode, metadata.uid, metadata.modified),
                        (Some(0o40755), Some(0), None)
                    );
                    continue;
                }
                compare(&shown, &*fs, *id, entry, &mut compared);
            }
        }
    }
    let enough = [("kind", 12_900), ("mode", 12_000), ("owner", 24_000), ("modification time", 12_000)];
    for (what, least) in enough {
        assert!(compared.get(what).is_some_and(|count| *count > least), "{what}: {compared:?}");
    }
}

fn compare(
    shown: &str,
    fs: &dyn ReadOnlyFs,
    id: stillframe_fs::FileId,
    entry: &ExpectedEntry,
    compared: &mut Compared,
) {
    let metadata = fs.metadata(id).unwrap();
    let hidden = &fs.description().hidden;
    let mut compare = |what: &'static str, found: Option<i64>, expected: Option<i64>| {
        let is_hidden = hidden.iter().any(|hidden| hidden.starts_with(what));
        assert_eq!(found.is_none(), is_hidden, "{shown}: {what} is {found:?}; hidden: {hidden:?}");
        if let (Some(found), Some(expected)) = (found, expected) {
            assert_eq!(found, expected, "{shown}: {what}");
            *compared.entry(what).or_default() += 1;
        }
    };
    compare("mode", metadata.mode.map(|mode| i64::from(mode & 0o7777)), entry.mode.map(i64::from));
    compare("owner", metadata.uid.map(i64::from), entry.uid.map(i64::from));
    compare("owner", metadata.gid.map(i64::from), entry.gid.map(i64::from));
    compare("modification time", metadata.modified.map(|modified| modified.seconds), entry.modified_seconds);
    assert_eq!(metadata.kind.letter(), entry.kind, "{shown}");
    if let Some(mode) = metadata.mode {
        assert_eq!(FileKind::from_mode(mode), metadata.kind, "{shown}");
    }
    *compared.entry("kind").or_default() += 1;
}
