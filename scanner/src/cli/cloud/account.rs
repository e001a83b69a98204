//! `stillframe aws policy` and `stillframe aws preflight`.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Value, json};
use stillframe_aws::Locality;
use stillframe_cloud::api::{Place, Tags};
use stillframe_cloud::discover::{Exclusions, Selection};
use stillframe_cloud::limiter::{Rate, Rates};
use stillframe_cloud::policy;
use stillframe_cloud::preflight::{Check, PreflightOrder, Verdict, preflight as check};
use stillframe_cloud::tags::ScanId;

use super::super::arguments::Global;
use super::super::failure::Failure;
use super::super::output::{printed, to_stderr};
use super::super::{EXIT_CLEAN, EXIT_INCOMPLETE};
use super::arguments::{ListFormat, PolicyArguments, PreflightArguments};
use super::instances::write_json;
use super::{limiter, on_runtime, open, shown};

/// What to do where data would leave its region.
pub(super) const CROSSING: &str =
    "scan from a machine in that region, or give --allow-cross-region, which is written to the audit log";

/// Snapshots that one scan may have pending at a time: one for each of a large machine's disks.
const PENDING_SNAPSHOTS: u32 = 28;

/// `stillframe aws policy`: the document to standard output, the reasons to standard error.
pub(in crate::cli) fn policy(global: &Global, arguments: &PolicyArguments) -> Result<u8, Failure> {
    let role = policy::Role::from(arguments.role);
    let partition = arguments.region.as_deref().map(policy::Partition::of_region).unwrap_or_default();
    printed(|out| write_json(out, &policy::document(role, &arguments.created_by, partition)))?;
    if !global.quiet {
        let reasons = policy::reasons(role, &arguments.created_by);
        let width = reasons.iter().map(|(action, _)| action.len()).max().unwrap_or(0);
        for (action, reason) in reasons {
            to_stderr(&format!("{action:<width$} {reason}"));
        }
    }
    Ok(EXIT_CLEAN)
}

/// `stillframe aws preflight`.
pub(in crate::cli) fn preflight(_: &Global, arguments: &PreflightArguments) -> Result<u8, Failure> {
    on_runtime(async {
        let name = ScanId::random().map(|id| id.to_string()).unwrap_or_default();
        let region = arguments.region.region.clone();
        let session = open(&arguments.account, region, None, limiter(None), &name).await?;
        let order = PreflightOrder {
            role: arguments.role.into(),
            created_by: arguments.account.created_by.clone(),
            user_tags: Tags::new(),
            selection: Selection::default(),
            exclusions: Exclusions::default(),
            rates: Rates {
                get: Rate::per_second(arguments.gets_per_second),
                list: Rate::per_second(arguments.lists_per_second),
                ..Rates::default()
            },
            pending_snapshots: PENDING_SNAPSHOTS,
            now: Timestamp::now(),
        };
        let mut checks = check(session.client(), session.connection(), &order).await;
        checks.push(locality(session.connection().locality()));
        let is_missing = |check: &&Check| matches!(check.verdict, Verdict::Missing { .. });
        let missing = checks.iter().filter(is_missing).count();
        printed(|out| match arguments.format {
            ListFormat::Table => write_checks(out, session.place(), &checks, missing),
            ListFormat::Json => {
                let place = session.place();
                let all: Vec<Value> = checks.iter().map(value).collect();
                write_json(out, &json!({"account": place.account, "region": place.region, "checks": all}))
            }
        })?;
        Ok(if missing == 0 { EXIT_CLEAN } else { EXIT_INCOMPLETE })
    })
}

/// Whether a scan from here would read, or refuse because the data would leave its region. A warning: what is looked for
/// here may be meant for another machine.
fn locality(locality: &Locality) -> Check {
    let verdict = match locality {
        Locality::SameRegion | Locality::Loopback => Verdict::Allowed,
        Locality::CrossRegionAllowed(why) => Verdict::Warning {
            found: format!("{why}: a scan from here refuses to read"),
            fix: CROSSING.to_owned(),
        },
    };
    let reason = "data of disks stays in its region";
    Check { what: "data locality".to_owned(), verdict, reason }
}

/// What is missing first, since that is what somebody has to do something about.
fn write_checks(out: &mut dyn Write, place: &Place, checks: &[Check], missing: usize) -> io::Result<()> {
    writeln!(out, "account {} in {}\n", place.account, place.region)?;
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by_key(|check| rank(&check.verdict));
    for check in sorted {
        let what = shown(&check.what);
        match &check.verdict {
            // An action, or a setting of the account.
            Verdict::Allowed if what.contains(' ') => writeln!(out, "fine     {what}")?,
            Verdict::Allowed => writeln!(out, "allowed  {what}")?,
            Verdict::Missing { code, fix } => {
                let reason = check.reason.trim_start_matches("preflight: ");
                writeln!(out, "MISSING  {what} ({}): {reason}\n         {fix}", shown(code))?;
            }
            Verdict::Warning { found, fix } => {
                writeln!(out, "warning  {what}: {}\n         {fix}", shown(found))?;
            }
            Verdict::Unknown { why } => writeln!(out, "unknown  {what}: {}", shown(why))?,
        }
    }
    match missing {
        0 => writeln!(out, "\nnothing that could be checked is missing"),
        1 => writeln!(out, "\n1 thing is missing; `stillframe aws policy` prints all that is needed"),
        more => {
            writeln!(out, "\n{more} things are missing; `stillframe aws policy` prints all that is needed")
        }
    }
}

const fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Missing { .. } => 0,
        Verdict::Warning { .. } => 1,
        Verdict::Unknown { .. } => 2,
        Verdict::Allowed => 3,
    }
}

fn value(check: &Check) -> Value {
    let (verdict, found, fix) = match &check.verdict {
        Verdict::Allowed => ("allowed", None, None),
        Verdict::Missing { code, fix } => ("missing", Some(code), Some(fix)),
        Verdict::Warning { found, fix } => ("warning", Some(found), Some(fix)),
        Verdict::Unknown { why } => ("unknown", Some(why), None),
    };
    json!({"what": check.what, "verdict": verdict, "found": found, "fix": fix, "needed_for": check.reason})
}
