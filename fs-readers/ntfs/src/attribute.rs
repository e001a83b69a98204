//! Attributes of file records, and attribute lists. libyal's libfsntfs documentation, "MFT attribute" and "Attribute list".

use std::ops::Range;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::content::read_stream;
use crate::pieces::{RECORD_HEADER_BYTES, RecordBytes};
use crate::record::{UNNAMED, record_number};
use crate::runs::Runs;
use crate::volume::Volume;

const END: u32 = 0xFFFF_FFFF;
const HEADER_BYTES: usize = 0x10;
const LIST_ENTRY_BYTES: usize = 0x1A;
/// Windows stops at an attribute list of 256 KiB.
const LIST_CAP_BYTES: u64 = 256 << 10;

/// The type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u32);

impl Kind {
    pub(crate) const STANDARD_INFORMATION: Self = Self(0x10);
    const ATTRIBUTE_LIST: Self = Self(0x20);
    pub(crate) const SECURITY_DESCRIPTOR: Self = Self(0x50);
    pub(crate) const VOLUME_NAME: Self = Self(0x60);
    pub(crate) const VOLUME_INFORMATION: Self = Self(0x70);
    pub(crate) const DATA: Self = Self(0x80);
    pub(crate) const INDEX_ROOT: Self = Self(0x90);
    pub(crate) const INDEX_ALLOCATION: Self = Self(0xA0);
    pub(crate) const BITMAP: Self = Self(0xB0);
    pub(crate) const REPARSE_POINT: Self = Self(0xC0);

    /// Whether an attribute of this type is ever asked for.
    const fn is_read(self) -> bool {
        matches!(self.0, 0x10 | 0x20 | 0x50..=0xC0)
    }
}

/// One attribute, or one extent of it.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) kind: Kind,
    /// UTF-16LE.
    pub(crate) name: Vec<u8>,
    /// Compression method, encrypted, sparse.
    pub(crate) flags: u16,
    pub(crate) instance: u16,
    /// Where its header lies on the volume.
    pub(crate) at: u64,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
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

    /// The value, where it lies in the file record.
    pub(crate) fn resident(&self) -> Option<Structure<'_>> {
        match &self.value {
            Value::Resident(bytes) => Some(Structure::new("attribute value", self.at, bytes)),
            Value::Extent { .. } => None,
        }
    }

    pub(crate) fn lowest_vcn(&self) -> u64 {
        match self.value {
            Value::Resident(_) => 0,
            Value::Extent { lowest_vcn, .. } => lowest_vcn,
        }
    }

    /// The attribute whose extents are `extents`, of which this is the first.
    pub(crate) fn stream<'a>(
        &self,
        volume: &Volume,
        extents: impl Iterator<Item = &'a Self>,
    ) -> Result<Stream, FsError> {
        let (initialized, unit_exponent, body) = match &self.value {
            Value::Resident(bytes) => (self.size(), 0, Body::Resident(bytes.clone())),
            Value::Extent { initialized, unit_exponent, .. } => {
                (*initialized, *unit_exponent, Body::Runs(runs(volume, extents)?))
            }
        };
        if let Body::Runs(runs) = &body
            && runs.len_bytes() < self.size()
        {
            return Err(Fault::new("data runs", self.at, self.size(), runs.len_bytes()).into());
        }
        let Self { flags, at, .. } = *self;
        Ok(Stream { flags, at, size: self.size(), initialized, unit_exponent, body })
    }

    fn parse(kind: Kind, header: &Structure<'_>) -> Result<Self, Fault> {
        let name_len = usize::from(header.u8(0x09)?).saturating_mul(2);
        let name = match name_len {
            0 => &[],
            len => header.part("attribute name", usize::from(header.u16_le(0x0A)?), len)?.bytes(),
        };
        Ok(Self {
            kind,
            name: name.to_vec(),
            flags: header.u16_le(0x0C)?,
            instance: header.u16_le(0x0E)?,
            at: header.at(),
            value: value(header)?,
        })
    }
}

