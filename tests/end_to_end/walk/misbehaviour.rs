//! Readers and detectors that panic or fail: a fault for what they failed on, and everything else goes on.

use stillframe_detectors::Detector;
use stillframe_scanner::walk::Limits;

use super::detectors::{Facts, Opens, Panics, Streams, Wholes};
use super::made_up::{MadeUp, Misbehaviour};
use super::{WANTED, faults, run};

/// A file that is read to its second piece and more, and a good one that must come through whatever happens.
fn two_wanted() -> MadeUp {
    let mut fs = MadeUp::default();
    fs.file("/good/wanted", vec![1; 20_000]);
    fs.file(WANTED, vec![2; 600_000]);
    fs
}

fn all_ways() -> Vec<Box<dyn Detector>> {
    vec![Box::new(Wholes(1 << 20)), Box::new(Streams::to_end()), Box::new(Opens)]
}

const GOOD: [&str; 3] = ["open 20000 20000", "stream 20000 20000", "whole 20000 20000"];

#[test]
fn a_reader_that_panics_on_a_file_loses_that_file_only() {
    for how in [Misbehaviour::PanicsInOpen, Misbehaviour::PanicsInReadAt] {
        let mut fs = two_wanted();
        fs.misbehave(WANTED, how);
        let (outcome, harvest) = run(&fs, Limits::default(), &all_ways());
        assert_eq!(outcome.fault_count, 0);
        assert_eq!(harvest.facts_shown(), GOOD, "{how:?}");
        let expected = ["/etc/wanted: a test could not read this: the reader panicked on this file"];
        assert_eq!(faults(&harvest.faults), expected, "{how:?}");
    }
}

#[test]
fn a_file_that_fails_in_its_middle_gives_no_fact() {
    let mut fs = two_wanted();
    fs.misbehave(WANTED, Misbehaviour::FailsInReadAt);
    let (_, harvest) = run(&fs, Limits::default(), &all_ways());
    assert_eq!(harvest.facts_shown(), GOOD);
    assert_eq!(faults(&harvest.faults), ["/etc/wanted: extent at 0x2710: claimed a block, found a hole"]);
}

#[test]
fn a_reader_that_panics_on_an_owner_hides_the_owner_only() {
    let mut fs = two_wanted();
    fs.misbehave("/good/wanted", Misbehaviour::PanicsInMetadata);
    fs.misbehave(WANTED, Misbehaviour::PanicsInMetadata);
    let (outcome, harvest) = run(&fs, Limits::default(), &[Box::new(Opens)]);
    // The walk asks for the kind of entries that do not say it: those folders are faults. The others are read.
    let told = harvest.facts.len() as u64;
    assert_eq!(told + outcome.fault_count, 2, "{:?}", outcome.faults);
    assert!(harvest.facts.iter().all(|fact| fact.location.owner_uid.is_none()));
    assert!(harvest.faults.is_empty());
}

#[test]
fn a_reader_that_panics_on_a_folder_keeps_what_it_told_before() {
    let mut fs = MadeUp::default();
    fs.file("/a/inside/wanted", vec![1; 10]);
    fs.file("/a/wanted", vec![1; 20]);
    fs.file("/b/wanted", vec![1; 30]);
    fs.misbehave("/a", Misbehaviour::PanicsInReadDir);
    let (outcome, harvest) = run(&fs, Limits::default(), &[Box::new(Opens)]);
    assert_eq!(
        faults(&outcome.faults),
        ["/a: a test could not read this: the reader panicked on this folder"]
    );
    // `/a/inside` was told before the panic, `/a/wanted` was not.
    assert_eq!(harvest.facts_shown(), ["open 10 10", "open 30 30"]);
}

#[test]
fn a_detector_that_panics_loses_its_own_facts_only() {
    for place in [Panics::Inspect, Panics::Begin, Panics::Take, Panics::End] {
        let fs = two_wanted();
        let mut detectors = all_ways();
        detectors.insert(0, Box::new(place));
        let (outcome, harvest) = run(&fs, Limits::default(), &detectors);
        assert_eq!(outcome.fault_count, 0);
        let mut expected: Vec<String> = GOOD.map(str::to_owned).to_vec();
        expected.extend(["open", "stream", "whole"].map(|way| format!("{way} 600000 1200000")));
        expected.sort();
        assert_eq!(harvest.facts_shown(), expected, "{place:?}");
        let told = "detector could not read this: a detector panicked on this file";
        assert_eq!(
            faults(&harvest.faults),
            [format!("/etc/wanted: {told}"), format!("/good/wanted: {told}")],
            "{place:?}"
        );
    }
}
