//! Filesystem images of other projects, compared with the listings beside them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::path::Path;

use crate::harness::{Place, corpora, files_below, rows_of};
use crate::listing::{
    Entry, Known, Listing, Side, assert_only, corpus_image, corpus_rows, differences, listed, tree, volumes,
};

/// Images of one disk, and their listings.
const IMAGES: [(&str, &str); 18] = [
    ("dissect-extfs/ext4.bin.gz", "dissect-extfs/ext4.bin.gz.tsv"),
    ("dissect-extfs/ext4_sparse.bin.gz", "dissect-extfs/ext4_sparse.bin.gz.tsv"),
    ("dissect-extfs/ext4_symlink_test.bin.gz", "dissect-extfs/ext4_symlink_test.bin.gz.tsv"),
    ("dissect-xfs/xfs.bin.gz", "dissect-xfs/xfs.bin.gz.tsv"),
    ("dissect-xfs/xfs_sparse.bin.gz", "dissect-xfs/xfs_sparse.bin.gz.tsv"),
    ("dissect-xfs/xfs_symlink_test.bin.gz", "dissect-xfs/xfs_symlink_test.bin.gz.tsv"),
    ("dissect-btrfs/btrfs-compression.bin.gz", "dissect-btrfs/btrfs-compression.bin.gz.tsv"),
    ("dissect-btrfs/btrfs-default.bin.gz", "dissect-btrfs/btrfs-default.bin.gz.tsv"),
    ("dissect-btrfs/btrfs-sparse.bin.gz", "dissect-btrfs/btrfs-sparse.bin.gz.tsv"),
    ("dissect-btrfs/btrfs-subvolume.bin.gz", "dissect-btrfs/btrfs-subvolume.bin.gz.tsv"),
    ("dissect-btrfs/btrfs-subvolume-custom-default.bin.gz", BTRFS_CUSTOM_DEFAULT),
    ("dissect-btrfs/btrfs-subvolume-nested.bin.gz", "dissect-btrfs/btrfs-subvolume-nested.bin.gz.tsv"),
    ("dissect-btrfs/btrfs-subvolume-snapshot.bin.gz", "dissect-btrfs/btrfs-subvolume-snapshot.bin.gz.tsv"),
    ("dissect-ntfs/ntfs.bin.gz", "dissect-ntfs/ntfs.bin.tsv"),
    ("ntfs-rs/testfs1.xz", "ntfs-rs/testfs1.tsv"),
    ("dissect-fat/fat12.bin.xz", "dissect-fat/fat12.tsv"),
    ("dissect-fat/fat32.bin.xz", "dissect-fat/fat32.tsv"),
    ("ext4-view/test_disk1.bin.zst", "ext4-view/test_disk1.bin.zst.tsv.xz"),
];
const BTRFS_CUSTOM_DEFAULT: &str = "dissect-btrfs/btrfs-subvolume-custom-default.bin.gz.tsv";

/// Images that cannot be read to their end. All others are complete.
const INCOMPLETE: [&str; 1] = ["ext4-view/test_disk1.bin.zst"];

const WITHOUT_DATA: Known = Known {
    side: Side::Changed,
    paths: &["/$Extend/$ObjId", "/$Extend/$Quota", "/$Extend/$Reparse"],
    why: "files that have indexes and no content: the list calls them `f-nodata`, we list them empty",
};

const SECURE: Known = Known {
    side: Side::Extra,
    paths: &["/$Secure"],
    why: "its content is the stream `$SDS` alone: the list has only that, ours the file too",
};

fn known(image: &str) -> Vec<Known> {
    match image {
        "dissect-ntfs/ntfs.bin.gz" | "ntfs-rs/testfs1.xz" => vec![WITHOUT_DATA, SECURE],
        "dissect-fat/fat12.bin.xz" => vec![label(&["/VOLLAB1"])],
        "dissect-fat/fat32.bin.xz" => vec![label(&["/LABFAT32"])],
        "ext4-view/test_disk1.bin.zst" => vec![Known {
            side: Side::Missing,
            paths: &["/encrypted_dir/*"],
            why: "its name and content are encrypted; the list has them as they lie on the disk",
        }],
        _ => Vec::new(),
    }
}

