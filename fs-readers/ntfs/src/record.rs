//! File records and their attributes, taken out of the `ntfs` crate's borrowed types.
//!
//! The crate finds the record, undoes its update sequence and walks its attributes and its attribute list. It hides
//! what this reader needs of an attribute's header (lowest VCN, initialized size, compression unit, flags it does not
//! know), and joins the extents of an attribute by their instance number, which differs from record to record: both
//! are done here. libyal's libfsntfs documentation, "MFT entry" and "Attribute list", describes the structures.

use std::collections::BTreeMap;

use ntfs::structured_values::NtfsAttributeList;
use ntfs::{NtfsAttributeType, NtfsFile};
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::error::{from_crate, guarded};
use crate::runs::Runs;
use crate::volume::{Volume, fix_up, view_position};

/// $DATA of a file's main content, and other attributes that have no name.
pub(crate) const UNNAMED: &[u8] = b"";
/// The index of a directory, in UTF-16.
pub(crate) const DIRECTORY_INDEX: &[u8] = b"$\0I\x003\x000\0";

/// The low 48 bits of a file reference: the record's number. Above them is its sequence number.
const RECORD_NUMBER_BITS: u32 = 48;
/// Windows stops at an attribute list of 256 KiB; an entry has at least 26 bytes.
const LIST_ENTRIES_CAP: usize = (256 << 10) / 26;
/// Records below this are the volume's own files.
const FIRST_USER_RECORD: u64 = 24;

const IN_USE: u16 = 0x1;
const DIRECTORY: u16 = 0x2;
/// In the volume's $Extend directory, and with an index that is no directory's.
const EXTENSION_OR_VIEW: u16 = 0x4 | 0x8;

/// The record's number in a file reference.
pub(crate) const fn record_number(reference: u64) -> u64 {
    reference & ((1 << RECORD_NUMBER_BITS) - 1)
}

const fn sequence_number(reference: u64) -> u64 {
    reference >> RECORD_NUMBER_BITS
}

/// How much of a file that is spread over several records is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The first extent of every attribute: enough for sizes and flags.
    Headers,
    /// All extents.
    Whole,
}

/// A file: its base record and what its attribute list adds.
#[derive(Debug)]
pub(crate) struct FileRecord {
    /// The file reference, with the sequence number that the record has.
    pub(crate) reference: u64,
    /// The offset of the record on the volume, in bytes.
    pub(crate) at: u64,
    /// How many names it has.
    pub(crate) links: u16,
    flags: u16,
    base: u64,
    attributes: Vec<Attribute>,
}

/// One attribute, or one extent of it.
#[derive(Debug)]
pub(crate) struct Attribute {
    kind: NtfsAttributeType,
    /// UTF-16LE.
    pub(crate) name: Vec<u8>,
    flags: u16,
    instance: u16,
    at: u64,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Resident(Vec<u8>),
    Extent { lowest_vcn: u64, size: u64, initialized: u64, unit_exponent: u8, pairs: Vec<u8> },
}

/// An attribute with all its extents.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The attribute's flags: compression method, encrypted, sparse.
    pub(crate) flags: u16,
    /// Where its header lies on the volume.
    pub(crate) at: u64,
    /// The length in bytes.
    pub(crate) size: u64,
    /// How much of it was ever written; zeros follow.
    pub(crate) initialized: u64,
    /// log2 of the clusters of a compression unit.
    pub(crate) unit_exponent: u8,
    /// Its bytes.
    pub(crate) body: Body,
}

/// Where an attribute's bytes are.
#[derive(Debug)]
pub(crate) enum Body {
    /// In the file record.
    Resident(Vec<u8>),
    /// In clusters.
    Runs(Runs),
}

impl Attribute {
    /// The length in bytes of the whole attribute, from its first extent.
    pub(crate) fn size(&self) -> u64 {
        match &self.value {
            Value::Resident(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Value::Extent { size, .. } => *size,
        }
    }

    /// Compression method, encrypted, sparse.
    pub(crate) fn flags(&self) -> u16 {
        self.flags
    }

    /// The value, where it lies in the file record.
    pub(crate) fn resident(&self) -> Option<Structure<'_>> {
        match &self.value {
            Value::Resident(bytes) => Some(Structure::new("attribute value", self.at, bytes)),
            Value::Extent { .. } => None,
        }
    }

    fn lowest_vcn(&self) -> u64 {
        match self.value {
            Value::Resident(_) => 0,
            Value::Extent { lowest_vcn, .. } => lowest_vcn,
        }
    }
}

