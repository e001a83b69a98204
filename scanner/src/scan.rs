//! One scan: the disks of one machine in, one report out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use stillframe_block::{Budget, ReadError};
use stillframe_bytes::Fault;
use stillframe_detectors::{Detector, Fact, Matcher, Sourced, catalog, conclude};
use stillframe_fs::{FsError, ReadOnlyFs};
use stillframe_model::{
    Coverage, CoverageKind, DiskText, FingerprintKey, Io, Label, Machine, PathView, REPORT_SCHEMA, Reason,
    Report, Scan, Scanner, ShownPath, Status, Tool,
};

use crate::Disk;
use crate::deliver::{FilesystemDelivery, Finder};
use crate::images::{self, Images};
use crate::journal::{Event, Findings, Journal, Step};
use crate::layout::{Volume, layout};
use crate::mount::Mounts;
use crate::open::{OpenVolume, open_all};
use crate::progress::Progress;
use crate::tree::{Opened, assemble};
use crate::walk::{Limits, Outcome, walk};
use stillframe_detectors::ledger::{budget_words, error_fault, row_fault};

/// How a scan is to be done.
pub struct ScanOptions {
    /// The scan's name: a UUID, as [`ScanOptions::new`] makes it.
    pub id: String,
    /// What to look for.
    pub scanners: Vec<Scanner>,
    /// What reading one volume may cost.
    pub budget: Budget,
    /// How far a walk goes.
    pub limits: Limits,
    /// Volumes that are not read, as the ledger calls them.
    pub excluded: Vec<String>,
    /// The key of all fingerprints.
    pub key: FingerprintKey,
    /// Whether people's names in paths are shown.
    pub show_user_paths: bool,
}

impl ScanOptions {
    /// Everything that there is to look for, with the default limits.
    #[must_use]
    pub fn new(key: FingerprintKey) -> Self {
        Self {
            id: scan_id(),
            scanners: vec![Scanner::Inventory],
            budget: Budget::default(),
            limits: Limits::default(),
            excluded: Vec::new(),
            key,
            show_user_paths: false,
        }
    }

    fn view(&self) -> PathView<'_> {
        if self.show_user_paths { PathView::Plain } else { PathView::Masked(&self.key) }
    }
}

/// Scans the disks of one machine, in this process.
#[must_use]
pub fn scan(disks: &[Disk], options: &ScanOptions, progress: &Progress) -> Report {
    scan_on(disks, options, progress, Findings::default(), &|_| {})
}

/// Scans the disks of one machine from where another scan of them ended, and tells `journal` of each step.
#[must_use]
pub fn scan_on(
    disks: &[Disk],
    options: &ScanOptions,
    progress: &Progress,
    before: Findings,
    journal: &Journal<'_>,
) -> Report {
    let started = Timestamp::now();
    progress.set_stage("looking at the disks".to_owned());
    let layout = layout(disks, &options.excluded, &before.dead_disks, journal);
    journal(Event::Met { volumes: &layout.volumes, coverage: &layout.coverage });
    let mut coverage = layout.coverage;
    let opened = open_all(wanted(layout.volumes, &before), options.budget, journal, &mut coverage);
    let detectors = catalog(&options.scanners);
    let matcher = Matcher::new(&detectors);
    let mounts = all_mounts(&opened, disks, &matcher, &before, journal);
    let mut facts = before.facts.clone();
    let mut entries = before.entries;
    coverage.extend(before.coverage.iter().cloned());
    let mut read = |volume: &OpenVolume, mounts: &Mounts, coverage: &mut Vec<Coverage>| {
        let name = &volume.volume.name;
        progress.set_reading(&format!("{name} ({})", volume.fs.description().kind));
        journal(Event::Step(Step::Read(name)));
        let reading =
            Reading { volume, mounts, detectors: &detectors, matcher: &matcher, options, progress, journal };
        let (row, found, walked) = reading.run();
        journal(Event::Read { row: &row, entries: walked });
        coverage.push(row);
        facts.extend(found);
        entries = entries.saturating_add(walked);
    };
    for volume in opened.iter().filter(|volume| !before.is_ended(&volume.volume.name)) {
        let nowhere = Mounts::default();
        read(volume, mounts.get(&volume.volume.name).unwrap_or(&nowhere), &mut coverage);
    }
    let (budget, view) = (options.budget, options.view());
    let images = Images { opened: &opened, mounts: &mounts, before: &before, budget, view, journal };
    images.each(&mut coverage, &mut read);
    progress.set_stage("drawing conclusions".to_owned());
    journal(Event::Step(Step::Conclude));
    let conclusion = conclude(facts, &options.scanners);
    coverage.extend(conclusion.coverage);
    order(&mut coverage);

    let mut report = empty_report(options, started);
    report.scan.finished = Timestamp::now();
    report.machine = conclusion.machine;
    report.coverage = coverage;
    report.packages = conclusion.packages;
    report.io = io(disks, entries);
    report.scan.complete = report.is_complete();
    report
}

