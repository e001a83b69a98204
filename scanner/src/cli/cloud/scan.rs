//! `stillframe scan instance` and `stillframe scan snapshot`.

use std::path::Path;
use std::sync::Arc;

use stillframe_cloud::cost::Prices;
use stillframe_cloud::discover::{Discovery, PlannedInstance};
use stillframe_cloud::tags::ScanId;
use stillframe_model::SnapshotReceipt;
use stillframe_reports::Format;
use tokio::runtime::Runtime;

use super::super::arguments::{Global, Reading, ScanArguments};
use super::super::commands::{check_excluded, exit_code, fingerprint_key, write_report};
use super::super::failure::Failure;
use super::super::output::to_stderr;
use super::super::watch::watch_stages;
use super::super::{EXIT_CLEAN, EXIT_INCOMPLETE};
use super::arguments::{InstanceArguments, Limits, SnapshotArguments};
use super::{
    LAST_CALLS, check_once, explain, explained, instances, limiter, open, runtime, stop, unless_stopped,
};
use crate::cloud::error::skip_words;
use crate::cloud::existing::scan_snapshots;
use crate::cloud::machine::{MachineOptions, find, must_be_scanned, scan_machine};
use crate::cloud::{Outcome, READERS, ReadOptions, Session, Stop, forecast};
use crate::isolation::Sandbox;
use crate::progress::Progress;
use crate::scan::ScanOptions;

/// `stillframe scan instance`.
pub(in crate::cli) fn instance(global: &Global, arguments: &InstanceArguments) -> Result<u8, Failure> {
    if arguments.ids.is_empty() && !arguments.choice.is_given() {
        return Err(Failure::new(
            "no instance is named",
            "name one (i-…), or choose by --tag or --name; `stillframe instances` lists them",
        ));
    }
    let runtime = runtime()?;
    let result = scan_chosen(global, arguments, &runtime);
    runtime.shutdown_timeout(LAST_CALLS);
    result
}

fn scan_chosen(global: &Global, arguments: &InstanceArguments, runtime: &Runtime) -> Result<u8, Failure> {
    let limits = &arguments.limits;
    let stop = runtime.block_on(async { stop() })?;
    let progress = Progress::default();
    progress.set_stage("finding the instances".to_owned());
    let looking = unless_stopped(&stop, async {
        let name = ScanId::random().map(|id| id.to_string()).unwrap_or_default();
        let region = arguments.region.region.clone();
        // A dry run reads no disk, so that nothing can leave its region.
        let reads = (!arguments.dry_run).then_some(limits);
        let session = open(&arguments.account, region, reads, limiter(Some(limits)), &name).await?;
        let selection = arguments.choice.selection(&arguments.ids);
        let found = find(&session, &selection, &arguments.choice.exclusions()).await;
        Ok((session, found.map_err(explained)?))
    });
    let (session, found) = watch_stages(global, &progress, || runtime.block_on(looking))?;
    let machines = chosen(global, arguments, &session, &found)?;
    if arguments.dry_run {
        let foreseeing =
            async { forecast::foresee(&session, machines, &Prices::default()).await.map_err(explained) };
        let foreseen = runtime.block_on(unless_stopped(&stop, foreseeing))?;
        let locality = session.connection().locality();
        return instances::print_forecast(&foreseen, arguments.scan.format, limits, locality);
    }
    check_output(&arguments.scan, machines.len())?;
    announce(global, limits);
    let mut worst = EXIT_CLEAN;
    for (number, machine) in (1..).zip(&machines) {
        if machines.len() > 1 && !global.quiet {
            to_stderr(&format!("{} ({number} of {})", machine.instance.id, machines.len()));
        }
        let outcome = scan_one(global, arguments, runtime, &session, machine, &stop)?;
        let file = match &arguments.scan.output {
            Some(folder) if machines.len() > 1 => {
                Some(folder.join(format!("{}.{}", machine.instance.id, extension(arguments.scan.format))))
            }
            output => output.clone(),
        };
        worst = worst.max(conclude(global, &arguments.scan, file.as_deref(), &outcome)?);
        let left = machines.len().saturating_sub(number);
        if stop.is_wanted() && left > 0 {
            let error = format!("{left} of {} machines were not scanned: it was stopped", machines.len());
            Failure::new(error, "scan again").print();
            return Ok(EXIT_INCOMPLETE);
        }
    }
    Ok(worst)
}

/// The instances to scan. One that was named and cannot be is an error; one that was chosen by a tag is skipped.
fn chosen(
    global: &Global,
    arguments: &InstanceArguments,
    session: &Session,
    found: &Discovery,
) -> Result<Vec<PlannedInstance>, Failure> {
    let mut machines = Vec::new();
    for planned in &found.instances {
        if arguments.ids.contains(&planned.instance.id) {
            must_be_scanned(planned).map_err(explained)?;
        }
        match &planned.skipped {
            None => machines.push(planned.clone()),
            Some(_) if global.quiet => {}
            Some(skip) => to_stderr(&format!("skipped: {} is {}", planned.instance.id, skip_words(skip))),
        }
    }
    if machines.is_empty() {
        let place = session.place();
        return Err(Failure::new(
            format!("no running instance in {} of account {} was chosen", place.region, place.account),
            "`stillframe instances` lists them and says why each is skipped",
        ));
    }
    Ok(machines)
}

