//! What scans that died left behind: `stillframe snapshots list` and `stillframe snapshots purge`.
//!
//! Found by both tags, `CreatedBy` and the scan's id, whatever their state. Never touched: what lacks either, and what
//! belongs to a scan whose lock is held. What a dead scan of this state store made is deleted at once, with the `CreatedBy`
//! that it was begun with; of scans that the store does not know there (another machine's, another region's, or of a store
//! that was lost) only what is past its `stillframe:expires-at`, unless all is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{ApiError, Snapshot};
use crate::purge::{PurgeReport, Purger};
use crate::scan_lock::Liveness;
use crate::state::StateError;
use crate::tags::{self, ScanId};

/// What to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepOptions {
    /// Also what this store does not know and what has not expired. Never what is alive here.
    pub all: bool,
    /// Only what is older.
    pub older_than: Option<Duration>,
    /// Only say what would be done.
    pub list_only: bool,
    /// How long to look for the snapshots of calls whose outcome is unknown, and for deleted ones to disappear.
    pub patience: Duration,
}

impl Default for SweepOptions {
    /// Five minutes.
    fn default() -> Self {
        Self { all: false, older_than: None, list_only: false, patience: Duration::from_secs(300) }
    }
}

/// Whose a snapshot is, and so whether it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// A dead scan's of this store: deleted.
    Dead,
    /// A living scan's: left.
    Alive,
    /// Not known here and expired: deleted.
    Expired,
    /// Not known here and not expired, or without a time: left unless all is asked for.
    Unexpired(Option<Timestamp>),
    /// Younger than was asked for: left.
    TooYoung,
}

/// A snapshot of ours that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Its scan.
    pub scan: ScanId,
    /// Whose it is.
    pub claim: Claim,
    /// Whether it is among what was, or would be, deleted.
    pub chosen: bool,
}

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// All snapshots of ours that were listed.
    pub found: Vec<Found>,
    /// What became of each scan that was purged.
    pub purged: BTreeMap<String, PurgeReport>,
    /// Scans of this store that are alive, and so were left alone.
    pub alive: Vec<ScanId>,
}

impl SweepReport {
    /// Whether all that was chosen is gone and nothing can turn up any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.purged.values().all(|report| report.complete)
    }
}

/// Why a sweep could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Our snapshots cannot be listed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The store cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Purger {
    /// Finds what is left in this account and region and deletes what may be.
    ///
    /// # Errors
    /// [`SweepError`]; what could be deleted before it was.
    pub async fn sweep(&self, options: &SweepOptions) -> Result<SweepReport, SweepError> {
        let mut report = SweepReport::default();
        let mut scans = BTreeSet::new();
        for scan in self.state.open_scans(&self.client.caller.place)? {
            match self.is_alive(&scan.id) {
                true => report.alive.push(scan.id),
                // Also without a snapshot in sight: its calls may not be visible yet.
                false if self.is_old_enough(scan.begun, options) => {
                    scans.insert(scan.id);
                }
                false => {}
            }
        }
        let ours = match self.ours().await {
            Ok(ours) => ours,
            Err(error) => {
                // What is known here is deleted all the same.
                if !options.list_only {
                    self.purge_each(scans, options, &mut report).await?;
                }
                return Err(error);
            }
        };
        for (scan, snapshot) in ours {
            let claim = self.claim(&scan, &snapshot, options)?;
            let chosen = match claim {
                Claim::Dead | Claim::Expired => true,
                Claim::Unexpired(_) => options.all,
                Claim::Alive | Claim::TooYoung => false,
            };
            if chosen {
                scans.insert(scan.clone());
            }
            report.found.push(Found { snapshot, scan, claim, chosen });
        }
        // A scan is purged whole: none of it where a part must stay.
        for found in &report.found {
            if !found.chosen {
                scans.remove(&found.scan);
            }
        }
        for found in &mut report.found {
            found.chosen = scans.contains(&found.scan);
        }
        if !options.list_only {
            self.purge_each(scans, options, &mut report).await?;
        }
        Ok(report)
    }

    /// What bears a scan's id and the value of `CreatedBy` that was asked for, or that a scan of this store used there.
    async fn ours(&self) -> Result<Vec<(ScanId, Snapshot)>, SweepError> {
        let asked_for = &self.settings.created_by;
        let mut values = self.state.created_by_values(&self.client.caller.place)?;
        values.insert(asked_for.clone());
        let mut ours = Vec::new();
        for created_by in values {
            for snapshot in self.client.snapshots(&tags::filters_of_all(&created_by)).await? {
                let Some(scan) = tags::scan_of(&snapshot.tags, &created_by) else { continue };
                if created_by == *asked_for || self.is_known(&scan)? {
                    ours.push((scan, snapshot));
                }
            }
        }
        Ok(ours)
    }

    async fn purge_each(
        &self,
        scans: BTreeSet<ScanId>,
        options: &SweepOptions,
        report: &mut SweepReport,
    ) -> Result<(), SweepError> {
        for scan in scans {
            // Asked again: it takes time to come here.
            if self.is_alive(&scan) {
                report.alive.push(scan);
                continue;
            }
            let purged = self.purge_within(&scan, self.patience(&scan, options)?).await?;
            report.purged.insert(scan.to_string(), purged);
        }
        Ok(())
    }

    /// Whether the scan is this store's, and of this account and region: a copy in another one bears its id too.
    fn is_known(&self, scan: &ScanId) -> Result<bool, StateError> {
        Ok(self.state.scan(scan)?.is_some_and(|row| row.place == self.client.caller.place))
    }

    fn claim(&self, scan: &ScanId, snapshot: &Snapshot, options: &SweepOptions) -> Result<Claim, StateError> {
        if self.is_alive(scan) {
            return Ok(Claim::Alive);
        }
        // One without a time is as old as can be: the cloud always gives one.
        if snapshot.started.is_some_and(|started| !self.is_old_enough(started, options)) {
            return Ok(Claim::TooYoung);
        }
        if self.is_known(scan)? {
            return Ok(Claim::Dead);
        }
        let expires_at = tags::expires_at(&snapshot.tags);
        Ok(match expires_at {
            Some(at) if at < self.clock.now() => Claim::Expired,
            _ => Claim::Unexpired(expires_at),
        })
    }

    fn is_alive(&self, scan: &ScanId) -> bool {
        // Who cannot be asked may live.
        !matches!(self.locks.liveness(scan), Ok(Liveness::Dead | Liveness::Unknown))
    }

    fn is_old_enough(&self, begun: Timestamp, options: &SweepOptions) -> bool {
        let age = Duration::try_from(self.clock.now().duration_since(begun)).unwrap_or_default();
        options.older_than.is_none_or(|least| age >= least)
    }

    /// Where calls of unknown outcome are young it takes until their window has passed; else the usual time is enough.
    /// Never longer than whoever waits wants to.
    fn patience(&self, scan: &ScanId, options: &SweepOptions) -> Result<Duration, StateError> {
        let unknown = self.state.unknown_intents(scan)?.len();
        if unknown == 0 {
            return Ok(options.patience.min(self.settings.deadline));
        }
        // Else nobody knows what takes minutes.
        let seconds = options.patience.as_secs();
        tracing::warn!(%scan, calls = unknown, seconds, "calls to create were not confirmed: looking for their snapshots");
        Ok(options.patience)
    }
}
