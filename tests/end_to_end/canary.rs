//! Secrets planted all over a disk: none may be in anything that the program prints, logs, writes or keeps.
//!
//! A canary counts as leaked in any spelling: as it is, in another case, reversed, in base64 at any alignment, in
//! hexadecimal, in UTF-16, and cut to 8 characters. Names of people are canaries too unless they were asked for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "all text is made here"
)]

mod planted;
mod spellings;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use planted::{Planted, plant};
use serde_json::Value;
use spellings::Spellings;
use stillframe_model::{Domain, FingerprintKey, Location, PathView};

use crate::harness::Place;

/// What the program said and left, and what must not be in it.
struct Said {
    place: Place,
    content: Spellings,
    people: Spellings,
    checked: usize,
}

impl Said {
    fn new(place: Place, planted: &Planted) -> Self {
        let (content, people) = (Spellings::of(&planted.content), Spellings::of(&planted.people));
        Self { place, content, people, checked: 0 }
    }

    /// Runs the program; nothing of what was planted may be in what it prints. Gives standard output.
    fn run(&mut self, arguments: &[&str], image: &Path) -> String {
        let shows_people =
            arguments.contains(&"--show-user-paths") || matches!(arguments[0], "files" | "layout");
        let output = self.place.stillframe().args(arguments).arg(image).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 2)), "{arguments:?}: {:?}", output.status);
        let shown = format!("{arguments:?} of {}", image.display());
        for (stream, bytes) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
            self.check(&format!("{stream} of {shown}"), bytes, shows_people);
        }
        String::from_utf8(output.stdout).unwrap()
    }

    fn check(&mut self, what: &str, bytes: &[u8], shows_people: bool) {
        self.checked += bytes.len();
        assert_eq!(self.content.found_in(bytes), None, "{what}");
        if !shows_people {
            assert_eq!(self.people.found_in(bytes), None, "{what}");
        }
    }

    /// Everything that the program may have left in this folder, but for the images and what they were made from.
    fn check_files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != planted::TREE {
                self.check_files(&path);
            } else if path.is_file() && !name.ends_with(planted::IMAGE_ENDING) && !name.starts_with("given-")
            {
                self.check(&path.display().to_string(), &fs::read(&path).unwrap(), false);
            }
        }
    }
}

const FORMATS: [&str; 4] = ["table", "json", "jsonl", "cyclonedx"];

#[test]
fn no_canary_is_in_any_output() {
    let place = Place::new();
    let planted = plant(&place);
    let mut said = Said::new(place, &planted);
    for image in &planted.images {
        let bytes = fs::read(image).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for canary in planted.content.iter().chain(&planted.people) {
            assert!(text.contains(canary), "{canary} is not on {}", image.display());
        }
        for format in FORMATS {
            let report = said.run(&["scan", "image", "-vv", "--format", format], image);
            assert!(report.contains("planted-web01") || image != &planted.images[0], "{format}: {report}");
            said.run(&["scan", "image", "-vv", "--log-format", "json", "--format", format], image);
            let file = said.place.path(&format!("report.{format}"));
            said.run(&["scan", "image", "--format", format, "--output", file.to_str().unwrap()], image);
            said.run(&["scan", "image", "-v", "--show-user-paths", "--format", format], image);
        }
        said.run(&["scan", "image", "--list-packages", "--color", "always"], image);
        said.run(&["scan", "image", "--volume-deadline", "0", "-vv"], image);
        said.run(&["layout", "-vv"], image);
        said.run(&["files", "-vv"], image);
        said.run(&["files", "-vv", "--hash", "sha256"], image);
    }
    let folder = said.place.path("");
    said.check_files(&folder);
    assert!(said.checked > 200_000, "only {} bytes were said", said.checked);
}

