//! What is asked of everything that the program says when something is wrong.

use fake_aws::{Estate, Snapshot};

use crate::harness::{Cloud, ROOT, Run, policy_and};

/// What nobody is to see: the credentials, and words of the language that the program is written in.
const FORBIDDEN: [&str; 13] = [
    "no secret",
    "not-a-secret",
    "AKIDTEST",
    "ASIAFAKE",
    "Some(",
    "None",
    "Err(",
    "panicked",
    "Unhandled",
    "ErrorMetadata",
    "SdkError",
    "aws_s",
    "stillframe_",
];

/// Fails where something is said that nobody can read, or nobody may.
pub fn is_plain(run: &Run) {
    for text in [run.out(), run.err()] {
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
    for line in run.err().lines().filter(|line| line.starts_with("error: ") || line.starts_with("hint: ")) {
        assert!(line.chars().count() < 330, "{} characters: {line}", line.len());
        assert!(!line.contains("))") && !line.ends_with(['.', ' ']), "{line}");
    }
}

/// The one error of a run that ended with 2. Its parts are in the error, `mends` is in the hint.
pub fn one_mistake(run: &Run, parts: &[&str], mends: &str) -> String {
    is_plain(run);
    assert_eq!(run.code(), 2, "{}", run.err());
    let errors = run.errors();
    let [(error, hint)] = errors.as_slice() else { panic!("one error: {}", run.err()) };
    assert_eq!(run.err().matches("hint: ").count(), 1, "{}", run.err());
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(hint.contains(mends), "{mends}: {hint}");
    error.clone()
}

/// A cloud in which nobody may do these.
pub fn denying(actions: &[&str]) -> Cloud {
    Cloud::with(|estate| {
        estate.accounts[0].denied_actions = actions.iter().map(ToString::to_string).collect();
    })
}

/// A completed snapshot of the root disk that somebody else took. Our policy does not cover it, so what the documentation
/// says is allowed beside it.
pub fn foreign_snapshot(estate: &mut Estate, id: &str) -> Snapshot {
    let reads = ["ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock"];
    estate.accounts[0].policy = Some(policy_and(&reads, "arn:aws:ec2:*::snapshot/*"));
    Snapshot {
        id: id.to_owned(),
        volume_id: ROOT.to_owned(),
        content: estate.volumes[0].content.clone(),
        ..Snapshot::default()
    }
}

/// The row of the ledger with this name.
pub fn row(report: &serde_json::Value, name: &str) -> serde_json::Value {
    let rows = report["coverage"].as_array().unwrap();
    rows.iter()
        .find(|row| row["name"] == name)
        .unwrap_or_else(|| panic!("no row {name} in {rows:#?}"))
        .clone()
}

/// What a program that is no cloud answers to everybody, on a port of loopback.
pub fn server_of(status: &'static str, kind: &'static str, body: &'static str) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                // One request is one packet on loopback; what is asked does not matter.
                let _read = stream.read(&mut [0; 65536]);
                let reply = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _sent = stream.write_all(reply.as_bytes());
            });
        }
    });
    url
}
