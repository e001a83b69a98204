//! What lies on the disks: partition tables, partitions, and what each holds, judged by its content. Everything met
//! gets its row of the ledger here but the filesystems, whose rows say how far they were read.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stillframe_block::{BlockSource, ReadError, WindowSource};
use stillframe_bytes::Fault;
use stillframe_fs::FsError;
use stillframe_model::{Coverage, CoverageKind, DiskText, Label, Reason, Status, VolumeFacts};
use stillframe_partitions::{Partition, PartitionRole, PartitionTable, Scheme, TypeCode, read_table};
use stillframe_probe::{Content, FsKind, Probe, probe};

use crate::Disk;
use crate::journal::{Event, Journal, Step};
use stillframe_detectors::ledger::{budget_words, error_fault, row_fault};

/// Microsoft's reserved partition: space that Windows keeps for itself. On the disk in this byte order.
const MICROSOFT_RESERVED: [u8; 16] =
    [0x16, 0xe3, 0xc9, 0xe3, 0x5c, 0x0b, 0xb8, 0x4d, 0x81, 0x7d, 0xf9, 0x2d, 0xf0, 0x02, 0x15, 0xae];

/// Space before the first partition, in which a boot loader of an MBR disk keeps its second stage.
const BOOT_AREA_END: u64 = 1 << 20;

/// A filesystem to be read.
pub struct Volume {
    /// `disk0/p1`, or `disk0` for a filesystem on the whole disk.
    pub name: String,
    /// `p1`, or `whole`: what the `files` command calls it within its disk.
    pub short_name: String,
    /// The index of its disk.
    pub disk: usize,
    /// The number of its partition; `None` where it has the whole disk.
    pub partition: Option<u32>,
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
    /// The other devices of a filesystem that lies on several.
    pub more: Vec<Arc<dyn BlockSource>>,
    /// What it is.
    pub kind: FsKind,
    /// What is known of it before it is opened.
    pub facts: VolumeFacts,
    /// The partition's UUID and name, by which an `fstab` may call it.
    pub part_uuid: Option<String>,
    /// See `part_uuid`.
    pub part_label: Option<String>,
}

impl Volume {
    /// Its row before it is opened.
    #[must_use]
    pub fn row(&self) -> Coverage {
        let mut row = Coverage::scanned(CoverageKind::Filesystem, &*self.name).with_facts(self.facts.clone());
        row.facts.format = Some(Label::new(self.kind.name()));
        row
    }
}

/// The filesystems of all disks, and the rows of the ledger for everything else that was met.
#[derive(Default)]
pub struct Layout {
    /// In the order of disks and partitions.
    pub volumes: Vec<Volume>,
    /// Disks, partitions, unallocated space.
    pub coverage: Vec<Coverage>,
}

/// Looks at the disks of a machine. `excluded` names volumes (`disk0/p3`) that the operator does not want read; disks in
/// `dead` are not looked at and get no row.
#[must_use]
pub fn layout(disks: &[Disk], excluded: &[String], dead: &[String], journal: &Journal<'_>) -> Layout {
    let mut layout = Layout::default();
    for (index, disk) in disks.iter().enumerate().filter(|(_, disk)| !dead.contains(&disk.name)) {
        journal(Event::Step(Step::Look(&disk.name)));
        if catch_unwind(AssertUnwindSafe(|| layout.add_disk(index, disk, excluded))).is_err() {
            let reason = Reason::words("it panicked on what lies here; what was met before is listed");
            let row = Coverage::unread(CoverageKind::Disk, &*disk.name, Status::Corrupt, reason);
            layout.coverage.push(row);
        }
    }
    crate::devices::join(&mut layout);
    layout
}

