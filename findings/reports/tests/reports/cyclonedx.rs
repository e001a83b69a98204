//! The bill of materials against the published schema.

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};
use stillframe_model::{DiskText, Location, PathView, Report};
use stillframe_reports::{Format, Options};

use crate::{samples, written};

fn schema_file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/schemas").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// CycloneDX 1.6 with the two schemas that it refers to, all from files.
fn validator() -> Validator {
    let (signature, licences) = (schema_file("jsf-0.82.schema.json"), schema_file("spdx.schema.json"));
    let registry = Registry::new()
        .add("http://cyclonedx.org/schema/jsf-0.82.schema.json", signature)
        .unwrap()
        .add("http://cyclonedx.org/schema/spdx.schema.json", licences)
        .unwrap()
        .prepare()
        .unwrap();
    jsonschema::options()
        .with_registry(&registry)
        .should_validate_formats(true)
        .build(&schema_file("cyclonedx-1.6.schema.json"))
        .unwrap()
}

fn bill(report: &Report) -> Value {
    serde_json::from_str(&written(report, Format::Cyclonedx, &Options::default())).unwrap()
}

fn references(bill: &Value) -> Vec<String> {
    let components = bill["components"].as_array().unwrap().iter();
    components
        .chain([&bill["metadata"]["component"]])
        .map(|component| component["bom-ref"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_sample_is_valid() {
    let validator = validator();
    for (name, report) in samples::all() {
        let bill = bill(&report);
        let errors: Vec<_> = validator.iter_errors(&bill).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let references = references(&bill);
        let unique: BTreeSet<_> = references.iter().collect();
        assert_eq!(unique.len(), references.len(), "{name}: {references:?}");
    }
}

#[test]
fn the_validator_refuses_what_is_wrong() {
    let validator = validator();
    let good = bill(&samples::complete());
    for (pointer, value) in [
        ("/serialNumber", json!("urn:uuid:7")),
        ("/components/1/type", json!("package")),
        ("/compositions/0/aggregate", json!("perhaps")),
        ("/components/0/version", json!("1".repeat(1025))),
        ("/metadata/timestamp", json!("today")),
        ("/components/1", good["components"][2].clone()),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
}

#[test]
fn a_bill_says_what_the_report_says() {
    let report = samples::complete();
    let bill = bill(&report);
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["specVersion"], "1.6");
    assert_eq!(bill["serialNumber"], format!("urn:uuid:{}", samples::SCAN_ID));
    assert_eq!(bill["metadata"]["component"]["type"], "device");
    assert_eq!(bill["metadata"]["component"]["name"], "web01");
    let components = bill["components"].as_array().unwrap();
    assert_eq!(components[0]["type"], "operating-system");
    assert_eq!((&components[0]["name"], &components[0]["version"]), (&json!("debian"), &json!("12")));
    assert_eq!(components.len(), 1 + report.packages.len());
    for (component, package) in components[1..].iter().zip(&report.packages) {
        assert_eq!(component["purl"], package.purl.as_str());
        assert_eq!(component["bom-ref"], package.purl.as_str());
        assert_eq!(component["name"], package.name.as_str());
        assert_eq!(component["version"], package.version.as_str());
        let path = package.found_in[0].path.as_ref().unwrap();
        assert_eq!(component["evidence"]["occurrences"][0]["location"], path.as_str());
    }
    let source = json!({"name": "stillframe:source", "value": "curl-source"});
    assert!(components[1]["properties"].as_array().unwrap().contains(&source));
}

#[test]
fn incompleteness_is_said() {
    let aggregate = |report: &Report| bill(report)["compositions"][0]["aggregate"].clone();
    assert_eq!(aggregate(&samples::complete()), "complete");
    assert_eq!(aggregate(&samples::incomplete()), "incomplete");
    assert_eq!(aggregate(&samples::empty()), "unknown");
    let mut stopped = samples::complete();
    stopped.scan.complete = false;
    assert_eq!(aggregate(&stopped), "incomplete");
    let mut unasked = samples::complete();
    unasked.scan.scanners.clear();
    assert_eq!(aggregate(&unasked), "unknown");

    let bill = bill(&samples::incomplete());
    let properties = bill["metadata"]["properties"].as_array().unwrap();
    assert!(properties.contains(&json!({"name": "stillframe:complete", "value": "false"})));
    let luks = "disk1: encrypted: LUKS2, and there is no key";
    assert!(properties.contains(&json!({"name": "stillframe:unread", "value": luks})));
    assert_eq!(bill["compositions"][0]["assemblies"], json!([bill["metadata"]["component"]["bom-ref"]]));
}

#[test]
fn the_cloud_and_the_fate_of_every_snapshot_are_said() {
    let report = samples::leftovers();
    let bill = bill(&report);
    let properties = bill["metadata"]["properties"].as_array().unwrap();
    let values = |name: &str| -> Vec<&str> {
        let named = properties.iter().filter(|property| property["name"] == name);
        named.map(|property| property["value"].as_str().unwrap()).collect()
    };
    assert_eq!(values("stillframe:cloud:provider"), ["aws"]);
    assert_eq!(values("stillframe:cloud:account"), ["123456789012"]);
    assert_eq!(values("stillframe:cloud:region"), ["eu-west-3"]);
    assert_eq!(values("stillframe:cloud:instance"), ["i-0123456789abcdef0"]);
    assert_eq!(values("stillframe:cloud:unknown_creations"), ["2"]);
    // The fates are called as the JSON report calls them.
    let json = serde_json::to_value(&report).unwrap();
    let expected: Vec<String> = json["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|receipt| {
            let members = ["snapshot_id", "fate", "code"].map(|member| receipt[member].as_str());
            members.into_iter().flatten().collect::<Vec<_>>().join(": ")
        })
        .collect();
    assert_eq!(values("stillframe:snapshot"), expected);
    assert!(expected.contains(&"snap-0a1b2c3d4e5f60714: kept: InvalidSnapshot.InUse".to_owned()));

    let image = self::bill(&samples::complete()).to_string();
    assert!(!image.contains("stillframe:cloud") && !image.contains("stillframe:snapshot"));
}

#[test]
fn the_same_package_in_two_places_is_two_components() {
    let mut report = samples::complete();
    let mut second = report.packages[0].clone();
    second.found_in =
        vec![Location::in_volume("disk1/p2", "xfs").at(b"/var/lib/dpkg/status", Some(0), PathView::Plain)];
    report.packages.push(second);
    let of_curl = |report: &Report| -> BTreeSet<String> {
        references(&bill(report)).into_iter().filter(|reference| reference.contains("/curl@")).collect()
    };
    let purl = report.packages[0].purl.clone();
    let expected = ["disk0/p1", "disk1/p2"].map(|volume| format!("{purl} in {volume}:/var/lib/dpkg/status"));
    assert_eq!(of_curl(&report), expected.into());
    assert!(validator().is_valid(&bill(&report)));
    // Their references do not depend on the order in which they were met.
    let before = of_curl(&report);
    report.packages.reverse();
    assert_eq!(of_curl(&report), before);
}

#[test]
fn a_scan_id_that_is_no_uuid_makes_no_serial_number() {
    let mut report = samples::complete();
    report.scan.id = DiskText::new("yesterday's");
    let bill = bill(&report);
    assert!(bill.get("serialNumber").is_none());
    assert!(validator().is_valid(&bill));
}
