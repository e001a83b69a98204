//! A tree as a list of facts, from a reader and from the folder that the image was made of.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use stillframe_block::SparseMemorySource;
use stillframe_fs::{FileContent, FileId, FileKind, FsError, ReadOnlyFs};

/// What is compared of a file. The size of a directory is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: char,
    pub(crate) size_bytes: u64,
    /// SHA-256 of a file's content in hex, a link's target, else nothing.
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: (i64, u32),
    pub(crate) links: u32,
}

pub(crate) type Listing = BTreeMap<Vec<u8>, Facts>;

/// Reads everything; what fails is in the second list.
pub(crate) fn read_all(fs: &dyn ReadOnlyFs) -> (Listing, Vec<(Vec<u8>, FsError)>) {
    let mut listing = Listing::new();
    let mut errors = Vec::new();
    let mut folders = vec![(Vec::new(), fs.root(), 0)];
    while let Some((path, folder, depth)) = folders.pop() {
        let mut entries = Vec::new();
        let outcome = fs.read_dir(folder, &mut |entry| {
            entries.push((entry.name.to_vec(), entry.id, entry.kind));
            ControlFlow::Continue(())
        });
        if let Err(error) = outcome {
            let ends = error.is_final();
            errors.push((path.clone(), error));
            if ends {
                return (listing, errors);
            }
        }
        for (name, id, kind) in entries {
            let path = [&path[..], b"/", &name].concat();
            match facts(fs, id, kind) {
                Ok(facts) => {
                    if facts.kind == 'd' && depth < 100 {
                        folders.push((path.clone(), id, depth + 1));
                    }
                    listing.insert(path, facts);
                }
                Err(error) => errors.push((path, error)),
            }
            // Damage may make one folder the child of another many times over.
            if listing.len() > 50_000 {
                return (listing, errors);
            }
        }
    }
    (listing, errors)
}

fn facts(fs: &dyn ReadOnlyFs, id: FileId, kind: Option<FileKind>) -> Result<Facts, FsError> {
    let metadata = fs.metadata(id)?;
    let content = match metadata.kind {
        FileKind::File => hash(&mut *fs.open(id)?)?,
        FileKind::Symlink => fs.read_link(id)?,
        _ => Vec::new(),
    };
    // A directory and an inode that disagree are like no file of a comparison.
    let agree = kind.is_none_or(|kind| kind == metadata.kind);
    let modified = metadata.modified.unwrap();
    Ok(Facts {
        kind: if agree { metadata.kind.letter() } else { '?' },
        size_bytes: if metadata.kind == FileKind::Directory { 0 } else { metadata.size_bytes },
        content,
        mode: metadata.mode.unwrap() & 0o7777,
        uid: metadata.uid.unwrap(),
        gid: metadata.gid.unwrap(),
        modified: (modified.seconds, modified.nanoseconds),
        links: if metadata.kind == FileKind::Directory { 0 } else { metadata.links.unwrap() },
    })
}

/// How much of a file is hashed: damage may claim exabytes of hole.
pub(crate) const HASHED_BYTES: usize = 64 << 20;

fn hash(file: &mut dyn FileContent) -> Result<Vec<u8>, FsError> {
    let mut digest = Sha256::new();
    // No power of two, so that reads begin and end anywhere in blocks and extents.
    let mut buffer = vec![0; 100_003];
    let mut offset = 0;
    while offset < u64::try_from(HASHED_BYTES).unwrap() {
        let left = HASHED_BYTES - usize::try_from(offset).unwrap();
        let piece = left.min(buffer.len());
        let buffer = &mut buffer[..piece];
        let read = file.read_at(offset, buffer)?;
        if read == 0 {
            assert!(offset >= file.len_bytes(), "a read ended before the file did");
            break;
        }
        digest.update(&buffer[..read]);
        offset += u64::try_from(read).unwrap();
    }
    Ok(hex(&digest.finalize()))
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
}

