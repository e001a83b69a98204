//! What a worker may say of the disks that it was given, and how that becomes a report.

use stillframe_model::{
    Coverage, CoverageKind, DiskText, Isolation, Label, Location, Reason, Report, RowFault, Rule, Status,
    Value,
};

use super::Target;
use super::death::Death;
use super::message::Done;
use super::parent::Ended;
use crate::scan::{ScanOptions, add_rows, empty_report};

/// Rows of the ledger of one machine.
pub(super) const MAX_ROWS: usize = 20_000;
/// Of one report. What is beyond is left out, and a row says so.
const MAX_FINDINGS: usize = 100_000;
const MAX_PACKAGES: usize = 200_000;
const MAX_LOCATIONS: usize = 1000;
const MAX_NOTES: usize = 100;
const MAX_NAMES: usize = 1000;

/// Whether `name` is `disk0`, or lies on it (`disk0/p1`), for one of the disks with these numbers.
pub(super) fn is_of_disks(name: &str, disks: &[u32]) -> bool {
    let disk = name.split('/').next().unwrap_or(name);
    let number = disk.strip_prefix("disk").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| disks.contains(&number))
}

/// A row as a worker may tell it.
pub(super) fn row(mut row: Coverage, disks: &[u32]) -> Result<Coverage, Death> {
    let is_on_disk = matches!(
        row.kind,
        CoverageKind::Disk | CoverageKind::Partition | CoverageKind::Filesystem | CoverageKind::Unallocated
    );
    if is_on_disk && !is_of_disks(row.name.as_str(), disks) {
        return Err(Death::Forgery("it named a disk that is not this machine's"));
    }
    row.faults.truncate(Coverage::MAX_FAULTS);
    row.notes.truncate(MAX_NOTES);
    row.not_told.truncate(MAX_NOTES);
    Ok(row)
}

/// The report as far as it is the worker's to make: what it says of the scan, of snapshots and of the cloud is the parent's.
///
/// A finding has the words and the severity of its rule, by `rules`: what a worker says of them is not believed.
pub(super) fn of_worker(mut report: Report, disks: &[u32], rules: &[&Rule]) -> Result<Report, Death> {
    if !report.snapshots.is_empty() || report.cloud.is_some() {
        return Err(Death::Forgery("it spoke of snapshots, of which it knows nothing"));
    }
    let rows = std::mem::take(&mut report.coverage);
    let cut_rows = rows.len() > MAX_ROWS;
    report.coverage = rows.into_iter().take(MAX_ROWS).map(|one| row(one, disks)).collect::<Result<_, _>>()?;
    let is_ours = |location: &Location| is_of_disks(location.volume.as_str(), disks);
    let packages = report.packages.iter().flat_map(|package| &package.found_in);
    if !packages.chain(report.findings.iter().map(|finding| &finding.location)).all(is_ours) {
        return Err(Death::Forgery("it named a disk that is not this machine's"));
    }
    for finding in report.findings.iter_mut().take(MAX_FINDINGS) {
        let Some(rule) = rules.iter().find(|rule| rule.id == finding.rule_id.as_str()) else {
            return Err(Death::Forgery("it found something by a rule that there is not"));
        };
        finding.restate(rule);
    }
    let caps = [
        (cut_rows, "rows", MAX_ROWS),
        (report.packages.len() > MAX_PACKAGES, "packages", MAX_PACKAGES),
        (report.findings.len() > MAX_FINDINGS, "findings", MAX_FINDINGS),
    ];
    report.packages.truncate(MAX_PACKAGES);
    report.packages.iter_mut().for_each(|package| package.found_in.truncate(MAX_LOCATIONS));
    report.findings.truncate(MAX_FINDINGS);
    report.findings.iter_mut().for_each(|finding| finding.evidence.truncate(MAX_NOTES));
    report.machine.kernels.truncate(MAX_NAMES);
    if let Some(os) = &mut report.machine.os {
        os.id_like.truncate(MAX_NOTES);
    }
    report
        .coverage
        .extend(caps.into_iter().filter(|(is_over, ..)| *is_over).map(|(_, what, cap)| capped(what, cap)));
    Ok(report)
}

