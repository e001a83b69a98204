//! NTFS.
//!
//! File records are read some at once (`volume`), with their attributes and attribute lists (`record`, `attribute`) and the
//! clusters of those (`runs`); directories in the order of the disk and not along their tree (`index`). Content may be
//! compressed by LZNT1 (`content`, `lznt1`) or for CompactOS (`wof`, `xpress`, `lzx`), or be a link's (`reparse`). The
//! `ntfs` crate is an oracle in the tests: it finds no MFT that continues in an attribute list, reads each record twice,
//! and follows nodes in circles.
//!
//! Formats: libyal's libfsntfs documentation; [MS-XCA] 2.2 and 2.5 for XPRESS Huffman and LZNT1, [MS-PATCH] 2 for LZX;
//! [MS-FSCC] 2.1.2 for reparse points.
//!
//! The volume's own files (`$MFT`, `$Extend`, …) are listed, as Windows and other forensic readers have them: their
//! names begin with `$`, and some (`$Secure`) have named streams only and read as empty. A file is listed by its Win32
//! or POSIX name, never by its DOS name too.
//!
//! Owners come from `$Secure` or the file's own security descriptor (`secure`, `descriptor`); access control lists are not
//! read.
//!
//! Not supported, and said so when such a file is opened: EFS, files in WIM archives, deduplicated and cloud files, and
//! other reparse points that keep content elsewhere.
//!
//! The transaction log is not replayed: what Windows had logged and not yet written is missing. A volume that was in use
//! when the picture was taken is called dirty, with a note and a fault.

mod attribute;
mod bits;
mod boot;
mod content;
mod descriptor;
#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "test code over input it knows"
)]
mod hostile;
mod huffman;
mod index;
mod logfile;
mod lznt1;
mod lzx;
mod names;
mod pieces;
mod record;
mod reparse;
mod runs;
mod secure;
mod volume;
mod wof;
mod xpress;

use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::Fault;
use stillframe_fs::{
    AlternateStream, DirEntry, Extent, FileContent, FileId, FileKind, FsDescription, FsError, Metadata,
    Owners, ReadOnlyFs, Timestamp, prefetch_on,
};

use crate::attribute::{Attribute, Kind};
use crate::names::wtf8;
use crate::record::{FileRecord, Scope, UNNAMED, find_mft};
use crate::reparse::ReparsePoint;
use crate::secure::Secure;
use crate::volume::Volume;

const VOLUME_FILE: u64 = 3;
const ROOT_DIRECTORY: u64 = 5;
/// Of $VOLUME_INFORMATION.
const VOLUME_IS_DIRTY: u16 = 0x1;

/// Of $STANDARD_INFORMATION.
const ATTRIBUTE_OFFLINE: u32 = 0x1000;
const ATTRIBUTE_ENCRYPTED: u32 = 0x4000;
const ATTRIBUTE_RECALL: u32 = 0x0004_0000 | 0x0040_0000;

/// An NTFS filesystem.
pub struct NtfsReader {
    volume: Volume,
    description: FsDescription,
    root: FileId,
    faults: Vec<Fault>,
    secure: Secure,
}

/// Opens the NTFS filesystem that fills `volume`.
///
/// # Errors
/// [`FsError`] where the boot sector, the MFT's first record and its copy, or the root directory's record is damaged.
pub fn open(volume: Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError> {
    Ok(Box::new(NtfsReader::open(volume)?))
}

impl NtfsReader {
    /// As [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let mut volume = Volume::open(source)?;
        find_mft(&mut volume)?;
        let root = FileRecord::load(&volume, ROOT_DIRECTORY, Scope::Headers)?;
        if !root.is_directory() {
            return Err(Fault::new("root directory", root.at, "a directory", "another file").into());
        }
        let mut faults = volume.mirrored()?;
        let description = describe(&volume, &mut faults)?;
        let (claimed, found) = (description.size_bytes, volume.source.len_bytes());
        if found < claimed {
            faults.push(Fault::new("volume length", 0, claimed, found));
        }
        Ok(Self { volume, description, root: FileId::new(root.reference), faults, secure: Secure::default() })
    }

    fn load(&self, file: FileId, scope: Scope<'_>) -> Result<FileRecord, FsError> {
        if file.tree != 0 {
            return Err(FsError::NotFound);
        }
        FileRecord::load(&self.volume, file.number, scope)
    }
}

