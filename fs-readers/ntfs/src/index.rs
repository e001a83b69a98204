//! Directories: the $I30 index of file names.
//!
//! The index is a B-tree whose root lies in $INDEX_ROOT and whose other nodes are the records of $INDEX_ALLOCATION
//! that $BITMAP calls used. The nodes are read in the order in which they lie on the disk, and not along the tree as
//! the `ntfs` crate does: a tree whose nodes refer to each other in a circle has no end, and one damaged node would
//! hide those below it. libyal's libfsntfs documentation, "The index", describes the structures.

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{DirEntry, FileId, FileKind, FsError, read_full};

use crate::attribute::Body;
use crate::attribute::Kind;
use crate::content::{self, Content};
use crate::names::wtf8;
use crate::record::{DIRECTORY_INDEX, FileRecord};
use crate::reparse;
use crate::volume::{Volume, fix_up};

pub(crate) const NODE_HEADER_AT: usize = 0x18;
const ENTRY_HEADER_BYTES: usize = 0x10;
const LARGE_INDEX: u8 = 0x1;
const LAST_ENTRY: u8 = 0x2;
const DOS_NAME: u8 = 2;
const REPARSE_ATTRIBUTE: u32 = 0x400;
const DIRECTORY_ATTRIBUTE: u32 = 0x1000_0000;
/// Windows writes 4096 bytes, or a cluster where that is larger.
const INDEX_RECORD_CAP_BYTES: u32 = 2 << 20;
/// Bytes of $BITMAP that are read at once: the used bits of 32,768 index records.
const BITMAP_PIECE_BYTES: u64 = 4096;

type Visit<'a> = &'a mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>;

/// Visits each entry of `directory`, whose record was loaded whole. Damage to one node or entry ends that node; the
/// others are visited, and the first fault is returned after them.
pub(crate) fn read(volume: &Volume, directory: &FileRecord, visit: Visit<'_>) -> Result<(), FsError> {
    let missing = Fault::new("directory", directory.at, "an $INDEX_ROOT attribute", "none");
    let root = directory.first(Kind::INDEX_ROOT, DIRECTORY_INDEX).ok_or(missing)?;
    let root = root.resident().ok_or(missing)?;
    let mut first_fault = None;
    if let Some(ControlFlow::Break(())) = keep_going(visit_node(&root, 0x10, visit), &mut first_fault)? {
        return Ok(());
    }
    if root.u8(0x1C)? & LARGE_INDEX != 0 {
        let mut nodes = IndexRecords::open(volume, directory, DIRECTORY_INDEX, &root)?;
        while let Some(number) = nodes.next_used()? {
            let visited = nodes.read(number).and_then(|node| Ok(visit_node(&node, NODE_HEADER_AT, visit)?));
            if let Some(ControlFlow::Break(())) = keep_going(visited, &mut first_fault)? {
                return Ok(());
            }
        }
    }
    first_fault.map_or(Ok(()), |fault: Fault| Err(fault.into()))
}

