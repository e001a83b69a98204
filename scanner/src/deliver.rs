//! What the detectors want of one filesystem: found by the walk, then each file is opened and read once for all who
//! want it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use stillframe_block::{BlockSource, BudgetSource};
use stillframe_detectors::{
    Delivered, Delivery, Detector, Fact, FileSet, FolderMatcher, Found, Matcher, Sourced, StreamSink, Want,
};
use stillframe_fs::{
    Extent, FileContent, FileId, FileKind, FsError, MemoryContent, ReadAhead, ReadOnlyFs, read_full,
};
use stillframe_model::{Location, PathView};

use crate::journal::{Event, Journal};
use crate::mount::Mounts;
use crate::plan;
use crate::progress::Progress;
use crate::walk::{Entry, Folder, Visitor, join};

/// The most that may be wanted of one filesystem, in entries and in bytes of their paths: a crafted folder names files
/// without end.
const MAX_WANTED: usize = 50_000;
const MAX_WANTED_PATH_BYTES: usize = 64 << 20;

/// How much of a file is read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// An entry that detectors want.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// From the filesystem's root.
    path: Vec<u8>,
    /// The system and the path on it, where it is mounted.
    machine: Option<(usize, Vec<u8>)>,
    folder: FileId,
    name_len: usize,
    id: FileId,
    kind: FileKind,
    wants: Vec<Want>,
}

/// The visitor that finds what is wanted.
pub struct Finder<'a> {
    matcher: &'a Matcher,
    mounts: &'a Mounts,
    wanted: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    entries: Vec<Wanted>,
    path_bytes: usize,
    is_over: bool,
}

impl List {
    fn push(&mut self, one: Wanted) {
        let path_bytes = self.path_bytes.saturating_add(one.path.len());
        self.is_over |= self.entries.len() >= MAX_WANTED || path_bytes > MAX_WANTED_PATH_BYTES;
        if !self.is_over {
            self.path_bytes = path_bytes;
            self.entries.push(one);
        }
    }
}

impl<'a> Finder<'a> {
    /// Finds what `matcher` wants on a filesystem that is mounted as `mounts` says.
    #[must_use]
    pub fn new(matcher: &'a Matcher, mounts: &'a Mounts) -> Self {
        Self { matcher, mounts, wanted: Mutex::default() }
    }

    /// What was found, in the order of paths.
    #[must_use]
    pub fn into_wanted(self) -> Vec<Wanted> {
        let mut wanted = self.wanted.into_inner().unwrap_or_else(PoisonError::into_inner).entries;
        wanted.sort_by(|a, b| a.path.cmp(&b.path));
        wanted
    }

    /// The fault where more was wanted than is kept.
    #[must_use]
    pub fn limit(&self) -> Option<FsError> {
        let is_over = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).is_over;
        let cap = u64::try_from(MAX_WANTED).unwrap_or(u64::MAX);
        is_over.then_some(FsError::Limit { what: "wanted files of one filesystem", cap })
    }
}

/// What a [`Finder`] keeps for one folder: for each system that sees it the path there, and what is wanted.
pub struct FinderFolder<'m> {
    seen: Vec<Seen<'m>>,
}

/// The system and the path there, and what is wanted; no system for a folder that is mounted nowhere.
type Seen<'m> = (Option<(usize, Vec<u8>)>, FolderMatcher<'m>);

impl Visitor for Finder<'_> {
    type InFolder<'v>
        = FinderFolder<'v>
    where
        Self: 'v;

    fn enter<'v>(&'v self, folder: &Folder) -> FinderFolder<'v> {
        let paths = self.mounts.machine_paths(&folder.path);
        if paths.is_empty() {
            return FinderFolder { seen: vec![(None, self.matcher.folder(None, std::iter::empty()))] };
        }
        let of_one_system = paths.chunk_by(|(one, _), (other, _)| one == other);
        let seen = of_one_system.filter_map(|paths| {
            // The first is the real one; the others lead to the same folder, as links do.
            let ((system, path), others) = paths.split_first()?;
            let links = paths.iter().flat_map(|(_, path)| self.mounts.other_paths(*system, path));
            let links = others.iter().map(|(_, path)| path.as_slice()).chain(links);
            Some((Some((*system, path.clone())), self.matcher.folder(Some(path), links)))
        });
        FinderFolder { seen: seen.collect() }
    }

    fn visit(&self, entry: &Entry<'_>, in_folder: &mut FinderFolder<'_>) {
        for (folder, matcher) in in_folder.seen.iter().filter(|(_, matcher)| !matcher.is_empty()) {
            let wants = matcher.wants(entry.name);
            if wants.is_empty() {
                continue;
            }
            let wanted = Wanted {
                path: entry.path(),
                machine: folder.as_ref().map(|(system, path)| (*system, join(path, entry.name))),
                folder: entry.folder.id,
                name_len: entry.name.len(),
                id: entry.id,
                kind: entry.kind,
                wants,
            };
            self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push(wanted);
        }
    }
}

