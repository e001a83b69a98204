//! Every file of the disks, a line each, for comparison with other readers.
//!
//! Tab-separated: filesystem (`p1`, `whole`; with several disks `disk0/p1`), path from that filesystem's root, type as
//! `find -printf %y` prints it, size in bytes, SHA-256 of a regular file or `-`. It prints no findings, so people's names
//! in paths are shown.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use stillframe_block::{BlockSource, BudgetSource};
use stillframe_fs::{Extent, FileContent, FileId, FileKind, FsError, ReadAhead, ReadOnlyFs};
use stillframe_model::{Coverage, PathView};

use crate::Disk;
use crate::journal::{Event, Findings, Journal, Step};
use crate::layout::layout;
use crate::mount::Mounts;
use crate::open::{OpenVolume, open};
use crate::plan;
use crate::progress::Progress;
use crate::scan::opened_row;
use crate::walk::{Entry, Folder, Limits, Visitor, join, walk};
use stillframe_detectors::ledger::error_fault;

const PIECE_BYTES: usize = 256 * 1024;
/// What could not be told of streams is kept so often; a row shows fewer.
const MAX_FAULTS: usize = 1000;

/// How files are listed.
#[derive(Debug, Clone, Copy)]
pub struct FilesOptions {
    /// Whether regular files are read and hashed.
    pub sha256: bool,
    /// What reading one volume may cost.
    pub budget: stillframe_block::Budget,
}

/// Writes the lines of all filesystems to `out`; gives the rows of what could not be read.
///
/// # Errors
/// What `out` fails with.
pub fn files(
    disks: &[Disk],
    options: FilesOptions,
    progress: &Progress,
    out: &mut dyn Write,
) -> io::Result<Vec<Coverage>> {
    files_on(disks, options, progress, Findings::default(), &|_| {}, out)
}

/// Lists from where another listing ended: volumes whose listing was begun are not listed again.
///
/// # Errors
/// What `out` fails with.
pub fn files_on(
    disks: &[Disk],
    options: FilesOptions,
    progress: &Progress,
    before: Findings,
    journal: &Journal<'_>,
    out: &mut dyn Write,
) -> io::Result<Vec<Coverage>> {
    let layout = layout(disks, &[], &before.dead_disks, journal);
    journal(Event::Met { volumes: &layout.volumes, coverage: &layout.coverage });
    let mut coverage = layout.coverage;
    coverage.extend(before.coverage.iter().cloned());
    for volume in layout.volumes.into_iter().filter(|volume| !before.is_ended(&volume.name)) {
        let shown = if disks.len() > 1 { volume.name.clone() } else { volume.short_name.clone() };
        progress.set_reading(volume.name.as_str());
        journal(Event::Step(Step::Open(&volume.name)));
        let row = match open(volume, options.budget) {
            Ok(volume) => {
                journal(Event::Step(Step::Read(&volume.volume.name)));
                list(&volume, &shown, options, progress, out)?
            }
            Err(row) => *row,
        };
        // Before anybody calls the volume read: lines that wait in a buffer are lost where the next volume is deadly.
        out.flush()?;
        journal(Event::Read { row: &row, entries: 0 });
        coverage.push(row);
    }
    Ok(coverage)
}

/// One line, but for its hash. A disk has millions of them, so that a folder's path is kept once.
struct Line {
    name: Box<[u8]>,
    kind: FileKind,
    id: FileId,
    /// The name of the alternate stream, where this is one.
    stream: Option<Box<[u8]>>,
    /// `None` where it cannot be told; why is kept apart.
    size: Option<u64>,
}

/// The lines of one folder.
struct FolderLines {
    path: Vec<u8>,
    lines: Vec<Line>,
}

/// The lines of all folders, and what could not be told, by path.
#[derive(Default)]
struct Lines {
    folders: Vec<FolderLines>,
    faults: Vec<(Vec<u8>, FsError)>,
}

/// A line, and the path of its folder.
type Placed<'a> = (&'a [u8], &'a Line);

impl Lines {
    /// All lines in the order of their whole paths.
    fn ordered(&self) -> Vec<Placed<'_>> {
        let of_folder = |folder: &'_ FolderLines| folder.lines.len();
        let mut lines = Vec::with_capacity(self.folders.iter().map(of_folder).sum());
        for folder in &self.folders {
            lines.extend(folder.lines.iter().map(|line| (folder.path.as_slice(), line)));
        }
        lines.sort_unstable_by(by_path);
        lines
    }
}

/// Compares `folder/name`, and then streams, without putting the paths together.
fn by_path(a: &Placed<'_>, b: &Placed<'_>) -> Ordering {
    let common = a.0.len().min(b.0.len());
    let (start_a, rest_a) = a.0.split_at_checked(common).unwrap_or_default();
    let (start_b, rest_b) = b.0.split_at_checked(common).unwrap_or_default();
    let of_names = || match (rest_a, rest_b) {
        ([], []) => a.1.name.cmp(&b.1.name),
        _ => {
            let whole = |rest: &[u8], line: &Line| [rest, b"/", &line.name].concat();
            whole(rest_a, a.1).cmp(&whole(rest_b, b.1))
        }
    };
    start_a.cmp(start_b).then_with(of_names).then_with(|| a.1.stream.cmp(&b.1.stream))
}

