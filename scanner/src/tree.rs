//! The filesystems of the disks as the machine sees them: which one is its root, and what its `fstab` mounts where.
//!
//! `fstab(5)`: the first field names a filesystem by `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=` or the links of
//! `/dev/disk`; for btrfs an option `subvol=` names a folder of it. Kernel names (`/dev/xvda1`) are not resolved yet: they
//! say nothing certain of an image.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stillframe_fs::{FileId, FileKind, FsError, ReadOnlyFs, read_whole};

use crate::mount::{Mount, Mounts};

const FSTAB_CAP_BYTES: u64 = 256 * 1024;
const MAX_MOUNTS: usize = 256;

/// A filesystem that was opened, and the names that an `fstab` may call it.
pub struct Opened<'a> {
    /// Its name in the ledger.
    pub name: &'a str,
    /// The filesystem.
    pub fs: &'a dyn ReadOnlyFs,
    /// The partition's UUID, as `blkid` writes it.
    pub part_uuid: Option<&'a str>,
    /// The partition's name.
    pub part_label: Option<&'a str>,
}

/// What marks the root of a system, and whether it names the system too.
const MARKS: [(&[&[u8]], bool); 23] = [
    (&[b"etc", b"os-release"], true),
    (&[b"usr", b"lib", b"os-release"], true),
    (&[b"etc", b"redhat-release"], true),
    (&[b"etc", b"SuSE-release"], true),
    (&[b"etc", b"debian_version"], true),
    (&[b"etc", b"alpine-release"], true),
    (&[b"etc", b"system-release"], true),
    (&[b"etc", b"lsb-release"], true),
    (&[b"etc", b"oracle-release"], true),
    (&[b"etc", b"centos-release"], true),
    (&[b"etc", b"fedora-release"], true),
    (&[b"etc", b"rocky-release"], true),
    (&[b"etc", b"almalinux-release"], true),
    (&[b"etc", b"gentoo-release"], true),
    (&[b"etc", b"slackware-version"], true),
    (&[b"etc", b"mariner-release"], true),
    (&[b"Windows", b"System32", b"config"], true),
    (&[b"var", b"lib", b"dpkg"], false),
    (&[b"var", b"lib", b"rpm"], false),
    (&[b"usr", b"lib", b"sysimage", b"rpm"], false),
    (&[b"usr", b"share", b"rpm"], false),
    (&[b"lib", b"apk", b"db"], false),
    (&[b"usr", b"lib", b"apk", b"db"], false),
];

