//! Machines of several filesystems, made by mke2fs: one tree, whatever the disks are called and wherever links lead.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Place, ext_image, rows_of};

const APK: &str = "P:musl\nV:1.2.5-r0\nA:x86_64\n\n";

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// An ext4 image called `name` that holds the folder `tree`.
fn image(place: &Place, tree: &Path, name: &str) -> PathBuf {
    let made = ext_image(place, tree, "ext4");
    let image = place.path(name);
    fs::rename(made, &image).unwrap();
    image
}

/// Name, mount point and status of each filesystem.
fn mounted(report: &Value) -> Vec<(String, String, String)> {
    let rows = report["coverage"].as_array().unwrap().iter().filter(|row| row["kind"] == "filesystem");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    rows.map(|row| (text(&row["name"]), text(&row["mounted_at"]), text(&row["status"]))).collect()
}

fn packages(report: &Value) -> Vec<(String, String)> {
    let packages = report["packages"].as_array().unwrap().iter();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let place = |package: &Value| package["found_in"][0]["path"].as_str().unwrap_or_default().to_owned();
    packages.map(|package| (name(package), place(package))).collect()
}

#[test]
fn two_disks_called_as_a_kernel_calls_them_are_one_tree_and_links_lead_through_it() {
    let place = Place::new();
    let (root, usr) = (place.path("root"), place.path("usr"));
    write(&root, "etc/os-release", "ID=alpine\nVERSION_ID=3.22.1\nPRETTY_NAME=\"Alpine Linux v3.22\"\n");
    write(
        &root,
        "etc/fstab",
        "/dev/vda / ext4 rw 0 1\n/dev/vdb /usr ext4 rw 0 2\n/dev/vdz1 /gone xfs rw 0 2\n",
    );
    // The package database is where /lib/apk leads, on the other disk; what /usr hides on this one is an old copy.
    symlink("usr/lib", root.join("lib")).unwrap();
    write(&root, "usr/lib/apk/db/installed", &APK.replace("musl", "hidden"));
    write(&usr, "share/apk-of-old/installed", APK);
    fs::create_dir_all(usr.join("lib/apk")).unwrap();
    symlink("../../share/apk-of-old", usr.join("lib/apk/db")).unwrap();
    let (root, usr) = (image(&place, &root, "root.img"), image(&place, &usr, "usr.img"));
    let (report, code) = place.scan_all(&[&root, &usr]);
    let row = |name: &str, at: &str| (name.to_owned(), at.to_owned(), "scanned".to_owned());
    assert_eq!(mounted(&report), [row("disk0", "/"), row("disk1", "/usr")]);
    let found = packages(&report);
    assert_eq!(found, [("musl".to_owned(), "/usr/share/apk-of-old/installed".to_owned())]);
    assert_eq!(code, 0, "{:?}", rows_of(&report));
    let notes = report["coverage"].to_string();
    assert!(notes.contains("its fstab mounts what is not on these disks"), "{notes}");
}

#[test]
fn an_image_in_a_file_is_a_volume_on_its_volume_and_a_broken_one_is_told() {
    let place = Place::new();
    let (inner, root) = (place.path("inner"), place.path("root"));
    write(&inner, "lib/apk/db/installed", APK);
    write(&inner, "deep/er/file", "x");
    let inner = image(&place, &inner, "inner.img");
    write(&root, "etc/os-release", "ID=alpine\n");
    write(
        &root,
        "etc/fstab",
        "/srv/inner.img /srv/data ext4 loop 0 0\n/srv/noise.img /srv/noise auto loop 0 0\n/srv/gone.img /srv/gone auto loop 0 0\n",
    );
    fs::create_dir_all(root.join("srv/data")).unwrap();
    fs::copy(&inner, root.join("srv/inner.img")).unwrap();
    let noise: Vec<u8> = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    fs::write(root.join("srv/noise.img"), noise).unwrap();
    let root = image(&place, &root, "root.img");
    for sandbox in ["required", "off"] {
        let arguments = ["scan", "image", "--format", "json", "--sandbox", sandbox];
        let output = place.run(&arguments, &[&root]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = |name: &str, at: &str, status: &str| (name.to_owned(), at.to_owned(), status.to_owned());
        assert_eq!(
            mounted(&report),
            [
                row("disk0", "/", "scanned"),
                row("disk0/image1", "/srv/data", "scanned"),
                row("disk0/image2", "/srv/noise", "unsupported"),
            ]
        );
        // What lies on it has its place on the machine, which is not where a system keeps its packages.
        assert_eq!(packages(&report), []);
        let image =
            report["coverage"].as_array().unwrap().iter().find(|row| row["name"] == "disk0/image1").unwrap();
        // lost+found and three folders with a file, two folders with one.
        assert_eq!(image["entries"], 8, "{image}");
        assert_eq!(output.status.code(), Some(2), "an image could not be read");
    }
}

#[test]
fn a_snap_is_mounted_where_its_unit_says() {
    let place = Place::new();
    let root = place.path("root");
    write(&root, "etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n");
    let unit = "[Unit]\nDescription=Mount unit for core\n[Mount]\nWhat=/var/lib/snapd/snaps/core_7.snap\n\
        Where=/snap/core/7\nType=squashfs\nOptions=nodev,ro,x-gdu.hide\n";
    write(&root, "etc/systemd/system/snap-core-7.mount", unit);
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    symlink("/etc/systemd/system/snap-core-7.mount", wants.join("snap-core-7.mount")).unwrap();
    fs::create_dir_all(root.join("var/lib/snapd/snaps")).unwrap();
    fs::rename(place.golden("squashfs-snap"), root.join("var/lib/snapd/snaps/core_7.snap")).unwrap();
    let root = image(&place, &root, "root.img");
    let (report, _) = place.scan(&root);
    let row =
        report["coverage"].as_array().unwrap().iter().find(|row| row["name"] == "disk0/image1").unwrap();
    let expected = stillframe_fixtures::expected("squashfs-snap").len();
    assert_eq!(row["mounted_at"], "/snap/core/7", "{row}");
    assert_eq!(row["format"], "squashfs", "{row}");
    assert_eq!(row["status"], "scanned", "{row}");
    assert_eq!(row["entries"], expected, "{row}");
}