impl Layout {
    fn add_disk(&mut self, index: usize, disk: &Disk, excluded: &[String]) {
        let source = disk.source();
        let len_bytes = source.len_bytes();
        let mut row = Coverage::scanned(CoverageKind::Disk, &*disk.name).with_facts(VolumeFacts {
            label: Some(DiskText::new(&disk.label)),
            len_bytes: Some(len_bytes),
            ..VolumeFacts::default()
        });
        if excluded.contains(&disk.name) {
            exclude(&mut row);
            self.coverage.push(row);
            return;
        }
        let table = match read_table(&*source) {
            Ok(table) => table,
            Err(error) => {
                fail(&mut row, &error);
                self.coverage.push(row);
                return;
            }
        };
        for fault in &table.faults {
            row.push_fault(row_fault(fault, None));
        }
        row.facts.uuid = table.disk_id.as_deref().map(DiskText::new);
        if table.used_backup {
            row.notes.push(Label::new("the backup partition table was read: the first one is damaged"));
        }
        if table.scheme == Scheme::None {
            let place = Place {
                name: disk.name.clone(),
                short_name: "whole".to_owned(),
                disk: index,
                partition: None,
                source,
                part_uuid: None,
                part_label: None,
                is_reserved: false,
            };
            self.add_content(place, row);
            return;
        }
        row.facts.format = Some(Label::new(if table.scheme == Scheme::Gpt { "gpt" } else { "mbr" }));
        if table.partitions.is_empty() && !table.faults.is_empty() {
            row.status = Status::Corrupt;
            row.reason = Some(Reason::words("no copy of its partition table can be read"));
        } else if table.partitions.iter().any(|partition| partition.cut) {
            row.status = Status::Partial;
            row.reason = Some(Reason::words("its partitions pass its end: the image is cut short"));
        } else if table.faults.iter().any(|fault| fault.what.starts_with("extended boot record")) {
            row.status = Status::Partial;
            row.reason =
                Some(Reason::words("its chain of logical partitions is broken: some may be missing"));
        }
        self.coverage.push(row);
        for partition in table.partitions.iter().filter(|partition| partition.role != PartitionRole::Extended)
        {
            self.add_partition(index, disk, &source, partition, excluded);
        }
        self.add_gaps(disk, &source, &table);
    }

    fn add_partition(
        &mut self,
        index: usize,
        disk: &Disk,
        source: &Arc<dyn BlockSource>,
        partition: &Partition,
        excluded: &[String],
    ) {
        let short_name = format!("p{}", partition.number);
        let name = format!("{}/{short_name}", disk.name);
        let mut row = Coverage::scanned(CoverageKind::Partition, &*name).with_facts(VolumeFacts {
            label: partition.name.as_deref().map(DiskText::new),
            uuid: partition.part_uuid.as_deref().map(DiskText::new),
            start_bytes: Some(partition.start_bytes),
            len_bytes: Some(partition.len_bytes),
            ..VolumeFacts::default()
        });
        if excluded.contains(&name) {
            exclude(&mut row);
            self.coverage.push(row);
            return;
        }
        let window = WindowSource::new(source.clone(), partition.start_bytes, partition.len_bytes);
        if window.len_bytes() == 0 && partition.len_bytes > 0 {
            row.status = Status::Partial;
            row.reason = Some(Reason::words("it lies past the end of the disk"));
            let (start, end) = (partition.start_bytes, source.len_bytes());
            row.push_fault(row_fault(&Fault::new("partition start", start, start, end), None));
            self.coverage.push(row);
            return;
        }
        let place = Place {
            name,
            short_name,
            disk: index,
            partition: Some(partition.number),
            source: Arc::new(window),
            part_uuid: partition.part_uuid.clone(),
            part_label: partition.name.clone(),
            is_reserved: partition.type_code == TypeCode::Gpt(MICROSOFT_RESERVED),
        };
        self.add_content(place, row);
    }

    /// Finishes the row of a partition or whole disk by what it holds; a filesystem becomes a volume to read.
    fn add_content(&mut self, place: Place, mut row: Coverage) {
        let found = match probe(&*place.source) {
            Ok(found) => found,
            Err(error) => {
                fail(&mut row, &error);
                self.coverage.push(row);
                return;
            }
        };
        row.facts.format = row.facts.format.or_else(|| format_of(found.content).map(Label::new));
        if let Content::Filesystem(kind) = found.content {
            let facts = VolumeFacts {
                start_bytes: row.facts.start_bytes,
                len_bytes: Some(place.source.len_bytes()),
                ..VolumeFacts::default()
            };
            self.volumes.push(Volume {
                name: place.name,
                short_name: place.short_name,
                disk: place.disk,
                partition: place.partition,
                source: place.source,
                more: Vec::new(),
                kind,
                facts,
                part_uuid: place.part_uuid,
                part_label: place.part_label,
            });
        } else {
            row.facts.uuid = found.detail.uuid.as_deref().map(DiskText::new).or(row.facts.uuid);
            judge(&mut row, &found, place.is_reserved);
        }
        self.coverage.push(row);
    }

