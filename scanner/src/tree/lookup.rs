//! Paths of a machine: symbolic links and mounts followed inside its own tree, and never out of it.
//!
//! As `openat2(2)` with `RESOLVE_IN_ROOT`: an absolute link begins at the system's root, and `..` at the root stays there.

use std::collections::HashMap;

use stillframe_fs::{FileId, FileKind};

use super::{Opened, entry};
use crate::mount::Mounts;

/// Links in one path; the kernel follows as many.
const MAX_LINKS: u32 = 40;
/// Components of one path, those of links counted.
const MAX_COMPONENTS: u32 = 512;

/// The tree of one system.
pub(super) struct Lookup<'a> {
    opened: &'a [Opened<'a>],
    /// Where each mount begins: by the machine's path, the index of its filesystem and the folder.
    mounts: HashMap<Vec<u8>, (usize, FileId)>,
    /// Entries of folders that were looked up: paths of one system begin alike.
    known: HashMap<Place, Option<(FileId, FileKind)>>,
}

/// A name in a folder of a filesystem.
type Place = (usize, FileId, Vec<u8>);

/// A folder or file of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Real {
    /// The index of its filesystem.
    pub(super) filesystem: usize,
    /// Its id there.
    id: FileId,
    /// Its path on the machine; empty for the root.
    pub(super) path: Vec<u8>,
}

impl<'a> Lookup<'a> {
    /// The tree of `system`, put together as `mounts` says, in the order of `opened`.
    pub(super) fn new(opened: &'a [Opened<'a>], mounts: &[Mounts], system: usize) -> Self {
        let mut begins = HashMap::new();
        for (index, (one, mounts)) in opened.iter().zip(mounts).enumerate() {
            for mount in mounts.mounts.iter().filter(|mount| mount.system == system) {
                let names: Vec<&[u8]> =
                    mount.folder.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
                if let Some(folder) = super::descend(one.fs, one.fs.root(), &names) {
                    begins.insert(mount.at.clone(), (index, folder));
                }
            }
        }
        Self { opened, mounts: begins, known: HashMap::new() }
    }

    /// The folder that `path` leads to; `None` where it leads to none.
    pub(super) fn folder(&mut self, path: &[u8]) -> Option<Real> {
        let root = *self.mounts.get(b"".as_slice())?;
        let mut waiting: Vec<Vec<u8>> = components(path);
        let mut at = vec![(Vec::new(), root)];
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
            let (path, (filesystem, folder)) = at.last()?.clone();
            let below = crate::walk::join(&path, &name);
            // Where something is mounted need not be on the disk: systemd makes the folder when it mounts.
            if let Some(begins) = self.mounts.get(&below) {
                at.push((below, *begins));
                continue;
            }
            let (id, kind) = self.entry(filesystem, folder, &name)?;
            match kind {
                FileKind::Directory => at.push((below, (filesystem, id))),
                FileKind::Symlink => {
                    links = links.saturating_add(1);
                    let target = self.opened.get(filesystem)?.fs.read_link(id).ok()?;
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
        let (path, (filesystem, id)) = at.pop()?;
        Some(Real { filesystem, id, path })
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
                    let path = crate::walk::join(&folder.path, name);
                    return Some(Real { filesystem: folder.filesystem, id, path });
                }
                FileKind::Symlink => {
                    let target = self.opened.get(folder.filesystem)?.fs.read_link(id).ok()?;
                    path = if target.starts_with(b"/") {
                        target
                    } else {
                        crate::walk::join(&folder.path, &target)
                    };
                }
                _ => return None,
            }
        }
        None
    }

    fn entry(&mut self, filesystem: usize, folder: FileId, name: &[u8]) -> Option<(FileId, FileKind)> {
        let fs = self.opened.get(filesystem)?.fs;
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