impl FileRecord {
    /// Reads the file that `reference` names. A reference with sequence number 0 names whatever file the record holds.
    ///
    /// # Errors
    /// [`FsError::NotFound`] where the record is free or another file's.
    pub(crate) fn load(volume: &Volume, reference: u64, scope: Scope) -> Result<Self, FsError> {
        let number = record_number(reference);
        let (mut record, list) = guarded(|| load_record(volume, number))?;
        let sequence = sequence_number(reference);
        if record.flags & IN_USE == 0
            || record.base != 0
            || (sequence != 0 && sequence != sequence_number(record.reference))
        {
            return Err(FsError::NotFound);
        }
        for (extension, wanted) in by_record(list, number, scope) {
            record.add_extension(volume, extension, &wanted)?;
        }
        Ok(record)
    }

    fn add_extension(
        &mut self,
        volume: &Volume,
        extension: u64,
        wanted: &[ListEntry],
    ) -> Result<(), FsError> {
        let (mut other, _) = guarded(|| load_record(volume, record_number(extension)))?;
        let same_file = other.base == self.reference && other.flags & IN_USE != 0;
        if !same_file || sequence_number(extension) != sequence_number(other.reference) {
            return Err(
                Fault::new("attribute list reference", other.at, "a record of this file", "another").into()
            );
        }
        other.attributes.retain(|attribute| {
            wanted.iter().any(|entry| entry.kind == attribute.kind && entry.instance == attribute.instance)
        });
        self.attributes.append(&mut other.attributes);
        Ok(())
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    /// Whether it may have no content at all: the volume's own files with an index only.
    pub(crate) fn may_lack_data(&self) -> bool {
        self.flags & EXTENSION_OR_VIEW != 0 || record_number(self.reference) < FIRST_USER_RECORD
    }

    /// The first extents of all attributes of this type.
    pub(crate) fn all(&self, kind: NtfsAttributeType) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(move |attribute| attribute.kind == kind && attribute.lowest_vcn() == 0)
    }

    /// The first extent of the attribute of this type and name.
    pub(crate) fn first(&self, kind: NtfsAttributeType, name: &[u8]) -> Option<&Attribute> {
        self.all(kind).find(|attribute| attribute.name == name)
    }

    /// The attribute of this type and name with all its extents; the record must have been loaded whole.
    pub(crate) fn stream(
        &self,
        volume: &Volume,
        kind: NtfsAttributeType,
        name: &[u8],
    ) -> Result<Option<Stream>, FsError> {
        let Some(first) = self.first(kind, name) else { return Ok(None) };
        let (initialized, unit_exponent, body) = match &first.value {
            Value::Resident(bytes) => (first.size(), 0, Body::Resident(bytes.clone())),
            Value::Extent { initialized, unit_exponent, .. } => {
                (*initialized, *unit_exponent, Body::Runs(self.runs(volume, kind, name)?))
            }
        };
        if let Body::Runs(runs) = &body
            && runs.len_bytes() < first.size()
        {
            return Err(Fault::new("data runs", first.at, first.size(), runs.len_bytes()).into());
        }
        let Attribute { flags, at, .. } = *first;
        Ok(Some(Stream { flags, at, size: first.size(), initialized, unit_exponent, body }))
    }

    /// The runs of all extents.
    fn runs(&self, volume: &Volume, kind: NtfsAttributeType, name: &[u8]) -> Result<Runs, FsError> {
        let mut extents: Vec<_> =
            self.attributes.iter().filter(|a| a.kind == kind && a.name == name).collect();
        extents.sort_by_key(|extent| extent.lowest_vcn());
        let mut runs = volume.no_runs();
        for extent in extents {
            match &extent.value {
                Value::Extent { lowest_vcn, pairs, .. } => {
                    runs.append(*lowest_vcn, &Structure::new("data runs", extent.at, pairs))?;
                }
                Value::Resident(_) => {
                    return Err(Fault::new("attribute extent", extent.at, "non-resident", "resident").into());
                }
            }
        }
        Ok(runs)
    }
}

/// Finds all of the MFT and shows it to the crate.
///
/// The extents of the MFT's own $DATA may lie in records that only its earlier extents reach, so they are taken one
/// by one.
pub(crate) fn find_mft(volume: &mut Volume) -> Result<(), FsError> {
    let (mut mft, list) = guarded(|| load_record(volume, 0))?;
    let data = NtfsAttributeType::Data;
    let list = list.into_iter().filter(|entry| entry.kind == data).collect();
    let mut extensions: Vec<_> = by_record(list, 0, Scope::Whole).into_iter().collect();
    extensions.sort_by_key(|(_, entries)| entries.iter().map(|entry| entry.lowest_vcn).min());
    let missing = Fault::new("MFT", mft.at, "a $DATA attribute", "none");
    let size = mft.first(data, UNNAMED).ok_or(missing)?.size();
    volume.show_mft(mft.runs(volume, data, UNNAMED)?, size)?;
    for (extension, entries) in extensions {
        mft.add_extension(volume, extension, &entries)?;
        volume.show_mft(mft.runs(volume, data, UNNAMED)?, size)?;
    }
    Ok(())
}

/// An entry of an attribute list.
struct ListEntry {
    kind: NtfsAttributeType,
    instance: u16,
    lowest_vcn: u64,
    /// The record that has the attribute.
    reference: u64,
}

