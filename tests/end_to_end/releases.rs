//! The release files of a hundred distributions, each in a filesystem of its own: the scan names the system as a shell
//! that reads the file would, and as the text of older files says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Place, corpora, ext_image, files_below, rows_of};

/// Id, version, codename.
type System = [Option<String>; 3];

fn system<'a>(
    id: &'a str,
    version: impl Into<Option<&'a str>>,
    codename: impl Into<Option<&'a str>>,
) -> System {
    [Some(id), version.into(), codename.into()].map(|text| text.map(str::to_owned))
}

/// What a scan of a tree with these files calls its system; `None` where it says that there is none.
fn recognised(files: &[(&str, &[u8])]) -> Option<System> {
    let place = Place::new();
    let tree = place.path("tree");
    for (path, content) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let (report, code) = place.scan(&ext_image(&place, &tree, "ext2"));
    // No tree has packages, so none is complete.
    assert_eq!(code, 2);
    let os = &report["machine"]["os"];
    if os.is_null() {
        assert!(rows_of(&report).iter().any(|row| row.starts_with("operating_system none recognised")));
        return None;
    }
    Some(["id", "version_id", "codename"].map(|field| os[field].as_str().map(str::to_owned)))
}

/// What a shell makes of an `os-release`, with the defaults of os-release(5).
fn by_shell(text: &str) -> Option<System> {
    // The shell is given assignments and comments, and nothing to run.
    for line in text.lines().map(str::trim) {
        let is_assignment = line.split_once('=').is_some_and(|(name, _)| {
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        });
        assert!(
            is_assignment && !line.contains(['`', '$']) || line.is_empty() || line.starts_with('#'),
            "{line}"
        );
    }
    let place = Place::new();
    fs::write(place.path("os-release"), text).unwrap();
    let script =
        r#". "$1"; printf '%s|%s|%s|%s' "$ID" "$VERSION_ID" "$VERSION_CODENAME" "$NAME$PRETTY_NAME""#;
    let output = Command::new("sh")
        .args(["-c", script, "sh", place.path("os-release").to_str().unwrap()])
        .env_clear()
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = String::from_utf8(output.stdout).unwrap();
    let [id, version, codename, name] =
        <[&str; 4]>::try_from(output.splitn(4, '|').collect::<Vec<_>>()).unwrap();
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let id = given(id).or_else(|| given(name).map(|_| "linux".to_owned()))?;
    Some([Some(id.to_lowercase()), given(version), given(codename)])
}

/// Where `file` of the folder `osrelease` belongs on a machine if it is an `os-release`.
fn os_release_place(file: &str) -> Option<&'static str> {
    let is_loose = file.starts_with("trivy/release/testdata/")
        || LOOSE.iter().any(|name| file == format!("syft/syft/linux/testdata/{name}"));
    if file.ends_with("usr/lib/os-release") {
        Some("usr/lib/os-release")
    } else if file.ends_with("etc/os-release") || is_loose {
        Some("etc/os-release")
    } else {
        None
    }
}

const LOOSE: [&str; 4] = ["centos-8", "debian-8", "rhel-8", "ubuntu-20.04"];

/// What is beside the release files: nothing of it names a system.
const OTHER: [&str; 7] = [
    "content_manifests/",
    "ubuntu-advantage/",
    "sources.list.d/",
    "auth.conf.d/",
    "_status.json",
    // Busybox' version is in its program.
    "bin/busybox",
    // A name for inventories of RPM's makers; the machines that have it have a release file too.
    "system-release-cpe",
];

