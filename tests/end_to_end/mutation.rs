//! Every golden image, changed by seed in a few bytes, many times over: each mutant is scanned without a panic of ours,
//! in bounded time, and twice the same.
//!
//! Most mutants have checksums made right again, so that a change reaches the code behind them: `tests/mutations`, which
//! reads many more of them without the scanner.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it met"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counts and times of ours"
)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use stillframe_block::Budget;
use stillframe_fixtures::golden_names;
use stillframe_model::{Coverage, CoverageKind, Report};
use stillframe_mutations::Golden;

use crate::disks::{read_all, scanned};

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
    let golden = Golden::open(name);
    let started = Instant::now();
    let _ = scanned(golden.mutant(), budget());
    let cost = started.elapsed().as_millis().max(1) as usize;
    let mut tally = Tally::default();
    for index in 0..(1500 / cost).clamp(FEWEST_MUTANTS, MUTANTS) {
        let make = || golden.mutated(SEED, index as u64).0;
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
            // Whether the time of one is used up is for the machine to say.
            if is_settled(&again) && comparable(&again) != comparable(&report) {
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
