//! The packages as a CycloneDX 1.6 bill of materials, in JSON (ECMA-424,
//! <https://cyclonedx.org/docs/1.6/json/>).
//!
//! | in the report | in the bill |
//! | --- | --- |
//! | the scan | `serialNumber` (its id), `metadata.timestamp` (its end), `metadata.tools` |
//! | the machine | `metadata.component`, a `device` |
//! | its operating system | a component of type `operating-system` |
//! | a package | a component of type `library` with its `purl`; its databases are `evidence.occurrences` |
//! | the cloud, and what became of the snapshots | `stillframe:cloud:` and `stillframe:snapshot` properties |
//! | completeness | `compositions`, and `stillframe:` properties that name each row of the ledger that was not read |
//!
//! Not there: findings (only their number; a vulnerability needs the advisory's own data), the ledger's complete rows
//! and what reading cost. The JSON report has them all.

mod bom;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use stillframe_model::{
    Coverage, DiskText, Location, OperatingSystem, Package, Report, Scanner, SnapshotReceipt,
};

use crate::words;
use bom::{Bom, Component, ComponentType, Composition, Evidence, Metadata, Occurrence, Property, Tools};

/// The longest `version` that the schema allows. A name whose every character had to be escaped is longer.
const MAX_VERSION_CHARS: usize = 1024;

pub(crate) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &bill(report))?;
    out.write_all(b"\n")
}

fn bill(report: &Report) -> Bom {
    let mut references = References::default();
    let machine = references.claim("machine".to_owned());
    let mut components = Vec::new();
    if let Some(os) = &report.machine.os {
        components.push(os_component(os, references.claim("operating-system".to_owned())));
    }
    let shared = shared_purls(&report.packages);
    for package in &report.packages {
        let purl = package.purl.as_str();
        let reference = if shared.contains(purl) { with_place(package) } else { purl.to_owned() };
        components.push(package_component(package, references.claim(reference)));
    }
    Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: serial_number(report.scan.id.as_str()),
        version: 1,
        metadata: Metadata {
            timestamp: report.scan.finished.to_string(),
            tools: Tools { components: vec![tool_component(report)] },
            component: machine_component(report, machine.clone()),
            properties: scan_properties(report),
        },
        components,
        compositions: vec![Composition { aggregate: aggregate(report), assemblies: vec![machine] }],
    }
}

/// `urn:uuid:…`, where `id` is a UUID. A bill may do without.
fn serial_number(id: &str) -> Option<String> {
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_uuid.then(|| format!("urn:uuid:{}", id.to_ascii_lowercase()))
}

/// Whether the machine's components are all there. Where nothing was met, or packages were not asked for, nobody knows.
fn aggregate(report: &Report) -> &'static str {
    if !report.is_complete() || !report.scan.complete {
        "incomplete"
    } else if report.coverage.is_empty() || !report.scan.scanners.contains(&Scanner::Inventory) {
        "unknown"
    } else {
        "complete"
    }
}

fn scan_properties(report: &Report) -> Vec<Property> {
    let complete = report.is_complete() && report.scan.complete;
    let mut properties = vec![
        Property::new("stillframe:complete", complete),
        Property::new("stillframe:fingerprint_key_id", &report.scan.fingerprint_key_id),
        Property::new("stillframe:findings", report.findings.len()),
    ];
    let scanners = report.scan.scanners.iter();
    properties.extend(scanners.map(|scanner| Property::new("stillframe:scanner", scanner.name())));
    let unread = report.coverage.iter().filter(|row| !row.is_complete());
    properties.extend(unread.map(|row| Property::new("stillframe:unread", unread_line(row))));
    if let Some(cloud) = &report.cloud {
        properties.push(Property::new("stillframe:cloud:provider", &cloud.provider));
        properties.push(Property::new("stillframe:cloud:account", &cloud.account));
        properties.push(Property::new("stillframe:cloud:region", &cloud.region));
        let instance = cloud.instance_id.iter();
        properties.extend(instance.map(|id| Property::new("stillframe:cloud:instance", id)));
        if cloud.unknown_creations > 0 {
            let unknown = Property::new("stillframe:cloud:unknown_creations", cloud.unknown_creations);
            properties.push(unknown);
        }
    }
    let receipts = report.snapshots.iter();
    properties.extend(receipts.map(|receipt| Property::new("stillframe:snapshot", receipt_line(receipt))));
    properties
}

/// `snap-0a1b2c3d4e5f60718: kept: InvalidSnapshot.InUse`.
fn receipt_line(receipt: &SnapshotReceipt) -> String {
    let fate = words::snapshot_fate(receipt.fate);
    match &receipt.code {
        Some(code) => format!("{}: {fate}: {code}", receipt.snapshot_id),
        None => format!("{}: {fate}", receipt.snapshot_id),
    }
}

/// `disk0/p2: encrypted: LUKS2`.
fn unread_line(row: &Coverage) -> String {
    let status = words::status(row.status);
    match &row.reason {
        Some(reason) => format!("{}: {status}: {reason}", row.name),
        None => format!("{}: {status}", row.name),
    }
}