/// One filesystem, and who wants something of it.
pub struct FilesystemDelivery<'a> {
    /// The filesystem.
    pub fs: &'a dyn ReadOnlyFs,
    /// Its name in the ledger.
    pub volume: &'a str,
    /// The detectors, in the order that the matcher knows.
    pub detectors: &'a [Box<dyn Detector>],
    /// Asked before each piece of a file that is read in order.
    pub budget: &'a BudgetSource,
    /// How paths are shown.
    pub view: PathView<'a>,
    /// Told of each file that was read.
    pub progress: &'a Progress,
    /// Told of the facts as they are found.
    pub journal: &'a Journal<'a>,
}

/// What was found out, and what could not be read, by path from the filesystem's root.
#[derive(Debug, Default)]
pub struct Harvest {
    /// The facts.
    pub facts: Vec<Sourced<Fact>>,
    /// The faults.
    pub faults: Vec<(Vec<u8>, FsError)>,
}

impl FilesystemDelivery<'_> {
    /// Hands everything in `wanted` to its detectors.
    #[must_use]
    pub fn run(&self, wanted: Vec<Wanted>) -> Harvest {
        // Names of one file (hard links) are one group: it is read once.
        let mut groups: BTreeMap<FileId, Vec<Wanted>> = BTreeMap::new();
        for one in wanted {
            groups.entry(one.id).or_default().push(one);
        }
        self.progress.add_wanted(u64::try_from(groups.len()).unwrap_or(u64::MAX));
        let groups: Vec<Vec<Wanted>> = groups.into_values().collect();
        let read_ahead = ReadAhead::default();
        let reading = plan::Reading {
            ahead_on: self.budget.wants_hints().then_some(self.fs),
            id: |group: &Vec<Wanted>| group.first().map_or_else(|| self.fs.root(), |one| one.id),
            extents: |group: &Vec<Wanted>| self.extents(group),
            work: |group: &Vec<Wanted>| {
                let found = self.group(group, &read_ahead);
                if !found.facts.is_empty() {
                    (self.journal)(Event::Facts(&found.facts));
                }
                found
            },
        };
        let mut all = Harvest::default();
        for part in reading.run(&groups) {
            all.facts.extend(part.facts);
            all.faults.extend(part.faults);
        }
        all
    }

    /// Where a file lies that somebody wants to read; what goes wrong here goes wrong again when it is read.
    fn extents(&self, names: &[Wanted]) -> Vec<Extent> {
        let Some(first) = names.first().filter(|one| one.kind == FileKind::File) else { return Vec::new() };
        let wants = || names.iter().flat_map(|one| &one.wants);
        if !wants().any(|want| matches!(want.delivery, Delivery::Whole { .. } | Delivery::Stream)) {
            return Vec::new();
        }
        let extents = self.guarded(|| {
            let mut file = self.fs.open(first.id)?;
            let len = file.len_bytes();
            let is_read = wants().any(|want| match want.delivery {
                Delivery::Whole { cap_bytes } => len <= cap_bytes,
                Delivery::Stream => true,
                Delivery::Entry | Delivery::Open => false,
            });
            Ok(if is_read { plan::extents(&mut *file) } else { Vec::new() })
        });
        extents.unwrap_or_default()
    }

    fn group(&self, names: &[Wanted], read_ahead: &ReadAhead) -> Harvest {
        let mut delivered = Harvest::default();
        let uid = names
            .first()
            .and_then(|one| self.guarded(|| self.fs.metadata(one.id)).ok())
            .and_then(|metadata| metadata.uid);
        let locations: Vec<Location> = names.iter().map(|one| self.location(one, uid)).collect();
        let calls: Vec<Call<'_>> = names
            .iter()
            .zip(&locations)
            .flat_map(|(one, location)| one.wants.iter().map(move |want| (one, location, want)))
            .filter_map(|(one, location, want)| {
                let detector = self.detectors.get(want.detector)?;
                let written = want.written.as_ref().map(|folder| join(folder, one.name()));
                Some(Call { detector: &**detector, written, location, want, wanted: one })
            })
            .collect();
        for call in calls.iter().filter(|call| call.want.delivery == Delivery::Entry) {
            delivered.inspect(call, Delivered::Entry);
        }
        let is_file = names.first().is_some_and(|one| one.kind == FileKind::File);
        let reading: Vec<&Call<'_>> =
            calls.iter().filter(|call| call.want.delivery != Delivery::Entry).collect();
        if is_file && !reading.is_empty() {
            self.read(&reading, read_ahead, &mut delivered);
        }
        self.progress.add_read();
        delivered
    }

    fn location(&self, one: &Wanted, uid: Option<u32>) -> Location {
        let kind = self.fs.description().kind;
        let path = one.real_path();
        Location::in_volume(self.volume, kind)
            .at(path, uid, self.view)
            .from_volume_root(&one.path, path, self.view)
    }

    /// Opens a file once and serves all who want its content.
    fn read(&self, calls: &[&Call<'_>], read_ahead: &ReadAhead, delivered: &mut Harvest) {
        let Some(first) = calls.first() else { return };
        let mut file = match self.guarded(|| self.fs.open(first.wanted.id)) {
            Ok(file) => file,
            Err(error) => return delivered.fault(first.wanted, error),
        };
        let content = self.guarded(|| read_in_order(&mut *file, read_ahead, calls, self.budget, delivered));
        let content = match content {
            Ok(content) => content,
            Err(error) => return delivered.fault(first.wanted, error),
        };
        for call in calls {
            match (call.want.delivery, &content) {
                (Delivery::Whole { cap_bytes }, Some(bytes)) if is_within(bytes.len(), cap_bytes) => {
                    delivered.inspect(call, Delivered::Whole(bytes));
                }
                (Delivery::Whole { cap_bytes }, _) => {
                    delivered
                        .fault(call.wanted, FsError::Limit { what: "bytes of this file", cap: cap_bytes });
                }
                (Delivery::Open, bytes) => {
                    let beside = Beside { fs: self.fs, folder: call.wanted.folder };
                    // What was read for another is not read again.
                    match bytes {
                        Some(bytes) => {
                            let mut memory = MemoryContent(bytes.clone());
                            delivered.inspect(call, Delivered::Open(&mut memory, &beside));
                        }
                        None => delivered.inspect(call, Delivered::Open(&mut *file, &beside)),
                    }
                }
                (Delivery::Entry | Delivery::Stream, _) => {}
            }
        }
    }

    /// Calls the reader behind a panic boundary.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
        let reader = self.fs.description().reader;
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or(Err(FsError::Reader { reader, what: "the reader panicked on this file" }))
    }
}

