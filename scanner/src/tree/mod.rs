//! The filesystems of the disks as the machine sees them: which one is its root, and what its `fstab` mounts where.

mod assembly;
mod devices;
mod files;
mod fstab;
mod lookup;
#[cfg(test)]
mod tests;
mod units;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stillframe_fs::{FileId, FileKind, FsError, ReadOnlyFs};

use self::assembly::Assembly;
use self::devices::Bound;
use self::files::Files;
use self::fstab::{By, Line, Subvolume};
use crate::mount::Mounts;

/// A filesystem that was opened, and the names that an `fstab` may call it.
pub struct Opened<'a> {
    /// Its name in the ledger.
    pub name: &'a str,
    /// The filesystem.
    pub fs: &'a dyn ReadOnlyFs,
    /// The number of its disk.
    pub disk: usize,
    /// The number of its partition; `None` where it has the whole disk.
    pub partition: Option<u32>,
    /// The name under which the disk is attached to the machine (`/dev/sdf`), where that is known.
    pub device: Option<&'a str>,
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

/// Where each filesystem is mounted, in the order given. `looked_for` are paths of folders that somebody wants: where
/// symbolic links lead from them is told too. `before` is called before a filesystem is looked at.
#[must_use]
pub fn assemble(opened: &[Opened<'_>], looked_for: &[&[u8]], before: &dyn Fn(&str)) -> Vec<Mounts> {
    let roots = roots(opened, before);
    let mut mounts = vec![Mounts::default(); opened.len()];
    let mut system = 0_usize;
    for root in &roots {
        // What another system mounts, and does not say which system it is itself (a shared /boot or data disk with packages of
        // its own), is none.
        if !root.names_system && mounts.get(root.filesystem).is_some_and(|mounts| !mounts.mounts.is_empty()) {
            continue;
        }
        opened.get(root.filesystem).into_iter().for_each(|one| before(one.name));
        Assembly::new(opened, root, system, before).mount(&root.lines, looked_for, &mut mounts);
        if let Some(mounts) = mounts.get_mut(root.filesystem) {
            mounts.unread = mounts.unread.saturating_add(root.unread);
            mounts.has_other_roots |= root.has_others;
        }
        system = system.saturating_add(1);
    }
    mounts
}

/// A folder that carries a system.
struct Root {
    /// The index of its filesystem.
    filesystem: usize,
    folder: Vec<u8>,
    id: FileId,
    names_system: bool,
    /// Whether other folders of the filesystem carry a system too.
    has_others: bool,
    /// What it mounts.
    lines: Vec<Line>,
    /// How many of the files that say what it mounts could not be read whole.
    unread: u32,
}

/// The roots of all systems. One that names its system comes before one that only has packages, one that no other system
/// mounts before one that is; then the order of disks.
fn roots(opened: &[Opened<'_>], before: &dyn Fn(&str)) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    for (filesystem, one) in opened.iter().enumerate() {
        before(one.name);
        // A reader that panics keeps its own filesystem from being a root and no other; the walk meets it again and tells.
        if let Ok(Some(root)) = catch_unwind(AssertUnwindSafe(|| root_of(filesystem, opened, one.fs))) {
            roots.push(root);
        }
    }
    let is_mounted = |root: &Root| {
        roots.iter().filter(|other| other.filesystem != root.filesystem && other.names_system).any(|other| {
            let bound = Bound::of(&other.lines, opened, other.filesystem);
            let mut targets =
                other.lines.iter().filter_map(|line| target(line, opened, other.filesystem, &bound));
            targets.any(|(target, is_guessed)| target == root.filesystem && !is_guessed)
        })
    };
    let keys: Vec<_> =
        roots.iter().map(|root| (!root.names_system, is_mounted(root), root.filesystem)).collect();
    let mut ordered: Vec<_> = keys.into_iter().zip(roots).collect();
    ordered.sort_by_key(|(key, _)| *key);
    ordered.into_iter().map(|(_, root)| root).collect()
}

/// The root on a filesystem: of several, the one that the first one's own `fstab` calls so.
fn root_of(filesystem: usize, opened: &[Opened<'_>], fs: &dyn ReadOnlyFs) -> Option<Root> {
    let marked: Vec<(bool, Vec<u8>, FileId)> =
        candidates(fs).into_iter().filter_map(|(folder, id)| Some((mark(fs, id)?, folder, id))).collect();
    let (names_system, folder, id) = marked.first()?.clone();
    let has_others = marked.iter().skip(1).any(|(names_system, ..)| *names_system);
    let read = |id: FileId, folder: &[u8]| {
        let mut files = Files::new(opened, filesystem, folder, id);
        let mut lines = files.fstab();
        // A unit for a place that `fstab` names too is overruled by it.
        for line in files.units() {
            if !lines.iter().any(|known| known.at == line.at) {
                lines.push(line);
            }
        }
        (lines, files.unread)
    };
    let (lines, unread) = read(id, &folder);
    let root = Root { filesystem, folder, id, names_system, has_others, lines, unread };
    // After a rollback an older subvolume is still there, and may come first.
    let own = root.lines.iter().find(|line| line.at.is_empty()).map(|line| &line.subvolume);
    if let Some(Subvolume::Path(path)) = own
        && *path != root.folder
        && let Some((names_system, folder, id)) = marked.into_iter().find(|(_, folder, _)| folder == path)
    {
        let (lines, unread) = read(id, &folder);
        return Some(Root { filesystem, folder, id, names_system, has_others, lines, unread });
    }
    Some(root)
}

/// The filesystem that a line names, and whether that is a guess. Of copies with one UUID the one on the root's disk is
/// meant.
fn target(line: &Line, opened: &[Opened<'_>], root: usize, bound: &Bound) -> Option<(usize, bool)> {
    let disk = opened.get(root).map(|one| one.disk);
    let first = |is_it: &dyn Fn(&Opened<'_>) -> bool| {
        let near = opened.iter().position(|one| Some(one.disk) == disk && is_it(one));
        near.or_else(|| opened.iter().position(is_it)).map(|index| (index, false))
    };
    match &line.by {
        By::Uuid(uuid) => first(&|one| {
            let found = one.fs.description().uuid.as_ref();
            found.is_some_and(|found| found.eq_ignore_ascii_case(uuid))
        }),
        By::Label(label) => first(&|one| one.fs.description().label.as_deref() == Some(label.as_bytes())),
        By::PartUuid(uuid) => {
            first(&|one| one.part_uuid.is_some_and(|found| found.eq_ignore_ascii_case(uuid)))
        }
        By::PartLabel(label) => first(&|one| one.part_label == Some(label)),
        By::Device(name) => bound.find(name, &line.kind, opened),
        By::File(_) | By::Bind(_) | By::Other => None,
    }
}

/// The folders that may be a system's root: what is mounted where nothing is said, the filesystem's own, and on btrfs those
/// directly in it, which are usually subvolumes.
fn candidates(fs: &dyn ReadOnlyFs) -> Vec<(Vec<u8>, FileId)> {
    let mut folders = vec![default_folder(fs)];
    if fs.default_root() != fs.root() {
        folders.push((Vec::new(), fs.root()));
    }
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

/// What is mounted where nothing is said.
fn default_folder(fs: &dyn ReadOnlyFs) -> (Vec<u8>, FileId) {
    let id = fs.default_root();
    // Where the path cannot be told, the top is shown: what is below has its place there.
    let path = if id == fs.root() { None } else { fs.subvolume_path(id.tree).ok().flatten() };
    path.map_or_else(|| (Vec::new(), fs.root()), |path| (path, id))
}

/// Whether `root` carries a system: `Some(true)` where it says which.
fn mark(fs: &dyn ReadOnlyFs, root: FileId) -> Option<bool> {
    let found = MARKS.iter().filter(|(path, _)| descend(fs, root, path).is_some());
    found.map(|(_, names_system)| *names_system).max()
}

pub(crate) fn descend(fs: &dyn ReadOnlyFs, root: FileId, path: &[&[u8]]) -> Option<FileId> {
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