fn tool_component(report: &Report) -> Component {
    let tool = &report.scan.tool;
    let mut component = Component::new(ComponentType::Application, tool.name.to_string());
    component.version = Some(tool.version.to_string());
    component
}

fn machine_component(report: &Report, reference: String) -> Component {
    let machine = &report.machine;
    let hostname = machine.hostname.as_ref().map(DiskText::as_str);
    let name = hostname.or_else(|| words::id_in_cloud(report)).unwrap_or(words::UNNAMED_MACHINE).to_owned();
    let mut component = Component::new(ComponentType::Device, name);
    component.bom_ref = Some(reference);
    if let Some(architecture) = &machine.architecture {
        component.properties.push(Property::new("stillframe:architecture", architecture));
    }
    let kernels = machine.kernels.iter();
    component.properties.extend(
        kernels.map(|kernel| {
            Property::new("stillframe:kernel", format!("{} {}", kernel.package, kernel.version))
        }),
    );
    component
}

fn os_component(os: &OperatingSystem, reference: String) -> Component {
    let mut component = Component::new(ComponentType::OperatingSystem, os.id.to_string());
    component.bom_ref = Some(reference);
    component.version = os.version_id.as_ref().map(|version| short_version(version.as_str()));
    component.description = os.pretty_name.as_ref().map(ToString::to_string);
    component.properties.push(Property::new("stillframe:family", &os.family));
    if let Some(codename) = &os.codename {
        component.properties.push(Property::new("stillframe:codename", codename));
    }
    component
}

fn package_component(package: &Package, reference: String) -> Component {
    let mut component = Component::new(ComponentType::Library, package.name.to_string());
    component.bom_ref = Some(reference);
    component.version = Some(short_version(package.version.as_str()));
    component.purl = Some(package.purl.to_string());
    component.properties.push(Property::new("stillframe:kind", package.kind.purl_type()));
    let optional = [
        ("stillframe:architecture", &package.architecture),
        ("stillframe:source", &package.source_name),
        ("stillframe:source_version", &package.source_version),
        ("stillframe:module", &package.module),
    ];
    component.properties.extend(
        optional.into_iter().filter_map(|(name, value)| value.as_ref().map(|text| Property::new(name, text))),
    );
    if !package.found_in.is_empty() {
        let occurrences = package.found_in.iter().map(occurrence).collect();
        component.evidence = Some(Evidence { occurrences });
    }
    component
}

/// Where: the path on the machine, and beside it the volume.
fn occurrence(place: &Location) -> Occurrence {
    let volume = match &place.filesystem {
        Some(kind) => format!("{} ({kind})", place.volume),
        None => place.volume.to_string(),
    };
    let additional_context = match &place.volume_path {
        Some(path) => format!("{volume}, there {path}"),
        None => volume,
    };
    let location = place.path.as_ref().map_or_else(|| place.volume.to_string(), ToString::to_string);
    Occurrence { location, additional_context }
}

fn short_version(version: &str) -> String {
    version.chars().take(MAX_VERSION_CHARS).collect()
}

/// The package URLs that more than one package has.
fn shared_purls(packages: &[Package]) -> HashSet<&str> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for package in packages {
        *counts.entry(package.purl.as_str()).or_default() += 1;
    }
    counts.into_iter().filter_map(|(purl, count)| (count > 1).then_some(purl)).collect()
}

/// The package URL and the first place, for a package that another place has too: the same in every scan, whatever the
/// order of the packages.
fn with_place(package: &Package) -> String {
    let Some(place) = package.found_in.first() else { return package.purl.to_string() };
    match &place.path {
        Some(path) => format!("{} in {}:{path}", package.purl, place.volume),
        None => format!("{} in {}", package.purl, place.volume),
    }
}

/// The `bom-ref`s that are taken; each must be unique in the bill, and not empty.
#[derive(Default)]
struct References {
    taken: HashSet<String>,
    /// The last number that was added to a reference, so that a thousand equal ones do not cost a million lookups.
    numbers: HashMap<String, u64>,
}

impl References {
    fn claim(&mut self, wanted: String) -> String {
        if !wanted.is_empty() && self.taken.insert(wanted.clone()) {
            return wanted;
        }
        loop {
            let number = self.numbers.entry(wanted.clone()).or_insert(1);
            *number += 1;
            let numbered = format!("{wanted} ({number})");
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_made_of_a_uuid_only() {
        let made = serial_number("7C9E6679-7425-40de-944b-e07fc1f90ae7");
        assert_eq!(made.as_deref(), Some("urn:uuid:7c9e6679-7425-40de-944b-e07fc1f90ae7"));
        for other in ["", "7c9e6679742540de944be07fc1f90ae7", "7c9e6679-7425-40de-944b-e07fc1f90aeé"] {
            assert_eq!(serial_number(other), None, "{other}");
        }
    }

    #[test]
    fn references_are_unique_even_where_a_number_is_taken() {
        let mut references = References::default();
        let claimed = ["a", "a (2)", "a", "", "a"].map(|wanted| references.claim(wanted.to_owned()));
        assert_eq!(claimed, ["a", "a (2)", "a (3)", " (2)", "a (4)"]);
    }
}
