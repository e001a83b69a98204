//! The JSON document and its schema.

use serde_json::Value;
use stillframe_model::{Reason, Report, Status};
use stillframe_reports::{Format, Options, schema};

use crate::{golden, samples, written};

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap();
    text.push('\n');
    golden::check("../../docs/report.schema.json", &text);
}

#[test]
fn the_schema_is_one() {
    assert!(jsonschema::meta::validate(&schema()).is_ok());
}

#[test]
fn it_is_the_model_as_it_is_and_keeps_to_the_schema() {
    let validator = jsonschema::options().should_validate_formats(true).build(&schema()).unwrap();
    for (name, report) in samples::all() {
        let text = written(&report, Format::Json, &Options::default());
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found, serde_json::to_value(&report).unwrap(), "{name}");
        let errors: Vec<_> = validator.iter_errors(&found).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn receipts_and_the_cloud_can_be_read_back() {
    for report in [samples::complete(), samples::instance(), samples::leftovers()] {
        let text = written(&report, Format::Json, &Options::default());
        let found: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((found.snapshots, found.cloud), (report.snapshots, report.cloud));
    }
}

#[test]
fn the_schema_refuses_what_is_not_a_report() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = serde_json::to_value(samples::incomplete()).unwrap();
    assert!(validator.is_valid(&good));
    for (pointer, value) in [
        ("/schema", Value::from("stillframe/report/2")),
        ("/coverage/0/status", Value::from("perhaps")),
        ("/coverage/0/name", Value::Null),
        ("/findings/0/severity", Value::from("awful")),
        ("/findings/0/evidence/0/type", Value::from("text")),
        ("/packages/0/found_in", Value::from("/var/lib/dpkg/status")),
        ("/io/entries", Value::from(-1)),
        ("/scan/started", Value::from(12)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
    for member in ["schema", "scan", "machine", "coverage", "packages", "findings", "io", "snapshots"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(member);
        assert!(!validator.is_valid(&bad), "{member}");
    }
}

#[test]
fn the_schema_refuses_receipts_and_clouds_that_are_none() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = serde_json::to_value(samples::leftovers()).unwrap();
    assert!(validator.is_valid(&good));
    for (pointer, value) in [
        ("/snapshots/0/fate", Value::from("lost")),
        ("/snapshots/0/created", Value::Null),
        ("/snapshots/0/lifetime_seconds", Value::from(-1)),
        ("/cloud/locality", Value::from("elsewhere")),
        ("/cloud/calls/gets", Value::from("many")),
        ("/cloud/cost/total_nano_usd", Value::from(0.5)),
        ("/cloud/account", Value::from(123_456_789_012_u64)),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
    for (pointer, member) in [("/snapshots/0", "fate"), ("/cloud", "unknown_creations"), ("/cloud", "region")]
    {
        let mut bad = good.clone();
        bad.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(member);
        assert!(!validator.is_valid(&bad), "{pointer}/{member}");
    }
}

#[test]
fn a_row_that_was_not_read_needs_a_reason() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut report = samples::complete();
    report.coverage[0].status = Status::Corrupt;
    assert!(!validator.is_valid(&serde_json::to_value(&report).unwrap()));
    report.coverage[0].reason = Some(Reason::words("the checksum differs"));
    assert!(validator.is_valid(&serde_json::to_value(&report).unwrap()));
}
