//! Disks as they are found in a cloud: what a scan of each says of the machine, and how far it was read.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stillframe_fixtures::{ExpectedPackage, golden_names, has_packages, packages};

use crate::disks::tool;
use crate::harness::{Place, ext_image, rows_of};
use crate::purl::Purl;

const NO_SYSTEM: [&str; 2] = [
    "operating_system none recognised unsupported: no system that is known here is on these disks",
    "scanner inventory unsupported: no operating system was found to look at",
];
const SCANNED: &str = "scanner inventory scanned";

/// The rows of a disk whose partitions are the devices of one filesystem without a system.
fn of_devices(devices: usize, status: &str) -> Vec<String> {
    let mut rows = vec!["disk disk0 scanned".to_owned(), "partition disk0/p1 scanned".to_owned()];
    rows.push(format!("filesystem disk0/p1 {status}"));
    rows.extend((2..=devices).map(|number| format!("partition disk0/p{number} scanned")));
    rows.into_iter().chain(NO_SYSTEM.map(str::to_owned)).collect()
}

/// The rows of a disk with this many filesystems without a system.
fn of_partitions(count: usize) -> Vec<String> {
    let of_one = |number| ["partition", "filesystem"].map(|kind| format!("{kind} disk0/p{number} scanned"));
    let rows = std::iter::once("disk disk0 scanned".to_owned()).chain((1..=count).flat_map(of_one));
    rows.chain(NO_SYSTEM.map(str::to_owned)).collect()
}