/// A report that says nothing yet of any disk.
pub(crate) fn empty_report(options: &ScanOptions, started: Timestamp) -> Report {
    Report {
        schema: Label::new(REPORT_SCHEMA),
        scan: Scan {
            id: DiskText::new(&options.id),
            tool: Tool { name: Label::new("stillframe"), version: Label::new(env!("CARGO_PKG_VERSION")) },
            started,
            finished: started,
            scanners: options.scanners.clone(),
            fingerprint_key_id: options.key.id(),
            user_paths_masked: !options.show_user_paths,
            complete: false,
            isolation: None,
        },
        machine: Machine::default(),
        coverage: Vec::new(),
        packages: Vec::new(),
        findings: Vec::new(),
        io: Io::default(),
        snapshots: Vec::new(),
        cloud: None,
    }
}

/// Adds rows about disks that were not among those scanned.
pub(crate) fn add_rows(report: &mut Report, rows: Vec<Coverage>) {
    report.coverage.extend(rows);
    order(&mut report.coverage);
    report.scan.complete = report.is_complete();
}

/// Looks at the disks and opens their filesystems without walking them: what a scan would read, and what it could not.
#[must_use]
pub fn survey(disks: &[Disk], budget: Budget) -> Vec<Coverage> {
    survey_on(disks, budget, Findings::default(), &|_| {})
}

/// Looks from where another look at the disks ended, and tells `journal` of each step.
#[must_use]
pub fn survey_on(disks: &[Disk], budget: Budget, before: Findings, journal: &Journal<'_>) -> Vec<Coverage> {
    let layout = layout(disks, &[], &before.dead_disks, journal);
    journal(Event::Met { volumes: &layout.volumes, coverage: &layout.coverage });
    let mut coverage = layout.coverage;
    coverage.extend(before.coverage.iter().cloned());
    let opened = open_all(wanted(layout.volumes, &before), budget, journal, &mut coverage);
    let mounts = all_mounts(&opened, disks, &Matcher::default(), &before, journal);
    let mut read = |volume: &OpenVolume, mounts: &Mounts, coverage: &mut Vec<Coverage>| {
        journal(Event::Step(Step::Read(&volume.volume.name)));
        let mut row = opened_row(volume, mounts, PathView::Plain);
        push_reader_faults(&mut row, &*volume.fs);
        judge_faults(&mut row, volume, 0);
        journal(Event::Read { row: &row, entries: 0 });
        coverage.push(row);
    };
    for volume in opened.iter().filter(|volume| !before.is_ended(&volume.volume.name)) {
        let nowhere = Mounts::default();
        read(volume, mounts.get(&volume.volume.name).unwrap_or(&nowhere), &mut coverage);
    }
    let view = PathView::Plain;
    let images = Images { opened: &opened, mounts: &mounts, before: &before, budget, view, journal };
    images.each(&mut coverage, &mut read);
    order(&mut coverage);
    coverage
}

/// The volumes that are to be opened: those that were not read, and those on which something else was not.
fn wanted(volumes: Vec<Volume>, before: &Findings) -> Vec<Volume> {
    let hosts = images::hosts(before);
    let is_wanted = |volume: &Volume| !before.is_ended(&volume.name) || hosts.contains(&volume.name);
    volumes.into_iter().filter(is_wanted).collect()
}

/// Where all volumes are mounted, by their names; found once for all who go on from here.
fn all_mounts(
    opened: &[OpenVolume],
    disks: &[Disk],
    matcher: &Matcher,
    before: &Findings,
    journal: &Journal<'_>,
) -> BTreeMap<String, Mounts> {
    if let Some(known) = &before.mounts {
        return known.clone();
    }
    let found = mounts(opened, disks, matcher, journal);
    let names = opened.iter().map(|one| one.volume.name.clone());
    let by_name = names.zip(found).collect();
    journal(Event::Mounted(&by_name));
    by_name
}

