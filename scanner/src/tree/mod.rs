//! The filesystems of the disks as the machine sees them: which one is its root, and what its `fstab` mounts where.

mod devices;
mod fstab;
mod lookup;
#[cfg(test)]
mod tests;
mod units;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stillframe_fs::{FileId, FileKind, FsError, ReadOnlyFs};

use self::devices::Bound;
use self::fstab::{By, Line, Subvolume};
use self::lookup::Lookup;
use crate::mount::{FolderLink, Mount, MountedImage, Mounts, is_within};

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
    let mut mounts = vec![Mounts::default(); opened.len()];
    let mut system = 0_usize;
    for root in roots(opened, before) {
        // What another system mounts (a shared /boot or data disk with packages of its own) is no system by itself.
        if mounts.get(root.filesystem).is_some_and(|mounts| !mounts.mounts.is_empty()) {
            continue;
        }
        opened.get(root.filesystem).into_iter().for_each(|one| before(one.name));
        let at_root = Mount { system, folder: root.folder.clone(), at: Vec::new() };
        if let Some(mounts) = mounts.get_mut(root.filesystem) {
            mounts.mounts.push(at_root);
        }
        let files = mount(opened, &root, system, &mut mounts);
        cover(system, &files, &mut mounts);
        let mut lookup = Lookup::new(opened, &mounts, system);
        let links = links(&mut lookup, looked_for);
        let images = images(&mut lookup, &files);
        note(system, links, images, &mut mounts);
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
}

/// The roots of all systems. One that names its system comes before one that only has packages; then the order of disks.
fn roots(opened: &[Opened<'_>], before: &dyn Fn(&str)) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    for (filesystem, one) in opened.iter().enumerate() {
        before(one.name);
        // A reader that panics keeps its own filesystem from being a root and no other; the walk meets it again and tells.
        let root = catch_unwind(AssertUnwindSafe(|| {
            candidates(one.fs).into_iter().find_map(|(folder, id)| Some((mark(one.fs, id)?, folder, id)))
        }));
        if let Ok(Some((names_system, folder, id))) = root {
            roots.push(Root { filesystem, folder, id, names_system });
        }
    }
    roots.sort_by_key(|root| (!root.names_system, root.filesystem));
    roots
}

/// Mounts what the `fstab` of the system at `root` names, and its mount units. Gives the lines that name files.
fn mount(opened: &[Opened<'_>], root: &Root, system: usize, mounts: &mut [Mounts]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    if let Some(one) = opened.get(root.filesystem) {
        lines.extend(fstab::lines(one.fs, root.id));
        // A unit for a place that `fstab` names too is overruled by it.
        for line in units::lines(one.fs, root.id) {
            if !lines.iter().any(|known| known.at == line.at) {
                lines.push(line);
            }
        }
    }
    let (files, lines): (Vec<Line>, Vec<Line>) =
        lines.into_iter().partition(|line| matches!(line.by, By::File(_)));
    let bound = Bound::of(&lines, opened, root.filesystem);
    let mut missing = 0_u32;
    // The root is where it was found, whatever its line says.
    for line in lines.iter().filter(|line| !line.at.is_empty()) {
        let Some((target, is_guessed)) = target(line, opened, root.filesystem, &bound) else {
            missing = missing.saturating_add(1);
            continue;
        };
        let (Some(one), Some(mounts)) = (opened.get(target), mounts.get_mut(target)) else { continue };
        let Some(folder) = folder_of(one.fs, &line.subvolume) else {
            missing = missing.saturating_add(1);
            continue;
        };
        let mount = Mount { system, folder, at: line.at.clone() };
        if !mounts.mounts.iter().any(|known| known.folder == mount.folder) {
            mounts.is_guessed |= is_guessed;
            mounts.mounts.push(mount);
        }
    }
    if let Some(mounts) = mounts.get_mut(root.filesystem) {
        mounts.missing = missing;
    }
    files
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
        By::File(_) | By::Other => None,
    }
}

