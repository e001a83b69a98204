//! Files of containers and images that a runtime keeps on the disk. They are counted and not read yet, so that a machine
//! full of containers is not called complete.

use stillframe_fs::{FileKind, FsError};
use stillframe_model::{Label, Scanner};

use crate::{ContainerLayers, Delivered, Detector, Fact, Found, Interest, Pattern, Sourced};

/// Where each runtime keeps one folder a layer, by its storage driver.
const STORES: [(&str, &str); 14] = [
    ("docker", "/var/lib/docker/overlay2"),
    ("docker", "/var/lib/docker/overlay"),
    ("docker", "/var/lib/docker/fuse-overlayfs"),
    ("docker", "/var/lib/docker/aufs/diff"),
    ("docker", "/var/lib/docker/btrfs/subvolumes"),
    ("docker", "/var/lib/docker/vfs/dir"),
    ("docker", "/var/lib/docker/devicemapper/metadata"),
    ("containerd", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"),
    ("containerd", "/var/lib/containerd/io.containerd.snapshotter.v1.native/snapshots"),
    ("containerd", "/var/lib/containerd/io.containerd.snapshotter.v1.btrfs/active"),
    ("containerd", "/var/lib/rancher/k3s/agent/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"),
    ("containers-storage", "/var/lib/containers/storage/overlay"),
    ("containers-storage", "/var/lib/containers/storage/vfs/dir"),
    ("containers-storage", "/var/lib/containers/storage/btrfs/subvolumes"),
];

/// Where runtimes without root rights keep theirs, below a home.
const HOME_STORES: [(&str, &str); 3] = [
    ("docker", "/.local/share/docker/overlay2"),
    ("docker", "/.local/share/docker/fuse-overlayfs"),
    ("containers-storage", "/.local/share/containers/storage/overlay"),
];

pub(crate) struct Containers;

impl Detector for Containers {
    fn name(&self) -> &'static str {
        "containers"
    }

    fn scanner(&self) -> Scanner {
        Scanner::Inventory
    }

    fn interests(&self) -> Vec<Interest> {
        let fixed = STORES.iter().map(|(_, path)| Pattern::In(path));
        let home = HOME_STORES.iter().map(|(_, path)| Pattern::InFolderEndingWith(path));
        fixed.chain(home).map(Interest::entry).collect()
    }

    fn inspect(
        &self,
        found: &Found<'_>,
        _content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError> {
        // overlay drivers keep short links to their layers in a folder called `l`.
        if found.kind != FileKind::Directory || found.name == b"l" {
            return Ok(());
        }
        let folder = found.folder();
        let store = STORES
            .iter()
            .find(|(_, path)| folder == path.as_bytes())
            .or_else(|| HOME_STORES.iter().find(|(_, path)| folder.ends_with(path.as_bytes())));
        if let Some((runtime, _)) = store {
            facts.push(found.fact(Fact::Layer(ContainerLayers { runtime: Label::new(runtime) })));
        }
        Ok(())
    }
}