/// A detector that takes a file in pieces.
struct Stream<'a> {
    sink: Box<dyn StreamSink>,
    call: &'a Call<'a>,
    wants_more: bool,
}

/// Reads a file from its start, if anybody wants it so: streams get every piece, and the whole is kept where it is
/// wanted and not longer than the longest cap.
fn read_in_order(
    file: &mut dyn FileContent,
    read_ahead: &ReadAhead,
    calls: &[&Call<'_>],
    budget: &BudgetSource,
    delivered: &mut Harvest,
) -> Result<Option<Vec<u8>>, FsError> {
    let caps = calls.iter().filter_map(|call| match call.want.delivery {
        Delivery::Whole { cap_bytes } => Some(cap_bytes),
        _ => None,
    });
    let keep = caps.max().is_some_and(|cap| file.len_bytes() <= cap);
    let mut streams = begin_streams(calls, delivered);
    if !keep && streams.is_empty() {
        return Ok(None);
    }
    let mut whole = Vec::new();
    let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(file.len_bytes()).unwrap_or(PIECE_BYTES)).max(1)];
    let mut streamed = read_ahead.stream(file.len_bytes());
    let mut offset = 0_u64;
    loop {
        budget.check()?;
        streamed.before_read(file, offset);
        let read = read_full(file, offset, &mut piece)?;
        let bytes = piece.get(..read).unwrap_or_default();
        if keep {
            whole.extend_from_slice(bytes);
        }
        streams.retain_mut(|stream| !stream.wants_more || stream.take(bytes, delivered));
        offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        if read < piece.len() || (!keep && streams.iter().all(|stream| !stream.wants_more)) {
            break;
        }
    }
    for Stream { sink, call, .. } in streams {
        let mut facts = Vec::new();
        match catch_unwind(AssertUnwindSafe(|| sink.end(&call.found(), &mut facts))) {
            Ok(()) => delivered.facts.extend(facts),
            Err(_) => delivered.fault(call.wanted, panicked(call.detector)),
        }
    }
    Ok(keep.then_some(whole))
}

