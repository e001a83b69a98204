//! The golden disks, changed where it matters.

use std::sync::Arc;

use stillframe_block::MemorySource;
use stillframe_fs::FsError;

use crate::support::{content, find, list, use_all, walk};
use crate::volume::{Volume, open};

const FORMS: &str = "exfat-forms";

/// What is wrong with the file at `path` after `change`, which is given where its set begins.
fn fault_of(path: &str, change: impl FnOnce(&mut Volume, usize)) -> &'static str {
    let mut volume = Volume::golden(FORMS);
    let set = volume.set_of(path);
    let id = find(&*volume.open().unwrap(), path);
    change(&mut volume, set);
    volume.sum_set(set);
    let fs = volume.open().unwrap();
    match fs.open(id).map(|_| ()) {
        Ok(()) => "opened",
        Err(FsError::Corrupt(fault)) => fault.what,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_backup_stands_in_for_a_damaged_boot_region_and_is_named() {
    for name in [FORMS, "exfat-4k"] {
        let whole = walk(&*Volume::golden(name).open().unwrap());
        for damage in [3, 64, 80, 510, 600] {
            let mut volume = Volume::golden(name);
            volume.0[damage] ^= 0xFF;
            let fs = volume.open().unwrap();
            assert_eq!(walk(&*fs), whole, "{name} {damage}");
            assert_eq!(fs.faults()[0].what, "main boot region");
            assert_eq!(fs.description().notes, ["read by the backup boot region"]);
            let sector = 1 << volume.0[108];
            volume.0[12 * sector + 200] ^= 1;
            assert!(matches!(volume.open(), Err(FsError::Corrupt(_))), "{name} {damage}: both");
        }
        let mut volume = Volume::golden(name);
        volume.0[..4096].fill(0);
        assert_eq!(walk(&*volume.open().unwrap()), whole, "{name}: the first sectors are gone");
    }
}

#[test]
fn what_changes_while_mounted_is_not_in_the_checksum() {
    let mut volume = Volume::golden(FORMS);
    volume.0[106] |= 2;
    volume.0[112] = 77;
    let fs = volume.open().unwrap();
    assert_eq!((fs.description().dirty, fs.faults()), (Some(true), Vec::new()));
}

#[test]
fn impossible_boot_sectors_are_refused_and_other_formats_named() {
    let changes: [(usize, &[u8]); 9] = [
        (72, &[0xFF; 8]),
        (72, &[1, 0, 0, 0, 0, 0, 0, 0]),
        (80, &[23, 0, 0, 0]),
        (84, &[1, 0, 0, 0]),
        (88, &[0, 0, 0, 0]),
        (92, &[0, 0, 0, 0]),
        (92, &[0xFF; 4]),
        (109, &[17]),
        (109, &[255]),
    ];
    let refused = |at: usize, bytes: &[u8]| {
        let mut volume = Volume::golden(FORMS);
        for region in [0, 12 * 512] {
            volume.0[region + at..][..bytes.len()].copy_from_slice(bytes);
            volume.sum_boot(region);
        }
        volume.open().map(|_| ()).unwrap_err()
    };
    for (at, bytes) in changes {
        assert!(matches!(refused(at, bytes), FsError::Corrupt(_)), "{at} {bytes:?}");
    }
    assert!(matches!(refused(110, &[2]), FsError::Unsupported("TexFAT (exFAT with two FATs)")));
    assert!(matches!(refused(105, &[2]), FsError::Unsupported(_)));
    let fat = open(Arc::new(MemorySource(vec![0; 1 << 20]))).map(|_| ());
    assert!(matches!(fat, Err(FsError::Corrupt(fault)) if fault.what == "file system name"));
}

#[test]
fn chains_that_do_not_hold_the_file_are_faults() {
    let path = "first in pieces.bin";
    let chained = |to: u32| {
        fault_of(path, |volume, _| {
            let entry = volume.fat_entry(volume.first_cluster(path));
            volume.set_u32(entry, to);
        })
    };
    let first = Volume::golden(FORMS).first_cluster(path) as u32;
    assert_eq!(chained(first), "cluster chain");
    assert_eq!(chained(u32::MAX), "cluster chain length");
    for bad in [0, 1, 12_290, 0xFFFF_FFF7] {
        assert_eq!(chained(bad), "cluster chain", "{bad:#x}");
    }
}

#[test]
fn claims_of_a_size_are_bounded_by_the_volume() {
    let sized = |path: &str, size: u64| {
        fault_of(path, |volume, set| {
            volume.set_u64(set + 32 + 8, size);
            volume.set_u64(set + 32 + 24, size);
        })
    };
    for path in ["first in pieces.bin", "deep/contiguous.bin"] {
        assert_eq!(sized(path, 1 << 63), "data length in clusters");
        assert_eq!(sized(path, u64::MAX), "data length in clusters");
    }
    assert_eq!(sized("first in pieces.bin", 6 << 20), "cluster chain length");
    assert_eq!(sized("deep/contiguous.bin", 6 << 20), "contiguous clusters");
    let valid = |volume: &mut Volume, set: usize| volume.set_u64(set + 32 + 8, 70_002);
    assert_eq!(fault_of("deep/contiguous.bin", valid), "valid data length");
    let unallocated = |volume: &mut Volume, set: usize| volume.0[set + 33] = 0;
    assert_eq!(fault_of("deep/contiguous.bin", unallocated), "data length without allocation");
}

/// The names of the root and the fault that reading it ends with, after `change` at the set of `plain.txt`.
fn root_after(change: impl FnOnce(&mut Volume, usize)) -> (usize, Option<&'static str>) {
    let mut volume = Volume::golden(FORMS);
    let set = volume.set_of("plain.txt");
    change(&mut volume, set);
    let fs = volume.open().unwrap();
    let mut names = 0;
    let outcome = fs.read_dir(fs.root(), &mut |_| {
        names += 1;
        std::ops::ControlFlow::Continue(())
    });
    match outcome {
        Ok(()) => (names, None),
        Err(FsError::Corrupt(fault)) => (names, Some(fault.what)),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_damaged_set_is_a_fault_and_the_others_are_listed() {
    let (all, none) = root_after(|_, _| {});
    assert!(all > 8 && none.is_none());
    assert_eq!(root_after(|volume, set| volume.0[set + 12] ^= 1), (all - 1, Some("entry set checksum")));
    assert_eq!(root_after(|volume, set| volume.0[set + 1] = 1), (all - 1, Some("secondary count")));
    assert_eq!(root_after(|volume, set| volume.0[set + 1] = 3), (all - 1, Some("entries of a set")));
    let separator = |volume: &mut Volume, set: usize| {
        volume.0[set + 64 + 2] = b'/';
        volume.sum_set(set);
    };
    assert_eq!(root_after(separator), (all - 1, Some("file name")));
    let unknown_primary = |volume: &mut Volume, set: usize| volume.0[set] = 0x84;
    assert_eq!(root_after(unknown_primary), (all - 1, Some("entry type")));
    let deleted = |volume: &mut Volume, set: usize| {
        for entry in 0..3 {
            volume.0[set + entry * 32] &= 0x7F;
        }
    };
    assert_eq!(root_after(deleted), (all - 1, None));
    // A critical secondary that nobody knows spoils its set.
    let unknown_secondary = |volume: &mut Volume, set: usize| {
        volume.0[set + 64] = 0xC3;
        volume.sum_set(set);
    };
    assert_eq!(root_after(unknown_secondary), (all - 1, Some("entry type")));
}

#[test]
fn vendor_entries_behind_a_name_are_passed_over() {
    let mut volume = Volume::golden(FORMS);
    // The second piece of the name becomes a vendor's: the name that is left has the first fifteen units.
    let set = volume.set_of("sixteen chars.xx");
    volume.0[set + 96] = 0xE0;
    volume.0[set + 32 + 3] = 15;
    volume.sum_set(set);
    assert_eq!(content(&*volume.open().unwrap(), "sixteen chars.x").unwrap(), b"two entries\n");
}

#[test]
fn a_time_without_an_offset_is_none() {
    let mut volume = Volume::golden(FORMS);
    let set = volume.set_of("plain.txt");
    volume.0[set + 23] = 0;
    volume.sum_set(set);
    let fs = volume.open().unwrap();
    assert_eq!(fs.metadata(find(&*fs, "plain.txt")).unwrap().modified, None);
}

#[test]
fn a_directory_on_a_cycle_ends_and_says_so() {
    let mut volume = Volume::golden(FORMS);
    let set = volume.set_of("many");
    let size = volume.size("many");
    // A chain of one cluster that leads to itself.
    volume.0[set + 33] = 1;
    volume.sum_set(set);
    let first = volume.first_cluster("many");
    assert!(size > 1024 && volume.cluster_at(first) > 0);
    let entry = volume.fat_entry(first);
    volume.set_u32(entry, first as u32);
    let fs = volume.open().unwrap();
    let outcome = list(&*fs, find(&*fs, "many"));
    assert!(matches!(outcome, Err(FsError::Corrupt(fault)) if fault.what == "directory's clusters"));
}

#[test]
fn a_cut_image_is_an_error() {
    let whole = Volume::golden(FORMS).0;
    for len in [0, 10, 511, 512, 6000, 7000, 100_000, 2 << 20, 3 << 20] {
        if let Ok(fs) = open(Arc::new(MemorySource(whole[..len].to_vec()))) {
            assert!(fs.faults().iter().any(|fault| fault.what == "volume length"), "{len}");
            use_all(&*fs);
        }
    }
}

#[test]
fn a_chain_ends_where_the_image_is_cut() {
    let path = "first in pieces.bin";
    let whole = Volume::golden(FORMS);
    let file = content(&*whole.open().unwrap(), path).unwrap();
    let (set, first) = (whole.set_of(path), whole.first_cluster(path));
    let end = whole.cluster_at(first).max(set) + 512;
    let mut cut = Volume(whole.0[..end].to_vec());
    // A cluster of the volume, and none of the image.
    let entry = cut.fat_entry(first);
    cut.set_u32(entry, 12_000);
    let id = find(&*whole.open().unwrap(), path);
    let opened = cut.open().unwrap().open(id).map(|_| ());
    assert!(matches!(opened, Err(FsError::Corrupt(fault)) if fault.what == "cluster chain"));
    cut.set_u64(set + 32 + 8, 512);
    cut.set_u64(set + 32 + 24, 512);
    cut.set_u32(entry, u32::MAX);
    cut.sum_set(set);
    assert_eq!(content(&*cut.open().unwrap(), path).unwrap(), file[..512]);
}