/// Keeps the first fault and goes on; any other error ends the reading.
fn keep_going<T, E: Into<FsError>>(
    visited: Result<T, E>,
    first_fault: &mut Option<Fault>,
) -> Result<Option<T>, FsError> {
    match visited.map_err(Into::into) {
        Ok(flow) => Ok(Some(flow)),
        Err(FsError::Corrupt(fault)) => {
            first_fault.get_or_insert(fault);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The records of the $INDEX_ALLOCATION of an index.
pub(crate) struct IndexRecords<'v> {
    volume: &'v Volume,
    at: u64,
    allocation: Content<'v>,
    bitmap: Content<'v>,
    record_bytes: u64,
    records: u64,
    /// Of $BITMAP, that were ever written.
    bits: u64,
    next: u64,
    /// The piece of $BITMAP that holds the bit of `next`, if it has been read.
    piece: Vec<u8>,
    piece_at: Option<u64>,
    record: Vec<u8>,
}

impl<'v> IndexRecords<'v> {
    /// Opens the index called `name` (UTF-16) of `file`, which was loaded whole; `root` is its $INDEX_ROOT.
    pub(crate) fn open(
        volume: &'v Volume,
        file: &FileRecord,
        name: &[u8],
        root: &Structure<'_>,
    ) -> Result<Self, FsError> {
        let record_bytes = root.u32_le(0x08)?;
        if !(512..=INDEX_RECORD_CAP_BYTES).contains(&record_bytes) || !record_bytes.is_power_of_two() {
            return Err(root.fault("index record size", 0x08, INDEX_RECORD_CAP_BYTES, record_bytes).into());
        }
        let record_bytes = u64::from(record_bytes);
        let attribute = |kind, what| {
            let stream = file.stream(volume, kind, name)?;
            Ok::<_, FsError>(stream.ok_or(Fault::new("index", file.at, what, "none"))?)
        };
        let allocation = attribute(Kind::INDEX_ALLOCATION, "an $INDEX_ALLOCATION attribute")?;
        let bitmap = attribute(Kind::BITMAP, "a $BITMAP attribute")?;
        // Every node must be read from somewhere, so that a claimed size costs reads.
        let in_volume = match &allocation.body {
            Body::Resident(_) => false,
            Body::Runs(runs) => !runs.has_hole() && runs.clusters() <= volume.clusters,
        };
        if !in_volume {
            let what = "$INDEX_ALLOCATION data runs";
            return Err(Fault::new(what, allocation.at, "clusters of the volume", "others").into());
        }
        // A bitmap that is nowhere would be looked through without a read.
        if matches!(&bitmap.body, Body::Runs(runs) if runs.has_hole()) {
            return Err(Fault::new("index $BITMAP data runs", bitmap.at, "no hole", "a hole").into());
        }
        // What was never written of it is zeros.
        let bits = bitmap.size.min(bitmap.initialized).saturating_mul(8);
        let records = allocation.size.checked_div(record_bytes).unwrap_or(0);
        Ok(Self {
            volume,
            at: allocation.at,
            allocation: content::open(volume, allocation)?,
            bitmap: content::open(volume, bitmap)?,
            record_bytes,
            records,
            bits,
            next: 0,
            piece: Vec::new(),
            piece_at: None,
            record: vec![0; usize::try_from(record_bytes).unwrap_or(0)],
        })
    }

    /// The number of the next used record.
    fn next_used(&mut self) -> Result<Option<u64>, FsError> {
        while self.next < self.records.min(self.bits) {
            let byte_at = self.next / 8;
            let piece_at = byte_at.saturating_sub(byte_at % BITMAP_PIECE_BYTES);
            if self.piece_at != Some(piece_at) {
                self.piece.resize(usize::try_from(BITMAP_PIECE_BYTES).unwrap_or(0), 0);
                let read = read_full(&mut self.bitmap, piece_at, &mut self.piece)?;
                self.piece.truncate(read);
                self.piece_at = Some(piece_at);
            }
            let within = usize::try_from(byte_at.saturating_sub(piece_at)).unwrap_or(usize::MAX);
            let Some(byte) = self.piece.get(within) else {
                return Ok(None);
            };
            let number = self.next;
            self.next = number.saturating_add(1);
            if (byte >> (number % 8)) & 1 != 0 {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// The record that begins at cluster `vcn` of the index, as an entry names its child.
    pub(crate) fn number_of(&self, vcn: u64) -> Result<u64, Fault> {
        let offset = vcn.checked_mul(self.vcn_bytes());
        let number = offset.and_then(|offset| offset.checked_div(self.record_bytes));
        let number = number.filter(|number| *number < self.records);
        number.ok_or_else(|| Fault::new("index entry VCN", self.at, self.records, vcn))
    }

    /// Counted in clusters, or in sectors of 512 bytes where a record is smaller than a cluster.
    fn vcn_bytes(&self) -> u64 {
        if self.record_bytes < self.volume.cluster_bytes { 512 } else { self.volume.cluster_bytes }
    }

    /// Reads record `number`.
    pub(crate) fn read(&mut self, number: u64) -> Result<Structure<'_>, FsError> {
        let vcn_bytes = self.vcn_bytes();
        let offset = number.saturating_mul(self.record_bytes);
        let Self { allocation, record, .. } = self;
        let read = read_full(allocation, offset, record)?;
        let at = allocation.position(offset).unwrap_or(0);
        let node = Structure::new("index record", at, record);
        if read != record.len() || node.slice(0, 4)? != b"INDX" {
            return Err(node.fault("index record signature", 0, "INDX", "something else").into());
        }
        if node.u64_le(0x10)?.checked_mul(vcn_bytes) != Some(offset) {
            return Err(node.fault("index record VCN", 0x10, offset, node.u64_le(0x10)?).into());
        }
        fix_up("index record", at, record)?;
        Ok(Structure::new("index record", at, record))
    }
}

/// Visits the entries of the node whose header is at `header_at` of `node`.
fn visit_node(node: &Structure<'_>, header_at: usize, visit: Visit<'_>) -> Result<ControlFlow<()>, Fault> {
    let header = node.rest("index node", header_at)?;
    let len = usize::try_from(header.u32_le(0x04)?).unwrap_or(usize::MAX);
    let header = node.part("index node", header_at, len)?;
    let mut offset = usize::try_from(header.u32_le(0x00)?).unwrap_or(usize::MAX);
    let mut bad_name = None;
    loop {
        let entry_len = usize::from(header.rest("index entry", offset)?.u16_le(0x08)?);
        let entry = header.part("index entry", offset, entry_len.max(ENTRY_HEADER_BYTES))?;
        if entry.u8(0x0C)? & LAST_ENTRY != 0 {
            return bad_name.map_or(Ok(ControlFlow::Continue(())), Err);
        }
        let key = entry.part("file name", ENTRY_HEADER_BYTES, usize::from(entry.u16_le(0x0A)?))?;
        match visit_entry(entry.u64_le(0)?, &key, visit) {
            Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
            Ok(ControlFlow::Continue(())) => {}
            Err(fault) => bad_name = bad_name.or(Some(fault)),
        }
        offset = offset.saturating_add(entry_len.max(ENTRY_HEADER_BYTES));
    }
}

fn visit_entry(
    reference: u64,
    file_name: &Structure<'_>,
    visit: Visit<'_>,
) -> Result<ControlFlow<()>, Fault> {
    let name_len = usize::from(file_name.u8(0x40)?).saturating_mul(2);
    // The Win32 name of the same file is an entry of its own.
    if file_name.u8(0x41)? == DOS_NAME {
        return Ok(ControlFlow::Continue(()));
    }
    let name = wtf8(file_name.slice(0x42, name_len)?);
    if name == b"." {
        return Ok(ControlFlow::Continue(()));
    }
    if name.is_empty() || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(file_name.fault("file name", 0x42, "no separator, NUL or ..", "one"));
    }
    let attributes = file_name.u32_le(0x38)?;
    let plain = if attributes & DIRECTORY_ATTRIBUTE != 0 { FileKind::Directory } else { FileKind::File };
    let kind = if attributes & REPARSE_ATTRIBUTE != 0 {
        reparse::kind(file_name.u32_le(0x3C)?).unwrap_or(plain)
    } else {
        plain
    };
    Ok(visit(DirEntry { name: &name, id: FileId::new(reference), kind: Some(kind) }))
}