#[test]
fn what_may_be_said_is_said() {
    let place = Place::new();
    let planted = plant(&place);
    let (report, _) = place.scan(&planted.images[0]);
    assert_eq!(report["machine"]["hostname"], "planted-web01");
    let mut packages: Vec<_> = report["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    packages.sort_unstable();
    assert_eq!(packages, ["good-after", "good-before", "musl", "status-d-package"]);
    // The damaged copies are met: their databases have faults, and are not silent.
    for image in &planted.images[1..] {
        let (report, code) = place.scan(image);
        let faults: u64 = report["coverage"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["fault_count"].as_u64().unwrap_or(0))
            .sum();
        assert!(code == 2 && faults > 0, "{}: {faults} faults", image.display());
    }
}

fn paths_of_faults(report: &Value) -> Vec<String> {
    let rows = report["coverage"].as_array().unwrap().iter();
    let faults = rows.filter_map(|row| row["faults"].as_array()).flatten();
    faults.filter_map(|fault| fault["path"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_person_in_a_path_is_a_tilde_and_eight_digits() {
    let place = Place::new();
    let planted = plant(&place);
    let person = &planted.people[0];
    let (report, _) = place.scan(&planted.images[0]);
    let key_file = place.path("state/stillframe/fingerprint.key");
    let key = FingerprintKey::from_hex(&fs::read_to_string(&key_file).unwrap()).unwrap();
    let mask = key.fingerprint(Domain::HomeUser, person.as_bytes()).short().to_owned();
    assert!(mask.len() == 8 && mask.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let paths = paths_of_faults(&report);
    assert!(paths.contains(&format!("/home/~{mask}/broken")), "{paths:?}");
    assert_eq!(report["scan"]["user_paths_masked"], true);

    let output =
        place.run(&["scan", "image", "--format", "json", "--show-user-paths"], &[&planted.images[0]]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(paths_of_faults(&shown).contains(&format!("/home/{person}/broken")));
    assert_eq!(shown["scan"]["user_paths_masked"], false);
}

#[test]
fn a_location_under_a_home_root_gives_the_owner_and_hides_the_name() {
    let key = FingerprintKey::new([5; 32]);
    let view = PathView::Masked(&key);
    for root in ["/home", "/var/spool/mail", "/Users", "/export/home"] {
        let path = format!("{root}/alice/.ssh/id_rsa");
        let location = Location::in_volume("disk0/p1", "ext4").at(path.as_bytes(), Some(1000), view);
        let json = serde_json::to_value(&location).unwrap();
        let mask = key.fingerprint(Domain::HomeUser, b"alice").short().to_owned();
        assert_eq!(json["path"], format!("{root}/~{mask}/.ssh/id_rsa"));
        assert_eq!(json["owner_uid"], 1000);
        assert!(!json.to_string().contains("alice"), "{json}");
        let plain = Location::in_volume("disk0/p1", "ext4").at(path.as_bytes(), Some(1000), PathView::Plain);
        assert_eq!(serde_json::to_value(&plain).unwrap()["path"], path);
    }
}

#[test]
fn the_key_stays_with_its_owner() {
    let place = Place::new();
    let planted = plant(&place);
    let key_file = place.path("state/stillframe/fingerprint.key");
    let mut said = Said::new(place, &planted);
    let report = said.run(&["scan", "image", "--format", "json"], &planted.images[0]);
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(key_file.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    let hex = fs::read_to_string(&key_file).unwrap().trim().to_owned();
    assert!(hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let report: Value = serde_json::from_str(&report).unwrap();
    let id = FingerprintKey::from_hex(&hex).unwrap().id().to_string();
    assert_eq!(report["scan"]["fingerprint_key_id"], id);

    let raw: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
    let spelled = spellings::base64(&raw);
    for format in FORMATS {
        let arguments = ["scan", "image", "-vv", "--show-user-paths", "--format", format];
        let output = said.place.run(&arguments, &[&planted.images[0]]);
        let all = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&all).to_lowercase();
        assert!(text.contains(&id) || format == "table" || format == "cyclonedx", "{format}");
        // Eight digits of the key in a row are no accident.
        for start in 0..=hex.len() - 12 {
            assert!(!text.contains(&hex[start..start + 12]), "{format}: the key is in it");
        }
        assert!(!text.contains(&spelled.to_lowercase()) && !all.windows(8).any(|window| window == &raw[..8]));
    }
}

#[test]
fn a_key_file_that_holds_something_else_is_not_quoted() {
    let place = Place::new();
    let planted = plant(&place);
    let mut said = Said::new(place, &planted);
    let canary = planted.content[0].clone();
    let contents: [(&str, Vec<u8>); 4] = [
        ("given-text", canary.clone().into_bytes()),
        ("given-almost", format!("{canary}{}", "0".repeat(64 - canary.len())).into_bytes()),
        ("given-latin", [canary.as_bytes(), b"\xff\xfe"].concat()),
        ("given-long", canary.repeat(1000).into_bytes()),
    ];
    for (name, content) in contents {
        let path: PathBuf = said.place.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let arguments = ["scan", "image", "-vv", "--fingerprint-key-file", path.to_str().unwrap()];
        let stdout = said.run(&arguments, &planted.images[0]);
        assert_eq!(stdout, "", "{name}");
    }
}
