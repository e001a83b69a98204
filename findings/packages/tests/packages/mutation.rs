//! Golden databases with bytes changed by seed: no panic, bounded time, and no text that does not show.

use std::time::{Duration, Instant};

use stillframe_fs::{FsError, MemoryContent};
use stillframe_packages::{MAX_TEXT_BYTES, OsPackage, Parsed, apk, dpkg};

use crate::hostile::refresh_ndb;
use crate::support::{parse_rpm, testdata};
use crate::wal::refresh_checksums;

/// How many variants of each golden file are tried.
const VARIANTS: u64 = 2000;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Changes a few places: single bytes, numbers to what breaks arithmetic, and pieces to copies of others, which makes
/// cycles. Now and then the end is cut off.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const NUMBERS: [u32; 8] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff, 0x10000, 0x0100_0000];
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len().max(5) - 4);
        match random.below(5) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => {
                let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
                // Where the structures have their numbers, mostly.
                bytes[at & !3..][..4].copy_from_slice(&number);
            }
            3 => {
                let len = [2, 4, 16, 512][random.below(4)].min(bytes.len());
                let (from, to) = (random.below(bytes.len() - len + 1), random.below(bytes.len() - len + 1));
                bytes.copy_within(from..from + len, to / 4 * 4);
            }
            _ => bytes[at & !1] = 0,
        }
    }
    if random.below(20) == 0 {
        bytes.truncate(random.below(bytes.len()).max(8));
    }
}

fn check(what: &str, seed: u64, parse: impl FnOnce() -> Result<Parsed, FsError>) -> usize {
    let begin = Instant::now();
    let result = parse();
    assert!(begin.elapsed() < Duration::from_secs(20), "{what} seed {seed}: {:?}", begin.elapsed());
    let Ok(parsed) = result else { return 0 };
    for package in &parsed.packages {
        let OsPackage {
            name,
            version,
            architecture,
            source_name,
            source_version,
            source_rpm,
            module,
            vendor,
            ..
        } = package;
        let optional = [architecture, source_name, source_version, source_rpm, module, vendor];
        for text in [name, version].into_iter().chain(optional.into_iter().flatten()) {
            assert!(!text.is_empty() && text.len() <= MAX_TEXT_BYTES, "{what} seed {seed}");
            assert!(!text.chars().any(char::is_control), "{what} seed {seed}");
        }
    }
    parsed.packages.len()
}

/// Runs all variants of `golden`, and says in how many the code behind the first checks still found packages.
fn try_variants(what: &str, golden: &[u8], parse: impl Fn(Vec<u8>) -> Result<Parsed, FsError>) {
    let mut with_packages = 0;
    for seed in 0..VARIANTS {
        let mut bytes = golden.to_vec();
        mutate(&mut bytes, &mut Random::new(seed));
        with_packages += u64::from(check(what, seed, || parse(bytes)) > 0);
    }
    // If hardly any came through, only the first checks were tested.
    assert!(with_packages > VARIANTS / 4, "{what}: {with_packages}");
}

#[test]
fn mutated_berkeley_db() {
    for name in ["Packages.little", "Packages.big"] {
        try_variants(name, &testdata(name), |bytes| parse_rpm(&bytes, None));
    }
}

#[test]
fn mutated_ndb() {
    try_variants("ndb", &testdata("Packages.db"), |bytes| parse_rpm(&bytes, None));
    try_variants("ndb with fresh checksums", &testdata("Packages.db"), |mut bytes| {
        refresh_ndb(&mut bytes);
        parse_rpm(&bytes, None)
    });
}

#[test]
fn mutated_sqlite() {
    let (database, wal) = (testdata("rpmdb.sqlite"), testdata("rpmdb.sqlite-wal"));
    try_variants("sqlite", &database, |bytes| parse_rpm(&bytes, None));
    try_variants("sqlite with a log", &database, |bytes| parse_rpm(&bytes, Some(&wal)));
    try_variants("log", &wal, |bytes| parse_rpm(&database, Some(&bytes)));
    try_variants("log with fresh checksums", &wal, |mut bytes| {
        if bytes.len() >= 32 {
            refresh_checksums(&mut bytes, 1024, false);
        }
        parse_rpm(&database, Some(&bytes))
    });
}

#[test]
fn mutated_text_databases() {
    let status = "Package: a\nStatus: install ok installed\nSource: b (1.0-1)\nArchitecture: amd64\nVersion: 1:2.0-3\n\
                  Description: c\n d\n\n"
        .repeat(20);
    try_variants("status", status.as_bytes(), |bytes| dpkg::read(&mut MemoryContent(bytes)));
    try_variants("status.d", status.as_bytes(), |bytes| dpkg::read_status_d(&mut MemoryContent(bytes)));
    let installed = "C:Q1=\nP:a\nV:1.0-r1\nA:x86_64\no:b\nF:lib\nR:c\nZ:Q1=\n\n".repeat(20);
    try_variants("apk", installed.as_bytes(), |bytes| apk::read(&mut MemoryContent(bytes)));
}

#[test]
fn every_length_of_each_golden() {
    for name in ["Packages.little", "Packages.big", "Packages.db", "rpmdb.sqlite"] {
        let golden = testdata(name);
        for len in (0..golden.len()).step_by(97).chain(0..200) {
            check(name, len as u64, || parse_rpm(&golden[..len], None));
        }
    }
}
