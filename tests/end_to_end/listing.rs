//! What `stillframe files` prints, what another tool lists, and how the two are compared.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and computes with numbers of its own"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ruzstd::decoding::StreamingDecoder;
use stillframe_block::SparseMemorySource;
use stillframe_fixtures::{expected, unescaped};
use stillframe_fs::{FileId, FileKind, ReadOnlyFs};
use stillframe_scanner::Disk;
use stillframe_scanner::layout::{Volume, layout};

use crate::disks;
use crate::harness::Place;

/// One entry. Sizes are those of regular files and of links: what a directory takes is no two tools' same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: char,
    pub size_bytes: Option<u64>,
    pub sha256: Option<String>,
}

impl Entry {
    fn new(kind: char, size_bytes: Option<u64>, sha256: Option<String>) -> Self {
        Self { kind, size_bytes: size_bytes.filter(|_| matches!(kind, 'f' | 'l')), sha256 }
    }
}

/// Entries by filesystem (`p1`, `whole`) and path.
pub type Listing = BTreeMap<(String, Vec<u8>), Entry>;

/// What the program lists, and its exit code.
pub fn listed(place: &Place, images: &[&Path]) -> (Listing, i32) {
    let output = place.run(&["files", "--quiet", "--hash", "sha256"], images);
    (listing_of(str::from_utf8(&output.stdout).unwrap()), output.status.code().unwrap())
}

/// The entries of a listing; columns after the fifth are passed over.
pub fn listing_of(text: &str) -> Listing {
    let mut listing = Listing::new();
    for line in text.split_terminator('\n') {
        let [filesystem, path, kind, size, sha256] = line.split('\t').take(5).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let key = (filesystem.to_owned(), unescaped(path).unwrap());
        let sha256 = (sha256 != "-").then(|| sha256.to_owned());
        let entry = Entry::new(kind.parse().unwrap(), size.parse().ok(), sha256);
        assert!(listing.insert(key, entry).is_none(), "listed twice: {line}");
    }
    listing
}

/// What lies on the golden image `name`.
pub fn golden_listing(name: &str) -> Listing {
    let hex = |digest: [u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let entry = |entry: stillframe_fixtures::ExpectedEntry| {
        let key = (entry.filesystem, entry.path);
        (key, Entry::new(entry.kind, entry.size_bytes, entry.sha256.map(hex)))
    };
    expected(name).into_iter().map(entry).collect()
}

/// The rows of an expected listing of the corpora: path, type, size, sha256, and in the fifth column what the tree is
/// (`subvol=256`) and where a link leads.
pub fn corpus_rows(path: &Path) -> Vec<(Vec<u8>, Entry, String)> {
    let text = if path.extension().is_some_and(|ending| ending == "xz") {
        disks::tool("xz", &["-dc", path.to_str().unwrap()])
    } else {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let row = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        let kind = fields[1].chars().next().unwrap();
        let sha256 = (fields[3] != "-").then(|| fields[3].to_owned());
        let entry = Entry::new(kind, fields[2].parse().ok(), sha256);
        (fields[0].into(), entry, fields.get(4).copied().unwrap_or_default().to_owned())
    };
    text.lines().map(row).collect()
}

/// An image of the corpora, written to a file with holes.
pub fn corpus_image(place: &Place, packed: &Path) -> PathBuf {
    let disk = if packed.extension().is_some_and(|ending| ending == "zst") {
        SparseMemorySource::from_reader(StreamingDecoder::new(File::open(packed).unwrap()).unwrap()).unwrap()
    } else {
        disks::decompressed(packed)
    };
    let path = place.path(packed.file_stem().unwrap().to_str().unwrap());
    disks::write(&disk, &path);
    path
}

/// The filesystems on an image, for reading them through the library.
pub fn volumes(image: &Path) -> Vec<Volume> {
    let disks = Disk::open_all(&[image], 32 << 20).unwrap();
    layout(&disks, &[], &[], &|_| {}).volumes
}

/// Every file of a filesystem by its path. What cannot be read is left out.
pub fn tree(fs: &dyn ReadOnlyFs) -> BTreeMap<Vec<u8>, FileId> {
    let mut tree = BTreeMap::new();
    let mut folders = vec![(Vec::new(), fs.root())];
    while let Some((folder, id)) = folders.pop() {
        let mut entries = Vec::new();
        // An encrypted folder is an error; the tests of listings look at how that is told.
        let _ = fs.read_dir(id, &mut |entry| {
            entries.push(([&folder, b"/".as_slice(), entry.name].concat(), entry.id));
            ControlFlow::Continue(())
        });
        for (path, id) in entries {
            if fs.metadata(id).unwrap().kind == FileKind::Directory {
                folders.push((path.clone(), id));
            }
            tree.insert(path, id);
        }
    }
    tree
}

/// Which side of a comparison has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The other tool alone.
    Missing,
    /// We alone.
    Extra,
    /// Both, with different types, sizes or contents.
    Changed,
}

/// An entry that the two listings do not agree on.
#[derive(Clone, PartialEq, Eq)]
pub struct Difference {
    pub filesystem: String,
    pub path: Vec<u8>,
    pub expected: Option<Entry>,
    pub found: Option<Entry>,
}

impl Difference {
    pub fn side(&self) -> Side {
        match (&self.expected, &self.found) {
            (Some(_), None) => Side::Missing,
            (None, _) => Side::Extra,
            _ => Side::Changed,
        }
    }
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.escape_ascii();
        write!(
            f,
            "{:?} {} {path}: expected {:?}, found {:?}",
            self.side(),
            self.filesystem,
            self.expected,
            self.found
        )
    }
}

/// All entries that are not in both listings alike.
pub fn differences(expected: &Listing, found: &Listing) -> Vec<Difference> {
    let mut keys: Vec<_> = expected.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| expected.get(key) != found.get(key));
    differing
        .map(|key| Difference {
            filesystem: key.0.clone(),
            path: key.1.clone(),
            expected: expected.get(key).cloned(),
            found: found.get(key).cloned(),
        })
        .collect()
}

/// Differences that are known: the paths, where `/*` at the end means everything below, and why.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub side: Side,
    pub paths: &'static [&'static str],
    pub why: &'static str,
}

impl Known {
    fn matches(&self, path: &str, difference: &Difference) -> bool {
        let is_path = match path.strip_suffix('*') {
            Some(folder) => difference.path.starts_with(folder.as_bytes()),
            None => difference.path == path.as_bytes(),
        };
        self.side == difference.side() && is_path
    }
}

/// Asserts that the known differences are there, each of them, and no other.
pub fn assert_only(image: &str, known: &[Known], differences: &[Difference]) {
    for known in known {
        for path in known.paths {
            let is_there = differences.iter().any(|difference| known.matches(path, difference));
            assert!(is_there, "{image}: {path} differs no longer ({}): take it off the list", known.why);
        }
    }
    let is_known = |difference: &&Difference| {
        known.iter().any(|known| known.paths.iter().any(|path| known.matches(path, difference)))
    };
    let unknown: Vec<_> = differences.iter().filter(|difference| !is_known(difference)).collect();
    assert!(unknown.is_empty(), "{image}: {} differences: {unknown:#?}", unknown.len());
}
