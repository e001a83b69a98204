//! Paths of a machine: symbolic links and mounts followed inside its own tree, and never out of it.
//!
//! As `openat2(2)` with `RESOLVE_IN_ROOT`: an absolute link begins at the system's root, and `..` at the root stays there.

use std::collections::HashMap;

use stillframe_fs::{FileId, FileKind, ReadOnlyFs};

use super::{Opened, entry};
use crate::walk::join;

/// Links in one path; the kernel follows as many.
const MAX_LINKS: u32 = 40;
/// Components of one path, those of links counted.
const MAX_COMPONENTS: u32 = 512;

/// The tree of one system, as far as it is mounted.
pub(super) struct Lookup<'a> {
    opened: &'a [Opened<'a>],
    /// What begins at a path of the machine; `None` for what is not looked into.
    mounts: HashMap<Vec<u8>, Option<Folder>>,
    /// Entries of folders that were looked up: paths of one system begin alike.
    known: HashMap<Place, Option<(FileId, FileKind)>>,
}

/// A folder of a filesystem.
#[derive(Debug, Clone)]
struct Folder {
    filesystem: usize,
    id: FileId,
    /// From the filesystem's root.
    path: Vec<u8>,
}

/// A name in a folder of a filesystem.
type Place = (usize, FileId, Vec<u8>);

/// A folder or file of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Real {
    /// The index of its filesystem.
    pub(super) filesystem: usize,
    /// Its id there.
    pub(super) id: FileId,
    /// Its path on the machine; empty for the root.
    pub(super) path: Vec<u8>,
    /// Its path from its filesystem's root.
    pub(super) folder: Vec<u8>,
}

impl<'a> Lookup<'a> {
    /// A tree in which nothing is mounted yet.
    pub(super) fn new(opened: &'a [Opened<'a>]) -> Self {
        Self { opened, mounts: HashMap::new(), known: HashMap::new() }
    }

    /// Mounts a folder of a filesystem at a path of the machine, over what was mounted there before.
    pub(super) fn mount(&mut self, at: Vec<u8>, filesystem: usize, id: FileId, path: Vec<u8>) {
        self.mounts.insert(at, Some(Folder { filesystem, id, path }));
    }

    /// Mounts what is not looked into: no path leads there or below.
    pub(super) fn close(&mut self, at: Vec<u8>) {
        self.mounts.insert(at, None);
    }

    /// The filesystem at this index.
    pub(super) fn fs(&self, filesystem: usize) -> Option<&'a dyn ReadOnlyFs> {
        self.opened.get(filesystem).map(|one| one.fs)
    }

    /// The folder that `path` leads to; `None` where it leads to none.
    pub(super) fn folder(&mut self, path: &[u8]) -> Option<Real> {
        let root = self.mounts.get(b"".as_slice())?.clone()?;
        let mut waiting: Vec<Vec<u8>> = components(path);
        let mut at: Vec<(Vec<u8>, Folder)> = vec![(Vec::new(), root)];
        let (mut links, mut met) = (0_u32, 0_u32);
        while let Some(name) = waiting.pop() {
            met = met.saturating_add(1);
            if met > MAX_COMPONENTS {
                return None;
            }
            if name == b".." {
                if at.len() > 1 {
                    at.pop();
                }
                continue;
            }
            let (path, folder) = at.last()?.clone();
            let below = join(&path, &name);
            // Where something is mounted need not be on the disk: systemd makes the folder when it mounts.
            if let Some(begins) = self.mounts.get(&below) {
                at.push((below, begins.clone()?));
                continue;
            }
            let (id, kind) = self.entry(folder.filesystem, folder.id, &name)?;
            match kind {
                FileKind::Directory => {
                    at.push((below, Folder { id, path: join(&folder.path, &name), ..folder }));
                }
                FileKind::Symlink => {
                    links = links.saturating_add(1);
                    let target = self.fs(folder.filesystem)?.read_link(id).ok()?;
                    if links > MAX_LINKS || target.is_empty() {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at.truncate(1);
                    }
                    waiting.extend(components(&target));
                }
                _ => return None,
            }
        }
        let (path, folder) = at.pop()?;
        Some(Real { filesystem: folder.filesystem, id: folder.id, path, folder: folder.path })
    }

    /// The regular file that `path` leads to; `None` where it leads to none.
    pub(super) fn file(&mut self, path: &[u8]) -> Option<Real> {
        let mut path = path.to_vec();
        for _ in 0..MAX_LINKS {
            let at = path.iter().rposition(|byte| *byte == b'/')?;
            let (folder, name) = (self.folder(path.get(..at)?)?, path.get(at.saturating_add(1)..)?);
            let (id, kind) = self.entry(folder.filesystem, folder.id, name)?;
            match kind {
                FileKind::File => {
                    let (path, own) = (join(&folder.path, name), join(&folder.folder, name));
                    return Some(Real { filesystem: folder.filesystem, id, path, folder: own });
                }
                FileKind::Symlink => {
                    let target = self.fs(folder.filesystem)?.read_link(id).ok()?;
                    path = if target.starts_with(b"/") { target } else { join(&folder.path, &target) };
                }
                _ => return None,
            }
        }
        None
    }

    fn entry(&mut self, filesystem: usize, folder: FileId, name: &[u8]) -> Option<(FileId, FileKind)> {
        let fs = self.fs(filesystem)?;
        // A folder that cannot be read is told by the walk.
        let look = || entry(fs, folder, name).ok().flatten();
        *self.known.entry((filesystem, folder, name.to_vec())).or_insert_with(look)
    }
}

/// The components of a path, the last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let mut names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
    names.reverse();
    names
}