const fn label(paths: &'static [&'static str]) -> Known {
    Known { side: Side::Missing, paths, why: "the volume's label, which is an entry and no file" }
}

/// Where the trees of a btrfs listing lie in the top-level one: each tree is listed again from its own root.
fn subvolume(image: &str, tree: &str) -> &'static str {
    let name = image.trim_start_matches("dissect-btrfs/btrfs-").trim_end_matches(".bin.gz");
    match (name, tree) {
        (_, "5") => "",
        ("sparse", "256") => "/snapshot",
        ("subvolume" | "subvolume-custom-default" | "subvolume-snapshot", "256") => "/subvol",
        ("subvolume-snapshot", "257") => "/subvol-snapshot",
        ("subvolume-nested", "257") => "/default",
        _ => panic!("{image} has a tree {tree}"),
    }
}

/// The rows of a listing by their path in the whole filesystem, and where links lead.
fn expected_of(image: &str, listing: &Path) -> (Listing, Vec<(Vec<u8>, String)>) {
    let mut expected = Listing::new();
    let mut links = Vec::new();
    for (path, entry, column) in corpus_rows(listing) {
        let (root, target) = match column.strip_prefix("subvol=") {
            Some(rest) => {
                let (tree, target) = rest.split_once(' ').unwrap_or((rest, ""));
                (subvolume(image, tree), target)
            }
            None => ("", column.as_str()),
        };
        let path = [root.as_bytes(), &path].concat();
        if entry.kind == 'l' && !target.is_empty() {
            links.push((path.clone(), target.to_owned()));
        }
        // What a tree holds is listed twice, from two roots: both must say the same.
        let earlier: Option<Entry> = expected.insert(("whole".to_owned(), path.clone()), entry.clone());
        assert!(earlier.is_none_or(|earlier| earlier == entry), "{image}: {}", path.escape_ascii());
    }
    (expected, links)
}

/// Listings that other tests here compare.
const ELSEWHERE: [&str; 4] = [
    "dissect-btrfs/btrfs-dup.tsv",
    "dissect-btrfs/btrfs-raid0.tsv",
    "dissect-btrfs/btrfs-raid1.tsv",
    "ext4-view/test_disk_4k_block_journal.bin.zst.tsv",
];

#[test]
fn no_listing_is_left_out() {
    let Some(corpora) = corpora() else { return };
    let mut known: Vec<_> = IMAGES.iter().map(|(_, listing)| *listing).chain(ELSEWHERE).collect();
    known.sort_unstable();
    assert_eq!(files_below(&corpora.join("fs/expected")), known);
}

#[test]
fn every_image_is_listed_as_others_list_it() {
    let Some(corpora) = corpora() else { return };
    let (mut entries, mut followed) = (0, 0);
    for (image, listing) in IMAGES {
        let place = Place::new();
        let file = corpus_image(&place, &corpora.join("fs").join(image));
        let (expected, links) = expected_of(image, &corpora.join("fs/expected").join(listing));
        let (found, code) = listed(&place, &[&file]);
        assert_only(image, &known(image), &differences(&expected, &found));
        assert_eq!(code, if INCOMPLETE.contains(&image) { 2 } else { 0 }, "{image}");
        entries += expected.len();
        followed += assert_links(image, &file, &links);
    }
    eprintln!("{entries} entries and {followed} links compared");
    assert!(entries > 13_000 && followed > 25, "only {entries} entries and {followed} links were compared");
}

fn assert_links(image: &str, file: &Path, links: &[(Vec<u8>, String)]) -> usize {
    let volume = volumes(file).remove(0);
    let fs = stillframe_readers::open(volume.kind, volume.source).unwrap();
    let tree = tree(&*fs);
    for (path, target) in links {
        let id = tree.get(path).unwrap_or_else(|| panic!("{image}: {}", path.escape_ascii()));
        assert_eq!(
            fs.read_link(*id).unwrap().escape_ascii().to_string(),
            *target,
            "{image}: {}",
            path.escape_ascii()
        );
    }
    links.len()
}