fn list(
    volume: &OpenVolume,
    shown: &str,
    options: FilesOptions,
    progress: &Progress,
    out: &mut dyn Write,
) -> io::Result<Coverage> {
    let fs = &*volume.fs;
    let lister = Lister { fs, lines: Mutex::default() };
    let outcome = walk(fs, Limits::default(), &lister, progress);
    let mut listed = lister.lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    let untold = std::mem::take(&mut listed.faults);
    let lines = listed.ordered();

    let mut row = opened_row(volume, &Mounts::default(), PathView::Plain);
    row.facts.entries = Some(outcome.entries);
    let mut faults = outcome.faults;
    faults.extend(untold);
    let to_read = lines.iter().filter(|(_, line)| is_content(line)).count();
    progress.add_wanted(if options.sha256 { u64::try_from(to_read).unwrap_or(0) } else { 0 });
    let hashing = Hashing { volume, wanted: options.sha256, read_ahead: ReadAhead::default(), progress };
    for part in lines.chunks(hashing.lines_at_once()) {
        for (line, hash) in part.iter().zip(hashing.hashes_of(part)) {
            let hash = hash.unwrap_or_else(|error| {
                faults.push((join(line.0, &line.1.name), error));
                "-".to_owned()
            });
            let (path, line) = (full_path(line), line.1);
            let size = line.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
            writeln!(out, "{shown}\t{}\t{}\t{size}\t{hash}", raw_path(&path), line.kind.letter())?;
        }
    }
    faults.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, error) in &faults {
        row.push_fault(error_fault(error, Some(PathView::Plain.show(path))));
    }
    crate::scan::push_reader_faults(&mut row, fs);
    crate::scan::judge_faults(&mut row, volume, outcome.fault_count);
    Ok(row)
}

fn full_path((folder, line): &Placed<'_>) -> Vec<u8> {
    let mut path = join(folder, &line.name);
    if let Some(stream) = &line.stream {
        path.push(b':');
        path.extend_from_slice(stream);
    }
    path
}

/// Valid UTF-8 as it is; a backslash, a tab and a newline escaped, and other bytes as `\xHH`.
fn raw_path(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => shown.push_str("\\\\"),
                '\t' => shown.push_str("\\t"),
                '\n' => shown.push_str("\\n"),
                other => shown.push(other),
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

/// Whether a line has content that can be hashed.
fn is_content(line: &Line) -> bool {
    (line.kind == FileKind::File || line.stream.is_some()) && line.size.is_some()
}

/// The hashing of one filesystem's files.
struct Hashing<'a> {
    volume: &'a OpenVolume,
    /// Whether there is to be any.
    wanted: bool,
    read_ahead: ReadAhead,
    progress: &'a Progress,
}