fn begin_streams<'a>(calls: &[&'a Call<'a>], delivered: &mut Harvest) -> Vec<Stream<'a>> {
    let mut streams = Vec::new();
    for call in calls.iter().filter(|call| call.want.delivery == Delivery::Stream) {
        match catch_unwind(AssertUnwindSafe(|| call.detector.stream(&call.found()))) {
            Ok(Some(sink)) => streams.push(Stream { sink, call, wants_more: true }),
            Ok(None) => {}
            Err(_) => delivered.fault(call.wanted, panicked(call.detector)),
        }
    }
    streams
}

impl Stream<'_> {
    /// Hands on the next piece. `false` where the detector panicked: it is told of nothing more, and its facts are lost.
    fn take(&mut self, bytes: &[u8], delivered: &mut Harvest) -> bool {
        match catch_unwind(AssertUnwindSafe(|| self.sink.take(bytes))) {
            Ok(wants_more) => {
                self.wants_more = wants_more;
                true
            }
            Err(_) => {
                delivered.fault(self.call.wanted, panicked(self.call.detector));
                false
            }
        }
    }
}

/// One detector's wish for one name of a file.
struct Call<'a> {
    detector: &'a dyn Detector,
    /// The path as the detector writes it, where that is another than the real one.
    written: Option<Vec<u8>>,
    location: &'a Location,
    want: &'a Want,
    wanted: &'a Wanted,
}

impl Call<'_> {
    fn found(&self) -> Found<'_> {
        let one = self.wanted;
        let path = self.written.as_ref().unwrap_or_else(|| one.real_path());
        let system = one.machine.as_ref().map_or(0, |(system, _)| *system);
        Found { path, name: one.name(), kind: one.kind, id: one.id, location: self.location, system }
    }
}

impl Wanted {
    fn real_path(&self) -> &Vec<u8> {
        self.machine.as_ref().map_or(&self.path, |(_, path)| path)
    }

    fn name(&self) -> &[u8] {
        self.path.get(self.path.len().saturating_sub(self.name_len)..).unwrap_or_default()
    }
}

fn is_within(len: usize, cap: u64) -> bool {
    u64::try_from(len).is_ok_and(|len| len <= cap)
}

const fn panicked(_detector: &dyn Detector) -> FsError {
    FsError::Reader { reader: "detector", what: "a detector panicked on this file" }
}

impl Harvest {
    fn fault(&mut self, wanted: &Wanted, error: FsError) {
        self.faults.push((wanted.path.clone(), error));
    }

    /// Calls a detector behind a panic boundary.
    fn inspect(&mut self, call: &Call<'_>, content: Delivered<'_>) {
        let mut facts = Vec::new();
        let result =
            catch_unwind(AssertUnwindSafe(|| call.detector.inspect(&call.found(), content, &mut facts)));
        match result {
            Ok(result) => {
                self.facts.extend(facts);
                if let Err(error) = result {
                    self.fault(call.wanted, error);
                }
            }
            Err(_) => self.fault(call.wanted, panicked(call.detector)),
        }
    }
}

/// The files in the folder of a wanted one.
struct Beside<'a> {
    fs: &'a dyn ReadOnlyFs,
    folder: FileId,
}

impl FileSet for Beside<'_> {
    fn open_beside(&self, name: &[u8]) -> Result<Option<Box<dyn FileContent + '_>>, FsError> {
        match crate::tree::entry(self.fs, self.folder, name)? {
            Some((id, FileKind::File)) => Ok(Some(self.fs.open(id)?)),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_has_an_end() {
        let (matcher, mounts) = (Matcher::new(&[]), Mounts::default());
        let finder = Finder::new(&matcher, &mounts);
        let one = |len| Wanted {
            path: vec![b'x'; len],
            machine: None,
            folder: FileId::new(2),
            name_len: 1,
            id: FileId::new(12),
            kind: FileKind::File,
            wants: Vec::new(),
        };
        let push = |len| finder.wanted.lock().unwrap_or_else(PoisonError::into_inner).push(one(len));
        push(MAX_WANTED_PATH_BYTES / 2);
        assert!(finder.limit().is_none());
        push(MAX_WANTED_PATH_BYTES);
        assert!(matches!(finder.limit(), Some(FsError::Limit { .. })));
        assert_eq!(finder.into_wanted().len(), 1);
    }
}
