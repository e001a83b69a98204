//! Reports of whole disks: valid by their schemas, true to each other, and plausible in what they say of their cost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "small counts")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jsonschema::{Registry, Validator};
use serde_json::Value;
use stillframe_block::BlockSource;
use stillframe_fixtures::{expected, golden};

use crate::harness::Place;

/// Shapes of disks with packages and without, complete and not.
const IMAGES: [&str; 7] = [
    "debian-gpt-ext4",
    "rhel-shape",
    "btrfs-zstd",
    "ntfs-streams",
    "luks",
    "mbr-logical",
    "ext4-fast-commit",
];
const BLOCK_BYTES: u64 = 512 << 10;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn schema(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(repository(path)).unwrap()).unwrap()
}

fn cyclonedx() -> Validator {
    let registry = Registry::new()
        .add("http://cyclonedx.org/schema/jsf-0.82.schema.json", schema("tests/schemas/jsf-0.82.schema.json"))
        .unwrap()
        .add("http://cyclonedx.org/schema/spdx.schema.json", schema("tests/schemas/spdx.schema.json"))
        .unwrap()
        .prepare()
        .unwrap();
    let bill = schema("tests/schemas/cyclonedx-1.6.schema.json");
    jsonschema::options().with_registry(&registry).should_validate_formats(true).build(&bill).unwrap()
}

#[track_caller]
fn assert_valid(validator: &Validator, document: &Value, name: &str) {
    let errors: Vec<_> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
}

fn printed(place: &Place, name: &str, format: &str) -> String {
    let image = place.path(&format!("{name}.img"));
    let output = place.run(&["scan", "image", "--format", format], &[&image]);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_json_report_keeps_to_the_committed_schema() {
    let schema = schema("docs/report.schema.json");
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let place = Place::new();
    for name in IMAGES {
        place.golden(name);
        let report: Value = serde_json::from_str(&printed(&place, name, "json")).unwrap();
        assert_valid(&validator, &report, name);
        assert_eq!(report["schema"], "stillframe/report/1");
        for row in report["coverage"].as_array().unwrap() {
            let is_scanned = row["status"] == "scanned";
            assert!(
                is_scanned || row["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
                "{name}: {row}"
            );
        }
    }
}

#[test]
fn the_bill_of_materials_keeps_to_the_published_schema_and_has_every_package() {
    let (validator, place) = (cyclonedx(), Place::new());
    for name in IMAGES {
        place.golden(name);
        let bill: Value = serde_json::from_str(&printed(&place, name, "cyclonedx")).unwrap();
        assert_valid(&validator, &bill, name);
        let report: Value = serde_json::from_str(&printed(&place, name, "json")).unwrap();
        let purls = |list: &Value| -> BTreeSet<String> {
            let all = list.as_array().into_iter().flatten();
            let packages = all.filter(|one| one["type"] != "operating-system");
            packages.filter_map(|one| Some(one["purl"].as_str()?.to_owned())).collect()
        };
        assert_eq!(purls(&bill["components"]), purls(&report["packages"]), "{name}");
    }
}

#[test]
fn each_line_of_jsonl_is_an_object_and_together_they_are_the_report() {
    let place = Place::new();
    for name in IMAGES {
        place.golden(name);
        let text = printed(&place, name, "jsonl");
        assert!(text.ends_with('\n') && !text.contains("\n\n"), "{name}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().all(Value::is_object), "{name}");
        let report: Value = serde_json::from_str(&printed(&place, name, "json")).unwrap();
        let count = |member: &str| report[member].as_array().unwrap().len();
        let rows = count("coverage") + count("packages") + count("findings");
        // One line more or two: the scan, and the machine with what reading cost.
        assert!(
            (rows + 1..=rows + 4).contains(&lines.len()),
            "{name}: {} lines for {rows} rows",
            lines.len()
        );
    }
}

#[test]
fn the_table_names_the_machine_and_what_was_not_read() {
    let place = Place::new();
    for (name, words) in [
        ("debian-gpt-ext4", &["Debian GNU/Linux", "disk0/p1", "ext4"][..]),
        ("rhel-shape", &["Red Hat Enterprise Linux", "xfs"]),
        ("luks", &["encrypted", "LUKS2"]),
    ] {
        place.golden(name);
        let table = printed(&place, name, "table");
        for word in words {
            assert!(table.contains(word), "{name}: no {word} in\n{table}");
        }
        assert!(!table.contains('\x1b'), "{name}");
    }
}

#[test]
fn what_reading_cost_is_plausible() {
    let place = Place::new();
    for name in IMAGES {
        let image = place.golden(name);
        let (report, _) = place.scan(&image);
        let io = |member: &str| report["io"][member].as_u64().unwrap();
        let disk = golden(name);
        let all = disk.len_bytes().div_ceil(BLOCK_BYTES);
        let written =
            disk.written_pages().map(|page| page / BLOCK_BYTES).collect::<BTreeSet<_>>().len() as u64;
        let fetched = io("blocks_fetched");
        // A reader may touch a hole: the reserved space of a table, the gap behind a boot sector.
        assert!((1..=all).contains(&fetched), "{name}: {fetched} of {all} blocks");
        assert!(fetched <= written + written / 2 + 4, "{name}: {fetched} blocks, and {written} are written");
        assert!(
            io("bytes_read") >= fetched * 512 && io("requests") >= fetched / 2,
            "{name}: {}",
            report["io"]
        );
        assert!(io("bytes_read") <= all * BLOCK_BYTES * 4, "{name}: {}", report["io"]);
    }
}

#[test]
fn entries_are_those_of_the_listing() {
    let place = Place::new();
    for name in ["debian-gpt-ext4", "rhel-shape", "mbr-logical", "xfs-1k", "ext4-htree", "gpt-4k"] {
        let image = place.golden(name);
        let (report, _) = place.scan(&image);
        let listed = String::from_utf8(place.run(&["files"], &[&image]).stdout).unwrap();
        assert_eq!(report["io"]["entries"].as_u64().unwrap() as usize, listed.lines().count(), "{name}");
        assert_eq!(listed.lines().count(), expected(name).len(), "{name}");
        let of_rows: u64 =
            report["coverage"].as_array().unwrap().iter().filter_map(|row| row["entries"].as_u64()).sum();
        assert_eq!(report["io"]["entries"], of_rows, "{name}");
    }
}