/// Where each filesystem is mounted, in the order given. `before` is called before one is looked at.
#[must_use]
pub fn assemble(opened: &[Opened<'_>], before: &dyn Fn(&str)) -> Vec<Mounts> {
    let mut roots: Vec<(bool, usize, Vec<u8>, FileId)> = Vec::new();
    for (index, one) in opened.iter().enumerate() {
        before(one.name);
        // A reader that panics keeps its own filesystem from being a root and no other; the walk meets it again and tells.
        let root = catch_unwind(AssertUnwindSafe(|| {
            candidates(one.fs).into_iter().find_map(|(folder, id)| Some((mark(one.fs, id)?, folder, id)))
        }));
        if let Ok(Some((names_system, folder, id))) = root {
            roots.push((!names_system, index, folder, id));
        }
    }
    // A root that names its system comes before one that only has packages; then the order of disks.
    roots.sort_by_key(|root| (root.0, root.1));
    let mut mounts = vec![Mounts::default(); opened.len()];
    let mut system = 0_usize;
    for (_, index, folder, id) in roots {
        // What another system mounts (a shared /boot or data disk with packages of its own) is no system by itself.
        if mounts.get(index).is_some_and(|mounts| !mounts.0.is_empty()) {
            continue;
        }
        if let Some(mounts) = mounts.get_mut(index) {
            mounts.0.push(Mount { system, folder, at: Vec::new() });
        }
        opened.get(index).into_iter().for_each(|one| before(one.name));
        for line in opened.get(index).map(|one| fstab(one.fs, id)).unwrap_or_default() {
            let target = opened.iter().position(|one| line.names(one));
            if let Some(mounts) = target.and_then(|target| mounts.get_mut(target)) {
                let mount = Mount { system, folder: line.subvolume, at: line.at };
                let is_known = mounts.0.iter().any(|known| known.folder == mount.folder);
                if !is_known {
                    mounts.0.push(mount);
                }
            }
        }
        system = system.saturating_add(1);
    }
    mounts
}

/// The folders that may be a system's root: the filesystem's own, and on btrfs those directly in it, which are usually
/// subvolumes.
fn candidates(fs: &dyn ReadOnlyFs) -> Vec<(Vec<u8>, FileId)> {
    let mut folders = vec![(Vec::new(), fs.root())];
    if fs.description().kind == "btrfs" {
        // A damaged root shows in the walk.
        let _ = fs.read_dir(fs.root(), &mut |entry| {
            if entry.kind == Some(FileKind::Directory) {
                folders.push(([b"/", entry.name].concat(), entry.id));
            }
            if folders.len() < 64 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }
    folders
}

/// Whether `root` carries a system: `Some(true)` where it says which.
fn mark(fs: &dyn ReadOnlyFs, root: FileId) -> Option<bool> {
    let found = MARKS.iter().filter(|(path, _)| descend(fs, root, path).is_some());
    found.map(|(_, names_system)| *names_system).max()
}

fn descend(fs: &dyn ReadOnlyFs, root: FileId, path: &[&[u8]]) -> Option<FileId> {
    let mut at = root;
    for name in path {
        at = entry(fs, at, name).ok()??.0;
    }
    Some(at)
}

/// The entry called `name` in `folder`.
///
/// # Errors
/// [`FsError`] where the folder cannot be read, and the name was not among what could.
pub fn entry(
    fs: &dyn ReadOnlyFs,
    folder: FileId,
    name: &[u8],
) -> Result<Option<(FileId, FileKind)>, FsError> {
    let mut found = None;
    let result = fs.read_dir(folder, &mut |entry| {
        if entry.name == name {
            found = Some((entry.id, entry.kind));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    match found {
        Some((id, Some(kind))) => Ok(Some((id, kind))),
        Some((id, None)) => Ok(Some((id, fs.metadata(id)?.kind))),
        None => match result {
            Ok(()) | Err(FsError::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// A line of `fstab` that mounts a filesystem of a disk.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    by: By,
    value: String,
    at: Vec<u8>,
    subvolume: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum By {
    Uuid,
    Label,
    PartUuid,
    PartLabel,
}

impl Line {
    fn names(&self, one: &Opened<'_>) -> bool {
        let description = one.fs.description();
        match self.by {
            By::Uuid => description.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.value)),
            By::Label => description.label.as_deref() == Some(self.value.as_bytes()),
            By::PartUuid => one.part_uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(&self.value)),
            By::PartLabel => one.part_label == Some(&self.value),
        }
    }
}

fn fstab(fs: &dyn ReadOnlyFs, root: FileId) -> Vec<Line> {
    let text = descend(fs, root, &[b"etc", b"fstab"])
        .and_then(|file| read_whole(&mut *fs.open(file).ok()?, FSTAB_CAP_BYTES).ok())
        .unwrap_or_default();
    parse(&String::from_utf8_lossy(&text))
}

fn parse(text: &str) -> Vec<Line> {
    text.lines().filter_map(parse_line).take(MAX_MOUNTS).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let mut fields = line.split_whitespace();
    let (spec, at) = (fields.next()?, fields.next()?);
    let (_kind, options) = (fields.next(), fields.next().unwrap_or_default());
    if spec.starts_with('#') {
        return None;
    }
    let at = unescape(at);
    let at = at.strip_prefix('/')?.trim_end_matches('/');
    const KINDS: [(&str, By); 8] = [
        ("UUID=", By::Uuid),
        ("LABEL=", By::Label),
        ("PARTUUID=", By::PartUuid),
        ("PARTLABEL=", By::PartLabel),
        ("/dev/disk/by-uuid/", By::Uuid),
        ("/dev/disk/by-label/", By::Label),
        ("/dev/disk/by-partuuid/", By::PartUuid),
        ("/dev/disk/by-partlabel/", By::PartLabel),
    ];
    let (by, value) = KINDS.iter().find_map(|(prefix, by)| Some((*by, spec.strip_prefix(prefix)?)))?;
    let subvolume = options.split(',').find_map(|option| option.strip_prefix("subvol=")).unwrap_or_default();
    let folder = |path: &str| match path.trim_matches('/') {
        "" => Vec::new(),
        path => format!("/{path}").into_bytes(),
    };
    Some(Line { by, value: unescape(value.trim_matches('"')), at: folder(at), subvolume: folder(subvolume) })
}

/// Spaces and their like are written as `\040`.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let digits = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match digits {
            Some(byte) if byte.is_ascii() => {
                text.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_lines_name_filesystems_and_subvolumes() {
        let text = "# comment\n\
            UUID=0a1b /  btrfs subvol=/@,compress=zstd 0 0\n\
            LABEL=\"my\\040data\"\t/srv/my\\040data/ ext4 defaults\n\
            PARTUUID=5d-01 /boot/efi vfat umask=0077 0 1\n\
            /dev/xvda1 /mnt ext4 defaults 0 0\n\
            UUID=77 none swap sw 0 0\n\
            UUID=only-one-field\n";
        let lines = parse(text);
        let shown: Vec<_> = lines
            .iter()
            .map(|line| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (line.by, line.value.as_str(), text(&line.at), text(&line.subvolume))
            })
            .collect();
        assert_eq!(
            shown,
            [
                (By::Uuid, "0a1b", String::new(), "/@".to_owned()),
                (By::Label, "my data", "/srv/my data".to_owned(), String::new()),
                (By::PartUuid, "5d-01", "/boot/efi".to_owned(), String::new()),
            ]
        );
    }
}
