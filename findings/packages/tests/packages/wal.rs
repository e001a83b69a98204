//! Write-ahead logs of a writer that is still connected, as a snapshot of a running machine has them.

use std::path::PathBuf;
use std::process::Command;

use crate::rpm_tools::made;
use crate::support::{cut, parse_rpm, rpm_lines, rpm_query, run_with_input, testdata};

const FRAME_HEADER_BYTES: usize = 24;
const HEADER_BYTES: usize = 32;

struct Copies {
    folder: PathBuf,
    database: Vec<u8>,
    wal: Vec<u8>,
}

/// Runs `script` on a copy of rpm's database, of which the first part of the rows is in the file; where the script
/// says `COPY`, both files are copied as they are then.
fn copies(name: &str, page_bytes: usize, script: &str) -> Option<Copies> {
    let made = made()?;
    let folder = made.folder.path().join(name);
    std::fs::create_dir(&folder).unwrap();
    let (path, copy) = (folder.join("writer.sqlite"), folder.join("rpmdb.sqlite"));
    std::fs::copy(made.folder.path().join("sqlite/rpmdb.sqlite"), &path).unwrap();
    let shell = format!(".shell cp '{0}' '{1}' && cp '{0}-wal' '{1}-wal'\n", path.display(), copy.display());
    let script = format!(
        "PRAGMA journal_mode = DELETE;\nPRAGMA page_size = {page_bytes};\nVACUUM;\nPRAGMA journal_mode = WAL;\n\
         PRAGMA wal_autocheckpoint = 0;\nCREATE TEMP TABLE kept AS SELECT hnum, blob FROM Packages;\n\
         DELETE FROM Packages WHERE hnum > 10;\nPRAGMA wal_checkpoint(TRUNCATE);\n{}",
        script.replace("COPY\n", &shell)
    );
    run_with_input(Command::new("sqlite3").arg(&path), script.as_bytes());
    let database = std::fs::read(&copy).unwrap();
    let wal = std::fs::read(folder.join("rpmdb.sqlite-wal")).unwrap();
    Some(Copies { folder, database, wal })
}

impl Copies {
    /// What rpm lists of `database` with `wal` beside it. rpm changes the files, so it gets its own.
    fn query(&self, name: &str, wal: &[u8]) -> Vec<String> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("rpmdb.sqlite"), &self.database).unwrap();
        std::fs::write(folder.join("rpmdb.sqlite-wal"), wal).unwrap();
        rpm_query(&folder, "sqlite")
    }
}

const INSERT_11_TO_15: &str = "INSERT INTO Packages SELECT * FROM kept WHERE hnum BETWEEN 11 AND 15;\n";
const INSERT_REST: &str = "INSERT INTO Packages SELECT * FROM kept WHERE hnum > 15;\n";

#[test]
fn rows_that_only_the_log_has() {
    for page_bytes in [512, 4096, 65536] {
        let script = format!("{INSERT_11_TO_15}{INSERT_REST}COPY\n");
        let Some(copies) = copies(&format!("wal-{page_bytes}"), page_bytes, &script) else { return };
        let expected = &made().unwrap().expected;
        assert_eq!(rpm_lines(&copies.database, None).len(), 10, "the log is not in the file");
        assert_eq!(&rpm_lines(&copies.database, Some(&copies.wal)), expected);
        assert_eq!(&copies.query("rpm", &copies.wal), expected);
    }
}

#[test]
fn an_uncommitted_transaction_does_not_count() {
    let script = format!(
        "{INSERT_11_TO_15}PRAGMA cache_size = 1;\nBEGIN;\nDELETE FROM Packages WHERE hnum < 5;\n{INSERT_REST}COPY\nROLLBACK;\n"
    );
    let Some(copies) = copies("wal-uncommitted", 1024, &script) else { return };
    let lines = rpm_lines(&copies.database, Some(&copies.wal));
    assert_eq!(lines.len(), 15);
    assert_eq!(lines, copies.query("rpm", &copies.wal));
    // The log has frames behind the last that commits, or this tests nothing.
    assert!(last_commit(&copies.wal, 1024) + HEADER_BYTES < copies.wal.len());
}