/// The path of the folder that is mounted.
fn folder_of(fs: &dyn ReadOnlyFs, subvolume: &Subvolume) -> Option<Vec<u8>> {
    match subvolume {
        Subvolume::Path(path) => Some(path.clone()),
        Subvolume::Default => Some(default_folder(fs).0),
        Subvolume::Number(number) => fs.subvolume_path(*number).ok().flatten(),
    }
}

/// What is mounted where nothing is said.
fn default_folder(fs: &dyn ReadOnlyFs) -> (Vec<u8>, FileId) {
    let id = fs.default_root();
    // Where the path cannot be told, the top is shown: what is below has its place there.
    let path = if id == fs.root() { None } else { fs.subvolume_path(id.tree).ok().flatten() };
    path.map_or_else(|| (Vec::new(), fs.root()), |path| (path, id))
}

/// Tells each filesystem of the system which of its paths other mounts lie over.
fn cover(system: usize, files: &[Line], mounts: &mut [Mounts]) {
    let of_system = |mount: &&Mount| mount.system == system && !mount.at.is_empty();
    let of_disks = mounts.iter().flat_map(|one| &one.mounts).filter(of_system).map(|mount| &mount.at);
    let places: Vec<Vec<u8>> = of_disks.chain(files.iter().map(|line| &line.at)).cloned().collect();
    for one in mounts.iter_mut().filter(|one| one.mounts.iter().any(|mount| mount.system == system)) {
        one.covered.extend(places.iter().map(|at| (system, at.clone())));
    }
}

/// Where symbolic links lead from the folders that somebody looks for: the filesystem, the real path and the written one.
fn links(lookup: &mut Lookup<'_>, looked_for: &[&[u8]]) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
    let mut links = Vec::new();
    for written in looked_for {
        // A reader may panic here as anywhere; then this path is looked for as it is written.
        let Ok(Some(real)) = catch_unwind(AssertUnwindSafe(|| lookup.folder(written))) else { continue };
        if real.path != *written {
            links.push((real.filesystem, real.path, written.to_vec()));
        }
    }
    links
}

/// The files that lines name as images: the filesystem, the file's path on the machine, and where it is mounted.
fn images(lookup: &mut Lookup<'_>, files: &[Line]) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
    let mut images = Vec::new();
    for line in files {
        let By::File(path) = &line.by else { continue };
        // One that is not there is mounted by nobody.
        if let Ok(Some(real)) = catch_unwind(AssertUnwindSafe(|| lookup.file(path))) {
            images.push((real.filesystem, real.path, line.at.clone()));
        }
    }
    images
}

/// Keeps what was found with the filesystem that it lies on.
fn note(
    system: usize,
    links: Vec<(usize, Vec<u8>, Vec<u8>)>,
    images: Vec<(usize, Vec<u8>, Vec<u8>)>,
    mounts: &mut [Mounts],
) {
    for (filesystem, real, written) in links {
        if let Some(mounts) = mounts.get_mut(filesystem) {
            mounts.links.push(FolderLink { system, real, written });
        }
    }
    for (filesystem, path, at) in images {
        let Some(mounts) = mounts.get_mut(filesystem) else { continue };
        let holds = |mount: &&Mount| mount.system == system && is_within(&path, &mount.at);
        let Some(mount) = mounts.mounts.iter().filter(holds).max_by_key(|mount| mount.at.len()) else {
            continue;
        };
        let file = [&mount.folder, path.get(mount.at.len()..).unwrap_or_default()].concat();
        mounts.images.push(MountedImage { system, file, at });
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

/// What an entry is, where its inode can be read or its folder says so.
fn kind_of(fs: &dyn ReadOnlyFs, file: FileId, said: Option<FileKind>) -> Option<FileKind> {
    fs.metadata(file).map(|metadata| metadata.kind).ok().or(said)
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
