//! Directories: records in blocks, none of which crosses a block's end (ECMA-119, section 6.8.1).

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{DirEntry, FileId, FileKind, FsError};

use crate::record::Record;
use crate::{Iso9660Reader, Tree, name};

/// Sections of one file, as many as the kernel takes.
const SECTIONS_CAP: usize = 100;

/// Visits the entries of the directory whose own record is `own`.
pub(crate) fn read(
    fs: &Iso9660Reader,
    own: &Record,
    visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> Result<(), FsError> {
    let mut first_fault = None;
    // Where the first record lies of a file that has several.
    let mut first_section = None;
    let start = own.block.saturating_mul(fs.descriptors.block_bytes);
    let damage = each_record(fs, start, own.size_bytes.into(), |record| {
        if record.is_dot() || record.is_associated() {
            return Ok(ControlFlow::Continue(()));
        }
        let at = *first_section.get_or_insert(record.at);
        if record.goes_on() {
            return Ok(ControlFlow::Continue(()));
        }
        first_section = None;
        match entry(fs, &record, at) {
            Ok(Some((name, id, kind))) => Ok(visit(DirEntry { name: &name, id, kind: Some(kind) })),
            Ok(None) => Ok(ControlFlow::Continue(())),
            Err(FsError::Corrupt(fault)) => {
                first_fault.get_or_insert(fault);
                Ok(ControlFlow::Continue(()))
            }
            Err(error) => Err(error),
        }
    })?;
    let unfinished = first_section.map(|at| Fault::new("sections of a file", at, "a last one", "none"));
    first_fault.or(damage).or(unfinished).map_or(Ok(()), |fault| Err(fault.into()))
}

/// The name, id and kind of what `record` shows; `None` where it shows nothing here. The record of its first section
/// lies at `at`.
fn entry(
    fs: &Iso9660Reader,
    record: &Record,
    at: u64,
) -> Result<Option<(Vec<u8>, FileId, FileKind)>, FsError> {
    let rock_ridge = fs.rock_ridge(record)?;
    if rock_ridge.is_relocated {
        return Ok(None);
    }
    let name = match (rock_ridge.name, fs.tree) {
        (Some(name), _) => name,
        (None, Tree::Joliet) => name::joliet(&record.name),
        (None, _) => name::plain(&record.name),
    };
    if name.iter().any(|byte| matches!(byte, b'/' | 0)) || matches!(&name[..], b"" | b"." | b"..") {
        return Err(Fault::new("file name", record.at, "no separator, NUL or ..", "one").into());
    }
    // A directory is named by its own record, which the one here may not agree with.
    let directory = |block: u64| {
        let id = FileId::new(block.saturating_mul(fs.descriptors.block_bytes));
        Some((name.clone(), id, FileKind::Directory))
    };
    if let Some(block) = rock_ridge.child_block {
        return Ok(directory(block.into()));
    }
    if record.is_directory() {
        return Ok(directory(record.block));
    }
    let mode = rock_ridge.posix.map(|posix| posix.mode);
    let kind = mode.map_or(FileKind::File, FileKind::from_mode);
    Ok(Some((name, FileId::new(at), kind)))
}

/// The sections of the file whose first record is `first`: where each begins, in bytes, and its length.
pub(crate) fn sections(fs: &Iso9660Reader, first: Record) -> Result<Vec<Record>, FsError> {
    let mut sections = vec![first];
    while let Some(last) = sections.last().filter(|last| last.goes_on()) {
        if sections.len() >= SECTIONS_CAP {
            return Err(FsError::Limit { what: "sections of a file", cap: 100 });
        }
        let behind = last.at.saturating_add(last.len.into());
        let next = match fs.record(behind) {
            // The rest of a block is zeros where no record fits.
            Err(FsError::NotFound) => fs.record(behind.next_multiple_of(fs.descriptors.block_bytes.max(1))),
            next => next,
        };
        let at = last.at;
        let next = next.map_err(|error| match error {
            FsError::NotFound => Fault::new("sections of a file", at, "a last one", "none").into(),
            error => error,
        })?;
        sections.push(next);
    }
    Ok(sections)
}

/// Calls `take` for each record of `len_bytes` from `start` on. Gives back what is wrong behind the records that were
/// taken.
fn each_record(
    fs: &Iso9660Reader,
    start: u64,
    len_bytes: u64,
    mut take: impl FnMut(Record) -> Result<ControlFlow<()>, FsError>,
) -> Result<Option<Fault>, FsError> {
    let block_bytes = fs.descriptors.block_bytes;
    let mut block = vec![0; usize::try_from(block_bytes).unwrap_or(0)];
    let mut first_fault = None;
    let end = start.saturating_add(len_bytes);
    let mut at = start;
    while at < end {
        fs.source.read_exact_at(at, &mut block)?;
        let mut offset = 0_usize;
        while block.get(offset).is_some_and(|len| *len != 0) {
            let record_at = at.saturating_add(u64::try_from(offset).unwrap_or(0));
            let rest = block.get(offset..).unwrap_or_default();
            match Record::parse(&Structure::new("directory record", record_at, rest)) {
                Ok(record) => {
                    offset = offset.saturating_add(record.len.into());
                    if take(record)?.is_break() {
                        return Ok(None);
                    }
                }
                // Where the next one begins is not known; the next block's first one is.
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                    break;
                }
            }
        }
        at = at.saturating_add(block_bytes.max(1));
    }
    Ok(first_fault)
}
