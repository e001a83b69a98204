//! How far a scan is, for whoever wants to watch: counters that the scan moves and another thread reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the disks have cost so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Bytes read.
    pub bytes: u64,
    /// What else is worth watching: calls, dollars.
    pub note: Option<String>,
}

type Measure = Arc<dyn Fn() -> Measured + Send + Sync>;

/// Counters of a running scan.
#[derive(Default)]
pub struct Progress {
    stage: Mutex<String>,
    is_reading: AtomicBool,
    /// Directory entries walked.
    entries: AtomicU64,
    /// Wanted files that were read, and how many there are in all.
    files_read: AtomicU64,
    files_wanted: AtomicU64,
    measure: Mutex<Option<Measure>>,
}

/// What [`Progress`] said at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What is being done: `reading disk0/p1 (ext4)`.
    pub stage: String,
    /// Whether that is reading: else nothing is walked, and how fast it was is of no interest.
    pub is_reading: bool,
    /// Directory entries walked.
    pub entries: u64,
    /// Wanted files that were read.
    pub files_read: u64,
    /// Wanted files in all.
    pub files_wanted: u64,
    /// What the disks have cost, once there are disks.
    pub measured: Option<Measured>,
}

impl Progress {
    /// Says what is being done now, that is not reading.
    pub fn set_stage(&self, stage: String) {
        self.is_reading.store(false, Ordering::Relaxed);
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Says what is being read now: `disk0/p1 (ext4)`.
    pub fn set_reading(&self, what: &str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = format!("reading {what}");
        self.is_reading.store(true, Ordering::Relaxed);
    }

    /// Sets who knows what the disks cost, from now on.
    pub fn measure(&self, measure: impl Fn() -> Measured + Send + Sync + 'static) {
        *self.measure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(measure));
    }

    /// Counts entries that were walked.
    pub fn add_entries(&self, count: u64) {
        self.entries.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts files that will be read.
    pub fn add_wanted(&self, count: u64) {
        self.files_wanted.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a file that was read.
    pub fn add_read(&self) {
        self.files_read.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the counters to what another process counted: entries, files that were read, and wanted files.
    pub fn set_counts(&self, [entries, files_read, files_wanted]: [u64; 3]) {
        self.entries.store(entries, Ordering::Relaxed);
        self.files_read.store(files_read, Ordering::Relaxed);
        self.files_wanted.store(files_wanted, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let measure = self.measure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Snapshot {
            stage: self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            is_reading: self.is_reading.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            files_read: self.files_read.load(Ordering::Relaxed),
            files_wanted: self.files_wanted.load(Ordering::Relaxed),
            measured: measure.map(|measure| measure()),
        }
    }
}