impl Hashing<'_> {
    /// Few: a long listing begins at once, and its hashes are not all kept. All of them where each block is paid for and
    /// waited for: files in the order of names share blocks with files of other pieces, and each piece ends with reads that
    /// few threads wait for.
    fn lines_at_once(&self) -> usize {
        let is_paid = self.wanted && self.volume.budget.wants_hints();
        if is_paid { usize::MAX } else { 4096 }
    }

    /// The hash of each line, in their order. The files are read in the order of their numbers, which is closer to that
    /// of the disk than the order of names: neighbours share blocks.
    fn hashes_of(&self, lines: &[Placed<'_>]) -> Vec<Result<String, FsError>> {
        if !self.wanted {
            return lines.iter().map(|_| Ok("-".to_owned())).collect();
        }
        let mut by_number: Vec<(usize, &Line)> =
            lines.iter().enumerate().map(|(place, (_, line))| (place, *line)).collect();
        by_number.sort_by_key(|(_, line)| line.id);
        let wants_hints = self.volume.budget.wants_hints();
        let reading = plan::Reading {
            ahead_on: wants_hints.then_some(&*self.volume.fs),
            id: |(_, line): &(usize, &Line)| line.id,
            extents: |(_, line): &(usize, &Line)| self.extents(line),
            work: |(place, line): &(usize, &Line)| (*place, self.hash_of(line)),
        };
        let mut hashes = reading.run(&by_number);
        hashes.sort_by_key(|(place, _)| *place);
        hashes.into_iter().map(|(_, hash)| hash).collect()
    }

    fn extents(&self, line: &Line) -> Vec<Extent> {
        if !is_content(line) || line.stream.is_some() {
            return Vec::new();
        }
        // What goes wrong here goes wrong again when the file is read.
        let extents = || self.volume.fs.open(line.id).map(|mut file| plan::extents(&mut *file));
        catch_unwind(AssertUnwindSafe(extents)).ok().and_then(Result::ok).unwrap_or_default()
    }

    fn hash_of(&self, line: &Line) -> Result<String, FsError> {
        let fs = &*self.volume.fs;
        if !is_content(line) {
            return Ok("-".to_owned());
        }
        let hashed = catch_unwind(AssertUnwindSafe(|| {
            let mut file = match &line.stream {
                Some(name) => fs.open_stream(line.id, name)?,
                None => fs.open(line.id)?,
            };
            sha256(&mut *file, &self.volume.budget, &self.read_ahead)
        }));
        self.progress.add_read();
        hashed.unwrap_or(Err(FsError::Reader { reader: "reader", what: "the reader panicked on this file" }))
    }
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256(
    file: &mut dyn FileContent,
    budget: &BudgetSource,
    read_ahead: &ReadAhead,
) -> Result<String, FsError> {
    let mut hash = Sha256::new();
    let len = file.len_bytes();
    let mut piece = vec![0; usize::try_from(len).unwrap_or(usize::MAX).clamp(1, PIECE_BYTES)];
    let mut streamed = read_ahead.stream(len);
    let mut offset = 0_u64;
    while offset < len {
        budget.check()?;
        streamed.before_read(file, offset);
        let read = stillframe_fs::read_full(file, offset, &mut piece)?;
        if read == 0 {
            return Err(stillframe_bytes::Fault::new("file length", offset, len, offset).into());
        }
        hash.update(piece.get(..read).unwrap_or_default());
        offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The visitor that keeps every entry.
struct Lister<'a> {
    fs: &'a dyn ReadOnlyFs,
    lines: Mutex<Lines>,
}

/// What a [`Lister`] keeps for one folder.
#[derive(Default)]
struct InFolder {
    lines: Vec<Line>,
    faults: Vec<(Vec<u8>, FsError)>,
}

impl Visitor for Lister<'_> {
    type InFolder<'v>
        = InFolder
    where
        Self: 'v;

    fn enter(&self, _folder: &Folder) -> InFolder {
        InFolder::default()
    }

    fn visit(&self, entry: &Entry<'_>, in_folder: &mut InFolder) {
        let mut line = |kind, stream, size| {
            in_folder.lines.push(Line { name: entry.name.into(), kind, id: entry.id, stream, size });
        };
        match self.fs.alternate_streams(entry.id) {
            Ok(streams) => {
                for stream in streams {
                    line(FileKind::File, Some(stream.name.into()), Some(stream.size_bytes));
                }
            }
            // Where the inode cannot be read the walk has said why.
            Err(error) if entry.metadata.is_some() => {
                line(FileKind::Unknown, Some(b"?".as_slice().into()), None);
                in_folder.faults.push((entry.path(), error));
            }
            Err(_) => {}
        }
        line(entry.kind, None, entry.metadata.map(|metadata| metadata.size_bytes));
    }

    fn leave(&self, folder: &Folder, mut in_folder: InFolder) {
        in_folder.lines.shrink_to_fit();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_FAULTS.saturating_sub(lines.faults.len());
        lines.faults.extend(in_folder.faults.into_iter().take(room));
        if !in_folder.lines.is_empty() {
            lines.folders.push(FolderLines { path: folder.path.clone(), lines: in_folder.lines });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_utf_8_are_printed_as_they_are() {
        assert_eq!(raw_path("/é\\\t\n".as_bytes()), "/é\\\\\\t\\n");
        assert_eq!(raw_path(b"/a\xff"), "/a\\xff");
    }

    #[test]
    fn lines_are_in_the_order_of_their_whole_paths() {
        let paths = [
            "/a", "/a-b", "/a-b/x", "/a/b", "/a/b:s", "/a/b/c", "/a/bc", "/b", "/a.", "/a0/0", "/a/b-",
            "/a/-",
        ];
        let mut lines = Lines::default();
        for path in paths {
            let (path, stream) = path.split_once(':').map_or((path, None), |(path, name)| (path, Some(name)));
            let (folder, name) = path.rsplit_once('/').unwrap();
            let line = Line {
                name: name.as_bytes().into(),
                kind: FileKind::File,
                id: FileId::new(1),
                stream: stream.map(|name| name.as_bytes().into()),
                size: None,
            };
            lines.folders.push(FolderLines { path: folder.into(), lines: vec![line] });
        }
        let found: Vec<Vec<u8>> = lines.ordered().iter().map(full_path).collect();
        let mut expected: Vec<(&str, &str)> =
            paths.iter().map(|path| path.split_once(':').unwrap_or((path, ""))).collect();
        expected.sort_unstable();
        let expected: Vec<Vec<u8>> = expected
            .into_iter()
            .map(|(path, stream)| {
                format!("{path}{}{stream}", if stream.is_empty() { "" } else { ":" }).into()
            })
            .collect();
        assert_eq!(found, expected);
    }
}
