//! rpm's header, as databases hold it: without the magic of a package file.
//!
//! Format: rpm.org, "RPM V4 Package format", section "Header format". Two counts, then index entries of 16 bytes (tag,
//! type, offset, count), then the store that offsets count in; all numbers are big-endian. A first entry with a region
//! tag says how many entries are of the signed header; those behind it were added at installation and win over it.
//! Signatures and digests are not checked: they lie elsewhere, and rpm does not check them on a query of names either.

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use super::blob::Blob;
use super::{length_of, offset_of};
use crate::collector::Collector;
use crate::text::{free_text, package_text};
use crate::{MAX_TEXT_BYTES, OsPackage};

/// rpm refuses more entries than this, and a longer store.
const MAX_ENTRIES: u32 = 0xffff;
const MAX_STORE_BYTES: u32 = 0x0fff_ffff;

const ENTRY_BYTES: usize = 16;
/// How many entries are read at once.
const ENTRIES_READ: usize = 256;

/// The types of a store's data that are met here.
const TYPE_INT32: u32 = 4;
const TYPE_STRING: u32 = 6;
const TYPE_STRING_ARRAY: u32 = 8;
const TYPE_I18N_STRING: u32 = 9;

/// What is wanted of a header: tag numbers and their names in faults, in the order of [`Wanted`].
const TAGS: [(u32, &str); 8] = [
    (1000, "rpm tag NAME"),
    (1001, "rpm tag VERSION"),
    (1002, "rpm tag RELEASE"),
    (1003, "rpm tag EPOCH"),
    (1011, "rpm tag VENDOR"),
    (1022, "rpm tag ARCH"),
    (1044, "rpm tag SOURCERPM"),
    (5096, "rpm tag MODULARITYLABEL"),
];

/// Positions in [`TAGS`].
#[derive(Clone, Copy)]
enum Wanted {
    Name,
    Version,
    Release,
    Epoch,
    Vendor,
    Arch,
    SourceRpm,
    ModularityLabel,
}

/// Reads the header `blob`, which is `at` bytes into the file, and gives its package to `collector`.
///
/// # Errors
/// A fault where the header names no package, else what the database's file fails with.
pub(super) fn read(
    blob: &mut dyn Blob,
    at: u64,
    collector: &mut Collector,
) -> Result<ControlFlow<()>, FsError> {
    let mut counts = [0; 8];
    blob.read_exact(0, &mut counts)?;
    let counts = Structure::new("rpm header", at, &counts);
    let (entries, store_bytes) = (counts.u32_be(0)?, counts.u32_be(4)?);
    if entries == 0 || entries > MAX_ENTRIES {
        return Err(counts.fault("rpm header index entries", 0, MAX_ENTRIES, entries).into());
    }
    if store_bytes > MAX_STORE_BYTES {
        return Err(counts.fault("rpm header store bytes", 4, MAX_STORE_BYTES, store_bytes).into());
    }
    let store_at = u64::from(entries).saturating_mul(offset_of(ENTRY_BYTES)).saturating_add(8);
    let len = store_at.saturating_add(u64::from(store_bytes));
    if len > blob.len_bytes() {
        return Err(Fault::new("rpm header bytes", at, len, blob.len_bytes()).into());
    }
    let mut values = read_index(blob, at, entries)?;
    read_values(blob, store_at, store_bytes, &mut values)?;
    let package = Header { at, values }.package(collector)?;
    Ok(package.map_or(ControlFlow::Break(()), |package| collector.package(package)))
}

/// A wanted entry of the index, and what the store has for it.
#[derive(Default)]
struct Value {
    kind: u32,
    offset: u32,
    /// The store from `offset` on, as far as a text may go.
    bytes: Vec<u8>,
}

type Values = [Option<Value>; TAGS.len()];

fn read_index(blob: &mut dyn Blob, at: u64, entries: u32) -> Result<Values, FsError> {
    let mut values = Values::default();
    let mut buffer = [0; ENTRY_BYTES * ENTRIES_READ];
    let mut left = length_of(entries);
    let mut offset = 8_u64;
    while left > 0 {
        let count = left.min(ENTRIES_READ);
        let bytes = buffer.get_mut(..count.saturating_mul(ENTRY_BYTES)).unwrap_or_default();
        blob.read_exact(offset, bytes)?;
        for entry in bytes.chunks_exact(ENTRY_BYTES) {
            let entry = Structure::new("rpm header index entry", at.saturating_add(offset), entry);
            let tag = entry.u32_be(0)?;
            let wanted = TAGS.iter().position(|(wanted, _)| *wanted == tag);
            if let Some(slot) = wanted.and_then(|wanted| values.get_mut(wanted)) {
                // An entry behind the region replaces the region's own.
                *slot = Some(Value { kind: entry.u32_be(4)?, offset: entry.u32_be(8)?, bytes: Vec::new() });
            }
        }
        left = left.saturating_sub(count);
        offset = offset.saturating_add(offset_of(bytes.len()));
    }
    Ok(values)
}