/// The entries that other records than `base` hold, by record.
fn by_record(list: Vec<ListEntry>, base: u64, scope: Scope) -> BTreeMap<u64, Vec<ListEntry>> {
    let mut records: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let elsewhere = list.into_iter().filter(|entry| record_number(entry.reference) != base);
    for entry in elsewhere.filter(|entry| scope == Scope::Whole || entry.lowest_vcn == 0) {
        records.entry(entry.reference).or_default().push(entry);
    }
    records
}

/// Reads one record, and the attribute list if it has one. Calls the crate, so it must be guarded.
fn load_record(volume: &Volume, number: u64) -> Result<(FileRecord, Vec<ListEntry>), FsError> {
    if !volume.has_record(number) {
        return Err(FsError::NotFound);
    }
    let at = volume.record_position(number);
    let wrong = |error| from_crate(&error, at);
    let mut cursor = volume.cursor();
    let mut bytes =
        cursor.read_and_keep(view_position(volume, number).unwrap_or(at), volume.record_bytes)?.to_vec();
    let file = volume.ntfs.file(&mut cursor, number).map_err(wrong)?;
    fix_up("file record", at, &mut bytes)?;
    let record = Structure::new("file record", at, &bytes);
    let mut attributes = Vec::new();
    let mut list = Vec::new();
    for attribute in file.attributes_raw() {
        let attribute = attribute.map_err(wrong)?;
        // A type that the crate does not know is none that is read here.
        let Ok(kind) = attribute.ty() else { continue };
        if kind == NtfsAttributeType::AttributeList {
            let value =
                attribute.structured_value::<_, NtfsAttributeList<'_, '_>>(&mut cursor).map_err(wrong)?;
            let mut entries = value.entries();
            while let Some(entry) = entries.next(&mut cursor) {
                list.push(list_entry(&entry.map_err(wrong)?));
                if list.len() > LIST_ENTRIES_CAP {
                    let cap = u64::try_from(LIST_ENTRIES_CAP).unwrap_or(u64::MAX);
                    return Err(FsError::Limit { what: "entries of an attribute list", cap });
                }
            }
            continue;
        }
        let offset = offset_in_record(&file, attribute.position());
        let len = usize::try_from(attribute.attribute_length()).unwrap_or(usize::MAX);
        let header = record.part("attribute", offset, len)?;
        attributes.push(Attribute {
            kind,
            name: attribute.name().map_err(wrong)?.0.to_vec(),
            flags: header.u16_le(0x0C)?,
            instance: header.u16_le(0x0E)?,
            at: header.at(),
            value: attribute_value(&header)?,
        });
    }
    let sequence = u64::from(file.sequence_number());
    let record = FileRecord {
        reference: sequence << RECORD_NUMBER_BITS | record_number(number),
        at,
        links: file.hard_link_count(),
        flags: record.u16_le(0x16)?,
        base: record.u64_le(0x20)?,
        attributes,
    };
    Ok((record, list.into_iter().flatten().collect()))
}

fn offset_in_record(file: &NtfsFile<'_>, position: ntfs::types::NtfsPosition) -> usize {
    let (file, attribute) = (file.position().value(), position.value());
    let offset = file.zip(attribute).and_then(|(file, attribute)| attribute.get().checked_sub(file.get()));
    offset.and_then(|offset| usize::try_from(offset).ok()).unwrap_or(usize::MAX)
}

/// `None` for a type that the crate does not know.
fn list_entry(entry: &ntfs::structured_values::NtfsAttributeListEntry) -> Option<ListEntry> {
    let reference = entry.base_file_reference();
    let sequence = u64::from(reference.sequence_number());
    Some(ListEntry {
        kind: entry.ty().ok()?,
        instance: entry.instance(),
        lowest_vcn: entry.lowest_vcn().value().unsigned_abs(),
        reference: sequence << RECORD_NUMBER_BITS | record_number(reference.file_record_number()),
    })
}

fn attribute_value(header: &Structure<'_>) -> Result<Value, Fault> {
    if header.u8(0x08)? == 0 {
        let len = usize::try_from(header.u32_le(0x10)?).unwrap_or(usize::MAX);
        let value = header.part("resident value", usize::from(header.u16_le(0x14)?), len)?;
        return Ok(Value::Resident(value.bytes().to_vec()));
    }
    let pairs = header.rest("data runs", usize::from(header.u16_le(0x20)?))?;
    let lowest_vcn = header.u64_le(0x10)?;
    let first = lowest_vcn == 0;
    Ok(Value::Extent {
        lowest_vcn,
        // Only the first extent has sizes.
        size: if first { header.u64_le(0x30)? } else { 0 },
        initialized: if first { header.u64_le(0x38)? } else { 0 },
        unit_exponent: header.u8(0x22)?,
        pairs: pairs.bytes().to_vec(),
    })
}
