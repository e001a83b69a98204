use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::time::Duration;

use stillframe_block::Budget;
use stillframe_fs::{
    FileContent, FileId, FileKind, FsError, HINT_EXTENTS_AT_MOST, Metadata, ReadOnlyFs, XATTR_BYTES_AT_MOST,
    XATTRS_AT_MOST, read_full,
};

use crate::golden::Opened;

/// What [`read_all`] asks for where nobody says otherwise: more of a folder of thousands is more of the same.
pub const ENTRIES: usize = 1500;
const FOLDERS_AT_MOST: usize = 2000;
const PATH_BYTES_AT_MOST: usize = 2000;
const PIECE_BYTES: usize = 64 << 10;

/// Far more than a sound volume of some megabytes needs, and an end within seconds.
#[must_use]
pub const fn small_budget() -> Budget {
    Budget { reads: 40_000, bytes: 128 << 20, time: Duration::from_secs(2) }
}

/// What a reader said: `None` where it gave an error.
pub type Answer<T> = Option<T>;

/// A piece of a file: where it begins, how long it is, and a hash of its bytes.
pub type Sample = (u64, usize, u64);

/// What a reader said of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The file.
    pub id: FileId,
    /// Its metadata.
    pub metadata: Answer<Metadata>,
    /// The target of a symbolic link.
    pub target: Answer<Vec<u8>>,
    /// A hash of its extended attributes, in any order.
    pub xattrs: Answer<u64>,
    /// Its start, middle and end.
    pub content: Vec<Answer<Sample>>,
}

/// What a reader said of every entry, by path.
pub type Listing = BTreeMap<Vec<u8>, Row>;

/// Asks all that the trait offers of every file, and gives the number of entries. Ends with the budget, and past
/// `entries_at_most`.
///
/// # Panics
/// Where the reader does, or breaks what the trait promises: a name that is none, more attributes or extents than the
/// limits, more bytes than were asked for.
pub fn read_all(opened: &Opened, entries_at_most: usize) -> usize {
    read_all_into(opened, entries_at_most, &mut |_, _| ())
}

/// As [`read_all`], and tells each row.
///
/// # Panics
/// As [`read_all`].
pub fn read_all_into(opened: &Opened, entries_at_most: usize, tell: &mut dyn FnMut(Vec<u8>, Row)) -> usize {
    let fs = &*opened.fs;
    let mut folders = vec![(Vec::new(), fs.root())];
    let (mut seen, mut entered) = (0, 0);
    while let Some((path, folder)) = folders.pop() {
        let mut entries: Vec<(Vec<u8>, FileId, Option<FileKind>)> = Vec::new();
        let _ = fs.read_dir(folder, &mut |entry| {
            let is_name = !entry.name.is_empty() && !entry.name.contains(&b'/') && !entry.name.contains(&0);
            assert!(is_name && entry.name != b"." && entry.name != b"..", "an entry's name is none");
            entries.push((entry.name.to_vec(), entry.id, entry.kind));
            if entries.len() < entries_at_most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        for (name, id, kind) in entries {
            seen += 1;
            if seen > entries_at_most || opened.source.exhausted().is_some() {
                return seen;
            }
            let below = [&path, &b"/"[..], &name].concat();
            let row = row(fs, id);
            let kind = row.metadata.as_ref().map(|metadata| metadata.kind).or(kind);
            // A folder inside itself has longer paths each time.
            if kind == Some(FileKind::Directory)
                && entered < FOLDERS_AT_MOST
                && below.len() < PATH_BYTES_AT_MOST
            {
                entered += 1;
                folders.push((below.clone(), id));
            }
            tell(below, row);
        }
    }
    let _ = (fs.faults(), fs.description());
    seen
}

fn row(fs: &dyn ReadOnlyFs, id: FileId) -> Row {
    fs.will_ask(&[id]);
    let metadata = fs.metadata(id).ok();
    let xattrs = fs.xattrs(id).ok().map(|mut attributes| {
        let value_bytes: usize = attributes.iter().map(|attribute| attribute.value.len()).sum();
        assert!(
            attributes.len() <= XATTRS_AT_MOST && value_bytes <= XATTR_BYTES_AT_MOST,
            "more extended attributes than the limit"
        );
        attributes.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        let pairs: Vec<_> = attributes.iter().map(|attribute| (&attribute.name, &attribute.value)).collect();
        hash(&pairs)
    });
    let _ = fs.owners(id);
    let target = fs.read_link(id).ok();
    // Whatever it is said to be: what opens is read.
    let content = fs.open(id).map(|mut content| samples(&mut *content)).unwrap_or_default();
    let _ = streams(fs, id);
    Row { id, metadata, target, xattrs, content }
}

fn streams(fs: &dyn ReadOnlyFs, id: FileId) -> Result<(), FsError> {
    for stream in fs.alternate_streams(id)?.into_iter().take(64) {
        if let Ok(mut content) = fs.open_stream(id, &stream.name) {
            samples(&mut *content);
        }
    }
    Ok(())
}

/// The start, the middle and the end, and behind it: what lies between is more of the same.
fn samples(content: &mut dyn FileContent) -> Vec<Answer<Sample>> {
    let len = content.len_bytes();
    assert!(content.extents(0..len).len() <= HINT_EXTENTS_AT_MOST, "more extents than the limit");
    content.will_read(0..len);
    let mut piece = vec![0; PIECE_BYTES];
    let mut sample = |offset: u64| {
        let read = read_full(content, offset, &mut piece).ok()?;
        let there = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(PIECE_BYTES);
        assert!(read == there, "a read that succeeded ends elsewhere than the file");
        Some((offset, read, hash(&piece[..read])))
    };
    [0, len / 2, len.saturating_sub(100), len].map(&mut sample).to_vec()
}

fn hash(of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