/// Files that no shell reads: where each belongs, and what its own text says.
fn old_files() -> Vec<(&'static str, &'static str, Option<System>)> {
    vec![
        (
            "syft/syft/linux/testdata/os/almalinux/from-redhat-release/etc/redhat-release",
            "etc/redhat-release",
            Some(system("almalinux", "8.10", "Cerulean Leopard")),
        ),
        (
            "syft/syft/linux/testdata/os/centos5/etc/redhat-release",
            "etc/redhat-release",
            Some(system("centos", "5.7", "Final")),
        ),
        (
            "syft/syft/linux/testdata/os/redhat/from-redhat-release/etc/redhat-release",
            "etc/redhat-release",
            Some(system("rhel", "8.10", "Ootpa")),
        ),
        (
            "syft/syft/linux/testdata/os/rockylinux/from-redhat-release/etc/redhat-release",
            "etc/redhat-release",
            Some(system("rocky", "8.10", "Green Obsidian")),
        ),
        (
            "syft/syft/linux/testdata/os/scientific/from-redhat-release/etc/redhat-release",
            "etc/redhat-release",
            Some(system("scientific", "7.9", "Nitrogen")),
        ),
        (
            "syft/syft/linux/testdata/bad-redhat-release",
            "etc/redhat-release",
            Some(system("centos", "5", "Final")),
        ),
        (
            "syft/syft/linux/testdata/os/debian/from-debian_version/etc/debian_version",
            "etc/debian_version",
            Some(system("debian", "10.8", None)),
        ),
        (
            "syft/syft/linux/testdata/os/debian/with-point-release/etc/debian_version",
            "etc/debian_version",
            Some(system("debian", "13.5", None)),
        ),
        // Its lines end as those of DOS do.
        ("syft/syft/linux/testdata/unprintable", "etc/os-release", Some(system("debian", "8", None))),
        (
            "trivy/debian/testdata/debian_9/etc/debian_version",
            "etc/debian_version",
            Some(system("debian", "9.8", None)),
        ),
        (
            "trivy/debian/testdata/debian_sid/etc/debian_version",
            "etc/debian_version",
            Some(system("debian", None, "buster")),
        ),
        ("trivy/debian/testdata/empty", "etc/debian_version", None),
        (
            "trivy/redhatbase/testdata/alma/almalinux-release",
            "etc/almalinux-release",
            Some(system("almalinux", "8.4", "Electric Cheetah")),
        ),
        (
            "trivy/redhatbase/testdata/centos/centos-release",
            "etc/centos-release",
            Some(system("centos", "7.6.1810", "Core")),
        ),
        (
            "trivy/redhatbase/testdata/fedora_29/fedora-release",
            "etc/fedora-release",
            Some(system("fedora", "29", "Twenty Nine")),
        ),
        ("trivy/redhatbase/testdata/not_redhatbase/empty", "etc/redhat-release", None),
        (
            "trivy/redhatbase/testdata/oracle_7/oracle-release",
            "etc/oracle-release",
            Some(system("ol", "7.6", None)),
        ),
        (
            "trivy/redhatbase/testdata/redhat_6/redhat-release",
            "etc/redhat-release",
            Some(system("redhat", "6.2", "Zoot")),
        ),
        (
            "trivy/redhatbase/testdata/rocky/rocky-release",
            "etc/rocky-release",
            Some(system("rocky", "8.4", "Green Obsidian")),
        ),
        ("trivy/ubuntu/testdata/invalid", "etc/lsb-release", None),
        ("trivy/ubuntu/testdata/lsb-release", "etc/lsb-release", Some(system("ubuntu", "18.04", "bionic"))),
    ]
}

#[test]
fn every_release_file_names_its_system() {
    let Some(corpora) = corpora() else { return };
    let folder = corpora.join("osrelease");
    let old = old_files();
    let (mut shells, mut tables, mut others) = (0, BTreeSet::new(), 0);
    for file in files_below(&folder) {
        let content = fs::read(folder.join(&file)).unwrap();
        if let Some((_, place, expected)) = old.iter().find(|(path, ..)| *path == file) {
            assert_eq!(recognised(&[(place, &content)]), *expected, "{file}");
            tables.insert(file);
        } else if let Some(place) = os_release_place(&file) {
            let expected = by_shell(str::from_utf8(&content).unwrap());
            assert_eq!(recognised(&[(place, &content)]), expected, "{file}");
            shells += 1;
        } else if OTHER.iter().any(|part| file.contains(part)) {
            others += 1;
        } else {
            assert!(file.ends_with(".txtar"), "{file} is not known here");
        }
    }
    assert_eq!((tables.len(), shells, others), (old.len(), 58, 19));
}

