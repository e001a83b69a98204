//! What the tests of the small readers share: a walk that is compared with a golden listing, and a walk that uses
//! everything on a disk with bytes changed.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource};
use stillframe_fixtures::ExpectedEntry;
use stillframe_fs::{FileContent, FileId, FileKind, FsError, ReadOnlyFs, read_full};

pub(crate) type Listed = Vec<(Vec<u8>, FileId, Option<FileKind>)>;
pub(crate) type Opener = fn(Arc<dyn BlockSource>) -> Result<Box<dyn ReadOnlyFs>, FsError>;

pub(crate) fn list(fs: &dyn ReadOnlyFs, directory: FileId) -> Result<Listed, FsError> {
    let mut entries = Vec::new();
    fs.read_dir(directory, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.id, entry.kind));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// Every path with a leading slash.
pub(crate) fn walk(fs: &dyn ReadOnlyFs) -> BTreeMap<Vec<u8>, FileId> {
    let mut paths = BTreeMap::new();
    let mut directories = vec![(Vec::new(), fs.root())];
    while let Some((path, directory)) = directories.pop() {
        for (name, id, kind) in list(fs, directory).unwrap() {
            let path = [&path[..], b"/", &name].concat();
            let metadata = fs.metadata(id).unwrap();
            assert!(kind.is_none_or(|kind| kind == metadata.kind), "{}", path.escape_ascii());
            if metadata.kind == FileKind::Directory {
                directories.push((path.clone(), id));
            }
            assert!(paths.insert(path.clone(), id).is_none(), "listed twice: {}", path.escape_ascii());
        }
    }
    paths
}

pub(crate) fn find(fs: &dyn ReadOnlyFs, path: &str) -> FileId {
    path.split('/').filter(|name| !name.is_empty()).fold(fs.root(), |directory, name| {
        let entries = list(fs, directory).unwrap();
        entries.into_iter().find(|(entry, ..)| entry == name.as_bytes()).unwrap_or_else(|| panic!("{name}")).1
    })
}

pub(crate) fn read_all(file: &mut dyn FileContent) -> Result<Vec<u8>, FsError> {
    // An odd size, so that reads end within clusters and blocks.
    let mut content = Vec::new();
    let mut piece = vec![0; 70_001];
    loop {
        let read = read_full(file, u64::try_from(content.len()).unwrap(), &mut piece)?;
        content.extend_from_slice(&piece[..read]);
        if read < piece.len() {
            assert_eq!(u64::try_from(content.len()).unwrap(), file.len_bytes());
            return Ok(content);
        }
    }
}

pub(crate) fn content(fs: &dyn ReadOnlyFs, path: &str) -> Result<Vec<u8>, FsError> {
    read_all(&mut *fs.open(find(fs, path))?)
}

/// Everything that the listing knows of the filesystem called `label` is what the reader says, and nothing is left over.
pub(crate) fn assert_listed(fs: &dyn ReadOnlyFs, expected: &[ExpectedEntry], label: &str) {
    let mut paths = walk(fs);
    for entry in expected.iter().filter(|entry| entry.filesystem == label) {
        let shown = entry.path.escape_ascii().to_string();
        let id = paths.remove(&entry.path).unwrap_or_else(|| panic!("{label}: {shown} is missing"));
        let metadata = fs.metadata(id).unwrap();
        assert_eq!(metadata.kind.letter(), entry.kind, "{label}: {shown}");
        if let Some(size) = entry.size_bytes {
            assert_eq!(metadata.size_bytes, size, "{label}: {shown}");
        }
        if let Some(sha256) = entry.sha256 {
            let content = read_all(&mut *fs.open(id).unwrap()).unwrap();
            assert_eq!(Sha256::digest(&content)[..], sha256, "{label}: {shown}");
        }
        if metadata.kind == FileKind::Symlink {
            assert_eq!(
                u64::try_from(fs.read_link(id).unwrap().len()).unwrap(),
                metadata.size_bytes,
                "{shown}"
            );
        }
        let found = (metadata.mode.map(|mode| mode & 0o7777), metadata.uid, metadata.gid);
        assert_eq!(found, (entry.mode, entry.uid, entry.gid), "{label}: {shown}");
        let modified = metadata.modified.map(|modified| modified.seconds);
        assert_eq!(modified, entry.modified_seconds, "{label}: {shown}");
    }
    let extra: Vec<_> = paths.keys().map(|path| path.escape_ascii().to_string()).collect();
    assert_eq!(extra, Vec::<String>::new(), "{label}: not in the listing");
    assert_eq!(fs.faults(), [], "{label}");
}

