//! `stillframe snapshots list` and `stillframe snapshots purge`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::{Value, json};
use stillframe_cloud::api::SnapshotState;
use stillframe_cloud::sweep::{Claim, Found, SweepOptions, SweepReport};
use stillframe_cloud::tags::ScanId;
use stillframe_model::SnapshotReceipt;

use super::super::arguments::Global;
use super::super::failure::Failure;
use super::super::output::{printed, to_stderr};
use super::super::{EXIT_CLEAN, EXIT_INCOMPLETE};
use super::arguments::{Account, ListArguments, ListFormat, PurgeArguments, Regions};
use super::instances::write_json;
use super::{explain, explained, limiter, on_runtime, open, shown, size};
use crate::cloud::{CloudError, Session, left, receipts};

/// `stillframe snapshots list`.
pub(in crate::cli) fn list(_: &Global, arguments: &ListArguments) -> Result<u8, Failure> {
    on_runtime(async {
        let options = SweepOptions { list_only: true, ..SweepOptions::default() };
        let mut lists = Vec::new();
        for session in sessions(&arguments.account, &arguments.regions).await? {
            let found = session.purger().sweep(&options).await.map_err(|error| explained(error.into()))?;
            lists.push((session.place().region.clone(), found));
        }
        printed(|out| match arguments.format {
            ListFormat::Table => {
                for (region, list) in &lists {
                    write_found(out, region, list)?;
                }
                Ok(())
            }
            ListFormat::Json => {
                let all =
                    lists.iter().flat_map(|(region, list)| list.found.iter().map(|one| value(region, one)));
                write_json(out, &json!({"snapshots": all.collect::<Vec<Value>>()}))
            }
        })?;
        Ok(EXIT_CLEAN)
    })
}

/// `stillframe snapshots purge`.
pub(in crate::cli) fn purge(global: &Global, arguments: &PurgeArguments) -> Result<u8, Failure> {
    on_runtime(async {
        let mut code = EXIT_CLEAN;
        let mut regions = Vec::new();
        for session in sessions(&arguments.account, &arguments.regions).await? {
            if !confirm(arguments, &session).await? {
                continue;
            }
            if !global.quiet {
                to_stderr(&format!("looking for leftovers in {}", session.place().region));
            }
            let options = SweepOptions {
                all: arguments.all,
                older_than: arguments.older_than,
                list_only: false,
                patience: arguments.wait,
            };
            // One region that fails does not keep the others.
            match session.purger().sweep(&options).await {
                Ok(report) => {
                    let errors = errors_of(&report, session.created_by());
                    if !errors.is_empty() || !report.is_complete() {
                        code = EXIT_INCOMPLETE;
                    }
                    regions.push((session.place().region.clone(), report, errors));
                }
                Err(error) => {
                    explained(error.into()).print();
                    code = EXIT_INCOMPLETE;
                }
            }
            session.flush_audit().map_err(explained)?;
        }
        printed(|out| write_purged(out, arguments.format, &regions))?;
        for (_, _, errors) in &regions {
            explain::failures(errors).iter().for_each(Failure::print);
        }
        Ok(code)
    })
}

/// A session for each region asked for.
async fn sessions(account: &Account, regions: &Regions) -> Result<Vec<Session>, Failure> {
    let name = ScanId::random().map(|id| id.to_string()).unwrap_or_default();
    let limiter = limiter(None);
    let mut wanted: Vec<Option<String>> = regions.region.iter().cloned().map(Some).collect();
    if regions.all_regions {
        let session = open(account, None, None, limiter.clone(), &name).await?;
        let all = session.client().regions().await.map_err(|error| explained(error.into()))?;
        wanted = all.into_iter().map(Some).collect();
    } else if wanted.is_empty() {
        wanted.push(None);
    }
    let mut sessions = Vec::new();
    for region in wanted {
        sessions.push(open(account, region, None, limiter.clone(), &name).await?);
    }
    Ok(sessions)
}

