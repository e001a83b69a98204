//! Machines of folders on the disk of whoever runs the tests: what the kernel makes of a path there is the truth.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use stillframe_fs::{DirEntry, FileContent, FsDescription, MemoryContent, Metadata};

use super::lookup::Lookup;
use super::*;
use crate::mount::MountedImage;

/// A folder as a filesystem.
struct HostFolder {
    root: PathBuf,
    paths: Mutex<HashMap<FileId, PathBuf>>,
    description: FsDescription,
}

impl HostFolder {
    fn new(root: &Path, kind: &'static str, uuid: &str) -> Self {
        let description = FsDescription {
            kind,
            label: Some(format!("label-{uuid}").into_bytes()),
            uuid: Some(uuid.to_owned()),
            size_bytes: 0,
            dirty: None,
            reader: "a test",
            hidden: Vec::new(),
            notes: Vec::new(),
        };
        let one = Self { root: root.to_owned(), paths: Mutex::default(), description };
        one.remember(root);
        one
    }

    fn remember(&self, path: &Path) -> FileId {
        let id = FileId::new(fs::symlink_metadata(path).unwrap().ino());
        self.paths.lock().unwrap().insert(id, path.to_owned());
        id
    }

    fn path(&self, id: FileId) -> PathBuf {
        self.paths.lock().unwrap()[&id].clone()
    }
}

