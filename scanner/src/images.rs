//! Images in files that a machine mounts: the snaps of Ubuntu, and what an `fstab` mounts with `loop`. Each is a volume on
//! the volume that its file lies on, and is called so: `disk0/p1/image1`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stillframe_block::{BlockSource, Budget};
use stillframe_detectors::ledger::{error_fault, open_failure};
use stillframe_fs::{ContentSource, FsError};
use stillframe_model::{Coverage, CoverageKind, PathView, Reason, Status, VolumeFacts};
use stillframe_probe::{Content, probe};

use crate::journal::{Event, Findings, Journal, Step};
use crate::layout::{Volume, format_of};
use crate::mount::{Mount, MountedImage, Mounts};
use crate::open::{OpenVolume, open};
use crate::tree::descend;

/// Images of one machine. What is beyond has one row.
const MAX_IMAGES: usize = 256;

/// Opens the images in the files of `opened`, which are mounted as `mounts` says; those that cannot be opened get their row.
pub(crate) fn open_all(
    opened: &[OpenVolume],
    mounts: &[Mounts],
    before: &Findings,
    (budget, view): (Budget, PathView<'_>),
    journal: &Journal<'_>,
    coverage: &mut Vec<Coverage>,
) -> Vec<(OpenVolume, Mounts)> {
    let mut images = Vec::new();
    for (beneath, mounts) in opened.iter().zip(mounts) {
        for (number, image) in (1_usize..).zip(&mounts.images) {
            images.push((format!("{}/image{number}", beneath.volume.name), beneath, image));
        }
    }
    if let Some((name, ..)) = images.get(MAX_IMAGES) {
        let reason = Reason::words("more images are mounted than are read: this one, and those behind it");
        coverage.push(Coverage::unread(CoverageKind::Filesystem, &**name, Status::Partial, reason));
    }
    images.truncate(MAX_IMAGES);
    images.retain(|(name, ..)| !before.is_ended(name));
    if images.is_empty() {
        return Vec::new();
    }
    let rows: Vec<Coverage> =
        images.iter().map(|(name, ..)| Coverage::scanned(CoverageKind::Filesystem, &**name)).collect();
    journal(Event::Images(&rows));
    let mut found = Vec::new();
    for (name, beneath, image) in images {
        journal(Event::Step(Step::Open(&name)));
        beneath.budget.restart_clock();
        let opened = catch_unwind(AssertUnwindSafe(|| open_one(&name, beneath, image, budget)));
        let panicked = FsError::Reader { reader: "reader", what: "the reader panicked while opening" };
        match opened.unwrap_or_else(|_| Err(Box::new(failed(&name, &panicked)))) {
            Ok(volume) => {
                let mount = Mount { system: image.system, folder: Vec::new(), at: image.at.clone() };
                found.push((volume, Mounts::new(vec![mount])));
            }
            Err(mut row) => {
                row.facts.mounted_at = Some(view.show(&image.at));
                journal(Event::Read { row: &row, entries: 0 });
                coverage.push(*row);
            }
        }
    }
    found
}

fn open_one(
    name: &str,
    beneath: &OpenVolume,
    image: &MountedImage,
    budget: Budget,
) -> Result<OpenVolume, Box<Coverage>> {
    let failed = |error: &FsError| Box::new(failed(name, error));
    let names: Vec<&[u8]> = image.file.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    let file = descend(&*beneath.fs, beneath.fs.root(), &names).ok_or_else(|| failed(&FsError::NotFound))?;
    let source = ContentSource::new(beneath.fs.clone(), file).map_err(|error| failed(&error))?;
    let source: Arc<dyn BlockSource> = Arc::new(source);
    let found = probe(&*source).map_err(|error| failed(&FsError::Read(error)))?;
    let Content::Filesystem(kind) = found.content else {
        let reason = match format_of(found.content) {
            Some(format) => Reason::because("an image of a kind that is not read", format),
            None => Reason::words("an image that holds nothing that is known"),
        };
        return Err(Box::new(Coverage::unread(CoverageKind::Filesystem, name, Status::Unsupported, reason)));
    };
    let volume = Volume {
        name: name.to_owned(),
        short_name: name.to_owned(),
        disk: beneath.volume.disk,
        partition: None,
        facts: VolumeFacts { len_bytes: Some(source.len_bytes()), ..VolumeFacts::default() },
        source,
        more: Vec::new(),
        kind,
        part_uuid: None,
        part_label: None,
    };
    Ok(OpenVolume { beneath: Some(beneath.budget.clone()), ..open(volume, budget)? })
}

fn failed(name: &str, error: &FsError) -> Coverage {
    let (status, reason) = open_failure(error);
    let mut row = Coverage::unread(CoverageKind::Filesystem, name, status, reason);
    row.push_fault(error_fault(error, None));
    row
}
