//! Reparse points ([MS-FSCC] 2.1.2): symbolic links, and files whose content a filter driver keeps elsewhere.

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileKind, FsError};

use crate::attribute::Kind;
use crate::content::read_stream;
use crate::names::wtf8;
use crate::record::{FileRecord, UNNAMED};
use crate::volume::Volume;

const MOUNT_POINT: u32 = 0xA000_0003;
const SYMLINK: u32 = 0xA000_000C;
const LX_SYMLINK: u32 = 0xA000_001D;
const AF_UNIX: u32 = 0x8000_0023;
const LX_FIFO: u32 = 0x8000_0024;
const LX_CHR: u32 = 0x8000_0025;
const LX_BLK: u32 = 0x8000_0026;
const WOF: u32 = 0x8000_0017;
const DEDUP: u32 = 0x8000_0013;
const SIS: u32 = 0x8000_0007;
const HSM: [u32; 2] = [0xC000_0004, 0x8000_0006];
const CONTAINER_LAYER: [u32; 4] = [0x8000_0018, 0x9000_1018, 0xA000_001F, 0xA000_0027];
const APP_EXECUTION_ALIAS: u32 = 0x8000_001B;
const FILE_SYNC: [u32; 2] = [0x8000_001E, 0x9000_0027];
const NFS: u32 = 0x8000_0014;
/// OneDrive before Windows 10, and what Windows 8 had in its place.
const OLD_PLACEHOLDER: [u32; 2] = [0x8000_0021, 0x8000_0015];
const PROJECTED: u32 = 0x9000_001C;
/// OneDrive and other synchronisation engines have sixteen, which differ in these four bits.
const CLOUD: u32 = 0x9000_001A;
const CLOUD_ENGINE: u32 = 0x0000_F000;

/// The largest that Windows allows, in bytes.
const REPARSE_CAP_BYTES: u64 = 16 << 10;

