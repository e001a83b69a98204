//! `aws-sdk-ec2` takes minutes and gigabytes to compile, and cargo compiles it anew for every set of features in what it
//! stands on. This compares those features for the selections that people and CI build, and names the line that
//! Cargo.toml of this package lacks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and reads what it wrote itself"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

type Features = BTreeMap<String, BTreeSet<String>>;

/// Packages and their features. A package that is built for the host and for the target has a line for each.
fn tree(arguments: &[&str]) -> Features {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "--prefix", "none", "--no-dedupe", "--format", "{p}|{f}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut features = Features::new();
    for line in text.lines() {
        let Some((package, of_package)) = line.split_once('|') else { continue };
        let name: Vec<_> = package.split(' ').take(2).collect();
        features.entry(name.join(" ")).or_default().insert(of_package.to_owned());
    }
    features
}

#[test]
fn every_selection_builds_the_same_ec2_client() {
    let below: Vec<_> = tree(&["-p", "aws-sdk-ec2", "-e", "normal,build"]).into_keys().collect();
    assert!(below.len() > 50, "the client stands on many packages, not on {}", below.len());
    let selections = [
        &["-p", "stillframe-aws", "-e", "normal,build"][..],
        &["-p", "stillframe-aws", "-e", "normal,build,dev"],
        &["-p", "stillframe-scanner", "-p", "stillframe-aws", "-e", "normal,build"],
        &["-p", "stillframe-scanner", "-p", "stillframe-aws", "-e", "normal,build,dev"],
        &["--workspace", "-e", "normal,build"],
        &["--workspace", "-e", "normal,build,dev"],
    ];
    let trees: Vec<_> = selections.iter().map(|selection| tree(selection)).collect();
    let alone = &trees[0];
    for (selection, tree) in selections.iter().zip(&trees) {
        for package in &below {
            assert_eq!(
                alone.get(package),
                tree.get(package),
                "{package}: left are its features where this package is built alone, right where {selection:?} is \
                 built: aws-sdk-ec2 is compiled twice. Turn them on in snapshot/aws/Cargo.toml"
            );
        }
    }
}
