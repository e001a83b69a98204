//! File records: a file is a base record, and what its attribute list adds. libyal's libfsntfs documentation, "MFT entry".

use std::collections::BTreeMap;

use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use crate::attribute::{self, Attribute, Kind, ListEntry, Stream};
use crate::names::wtf8;
use crate::volume::Volume;

/// $DATA of a file's main content, and other attributes that have no name.
pub(crate) const UNNAMED: &[u8] = b"";
/// The index of a directory, in UTF-16.
pub(crate) const DIRECTORY_INDEX: &[u8] = b"$\0I\x003\x000\0";

/// The low 48 bits of a file reference: the record's number. Above them is its sequence number.
const RECORD_NUMBER_BITS: u32 = 48;
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
pub(crate) enum Scope<'n> {
    /// The first extent of every attribute: enough for sizes and flags.
    Headers,
    /// All extents.
    Whole,
    /// All extents, but of $DATA only those of the stream with this name (WTF-8): a file may have thousands of streams.
    Stream(&'n [u8]),
}

impl Scope<'_> {
    fn wants(self, entry: &ListEntry) -> bool {
        match self {
            Self::Headers => entry.lowest_vcn == 0,
            Self::Whole => true,
            Self::Stream(name) => entry.kind != Kind::DATA || wtf8(&entry.name) == name,
        }
    }
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

impl FileRecord {
    /// Reads the file that `reference` names. A reference with sequence number 0 names whatever file the record holds.
    ///
    /// # Errors
    /// [`FsError::NotFound`] where the record is free or another file's.
    pub(crate) fn load(volume: &Volume, reference: u64, scope: Scope<'_>) -> Result<Self, FsError> {
        let number = record_number(reference);
        let (mut record, list) = load_record(volume, number)?;
        let sequence = sequence_number(reference);
        if record.flags & IN_USE == 0
            || record.base != 0
            || (sequence != 0 && sequence != sequence_number(record.reference))
        {
            return Err(FsError::NotFound);
        }
        for (extension, wanted) in by_record(entries(volume, list)?, number, scope) {
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
        // Its own list, if it has one, is not the file's.
        let (mut other, _) = load_record(volume, record_number(extension))?;
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
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(move |attribute| attribute.kind == kind && attribute.lowest_vcn() == 0)
    }

    /// The first extent of the attribute of this type and name.
    pub(crate) fn first(&self, kind: Kind, name: &[u8]) -> Option<&Attribute> {
        self.all(kind).find(|attribute| attribute.name == name)
    }

    /// The attribute of this type and name with all its extents; the record must have been loaded whole.
    pub(crate) fn stream(&self, volume: &Volume, kind: Kind, name: &[u8]) -> Result<Option<Stream>, FsError> {
        let Some(first) = self.first(kind, name) else { return Ok(None) };
        first.stream(volume, self.extents(kind, name)).map(Some)
    }

    /// All extents of the attribute of this type and name.
    fn extents<'a>(&'a self, kind: Kind, name: &'a [u8]) -> impl Iterator<Item = &'a Attribute> {
        self.attributes.iter().filter(move |attribute| attribute.kind == kind && attribute.name == name)
    }
}

/// Finds all of the MFT and shows it to the volume.
///
/// The extents of the MFT's own $DATA may lie in records that only its earlier extents reach, so they are taken one
/// by one.
pub(crate) fn find_mft(volume: &mut Volume) -> Result<(), FsError> {
    let (mut mft, list) = load_record(volume, 0)?;
    let data = Kind::DATA;
    let list = entries(volume, list)?.into_iter().filter(|entry| entry.kind == data).collect();
    let mut extensions: Vec<_> = by_record(list, 0, Scope::Whole).into_iter().collect();
    extensions.sort_by_key(|(_, entries)| entries.iter().map(|entry| entry.lowest_vcn).min());
    let missing = Fault::new("MFT", mft.at, "a $DATA attribute", "none");
    let size = mft.first(data, UNNAMED).ok_or(missing)?.size();
    volume.show_mft(attribute::runs(volume, mft.extents(data, UNNAMED))?, size)?;
    for (extension, entries) in extensions {
        mft.add_extension(volume, extension, &entries)?;
        volume.show_mft(attribute::runs(volume, mft.extents(data, UNNAMED))?, size)?;
    }
    Ok(())
}

/// The entries that other records than `base` hold, by record.
fn by_record(list: Vec<ListEntry>, base: u64, scope: Scope<'_>) -> BTreeMap<u64, Vec<ListEntry>> {
    let mut records: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let elsewhere = list.into_iter().filter(|entry| entry.record_number() != base);
    for entry in elsewhere.filter(|entry| scope.wants(entry)) {
        records.entry(entry.reference).or_default().push(entry);
    }
    records
}

/// Reads one record, and its attribute list attribute if it has one.
fn load_record(volume: &Volume, number: u64) -> Result<(FileRecord, Option<Attribute>), FsError> {
    let bytes = volume.record(number)?;
    let (record, _) = bytes.parts();
    let (attributes, list) = attribute::attributes(&bytes)?;
    let record = FileRecord {
        reference: (u64::from(record.u16_le(0x10)?) << RECORD_NUMBER_BITS) | record_number(number),
        at: bytes.at,
        links: record.u16_le(0x12)?,
        flags: record.u16_le(0x16)?,
        base: record.u64_le(0x20)?,
        attributes,
    };
    Ok((record, list))
}

/// The entries of the attribute list of a base record, if it has one.
fn entries(volume: &Volume, list: Option<Attribute>) -> Result<Vec<ListEntry>, FsError> {
    list.map_or(Ok(Vec::new()), |list| attribute::list(volume, &list))
}