/// Fills in the bytes of all values, from front to back: values lie near each other, and a blob is read forwards.
fn read_values(
    blob: &mut dyn Blob,
    store_at: u64,
    store_bytes: u32,
    values: &mut Values,
) -> Result<(), FsError> {
    let mut order: Vec<&mut Value> = values.iter_mut().flatten().collect();
    order.sort_by_key(|value| value.offset);
    let mut window: Vec<u8> = Vec::new();
    let mut window_offset = 0_u32;
    for value in order {
        let skipped = length_of(value.offset.saturating_sub(window_offset));
        if skipped < window.len() {
            window.drain(..skipped);
        } else {
            window.clear();
        }
        window_offset = value.offset;
        // A text and its NUL; less where the store ends.
        let available =
            length_of(store_bytes.saturating_sub(value.offset)).min(MAX_TEXT_BYTES.saturating_add(2));
        let known = window.len();
        if known < available {
            window.resize(available, 0);
            let from = store_at.saturating_add(u64::from(value.offset)).saturating_add(offset_of(known));
            blob.read_exact(from, window.get_mut(known..).unwrap_or_default())?;
        }
        value.bytes = window.get(..available).unwrap_or_default().to_vec();
    }
    Ok(())
}

struct Header {
    at: u64,
    values: Values,
}

impl Header {
    /// `None` where `collector` takes no more.
    fn package(&self, collector: &mut Collector) -> Result<Option<OsPackage>, Fault> {
        let required = |wanted| self.text(wanted)?.ok_or_else(|| self.fault(wanted, "a value", "none"));
        let name = required(Wanted::Name)?;
        let version = format!("{}-{}", required(Wanted::Version)?, required(Wanted::Release)?);
        if version.len() > MAX_TEXT_BYTES {
            return Err(self.fault(Wanted::Version, MAX_TEXT_BYTES, version.len()));
        }
        let mut package = OsPackage {
            // rpm makes such an entry for each key that is imported.
            public_key: name == "gpg-pubkey",
            name,
            version,
            epoch: self.epoch()?,
            architecture: self.text(Wanted::Arch)?,
            source_rpm: self.text(Wanted::SourceRpm)?,
            module: self.text(Wanted::ModularityLabel)?,
            ..OsPackage::default()
        };
        // The vendor is free text, and identifies nothing: a bad one is no reason to hide a package.
        match self.text(Wanted::Vendor) {
            Ok(vendor) => package.vendor = vendor,
            Err(fault) if collector.fault(fault).is_break() => return Ok(None),
            Err(_) => {}
        }
        Ok(Some(package))
    }

    fn value(&self, wanted: Wanted) -> Option<&Value> {
        self.values.get(wanted as usize)?.as_ref()
    }

    /// A text; `None` where there is none or it is empty.
    fn text(&self, wanted: Wanted) -> Result<Option<String>, Fault> {
        let Some(value) = self.value(wanted) else { return Ok(None) };
        if ![TYPE_STRING, TYPE_STRING_ARRAY, TYPE_I18N_STRING].contains(&value.kind) {
            return Err(self.fault(wanted, "type STRING", value.kind));
        }
        let Some(end) = value.bytes.iter().position(|byte| *byte == 0) else {
            return Err(self.fault(wanted, MAX_TEXT_BYTES, "no NUL"));
        };
        let bytes = value.bytes.get(..end).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        let as_text = if matches!(wanted, Wanted::Vendor) { free_text } else { package_text };
        as_text(self.what(wanted), self.at, bytes).map(Some)
    }

    fn epoch(&self) -> Result<Option<u32>, Fault> {
        let Some(value) = self.value(Wanted::Epoch) else { return Ok(None) };
        if value.kind != TYPE_INT32 {
            return Err(self.fault(Wanted::Epoch, "type INT32", value.kind));
        }
        Structure::new("rpm tag EPOCH", self.at, &value.bytes).u32_be(0).map(Some)
    }

