//! What every filesystem reader offers: [`ReadOnlyFs`].
//!
//! A reader is opened on one `BlockSource` and shared by all threads of a walk. Files are named by [`FileId`], which
//! a directory read gives; nothing is resolved by path, so no reader walks a path twice, and no symbolic link is ever
//! followed here.

mod attributes;
mod content_source;
mod error;
mod extent;
mod memory;
mod read_ahead;

use std::ops::{ControlFlow, Range};

pub use attributes::{FileFlags, Owners, Sid, XATTR_BYTES_AT_MOST, XATTRS_AT_MOST, Xattr};
pub use content_source::ContentSource;
pub use error::FsError;
pub use extent::{Extent, in_reading_order, prefetch_on};
pub use memory::MemoryContent;
pub use read_ahead::{HINT_EXTENTS_AT_MOST, ReadAhead, Streamed, extent_hints};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (NTFS: a reparse point that is one).
    Symlink,
    /// A block device node.
    BlockDevice,
    /// A character device node.
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// The format says something else.
    Unknown,
}

impl FileKind {
    /// The kind by the file type bits of a Unix mode (`S_IFMT`).
    #[must_use]
    pub const fn from_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o060_000 => Self::BlockDevice,
            0o020_000 => Self::CharacterDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => Self::Unknown,
        }
    }

    /// The letter that `find -printf %y` prints.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::File => 'f',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::BlockDevice => 'b',
            Self::CharacterDevice => 'c',
            Self::Fifo => 'p',
            Self::Socket => 's',
            Self::Unknown => 'U',
        }
    }
}

/// Names one file of one filesystem for as long as the reader is open: two names of one file (hard links) have the
/// same id. For ext: (0, inode); btrfs: (subvolume, inode); NTFS: (0, file record).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The subvolume or other tree that `number` counts in; 0 where the format has one tree.
    pub tree: u64,
    /// The inode or record number, or a number that the reader gave where the format has none.
    pub number: u64,
}

impl FileId {
    /// Number `number` of the only tree.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { tree: 0, number }
    }
}

/// Seconds since 1970-01-01 00:00 UTC, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What is known of a file besides its content. What the format lacks or the reader cannot see is `None`, and the
/// reader's [`FsDescription::hidden`] names it: nothing is guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// The length in bytes; of a symbolic link, of its target.
    pub size_bytes: u64,
    /// The Unix mode with its file type bits.
    pub mode: Option<u32>,
    /// The owner's number.
    pub uid: Option<u32>,
    /// The group's number.
    pub gid: Option<u32>,
    /// When the content last changed.
    pub modified: Option<Timestamp>,
    /// When the content, the owner, the mode, the links or another part of the inode last changed.
    pub changed: Option<Timestamp>,
    /// How many names it has.
    pub links: Option<u32>,
    /// What `lsattr` shows of it.
    pub flags: Option<FileFlags>,
    /// Set where the content is encrypted (ext4 and F2FS file encryption, EFS): it cannot be read.
    pub encrypted: bool,
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name as the disk has it, without a separator: never empty, `.`, `..`, or with `/` or NUL in it. NTFS and
    /// FAT names are UTF-8, unpaired surrogates as in WTF-8.
    pub name: &'a [u8],
    /// The file.
    pub id: FileId,
    /// What it is, where the directory says so.
    pub kind: Option<FileKind>,
}

/// What is known of a filesystem as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsDescription {
    /// `ext4`, `xfs`, `ntfs`, …, as `/proc/filesystems` has it.
    pub kind: &'static str,
    /// The label, as the disk has it.
    pub label: Option<Vec<u8>>,
    /// The UUID or serial number as `blkid` writes it.
    pub uuid: Option<String>,
    /// What the superblock says of its size, in bytes.
    pub size_bytes: u64,
    /// Whether a journal held changes when the picture was taken: `Some(true)` for a disk of a running machine.
    pub dirty: Option<bool>,
    /// The reader that serves this filesystem.
    pub reader: &'static str,
    /// What this reader cannot tell of a file, in words for the report: `"owner"`, `"modification time"`, ….
    pub hidden: Vec<&'static str>,
    /// What was done to read it, in words for the report: `"journal replayed"`, ….
    pub notes: Vec<&'static str>,
}

/// The content of one open file.
///
/// It has `&mut self` so that a reader can keep its place; a thread that reads a file has its own.
pub trait FileContent: Send {
    /// The length in bytes.
    fn len_bytes(&self) -> u64;

    /// Reads at `offset` into `buffer`, and says how much: less than asked for only at the end of the file, 0 past it.
    ///
    /// # Errors
    /// [`FsError`] where any byte of the range cannot be read as the kernel would read it. Then `buffer` holds nothing
    /// of value: a reader gives right bytes or none.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError>;

    /// Where the bytes of `range` lie on the filesystem's devices, in the order of the file: what a read of them will ask
    /// for. Holes have no place; of compressed content it is the compressed bytes; what was read already to open the file
    /// (content inside an inode) is left out. Reads what tells where they lie, and not the bytes; damage ends the list and
    /// is left for the read to meet. At most [`HINT_EXTENTS_AT_MOST`] extents.
    fn extents(&mut self, _range: Range<u64>) -> Vec<Extent> {
        Vec::new()
    }