/// The kind of file that a reparse point with this tag is; `None` where it is what it would be without one.
pub(crate) const fn kind(tag: u32) -> Option<FileKind> {
    match tag {
        MOUNT_POINT | SYMLINK | LX_SYMLINK => Some(FileKind::Symlink),
        AF_UNIX => Some(FileKind::Socket),
        LX_FIFO => Some(FileKind::Fifo),
        LX_CHR => Some(FileKind::CharacterDevice),
        LX_BLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// Whether the $DATA attribute of a file with this tag is its content. `recalled` says whether the file's attributes
/// call its data offline.
pub(crate) fn check_content(tag: u32, recalled: bool) -> Result<(), FsError> {
    Err(FsError::Unsupported(match tag {
        DEDUP => "data deduplication",
        SIS => "single instance storage",
        PROJECTED => "a projected file",
        APP_EXECUTION_ALIAS => "an app execution alias",
        NFS => "a special file of the NFS server",
        tag if FILE_SYNC.contains(&tag) => "a file of Azure File Sync",
        tag if OLD_PLACEHOLDER.contains(&tag) => "a placeholder of a cloud file",
        tag if HSM.contains(&tag) => "hierarchical storage",
        tag if CONTAINER_LAYER.contains(&tag) => "a container layer",
        tag if tag & !CLOUD_ENGINE == CLOUD => {
            if !recalled {
                return Ok(());
            }
            "a cloud file that is not on this disk"
        }
        _ => "a reparse point of another kind",
    }))
}

/// The value of a file's $REPARSE_POINT attribute.
#[derive(Debug)]
pub(crate) struct ReparsePoint {
    pub(crate) tag: u32,
    at: u64,
    value: Vec<u8>,
}

impl ReparsePoint {
    /// The file's reparse point, if it has one. It may lie in clusters, so a record that was loaded whole is needed for
    /// that.
    pub(crate) fn of(volume: &Volume, record: &FileRecord) -> Result<Option<Self>, FsError> {
        let kind = Kind::REPARSE_POINT;
        let Some(stream) = record.stream(volume, kind, UNNAMED)? else { return Ok(None) };
        if stream.size > REPARSE_CAP_BYTES {
            return Err(Fault::new("reparse point", stream.at, REPARSE_CAP_BYTES, stream.size).into());
        }
        let at = stream.at;
        let value = read_stream(volume, stream)?;
        let tag = Structure::new("reparse point", at, &value).u32_le(0)?;
        Ok(Some(Self { tag, at, value }))
    }

    /// Whether the file lies behind the Windows Overlay Filter.
    pub(crate) const fn is_wof(&self) -> bool {
        self.tag == WOF
    }

    /// What follows the tag and the length.
    pub(crate) fn data(&self) -> Result<Structure<'_>, Fault> {
        let point = Structure::new("reparse point", self.at, &self.value);
        point.part("reparse data", 8, usize::from(point.u16_le(4)?))
    }

    /// The target of a link: the substitute name, which is what Windows follows, or the path of a WSL link.
    pub(crate) fn target(&self) -> Result<Vec<u8>, FsError> {
        let data = self.data()?;
        // A symbolic link has flags between the four name fields and the names.
        let names_at = match self.tag {
            SYMLINK => 12,
            MOUNT_POINT => 8,
            LX_SYMLINK => {
                // A version, then UTF-8.
                return match data.u32_le(0)? {
                    2 => Ok(data.rest("link target", 4)?.bytes().to_vec()),
                    _ => Err(FsError::Unsupported("a WSL link of another version")),
                };
            }
            _ => return Err(FsError::NotFound),
        };
        let names = data.rest("link names", names_at)?;
        let name = names.slice(usize::from(data.u16_le(0)?), usize::from(data.u16_le(2)?))?;
        Ok(wtf8(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(tag: u32, data: &[u8]) -> ReparsePoint {
        let len = u16::try_from(data.len()).unwrap().to_le_bytes();
        let value = [&tag.to_le_bytes()[..], &len, &[0, 0], data].concat();
        ReparsePoint { tag, at: 0, value }
    }

    #[test]
    fn the_substitute_name_is_the_target() {
        let names = b"D\0:\0C\0:\0";
        let symlink = [&[4, 0, 4, 0, 0, 0, 4, 0, 1, 0, 0, 0][..], names].concat();
        assert_eq!(point(SYMLINK, &symlink).target().unwrap(), b"C:");
        let junction = [&[0, 0, 4, 0, 4, 0, 4, 0][..], names].concat();
        assert_eq!(point(MOUNT_POINT, &junction).target().unwrap(), b"D:");
        assert_eq!(point(LX_SYMLINK, b"\x02\0\0\0../x").target().unwrap(), b"../x");
    }

    #[test]
    fn names_outside_the_point_are_faults() {
        assert!(point(MOUNT_POINT, &[0, 0, 6, 0, 0, 0, 0, 0, 1, 0]).target().is_err());
        assert!(point(SYMLINK, &[0; 4]).target().is_err());
    }

    #[test]
    fn content_kept_elsewhere_is_named() {
        let what = |tag, recalled| match check_content(tag, recalled) {
            Err(FsError::Unsupported(what)) => what,
            _ => "",
        };
        assert_eq!(what(DEDUP, false), "data deduplication");
        assert_eq!(what(APP_EXECUTION_ALIAS, false), "an app execution alias");
        assert_eq!(what(0x9000_1018, false), "a container layer");
        assert_eq!(what(0xA000_0027, false), "a container layer");
        assert_eq!(what(0x8000_0021, false), "a placeholder of a cloud file");
        assert_eq!(what(0x8765_4321, false), "a reparse point of another kind");
        assert_eq!(what(0x9000_601A, true), "a cloud file that is not on this disk");
        assert_eq!(what(0x9000_601A, false), "");
    }
}