fn mounts(opened: &[OpenVolume], disks: &[Disk], matcher: &Matcher, journal: &Journal<'_>) -> Vec<Mounts> {
    let disk = |volume: &Volume| disks.get(volume.disk);
    let names: Vec<Opened<'_>> = opened
        .iter()
        .map(|one| Opened {
            name: &one.volume.name,
            fs: &*one.fs,
            disk: disk(&one.volume)
                .map_or(one.volume.disk, |disk| usize::try_from(disk.number).unwrap_or(usize::MAX)),
            partition: one.volume.partition,
            device: disk(&one.volume).and_then(|disk| disk.attached_as.as_deref()),
            part_uuid: one.volume.part_uuid.as_deref(),
            part_label: one.volume.part_label.as_deref(),
        })
        .collect();
    // A reader of a crate may panic here too; then nothing is mounted, and the walk meets the same panic and tells.
    let before = |name: &str| journal(Event::Step(Step::Mount(name)));
    // In their order, so that two scans do the same.
    let mut looked_for: Vec<&[u8]> = matcher.folder_paths().collect();
    looked_for.sort_unstable();
    catch_unwind(AssertUnwindSafe(|| assemble(&names, &looked_for, &before)))
        .unwrap_or_else(|_| vec![Mounts::default(); opened.len()])
}

fn io(disks: &[Disk], entries: u64) -> Io {
    let mut io = Io { entries, ..Io::default() };
    for counts in disks.iter().map(Disk::counts) {
        io.blocks_fetched = io.blocks_fetched.saturating_add(counts.distinct_blocks);
        io.bytes_read = io.bytes_read.saturating_add(counts.bytes);
        io.requests = io.requests.saturating_add(counts.requests);
    }
    io
}

/// Rows about disks stay in the order of the disk: each disk, its partitions, their filesystems; the others follow.
/// What lies on a volume follows it.
pub(crate) fn order(coverage: &mut [Coverage]) {
    let starts: BTreeMap<String, u64> = coverage
        .iter()
        .filter_map(|row| Some((row.name.as_str().to_owned(), row.facts.start_bytes?.saturating_add(1))))
        .collect();
    let start = |name: &str| {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        let above = ends.filter_map(|end| starts.get(name.get(..end)?)).next_back();
        above.copied().unwrap_or(0)
    };
    let is_on_disk = |row: &Coverage| {
        matches!(
            row.kind,
            CoverageKind::Disk
                | CoverageKind::Partition
                | CoverageKind::Filesystem
                | CoverageKind::Unallocated
        )
    };
    coverage.sort_by_key(|row| {
        if !is_on_disk(row) {
            return (true, String::new(), 0, 0, 0, row.kind);
        }
        let name = row.name.as_str();
        let disk = name.split('/').next().unwrap_or(name);
        let number =
            disk.strip_prefix("disk").and_then(|number| number.parse::<u64>().ok()).unwrap_or(u64::MAX);
        let image = name.rsplit_once("/image").and_then(|(_, number)| number.parse::<u64>().ok());
        let depth = name.matches('/').count();
        (false, format!("{number:020}"), start(name), depth, image.unwrap_or(0), row.kind)
    });
}

/// A random UUID (RFC 9562, version 4).
fn scan_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness the time must do: the id only tells reports apart.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = Timestamp::now().as_nanosecond().to_le_bytes();
    }
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{number:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// The reading of one filesystem.
struct Reading<'a> {
    volume: &'a OpenVolume,
    mounts: &'a Mounts,
    detectors: &'a [Box<dyn Detector>],
    matcher: &'a Matcher,
    options: &'a ScanOptions,
    progress: &'a Progress,
    journal: &'a Journal<'a>,
}