    /// A hint that these bytes of the file will be read soon: [`ReadOnlyFs::prefetch`] of their extents, where the source
    /// wants hints.
    fn will_read(&mut self, _range: Range<u64>) {}
}

/// A filesystem that can be read by many threads.
///
/// Nothing is read at open but what names the filesystem; directories and files are read when asked for. No method
/// panics on any disk, and none loops without reading, so that a budget below ends it.
pub trait ReadOnlyFs: Send + Sync {
    /// What is known of the filesystem as a whole.
    fn description(&self) -> &FsDescription;

    /// The root directory. btrfs: the root of the top-level subvolume (5).
    fn root(&self) -> FileId;

    /// Calls `visit` for each entry of the directory until it breaks or the entries end.
    ///
    /// # Errors
    /// [`FsError`] where the directory is damaged. Entries that were whole have been visited by then, where the format
    /// lets a reader go on past damage.
    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError>;

    /// What is known of the file.
    ///
    /// # Errors
    /// [`FsError`] where its inode is damaged or missing.
    fn metadata(&self, file: FileId) -> Result<Metadata, FsError>;

    /// A hint that these files will be asked for soon, so that what describes them can be on its way. Reads nothing of them
    /// itself, and may do nothing.
    fn will_ask(&self, _files: &[FileId]) {}

    /// Whether [`Self::will_ask`] does anything. Where it does not, nobody needs to gather what will be asked for.
    fn wants_hints(&self) -> bool {
        false
    }

    /// A hint that these bytes of the devices will be read soon, so that a source that fetches may begin. The caller has
    /// put them in order ([`in_reading_order`]).
    fn prefetch(&self, _extents: &[Extent]) {}

    /// The extended attributes of a file, in the order of the disk. Names have their prefix (`security.capability`,
    /// `system.posix_acl_access`); values are as `getxattr(2)` gives them.
    ///
    /// # Errors
    /// [`FsError`] where they are damaged, or are more than [`XATTRS_AT_MOST`] or [`XATTR_BYTES_AT_MOST`].
    fn xattrs(&self, _file: FileId) -> Result<Vec<Xattr>, FsError> {
        Ok(Vec::new())
    }

    /// Who owns the file where owners are no numbers (NTFS); `None` where the format has none, or says nothing.
    ///
    /// # Errors
    /// [`FsError`] where the security descriptor is damaged or missing.
    fn owners(&self, _file: FileId) -> Result<Option<Owners>, FsError> {
        Ok(None)
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// [`FsError`] where it is damaged, encrypted, or uses what this reader does not know.
    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError>;

    /// The target of a symbolic link, as the disk has it.
    ///
    /// # Errors
    /// [`FsError`] where it is damaged or no link.
    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError>;

    /// Named streams besides a file's main content (NTFS). Their names go behind a colon where shown.
    ///
    /// # Errors
    /// [`FsError`] where the file record is damaged.
    fn alternate_streams(&self, _file: FileId) -> Result<Vec<AlternateStream>, FsError> {
        Ok(Vec::new())
    }

    /// Opens a named stream.
    ///
    /// # Errors
    /// As [`ReadOnlyFs::open`]; [`FsError::NotFound`] where there is no such stream.
    fn open_stream(&self, _file: FileId, _name: &[u8]) -> Result<Box<dyn FileContent + '_>, FsError> {
        Err(FsError::NotFound)
    }

    /// Faults met so far that did not stop a read: an inode table that failed its checksum, a directory that was read
    /// around a bad block. The walk asks once, at its end.
    fn faults(&self) -> Vec<stillframe_bytes::Fault> {
        Vec::new()
    }
}

/// A named stream of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlternateStream {
    /// The name in UTF-8 (unpaired surrogates as in WTF-8).
    pub name: Vec<u8>,
    /// The length in bytes.
    pub size_bytes: u64,
}

/// Reads a file from `offset` until `buffer` is full or the file ends; says how much was read.
///
/// # Errors
/// What the reader fails with.
pub fn read_full(file: &mut dyn FileContent, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match file.read_at(at, rest)? {
            0 => break,
            read => filled = filled.saturating_add(read),
        }
    }
    Ok(filled)
}

/// Reads a whole file of at most `cap_bytes`.
///
/// # Errors
/// [`FsError::Limit`] where the file is longer, else what the reader fails with.
pub fn read_whole(file: &mut dyn FileContent, cap_bytes: u64) -> Result<Vec<u8>, FsError> {
    let len = file.len_bytes();
    let limit = FsError::Limit { what: "file size in bytes", cap: cap_bytes };
    if len > cap_bytes {
        return Err(limit);
    }
    // A claimed size is not a reason to take memory: the content must be there first.
    let read_ahead = ReadAhead::default();
    let mut streamed = read_ahead.stream(len);
    let mut content = Vec::new();
    let mut chunk = vec![0; usize::try_from(len.clamp(1, 1 << 20)).map_err(|_| limit)?];
    loop {
        let offset = u64::try_from(content.len()).unwrap_or(u64::MAX);
        streamed.before_read(file, offset);
        let read = read_full(file, offset, &mut chunk)?;
        content.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if read < chunk.len() || offset.saturating_add(u64::try_from(read).unwrap_or(0)) >= len {
            return Ok(content);
        }
    }
}
