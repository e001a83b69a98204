//! Where a subvolume lies in the top-level one (On-disk format, "Root reference", "Inode reference").

use stillframe_fs::FsError;

use crate::directory::{ROOT_DIRECTORY, check_name};
use crate::node::{INODE_REF, Key, ROOT_BACKREF};
use crate::store::Store;
use crate::subvolumes::{Subvolumes, TOP_LEVEL};
use crate::superblock::Tree;
use crate::tree::Cursor;

/// Folders of one path: references of a damaged tree may go in circles.
const MAX_FOLDERS: usize = 1024;

/// The path of subvolume `number` from the root of the top-level one, as [`crate::is_entered_at`] finds it on the way down;
/// empty for the top-level one itself.
///
/// # Errors
/// [`FsError::NotFound`] where nothing refers to it, [`FsError::Corrupt`] where a reference is damaged.
///
/// [`crate::is_entered_at`]: crate::subvolumes::is_entered_at
pub(crate) fn path(store: &Store, subvolumes: &Subvolumes, number: u64) -> Result<Vec<u8>, FsError> {
    // From the last component to the first.
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut child = number;
    while child != TOP_LEVEL {
        let (parent, mut folder, name) = entrance(store, child)?;
        names.push(name);
        let tree = subvolumes.tree(store, parent)?;
        while folder != ROOT_DIRECTORY {
            let (above, name) = reference(store, tree, folder)?;
            names.push(name);
            folder = above;
            limit(names.len())?;
        }
        child = parent;
        limit(names.len())?;
    }
    Ok(names.iter().rev().flat_map(|name| [b"/".as_slice(), name].concat()).collect())
}

fn limit(folders: usize) -> Result<(), FsError> {
    if folders <= MAX_FOLDERS {
        return Ok(());
    }
    Err(FsError::Limit {
        what: "folders above a subvolume",
        cap: u64::try_from(MAX_FOLDERS).unwrap_or(u64::MAX),
    })
}

/// Where a subvolume is entered: the subvolume above it, the folder there, and its name in that.
fn entrance(store: &Store, child: u64) -> Result<(u64, u64, Vec<u8>), FsError> {
    let cursor = Cursor::seek(store, store.superblock.root_tree, Key::new(child, ROOT_BACKREF, 0))?;
    let Some((key, item)) = cursor.item().filter(|(key, _)| (key.object, key.kind) == (child, ROOT_BACKREF))
    else {
        return Err(FsError::NotFound);
    };
    let len = usize::from(item.u16_le(16)?);
    let name = item.slice(18, len)?;
    check_name(&item, "root reference name", 18, name)?;
    Ok((key.offset, item.u64_le(0)?, name.to_vec()))
}

/// The folder that `folder` is in, and its name there. A folder has one name.
fn reference(store: &Store, tree: Tree, folder: u64) -> Result<(u64, Vec<u8>), FsError> {
    let cursor = Cursor::seek(store, tree, Key::new(folder, INODE_REF, 0))?;
    let Some((key, item)) = cursor.item().filter(|(key, _)| (key.object, key.kind) == (folder, INODE_REF))
    else {
        return Err(FsError::NotFound);
    };
    let len = usize::from(item.u16_le(8)?);
    let name = item.slice(10, len)?;
    check_name(&item, "inode reference name", 10, name)?;
    Ok((key.offset, name.to_vec()))
}
