//! The disks of a machine: counted and cached.

use std::path::Path;
use std::sync::Arc;

use stillframe_block::{
    BlockCache, BlockSource, CachedSource, CountingSource, FileSource, OpenError, ReadCounts,
};

/// One disk of the machine: what is read from it is counted, and kept in a cache that all its disks share.
pub struct Disk {
    /// `disk0`, `disk1`, … in the order given.
    pub name: String,
    /// Its place among the machine's disks.
    pub number: u32,
    /// The image's file name, or the snapshot's id.
    pub label: String,
    /// The name under which a cloud attached it to the machine: `/dev/sdf`.
    pub attached_as: Option<String>,
    counting: Arc<CountingSource>,
    source: Arc<dyn BlockSource>,
}

impl Disk {
    /// Disk number `index` of the machine, read from `source`.
    #[must_use]
    pub fn new(index: u32, label: String, source: Arc<dyn BlockSource>, cache: &Arc<BlockCache>) -> Self {
        let counting = Arc::new(CountingSource::new(source));
        let source = Arc::new(CachedSource::new(counting.clone(), cache.clone(), index));
        let name = format!("disk{index}");
        Self { name, number: index, label, attached_as: None, counting, source }
    }

    /// With the name under which it was attached.
    #[must_use]
    pub fn attached_as(self, device: Option<String>) -> Self {
        Self { attached_as: device, ..self }
    }

    /// Opens image files or block devices as the disks of one machine.
    ///
    /// # Errors
    /// [`OpenError`] for the first that cannot be opened.
    pub fn open_all(paths: &[impl AsRef<Path>], cache_bytes: u64) -> Result<Vec<Self>, OpenError> {
        let cache = BlockCache::new(cache_bytes);
        let mut disks = Vec::new();
        for (index, path) in (0..).zip(paths) {
            let path = path.as_ref();
            let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            disks.push(Self::new(index, label, Arc::new(FileSource::open(path)?), &cache));
        }
        Ok(disks)
    }

    /// What to read it through.
    #[must_use]
    pub fn source(&self) -> Arc<dyn BlockSource> {
        self.source.clone()
    }

    /// What counts what is read of it.
    #[must_use]
    pub fn counter(&self) -> Arc<CountingSource> {
        self.counting.clone()
    }

    /// What was read of it so far.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        self.counting.counts()
    }
}
