//! Databases made to mislead, one claim each.

use std::time::{Duration, Instant};

use stillframe_fs::{FileContent, FsError, MemoryContent};
use stillframe_packages::{Parsed, rpm};

use crate::support::{parse_rpm, testdata};

const SLOT_PAGE_BYTES: usize = 4096;

/// An NDB database of `headers`.
pub(crate) fn ndb_database(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut slots = b"RpmP".to_vec();
    for number in [0, headers.len() as u32, 1, headers.len() as u32 + 1, 0, 0, 0] {
        slots.extend_from_slice(&number.to_le_bytes());
    }
    let mut blobs = Vec::new();
    for (number, header) in (1_u32..).zip(headers) {
        let begin = blobs.len();
        blobs.extend_from_slice(b"BlbS");
        for field in [number, number, header.len() as u32] {
            blobs.extend_from_slice(&field.to_le_bytes());
        }
        blobs.extend_from_slice(header);
        blobs.resize((blobs.len() + 12).next_multiple_of(16) - 12, 0);
        blobs.extend_from_slice(&[0; 4]);
        blobs.extend_from_slice(&(header.len() as u32).to_le_bytes());
        blobs.extend_from_slice(b"BlbE");
        slots.extend_from_slice(b"Slot");
        for field in [number, ((SLOT_PAGE_BYTES + begin) / 16) as u32, ((blobs.len() - begin) / 16) as u32] {
            slots.extend_from_slice(&field.to_le_bytes());
        }
    }
    while slots.len() < SLOT_PAGE_BYTES {
        slots.extend_from_slice(b"Slot\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    let mut database = [slots, blobs].concat();
    refresh_ndb(&mut database);
    database
}

fn u32_le(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Writes the checksum of each blob anew that a slot of the first page names.
pub(crate) fn refresh_ndb(database: &mut [u8]) {
    for slot in (32..SLOT_PAGE_BYTES.min(database.len().saturating_sub(16))).step_by(16) {
        let (at, len) = (u32_le(database, slot + 8) * 16, u32_le(database, slot + 12) * 16);
        if at == 0 || len < 12 || at + len > database.len() {
            continue;
        }
        let tail = at + len - 12;
        let sum = database[at..tail].iter().fold((1_u32, 0_u32), |(low, high), byte| {
            let low = (low + u32::from(*byte)) % 65_521;
            (low, (high + low) % 65_521)
        });
        database[tail..tail + 4].copy_from_slice(&(sum.1 << 16 | sum.0).to_le_bytes());
    }
}

fn set_u32_le(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn set_u32_be(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
}

/// Parses what must end soon, with faults that are in the database and not in the reader.
fn parse_soon(database: &[u8]) -> Parsed {
    let begin = Instant::now();
    let parsed = parse_rpm(database, None).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    parsed
}

/// The only fault's name and what was found.
fn only_fault(parsed: &Parsed) -> (&'static str, String) {
    assert_eq!(parsed.fault_count, 1, "{:?}", parsed.faults);
    (parsed.faults[0].what, parsed.faults[0].found.to_string())
}

mod sqlite {
    use super::*;

    const PAGE_BYTES: usize = 512;
    const PAGES: usize = 6;

    /// A database of six pages whose table `Packages` has its root on page 2; the others are for the test to fill.
    fn database() -> Vec<u8> {
        let mut bytes = vec![0; PAGE_BYTES * PAGES];
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        bytes[16..18].copy_from_slice(&(PAGE_BYTES as u16).to_be_bytes());
        bytes[18..24].copy_from_slice(&[1, 1, 0, 64, 32, 32]);
        set_u32_be(&mut bytes, 28, PAGES as u32);
        set_u32_be(&mut bytes, 56, 1);
        // table, Packages, Packages, 2, an empty text.
        let record = b"\x06\x17\x1d\x1d\x01\x0dtablePackagesPackages\x02";
        let mut cell = vec![record.len() as u8, 1];
        cell.extend_from_slice(record);
        leaf(&mut bytes, 1, &cell);
        bytes
    }

    /// Makes `page` a leaf of one cell.
    fn leaf(bytes: &mut [u8], page: usize, cell: &[u8]) {
        let (begin, end) = ((page - 1) * PAGE_BYTES, page * PAGE_BYTES);
        let header = begin + if page == 1 { 100 } else { 0 };
        let offset = PAGE_BYTES - cell.len();
        bytes[header] = 13;
        bytes[header + 3..header + 5].copy_from_slice(&1_u16.to_be_bytes());
        bytes[header + 8..header + 10].copy_from_slice(&(offset as u16).to_be_bytes());
        bytes[end - cell.len()..end].copy_from_slice(cell);
    }

    /// Makes `page` an interior page with these children.
    fn interior(bytes: &mut [u8], page: usize, children: &[u32]) {
        let begin = (page - 1) * PAGE_BYTES;
        let (last, others) = children.split_last().unwrap();
        bytes[begin] = 5;
        bytes[begin + 3..begin + 5].copy_from_slice(&(others.len() as u16).to_be_bytes());
        set_u32_be(bytes, begin + 8, *last);
        for (index, child) in others.iter().enumerate() {
            let offset = 200 + index * 5;
            bytes[begin + 12 + index * 2..][..2].copy_from_slice(&(offset as u16).to_be_bytes());
            set_u32_be(bytes, begin + offset, *child);
            bytes[begin + offset + 4] = 1;
        }
    }

    /// A cell whose record is NULL and a blob, together `len` bytes, with the part of `header` that fits on the page.
    fn cell(len: u64, header: &[u8], overflow: u32) -> Vec<u8> {
        let mut record = vec![0, 0];
        record.extend_from_slice(&varint((len - 8) * 2 + 12));
        record[0] = record.len() as u8;
        record.extend_from_slice(header);
        // For 512 usable bytes the format leaves 39 bytes at least on the page; `len` is chosen so that it is these.
        record.resize(39, 0);
        [varint(len), vec![1], record, overflow.to_be_bytes().to_vec()].concat()
    }

    fn varint(number: u64) -> Vec<u8> {
        let mut bytes = vec![(number & 0x7f) as u8];
        let mut rest = number >> 7;
        while rest > 0 {
            bytes.insert(0, (rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes
    }

    #[test]
    fn a_page_that_points_to_itself() {
        let mut bytes = database();
        interior(&mut bytes, 2, &[2]);
        let parsed = parse_soon(&bytes);
        assert_eq!(only_fault(&parsed), ("SQLite page", "used twice".to_owned()));
    }

    #[test]
    fn pages_that_point_to_each_other() {
        let mut bytes = database();
        interior(&mut bytes, 2, &[3, 4, 3, 4, 5]);
        interior(&mut bytes, 3, &[2, 4]);
        interior(&mut bytes, 4, &[3, 3]);
        interior(&mut bytes, 5, &[2, 1, 0, 9]);
        let parsed = parse_soon(&bytes);
        assert!(parsed.packages.is_empty());
        assert_eq!(parsed.fault_count, 10);
    }

    #[test]
    fn an_overflow_chain_that_is_a_cycle() {
        // 39 bytes here, then 508 on each overflow page; a header of 65,535 entries that would go on for 1 MiB.
        let len = 39 + 508 * 3000;
        let header = [0xffff_u32.to_be_bytes(), 100_u32.to_be_bytes()].concat();
        let mut bytes = database();
        leaf(&mut bytes, 2, &cell(len, &header, 3));
        set_u32_be(&mut bytes, 2 * PAGE_BYTES, 4);
        set_u32_be(&mut bytes, 3 * PAGE_BYTES, 3);
        assert_eq!(only_fault(&parse_soon(&bytes)), ("SQLite page", "used twice".to_owned()));
        // A chain that ends too soon, and one that leaves the database.
        set_u32_be(&mut bytes, 3 * PAGE_BYTES, 0);
        assert_eq!(only_fault(&parse_soon(&bytes)).0, "SQLite record");
        set_u32_be(&mut bytes, 3 * PAGE_BYTES, 7);
        assert_eq!(only_fault(&parse_soon(&bytes)), ("SQLite page number", "7".to_owned()));
    }

    #[test]
    fn sizes_that_are_not_there() {
        let mut bytes = database();
        // A record of 2^64 - 1 bytes.
        leaf(&mut bytes, 2, &[&[0xff; 9][..], &[1, 3, 0, 12]].concat());
        assert_eq!(parse_soon(&bytes).fault_count, 1);
        // A record header that claims more than the record has.
        leaf(&mut bytes, 2, &[4, 1, 3, 0, 0x7e, 0]);
        assert_eq!(only_fault(&parse_soon(&bytes)).0, "SQLite record bytes");
        // 65,535 cells.
        bytes[PAGE_BYTES + 3..PAGE_BYTES + 5].copy_from_slice(&[0xff; 2]);
        assert_eq!(only_fault(&parse_soon(&bytes)).0, "SQLite b-tree page header");
    }

    #[test]
    fn cells_that_are_all_the_same() {
        let mut bytes = database();
        leaf(&mut bytes, 2, &[60; 100]);
        bytes[PAGE_BYTES + 3..PAGE_BYTES + 5].copy_from_slice(&200_u16.to_be_bytes());
        for pointer in 0..200 {
            bytes[PAGE_BYTES + 8 + pointer * 2..][..2].copy_from_slice(&412_u16.to_be_bytes());
        }
        let parsed = parse_soon(&bytes);
        assert_eq!((parsed.packages.len(), parsed.fault_count), (0, 200));
        assert!(parsed.faults.iter().any(|fault| fault.what == "SQLite cells in bytes"));
    }

    #[test]
    fn headers_that_describe_no_database() {
        for number in [0_u16, 511, 3, 0x8001] {
            let mut bytes = database();
            bytes[16..18].copy_from_slice(&number.to_be_bytes());
            assert!(matches!(parse_rpm(&bytes, None), Err(FsError::Corrupt(_))), "{number}");
        }
        let mut bytes = database();
        bytes[20] = 100;
        assert!(matches!(parse_rpm(&bytes, None), Err(FsError::Corrupt(_))), "412 usable bytes");
        let mut bytes = database();
        bytes[59] = 2;
        assert!(matches!(parse_rpm(&bytes, None), Err(FsError::Unsupported(_))), "UTF-16");
        assert!(parse_rpm(&database()[..600], None).is_ok_and(|parsed| parsed.fault_count == 1), "no page 2");
        assert!(parse_rpm(&database()[..100], None).is_err());
    }
}

mod berkeley_db {
    use super::*;

    const PAGE_BYTES: usize = 512;

    fn pages_of_type(bytes: &[u8], kind: u8) -> Vec<usize> {
        let pages = 0..bytes.len() / PAGE_BYTES;
        pages.filter(|page| *page > 0 && bytes[page * PAGE_BYTES + 25] == kind).collect()
    }

    #[test]
    fn a_bucket_that_goes_on_with_itself() {
        let mut bytes = testdata("Packages.little");
        let pages = pages_of_type(&bytes, 13);
        for page in &pages {
            set_u32_le(&mut bytes, page * PAGE_BYTES + 16, *page as u32);
        }
        let parsed = parse_soon(&bytes);
        assert_eq!(parsed.packages.len(), 8, "all packages are on the pages before");
        assert_eq!(parsed.fault_count, pages.len() as u64);
        assert!(parsed.faults.iter().all(|fault| fault.found.to_string() == "used twice"));
    }

    #[test]
    fn an_overflow_chain_that_is_a_cycle() {
        let mut bytes = testdata("Packages.little");
        let pages = pages_of_type(&bytes, 7);
        for page in &pages {
            set_u32_le(&mut bytes, page * PAGE_BYTES + 16, *page as u32);
        }
        let parsed = parse_soon(&bytes);
        assert_eq!((parsed.packages.len(), parsed.fault_count), (0, 8));
        assert!(pages.len() > 8);
        // Each page goes on with the first page of all: the first chain may have it, no other.
        for page in &pages {
            set_u32_le(&mut bytes, page * PAGE_BYTES + 16, pages[0] as u32);
        }
        assert_eq!(parse_soon(&bytes).packages.len(), 0);
    }

    #[test]
    fn claims_of_page_0() {
        let golden = testdata("Packages.little");
        for (at, number, is_error) in [
            (16, 4, true),             // version
            (20, 0, true),             // page size
            (20, 513, true),           // no power of two
            (20, 1 << 20, true),       // too large
            (24, 1, true),             // encrypted, no longer a hash's page 0
            (32, u32::MAX, true),      // last page
            (72, u32::MAX, true),      // buckets
            (96, u32::MAX, false),     // spares: the first bucket is nowhere
            (100, 0xffff_fff0, false), // the second
        ] {
            let mut bytes = golden.clone();
            set_u32_le(&mut bytes, at, number);
            match parse_rpm(&bytes, None) {
                Ok(parsed) => assert!(!is_error && parsed.fault_count > 0, "{at} {number}"),
                Err(error) => assert!(is_error, "{at} {number}: {error}"),
            }
        }
    }

    #[test]
    fn items_that_overlap_or_lie_elsewhere() {
        let golden = testdata("Packages.little");
        for page in pages_of_type(&golden, 13) {
            if golden[page * PAGE_BYTES + 20] == 0 {
                continue;
            }
            for offset in [0_u16, 20, 511, 512, 0xffff] {
                let mut bytes = golden.clone();
                bytes[page * PAGE_BYTES + 28..][..2].copy_from_slice(&offset.to_le_bytes());
                assert!(parse_soon(&bytes).fault_count > 0, "{page} {offset}");
            }
        }
    }
}

mod ndb {
    use super::*;

    #[test]
    fn slots_that_point_outside() {
        for (offset, number) in [(8, u32::MAX), (12, u32::MAX), (12, 0), (12, 1), (8, 1), (4, 99), (0, 0)] {
            let mut bytes = testdata("Packages.db");
            set_u32_le(&mut bytes, 32 + offset, number);
            let parsed = parse_soon(&bytes);
            assert_eq!((parsed.packages.len(), parsed.fault_count), (7, 1), "{offset} {number}");
        }
        let mut bytes = testdata("Packages.db");
        set_u32_le(&mut bytes, 12, u32::MAX);
        assert!(matches!(parse_rpm(&bytes, None), Err(FsError::Corrupt(_))), "2^32 slot pages");
        set_u32_le(&mut bytes, 12, 0);
        assert!(matches!(parse_rpm(&bytes, None), Err(FsError::Corrupt(_))), "no slot page");
    }

    #[test]
    fn slots_that_name_one_blob_again_and_again() {
        let golden = testdata("Packages.db");
        let mut bytes = golden.clone();
        for slot in (48..SLOT_PAGE_BYTES).step_by(16) {
            bytes.copy_within(32..48, slot);
        }
        let parsed = parse_soon(&bytes);
        assert!(parsed.packages.len() < golden.len() / (u32_le(&golden, 44) * 16) + 1);
        assert!(parsed.faults.iter().any(|fault| fault.what == "ndb blobs in bytes"));
    }

    #[test]
    fn a_bit_in_a_blob_is_found() {
        let mut bytes = testdata("Packages.db");
        bytes[4096 + 200] ^= 4;
        assert_eq!(only_fault(&parse_soon(&bytes)).0, "ndb blob checksum");
    }

    #[test]
    fn a_header_of_2_to_the_32_entries() {
        let mut bytes = testdata("Packages.db");
        set_u32_be(&mut bytes, 4096 + 16, u32::MAX);
        refresh_ndb(&mut bytes);
        assert_eq!(only_fault(&parse_soon(&bytes)), ("rpm header index entries", u32::MAX.to_string()));
    }
}

/// A file of a terabyte that begins as a database and goes on with one byte.
struct Endless {
    beginning: Vec<u8>,
    then: u8,
    read: u64,
}

impl FileContent for Endless {
    fn len_bytes(&self) -> u64 {
        1 << 40
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        buffer.fill(self.then);
        let beginning = self.beginning.get(offset as usize..).unwrap_or_default();
        let len = beginning.len().min(buffer.len());
        buffer[..len].copy_from_slice(&beginning[..len]);
        self.read += buffer.len() as u64;
        Ok(buffer.len())
    }
}

#[test]
fn a_terabyte_is_not_read() {
    for name in ["Packages.little", "Packages.big", "Packages.db", "rpmdb.sqlite"] {
        for then in [0, 0xff] {
            let mut file = Endless { beginning: testdata(name), then, read: 0 };
            let parsed = rpm::read(&mut file, None).unwrap();
            assert!(parsed.packages.len() >= 6, "{name}");
            assert!(file.read < 4 << 20, "{name}: {}", file.read);
        }
    }
    let wal = testdata("rpmdb.sqlite-wal");
    let mut wal = Endless { beginning: wal, then: 0, read: 0 };
    let mut database = MemoryContent(testdata("rpmdb.sqlite"));
    assert_eq!(rpm::read(&mut database, Some(&mut wal)).unwrap().packages.len(), 8);
    assert!(wal.read < 4 << 20, "{}", wal.read);
}

/// What was read before the file fails is kept, with the reason why there is no more.
#[test]
fn a_file_that_fails_in_the_middle() {
    struct Failing(Vec<u8>, usize);
    impl FileContent for Failing {
        fn len_bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            if offset as usize + rest.len().min(buffer.len()) > self.1 {
                return Err(FsError::Encrypted("test"));
            }
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }
    }
    let header = {
        let golden = testdata("Packages.db");
        golden[4096 + 16..][..u32_le(&golden, 4096 + 12)].to_vec()
    };
    let database = ndb_database(&vec![header; 200]);
    assert!(database.len() > 3 << 16);
    let parsed = rpm::read(&mut Failing(database.clone(), 2 << 16), None).unwrap();
    assert!((20..190).contains(&parsed.packages.len()), "{}", parsed.packages.len());
    assert!(matches!(parsed.stopped_by, Some(FsError::Encrypted(_))));
    assert!(matches!(rpm::read(&mut Failing(database, 0), None), Err(FsError::Encrypted(_))));
}