/// Uses every method on whatever is there. Says how many calls failed.
pub(crate) fn use_all(fs: &dyn ReadOnlyFs) -> usize {
    let mut failed = 0;
    let mut directories = vec![fs.root()];
    let mut seen = HashSet::from([fs.root()]);
    let mut buffer = vec![0; 8192];
    while let Some(directory) = directories.pop().filter(|_| seen.len() < 20_000) {
        let mut entries = Vec::new();
        failed += usize::from(
            fs.read_dir(directory, &mut |entry| {
                entries.push(entry.id);
                if entries.len() < 5000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .is_err(),
        );
        for id in entries.into_iter().filter(|id| seen.insert(*id)) {
            let Ok(metadata) = fs.metadata(id) else {
                failed += 1;
                continue;
            };
            failed += usize::from(fs.xattrs(id).is_err());
            match metadata.kind {
                FileKind::Directory => directories.push(id),
                FileKind::Symlink => failed += usize::from(fs.read_link(id).is_err()),
                _ => match fs.open(id) {
                    Ok(mut file) => {
                        let len = file.len_bytes();
                        for offset in [600, len / 2, len.saturating_sub(100), u64::MAX - 3] {
                            failed += usize::from(file.read_at(offset, &mut buffer).is_err());
                        }
                        for range in [0..u64::MAX, u64::MAX - 5..u64::MAX, 9000..70_000] {
                            let extents = file.extents(range);
                            assert!(extents.len() <= stillframe_fs::HINT_EXTENTS_AT_MOST);
                        }
                    }
                    Err(_) => failed += 1,
                },
            }
        }
    }
    failed
}

pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// A limit that a whole walk of a golden disk stays below, and that a loop does not.
pub(crate) fn tight(source: Arc<dyn BlockSource>) -> Arc<BudgetSource> {
    let budget = Budget { reads: 300_000, bytes: 1 << 30, time: Duration::from_secs(20) };
    Arc::new(BudgetSource::new(source, budget))
}

/// How many disks were refused, and how many calls failed on the others.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: usize,
    pub(crate) failed: usize,
}

/// Opens and uses the disk with a few of its written bytes changed, once for each seed; `mend` makes checksums right
/// again.
pub(crate) fn mutations(
    disk: &SparseMemorySource,
    seeds: std::ops::Range<u64>,
    open: Opener,
    mend: fn(&mut SparseMemorySource),
) -> Tally {
    let pages: Vec<u64> = disk.written_pages().collect();
    let mut tally = Tally::default();
    for seed in seeds {
        let mut state = seed;
        let mut changed = disk.clone();
        for _ in 0..1 + seed % 24 {
            // Half of the changes near the start, where the structures are.
            let reach = if next(&mut state).is_multiple_of(2) { pages.len().min(12) } else { pages.len() };
            let page = pages[usize::try_from(next(&mut state)).unwrap() % reach];
            let at = page + next(&mut state) % 4096;
            let mut byte = [0];
            changed.read_exact_at(at, &mut byte).unwrap();
            let byte = match next(&mut state) % 4 {
                0 => 0,
                1 => 0xFF,
                2 => byte[0] ^ (1 << (next(&mut state) % 8)),
                _ => next(&mut state).to_le_bytes()[0],
            };
            changed.set(at, byte);
        }
        if seed.is_multiple_of(2) {
            mend(&mut changed);
        }
        let source = tight(Arc::new(changed));
        match open(source.clone()) {
            Ok(fs) => tally.failed += use_all(&*fs),
            Err(_) => tally.refused += 1,
        }
        assert_eq!(source.exhausted(), None, "seed {seed}");
    }
    tally
}