impl Reading<'_> {
    fn run(&self) -> (Coverage, Vec<Sourced<Fact>>, u64) {
        let fs = &*self.volume.fs;
        self.volume.restart_clocks();
        (self.journal)(Event::Opened(&opened_row(self.volume, self.mounts, self.options.view())));
        let finder = Finder::new(self.matcher, self.mounts);
        let mut outcome = walk(fs, self.options.limits, &finder, self.progress);
        if let Some(limit) = finder.limit() {
            outcome.fault_count = outcome.fault_count.saturating_add(1);
            outcome.faults.push((Vec::new(), limit));
        }
        let delivery = FilesystemDelivery {
            fs,
            volume: &self.volume.volume.name,
            detectors: self.detectors,
            budget: &self.volume.budget,
            view: self.options.view(),
            progress: self.progress,
            journal: self.journal,
        };
        let delivered = delivery.run(finder.into_wanted());
        let more = u64::try_from(delivered.faults.len()).unwrap_or(u64::MAX);
        outcome.fault_count = outcome.fault_count.saturating_add(more);
        outcome.faults.extend(delivered.faults);
        (self.row(&outcome), delivered.facts, outcome.entries)
    }

    fn row(&self, outcome: &Outcome) -> Coverage {
        let mut row = opened_row(self.volume, self.mounts, self.options.view());
        row.facts.entries = Some(outcome.entries);
        let mut faults: Vec<&(Vec<u8>, FsError)> = outcome.faults.iter().collect();
        faults.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, error) in faults {
            row.push_fault(error_fault(error, Some(self.shown(path))));
        }
        push_reader_faults(&mut row, &*self.volume.fs);
        judge_faults(&mut row, self.volume, outcome.fault_count);
        row
    }

    fn shown(&self, path: &[u8]) -> ShownPath {
        let machine = self.mounts.shown_path(path);
        let path = machine.as_deref().unwrap_or(path);
        self.options.view().show(if path.is_empty() { b"/" } else { path })
    }
}

/// The faults that the reader met on the side, in an order that no thread decides.
pub(crate) fn push_reader_faults(row: &mut Coverage, fs: &dyn ReadOnlyFs) {
    let mut faults: Vec<_> = fs.faults().iter().map(|fault| row_fault(fault, None)).collect();
    faults.sort();
    faults.into_iter().for_each(|fault| row.push_fault(fault));
}

/// The status of a filesystem by the faults that were met: those in its row, and `walked` counted by the walk.
pub(crate) fn judge_faults(row: &mut Coverage, volume: &OpenVolume, walked: u64) {
    let of_reader = u64::try_from(volume.fs.faults().len()).unwrap_or(u64::MAX);
    row.fault_count = row.fault_count.max(walked.saturating_add(of_reader));
    if row.fault_count > 0 {
        row.status = Status::Partial;
        row.reason = Some(Reason::counted(row.fault_count, "fault", "faults", "; what was whole was read"));
    }
    // A reader may hide why it failed; a limit that was reached is the cause of all that follows.
    if let Some(exhausted) = volume.budget.exhausted() {
        row.status = Status::Partial;
        row.reason = Some(Reason::words(budget_words(exhausted)));
        row.push_fault(error_fault(&FsError::Read(ReadError::Budget(exhausted)), None));
    }
}

/// A row for a filesystem that is open, before anything of it was walked.
pub(crate) fn opened_row(volume: &OpenVolume, mounts: &Mounts, view: PathView<'_>) -> Coverage {
    let description = volume.fs.description();
    let mut row = Coverage::scanned(CoverageKind::Filesystem, &*volume.volume.name);
    row.facts = volume.volume.facts.clone();
    row.facts.format = Some(Label::new(description.kind));
    row.facts.label = description.label.as_deref().map(DiskText::from_bytes);
    row.facts.uuid = description.uuid.as_deref().map(DiskText::new);
    row.facts.dirty = description.dirty;
    row.facts.reader = Some(Label::new(description.reader));
    let mounted =
        mounts.mounts.first().map(|mount| if mount.at.is_empty() { b"/".as_slice() } else { &mount.at });
    row.facts.mounted_at = mounted.map(|at| view.show(at));
    row.notes = description.notes.iter().copied().map(Label::new).collect();
    if mounts.missing > 0 {
        row.notes.push(Label::new("its fstab mounts what is not on these disks"));
    }
    if mounts.is_guessed {
        row.notes.push(Label::new("a name that may mean another disk says that it is mounted here"));
    }
    if mounts.has_other_roots {
        row.notes.push(Label::new("other systems in it, as before a rollback, are not told of"));
    }
    if mounts.unread > 0 {
        let fault = Fault::new("files that say what is mounted where", 0, "read whole", "some were not");
        row.push_fault(row_fault(&fault, None));
    }
    row.not_told = description.hidden.iter().copied().map(Label::new).collect();
    row
}