/// The rows of a disk, but for empty space between partitions.
fn rows(name: &str) -> Vec<String> {
    let owned = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    let without_system = |rows: &[&str]| owned(&[rows, &NO_SYSTEM].concat());
    match name {
        "debian-gpt-ext4" => owned(&[
            "disk disk0 scanned",
            "partition disk0/p14 skipped: boot code",
            "partition disk0/p15 scanned",
            "filesystem disk0/p15 scanned",
            "partition disk0/p1 scanned",
            "filesystem disk0/p1 scanned",
            "operating_system Debian GNU/Linux 12 (bookworm) scanned",
            "package_database dpkg /var/lib/dpkg/status in disk0/p1 scanned",
            SCANNED,
        ]),
        "ubuntu-shape" => owned(&[
            "disk disk0 scanned",
            "partition disk0/p14 skipped: boot code",
            "partition disk0/p15 scanned",
            "filesystem disk0/p15 scanned",
            "partition disk0/p16 scanned",
            "filesystem disk0/p16 scanned",
            "partition disk0/p1 scanned",
            "filesystem disk0/p1 scanned",
            "operating_system Ubuntu 24.04.1 LTS scanned",
            "package_database dpkg /var/lib/dpkg/status in disk0/p1 scanned",
            SCANNED,
        ]),
        "amazon-shape" => owned(&[
            "disk disk0 scanned",
            "partition disk0/p127 skipped: boot code",
            "partition disk0/p128 scanned",
            "filesystem disk0/p128 scanned",
            "partition disk0/p1 scanned",
            "filesystem disk0/p1 scanned",
            "operating_system Amazon Linux 2023.5.20240805 scanned",
            "package_database rpm /var/lib/rpm/rpmdb.sqlite in disk0/p1 scanned",
            SCANNED,
        ]),
        "rhel-shape" => owned(&[
            "disk disk0 scanned",
            "partition disk0/p1 skipped: boot code",
            "partition disk0/p2 scanned",
            "filesystem disk0/p2 scanned",
            "partition disk0/p3 scanned",
            "filesystem disk0/p3 scanned",
            "partition disk0/p4 scanned",
            "filesystem disk0/p4 scanned",
            "operating_system Red Hat Enterprise Linux 9.4 (Plow) scanned",
            "package_database rpm /usr/lib/sysimage/rpm/rpmdb.sqlite in disk0/p4 scanned",
            SCANNED,
        ]),
        // The default subvolume is the root; its database was synced, and not yet committed.
        "suse-shape" => owned(&[
            "disk disk0 scanned",
            "filesystem disk0 scanned",
            "operating_system openSUSE Leap 15.6 scanned",
            "package_database rpm /usr/lib/sysimage/rpm/rpmdb.sqlite in disk0 scanned",
            SCANNED,
        ]),
        "windows-shape" => owned(&[
            "disk disk0 scanned",
            "partition disk0/p1 scanned",
            "filesystem disk0/p1 scanned",
            "partition disk0/p2 skipped: empty",
            "partition disk0/p3 scanned",
            "filesystem disk0/p3 scanned",
            "operating_system Windows unsupported: Windows is recognised and not read yet",
            "scanner inventory unsupported: no collector for Windows yet",
        ]),
        "container-host" => owned(&[
            "disk disk0 scanned",
            "partition disk0/p1 scanned",
            "filesystem disk0/p1 scanned",
            "operating_system Debian GNU/Linux 12 (bookworm) scanned",
            "package_database dpkg unsupported: expected of this system, and not found",
            "container_storage containerd in disk0/p1 unsupported: 2 container layers, not read yet",
            "container_storage containers-storage in disk0/p1 unsupported: 2 container layers, not read yet",
            "container_storage docker in disk0/p1 unsupported: 3 container layers, not read yet",
            SCANNED,
        ]),
        "luks" => without_system(&[
            "disk disk0 scanned",
            "partition disk0/p1 encrypted: LUKS2",
            "partition disk0/p2 encrypted: LUKS1",
        ]),
        "lvm-pv" => without_system(&[
            "disk disk0 scanned",
            "partition disk0/p1 unsupported: not read yet: LVM2 physical volume",
        ]),
        "md-member" => without_system(&[
            "disk disk0 scanned",
            "partition disk0/p1 unsupported: not read yet: md 1.2 member",
        ]),
        "swap-partition" => without_system(&["disk disk0 scanned", "partition disk0/p1 skipped: swap"]),
        "zero-partition" => without_system(&["disk disk0 scanned", "partition disk0/p1 skipped: empty"]),
        "unknown-content" => {
            without_system(&["disk disk0 scanned", "partition disk0/p1 unsupported: content of unknown kind"])
        }
        "gpt-named-root" => without_system(&[
            "disk disk0 scanned",
            "partition disk0/p1 skipped: swap",
            "partition disk0/p2 scanned",
            "filesystem disk0/p2 scanned",
        ]),
        "gpt-backup" | "gpt-4k" => without_system(&[
            "disk disk0 scanned",
            "partition disk0/p1 scanned",
            "filesystem disk0/p1 scanned",
        ]),
        "mbr-logical" => without_system(&[
            "disk disk0 scanned",
            "partition disk0/p1 scanned",
            "filesystem disk0/p1 scanned",
            "partition disk0/p5 scanned",
            "filesystem disk0/p5 scanned",
            "partition disk0/p6 scanned",
            "filesystem disk0/p6 scanned",
            "partition disk0/p7 skipped: swap",
        ]),
        "btrfs-raid0" | "btrfs-converted" => of_devices(2, "scanned"),
        "btrfs-stale" => of_devices(2, "partial: 1 fault; what was whole was read"),
        "btrfs-raid5" => of_devices(3, "scanned"),
        "btrfs-raid10" | "btrfs-raid6" => of_devices(4, "scanned"),
        "iso-forms" => of_partitions(5),
        "squashfs-forms" => of_partitions(6),
        // See the known differences in `listings`.
        "ext4-encrypt" => without_system(&[
            "disk disk0 scanned",
            "filesystem disk0 partial: 1 fault; what was whole was read",
        ]),
        // One filesystem on the whole disk, and no system on it.
        _ => without_system(&["disk disk0 scanned", "filesystem disk0 scanned"]),
    }
}

fn row<'a>(report: &'a Value, kind: &str, name: &str) -> &'a Value {
    let rows = report["coverage"].as_array().unwrap();
    rows.iter().find(|row| row["kind"] == kind && row["name"] == name).unwrap()
}