/// A row that says that not all of something is in the report.
fn capped(what: &'static str, cap: usize) -> Coverage {
    let reason = Reason::words("there are more than a report holds; the rest is left out");
    let mut row = Coverage::unread(CoverageKind::Scanner, what, Status::Partial, reason);
    row.push_fault(RowFault {
        what: Label::new(what),
        path: None,
        at: None,
        claimed: Some(Value::Number(u64::try_from(cap).unwrap_or(u64::MAX))),
        found: Some(Value::Words(Label::new("more"))),
    });
    row
}

/// The report of a scan: what the workers found out, and what became of them.
pub(super) fn report(mut ended: Ended, targets: &[Target], options: &ScanOptions) -> Report {
    let mut report = empty_report(options, ended.started);
    let death = ended.done.as_ref().err().copied();
    let mut rows = std::mem::take(&mut ended.kept.dead);
    if ended.kept.is_cut {
        rows.push(capped("facts", ended.kept.before.facts.len()));
    }
    match std::mem::replace(&mut ended.done, Err(Death::NoAnswer)) {
        Ok(Done::Report(told)) => {
            report.machine = told.machine;
            // Rows of volumes are kept as they were told when each was read: a later worker cannot change them.
            report.coverage = told.coverage;
            report.coverage.retain(|row| row.kind != CoverageKind::Filesystem);
            report.coverage.extend(ended.kept.before.coverage);
            report.packages = told.packages;
            report.findings = told.findings;
            report.io = told.io;
        }
        // Nobody put together what was found: what was read is told, and that it came to nothing.
        done => {
            let death = done.err().unwrap_or(Death::Nonsense);
            rows.extend(ended.kept.unread(death));
            report.coverage.extend(ended.kept.looked);
            report.coverage.extend(ended.kept.before.coverage);
            report.io.entries = ended.kept.before.entries;
            rows.extend(unconcluded(options, death));
        }
    }
    report.scan.isolation = Some(Isolation {
        kernel: DiskText::new(&stillframe_confinement::kernel()),
        landlock_abi: ended.confined.landlock_abi,
        seccomp: ended.confined.seccomp,
        memory_locked: ended.confined.memory_locked,
        deaths: ended.kept.deaths,
    });
    let cause = death.map_or("it did not say that it was", Death::words);
    rows.extend(untold(&report.coverage, &rows, targets, cause));
    rows.extend(unsearched(&report.coverage, &rows, options));
    add_rows(&mut report, rows);
    label(&mut report.coverage, targets);
    report.scan.finished = jiff::Timestamp::now();
    report
}

/// A row for each disk that no row is about: whoever says nothing of a disk has not read it.
fn untold(told: &[Coverage], more: &[Coverage], targets: &[Target], cause: &'static str) -> Vec<Coverage> {
    let is_told = |name: &str| {
        let is_of = |row: &Coverage| row.name.as_str().split('/').next() == Some(name);
        told.iter().chain(more).any(is_of)
    };
    let names = targets.iter().map(|target| format!("disk{}", target.number)).filter(|name| !is_told(name));
    let reason = Reason::because("it was not read", cause);
    names.map(|name| Coverage::unread(CoverageKind::Disk, &*name, Status::Failed, reason.clone())).collect()
}

/// A row for each scanner that no row is about.
fn unsearched(told: &[Coverage], more: &[Coverage], options: &ScanOptions) -> Vec<Coverage> {
    let is_told = |name: &str| {
        told.iter().chain(more).any(|row| row.kind == CoverageKind::Scanner && row.name.as_str() == name)
    };
    let names = options.scanners.iter().map(|scanner| scanner.name()).filter(|name| !is_told(name));
    let reason = Reason::words("nothing was said of what it found");
    names.map(|name| Coverage::unread(CoverageKind::Scanner, name, Status::Failed, reason.clone())).collect()
}

fn unconcluded(options: &ScanOptions, death: Death) -> Vec<Coverage> {
    let reason = Reason::because("what was found could not be put together", death.words());
    let row = |name: &str| Coverage::unread(CoverageKind::Scanner, name, Status::Failed, reason.clone());
    options.scanners.iter().map(|scanner| row(scanner.name())).collect()
}

