//! The tree of one system: what it mounts, line by line, each seen through what was mounted before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stillframe_fs::{FileId, ReadOnlyFs};

use super::devices::Bound;
use super::fstab::{By, Line, Subvolume};
use super::lookup::{Lookup, Real};
use super::{Opened, Root, default_folder, descend, target};
use crate::mount::{FolderLink, Mount, MountedImage, Mounts};

pub(super) struct Assembly<'a> {
    opened: &'a [Opened<'a>],
    root: usize,
    system: usize,
    lookup: Lookup<'a>,
    /// Filesystems that were looked at for this system, so that each is told once.
    touched: RefCell<BTreeSet<usize>>,
    before: &'a dyn Fn(&str),
    missing: Cell<u32>,
}

/// A filesystem, and what is mounted of it where.
struct Target {
    filesystem: usize,
    mount: Mount,
    /// Where no more is known than the order of disks, nothing else is hidden for it.
    is_guessed: bool,
}

impl<'a> Assembly<'a> {
    /// For the system at `root`, before anything else is mounted.
    pub(super) fn new(
        opened: &'a [Opened<'a>],
        root: &Root,
        system: usize,
        before: &'a dyn Fn(&str),
    ) -> Self {
        let mut lookup = Lookup::new(opened);
        lookup.mount(Vec::new(), root.filesystem, root.id, root.folder.clone());
        let touched = RefCell::new(BTreeSet::from([root.filesystem]));
        Self { opened, root: root.filesystem, system, lookup, touched, before, missing: Cell::new(0) }
    }

    /// Adds to `mounts` what the system mounts by `lines`, and where links lead from `looked_for`.
    pub(super) fn mount(mut self, lines: &[Line], looked_for: &[&[u8]], mounts: &mut [Mounts]) {
        let bound = Bound::of(lines, self.opened, self.root);
        let folder = self.lookup.folder(b"").map(|root| root.folder).unwrap_or_default();
        let at_root = Mount { system: self.system, folder, at: Vec::new() };
        if let Some(own) = mounts.get_mut(self.root) {
            own.mounts.push(at_root);
        }
        let mut covered: Vec<Vec<u8>> = Vec::new();
        // The root is where it was found, whatever its line says.
        for line in lines.iter().filter(|line| !line.at.is_empty()) {
            // Where a line mounts may be written through links, which lead through what is mounted by then.
            let at = self
                .guarded(|lookup| lookup.folder(&line.at))
                .map_or_else(|| line.at.clone(), |real| real.path);
            if at.is_empty() {
                continue;
            }
            if let By::File(path) = &line.by {
                covered.extend(self.image(path, at, mounts));
                continue;
            }
            let Some(found) = self.target(line, &bound, at) else {
                self.missing.set(self.missing.get().saturating_add(1));
                continue;
            };
            let Some(of_target) = mounts.get_mut(found.filesystem) else { continue };
            of_target.is_guessed |= found.is_guessed;
            if !found.is_guessed {
                covered.push(found.mount.at.clone());
            }
            if !of_target.mounts.contains(&found.mount) {
                of_target.mounts.push(found.mount);
            }
        }
        self.cover(covered, mounts);
        self.link(looked_for, mounts);
        if let Some(own) = mounts.get_mut(self.root) {
            own.missing = own.missing.saturating_add(self.missing.get());
        }
    }

    /// What a line mounts, if it is on these disks, and mounts it in the lookup.
    fn target(&mut self, line: &Line, bound: &Bound, at: Vec<u8>) -> Option<Target> {
        let (real, is_guessed) = if let By::Bind(source) = &line.by {
            (self.guarded(|lookup| lookup.folder(source))?, false)
        } else {
            let (filesystem, is_guessed) = target(line, self.opened, self.root, bound)?;
            self.tell(filesystem);
            let fs = self.opened.get(filesystem)?.fs;
            let found = catch_unwind(AssertUnwindSafe(|| folder_of(fs, &line.subvolume)));
            let (folder, id) = found.ok().flatten()?;
            (Real { filesystem, id, path: Vec::new(), folder }, is_guessed)
        };
        if !is_guessed {
            self.lookup.mount(at.clone(), real.filesystem, real.id, real.folder.clone());
        }
        let mount = Mount { system: self.system, folder: real.folder, at };
        Some(Target { filesystem: real.filesystem, mount, is_guessed })
    }

    /// Notes an image in a file; gives the place that it covers. A file that is not there is mounted by nobody.
    fn image(&mut self, path: &[u8], at: Vec<u8>, mounts: &mut [Mounts]) -> Option<Vec<u8>> {
        let Some(real) = self.guarded(|lookup| lookup.file(path)) else {
            self.missing.set(self.missing.get().saturating_add(1));
            return None;
        };
        let mounts = mounts.get_mut(real.filesystem)?;
        mounts.images.push(MountedImage { system: self.system, file: real.folder, at: at.clone() });
        // What lies in it is not looked up: paths that lead there lead nowhere.
        self.lookup.close(at.clone());
        Some(at)
    }

    /// Tells each filesystem of the system which of its paths other mounts lie over.
    fn cover(&self, covered: Vec<Vec<u8>>, mounts: &mut [Mounts]) {
        let system = self.system;
        for one in mounts.iter_mut().filter(|one| one.mounts.iter().any(|mount| mount.system == system)) {
            one.covered.extend(covered.iter().map(|at| (system, at.clone())));
        }
    }

    /// Finds where symbolic links lead from the folders that somebody looks for.
    fn link(&mut self, looked_for: &[&[u8]], mounts: &mut [Mounts]) {
        for written in looked_for {
            let Some(real) = self.guarded(|lookup| lookup.folder(written)) else { continue };
            if let Some(mounts) = mounts.get_mut(real.filesystem).filter(|_| real.path != *written) {
                mounts.links.push(FolderLink {
                    system: self.system,
                    real: real.path,
                    written: written.to_vec(),
                });
            }
        }
    }

    /// Asks the lookup. A reader may panic there as anywhere; then the path leads nowhere.
    fn guarded(&mut self, ask: impl FnOnce(&mut Lookup<'a>) -> Option<Real>) -> Option<Real> {
        catch_unwind(AssertUnwindSafe(|| ask(&mut self.lookup))).ok().flatten()
    }

    /// Says which filesystem is read next, so that a death there is not booked on another.
    fn tell(&self, filesystem: usize) {
        if self.touched.borrow_mut().insert(filesystem)
            && let Some(one) = self.opened.get(filesystem)
        {
            (self.before)(one.name);
        }
    }
}

/// The folder that is mounted: its path on the filesystem, and its id. Only btrfs has subvolumes, and only a subvolume is
/// mounted so.
fn folder_of(fs: &dyn ReadOnlyFs, subvolume: &Subvolume) -> Option<(Vec<u8>, FileId)> {
    let at = |path: &[u8]| {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        descend(fs, fs.root(), &names)
    };
    match subvolume {
        _ if fs.description().kind != "btrfs" => Some((Vec::new(), fs.root())),
        Subvolume::Default => Some(default_folder(fs)),
        Subvolume::Path(path) => {
            let id = at(path)?;
            let is_subvolume = fs.subvolume_path(id.tree).ok().flatten().as_ref() == Some(path);
            is_subvolume.then(|| (path.clone(), id))
        }
        Subvolume::Number(number) => {
            let path = fs.subvolume_path(*number).ok().flatten()?;
            let id = at(&path)?;
            Some((path, id))
        }
    }
}
