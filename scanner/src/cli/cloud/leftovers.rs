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
use super::arguments::{self, Account, ListArguments, ListFormat, PurgeArguments};
use super::instances::write_json;
use super::{counted, explain, explained, limiter, on_runtime, open, shown, size};
use crate::cloud::{CloudError, Session, left, receipts};

/// `stillframe snapshots list`.
pub(in crate::cli) fn list(_: &Global, arguments: &ListArguments) -> Result<u8, Failure> {
    on_runtime(async {
        let options = SweepOptions { list_only: true, ..SweepOptions::default() };
        let asked = in_each(&arguments.account, &arguments.regions, async |session| {
            session.purger().sweep(&options).await.map_err(|error| explained(error.into()))
        });
        let Regions { done: lists, failed } = asked.await?;
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
                let all: Vec<Value> = all.collect();
                write_json(out, &json!({"snapshots": all, "failed_regions": failed.names()}))
            }
        })?;
        Ok(failed.print())
    })
}

/// `stillframe snapshots purge`.
pub(in crate::cli) fn purge(global: &Global, arguments: &PurgeArguments) -> Result<u8, Failure> {
    on_runtime(async {
        let asked = in_each(&arguments.account, &arguments.regions, async |session| {
            let purged = purge_region(global, arguments, &session).await;
            // What was done was done, also where it could not be written down.
            match session.flush_audit() {
                Ok(()) => purged,
                Err(unwritten) => purged.map(|purged| Purged { unwritten: Some(unwritten), ..purged }),
            }
        });
        let Regions { mut done, failed } = asked.await?;
        printed(|out| write_purged(out, arguments.format, &done, &failed))?;
        let mut code = failed.print();
        for (_, purged) in &mut done {
            let errors = purged.errors();
            if !errors.is_empty() || !purged.is_complete() {
                code = EXIT_INCOMPLETE;
            }
            explain::failures(&errors).iter().for_each(Failure::print);
        }
        Ok(code)
    })
}

/// What a purge did in one region.
#[derive(Default)]
struct Purged {
    /// None where somebody was asked and said no.
    report: Option<SweepReport>,
    created_by: String,
    unwritten: Option<CloudError>,
}

impl Purged {
    fn receipts(&self) -> Vec<SnapshotReceipt> {
        let nothing = BTreeMap::new();
        let all = self.report.iter().flat_map(|report| report.purged.values());
        all.flat_map(|purged| receipts(purged, &nothing, &self.created_by)).collect()
    }

    fn is_complete(&self) -> bool {
        self.report.as_ref().is_none_or(SweepReport::is_complete)
    }

    fn errors(&mut self) -> Vec<CloudError> {
        let nothing = BTreeMap::new();
        let all = self.report.iter().flat_map(|report| report.purged.values());
        let left = all.flat_map(|purged| left(purged, &receipts(purged, &nothing, &self.created_by)));
        left.chain(self.unwritten.take()).collect()
    }
}

async fn purge_region(
    global: &Global,
    arguments: &PurgeArguments,
    session: &Session,
) -> Result<Purged, Failure> {
    if !confirm(arguments, session).await? {
        return Ok(Purged::default());
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
    let report = session.purger().sweep(&options).await.map_err(|error| explained(error.into()))?;
    let created_by = session.created_by().to_owned();
    Ok(Purged { report: Some(report), created_by, unwritten: None })
}

/// What came of the regions that were asked for.
struct Regions<T> {
    done: Vec<(String, T)>,
    failed: FailedRegions,
}

/// Asks each region that was asked for; one that fails does not keep the others.
async fn in_each<T>(
    account: &Account,
    regions: &arguments::Regions,
    ask: impl AsyncFn(Session) -> Result<T, Failure>,
) -> Result<Regions<T>, Failure> {
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
    let is_one = wanted.len() == 1;
    let (mut done, mut failed) = (Vec::new(), FailedRegions::default());
    for region in wanted {
        let opened = open(account, region.clone(), None, limiter.clone(), &name).await;
        let asked = match opened {
            Ok(session) => {
                let place = session.place().region.clone();
                ask(session).await.map(|value| (place, value))
            }
            Err(failure) => Err(failure),
        };
        match (asked, region) {
            (Ok(answer), _) => done.push(answer),
            // Of one region it is clear which.
            (Err(failure), Some(region)) if !is_one => failed.add(region, failure),
            (Err(failure), _) => return Err(failure),
        }
    }
    Ok(Regions { done, failed })
}

/// Regions of which nothing is known, by what went wrong there: often it is the same everywhere.
#[derive(Default)]
struct FailedRegions(Vec<(Failure, Vec<String>)>);

impl FailedRegions {
    fn add(&mut self, region: String, failure: Failure) {
        match self.0.iter_mut().find(|(known, _)| *known == failure) {
            Some((_, regions)) => regions.push(region),
            None => self.0.push((failure, vec![region])),
        }
    }

    fn names(&self) -> Vec<&String> {
        self.0.iter().flat_map(|(_, regions)| regions).collect()
    }

    /// Says what is wrong, and gives the exit code.
    fn print(self) -> u8 {
        let code = if self.0.is_empty() { EXIT_CLEAN } else { EXIT_INCOMPLETE };
        for (failure, regions) in self.0 {
            failure.within(&regions).print();
        }
        code
    }
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
        "{} in {region} may be used by scans of other machines. Delete? [y/N]",
        counted(unknown, "snapshot", "snapshots")
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| {
        Failure::new(format!("no answer could be read: {error}"), "give --yes to delete without asking")
    })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
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

fn write_purged(
    out: &mut dyn Write,
    format: ListFormat,
    regions: &[(String, Purged)],
    failed: &FailedRegions,
) -> io::Result<()> {
    let asked = regions.iter().filter_map(|(region, purged)| Some((region, purged, purged.report.as_ref()?)));
    if format == ListFormat::Json {
        let all: Vec<Value> = asked
            .map(|(region, purged, report)| {
                let receipts: Vec<Value> = purged
                    .receipts()
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
        return write_json(out, &json!({"regions": all, "failed_regions": failed.names()}));
    }
    for (region, purged, report) in asked {
        let receipts = purged.receipts();
        let gone = receipts.iter().filter(|receipt| !receipt.fate.is_left()).count();
        writeln!(
            out,
            "{region}: {} deleted and seen to be gone, {} left",
            counted(gone, "snapshot", "snapshots"),
            receipts.len().saturating_sub(gone)
        )?;
        for one in report.found.iter().filter(|one| !one.chosen) {
            writeln!(out, "  {}  {}", one.snapshot.id, claim_words(one.claim))?;
        }
    }
    Ok(())
}
