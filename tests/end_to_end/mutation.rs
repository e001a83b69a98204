//! Every golden image, changed by seed in a few bytes, many times over: each mutant is scanned without a panic of ours,
//! in bounded time, and twice the same.
//!
//! Every other mutant has the checksums that [`checksums`] knows made right again, so that a change reaches the code
//! behind them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it met"
)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "the dice are ours")]
#![allow(clippy::cast_possible_truncation, reason = "remainders are small")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use stillframe_block::{BlockSource, Budget, SparseMemorySource};
use stillframe_fixtures::{golden, golden_names};
use stillframe_model::{Coverage, CoverageKind, Report};

use crate::checksums;
use crate::disks::{bytes_at, filesystems, patch, read_all, scanned};

const SEED: u64 = 0x5f17_1f4a_3e00_0002;
const LONGEST: Duration = Duration::from_secs(10);
/// Mutants of an image; of one that takes long to scan, fewer.
const MUTANTS: usize = 200;
const FEWEST_MUTANTS: usize = 12;
/// Every so many mutants one is scanned twice.
const TWICE: usize = 8;

fn budget() -> Budget {
    Budget { reads: 50_000, bytes: 512 << 20, time: Duration::from_secs(1) }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn of(name: &str, index: usize) -> Self {
        let start =
            name.bytes().fold(SEED, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Self(start ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Where each filesystem of a golden image begins, and what it is.
type Volumes = Vec<(u64, String)>;

fn volumes(report: &Report) -> Volumes {
    let of = |row: &&Coverage| {
        Some((row.facts.start_bytes.unwrap_or(0), row.facts.format.as_ref()?.as_str().to_owned()))
    };
    filesystems(report).iter().filter_map(of).collect()
}

/// Changes one field of 1, 2, 4 or 8 bytes of a written page; says where.
fn change(disk: &mut SparseMemorySource, pages: &[u64], dice: &mut Dice) -> u64 {
    // Half of all changes hit the first 64 written pages: superblocks, tables, inodes, the first folders.
    let near = if dice.below(2) == 0 { pages.len().min(64) } else { pages.len() };
    let page = pages[dice.below(near)];
    let width = 1 << dice.below(4);
    let at = (page + dice.below(4096 / width) as u64 * width as u64).min(disk.len_bytes() - 8);
    let old = u64::from_le_bytes(bytes_at(disk, at));
    let new = match dice.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.swap_bytes(),
        4 => old ^ 1 << dice.below(8 * width),
        _ => dice.next(),
    };
    patch(disk, at, &new.to_le_bytes()[..width]);
    at
}

fn mutant(
    disk: &SparseMemorySource,
    pages: &[u64],
    volumes: &Volumes,
    dice: &mut Dice,
    refreshes: bool,
) -> SparseMemorySource {
    let mut mutant = disk.clone();
    for _ in 0..=dice.below(5) {
        let at = change(&mut mutant, pages, dice);
        if refreshes {
            checksums::refresh(&mut mutant, volumes, at);
        }
    }
    mutant
}

/// A report without what differs between two scans of one disk: ids and times, and what threads decide: which of two
/// names of a folder is the first, and so the paths below it, and the number of reads.
fn comparable(report: &Report) -> String {
    let mut lines: Vec<String> = report
        .coverage
        .iter()
        .map(|row| {
            let mut faults: Vec<_> = row.faults.iter().map(|fault| fault.line()).collect();
            faults.sort();
            format!(
                "{:?} {} {:?} {:?} {} {faults:?}",
                row.kind, row.name, row.status, row.reason, row.fault_count
            )
        })
        .collect();
    lines.push(serde_json::to_string(&(&report.machine, &report.packages)).unwrap());
    lines.join("\n")
}

fn is_settled(report: &Report) -> bool {
    let is_second_name = |line: &str| line.contains("a second name, or a cycle");
    report.coverage.iter().all(|row| {
        let is_limit = row.reason.as_ref().is_some_and(|reason| reason.as_str().contains("limit"));
        let is_long = row.fault_count > row.faults.len() as u64;
        !is_limit && !is_long && !row.faults.iter().any(|fault| is_second_name(&fault.line()))
    })
}

/// Panics since the tests began, by their place in the source.
static PANICS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
            let place = place.unwrap_or_default();
            // What a test fails with is for its reader.
            if place.contains("tests/end_to_end") {
                return before(panic);
            }
            *PANICS.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default() += 1;
        }));
    });
}

/// Whether code of ours panicked, or the standard library on its behalf.
fn is_ours(place: &str) -> bool {
    !place.contains("/registry/src/")
}

