//! Images in files that a machine mounts: the snaps of Ubuntu, and what an `fstab` mounts with `loop`. Each is a volume on
//! the volume that its file lies on, and is called so: `disk0/p1/image1`.
//!
//! They are read after the volumes that they lie on, so that none of them costs the machine's own.

use std::collections::{BTreeMap, BTreeSet};
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

/// Images of one machine. Of what is beyond one is told, as unread.
const MAX_IMAGES: usize = 256;

/// The images on the volumes of a machine.
pub(crate) struct Images<'a> {
    /// The volumes that are open.
    pub(crate) opened: &'a [OpenVolume],
    /// Where all volumes are mounted, by their names, and which images lie on them.
    pub(crate) mounts: &'a BTreeMap<String, Mounts>,
    pub(crate) before: &'a Findings,
    pub(crate) budget: Budget,
    pub(crate) view: PathView<'a>,
    pub(crate) journal: &'a Journal<'a>,
}

/// What reads a volume that was opened, and puts its row to the others.
pub(crate) type Read<'r> = dyn FnMut(&OpenVolume, &Mounts, &mut Vec<Coverage>) + 'r;

/// Volumes that were read and must be opened again, since images on them were not.
pub(crate) fn hosts(before: &Findings) -> BTreeSet<String> {
    let mounts = before.mounts.as_ref();
    let pending = mounts.map(|mounts| pending(mounts, before)).unwrap_or_default();
    let hosts = pending.into_iter().map(|image| image.host.to_owned());
    hosts.filter(|host| !before.dead_volumes.contains(host)).collect()
}

/// An image that was not read yet.
struct Pending<'a> {
    name: String,
    host: &'a str,
    image: &'a MountedImage,
}

fn pending<'a>(mounts: &'a BTreeMap<String, Mounts>, before: &Findings) -> Vec<Pending<'a>> {
    let of_host = |(host, mounts): (&'a String, &'a Mounts)| {
        let named = (1_usize..).zip(&mounts.images);
        named.map(move |(number, image)| Pending { name: format!("{host}/image{number}"), host, image })
    };
    // One more than are read: it stands for the rest.
    let first = mounts.iter().flat_map(of_host).take(MAX_IMAGES.saturating_add(1));
    first.filter(|image| !before.is_ended(&image.name)).collect()
}

impl Images<'_> {
    /// Opens each image, has it read, and closes it, one after another: many at once would need much memory.
    pub(crate) fn each(&self, coverage: &mut Vec<Coverage>, read: &mut Read<'_>) {
        let pending = pending(self.mounts, self.before);
        if pending.is_empty() {
            return;
        }
        let row = |image: &Pending<'_>| Coverage::scanned(CoverageKind::Filesystem, &*image.name);
        (self.journal)(Event::Images(&pending.iter().map(row).collect::<Vec<_>>()));
        for (count, image) in (1_usize..).zip(&pending) {
            (self.journal)(Event::Step(Step::Open(&image.name)));
            let opened = catch_unwind(AssertUnwindSafe(|| self.open(image, count)));
            let panicked = FsError::Reader { reader: "reader", what: "the reader panicked while opening" };
            match opened.unwrap_or_else(|_| Err(Box::new(failed(&image.name, &panicked)))) {
                Ok(volume) => {
                    let Pending { image: MountedImage { system, at, .. }, .. } = image;
                    let mount = Mount { system: *system, folder: Vec::new(), at: at.clone() };
                    read(&volume, &Mounts::new(vec![mount]), coverage);
                }
                Err(mut row) => {
                    row.facts.mounted_at = Some(self.view.show(&image.image.at));
                    (self.journal)(Event::Read { row: &row, entries: 0 });
                    coverage.push(*row);
                }
            }
        }
    }

    fn open(&self, image: &Pending<'_>, count: usize) -> Result<OpenVolume, Box<Coverage>> {
        let unread = |status, words| {
            Box::new(Coverage::unread(CoverageKind::Filesystem, &*image.name, status, Reason::words(words)))
        };
        if count > MAX_IMAGES {
            return Err(unread(
                Status::Partial,
                "more images are mounted than are read: this one, and those behind it",
            ));
        }
        let Some(beneath) = self.opened.iter().find(|volume| volume.volume.name == image.host) else {
            return Err(unread(Status::Failed, "what it lies on could not be read"));
        };
        beneath.budget.renew();
        open_one(&image.name, beneath, image.image, self.budget)
    }
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