/// What the volume says of itself. Only an exhausted budget or a failing source ends this: a volume without a name can
/// be read.
fn describe(volume: &Volume, faults: &mut Vec<Fault>) -> Result<FsDescription, FsError> {
    let record = FileRecord::load(volume, VOLUME_FILE, Scope::Headers).map(Some);
    let record = record.or_else(|error| tolerated(error, faults))?;
    let value = |kind| record.as_ref()?.first(kind, UNNAMED)?.resident();
    let flags = value(Kind::VOLUME_INFORMATION).map(|information| information.u16_le(0x0A));
    let flags = flags.transpose().or_else(|fault| tolerated(fault.into(), faults))?;
    let flags = flags.map(|flags| flags & VOLUME_IS_DIRTY != 0);
    let label = value(Kind::VOLUME_NAME).map(|name| wtf8(name.bytes()));
    let logged = logfile::in_use(volume).map(Some).or_else(|error| tolerated(error, faults))?;
    let dirty = match (flags, logged) {
        (None, None) => None,
        (flags, logged) => Some(flags == Some(true) || logged == Some(true)),
    };
    if dirty == Some(true) {
        // What the log holds is missing from all that is read here.
        faults.push(Fault::new("transaction log", 0, "replayed", "not applied"));
    }
    Ok(FsDescription {
        kind: "ntfs",
        label: label.filter(|label| !label.is_empty()),
        uuid: Some(format!("{:016X}", volume.boot.serial_number)),
        size_bytes: volume.boot.size_bytes,
        dirty,
        reader: "stillframe-ntfs",
        hidden: vec!["mode", "owner"],
        notes: if dirty == Some(true) { vec!["transaction log not replayed"] } else { Vec::new() },
    })
}

fn tolerated<T>(error: FsError, faults: &mut Vec<Fault>) -> Result<Option<T>, FsError> {
    match error {
        FsError::Read(error) => return Err(FsError::Read(error)),
        FsError::Corrupt(fault) => faults.push(fault),
        _ => {}
    }
    Ok(None)
}

/// What $STANDARD_INFORMATION says.
struct Standard {
    modified: Option<Timestamp>,
    changed: Option<Timestamp>,
    attributes: u32,
    /// 0 where there is none: before NTFS 3.0 the structure ended before it, and ntfs-3g still writes such ones.
    security_id: u32,
}

impl Standard {
    fn of(record: &FileRecord) -> Result<Self, FsError> {
        let missing = Fault::new("file record", record.at, "a $STANDARD_INFORMATION attribute", "none");
        let information = record.first(Kind::STANDARD_INFORMATION, UNNAMED).ok_or(missing)?;
        let information = information.resident().ok_or(missing)?;
        Ok(Self {
            modified: timestamp(information.u64_le(0x08)?),
            changed: timestamp(information.u64_le(0x10)?),
            attributes: information.u32_le(0x20)?,
            security_id: if information.len() > 0x30 { information.u32_le(0x34)? } else { 0 },
        })
    }

    fn is_encrypted(&self) -> bool {
        self.attributes & ATTRIBUTE_ENCRYPTED != 0
    }
}

/// Units of 100 ns since 1601-01-01 as Windows counts them; 0 is no time.
fn timestamp(ticks: u64) -> Option<Timestamp> {
    const TICKS_PER_SECOND: u64 = 10_000_000;
    const SECONDS_FROM_1601_TO_1970: i64 = 11_644_473_600;
    let seconds = i64::try_from(ticks / TICKS_PER_SECOND).ok()?.checked_sub(SECONDS_FROM_1601_TO_1970)?;
    let nanoseconds = u32::try_from((ticks % TICKS_PER_SECOND).checked_mul(100)?).ok()?;
    (ticks != 0).then_some(Timestamp { seconds, nanoseconds })
}

fn kind_of(record: &FileRecord, reparse: Option<&ReparsePoint>) -> FileKind {
    let plain = if record.is_directory() { FileKind::Directory } else { FileKind::File };
    reparse.and_then(|point| reparse::kind(point.tag)).unwrap_or(plain)
}