#[test]
fn every_disk_has_its_rows() {
    for name in golden_names() {
        let place = Place::new();
        let (report, code) = place.scan(&place.golden(&name));
        let mut found = rows_of(&report);
        found.retain(|row| !(row.starts_with("unallocated ") && row.ends_with(" skipped: empty")));
        let expected = rows(&name);
        assert_eq!(found, expected, "{name}");
        let is_complete = expected.iter().all(|row| row.ends_with(" scanned") || row.contains(" skipped: "));
        assert_eq!(report["scan"]["complete"], is_complete, "{name}");
        assert_eq!(code, if is_complete { 0 } else { 2 }, "{name}");
        assert_eq!(
            is_complete,
            name.ends_with("-shape") && name != "windows-shape" || name == "debian-gpt-ext4"
        );
    }
}

/// The id, version, hostname, architecture and kernels.
fn machine(name: &str) -> Value {
    match name {
        "debian-gpt-ext4" => json!(["debian", "12", "bookworm", "debian-fixture", "x86_64", []]),
        "ubuntu-shape" => json!([
            "ubuntu",
            "24.04",
            "noble",
            "ubuntu-fixture",
            "x86_64",
            [{"package": "linux-image-6.8.0-41-generic", "version": "6.8.0-41.41"}]
        ]),
        "amazon-shape" => json!(["amzn", "2023", null, "ip-10-0-0-1.example.internal", "x86_64", []]),
        "rhel-shape" => json!([
            "rhel",
            "9.4",
            "Plow",
            "rhel-fixture",
            "x86_64",
            [{"package": "kernel-core", "version": "5.14.0-427.13.1.el9_4"}]
        ]),
        "suse-shape" => json!(["opensuse-leap", "15.6", null, "suse-fixture", "x86_64", []]),
        _ => panic!("{name} is no machine"),
    }
}

/// The purl's type and namespace, and its `distro`.
fn vendor(name: &str) -> [&'static str; 3] {
    match name {
        "debian-gpt-ext4" | "debian-minbase" => ["deb", "debian", "debian-12"],
        "ubuntu-shape" => ["deb", "ubuntu", "ubuntu-24.04"],
        "amazon-shape" => ["rpm", "amzn", "amzn-2023"],
        "rhel-shape" => ["rpm", "redhat", "rhel-9.4"],
        "suse-shape" => ["rpm", "opensuse", "opensuse-leap-15.6"],
        _ => panic!("{name} is no machine"),
    }
}

#[test]
fn a_machine_is_described_as_its_own_tools_describe_it() {
    let names: Vec<_> = golden_names().into_iter().filter(|name| has_packages(name)).collect();
    assert_eq!(names, ["amazon-shape", "debian-gpt-ext4", "rhel-shape", "suse-shape", "ubuntu-shape"]);
    for name in names {
        let place = Place::new();
        let (report, code) = place.scan(&place.golden(&name));
        assert_eq!(code, 0, "{name}");
        let os = &report["machine"]["os"];
        let machine_found = json!([
            os["id"],
            os["version_id"],
            os["codename"],
            report["machine"]["hostname"],
            report["machine"]["architecture"],
            report["machine"]["kernels"]
        ]);
        assert_eq!(machine_found, machine(&name), "{name}");
        assert_packages(&report, &packages(&name), vendor(&name));
    }
}

