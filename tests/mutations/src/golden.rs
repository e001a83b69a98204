use std::ops::Range;
use std::sync::Arc;

use stillframe_block::{BlockSource, Budget, BudgetSource, SparseMemorySource, WindowSource};
use stillframe_fs::{FsError, ReadOnlyFs};
use stillframe_partitions::{PartitionRole, Scheme, read_table};
use stillframe_probe::{Content, FsKind, probe};

use crate::covers::{Covers, Depth};
use crate::dice::Dice;
use crate::disk::Mutant;
use crate::operations;

/// Images with more that is written are left out of long runs: most changes would hit nothing that is read.
pub const MAX_WRITTEN_BYTES: u64 = 5 << 20;

/// One filesystem of a disk.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Where it lies on the disk, in bytes.
    pub range: Range<u64>,
    /// Where its other devices lie, where it has several.
    pub more: Vec<Range<u64>>,
    /// What it is.
    pub kind: FsKind,
}

/// A filesystem that was opened behind a budget.
pub struct Opened {
    /// The budget, which tells whether it was used up.
    pub source: Arc<BudgetSource>,
    /// The filesystem.
    pub fs: Box<dyn ReadOnlyFs>,
}

impl Volume {
    /// Opens it as it lies on `disk`, which may have been changed since it was found.
    ///
    /// # Errors
    /// What its reader fails with.
    pub fn open(&self, disk: Arc<dyn BlockSource>, budget: Budget) -> Result<Opened, FsError> {
        let window = |range: &Range<u64>| {
            Arc::new(WindowSource::new(disk.clone(), range.start, range.end - range.start))
        };
        let source = Arc::new(BudgetSource::new(window(&self.range), budget));
        let device = |range: &Range<u64>| -> Arc<dyn BlockSource> { Arc::new(source.and(window(range))) };
        let more = self.more.iter().map(device).collect();
        let fs = stillframe_readers::open_devices(self.kind, source.clone(), more)?;
        Ok(Opened { source, fs })
    }

    /// Whether the byte at `at` of the disk is on one of its devices.
    #[must_use]
    pub fn holds(&self, at: u64) -> bool {
        self.devices().any(|range| range.contains(&at))
    }

    fn devices(&self) -> impl Iterator<Item = &Range<u64>> {
        std::iter::once(&self.range).chain(&self.more)
    }
}

/// The filesystems that a disk's partition table leads to, or the one that has it to itself. One that has several devices
/// there is told once.
#[must_use]
pub fn volumes(disk: &Arc<dyn BlockSource>) -> Vec<Volume> {
    let whole = || std::iter::once(0..disk.len_bytes()).collect::<Vec<_>>();
    let ranges = match read_table(&**disk) {
        Ok(table) if table.scheme != Scheme::None => {
            let partitions = table.partitions.iter().filter(|part| part.role != PartitionRole::Extended);
            partitions.map(|part| part.start_bytes..part.end_bytes().min(disk.len_bytes())).collect()
        }
        _ => whole(),
    };
    let of = |range: Range<u64>| {
        let window = WindowSource::new(disk.clone(), range.start, range.end.checked_sub(range.start)?);
        match probe(&window).ok()?.content {
            Content::Filesystem(kind) => Some((Volume { range, more: Vec::new(), kind }, window)),
            _ => None,
        }
    };
    let mut volumes: Vec<(Option<[u8; 16]>, Volume)> = Vec::new();
    for (volume, window) in ranges.into_iter().filter_map(of) {
        let device = stillframe_readers::device(volume.kind, &window).ok().flatten();
        let group = device.filter(|device| device.devices > 1).map(|device| device.filesystem);
        match volumes.iter_mut().find(|(known, _)| group.is_some() && *known == group) {
            Some((_, first)) => first.more.push(volume.range),
            None => volumes.push((group, volume)),
        }
    }
    volumes.into_iter().map(|(_, volume)| volume).collect()
}

/// How a mutant's checksums are.
pub type Refreshed = Depth;

/// A golden disk, and what is known of it for changing it.
#[derive(Debug)]
pub struct Golden {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub disk: Arc<SparseMemorySource>,
    /// The offsets of its pages that hold something.
    pub pages: Vec<u64>,
    /// Its filesystems.
    pub volumes: Vec<Volume>,
    /// Its checksums.
    pub covers: Covers,
    /// The ranges of the checksums of metadata: where a change is met.
    pub(crate) metadata: Vec<Range<u64>>,
}

impl Golden {
    /// The golden disk called `name`.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn open(name: &str) -> Self {
        Self::of(name, stillframe_fixtures::golden(name))
    }

    /// `disk` under a name of the caller's.
    #[must_use]
    pub fn of(name: &str, disk: SparseMemorySource) -> Self {
        let disk = Arc::new(disk);
        let pages: Vec<u64> = disk.written_pages().collect();
        let source: Arc<dyn BlockSource> = disk.clone();
        let volumes = volumes(&source);
        let places: Vec<_> = volumes
            .iter()
            .flat_map(|volume| volume.devices().map(|range| (range.clone(), volume.kind.name().to_owned())))
            .collect();
        let covers = Covers::of(&*disk, &pages, &places);
        let metadata = covers.all().iter().filter(|cover| !cover.is_data).map(crate::Cover::bounds).collect();
        Self { name: name.to_owned(), disk, pages, volumes, covers, metadata }
    }

    /// How much of it is written.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.pages.len() as u64 * 4096
    }

    /// The disk, unchanged.
    #[must_use]
    pub fn mutant(&self) -> Mutant {
        Mutant::new(self.disk.clone())
    }

    /// Mutant number `index`, and which checksums were made right in it: with one `seed` always the same.
    #[must_use]
    pub fn mutated(&self, seed: u64, index: u64) -> (Mutant, Refreshed) {
        let mut dice = Dice::of(seed, &self.name, index);
        let depth = match index % 4 {
            0 => Depth::None,
            3 => Depth::Data,
            _ => Depth::Metadata,
        };
        let mut mutant = self.mutant();
        for _ in 0..=dice.below(4) {
            operations::change(self, &mut mutant, &mut dice, depth);
        }
        (mutant, depth)
    }
}
