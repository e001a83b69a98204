//! The walk and the delivery over a filesystem that is made up here, and that can misbehave in every way.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does the filesystem in it"
)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "all of it is made here")]

mod detectors;
mod made_up;
mod misbehaviour;

use std::collections::BTreeMap;
use std::sync::Arc;

use detectors::{Entries, Facts, Opens, Streams, Wholes};
use made_up::MadeUp;
use stillframe_block::{Budget, BudgetSource, MemorySource, ReadError};
use stillframe_detectors::{Detector, Matcher};
use stillframe_fs::{FileKind, FsError, ReadOnlyFs};
use stillframe_model::{FingerprintKey, PathView};
use stillframe_scanner::deliver::{FilesystemDelivery, Finder, Harvest};
use stillframe_scanner::mount::{Mount, Mounts};
use stillframe_scanner::progress::Progress;
use stillframe_scanner::walk::{Limits, Outcome, walk};

/// Walks `fs` as the machine's root and hands what is wanted to `detectors`.
fn run(fs: &dyn ReadOnlyFs, limits: Limits, detectors: &[Box<dyn Detector>]) -> (Outcome, Harvest) {
    run_within(Budget::default(), fs, limits, detectors)
}

fn run_within(
    budget: Budget,
    fs: &dyn ReadOnlyFs,
    limits: Limits,
    detectors: &[Box<dyn Detector>],
) -> (Outcome, Harvest) {
    let mounts = Mounts::new(vec![Mount { system: 0, folder: Vec::new(), at: Vec::new() }]);
    let (matcher, progress) = (Matcher::new(detectors), Progress::default());
    let finder = Finder::new(&matcher, &mounts);
    let outcome = walk(fs, limits, &finder, &progress);
    let key = FingerprintKey::new([9; 32]);
    let view = PathView::Masked(&key);
    let budget = &BudgetSource::new(Arc::new(MemorySource::default()), budget);
    let progress = &progress;
    let delivery =
        FilesystemDelivery { fs, volume: "disk0", detectors, budget, view, progress, journal: &|_| {} };
    let harvest = delivery.run(finder.into_wanted());
    (outcome, harvest)
}

fn faults(faults: &[(Vec<u8>, FsError)]) -> Vec<String> {
    let mut shown: Vec<_> =
        faults.iter().map(|(path, error)| format!("{}: {error}", String::from_utf8_lossy(path))).collect();
    shown.sort();
    shown
}

const WANTED: &str = "/etc/wanted";

/// `/etc/wanted` with `len` bytes, and a file beside it that nobody wants.
fn one_wanted(len: usize) -> MadeUp {
    let mut fs = MadeUp::default();
    fs.file(WANTED, (0..=255).cycle().take(len).collect());
    fs.file("/etc/unwanted", vec![1; 1000]);
    fs
}

#[test]
fn three_detectors_share_one_open_and_one_read_of_each_byte() {
    let len = 700_001;
    let fs = one_wanted(len);
    let detectors: Vec<Box<dyn Detector>> =
        vec![Box::new(Wholes(1 << 20)), Box::new(Streams::to_end()), Box::new(Opens), Box::new(Entries)];
    let (outcome, harvest) = run(&fs, Limits::default(), &detectors);
    assert_eq!((outcome.entries, outcome.fault_count), (3, 0));
    assert!(harvest.faults.is_empty(), "{:?}", harvest.faults);
    let sum = fs.sum(WANTED);
    let expected = [
        "entry".to_owned(),
        format!("open {len} {sum}"),
        format!("stream {len} {sum}"),
        format!("whole {len} {sum}"),
    ];
    assert_eq!(harvest.facts_shown(), expected);
    assert_eq!(fs.opened(), BTreeMap::from([(WANTED.to_owned(), 1)]));
    assert_eq!(fs.bytes_read(), len as u64);
}

#[test]
fn what_only_its_name_is_wanted_of_is_never_opened() {
    let fs = one_wanted(4096);
    let (_, harvest) = run(&fs, Limits::default(), &[Box::new(Entries)]);
    assert_eq!(harvest.facts_shown(), ["entry"]);
    assert!(fs.opened().is_empty());
    assert_eq!(fs.bytes_read(), 0);
}

#[test]
fn a_stream_that_has_enough_ends_the_read() {
    let fs = one_wanted(10 << 20);
    let (_, harvest) = run(&fs, Limits::default(), &[Box::new(Streams::pieces(1))]);
    assert_eq!(harvest.facts.len(), 1);
    assert!(fs.bytes_read() < 1 << 20, "{} bytes", fs.bytes_read());
}

#[test]
fn a_file_past_the_cap_is_a_fault_for_who_wants_it_whole_and_read_for_the_others() {
    let fs = one_wanted(5000);
    let detectors: Vec<Box<dyn Detector>> = vec![Box::new(Wholes(4999)), Box::new(Streams::to_end())];
    let (_, harvest) = run(&fs, Limits::default(), &detectors);
    assert_eq!(harvest.facts_shown(), [format!("stream 5000 {}", fs.sum(WANTED))]);
    assert_eq!(faults(&harvest.faults), ["/etc/wanted: more than 4999 (bytes of this file)"]);
    assert_eq!(fs.bytes_read(), 5000);
}