/// What became of the mutants of one image.
#[derive(Default)]
struct Tally {
    scanned: usize,
    complete: usize,
    longest: Duration,
    crossed: Vec<String>,
    differing: Vec<String>,
}

fn scan_mutants(name: &str) -> Tally {
    let disk = golden(name);
    let started = Instant::now();
    let before = scanned(disk.clone(), budget());
    let cost = started.elapsed().as_millis().max(1) as usize;
    let (pages, volumes) = (disk.written_pages().collect::<Vec<_>>(), volumes(&before));
    let mut tally = Tally::default();
    for index in 0..(1500 / cost).clamp(FEWEST_MUTANTS, MUTANTS) {
        let make = || mutant(&disk, &pages, &volumes, &mut Dice::of(name, index), index % 2 == 1);
        let started = Instant::now();
        // A scan opens what detectors want; the content of every other file is read too.
        let Ok((report, _)) =
            catch_unwind(AssertUnwindSafe(|| (scanned(make(), budget()), read_all(make(), budget()))))
        else {
            tally.crossed.push(format!("{name} {index}"));
            continue;
        };
        tally.longest = tally.longest.max(started.elapsed());
        tally.scanned += 1;
        let mut filesystems = report.coverage.iter().filter(|row| row.kind == CoverageKind::Filesystem);
        tally.complete += usize::from(filesystems.all(Coverage::is_complete));
        if index % TWICE == 0 && is_settled(&report) {
            let again = scanned(make(), budget());
            if comparable(&again) != comparable(&report) {
                tally.differing.push(format!(
                    "{name} {index}:\n{}\n{}",
                    comparable(&report),
                    comparable(&again)
                ));
            }
        }
    }
    tally
}

#[test]
fn mutants_of_every_golden_image_end_without_a_panic_of_ours() {
    count_panics();
    let started = Instant::now();
    let names = Mutex::new(golden_names());
    let tallies = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(name) = { names.lock().unwrap().pop_first() } {
                    let tally = scan_mutants(&name);
                    tallies.lock().unwrap().push((name, tally));
                }
            });
        }
    });
    let tallies = tallies.into_inner().unwrap();
    let mutants: usize = tallies.iter().map(|(_, tally)| tally.scanned).sum();
    let complete: usize = tallies.iter().map(|(_, tally)| tally.complete).sum();
    let (slowest, longest) =
        tallies.iter().map(|(name, tally)| (name, tally.longest)).max_by_key(|(_, time)| *time).unwrap();
    eprintln!(
        "{mutants} mutants of {} images in {:?}: {complete} with every filesystem whole; the longest took {longest:?} ({slowest})",
        tallies.len(),
        started.elapsed()
    );
    let panics = PANICS.lock().unwrap().clone();
    for (place, count) in &panics {
        eprintln!("{count} panics at {place}");
    }
    let all = |of: fn(&Tally) -> &Vec<String>| {
        tallies.iter().flat_map(|(_, tally)| of(tally).clone()).collect::<Vec<_>>()
    };
    assert_eq!(all(|tally| &tally.crossed), Vec::<String>::new(), "panics crossed every boundary");
    assert_eq!(all(|tally| &tally.differing), Vec::<String>::new(), "two scans of one mutant differ");
    let ours: Vec<_> = panics.keys().filter(|place| is_ours(place)).collect();
    assert!(ours.is_empty(), "code of ours panicked: {ours:?}");
    assert!(longest < LONGEST, "{slowest}: {longest:?}");
    assert!(mutants >= golden_names().len() * FEWEST_MUTANTS);
    // Damage is met, and much of it is where nobody needs it.
    assert!(complete > 0 && complete < mutants);
}

#[test]
fn a_refreshed_checksum_is_what_the_disk_had() {
    for name in golden_names() {
        let disk = golden(name.as_str());
        let volumes = volumes(&scanned(disk.clone(), budget()));
        let mut refreshed = disk.clone();
        for page in disk.written_pages().step_by(3) {
            // A byte changed to what it is: every checksum must come out as it was.
            checksums::refresh(&mut refreshed, &volumes, page + 256);
        }
        for page in disk.written_pages() {
            let (before, after): ([u8; 512], [u8; 512]) = (bytes_at(&disk, page), bytes_at(&refreshed, page));
            assert!(before == after, "{name}: the page at {page:#x} changed");
            let (before, after): ([u8; 3584], [u8; 3584]) =
                (bytes_at(&disk, page + 512), bytes_at(&refreshed, page + 512));
            assert!(before == after, "{name}: the page at {page:#x} changed");
        }
    }
}
