//! Directories (On-disk format, "Directory item"): one `DIR_INDEX` item for each entry, in the order of making.

use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{DirEntry, FileId, FileKind, FsError, in_reading_order};

use crate::node::{DIR_INDEX, INODE_ITEM, Key, ROOT_ITEM};
use crate::store::Store;
use crate::subvolumes;
use crate::view::View;

/// The root directory of every subvolume.
pub(crate) const ROOT_DIRECTORY: u64 = 256;
/// What the kernel shows where a snapshot has an entry of a subvolume that is not entered there: an empty directory.
pub(crate) const EMPTY_DIRECTORY: u64 = 2;
/// Leaves of a directory that are named to the source at once.
const HINTED_LEAVES: usize = 256;
/// Bit of the entry's type: the name is encrypted.
const TYPE_ENCRYPTED: u8 = 0x80;

/// What a visitor of entries gives back.
pub(crate) type Visit<'a> = dyn FnMut(DirEntry<'_>) -> ControlFlow<()> + 'a;

/// Visits all entries of `directory`. Goes on past damage where it can, and tells of the first at the end.
pub(crate) fn read(
    store: &Store,
    view: View<'_>,
    directory: FileId,
    visit: &mut Visit<'_>,
) -> Result<(), FsError> {
    let mut cursor = view.unplaced(store)?;
    let mut step = cursor.place_at(Key::new(directory.number, DIR_INDEX, 0));
    let mut damage: Option<FsError> = None;
    hint(store, view, directory.number);
    loop {
        let here = step.and_then(|()| match cursor.item() {
            Some((key, item)) if (key.object, key.kind) == (directory.number, DIR_INDEX) => {
                Ok(Some(read_entry(store, directory, &item, visit)?))
            }
            _ => Ok(None),
        });
        match here {
            Ok(Some(ControlFlow::Continue(()))) => {}
            Ok(Some(ControlFlow::Break(()))) => return Ok(()),
            Ok(None) => break,
            Err(error) if error.is_final() => return Err(error),
            Err(error) => damage = damage.or(Some(error)),
        }
        if cursor.is_at_end() {
            break;
        }
        step = cursor.advance();
    }
    damage.map_or(Ok(()), Err)
}

/// Names the leaves of a long directory to a source that fetches.
fn hint(store: &Store, view: View<'_>, directory: u64) {
    if store.wants_hints() {
        let keys = (Key::new(directory, DIR_INDEX, 0), Key::new(directory, DIR_INDEX, u64::MAX));
        let mut extents = Vec::new();
        store.add_nodes(&mut extents, view.tree, keys, HINTED_LEAVES);
        store.prefetch(&in_reading_order(extents));
    }
}

/// Location key, transaction, length of data, length of name, type, name.
fn read_entry(
    store: &Store,
    directory: FileId,
    item: &Structure<'_>,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, FsError> {
    let location = Key::parse(item, 0)?;
    let name = item.slice(30, item.u16_le(27)?.into())?;
    let entry_type = item.u8(29)?;
    if entry_type & TYPE_ENCRYPTED != 0 {
        return Err(FsError::Encrypted("btrfs names"));
    }
    check_name(item, "directory entry name", 30, name)?;
    let id = match location.kind {
        INODE_ITEM => FileId { tree: directory.tree, number: location.object },
        ROOT_ITEM => {
            let child = location.object;
            if subvolumes::is_entered_at(store, directory.tree, directory.number, name, child)? {
                FileId { tree: child, number: ROOT_DIRECTORY }
            } else {
                FileId { tree: directory.tree, number: EMPTY_DIRECTORY }
            }
        }
        other => return Err(Fault::new("directory entry location", item.at(), INODE_ITEM, other).into()),
    };
    Ok(visit(DirEntry { name, id, kind: file_kind(entry_type) }))
}

/// A name that a path can be made of: a damaged disk must not lead anywhere else.
pub(crate) fn check_name(
    item: &Structure<'_>,
    what: &'static str,
    offset: usize,
    name: &[u8],
) -> Result<(), Fault> {
    if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(item.fault(what, offset, "a name", "none, or a separator in it"));
    }
    Ok(())
}

fn file_kind(number: u8) -> Option<FileKind> {
    match number {
        1 => Some(FileKind::File),
        2 => Some(FileKind::Directory),
        3 => Some(FileKind::CharacterDevice),
        4 => Some(FileKind::BlockDevice),
        5 => Some(FileKind::Fifo),
        6 => Some(FileKind::Socket),
        7 => Some(FileKind::Symlink),
        _ => None,
    }
}
