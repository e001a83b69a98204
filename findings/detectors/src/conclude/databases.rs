//! Package databases: a row of the ledger for each, and their packages.

use std::collections::{BTreeMap, BTreeSet};

use stillframe_model::{Coverage, CoverageKind, Label, Location, OperatingSystem, Package, Reason, Status};

use super::{purls, systems};
use crate::{DatabaseKind, PackageDatabase};

type Found = (Vec<u8>, Location, PackageDatabase);

/// One row for each database (the files of a `status.d` are one), and all packages.
pub(super) fn conclude(found: Vec<Found>, os: Option<&OperatingSystem>) -> (Vec<Coverage>, Vec<Package>) {
    let mut rows: BTreeMap<String, Coverage> = BTreeMap::new();
    let mut packages = Vec::new();
    for (path, location, database) in found {
        let name = name_of(&path, &location, database.kind);
        let row = rows
            .entry(name.clone())
            .or_insert_with(|| Coverage::scanned(CoverageKind::PackageDatabase, &*name));
        packages.extend(take(database, &location, os, row));
    }
    // A database that the system should live by and that lists nothing was emptied or is not the one in use.
    let expected = os.and_then(systems::package_manager);
    for row in rows.values_mut() {
        let is_expected = expected.is_some_and(|kind| row.facts.format == Some(Label::new(kind.name())));
        if is_expected && row.is_complete() && row.facts.packages == Some(0) && packages.is_empty() {
            row.status = Status::Partial;
            row.reason = Some(Reason::words("lists no installed package"));
        }
    }
    (rows.into_values().collect(), packages)
}

fn name_of(path: &[u8], location: &Location, kind: DatabaseKind) -> String {
    let shown = location.path.as_ref().map_or("", |path| path.as_str());
    let is_part = path.windows(10).any(|part| part == b"/status.d/");
    let shown = if is_part { shown.rsplit_once('/').map_or(shown, |(folder, _)| folder) } else { shown };
    format!("{} {} in {}", kind.name(), shown, location.volume)
}

fn take(
    database: PackageDatabase,
    location: &Location,
    os: Option<&OperatingSystem>,
    row: &mut Coverage,
) -> Vec<Package> {
    row.facts.format = Some(Label::new(database.kind.name()));
    let is_complete = database.is_complete();
    if let Some(fault) = database.beside {
        row.push_fault(fault);
        row.status = Status::Partial;
        row.reason = Some(Reason::words("its write-ahead log could not be read"));
    }
    database.faults.into_iter().for_each(|fault| row.push_fault(fault));
    let Some(packages) = database.packages else {
        row.status = Status::Corrupt;
        row.reason = Some(Reason::words("it could not be read"));
        return Vec::new();
    };
    row.fault_count = row.fault_count.max(database.fault_count);
    if !is_complete {
        row.status = Status::Partial;
        row.reason = Some(Reason::counted(row.fault_count, "fault", "faults", "; what was whole is listed"));
    }
    let packages: Vec<Package> = packages
        .into_iter()
        .filter(|package| !package.public_key)
        .map(|package| purls::package(database.kind, package, location, os))
        .collect();
    let count = u64::try_from(packages.len()).unwrap_or(u64::MAX);
    row.facts.packages = Some(row.facts.packages.unwrap_or(0).saturating_add(count));
    packages
}

/// A row where the system should have a package database and none was met.
pub(super) fn missing(os: Option<&OperatingSystem>, kinds: &BTreeSet<DatabaseKind>) -> Option<Coverage> {
    let expected = systems::package_manager(os?)?;
    let reason = Reason::words("expected of this system, and not found");
    (!kinds.contains(&expected)).then(|| {
        Coverage::unread(CoverageKind::PackageDatabase, expected.name(), Status::Unsupported, reason)
    })
}