/// The same facts of a folder of this machine.
pub(crate) fn of_folder(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let file_type = metadata.file_type();
            let (kind, content) = if file_type.is_dir() {
                folders.push(path.clone());
                ('d', Vec::new())
            } else if file_type.is_symlink() {
                ('l', std::fs::read_link(&path).unwrap().into_os_string().into_vec())
            } else if file_type.is_file() {
                ('f', hex(&Sha256::digest(std::fs::read(&path).unwrap())))
            } else {
                (if file_type.is_fifo() { 'p' } else { 's' }, Vec::new())
            };
            let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            listing.insert(
                [b"/", relative].concat(),
                Facts {
                    kind,
                    size_bytes: if kind == 'd' { 0 } else { metadata.len() },
                    content,
                    mode: metadata.mode() & 0o7777,
                    uid: metadata.uid(),
                    gid: metadata.gid(),
                    modified: (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap()),
                    links: if kind == 'd' { 0 } else { u32::try_from(metadata.nlink()).unwrap() },
                },
            );
        }
    }
    listing
}

/// Bytes without a pattern, the same for the same seed (xorshift).
pub(crate) fn noise(mut seed: u64, len: usize) -> Vec<u8> {
    seed |= 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&next(&mut seed).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The next number of a xorshift generator.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Fills `root` with files of many sizes, links of many lengths, deep folders and a large one.
pub(crate) fn fill(root: &Path) {
    let folder = |name: &str| {
        std::fs::create_dir_all(root.join(name)).unwrap();
        root.join(name)
    };
    let many = folder("many");
    for number in 0..3000 {
        let name = format!("file-{number:04}-{}", "n".repeat(number % 50));
        std::fs::write(many.join(name), noise(7, number % 90)).unwrap();
    }
    let mut deep = String::from("deep");
    for level in 0..40 {
        deep.push_str(&format!("/level{level}"));
        std::fs::write(folder(&deep).join("file"), format!("level {level}\n")).unwrap();
    }
    let sizes = folder("sizes");
    for len in [0, 1, 500, 2047, 4095, 4096, 4097, 16_384, 100_000, 3_000_001] {
        std::fs::write(sizes.join(format!("noise{len}")), noise(9, len)).unwrap();
        std::fs::write(sizes.join(format!("text{len}")), b"one line, again. ".repeat(len / 17)).unwrap();
    }
    let links = folder("links");
    for len in [1, 30, 100, 335, 336, 400, 800, 1023] {
        std::os::unix::fs::symlink("t".repeat(len), links.join(format!("link{len}"))).unwrap();
    }
    std::fs::write(links.join(OsStr::from_bytes(b"not \xff UTF-8")), "name").unwrap();
}

/// Whether a program is there to be run.
pub(crate) fn has_program(name: &str) -> bool {
    Command::new(name).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A disk image that `program` decompresses from `path`.
pub(crate) fn decompressed(program: &str, path: &Path) -> SparseMemorySource {
    let mut child =
        Command::new(program).arg("-dc").arg(path).stdout(Stdio::piped()).spawn().expect("decompressor");
    let source = SparseMemorySource::from_reader(io::BufReader::new(child.stdout.take().unwrap())).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {}", path.display());
    source
}

/// The image at `path`.
pub(crate) fn image(path: &Path) -> SparseMemorySource {
    SparseMemorySource::from_reader(std::fs::File::open(path).unwrap()).unwrap()
}

/// The rows of an expected listing: path, type, size, SHA-256, remark.
pub(crate) fn expected_rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Compares what was read with expected rows, both ways.
pub(crate) fn assert_rows(listing: &Listing, rows: &[Vec<String>], what: &str) {
    for row in rows {
        let found = listing.get(row[0].as_bytes()).unwrap_or_else(|| panic!("{what}: {} is missing", row[0]));
        assert_eq!(found.kind.to_string(), row[1], "{what}: {}", row[0]);
        if row[1] != "d" {
            assert_eq!(found.size_bytes.to_string(), row[2], "{what}: {}", row[0]);
        }
        if row[1] == "f" {
            assert_eq!(found.content, row[3].as_bytes(), "{what}: {}", row[0]);
        }
        if row[1] == "l" {
            let target = row.last().unwrap();
            let target = target.rsplit(' ').next().unwrap();
            assert_eq!(found.content, target.as_bytes(), "{what}: {}", row[0]);
        }
    }
}
