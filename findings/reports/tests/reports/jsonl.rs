//! JSON Lines: one record a line, and together the same as the JSON document.

use serde_json::{Map, Value, json};
use stillframe_reports::{Format, Options};

use crate::{samples, written};

#[test]
fn the_lines_hold_what_the_document_holds() {
    for (name, report) in samples::all() {
        let text = written(&report, Format::Jsonl, &Options::default());
        assert!(text.ends_with('\n'));
        let lines: Vec<Map<String, Value>> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.first().unwrap()["type"], "scan", "{name}");
        assert_eq!(lines.last().unwrap()["type"], "io", "{name}");

        let mut document = json!({"coverage": [], "packages": [], "findings": [], "snapshots": []});
        for mut line in lines {
            assert_eq!(line.remove("scan_id").unwrap(), samples::SCAN_ID, "{name}");
            let record = line.remove("type").unwrap();
            let list = match record.as_str().unwrap() {
                "scan" => {
                    document["schema"] = line.remove("schema").unwrap();
                    document["scan"] = Value::Object(line);
                    continue;
                }
                one @ ("machine" | "cloud" | "io") => {
                    document[one] = Value::Object(line);
                    continue;
                }
                "coverage" => "coverage",
                "package" => "packages",
                "finding" => "findings",
                "snapshot" => "snapshots",
                other => panic!("{name}: a line of type {other}"),
            };
            document[list].as_array_mut().unwrap().push(Value::Object(line));
        }
        assert_eq!(document, serde_json::to_value(&report).unwrap(), "{name}");
    }
}

#[test]
fn no_record_has_a_member_twice() {
    // serde_json keeps the last of two equal members, so they are counted in the text.
    let text = written(&samples::incomplete(), Format::Jsonl, &Options::default());
    for line in text.lines() {
        assert!(line.starts_with(r#"{"type":""#), "{line}");
        assert_eq!(line.matches(r#""scan_id":"#).count(), 1, "{line}");
    }
}

#[test]
fn every_receipt_and_the_cloud_have_a_line() {
    let records = |report| -> Vec<String> {
        let text = written(&report, Format::Jsonl, &Options::default());
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["type"].as_str().unwrap().to_owned()).collect()
    };
    let leftovers = records(samples::leftovers());
    assert_eq!(leftovers.iter().filter(|record| *record == "snapshot").count(), 12);
    assert_eq!(leftovers[leftovers.len() - 3..], ["snapshot", "cloud", "io"]);
    let image = records(samples::complete());
    assert!(!image.iter().any(|record| record == "cloud" || record == "snapshot"));
}
