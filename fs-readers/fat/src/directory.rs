//! Directories: rows of 32-byte entries (fatgen103, "FAT Directory Structure").

use std::collections::HashSet;
use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_clusters::Table as _;
use stillframe_fs::{DirEntry, FileId, FileKind, FsError};

use crate::FatReader;
use crate::boot_sector::{FatKind, Root};
use crate::name::{self, LongName};

/// The length of an entry.
pub(crate) const ENTRY_BYTES: u64 = 32;
const ENTRY_LEN: usize = 32;
/// No directory may be longer.
const DIRECTORY_CAP_BYTES: u64 = 65_536 * ENTRY_BYTES;
/// What is read of FAT12's and FAT16's root directory at once.
const REGION_PIECE_BYTES: u64 = 16 << 10;

const END: u8 = 0x00;
const DELETED: u8 = 0xE5;
const LONG_NAME: u8 = 0x0F;
const LONG_NAME_MASK: u8 = 0x3F;
const VOLUME_LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;

/// What an entry says of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortEntry {
    /// Where it lies on the volume, in bytes.
    pub(crate) at: u64,
    pub(crate) kind: FileKind,
    pub(crate) first_cluster: u32,
    pub(crate) size_bytes: u32,
}

impl ShortEntry {
    /// `None` for what is no file: the end, deleted entries, parts of long names, the volume label, `.` and `..`.
    pub(crate) fn parse(entry: &Structure<'_>, fat: FatKind) -> Result<Option<Self>, Fault> {
        let attributes = entry.u8(11)?;
        if matches!(entry.u8(0)?, END | DELETED | b'.') || attributes & VOLUME_LABEL != 0 {
            return Ok(None);
        }
        let high = if fat == FatKind::Fat32 { entry.u16_le(20)? } else { 0 };
        Ok(Some(Self {
            at: entry.at(),
            kind: if attributes & DIRECTORY != 0 { FileKind::Directory } else { FileKind::File },
            first_cluster: u32::from(high) << 16 | u32::from(entry.u16_le(26)?),
            size_bytes: entry.u32_le(28)?,
        }))
    }
}

/// A part of a directory that lies in one piece on the volume.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: u64,
    len_bytes: u64,
}

/// Visits the entries of the directory; the root where `entry` is `None`.
pub(crate) fn read(
    fs: &FatReader,
    entry: Option<ShortEntry>,
    visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> Result<(), FsError> {
    let mut first_fault = None;
    let mut long_name = LongName::default();
    let damage = each_entry(fs, entry, |raw| {
        if raw.u8(11)? & LONG_NAME_MASK == LONG_NAME && raw.u8(0)? != DELETED {
            long_name.push(raw)?;
            return Ok(ControlFlow::Continue(()));
        }
        let Some(short) = ShortEntry::parse(raw, fs.boot.kind)? else {
            long_name.clear();
            return Ok(ControlFlow::Continue(()));
        };
        let name = match long_name.take(raw.array(0)?) {
            Some(name) => name,
            None => name::short(raw)?.into_bytes(),
        };
        if name.iter().any(|byte| matches!(byte, b'/' | 0)) || matches!(&name[..], b"" | b"." | b"..") {
            first_fault.get_or_insert(raw.fault("file name", 0, "no separator, NUL or ..", "one"));
            return Ok(ControlFlow::Continue(()));
        }
        Ok(visit(DirEntry { name: &name, id: FileId::new(short.at), kind: Some(short.kind) }))
    })?;
    first_fault.or(damage).map_or(Ok(()), |fault| Err(fault.into()))
}

/// The label that the root directory holds.
pub(crate) fn label(fs: &FatReader) -> Result<Option<String>, FsError> {
    let mut label = None;
    each_entry(fs, None, |raw| {
        let attributes = raw.u8(11)?;
        let is_label = attributes & VOLUME_LABEL != 0 && attributes & LONG_NAME_MASK != LONG_NAME;
        if !is_label || attributes & DIRECTORY != 0 || raw.u8(0)? == DELETED {
            return Ok(ControlFlow::Continue(()));
        }
        label = Some(name::text(raw.slice(0, 11)?));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(label)
}

/// Calls `take` for each 32-byte entry before the end mark. Gives back what is wrong with the chain behind the entries
/// that were taken.
fn each_entry(
    fs: &FatReader,
    entry: Option<ShortEntry>,
    mut take: impl FnMut(&Structure<'_>) -> Result<ControlFlow<()>, Fault>,
) -> Result<Option<Fault>, FsError> {
    let mut pieces = Pieces::new(fs, entry);
    let mut bytes = Vec::new();
    loop {
        let piece = match pieces.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(None),
            Err(FsError::Corrupt(fault)) => return Ok(Some(fault)),
            Err(error) => return Err(error),
        };
        bytes.resize(usize::try_from(piece.len_bytes).unwrap_or(0), 0);
        fs.source.read_exact_at(piece.at, &mut bytes)?;
        let mut at = piece.at;
        for raw in bytes.chunks_exact(ENTRY_LEN) {
            let raw = Structure::new("directory entry", at, raw);
            if raw.u8(0)? == END || take(&raw)?.is_break() {
                return Ok(None);
            }
            at = at.saturating_add(ENTRY_BYTES);
        }
    }
}

/// The pieces of a directory, read from the FAT as they are needed.
struct Pieces<'a> {
    fs: &'a FatReader,
    left: Left,
    seen: HashSet<u32>,
    len_bytes: u64,
}

enum Left {
    Region(Piece),
    Cluster(u32),
    Nothing,
}

impl<'a> Pieces<'a> {
    fn new(fs: &'a FatReader, entry: Option<ShortEntry>) -> Self {
        let left = match (entry, fs.boot.root) {
            (Some(entry), _) => Left::Cluster(entry.first_cluster),
            (None, Root::Chain(cluster)) => Left::Cluster(cluster),
            (None, Root::Region { at, len_bytes }) => Left::Region(Piece { at, len_bytes }),
        };
        Self { fs, left, seen: HashSet::new(), len_bytes: 0 }
    }

    fn next(&mut self) -> Result<Option<Piece>, FsError> {
        match self.left {
            Left::Nothing => Ok(None),
            Left::Region(Piece { len_bytes: 0, .. }) => Ok(None),
            Left::Region(Piece { at, len_bytes }) => {
                let take = len_bytes.min(REGION_PIECE_BYTES);
                let rest = Piece { at: at.saturating_add(take), len_bytes: len_bytes.saturating_sub(take) };
                self.left = Left::Region(rest);
                Ok(Some(Piece { at, len_bytes: take }))
            }
            Left::Cluster(cluster) => {
                let boot = &self.fs.boot;
                let piece_at = boot.cluster_at(cluster).ok_or_else(|| {
                    Fault::new("directory's cluster chain", boot.table_at, "a cluster of the volume", cluster)
                })?;
                if !self.seen.insert(cluster) {
                    return Err(Fault::new("directory's cluster chain", piece_at, "an end", "a cycle").into());
                }
                self.len_bytes = self.len_bytes.saturating_add(boot.cluster_bytes);
                if self.len_bytes > DIRECTORY_CAP_BYTES.max(boot.cluster_bytes) {
                    return Err(
                        Fault::new("directory size", piece_at, DIRECTORY_CAP_BYTES, self.len_bytes).into()
                    );
                }
                self.left = self.fs.table.next(cluster)?.map_or(Left::Nothing, Left::Cluster);
                Ok(Some(Piece { at: piece_at, len_bytes: boot.cluster_bytes }))
            }
        }
    }
}