/// Archives of claircore: the file, and what claircore's own parser makes of it.
#[test]
fn every_archived_release_file_names_its_system() {
    let Some(corpora) = corpora() else { return };
    let folder = corpora.join("osrelease/claircore/testdata");
    let archives = files_below(&folder);
    assert_eq!(archives.len(), 11);
    for archive in archives {
        let text = fs::read_to_string(folder.join(&archive)).unwrap();
        let part = |name: &str| {
            let start = format!("-- {name} --\n");
            let rest = text.split_once(&start).unwrap_or_else(|| panic!("{archive} has no {name}")).1;
            rest.split("\n-- ").next().unwrap()
        };
        let parsed: Value = serde_json::from_str(part("Parsed")).unwrap();
        let expected = ["ID", "VERSION_ID", "VERSION_CODENAME"]
            .map(|key| parsed[key].as_str().filter(|value| !value.is_empty()).map(str::to_owned));
        let file = part("os-release").as_bytes();
        assert_eq!(recognised(&[("etc/os-release", file)]), Some(expected), "{archive}");
    }
}

/// More files, in the folders of releases that they are named for.
#[test]
fn releases_of_alpine_debian_and_ubuntu() {
    let Some(corpora) = corpora() else { return };
    let ospkg = corpora.join("ospkg");
    let files: Vec<_> =
        files_below(&ospkg).into_iter().filter(|file| file.ends_with("etc/os-release")).collect();
    assert_eq!(files.len(), 52);
    for file in files {
        let text = fs::read_to_string(ospkg.join(&file)).unwrap();
        let found = recognised(&[("etc/os-release", text.as_bytes())]);
        assert_eq!(found, by_shell(&text), "{file}");
        let folder = Path::new(&file).components().rev().nth(2).unwrap().as_os_str().to_str().unwrap();
        let [_, version, _] = found.unwrap();
        // Alpine's has a point release behind it; `edge` and `image-dpkg` name no number.
        if folder.starts_with(|first: char| first.is_ascii_digit()) {
            assert!(version.is_some_and(|version| version.starts_with(folder)), "{file}");
        }
    }
}

/// What several files say together.
#[test]
fn the_first_of_several_files_is_believed() {
    let Some(corpora) = corpora() else { return };
    let os = corpora.join("osrelease/syft/syft/linux/testdata/os");
    let read = |path: &str| fs::read(PathBuf::from(&os).join(path)).unwrap();
    // The version that `os-release` lacks is lent by Debian's own file.
    for (folder, version) in [("from-debian_version", "10.8"), ("with-point-release", "13")] {
        let files = [
            ("etc/os-release", read(&format!("debian/{folder}/etc/os-release"))),
            ("etc/debian_version", read(&format!("debian/{folder}/etc/debian_version"))),
        ];
        let found = recognised(&files.each_ref().map(|(path, content)| (*path, content.as_slice()))).unwrap();
        assert_eq!([&found[0], &found[1]], [&Some("debian".to_owned()), &Some(version.to_owned())]);
    }
    // A derivative keeps the files of what it is made from: Ubuntu Debian's version, Rocky Red Hat's line.
    let [ubuntu, rocky] = ["ubuntu/etc/os-release", "rockylinux/from-os-release/etc/os-release"].map(read);
    let found = recognised(&[("etc/os-release", &ubuntu), ("etc/debian_version", b"bullseye/sid\n")]);
    assert_eq!(found, Some(system("ubuntu", "20.04", "focal")));
    let line = read("rockylinux/from-redhat-release/etc/redhat-release");
    let found = recognised(&[("etc/redhat-release", &line), ("usr/lib/os-release", &rocky)]);
    assert_eq!(found.unwrap()[1].as_deref(), Some("8.4"));
    // An empty file says nothing, and the next one is asked.
    let found = recognised(&[("etc/os-release", b""), ("etc/redhat-release", &line)]);
    assert_eq!(found, Some(system("rocky", "8.10", "Green Obsidian")));
}