/// Whether the reports of so many machines can be written where and how was asked for.
fn check_output(scan: &ScanArguments, machines: usize) -> Result<(), Failure> {
    if machines < 2 {
        return Ok(());
    }
    match &scan.output {
        Some(folder) if folder.is_dir() => Ok(()),
        Some(path) => Err(Failure::new(
            format!("{machines} machines were chosen, and {} is no folder", path.display()),
            "name a folder by --output: each report becomes a file of it",
        )),
        None if matches!(scan.format, Format::Table | Format::Jsonl) => Ok(()),
        None => Err(Failure::new(
            format!("{machines} machines were chosen, and one {} document holds one", scan.format.name()),
            "name a folder by --output: each report becomes a file of it",
        )),
    }
}

/// The default of a limit that costs is said, and not only written down.
fn announce(global: &Global, limits: &Limits) {
    if !global.quiet {
        let said = match limits.max_cost() {
            Some(most) => format!("reading may cost {most} a machine at most (--max-cost)"),
            None => "reading has no limit of cost (--max-cost 0)".to_owned(),
        };
        to_stderr(&said);
    }
}

/// Progress is shown while it scans and no longer: a report on the same terminal would be drawn over.
fn scan_one(
    global: &Global,
    arguments: &InstanceArguments,
    runtime: &Runtime,
    session: &Session,
    machine: &PlannedInstance,
    stop: &Stop,
) -> Result<Outcome, Failure> {
    let progress = Arc::new(Progress::default());
    let read =
        read_options(global, &arguments.scan, &arguments.reading, &arguments.limits, progress.clone())?;
    let options = MachineOptions { user_tags: arguments.user_tags(), read };
    let scanning = scan_machine(session, machine, options, stop);
    watch_stages(global, &progress, || runtime.block_on(scanning)).map_err(explained)
}

const fn extension(format: Format) -> &'static str {
    match format {
        Format::Table => "txt",
        Format::Json => "json",
        Format::Jsonl => "jsonl",
        Format::Cyclonedx => "cdx.json",
    }
}

/// `stillframe scan snapshot`.
pub(in crate::cli) fn snapshot(global: &Global, arguments: &SnapshotArguments) -> Result<u8, Failure> {
    let runtime = runtime()?;
    let result = scan_existing(global, arguments, &runtime);
    runtime.shutdown_timeout(LAST_CALLS);
    result
}

fn scan_existing(global: &Global, arguments: &SnapshotArguments, runtime: &Runtime) -> Result<u8, Failure> {
    let limits = &arguments.limits;
    check_once(&arguments.ids)?;
    let progress = Arc::new(Progress::default());
    let options = read_options(global, &arguments.scan, &arguments.reading, limits, progress.clone())?;
    let stop = runtime.block_on(async { stop() })?;
    let opening = unless_stopped(&stop, async {
        let region = arguments.region.region.clone();
        open(&arguments.account, region, Some(limits), limiter(Some(limits)), &options.scan.id).await
    });
    let session = runtime.block_on(opening)?;
    announce(global, limits);
    let scanning = scan_snapshots(&session, &arguments.ids, options, &stop);
    let outcome = watch_stages(global, &progress, || runtime.block_on(scanning)).map_err(explained)?;
    conclude(global, &arguments.scan, arguments.scan.output.as_deref(), &outcome)
}

fn read_options(
    global: &Global,
    scan: &ScanArguments,
    reading: &Reading,
    limits: &Limits,
    progress: Arc<Progress>,
) -> Result<ReadOptions, Failure> {
    let mut options = ScanOptions::new(fingerprint_key(scan.fingerprint_key_file.as_deref())?);
    options.scanners.clone_from(&scan.scanners);
    options.budget = reading.budget();
    options.excluded.clone_from(&scan.exclude);
    options.show_user_paths = scan.show_user_paths;
    Ok(ReadOptions {
        scan: options,
        max_blocks: limits.max_blocks,
        max_cost: limits.max_cost(),
        prices: Prices::default(),
        cache_bytes: reading.cache_bytes(),
        sandbox: reading.sandbox.unwrap_or(Sandbox::Required),
        worker: global.worker.clone(),
        threads: READERS,
        progress,
    })
}

/// Writes the report, says what failed, and gives the exit code.
fn conclude(
    global: &Global,
    scan: &ScanArguments,
    output: Option<&Path>,
    outcome: &Outcome,
) -> Result<u8, Failure> {
    let mut code = EXIT_INCOMPLETE;
    let mut written = Ok(());
    if let Some(report) = &outcome.report {
        written = check_excluded(scan, report).and_then(|()| write_report(global, scan, report, output));
        let has_findings = scan.fail_on.is_some_and(|threshold| report.has_findings_from(threshold));
        code = exit_code(report.is_complete() && outcome.errors.is_empty(), has_findings);
    }
    outcome.receipts.iter().for_each(print_receipt);
    explain::failures(&outcome.errors).iter().for_each(Failure::print);
    written.map(|()| code)
}

/// Where there is no report that bears them, the receipts are said.
fn print_receipt(receipt: &SnapshotReceipt) {
    let fate = match receipt.fate.is_left() {
        // An error of its own says so, with what to do.
        true => return,
        false => format!("deleted and seen to be gone after {} s", receipt.lifetime_seconds),
    };
    let (snapshot, volume) = (receipt.snapshot_id.as_str(), receipt.volume_id.as_str());
    to_stderr(&format!("{snapshot} of {volume}: {fate}"));
}
