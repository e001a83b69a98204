//! The checksums are those that the readers compare, and a slice of the mutants that `mutate` makes is read well.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it met"
)]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "the disks are ours")]
#![allow(clippy::cast_possible_truncation, reason = "lengths of structures")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use stillframe_block::{BlockSource, SparseMemorySource};
use stillframe_fixtures::golden_names;
use stillframe_mutations::{
    Covers, Depth, Disk, ENTRIES, Golden, Guarded, Listing, Mutant, Sum, read_all_into, small_budget, volumes,
};

/// The checksums of each kind that a golden disk is known to have, so that none is lost from sight.
#[test]
fn the_checksums_of_golden_disks_are_found() {
    let count = |name: &str, is: &dyn Fn(&Sum) -> bool| {
        Golden::open(name).covers.all().iter().filter(|cover| is(&cover.sum) && !cover.is_data).count()
    };
    let any = |_: &Sum| true;
    assert!(count("ext4-htree", &|sum| matches!(sum, Sum::Htree { .. })) >= 2);
    for name in golden_names() {
        eprintln!("{name} {}", count(&name, &any));
    }
    assert_eq!(count("xfs-v4", &any), 0);
    assert!(count("btrfs-zstd", &any) > 10);
    assert!(Golden::open("btrfs-zstd").covers.all().iter().any(|cover| cover.is_data));
    // Of the one the first copy is damaged.
    assert_eq!(count("gpt-backup", &|sum| *sum == Sum::Crc32), 2);
    assert_eq!(count("gpt-4k", &|sum| *sum == Sum::Crc32), 4);
}

#[test]
fn golden_disks_whose_checksums_guard_them_are_known() {
    let guarded = |name: &str| {
        let golden = Golden::open(name);
        let volume = &golden.volumes[0];
        let opened = volume.open(golden.disk.clone(), small_budget()).unwrap();
        Guarded::on(&golden, volume, opened.fs.description())
    };
    assert_eq!(guarded("btrfs-fsync"), Some(Guarded::All));
    assert_eq!(guarded("xfs-1k"), Some(Guarded::Metadata));
    assert_eq!(guarded("ext4-casefold"), Some(Guarded::MetadataButTargets));
    for name in ["xfs-v4", "xfs-dirty", "ext4-journal", "ext2-sparse", "ntfs-streams"] {
        assert_eq!(guarded(name), None, "{name}");
    }
}

fn listing(disk: Arc<dyn BlockSource>) -> Listing {
    let mut listing = Listing::new();
    for volume in volumes(&disk) {
        let Ok(opened) = volume.open(disk.clone(), small_budget()) else { continue };
        read_all_into(&opened, 10 * ENTRIES, &mut |path, row| {
            listing.insert(path, row);
        });
    }
    listing
}

/// Turns a byte of what each checksum covers and back again, each time making the checksums right: the disk is what it was.
#[test]
fn two_changes_that_undo_each_other_leave_the_disk_as_it_was() {
    for name in golden_names() {
        let golden = Golden::open(&name);
        let mut mutant = golden.mutant();
        for cover in golden.covers.all().iter().step_by(29) {
            let at = cover.bounds().start + 8;
            let mut byte = [0];
            mutant.read_exact_at(at, &mut byte).unwrap();
            golden.covers.write(&mut mutant, at, &[!byte[0]], Depth::Data);
            golden.covers.write(&mut mutant, at, &byte, Depth::Data);
        }
        let (mut before, mut after) = ([0; 4096], [0; 4096]);
        for page in &golden.pages {
            golden.disk.read_exact_at(*page, &mut before).unwrap();
            mutant.read_exact_at(*page, &mut after).unwrap();
            assert!(before == after, "{name}: the page at {page:#x} changed");
        }
    }
}

/// How many rows a change of this place makes differ, with the checksums made right or not.
fn changed(golden: &Golden, truth: &Listing, at: u64, byte: u8, depth: Depth) -> (usize, usize) {
    let mut mutant: Mutant = golden.mutant();
    golden.covers.write(&mut mutant, at, &[byte], depth);
    let after = listing(Arc::new(mutant));
    let is_same = |path: &&Vec<u8>| after.get(*path) == truth.get(*path);
    (
        truth.keys().filter(|path| !is_same(path)).count(),
        after.keys().filter(|path| !truth.contains_key(*path)).count(),
    )
}