    fn what(&self, wanted: Wanted) -> &'static str {
        TAGS.get(wanted as usize).map_or("rpm tag", |(_, what)| what)
    }

    fn fault(
        &self,
        wanted: Wanted,
        claimed: impl Into<stillframe_bytes::Quantity>,
        found: impl Into<stillframe_bytes::Quantity>,
    ) -> Fault {
        Fault::new(self.what(wanted), self.at, claimed, found)
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests compute with numbers of their own"
)]
mod tests {
    use super::super::blob::Inline;
    use super::*;

    /// A header of these tags, types and values.
    fn header(tags: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut index = Vec::new();
        let mut store = Vec::new();
        for (tag, kind, value) in tags {
            for number in [*tag, *kind, store.len() as u32, 1] {
                index.extend_from_slice(&number.to_be_bytes());
            }
            store.extend_from_slice(value);
        }
        let counts = [tags.len() as u32, store.len() as u32].map(u32::to_be_bytes).concat();
        [counts, index, store].concat()
    }

    fn parse(bytes: &[u8]) -> Result<crate::Parsed, FsError> {
        let mut collector = Collector::default();
        let _ = read(&mut Inline { at: 0x40, bytes }, 0x40, &mut collector)?;
        Ok(collector.parsed)
    }

    const NAME: (u32, u32, &[u8]) = (1000, 6, b"bash\0");
    const VERSION: (u32, u32, &[u8]) = (1001, 6, b"5.2\0");
    const RELEASE: (u32, u32, &[u8]) = (1002, 6, b"1.el9\0");

    #[test]
    fn tags_become_a_package() {
        let bytes = header(&[
            (63, 7, &[0; 16]),
            NAME,
            VERSION,
            RELEASE,
            (1003, 4, &[0, 0, 0, 7]),
            (1044, 6, b"bash-5.2-1.el9.src.rpm\0"),
            (1022, 6, b"x86_64\0"),
            (1011, 6, b"Example\0"),
            (5096, 6, b"perl:5.30:1:2\0"),
            // Behind the region: this one holds.
            (1000, 6, b"zsh\0"),
        ]);
        let parsed = parse(&bytes).unwrap();
        assert!(parsed.is_complete());
        let expected = OsPackage {
            name: "zsh".to_owned(),
            version: "5.2-1.el9".to_owned(),
            epoch: Some(7),
            architecture: Some("x86_64".to_owned()),
            source_rpm: Some("bash-5.2-1.el9.src.rpm".to_owned()),
            module: Some("perl:5.30:1:2".to_owned()),
            vendor: Some("Example".to_owned()),
            ..OsPackage::default()
        };
        assert_eq!(parsed.packages, [expected]);
    }

    #[test]
    fn claims_past_the_header_are_faults() {
        let good = header(&[NAME, VERSION, RELEASE]);
        assert!(parse(&good).is_ok());
        for (offset, number) in [
            (0, u32::MAX),        // 2^32 - 1 entries
            (0, 0),               // none
            (0, 0x10000),         // one more than rpm allows
            (0, 4),               // one more than there is
            (4, u32::MAX),        // a store of 4 GiB
            (4, 0x1000),          // a longer store than there is
            (8 + 8, 0x00ff_ffff), // NAME behind the store
            (8 + 8, u32::MAX),
            (8 + 4, 4), // NAME is a number
        ] {
            let mut bad = good.clone();
            bad[offset..offset + 4].copy_from_slice(&number.to_be_bytes());
            assert!(matches!(parse(&bad), Err(FsError::Corrupt(_))), "{offset} {number:#x}");
        }
        for end in 0..good.len() {
            assert!(parse(&good[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn texts_are_bounded() {
        let long = [&[b'a'; 256][..], b"\0"].concat();
        assert!(parse(&header(&[(1000, 6, &long), VERSION, RELEASE])).is_err());
        assert!(parse(&header(&[NAME, VERSION, (1002, 6, b"1")])).is_err(), "no NUL");
        assert!(parse(&header(&[(1000, 6, b"a\x1b\0"), VERSION, RELEASE])).is_err());
        assert!(parse(&header(&[(1000, 6, b"\0"), VERSION, RELEASE])).is_err());
        let half = [&[b'1'; 200][..], b"\0"].concat();
        assert!(parse(&header(&[NAME, (1001, 6, &half), (1002, 6, &half)])).is_err());
        let parsed = parse(&header(&[NAME, VERSION, RELEASE, (1011, 6, &long)])).unwrap();
        assert_eq!((parsed.packages.len(), parsed.fault_count), (1, 1), "only the vendor is dropped");
        let key = parse(&header(&[(1000, 6, b"gpg-pubkey\0"), VERSION, RELEASE])).unwrap();
        assert!(key.packages[0].public_key);
    }
}