/// Asserts that the report lists the installed packages and no other, with purls that say the same.
fn assert_packages(report: &Value, expected: &[ExpectedPackage], [kind, namespace, distro]: [&str; 3]) {
    let text = |package: &Value, field: &str| package[field].as_str().unwrap().to_owned();
    let mut found: Vec<_> = Vec::new();
    for package in report["packages"].as_array().unwrap() {
        let [name, version, architecture] =
            ["name", "version", "architecture"].map(|field| text(package, field));
        let purl = Purl::parse(&text(package, "purl"));
        assert_eq!([&*purl.kind, &*purl.namespace, &*purl.name], [kind, namespace, &*name]);
        assert_eq!(purl.qualifier("distro"), Some(distro), "{name}");
        assert_eq!(purl.qualifier("arch"), Some(&*architecture), "{name}");
        assert_eq!(purl.full_version(), version, "{name}");
        found.push([name, version, architecture]);
    }
    let mut expected: Vec<_> = expected
        .iter()
        .filter(|package| package.state == "installed")
        .map(|package| {
            // rpm prints an epoch of 0 where the package has one; it says the same as none.
            let version = package.version.strip_prefix("0:").unwrap_or(&package.version);
            [package.name.clone(), version.to_owned(), package.architecture.clone()]
        })
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// Where the `fstab` of each machine mounts its filesystems.
#[test]
fn filesystems_are_laid_into_one_tree() {
    for (name, mounts) in [
        ("debian-gpt-ext4", &[("p1", "/"), ("p15", "/boot/efi")][..]),
        ("ubuntu-shape", &[("p1", "/"), ("p15", "/boot/efi"), ("p16", "/boot")]),
        ("amazon-shape", &[("p1", "/"), ("p128", "/boot/efi")]),
        ("rhel-shape", &[("p2", "/boot/efi"), ("p3", "/boot"), ("p4", "/")]),
    ] {
        let place = Place::new();
        let (report, _) = place.scan(&place.golden(name));
        for (partition, at) in mounts {
            let row = row(&report, "filesystem", &format!("disk0/{partition}"));
            assert_eq!(row["mounted_at"], *at, "{name} {partition}");
        }
    }
    // A default subvolume four folders down is the root: paths begin there.
    let place = Place::new();
    let (report, _) = place.scan(&place.golden("suse-shape"));
    assert_eq!(row(&report, "filesystem", "disk0")["mounted_at"], "/");
    let package = report["packages"].as_array().unwrap().first().unwrap();
    let found = &package["found_in"].as_array().unwrap().first().unwrap();
    assert_eq!(found["path"], "/usr/lib/sysimage/rpm/rpmdb.sqlite");
    assert_eq!(found["volume_path"], "/@/.snapshots/1/snapshot/usr/lib/sysimage/rpm/rpmdb.sqlite");
}

#[test]
fn a_damaged_first_table_is_noted() {
    let place = Place::new();
    let (report, _) = place.scan(&place.golden("gpt-backup"));
    let disk = row(&report, "disk", "disk0");
    assert_eq!(
        disk["notes"],
        json!(["the backup partition table was read: the first one is damaged"]),
        "{disk}"
    );
    assert!(disk["fault_count"].as_u64().unwrap() > 0, "{disk}");
}

/// The partition called `root` is swap; what is the root is judged by what is in it.
#[test]
fn a_partition_is_not_judged_by_its_name() {
    let place = Place::new();
    let (report, _) = place.scan(&place.golden("gpt-named-root"));
    let named = row(&report, "partition", "disk0/p1");
    assert_eq!((&named["label"], &named["format"]), (&json!("root"), &json!("swap")));
    assert_eq!(row(&report, "filesystem", "disk0/p2")["entries"], 22);
}

/// Which images were copied while they were mounted, and what was done about it.
#[test]
fn dirty_filesystems_are_read_with_their_journal() {
    let mut dirty = Vec::new();
    for name in golden_names() {
        let place = Place::new();
        let (report, _) = place.scan(&place.golden(&name));
        for row in report["coverage"].as_array().unwrap().iter().filter(|row| row["dirty"] == true) {
            let notes = row["notes"].as_array().cloned().unwrap_or_default();
            let notes: Vec<_> = notes.iter().map(|note| note.as_str().unwrap()).collect();
            dirty.push(format!("{name}: {} {}", row["status"].as_str().unwrap(), notes.join(", ")));
        }
    }
    assert_eq!(
        dirty,
        [
            "btrfs-fsync: scanned log tree replayed",
            "btrfs-log-content: scanned log tree replayed",
            "btrfs-log-names: scanned log tree replayed",
            "ext3-dirty: scanned journal replayed",
            "ext4-fast-commit: scanned journal replayed, fast commits replayed",
            "ext4-fast-commit-1k: scanned journal replayed, fast commits replayed",
            "ext4-fast-commit-inline: scanned journal replayed, fast commits replayed",
            "ext4-fast-commit-plain: scanned journal replayed, fast commits replayed",
            "ext4-fast-commit-stale: scanned journal replayed",
            "ext4-fast-commit-torn: scanned journal replayed, fast commits replayed",
            "ext4-journal: scanned journal replayed",
            "ext4-journal-async: scanned journal replayed",
            "ext4-journal-csum-v2: scanned journal replayed",
            "ext4-journal-escaped: scanned journal replayed",
            "ext4-journal-wrapped: scanned journal replayed",
            "suse-shape: scanned log tree replayed, another subvolume than the top level is mounted by default",
            "xfs-dirty: scanned log replayed",
            "xfs-log-4k: scanned log replayed",
            "xfs-log-intents: scanned log replayed",
            "xfs-log-v1: scanned log replayed",
            "xfs-log-v4: scanned log replayed",
            "xfs-log-wrapped: scanned log replayed",
        ]
    );
}

/// A machine that ran when the picture was taken: what its journal holds is newer than what is in place, and it is
/// complete. The journal is debugfs' work.
#[test]
fn a_running_machine_is_complete_and_as_its_journal_says() {
    let place = Place::new();
    let image = debian(&place, "VERSION_ID=\"11\"");
    let (report, code) = place.scan(&image);
    assert_eq!((&report["machine"]["os"]["version_id"], code), (&json!("11"), 0), "{:?}", rows_of(&report));

    let path = image.to_str().unwrap();
    let block = tool("debugfs", &["-R", "blocks /etc/os-release", path]);
    let mut newer = fs::read(place.path("tree/etc/os-release")).unwrap();
    newer.resize(4096, 0);
    let at = newer.windows(2).position(|two| two == b"11").unwrap();
    newer[at..at + 2].copy_from_slice(b"12");
    fs::write(place.path("block"), newer).unwrap();
    let commands = format!("jo -c\njw -b {} {}\njc\n", block.trim(), place.path("block").display());
    fs::write(place.path("commands"), commands).unwrap();
    tool("debugfs", &["-w", "-f", place.path("commands").to_str().unwrap(), path]);

    let (report, code) = place.scan(&image);
    assert_eq!((&report["machine"]["os"]["version_id"], code), (&json!("12"), 0), "{:?}", rows_of(&report));
    let row = row(&report, "filesystem", "disk0");
    assert_eq!((&row["dirty"], &row["notes"]), (&json!(true), &json!(["journal replayed"])));
}

/// A Debian of one package on an ext4 of its own.
fn debian(place: &Place, version: &str) -> PathBuf {
    let tree = place.path("tree");
    for folder in ["etc", "var/lib/dpkg"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join("etc/os-release"), format!("ID=debian\n{version}\n")).unwrap();
    fs::write(
        tree.join("var/lib/dpkg/status"),
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b2\n\n",
    )
    .unwrap();
    ext_image(place, &tree, "ext4")
}

/// A whole Debian, where one was built: `STILLFRAME_MINBASE` names the folder that `debian-minbase.sh` filled.
#[test]
fn a_whole_debian_is_listed_and_described() {
    let Some(folder) = std::env::var_os("STILLFRAME_MINBASE").map(PathBuf::from) else {
        eprintln!("skipped: STILLFRAME_MINBASE is not set");
        return;
    };
    let image = folder.join("debian-minbase.img");
    let expected = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let place = Place::new();
    let (report, code) = place.scan(&image);
    assert_eq!(code, 0, "{:?}", rows_of(&report));
    let rows: Vec<ExpectedPackage> = expected("debian-minbase.packages.tsv")
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').map(str::to_owned).collect();
            let [name, version, architecture, state] = <[String; 4]>::try_from(fields).unwrap();
            ExpectedPackage { name, version, architecture, state }
        })
        .collect();
    assert!(rows.len() > 90, "{}", rows.len());
    assert_packages(&report, &rows, vendor("debian-minbase"));
    assert_listing(&place, &image, &expected("debian-minbase.expected.tsv"));
}

fn assert_listing(place: &Place, image: &Path, expected: &str) {
    use crate::listing::{assert_only, differences, listed, listing_of};
    let (found, code) = listed(place, &[image]);
    let expected = listing_of(expected);
    assert!(expected.len() > 5_000, "{}", expected.len());
    assert_only("debian-minbase", &[], &differences(&expected, &found));
    assert_eq!(code, 0);
}