impl ReadOnlyFs for NtfsReader {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        self.root
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let record = self.load(directory, Scope::Whole)?;
        // A junction is a directory too, and its index is empty.
        if kind_of(&record, ReparsePoint::of(&self.volume, &record)?.as_ref()) != FileKind::Directory {
            return Err(FsError::NotADirectory);
        }
        index::read(&self.volume, &record, visit)
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        let record = self.load(file, Scope::Headers)?;
        let standard = Standard::of(&record)?;
        let reparse = ReparsePoint::of(&self.volume, &record)?;
        let kind = kind_of(&record, reparse.as_ref());
        let data = record.first(Kind::DATA, UNNAMED);
        let size_bytes = match (kind, &reparse) {
            (FileKind::Symlink, Some(point)) => u64::try_from(point.target()?.len()).unwrap_or(u64::MAX),
            (FileKind::File, _) => data.map_or(0, Attribute::size),
            _ => 0,
        };
        let encrypted = kind == FileKind::File
            && (standard.is_encrypted() || data.is_some_and(|data| data.flags & content::ENCRYPTED != 0));
        Ok(Metadata {
            kind,
            size_bytes,
            mode: None,
            uid: None,
            gid: None,
            modified: standard.modified,
            changed: standard.changed,
            links: Some(u32::from(record.links)),
            flags: None,
            encrypted,
        })
    }

    fn owners(&self, file: FileId) -> Result<Option<Owners>, FsError> {
        let record = self.load(file, Scope::Whole)?;
        let standard = Standard::of(&record)?;
        self.secure.owners(&self.volume, &record, standard.security_id)
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        let record = self.load(file, Scope::Whole)?;
        let standard = Standard::of(&record)?;
        let reparse = ReparsePoint::of(&self.volume, &record)?;
        if kind_of(&record, reparse.as_ref()) != FileKind::File {
            return Err(FsError::NotAFile);
        }
        if standard.is_encrypted() {
            return Err(FsError::Encrypted("EFS"));
        }
        if let Some(point) = reparse {
            if point.is_wof() {
                return Ok(Box::new(wof::open(&self.volume, &record, &point)?));
            }
            let recalled = standard.attributes & (ATTRIBUTE_OFFLINE | ATTRIBUTE_RECALL) != 0;
            reparse::check_content(point.tag, recalled)?;
        }
        match record.stream(&self.volume, Kind::DATA, UNNAMED)? {
            Some(stream) => Ok(Box::new(content::open(&self.volume, stream)?)),
            None if record.may_lack_data() => Ok(Box::new(NoContent)),
            None => Err(Fault::new("file record", record.at, "an unnamed $DATA attribute", "none").into()),
        }
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let record = self.load(link, Scope::Whole)?;
        ReparsePoint::of(&self.volume, &record)?.ok_or(FsError::NotFound)?.target()
    }

    fn alternate_streams(&self, file: FileId) -> Result<Vec<AlternateStream>, FsError> {
        let record = self.load(file, Scope::Headers)?;
        let reparse = ReparsePoint::of(&self.volume, &record)?;
        let named = record.all(Kind::DATA).filter(|data| !data.name.is_empty());
        let named = named.filter(|data| !wof::hides(reparse.as_ref(), &data.name));
        Ok(named.map(|data| AlternateStream { name: wtf8(&data.name), size_bytes: data.size() }).collect())
    }

    fn open_stream(&self, file: FileId, name: &[u8]) -> Result<Box<dyn FileContent + '_>, FsError> {
        let record = self.load(file, Scope::Stream(name))?;
        let data = Kind::DATA;
        let reparse = ReparsePoint::of(&self.volume, &record)?;
        let named = record.all(data).filter(|data| !data.name.is_empty());
        let mut shown = named.filter(|data| !wof::hides(reparse.as_ref(), &data.name));
        let found = shown.find(|data| wtf8(&data.name) == name).ok_or(FsError::NotFound)?;
        let stream = record.stream(&self.volume, data, &found.name)?.ok_or(FsError::NotFound)?;
        Ok(Box::new(content::open(&self.volume, stream)?))
    }

    fn will_ask(&self, files: &[FileId]) {
        let numbers = files.iter().map(|file| record::record_number(file.number));
        let ranges = self.volume.record_hints(numbers);
        if !ranges.is_empty() {
            self.volume.source.prefetch(&ranges);
        }
    }

    fn wants_hints(&self) -> bool {
        self.volume.source.wants_hints()
    }

    fn prefetch(&self, extents: &[Extent]) {
        prefetch_on(std::slice::from_ref(&self.volume.source), extents);
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }
}

/// What a file without an unnamed $DATA attribute reads as.
struct NoContent;

impl FileContent for NoContent {
    fn len_bytes(&self) -> u64 {
        0
    }

    fn read_at(&mut self, _offset: u64, _buffer: &mut [u8]) -> Result<usize, FsError> {
        Ok(0)
    }
}