/// The runs of all extents of an attribute, in the order of their clusters.
pub(crate) fn runs<'a>(
    volume: &Volume,
    extents: impl Iterator<Item = &'a Attribute>,
) -> Result<Runs, FsError> {
    let mut extents: Vec<_> = extents.collect();
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

fn value(header: &Structure<'_>) -> Result<Value, Fault> {
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

/// The attributes of a record that are ever asked for, and its attribute list, if it has one.
pub(crate) fn attributes(record: &RecordBytes) -> Result<(Vec<Attribute>, Option<Attribute>), Fault> {
    let (head, tail) = record.parts();
    let mut found = (Vec::new(), None);
    match tail {
        None => {
            let used = usize::try_from(head.u32_le(0x18)?).unwrap_or(usize::MAX);
            if used > head.len() {
                return Err(head.fault("file record size", 0x18, head.len(), used));
            }
            let used = head.part("file record", 0, used)?;
            parse_all(&used, usize::from(head.u16_le(0x14)?), &mut found)?;
        }
        Some(tail) => {
            parse_all(&head, usize::from(head.u16_le(0x14)?), &mut found)?;
            parse_all(&tail, 0, &mut found)?;
        }
    }
    Ok(found)
}

/// Adds the attributes of `used`, the first of which begins at `offset`.
fn parse_all(
    used: &Structure<'_>,
    mut offset: usize,
    (attributes, list): &mut (Vec<Attribute>, Option<Attribute>),
) -> Result<(), Fault> {
    while let Some((kind, header)) = next(used, offset)? {
        if kind == Kind::ATTRIBUTE_LIST {
            *list = Some(Attribute::parse(kind, &header)?);
        } else if kind.is_read() {
            attributes.push(Attribute::parse(kind, &header)?);
        }
        offset = offset.saturating_add(header.len());
    }
    Ok(())
}

/// The attribute at `offset` of a record's used part, where there is one more.
fn next<'a>(used: &Structure<'a>, offset: usize) -> Result<Option<(Kind, Structure<'a>)>, Fault> {
    // A record that is full may end without the marker.
    if offset >= used.len() {
        return Ok(None);
    }
    let kind = used.u32_le(offset)?;
    if kind == END {
        return Ok(None);
    }
    let len = usize::try_from(used.u32_le(offset.saturating_add(4))?).unwrap_or(usize::MAX);
    if len < HEADER_BYTES {
        return Err(used.fault("attribute length", offset.saturating_add(4), HEADER_BYTES, len));
    }
    Ok(Some((Kind(kind), used.part("attribute", offset, len)?)))
}

/// Where the used part of a record holds whole attributes that are never asked for: the first such and those that follow
/// it. They are in the order of their types, so that there are mostly no others.
pub(crate) fn never_read(used: &[u8]) -> Range<usize> {
    let used = Structure::new("file record", 0, used);
    let mut offset = used.u16_le(0x14).map_or(usize::MAX, usize::from);
    let mut range = 0..0;
    while let Ok(Some((kind, header))) = next(&used, offset) {
        let end = offset.saturating_add(header.len());
        match (kind.is_read(), range.is_empty()) {
            (false, true) => range = offset..end,
            (false, false) => range.end = end,
            (true, true) => {}
            (true, false) => break,
        }
        offset = end;
    }
    // The header's own fields are read.
    if range.start < RECORD_HEADER_BYTES { 0..0 } else { range }
}

/// An entry of an attribute list.
#[derive(Debug)]
pub(crate) struct ListEntry {
    pub(crate) kind: Kind,
    /// UTF-16LE.
    pub(crate) name: Vec<u8>,
    pub(crate) instance: u16,
    pub(crate) lowest_vcn: u64,
    /// The record that has the attribute.
    pub(crate) reference: u64,
}

impl ListEntry {
    pub(crate) fn record_number(&self) -> u64 {
        record_number(self.reference)
    }
}

/// The entries of an attribute list that name attributes which are ever asked for.
pub(crate) fn list(volume: &Volume, list: &Attribute) -> Result<Vec<ListEntry>, FsError> {
    if list.size() > LIST_CAP_BYTES || list.name != UNNAMED {
        return Err(Fault::new("attribute list", list.at, LIST_CAP_BYTES, list.size()).into());
    }
    let bytes = read_stream(volume, list.stream(volume, std::iter::once(list))?)?;
    let all = Structure::new("attribute list", list.at, &bytes);
    let mut entries = Vec::new();
    let mut offset = 0_usize;
    while offset < bytes.len() {
        let len = usize::from(all.u16_le(offset.saturating_add(4))?);
        if len < LIST_ENTRY_BYTES {
            return Err(all.fault("attribute list entry length", offset, LIST_ENTRY_BYTES, len).into());
        }
        let entry = all.part("attribute list entry", offset, len)?;
        let kind = Kind(entry.u32_le(0x00)?);
        if kind.is_read() {
            let name_len = usize::from(entry.u8(0x06)?).saturating_mul(2);
            entries.push(ListEntry {
                kind,
                name: entry.slice(usize::from(entry.u8(0x07)?), name_len)?.to_vec(),
                instance: entry.u16_le(0x18)?,
                lowest_vcn: entry.u64_le(0x08)?,
                reference: entry.u64_le(0x10)?,
            });
        }
        offset = offset.saturating_add(len);
    }
    Ok(entries)
}