#[test]
fn hard_links_are_read_once_and_told_by_each_name() {
    let mut fs = one_wanted(3000);
    for name in ["/etc/also/wanted", "/usr/wanted"] {
        fs.link(WANTED, name);
    }
    let (outcome, harvest) = run(&fs, Limits::default(), &[Box::new(Wholes(1 << 20))]);
    assert_eq!(outcome.fault_count, 0);
    assert_eq!(harvest.facts.len(), 3);
    let paths: Vec<_> = harvest.facts.iter().map(|fact| fact.path.as_slice()).collect();
    assert_eq!(paths, [b"/etc/also/wanted".as_slice(), b"/etc/wanted", b"/usr/wanted"]);
    assert_eq!(fs.opened().values().sum::<u32>(), 1);
    assert_eq!(fs.bytes_read(), 3000);
}

#[test]
fn special_files_are_met_and_never_opened() {
    let mut fs = MadeUp::default();
    fs.special("/dev/wanted");
    let detectors: Vec<Box<dyn Detector>> = vec![Box::new(Wholes(1 << 20)), Box::new(Entries)];
    let (_, harvest) = run(&fs, Limits::default(), &detectors);
    assert_eq!(harvest.facts_shown(), ["entry"]);
    assert!(harvest.faults.is_empty() && fs.opened().is_empty());
}

#[test]
fn a_cycle_and_a_second_name_of_a_folder_end_with_a_fault_each() {
    let mut fs = one_wanted(10);
    fs.link("/etc", "/etc/loop");
    fs.link("/", "/etc/deep/root");
    fs.link("/etc/deep", "/second");
    let (outcome, harvest) = run(&fs, Limits::default(), &[Box::new(Wholes(1 << 20))]);
    assert_eq!(harvest.facts.len(), 1);
    assert_eq!(outcome.entries, 7);
    // Which of the two names of `deep` comes second depends on the threads; the count does not.
    assert_eq!(outcome.fault_count, 3);
    let shown = faults(&outcome.faults);
    assert!(shown.iter().all(|fault| fault.contains("claimed one name, found a second name, or a cycle")));
    assert!(shown.iter().any(|fault| fault.starts_with("/etc/loop: ")), "{shown:?}");
}

#[test]
fn depth_entries_and_path_bytes_have_limits() {
    let mut deep = MadeUp::default();
    let chain: String = (0..50).map(|_| "/d").collect();
    deep.folder(&chain);
    let limited = |limits| faults(&run(&deep, limits, &[]).0.faults);
    let at = |levels: usize| "/d".repeat(levels);
    assert_eq!(
        limited(Limits { depth: 20, ..Limits::default() }),
        [format!("{}: more than 20 (folders inside folders)", at(21))]
    );
    assert_eq!(
        limited(Limits { path_bytes: 30, ..Limits::default() }),
        [format!("{}: more than 30 (bytes of a path)", at(16))]
    );
    assert_eq!(limited(Limits::default()), Vec::<String>::new());

    let mut wide = MadeUp::default();
    for number in 0..500 {
        wide.file(&format!("/{}/{number}", number % 7), Vec::new());
    }
    let (outcome, _) = run(&wide, Limits { entries: 100, ..Limits::default() }, &[]);
    assert!(faults(&outcome.faults)[0].ends_with("more than 100 (entries of one filesystem)"));
    // Each thread may have met one more before it saw that the end was reached.
    assert!((100..120).contains(&outcome.entries), "{} entries", outcome.entries);
}

#[test]
fn a_file_that_never_reads_the_disk_ends_with_the_budget() {
    let mut fs = MadeUp::default();
    fs.endless(WANTED);
    let budget = Budget { reads: 50, ..Budget::default() };
    let (_, harvest) = run_within(budget, &fs, Limits::default(), &[Box::new(Streams::to_end())]);
    assert!(harvest.facts.is_empty());
    let faults = faults(&harvest.faults);
    assert!(faults.len() == 1 && faults[0].starts_with("/etc/wanted: "), "{faults:?}");
    assert!(matches!(harvest.faults[0].1, FsError::Read(ReadError::Budget(_))));
}

#[test]
fn faults_are_kept_up_to_a_limit_and_counted_beyond() {
    let mut fs = MadeUp::default();
    for number in 0..300 {
        fs.damaged(&format!("/{number}"));
    }
    let (outcome, _) = run(&fs, Limits { faults: 10, ..Limits::default() }, &[]);
    assert_eq!((outcome.faults.len(), outcome.fault_count, outcome.entries), (10, 300, 300));
}

#[test]
fn an_entry_and_an_inode_that_differ_on_what_is_a_folder_are_a_fault_either_way() {
    let mut fs = one_wanted(10);
    fs.file("/var/lib/wanted", vec![1; 10]);
    fs.file("/plain", vec![1; 10]);
    // The inode decides what is entered.
    fs.entry_claims("/var", FileKind::File);
    fs.entry_claims("/plain", FileKind::Directory);
    let (outcome, harvest) = run(&fs, Limits::default(), &[Box::new(Opens)]);
    assert_eq!(harvest.facts.len(), 2);
    assert_eq!(
        faults(&outcome.faults),
        [
            "/plain: directory entry type at 0x0: claimed a directory, found a file",
            "/var: directory entry type at 0x0: claimed a file, found a directory"
        ]
    );
}
