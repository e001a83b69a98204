//! Inodes (Squashfs Binary Format, "Inode Table"). A file is named by where its inode lies, so that hard links are one.

use stillframe_bytes::{Fault, Quantity, Structure};
use stillframe_fs::{FileKind, FsError};

use crate::SquashfsReader;
use crate::metadata::{Cursor, Position};

const HEADER_LEN: usize = 16;
/// The kernel takes no longer target than a page; pages have up to 64 KiB.
const TARGET_CAP_BYTES: u32 = 65_536;
/// What stands for no fragment, and for no extended attributes.
const NONE: u32 = u32::MAX;
/// A listing's length counts these three bytes for `.` and `..`, which it does not have.
const DOTS_BYTES: u32 = 3;

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) kind: FileKind,
    pub(crate) permissions: u16,
    pub(crate) uid_index: u16,
    pub(crate) gid_index: u16,
    /// Seconds since 1970.
    pub(crate) modified: u32,
    pub(crate) links: u32,
    /// Its entry in the table of extended attributes.
    pub(crate) xattrs: Option<u32>,
    pub(crate) body: Body,
}

/// What kinds of files have of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Directory {
        listing: Position,
        listing_bytes: u32,
    },
    File(FileBody),
    Symlink {
        target: Position,
        target_bytes: u32,
    },
    /// Device nodes, pipes and sockets.
    Other,
}

/// Where the content of a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileBody {
    pub(crate) size_bytes: u64,
    /// Where its first block lies, in bytes.
    pub(crate) blocks_at: u64,
    pub(crate) tail: Option<Tail>,
    /// Where the sizes of its blocks are listed.
    pub(crate) block_list: Position,
}

/// The end of a file that lies in a fragment, with the ends of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) fragment: u32,
    /// Offset in bytes into the fragment's content.
    pub(crate) offset: u32,
}

impl Inode {
    pub(crate) fn read(fs: &SquashfsReader, reference: u64) -> Result<Self, FsError> {
        let table = fs.superblock.inode_table;
        let position = Position::of_reference(table, reference);
        let mut cursor = fs.metadata.cursor(position, fs.superblock.directory_table);
        let header: [u8; HEADER_LEN] = cursor.array()?;
        let header = Structure::new("inode", position.block_at, &header);
        let number = header.u16_le(0)?;
        let mut inode = Self {
            kind: kind_of(number).ok_or_else(|| header.fault("inode type", 0, "1 to 14", number))?,
            permissions: header.u16_le(2)? & 0o7777,
            uid_index: header.u16_le(4)?,
            gid_index: header.u16_le(6)?,
            modified: header.u32_le(8)?,
            links: 1,
            xattrs: None,
            body: Body::Other,
        };
        let is_extended = number > 7;
        match inode.kind {
            FileKind::Directory => inode.read_directory(fs, &mut cursor, is_extended)?,
            FileKind::File => inode.read_file(&mut cursor, is_extended)?,
            FileKind::Symlink => inode.read_symlink(&mut cursor, is_extended)?,
            _ => {
                inode.links = number_of(&mut cursor)?;
                if matches!(inode.kind, FileKind::BlockDevice | FileKind::CharacterDevice) {
                    cursor.skip(4)?;
                }
                if is_extended {
                    inode.xattrs = some(number_of(&mut cursor)?);
                }
            }
        }
        Ok(inode)
    }

    fn read_directory(
        &mut self,
        fs: &SquashfsReader,
        cursor: &mut Cursor<'_>,
        is_extended: bool,
    ) -> Result<(), FsError> {
        let at = cursor.position().block_at;
        let (start, offset, listing_bytes);
        if is_extended {
            let bytes: [u8; 24] = cursor.array()?;
            let body = Structure::new("extended directory inode", at, &bytes);
            self.links = body.u32_le(0)?;
            (listing_bytes, start, offset) = (body.u32_le(4)?, body.u32_le(8)?, body.u16_le(18)?);
            self.xattrs = some(body.u32_le(20)?);
        } else {
            let bytes: [u8; 16] = cursor.array()?;
            let body = Structure::new("directory inode", at, &bytes);
            self.links = body.u32_le(4)?;
            (start, listing_bytes, offset) = (body.u32_le(0)?, body.u16_le(8)?.into(), body.u16_le(10)?);
        }
        let block_at = fs.superblock.directory_table.saturating_add(start.into());
        self.body = Body::Directory {
            listing: Position { block_at, offset: offset.into() },
            listing_bytes: listing_bytes.saturating_sub(DOTS_BYTES),
        };
        Ok(())
    }

