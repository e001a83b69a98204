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
    /// How many of the files that say what it mounts, where it is a root, could not be read whole.
    pub unread: u32,
    /// Whether a name that may have meant another disk says that it is mounted here.
    pub is_guessed: bool,
    /// Whether other folders of it, where it is a root, carry a system too.
    pub has_other_roots: bool,
}

impl Mounts {
    /// The mounts of a filesystem that nothing covers.
    #[must_use]
    pub fn new(mounts: Vec<Mount>) -> Self {
        Self { mounts, ..Self::default() }
    }

    /// The systems that see what lies at `path` of the filesystem, and the paths at which each does, its deepest mount
    /// first. Nothing for what is mounted nowhere, or hidden below another mount.
    #[must_use]
    pub fn machine_paths(&self, path: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mut mounts: Vec<&Mount> =
            self.mounts.iter().filter(|mount| is_within(path, &mount.folder)).collect();
        mounts.sort_by_key(|mount| (mount.system, std::cmp::Reverse(mount.folder.len())));
        let is_seen = |(mount, on_machine): &(&Mount, Vec<u8>)| {
            !self.covered.iter().any(|(system, at)| {
                *system == mount.system && at.len() > mount.at.len() && is_within(on_machine, at)
            })
        };
        let at = |mount| (mount, on_machine(mount, path));
        mounts.into_iter().map(at).filter(is_seen).map(|(mount, path)| (mount.system, path)).collect()
    }

    /// The path on a machine by which what lies at `path` is shown: also where the machine does not see it, since another
    /// mount lies over it.
    #[must_use]
    pub fn shown_path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let seen = self.machine_paths(path).into_iter().next().map(|(_, path)| path);
        seen.or_else(|| {
            let holding = self.mounts.iter().filter(|mount| is_within(path, &mount.folder));
            holding.max_by_key(|mount| mount.folder.len()).map(|mount| on_machine(mount, path))
        })
    }

    /// Other paths by which the folder at `real` of a system is known.
    pub fn other_paths(&self, system: usize, real: &[u8]) -> impl Iterator<Item = &[u8]> {
        let is_it = move |link: &&FolderLink| link.system == system && link.real == real;
        self.links.iter().filter(is_it).map(|link| link.written.as_slice())
    }
}

fn on_machine(mount: &Mount, path: &[u8]) -> Vec<u8> {
    [&mount.at, path.get(mount.folder.len()..).unwrap_or_default()].concat()
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
        let paths = mounts.machine_paths(path.as_bytes()).into_iter();
        paths.map(|(_, path)| String::from_utf8(path).unwrap()).next()
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
    fn each_system_has_its_paths_and_a_folder_may_have_several() {
        let mount = |system, folder: &str, at: &str| Mount { system, folder: folder.into(), at: at.into() };
        let mounts =
            Mounts::new(vec![mount(0, "", "/mnt/all"), mount(1, "", ""), mount(0, "/lib", "/var/lib")]);
        let paths = mounts.machine_paths(b"/lib/dpkg");
        let paths: Vec<_> = paths.iter().map(|(system, path)| (*system, path.as_slice())).collect();
        assert_eq!(paths, [(0, b"/var/lib/dpkg".as_slice()), (0, b"/mnt/all/lib/dpkg"), (1, b"/lib/dpkg")]);
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