/// Every place of a page where these bytes begin.
fn places_of(disk: &SparseMemorySource, pages: &[u64], name: &[u8]) -> Vec<u64> {
    let mut bytes = [0; 4096];
    let mut places = Vec::new();
    for page in pages {
        disk.read_exact_at(*page, &mut bytes).unwrap();
        let found = bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name);
        places.extend(found.map(|(within, _)| page + within as u64));
    }
    places
}

/// A name in a directory is changed. The reader believes the new one where checksums were made right, and no name that was
/// not there where they were not.
#[test]
fn a_reader_believes_a_change_with_its_checksums_and_none_without() {
    for name in ["ext4-casefold", "ext4-meta-bg", "xfs-1k", "btrfs-zstd"] {
        let golden = Golden::open(name);
        let truth = listing(golden.disk.clone());
        // The longest names stand in one place only.
        let mut names: Vec<&[u8]> =
            truth.keys().filter_map(|path| path.rsplit(|byte| *byte == b'/').next()).collect();
        names.sort_by_key(|name| (std::cmp::Reverse(name.len().min(40)), name.to_vec()));
        // Journals and blocks that are free again may hold the name, too.
        let mut believed = 0;
        for at in places_of(&golden.disk, &golden.pages, names[0]) {
            let shown = format!("{name}: {} at {at:#x}", names[0].escape_ascii());
            assert_eq!(changed(&golden, &truth, at, b'~', Depth::None).1, 0, "{shown}");
            believed += usize::from(changed(&golden, &truth, at, b'~', Depth::Metadata).1 > 0);
        }
        assert!(believed > 0, "{name}: {}", names[0].escape_ascii());
    }
}

#[test]
fn a_slice_of_the_mutants_is_read_well() {
    let output = Command::new(env!("CARGO_BIN_EXE_mutate"))
        .args(["--count", "1200", "--entries", "200"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.lines().filter(|line| !line.contains(' ')).count() < 3);
}

#[test]
fn covers_of_an_empty_disk_are_none() {
    let disk = SparseMemorySource::from_reader(&[0; 8192][..]).unwrap();
    let everything = ["ext4", "xfs", "btrfs", "exfat"].map(|kind| (0..8192, kind.to_owned()));
    let covers = Covers::of(&disk, &[], &everything);
    assert!(covers.all().is_empty());
    let mut disk = disk;
    covers.write(&mut disk, 10, &[1, 2], Depth::Data);
    disk.put(11, &[3]);
    let mut bytes = [0; 4];
    disk.read_exact_at(9, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 3, 0]);
}

/// The images that e2fsprogs repairs and that crashed btrfs-progs.
#[test]
fn damaged_images_of_other_projects_are_read_well() {
    let Some(corpora) = std::env::var_os("STILLFRAME_CORPORA") else {
        eprintln!("STILLFRAME_CORPORA is unset: damaged images of other projects are not read");
        return;
    };
    let folder = |name: &str| Path::new(&corpora).join("fs").join(name).read_dir().unwrap();
    let is_image = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "image");
    let inside = |path: PathBuf| path.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path());
    let ext: Vec<_> =
        folder("e2fsprogs").flat_map(|entry| inside(entry.unwrap().path())).filter(is_image).collect();
    let is_packed = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "xz" || ending == "gz");
    let btrfs: Vec<_> =
        folder("btrfs-progs-fuzz").map(|entry| entry.unwrap().path()).filter(is_packed).collect();
    assert_eq!((ext.len(), btrfs.len()), (111, 17));
    let mut program = Command::new(env!("CARGO_BIN_EXE_mutate"));
    let output = program.args(["--entries", "300", "--files"]).args(ext).args(btrfs).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    assert!(output.status.success() && said.contains("\n128 mutants of 1 images"), "{said}");
}