    fn read_file(&mut self, cursor: &mut Cursor<'_>, is_extended: bool) -> Result<(), FsError> {
        let at = cursor.position().block_at;
        let (size_bytes, blocks_at, fragment, offset);
        if is_extended {
            let bytes: [u8; 40] = cursor.array()?;
            let body = Structure::new("extended file inode", at, &bytes);
            (blocks_at, size_bytes) = (body.u64_le(0)?, body.u64_le(8)?);
            self.links = body.u32_le(24)?;
            (fragment, offset) = (body.u32_le(28)?, body.u32_le(32)?);
            self.xattrs = some(body.u32_le(36)?);
        } else {
            let bytes: [u8; 16] = cursor.array()?;
            let body = Structure::new("file inode", at, &bytes);
            blocks_at = body.u32_le(0)?.into();
            (fragment, offset, size_bytes) = (body.u32_le(4)?, body.u32_le(8)?, body.u32_le(12)?.into());
        }
        // Linux counts a file's bytes with a sign.
        if size_bytes > i64::MAX.unsigned_abs() {
            return Err(Fault::new("file size in bytes", at, i64::MAX.unsigned_abs(), size_bytes).into());
        }
        self.body = Body::File(FileBody {
            size_bytes,
            blocks_at,
            tail: some(fragment).map(|fragment| Tail { fragment, offset }),
            block_list: cursor.position(),
        });
        Ok(())
    }

    fn read_symlink(&mut self, cursor: &mut Cursor<'_>, is_extended: bool) -> Result<(), FsError> {
        let at = cursor.position().block_at;
        self.links = number_of(cursor)?;
        let target_bytes = number_of(cursor)?;
        if target_bytes > TARGET_CAP_BYTES {
            return Err(
                Fault::new("symbolic link target in bytes", at, TARGET_CAP_BYTES, target_bytes).into()
            );
        }
        self.body = Body::Symlink { target: cursor.position(), target_bytes };
        if is_extended {
            cursor.skip(usize::try_from(target_bytes).unwrap_or(usize::MAX))?;
            self.xattrs = some(number_of(cursor)?);
        }
        Ok(())
    }

    /// The mode with its type bits.
    pub(crate) fn mode(&self) -> u32 {
        let type_bits = match self.kind {
            FileKind::Directory => 0o040_000,
            FileKind::File => 0o100_000,
            FileKind::Symlink => 0o120_000,
            FileKind::BlockDevice => 0o060_000,
            FileKind::CharacterDevice => 0o020_000,
            FileKind::Fifo => 0o010_000,
            FileKind::Socket => 0o140_000,
            FileKind::Unknown => 0,
        };
        type_bits | u32::from(self.permissions)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        match &self.body {
            Body::File(file) => file.size_bytes,
            Body::Symlink { target_bytes, .. } => (*target_bytes).into(),
            Body::Directory { listing_bytes, .. } => {
                u64::from(*listing_bytes).saturating_add(DOTS_BYTES.into())
            }
            Body::Other => 0,
        }
    }
}

/// The kind that an inode's type stands for, and a directory entry's.
pub(crate) fn kind_of(number: u16) -> Option<FileKind> {
    Some(match number {
        1 | 8 => FileKind::Directory,
        2 | 9 => FileKind::File,
        3 | 10 => FileKind::Symlink,
        4 | 11 => FileKind::BlockDevice,
        5 | 12 => FileKind::CharacterDevice,
        6 | 13 => FileKind::Fifo,
        7 | 14 => FileKind::Socket,
        _ => return None,
    })
}

fn number_of(cursor: &mut Cursor<'_>) -> Result<u32, FsError> {
    cursor.array().map(u32::from_le_bytes)
}

fn some(number: u32) -> Option<u32> {
    (number != NONE).then_some(number)
}

/// Refuses what lies behind the filesystem's end.
pub(crate) fn check_inside(what: &'static str, at: u64, len: u64, bytes_used: u64) -> Result<(), Fault> {
    let end = at.checked_add(len).filter(|end| *end <= bytes_used);
    end.map(|_| ())
        .ok_or_else(|| Fault::new(what, at, Quantity::Hex(bytes_used), Quantity::Hex(at.saturating_add(len))))
}