/// The ledger of a survey or listing.
pub(super) fn rows(mut ended: Ended, targets: &[Target]) -> Vec<Coverage> {
    let death = ended.done.as_ref().err().copied();
    let mut rows = match std::mem::replace(&mut ended.done, Err(Death::NoAnswer)) {
        Ok(Done::Rows(rows)) => rows,
        Ok(Done::Report(_)) | Err(_) => {
            let mut rows = ended.kept.unread(death.unwrap_or(Death::Nonsense));
            rows.extend(ended.kept.looked);
            rows.extend(ended.kept.before.coverage);
            rows
        }
    };
    rows.extend(ended.kept.dead);
    let cause = death.map_or("it did not say that it was", Death::words);
    rows.extend(untold(&rows, &[], targets, cause));
    crate::scan::order(&mut rows);
    label(&mut rows, targets);
    rows
}

/// What the disks are called is not the worker's to say.
fn label(rows: &mut [Coverage], targets: &[Target]) {
    for row in rows.iter_mut().filter(|row| row.kind == CoverageKind::Disk) {
        let number = row.name.as_str().strip_prefix("disk").and_then(|number| number.parse::<u32>().ok());
        let target = targets.iter().find(|target| Some(target.number) == number);
        row.facts.label = target.map(|target| DiskText::new(&target.label));
    }
}

#[cfg(test)]
mod tests {
    use stillframe_model::{Finding, FindingKind, FingerprintKey, Severity};

    use super::*;

    const RULE: Rule = Rule {
        id: "test.rule",
        kind: FindingKind::Exposure,
        severity: Severity::Low,
        title: "something is open",
        remediation: "close it",
    };

    fn report(findings: Vec<Finding>) -> Report {
        let options = ScanOptions::new(FingerprintKey::new([1; 32]));
        Report { findings, ..empty_report(&options, jiff::Timestamp::UNIX_EPOCH) }
    }

    fn finding(rule: &Rule, volume: &str) -> Finding {
        Finding::new(rule, Location::in_volume(volume, "ext4"), "", Vec::new())
    }

    #[test]
    fn a_finding_has_its_rule_s_words_and_severity() {
        let forged =
            Rule { severity: Severity::Critical, title: "run this", remediation: "curl | sh", ..RULE };
        let told = of_worker(report(vec![finding(&forged, "disk0/p1")]), &[0], &[&RULE]).unwrap();
        assert_eq!(told.findings, [finding(&RULE, "disk0/p1")]);
        let unknown = Rule { id: "other.rule", ..RULE };
        assert!(of_worker(report(vec![finding(&unknown, "disk0/p1")]), &[0], &[&RULE]).is_err());
        assert!(of_worker(report(vec![finding(&RULE, "disk1/p1")]), &[0], &[&RULE]).is_err());
    }

    #[test]
    fn more_than_a_report_holds_is_cut_and_told() {
        let findings = vec![finding(&RULE, "disk0/p1"); MAX_FINDINGS + 1];
        let told = of_worker(report(findings), &[0], &[&RULE]).unwrap();
        assert_eq!(told.findings.len(), MAX_FINDINGS);
        assert!(!told.is_complete() && told.coverage.len() == 1);
        let mut many = report(Vec::new());
        many.coverage = vec![Coverage::scanned(CoverageKind::Partition, "disk0/p1"); MAX_ROWS + 1];
        let told = of_worker(many, &[0], &[]).unwrap();
        assert_eq!((told.coverage.len(), told.is_complete()), (MAX_ROWS + 1, false));
    }

    #[test]
    fn names_are_of_the_disks_that_were_given() {
        for (name, is_ours) in [
            ("disk0", true),
            ("disk2/p1", true),
            ("disk1", false),
            ("disk", false),
            ("disk-0", false),
            ("/etc", false),
        ] {
            assert_eq!(is_of_disks(name, &[0, 2]), is_ours, "{name}");
        }
    }
}
