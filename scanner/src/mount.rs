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

/// All mounts of one filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts(pub Vec<Mount>);

impl Mounts {
    /// The system and the machine's path of what lies at `path` of the filesystem; `None` for what is mounted nowhere.
    #[must_use]
    pub fn machine_path(&self, path: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mount = self
            .0
            .iter()
            .filter(|mount| is_within(path, &mount.folder))
            .max_by_key(|mount| mount.folder.len())?;
        let rest = path.get(mount.folder.len()..).unwrap_or_default();
        Some((mount.system, [&mount.at, rest].concat()))
    }
}

/// Whether `path` is `folder` or lies inside it.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_decides() {
        let mount = |folder: &str, at: &str| Mount { system: 0, folder: folder.into(), at: at.into() };
        let mounts = Mounts(vec![mount("/@", ""), mount("/@home", "/home"), mount("/@/var", "/var2")]);
        let path = |path: &str| {
            let found = mounts.machine_path(path.as_bytes());
            found.map(|(_, path)| String::from_utf8(path).unwrap())
        };
        assert_eq!(path("/@/etc/fstab").as_deref(), Some("/etc/fstab"));
        assert_eq!(path("/@").as_deref(), Some(""));
        assert_eq!(path("/@home/a").as_deref(), Some("/home/a"));
        assert_eq!(path("/@/var/x").as_deref(), Some("/var2/x"));
        assert_eq!(path("/@homes/a"), None);
        assert_eq!(path("/other"), None);
    }
}