/// Where the last frame ends that commits, by its header alone.
fn last_commit(wal: &[u8], page_bytes: usize) -> usize {
    let frame_bytes = FRAME_HEADER_BYTES + page_bytes;
    let frames = (wal.len() - HEADER_BYTES) / frame_bytes;
    let mut commits =
        (0..frames).filter(|frame| wal[HEADER_BYTES + frame * frame_bytes + 4..][..4] != [0; 4]);
    HEADER_BYTES + (commits.next_back().unwrap() + 1) * frame_bytes
}

#[test]
fn a_torn_last_frame_takes_its_transaction_with_it() {
    let Some(copies) = copies("wal-torn", 1024, &format!("{INSERT_11_TO_15}{INSERT_REST}COPY\n")) else {
        return;
    };
    for (index, torn) in [1, 500, 1024, 1048, 3000].into_iter().enumerate() {
        let wal = &copies.wal[..copies.wal.len() - torn];
        let lines = rpm_lines(&copies.database, Some(wal));
        assert_eq!(lines.len(), 15, "{torn}");
        assert_eq!(lines, copies.query(&format!("cut-{index}"), wal));
    }
    // The frame is there in length, and its second half was not written.
    let mut wal = copies.wal.clone();
    let half = wal.len() - 512;
    wal[half..].fill(0);
    assert_eq!(rpm_lines(&copies.database, Some(&wal)).len(), 15);
    // A bit in a frame in the middle: everything from it on goes.
    let mut wal = copies.wal.clone();
    wal[HEADER_BYTES + FRAME_HEADER_BYTES + 7] ^= 1;
    assert_eq!(rpm_lines(&copies.database, Some(&wal)), copies.query("bit", &wal));
    assert_eq!(rpm_lines(&copies.database, Some(&wal)).len(), 10);
}

#[test]
fn frames_of_an_older_salt_do_not_count() {
    let script = format!(
        "{INSERT_REST}DELETE FROM Packages WHERE hnum > 15;\nPRAGMA wal_checkpoint(RESTART);\n\
         INSERT INTO Packages SELECT * FROM kept WHERE hnum = 11;\nCOPY\n"
    );
    let Some(copies) = copies("wal-salt", 1024, &script) else { return };
    let lines = rpm_lines(&copies.database, Some(&copies.wal));
    assert_eq!(lines.len(), 11);
    assert_eq!(lines, copies.query("rpm", &copies.wal));
    // Old frames are behind the new ones, or this tests nothing.
    let salts = |frame: usize| &copies.wal[HEADER_BYTES + frame * 1048 + 8..][..8];
    let frames = (copies.wal.len() - HEADER_BYTES) / 1048;
    assert_ne!(salts(0), salts(frames - 1));
}

/// Writes all checksums of a log anew, in either byte order. This is the specification's algorithm a second time;
/// that it is right, rpm says by reading the log.
pub(crate) fn refresh_checksums(wal: &mut [u8], page_bytes: usize, is_big_endian: bool) {
    let mut sums = (0_u32, 0_u32);
    let add = |sums: &mut (u32, u32), bytes: &[u8]| {
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|word| word.try_into().unwrap())
            .map(|word| if is_big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
            .collect();
        for pair in words.chunks(2) {
            sums.0 = sums.0.wrapping_add(pair[0]).wrapping_add(sums.1);
            sums.1 = sums.1.wrapping_add(pair[1]).wrapping_add(sums.0);
        }
    };
    wal[3] = wal[3] & !1 | u8::from(is_big_endian);
    add(&mut sums, &wal[..24]);
    wal[24..28].copy_from_slice(&sums.0.to_be_bytes());
    wal[28..32].copy_from_slice(&sums.1.to_be_bytes());
    for frame in wal[HEADER_BYTES..].chunks_exact_mut(FRAME_HEADER_BYTES + page_bytes) {
        add(&mut sums, &frame[..8]);
        add(&mut sums, &frame[FRAME_HEADER_BYTES..]);
        frame[16..20].copy_from_slice(&sums.0.to_be_bytes());
        frame[20..24].copy_from_slice(&sums.1.to_be_bytes());
    }
}