/// Asks before snapshots go that may be another machine's. Where nobody sits at a terminal nobody is asked.
async fn confirm(arguments: &PurgeArguments, session: &Session) -> Result<bool, Failure> {
    if !arguments.all || arguments.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    let options = SweepOptions {
        all: true,
        older_than: arguments.older_than,
        list_only: true,
        ..SweepOptions::default()
    };
    let found = session.purger().sweep(&options).await.map_err(|error| explained(error.into()))?;
    let unknown =
        found.found.iter().filter(|one| one.chosen && matches!(one.claim, Claim::Unexpired(_))).count();
    if unknown == 0 {
        return Ok(true);
    }
    let region = &session.place().region;
    to_stderr(&format!(
        "{unknown} snapshots in {region} may be used by scans of other machines. Delete them? [y/N]"
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| {
        Failure::new(format!("no answer could be read: {error}"), "give --yes to delete without asking")
    })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn errors_of(report: &SweepReport, created_by: &str) -> Vec<CloudError> {
    let nothing = BTreeMap::new();
    report.purged.values().flat_map(|purged| left(purged, &receipts(purged, &nothing, created_by))).collect()
}

fn write_found(out: &mut dyn Write, region: &str, list: &SweepReport) -> io::Result<()> {
    if list.found.is_empty() {
        return writeln!(out, "{region}: no snapshots of stillframe");
    }
    for one in &list.found {
        let snapshot = &one.snapshot;
        let begun = snapshot
            .started
            .map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
        let bytes = snapshot.full_size_bytes.map(|bytes| format!("  {}", size(bytes))).unwrap_or_default();
        writeln!(
            out,
            "{region}  {}  {}  {}  {begun}{bytes}\n  {}; scan {}, {}",
            snapshot.id,
            shown(&snapshot.volume_id),
            state_word(snapshot.state),
            claim_words(one.claim),
            one.scan,
            snapshot.tags.get(stillframe_cloud::tags::INSTANCE_ID).map_or("-".to_owned(), |id| shown(id)),
        )?;
    }
    Ok(())
}

const fn state_word(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Pending => "pending",
        SnapshotState::Completed => "completed",
        SnapshotState::Error => "error",
        SnapshotState::Recoverable => "recoverable",
        SnapshotState::Recovering => "recovering",
    }
}

fn claim_words(claim: Claim) -> String {
    match claim {
        Claim::Dead => "left by a scan that died here: `stillframe snapshots purge` deletes it".to_owned(),
        Claim::Alive => "in use by a scan that runs here: left alone".to_owned(),
        Claim::Expired => "not known here, and expired: `stillframe snapshots purge` deletes it".to_owned(),
        Claim::Unexpired(Some(at)) => {
            format!("not known here, expires {}: only with --all", at.strftime("%Y-%m-%d %H:%M:%SZ"))
        }
        Claim::Unexpired(None) => {
            "not known here, and it says not when it expires: only with --all".to_owned()
        }
        Claim::TooYoung => "younger than was asked for: left alone".to_owned(),
    }
}

const fn claim_name(claim: Claim) -> &'static str {
    match claim {
        Claim::Dead => "dead",
        Claim::Alive => "alive",
        Claim::Expired => "expired",
        Claim::Unexpired(_) => "unexpired",
        Claim::TooYoung => "too_young",
    }
}

fn value(region: &str, one: &Found) -> Value {
    let snapshot = &one.snapshot;
    json!({
        "region": region,
        "snapshot_id": snapshot.id,
        "volume_id": snapshot.volume_id,
        "instance_id": snapshot.tags.get(stillframe_cloud::tags::INSTANCE_ID),
        "scan_id": one.scan.as_str(),
        "state": state_word(snapshot.state),
        "started": snapshot.started,
        "expires_at": stillframe_cloud::tags::expires_at(&snapshot.tags),
        "bytes": snapshot.full_size_bytes,
        "claim": claim_name(one.claim),
        "would_delete": one.chosen,
    })
}

type Purged = (String, SweepReport, Vec<CloudError>);

fn write_purged(out: &mut dyn Write, format: ListFormat, regions: &[Purged]) -> io::Result<()> {
    let receipts_of = |report: &SweepReport| -> Vec<SnapshotReceipt> {
        let nothing = BTreeMap::new();
        // The tag is in no line of this list.
        report.purged.values().flat_map(|purged| receipts(purged, &nothing, "")).collect()
    };
    if format == ListFormat::Json {
        let all: Vec<Value> = regions
            .iter()
            .map(|(region, report, _)| {
                let receipts: Vec<Value> = receipts_of(report)
                    .iter()
                    .map(|receipt| {
                        json!({
                            "snapshot_id": receipt.snapshot_id,
                            "volume_id": receipt.volume_id,
                            "fate": receipt.fate,
                            "code": receipt.code,
                        })
                    })
                    .collect();
                json!({
                    "region": region,
                    "purged": receipts,
                    "complete": report.is_complete(),
                    "alive_scans": report.alive.iter().map(ScanId::as_str).collect::<Vec<_>>(),
                })
            })
            .collect();
        return write_json(out, &json!({"regions": all}));
    }
    for (region, report, _) in regions {
        let receipts = receipts_of(report);
        let gone = receipts.iter().filter(|receipt| !receipt.fate.is_left()).count();
        writeln!(
            out,
            "{region}: {gone} snapshots deleted and seen to be gone, {} left",
            receipts.len().saturating_sub(gone)
        )?;
        for one in report.found.iter().filter(|one| !one.chosen) {
            writeln!(out, "  {}  {}", one.snapshot.id, claim_words(one.claim))?;
        }
    }
    Ok(())
}
