//! Where the filesystems of a machine lie in its tree.

use serde::{Deserialize, Serialize};

/// A folder of a filesystem (its root, or a btrfs subvolume) that the machine sees at some path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Which of the systems on the disks mounts it; 0 is the machine's own.
    pub system: usize,
    /// The folder's path on the filesystem; empty for its root.
    pub folder: Vec<u8>,
    /// Its path on the machine; empty for `/`.
    pub at: Vec<u8>,
}

/// A folder that a system also knows by another path, since a symbolic link leads there: `/usr/lib`, written as `/lib`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderLink {
    /// Of which system.
    pub system: usize,
    /// The folder's real path on the machine.
    pub real: Vec<u8>,
    /// The path that leads to it.
    pub written: Vec<u8>,
}

/// An image in a file of a filesystem, which a system mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedImage {
    /// Of which system.
    pub system: usize,
    /// The file's path from the root of its filesystem.
    pub file: Vec<u8>,
    /// Where the system mounts it.
    pub at: Vec<u8>,
}

/// All mounts of one filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    /// What of it the machine sees where.
    pub mounts: Vec<Mount>,
    /// Where something is mounted over a path at which this filesystem could be seen: what it has there is hidden. By
    /// system and path.
    pub covered: Vec<(usize, Vec<u8>)>,
    /// Other paths of the folders that somebody looks for.
    pub links: Vec<FolderLink>,
    /// Images in its files that are mounted.
    pub images: Vec<MountedImage>,
    /// How many lines of its `fstab`, where it is a root, mount what is not on these disks.
    pub missing: u32,
    /// Whether it was found by the order of the disks, since nothing better told which disk a name meant.
    pub is_guessed: bool,
}

impl Mounts {
    /// The mounts of a filesystem that nothing covers.
    #[must_use]
    pub fn new(mounts: Vec<Mount>) -> Self {
        Self { mounts, ..Self::default() }
    }

    /// The system and the machine's path of what lies at `path` of the filesystem; `None` for what is mounted nowhere, or
    /// hidden below another mount.
    #[must_use]
    pub fn machine_path(&self, path: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mount = self
            .mounts
            .iter()
            .filter(|mount| is_within(path, &mount.folder))
            .max_by_key(|mount| mount.folder.len())?;
        let rest = path.get(mount.folder.len()..).unwrap_or_default();
        let on_machine = [&mount.at, rest].concat();
        let is_covered = self.covered.iter().any(|(system, at)| {
            *system == mount.system && at.len() > mount.at.len() && is_within(&on_machine, at)
        });
        (!is_covered).then_some((mount.system, on_machine))
    }

    /// Other paths by which the folder at `real` of a system is known.
    pub fn other_paths(&self, system: usize, real: &[u8]) -> impl Iterator<Item = &[u8]> {
        let is_it = move |link: &&FolderLink| link.system == system && link.real == real;
        self.links.iter().filter(is_it).map(|link| link.written.as_slice())
    }
}

/// Whether `path` is `folder` or lies inside it.
pub(crate) fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Mounts {
        let mount = |folder: &str, at: &str| Mount { system: 0, folder: folder.into(), at: at.into() };
        Mounts::new(vec![mount("/@", ""), mount("/@home", "/home"), mount("/@/var", "/var2")])
    }

    fn path(mounts: &Mounts, path: &str) -> Option<String> {
        mounts.machine_path(path.as_bytes()).map(|(_, path)| String::from_utf8(path).unwrap())
    }

    #[test]
    fn the_deepest_mount_decides() {
        let mounts = mounts();
        assert_eq!(path(&mounts, "/@/etc/fstab").as_deref(), Some("/etc/fstab"));
        assert_eq!(path(&mounts, "/@").as_deref(), Some(""));
        assert_eq!(path(&mounts, "/@home/a").as_deref(), Some("/home/a"));
        assert_eq!(path(&mounts, "/@/var/x").as_deref(), Some("/var2/x"));
        assert_eq!(path(&mounts, "/@homes/a"), None);
        assert_eq!(path(&mounts, "/other"), None);
    }

    #[test]
    fn what_lies_below_another_mount_is_seen_nowhere() {
        let mut mounts = mounts();
        mounts.covered = vec![(0, b"/home".to_vec()), (0, b"/srv".to_vec()), (1, b"/etc".to_vec())];
        assert_eq!(path(&mounts, "/@/srv"), None);
        assert_eq!(path(&mounts, "/@/srv/x"), None);
        assert_eq!(path(&mounts, "/@/srv2/x").as_deref(), Some("/srv2/x"));
        assert_eq!(path(&mounts, "/@/home/old"), None);
        assert_eq!(path(&mounts, "/@home/a").as_deref(), Some("/home/a"), "it is what covers");
        assert_eq!(path(&mounts, "/@/etc/fstab").as_deref(), Some("/etc/fstab"), "another system's mount");
    }
}