impl ReadOnlyFs for HostFolder {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        self.remember(&self.root)
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let entries = fs::read_dir(self.path(directory)).map_err(|_| FsError::NotADirectory)?;
        for entry in entries {
            let path = entry.unwrap().path();
            let (id, name) = (self.remember(&path), path.file_name().unwrap().as_bytes());
            if visit(DirEntry { name, id, kind: None }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        let found = fs::symlink_metadata(self.path(file)).unwrap();
        Ok(Metadata {
            kind: FileKind::from_mode(found.mode()),
            size_bytes: found.len(),
            mode: None,
            uid: None,
            gid: None,
            modified: None,
            changed: None,
            links: None,
            flags: None,
            encrypted: false,
        })
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        Ok(Box::new(MemoryContent(fs::read(self.path(file)).map_err(|_| FsError::NotAFile)?)))
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let target = fs::read_link(self.path(link)).map_err(|_| FsError::NotAFile)?;
        Ok(target.as_os_str().as_bytes().to_vec())
    }
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A filesystem of a machine: its folder, its kind, its disk and its partition.
type Part<'a> = (&'a str, &'static str, usize, Option<u32>);

/// Puts together folders below `root`, each of which is a filesystem.
fn machine(root: &Path, parts: &[Part<'_>], looked_for: &[&[u8]], devices: &[Option<&str>]) -> Vec<Mounts> {
    let folders: Vec<HostFolder> = parts
        .iter()
        .map(|(name, kind, ..)| {
            fs::create_dir_all(root.join(name)).unwrap();
            HostFolder::new(&root.join(name), kind, &format!("uuid-{name}"))
        })
        .collect();
    let opened: Vec<Opened<'_>> = folders
        .iter()
        .zip(parts)
        .map(|(fs, (name, _, disk, partition))| Opened {
            name,
            fs,
            disk: *disk,
            partition: *partition,
            device: devices.get(*disk).copied().flatten(),
            part_uuid: None,
            part_label: None,
        })
        .collect();
    assemble(&opened, looked_for, &|_| {})
}

/// Where each filesystem is mounted, in a line.
fn places(mounts: &[Mounts]) -> Vec<String> {
    let place = |mounts: &Mounts| {
        let places = mounts.mounts.iter().map(|mount| {
            let at = String::from_utf8_lossy(&mount.at);
            if at.is_empty() { "/".to_owned() } else { at.into_owned() }
        });
        places.collect::<Vec<_>>().join(" ")
    };
    mounts.iter().map(place).collect()
}

#[test]
fn kernel_names_mean_what_the_root_s_line_says() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=debian\n");
    // The kernel called the second disk `sda`: the root's own line says so.
    let fstab =
        "/dev/sda2 / ext4 defaults 0 1\n/dev/sda1 /boot ext4 defaults 0 2\n/dev/sdb1 /srv xfs defaults 0 2\n";
    write(root.path(), "root/etc/fstab", fstab);
    let parts: [Part<'_>; 4] = [
        ("data", "xfs", 0, Some(1)),
        ("boot", "ext4", 1, Some(1)),
        ("root", "ext4", 1, Some(2)),
        ("other", "ext4", 2, Some(1)),
    ];
    let mounts = machine(root.path(), &parts, &[], &[]);
    assert_eq!(places(&mounts), ["/srv", "/boot", "/", ""]);
    assert_eq!(mounts.iter().map(|mounts| mounts.missing).sum::<u32>(), 0);
    let guessed: Vec<bool> = mounts.iter().map(|mounts| mounts.is_guessed).collect();
    assert_eq!(
        guessed,
        [true, false, false, false],
        "only one disk fits `sdb`, and that is all that says so"
    );
}

#[test]
fn kernel_names_mean_what_the_cloud_attached_and_then_what_fits() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=debian\n");
    let fstab = "UUID=uuid-root / ext4 defaults 0 1\n/dev/xvdf /data ext4 defaults 0 2\n/dev/xvdg /logs ext4 defaults 0 2\n\
        /dev/nvme9n1 /gone xfs defaults 0 2\n/dev/mapper/vg-x /x xfs defaults 0 0\n";
    write(root.path(), "root/etc/fstab", fstab);
    let parts: [Part<'_>; 3] =
        [("root", "ext4", 0, Some(1)), ("logs", "ext4", 1, None), ("data", "ext4", 2, None)];
    let devices = [Some("/dev/sda1"), Some("/dev/sdg"), Some("/dev/sdf")];
    let mounts = machine(root.path(), &parts, &[], &devices);
    assert_eq!(places(&mounts), ["/", "/logs", "/data"]);
    assert_eq!(mounts[0].missing, 2, "the disk that is not there, and what lies on no disk");
    // Without the cloud's word two disks fit both names, and neither lies where its letter says.
    assert_eq!(places(&machine(root.path(), &parts, &[], &[])), ["/", "", ""]);
}

#[test]
fn where_nothing_else_tells_the_order_of_the_disks_does_and_it_is_told() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=debian\n");
    write(
        root.path(),
        "root/etc/fstab",
        "/dev/vdb1 /b ext4 defaults 0 2\n/dev/nvme2n1p1 /c auto defaults 0 2\n",
    );
    let parts: [Part<'_>; 3] =
        [("root", "ext4", 0, Some(1)), ("b", "ext4", 1, Some(1)), ("c", "ext4", 2, Some(1))];
    let mounts = machine(root.path(), &parts, &[], &[]);
    assert_eq!(places(&mounts), ["/", "/b", "/c"]);
    assert_eq!(mounts.iter().map(|mounts| mounts.is_guessed).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn what_lies_below_a_mount_is_hidden_and_links_lead_through_mounts() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/usr/lib/os-release", "ID=debian\n");
    write(root.path(), "root/etc/fstab", "UUID=uuid-var /var ext4 defaults 0 2\n");
    write(root.path(), "root/var/lib/dpkg/status", "before /var was a disk of its own");
    write(root.path(), "var/lib/dpkg/status", "the real one");
    symlink("usr/lib", root.path().join("root/lib")).unwrap();
    symlink("/var/lib/dpkg", root.path().join("root/usr/lib/packages")).unwrap();
    let parts: [Part<'_>; 2] = [("root", "ext4", 0, Some(1)), ("var", "ext4", 0, Some(2))];
    let looked_for: [&[u8]; 3] = [b"/lib", b"/lib/packages", b"/usr/lib"];
    let mounts = machine(root.path(), &parts, &looked_for, &[]);
    assert_eq!(mounts[0].machine_paths(b"/var/lib/dpkg/status"), []);
    assert_eq!(mounts[0].shown_path(b"/var/lib/dpkg/status").unwrap(), b"/var/lib/dpkg/status");
    assert_eq!(mounts[1].machine_paths(b"/lib/dpkg/status"), [(0, b"/var/lib/dpkg/status".to_vec())]);
    let others = |mounts: &Mounts, real: &[u8]| {
        mounts.other_paths(0, real).map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(others(&mounts[0], b"/usr/lib"), ["/lib"]);
    assert_eq!(others(&mounts[1], b"/var/lib/dpkg"), ["/lib/packages"]);
}

#[test]
fn images_in_files_are_mounted_by_units_that_something_wants() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=ubuntu\n");
    write(
        root.path(),
        "root/etc/fstab",
        "UUID=uuid-var /var ext4 defaults 0 2\n/srv/link.img /srv/data ext4 loop 0 0\n",
    );
    write(root.path(), "root/srv/real.img", "image");
    symlink("real.img", root.path().join("root/srv/link.img")).unwrap();
    write(root.path(), "var/lib/snapd/snaps/core_1.snap", "image");
    write(root.path(), "var/lib/snapd/snaps/old_1.snap", "image");
    let system = root.path().join("root/etc/systemd/system");
    fs::create_dir_all(system.join("multi-user.target.wants")).unwrap();
    for (name, what) in [("core", "core_1.snap"), ("old", "old_1.snap"), ("gone", "gone_1.snap")] {
        let unit =
            format!("[Mount]\nWhat=/var/lib/snapd/snaps/{what}\nWhere=/snap/{name}/1\nType=squashfs\n");
        fs::write(system.join(format!("snap-{name}-1.mount")), unit).unwrap();
    }
    for name in ["snap-core-1.mount", "snap-gone-1.mount"] {
        symlink(format!("/etc/systemd/system/{name}"), system.join("multi-user.target.wants").join(name))
            .unwrap();
    }
    let parts: [Part<'_>; 2] = [("root", "ext4", 0, Some(1)), ("var", "ext4", 0, Some(2))];
    let mounts = machine(root.path(), &parts, &[], &[]);
    let image = |file: &str, at: &str| MountedImage { system: 0, file: file.into(), at: at.into() };
    assert_eq!(mounts[0].images, [image("/srv/real.img", "/srv/data")]);
    assert_eq!(mounts[1].images, [image("/lib/snapd/snaps/core_1.snap", "/snap/core/1")]);
}

/// The paths at which system 0 sees what lies at `path`.
fn seen(mounts: &Mounts, path: &str) -> Vec<String> {
    let paths = mounts.machine_paths(path.as_bytes()).into_iter().filter(|(system, _)| *system == 0);
    paths.map(|(_, path)| String::from_utf8(path).unwrap()).collect()
}

#[test]
fn a_line_that_mounts_nothing_hides_nothing_and_is_told() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=debian\n");
    write(root.path(), "root/var/lib/docker/overlay2/layer/x", "");
    let fstab = "/srv/gone.img /var/lib/docker ext4 loop,nofail 0 0\n\
        UUID=uuid-root /x ext4 nofail,subvol=/var/lib/docker 0 0\n\
        /gone/folder /etc none bind 0 0\n/dev/sdc /var ext4 defaults 0 0\n";
    write(root.path(), "root/etc/fstab", fstab);
    let parts: [Part<'_>; 2] = [("root", "ext4", 0, None), ("unrelated", "ext4", 1, None)];
    let mounts = machine(root.path(), &parts, &[], &[]);
    assert_eq!(
        seen(&mounts[0], "/var/lib/docker/overlay2"),
        ["/var/lib/docker/overlay2", "/x/var/lib/docker/overlay2"]
    );
    assert_eq!(mounts[0].missing, 2);
    // Only one other disk fits `sdc`: it is a guess, and hides nothing.
    assert_eq!((places(&mounts).remove(1), mounts[1].is_guessed), ("/var".to_owned(), true));
}

#[test]
fn the_root_is_not_what_another_name_of_a_disk_means() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=debian\n");
    write(
        root.path(),
        "root/etc/fstab",
        "UUID=uuid-root / ext4 defaults 0 1\n/dev/sdb /data ext4 defaults 0 2\n",
    );
    let mounts = machine(root.path(), &[("root", "ext4", 0, None)], &[], &[]);
    assert_eq!((places(&mounts).remove(0), mounts[0].missing), ("/".to_owned(), 1));
    // The drivers' names are apart: `vda` and `sda` are two disks.
    write(root.path(), "root/etc/fstab", "/dev/vda / ext4 defaults 0 1\n/dev/sda /var ext4 defaults 0 2\n");
    let parts: [Part<'_>; 2] = [("root", "ext4", 0, None), ("var", "ext4", 1, None)];
    assert_eq!(places(&machine(root.path(), &parts, &[], &[])), ["/", "/var"]);
}

#[test]
fn a_folder_may_be_mounted_twice_and_bound_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=debian\n");
    write(root.path(), "data/docker/overlay2/x", "");
    let fstab = "LABEL=label-uuid-data /mnt/all ext4 defaults 0 0\nLABEL='label-uuid-data' /data ext4 defaults 0 0\n\
        /data/docker /var/lib/docker none bind 0 0\n";
    write(root.path(), "root/etc/fstab", fstab);
    let parts: [Part<'_>; 2] = [("root", "ext4", 0, None), ("data", "ext4", 1, None)];
    let mounts = machine(root.path(), &parts, &[], &[]);
    let expected = ["/var/lib/docker/overlay2", "/mnt/all/docker/overlay2", "/data/docker/overlay2"];
    assert_eq!(seen(&mounts[1], "/docker/overlay2"), expected);
    assert_eq!(seen(&mounts[0], "/var/lib/docker/x"), [""; 0], "what the bind covers");
}

#[test]
fn a_system_that_another_mounts_is_a_system_and_comes_after_it() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "b/etc/os-release", "ID=old\n");
    write(root.path(), "a/etc/os-release", "ID=new\n");
    write(root.path(), "a/etc/fstab", "LABEL=label-uuid-b /mnt/b ext4 nofail 0 0\n");
    let parts: [Part<'_>; 2] = [("b", "ext4", 0, None), ("a", "ext4", 1, None)];
    let mounts = machine(root.path(), &parts, &[], &[]);
    assert_eq!(mounts[1].machine_paths(b"/etc"), [(0, b"/etc".to_vec())]);
    assert_eq!(mounts[0].machine_paths(b"/etc"), [(0, b"/mnt/b/etc".to_vec()), (1, b"/etc".to_vec())]);
}

#[test]
fn what_says_what_is_mounted_is_found_through_links_and_told_where_it_is_too_long() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=nixos\n");
    write(root.path(), "root/nix/fstab", "LABEL=label-uuid-var /var ext4 defaults 0 0\n");
    symlink("/nix/fstab", root.path().join("root/etc/fstab")).unwrap();
    let parts: [Part<'_>; 2] = [("root", "ext4", 0, None), ("var", "ext4", 1, None)];
    assert_eq!(places(&machine(root.path(), &parts, &[], &[])), ["/", "/var"]);
    let many: String =
        (0..300).map(|n| format!("tmpfs /t{n} tmpfs x 0 0\nUUID=none-{n} /m{n} ext4 x 0 0\n")).collect();
    write(root.path(), "root/nix/fstab", &many);
    assert_eq!(machine(root.path(), &parts, &[], &[])[0].unread, 1);
    write(root.path(), "root/nix/fstab", &"# x\n".repeat(100_000));
    assert_eq!(machine(root.path(), &parts, &[], &[])[0].unread, 1);
    // A unit of the distribution that a link wants.
    fs::write(root.path().join("root/nix/fstab"), "").unwrap();
    let wants = root.path().join("root/etc/systemd/system/local-fs.target.wants");
    fs::create_dir_all(&wants).unwrap();
    write(
        root.path(),
        "root/usr/lib/systemd/system/var.mount",
        "[Mount]\nWhat=/dev/disk/by-label/label-uuid-var\nWhere=/var\n",
    );
    symlink("/usr/lib/systemd/system/var.mount", wants.join("var.mount")).unwrap();
    assert_eq!(places(&machine(root.path(), &parts, &[], &[])), ["/", "/var"]);
}

#[test]
fn names_of_many_disks_are_bound_in_no_time() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "root/etc/os-release", "ID=debian\n");
    let fstab: String = (1..=250).map(|n| format!("/dev/sdb{n} /m{n} auto x 0 0\n")).collect();
    write(root.path(), "root/etc/fstab", &fstab);
    let names: Vec<String> = (0..250).map(|n| format!("p{n}")).collect();
    let mut parts: Vec<Part<'_>> = vec![("root", "ext4", 0, None)];
    parts.extend(
        names
            .iter()
            .zip(1..)
            .flat_map(|(name, n)| [(name.as_str(), "ext4", 1, Some(n)), (name.as_str(), "ext4", 2, Some(n))]),
    );
    let begun = std::time::Instant::now();
    assert_eq!(places(&machine(root.path(), &parts, &[], &[]))[1], "/m1");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

/// What the kernel finds at `path` with `root` as its root.
fn by_kernel(root: &Path, path: &str) -> Option<Vec<u8>> {
    let at = openat2(CWD, root, OFlags::PATH, Mode::empty(), ResolveFlags::empty()).unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let found = openat2(&at, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    let real = fs::read_link(link).unwrap();
    let real = real.strip_prefix(root.canonicalize().unwrap()).unwrap().as_os_str().as_bytes().to_vec();
    Some(if real.is_empty() { real } else { [b"/".as_slice(), &real].concat() })
}

#[test]
fn paths_lead_where_the_kernel_says() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path();
    for folder in ["etc", "a/b/c", "usr/lib/x", "usr/share", "home/someone/deep/er"] {
        fs::create_dir_all(base.join(folder)).unwrap();
    }
    write(base, "usr/lib/os-release", "ID=x\n");
    let links = [
        ("lib", "usr/lib"),
        ("absolute", "/usr/share"),
        ("out", "../../../../etc"),
        ("a/b/up", "../.."),
        ("a/b/c/again", "../../../lib/../absolute/./..//lib"),
        ("loop", "loop"),
        ("one", "two"),
        ("two", "/one"),
        ("dead", "nowhere/at/all"),
        ("file", "usr/lib/os-release"),
        ("home/someone/deep/self", "."),
        ("dots", "a/../../.."),
    ];
    for (link, target) in links {
        symlink(target, base.join(link)).unwrap();
    }
    for n in 0..45 {
        symlink(format!("chain{}", n + 1), base.join(format!("chain{n}"))).unwrap();
    }
    fs::create_dir(base.join("chain45")).unwrap();
    let host = HostFolder::new(base, "ext4", "uuid");
    let opened = [Opened {
        name: "p1",
        fs: &host,
        disk: 0,
        partition: None,
        device: None,
        part_uuid: None,
        part_label: None,
    }];
    let mut lookup = Lookup::new(&opened);
    lookup.mount(Vec::new(), 0, host.root(), Vec::new());
    let paths = [
        "/",
        "/lib",
        "/lib/x",
        "/absolute",
        "/absolute/../lib/x",
        "/out",
        "/a/b/up",
        "/a/b/up/a/b/c",
        "/a/b/c/again/x",
        "/loop",
        "/one",
        "/dead",
        "/file",
        "/nothing",
        "/home/someone/deep/self/self/er",
        "/dots",
        "/../../lib",
        "/chain0",
        "/chain5",
        "/chain6",
        "/chain40",
        "/usr/lib/os-release/..",
        "/etc/./../a//b",
    ];
    let mut found = 0;
    for path in paths {
        let ours = lookup.folder(path.as_bytes()).map(|folder| folder.path);
        let kernel = by_kernel(base, path);
        assert_eq!(ours, kernel, "{path}");
        found += usize::from(kernel.is_some());
    }
    assert!((12..paths.len()).contains(&found), "{found} of {}", paths.len());
}