#[test]
fn checksums_of_either_byte_order() {
    let Some(copies) = copies("wal-order", 4096, &format!("{INSERT_11_TO_15}COPY\n")) else { return };
    let written_by_sqlite = copies.wal.clone();
    let is_big_endian = copies.wal[3] & 1 != 0;
    let mut wal = copies.wal.clone();
    refresh_checksums(&mut wal, 4096, is_big_endian);
    assert!(wal == written_by_sqlite, "the test's own checksums are SQLite's");
    refresh_checksums(&mut wal, 4096, !is_big_endian);
    assert!(wal != written_by_sqlite);
    let lines = rpm_lines(&copies.database, Some(&wal));
    assert_eq!(lines.len(), 15);
    assert_eq!(lines, copies.query("rpm", &wal));
}

#[test]
fn a_log_that_is_none_is_a_fault() {
    let Some(copies) = copies("wal-none", 1024, &format!("{INSERT_11_TO_15}COPY\n")) else { return };
    let mut other_page_size = copies.wal.clone();
    other_page_size[8..12].copy_from_slice(&4096_u32.to_be_bytes());
    let is_big_endian = copies.wal[3] & 1 != 0;
    refresh_checksums(&mut other_page_size, 1024, is_big_endian);
    let mut bad_checksum = copies.wal.clone();
    bad_checksum[24] ^= 1;
    let zeros = vec![0; copies.wal.len()];
    for (wal, what) in [
        (&other_page_size[..], "SQLite WAL page size in bytes"),
        (&bad_checksum, "SQLite WAL header checksum"),
        (&zeros, "SQLite WAL magic"),
        (&copies.wal[..20], "SQLite WAL header"),
    ] {
        let parsed = parse_rpm(&copies.database, Some(wal)).unwrap();
        assert_eq!((parsed.packages.len(), parsed.fault_count), (10, 1));
        assert_eq!(parsed.faults[0].what, what);
    }
    assert_eq!(rpm_lines(&copies.database, Some(&[])).len(), 10, "an empty log is as none");
    assert_eq!(cut(&rpm_lines(&copies.database, Some(&copies.wal)), 1).len(), 15);
}

/// A frame that no writer makes, behind one that commits: what was committed before it holds.
#[test]
fn damage_behind_a_commit_costs_only_what_follows() {
    let (database, mut wal) = (testdata("rpmdb.sqlite"), testdata("rpmdb.sqlite-wal"));
    assert_eq!(rpm_lines(&database, Some(&wal)).len(), 8);
    let behind = last_commit(&wal, 1024);
    assert!(behind + FRAME_HEADER_BYTES < wal.len());
    for number in [0, u32::MAX] {
        wal[behind..behind + 4].copy_from_slice(&number.to_be_bytes());
        refresh_checksums(&mut wal, 1024, false);
        // Now old frames would count too, were their salts the header's.
        let parsed = parse_rpm(&database, Some(&wal)).unwrap();
        assert_eq!((parsed.packages.len(), parsed.fault_count), (8, 1));
        assert_eq!(parsed.faults[0].what, "SQLite WAL page number");
    }
}

/// The newest content of each page holds, and pages that the file does not have yet come from the log.
#[test]
fn the_last_commit_wins() {
    let mut script = String::new();
    for round in 0..5 {
        script += "DELETE FROM Packages WHERE hnum > 10;\n";
        script += INSERT_11_TO_15;
        script += INSERT_REST;
        script += "DELETE FROM Packages WHERE hnum > 10;\n";
        script += &format!("INSERT INTO Packages SELECT * FROM kept WHERE hnum = {};\n", 11 + round);
        script += &format!("DELETE FROM Packages WHERE hnum = {};\n", 1 + round);
    }
    let Some(copies) = copies("wal-last", 2048, &format!("{script}COPY\n")) else { return };
    let lines = rpm_lines(&copies.database, Some(&copies.wal));
    assert_eq!(lines, copies.query("rpm", &copies.wal));
    assert_eq!(lines.len(), 6);
}