/// What a mirror holds is on each of its disks; that one is missing makes the scan incomplete all the same.
#[test]
fn either_half_of_a_btrfs_mirror_has_every_file() {
    let Some(corpora) = corpora() else { return };
    let folder = corpora.join("fs/dissect-btrfs");
    let (expected, _) = expected_of("", &corpora.join("fs/expected/dissect-btrfs/btrfs-raid1.tsv"));
    for half in ["btrfs-raid1-1.bin.gz", "btrfs-raid1-2.bin.gz"] {
        let place = Place::new();
        let (found, code) = listed(&place, &[&corpus_image(&place, &folder.join(half))]);
        assert_only(half, &[], &differences(&expected, &found));
        assert_eq!(code, 2, "{half}");
    }
}

/// The disks of one filesystem are put together in any order, and listed by the one with the lowest number.
#[test]
fn a_btrfs_on_two_disks_is_one_filesystem() {
    let Some(corpora) = corpora() else { return };
    let folder = corpora.join("fs/dissect-btrfs");
    for name in ["btrfs-raid0", "btrfs-raid1", "btrfs-dup"] {
        let place = Place::new();
        let halves =
            ["1", "2"].map(|number| corpus_image(&place, &folder.join(format!("{name}-{number}.bin.gz"))));
        let listing = corpora.join(format!("fs/expected/dissect-btrfs/{name}.tsv"));
        for (order, first) in [([&halves[0], &halves[1]], "disk0"), ([&halves[1], &halves[0]], "disk1")] {
            let (found, code) = listed(&place, &[order[0], order[1]]);
            let expected = expected_of("", &listing).0.into_iter();
            let expected: Listing =
                expected.map(|((_, path), entry)| ((first.to_owned(), path), entry)).collect();
            assert_only(name, &[], &differences(&expected, &found));
            assert_eq!(code, 0, "{name}");
        }
        let rows = rows_of(&place.scan_all(&[&halves[0], &halves[1]]).0);
        let filesystems: Vec<_> = rows.iter().filter(|row| row.starts_with("filesystem")).collect();
        assert_eq!(filesystems, ["filesystem disk0 scanned"], "{rows:?}");
    }
}

#[test]
fn half_of_a_striped_btrfs_is_not_called_read() {
    let Some(corpora) = corpora() else { return };
    let place = Place::new();
    let half = corpus_image(&place, &corpora.join("fs/dissect-btrfs/btrfs-raid0-1.bin.gz"));
    let (report, code) = place.scan(&half);
    let rows = rows_of(&report);
    assert_eq!(code, 2, "{rows:?}");
    assert!(rows.iter().any(|row| row.starts_with("filesystem") && !row.ends_with("scanned")), "{rows:?}");
}

/// The journal of this image holds most of what is on it: its listing in the corpora was made without a replay and names
/// one folder. The second reader's view of it is compared in `second_reader`.
#[test]
fn a_journal_full_of_directories_is_replayed() {
    let Some(corpora) = corpora() else { return };
    let place = Place::new();
    let image = corpus_image(&place, &corpora.join("fs/ext4-view/test_disk_4k_block_journal.bin.zst"));
    let (found, code) = listed(&place, &[&image]);
    assert_eq!(code, 0);
    let (unreplayed, _) =
        expected_of("", &corpora.join("fs/expected/ext4-view/test_disk_4k_block_journal.bin.zst.tsv"));
    assert!(unreplayed.keys().all(|key| found.contains_key(key)) && found.len() > 700, "{}", found.len());

    let (report, _) = place.scan(&image);
    let row = &report["coverage"].as_array().unwrap().iter().find(|row| row["kind"] == "filesystem").unwrap();
    assert_eq!(row["status"], "scanned", "{row}");
    assert_eq!(row["dirty"], true, "{row}");
    assert!(row["notes"].as_array().unwrap().contains(&"journal replayed".into()), "{row}");
    assert!(row.get("faults").is_none(), "{row}");
}