    /// Space that no partition claims may hold a lost one.
    fn add_gaps(&mut self, disk: &Disk, source: &Arc<dyn BlockSource>, table: &PartitionTable) {
        for (number, gap) in (1_u32..).zip(&table.unallocated) {
            let window = WindowSource::new(source.clone(), gap.start, gap.end.saturating_sub(gap.start));
            let name = format!("{}/gap{number}", disk.name);
            let mut row = Coverage::scanned(CoverageKind::Unallocated, &*name).with_facts(VolumeFacts {
                start_bytes: Some(gap.start),
                len_bytes: Some(window.len_bytes()),
                ..VolumeFacts::default()
            });
            match probe(&window) {
                Ok(found) => {
                    row.facts.format = format_of(found.content).map(Label::new);
                    judge_gap(&mut row, &found, gap, table);
                }
                Err(error) => fail(&mut row, &error),
            }
            self.coverage.push(row);
        }
    }
}

/// A partition or whole disk whose content is to be judged.
struct Place {
    name: String,
    short_name: String,
    disk: usize,
    partition: Option<u32>,
    source: Arc<dyn BlockSource>,
    part_uuid: Option<String>,
    part_label: Option<String>,
    is_reserved: bool,
}

fn exclude(row: &mut Coverage) {
    row.status = Status::Skipped;
    row.reason = Some(Reason::words("excluded"));
}

fn fail(row: &mut Coverage, error: &ReadError) {
    row.status = Status::Partial;
    row.reason = Some(Reason::words(match error {
        ReadError::Budget(exhausted) => budget_words(*exhausted),
        ReadError::Io { .. } | ReadError::OutOfBounds { .. } => "the disk could not be read",
    }));
    row.push_fault(error_fault(&FsError::Read(error.clone()), None));
}

/// The status of what is no filesystem of ours.
fn judge(row: &mut Coverage, found: &Probe, is_reserved: bool) {
    let (status, reason) = match found.content {
        Content::Filesystem(_) => return,
        Content::Empty => (Status::Skipped, Reason::words("empty")),
        Content::Swap(_) => (Status::Skipped, Reason::words("swap")),
        Content::BootCode(_) => (Status::Skipped, Reason::words("boot code")),
        Content::Unknown { .. } if is_reserved => (Status::Skipped, Reason::words("boot code")),
        Content::Encrypted(kind) => (Status::Encrypted, Reason::words(kind.name())),
        Content::Member(kind) => (Status::Unsupported, Reason::because("not read yet", kind.name())),
        Content::Unsupported(kind) => (Status::Unsupported, Reason::because("not read yet", kind.name())),
        Content::Unknown { first_non_zero, looks_random } => {
            row.push_fault(row_fault(&unknown(found, first_non_zero, looks_random), None));
            (Status::Unsupported, Reason::words("content of unknown kind"))
        }
        _ => (Status::Unsupported, Reason::words("content of a kind without a reader")),
    };
    row.status = status;
    row.reason = Some(reason);
}

fn unknown(found: &Probe, first_non_zero: u64, looks_random: bool) -> Fault {
    let what = if looks_random { "bytes that look random" } else { "bytes without a known signature" };
    Fault::new("content", found.signature_at.max(first_non_zero), "a known signature", what)
}

/// Space before the first partition of an MBR disk belongs to its boot code. Elsewhere what is not zero was a partition.
fn judge_gap(row: &mut Coverage, found: &Probe, gap: &Range<u64>, table: &PartitionTable) {
    let is_boot_area = table.scheme == Scheme::Mbr && gap.end <= BOOT_AREA_END;
    match found.content {
        Content::Unknown { .. } if is_boot_area => {
            row.status = Status::Skipped;
            row.reason = Some(Reason::words("boot code"));
        }
        Content::Filesystem(kind) => {
            row.status = Status::Unsupported;
            row.reason = Some(Reason::because("a filesystem outside every partition", kind.name()));
        }
        _ => judge(row, found, false),
    }
}

pub(crate) fn format_of(content: Content) -> Option<&'static str> {
    match content {
        Content::Filesystem(kind) => Some(kind.name()),
        Content::Encrypted(kind) => Some(kind.name()),
        Content::Member(kind) => Some(kind.name()),
        Content::Unsupported(kind) => Some(kind.name()),
        Content::Swap(kind) => Some(kind.name()),
        Content::BootCode(kind) => Some(kind.name()),
        _ => None,
    }
}
