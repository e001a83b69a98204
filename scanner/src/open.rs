//! Opening the filesystems of volumes, each behind a budget and a panic boundary.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stillframe_block::{BlockSource, Budget, BudgetSource, ReadError};
use stillframe_detectors::ledger::{error_fault, open_failure};
use stillframe_fs::{FsError, ReadOnlyFs};
use stillframe_model::{Coverage, CoverageKind, Label};

use crate::journal::{Event, Journal, Step};
use crate::layout::Volume;

/// A volume whose filesystem is open.
pub(crate) struct OpenVolume {
    pub(crate) volume: Volume,
    pub(crate) fs: Arc<dyn ReadOnlyFs>,
    pub(crate) budget: Arc<BudgetSource>,
    /// The budget of the volume that it lies on, where it is an image in a file: reading the one reads the other.
    pub(crate) beneath: Option<Arc<BudgetSource>>,
}

impl OpenVolume {
    /// Begins the time that reading it may take.
    pub(crate) fn restart_clocks(&self) {
        self.budget.restart_clock();
        // The volume beneath was read before: what is read of it now is for this one alone.
        self.beneath.iter().for_each(|budget| budget.renew());
    }
}

/// Opens the filesystem on `volume` behind a budget and a panic boundary.
pub(crate) fn open(volume: Volume, budget: Budget) -> Result<OpenVolume, Box<Coverage>> {
    let source = Arc::new(BudgetSource::new(volume.source.clone(), budget));
    let more =
        || volume.more.iter().map(|device| -> Arc<dyn BlockSource> { Arc::new(source.and(device.clone())) });
    let opened = catch_unwind(AssertUnwindSafe(|| {
        stillframe_readers::open_devices(volume.kind, source.clone(), more().collect())
    }));
    let panicked = Err(FsError::Reader { reader: "reader", what: "the reader panicked while opening" });
    match opened.unwrap_or(panicked) {
        Ok(fs) => Ok(OpenVolume { volume, fs: fs.into(), budget: source, beneath: None }),
        Err(error) => {
            // A reader may hide a limit that was reached, or panic at it.
            let limit = source.exhausted().map(|exhausted| FsError::Read(ReadError::Budget(exhausted)));
            Err(Box::new(failed_row(&volume, limit.as_ref().unwrap_or(&error))))
        }
    }
}

/// Opens all filesystems; those that cannot be get their row.
pub(crate) fn open_all(
    volumes: Vec<Volume>,
    budget: Budget,
    journal: &Journal<'_>,
    coverage: &mut Vec<Coverage>,
) -> Vec<OpenVolume> {
    let mut opened = Vec::new();
    for volume in volumes {
        tracing::debug!(volume = volume.name, kind = volume.kind.name(), "opening");
        journal(Event::Step(Step::Open(&volume.name)));
        match open(volume, budget) {
            Ok(volume) => opened.push(volume),
            Err(row) => {
                journal(Event::Read { row: &row, entries: 0 });
                coverage.push(*row);
            }
        }
    }
    opened
}

fn failed_row(volume: &Volume, error: &FsError) -> Coverage {
    let (status, reason) = open_failure(error);
    let mut row = Coverage::unread(CoverageKind::Filesystem, &*volume.name, status, reason);
    row.facts = volume.facts.clone();
    row.facts.format = Some(Label::new(volume.kind.name()));
    row.push_fault(error_fault(error, None));
    row
}
