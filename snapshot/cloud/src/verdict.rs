//! What an answer of the cloud's means for a snapshot that is being made: whether to wait, to ask again, or to give up.

use std::time::Duration;

use crate::api::{ApiError, ErrorKind, Snapshot, SnapshotState};
use crate::lifecycle::SnapshotFault;
use crate::retry::full_jitter;

/// The mean over those that have `ended` and the `pending` ones that tell; `None` where none of these does.
pub(crate) fn mean_percent(ended: usize, pending: &[u8]) -> Option<u8> {
    if pending.is_empty() {
        return None;
    }
    let sum =
        pending.iter().fold(ended.saturating_mul(100), |sum, percent| sum.saturating_add((*percent).into()));
    u8::try_from(sum.checked_div(ended.saturating_add(pending.len()))?).ok()
}

/// `None` while there is something to wait for.
pub(crate) fn judge(snapshot: &Snapshot) -> Option<Result<(), SnapshotFault>> {
    match snapshot.state {
        SnapshotState::Pending | SnapshotState::Recovering => None,
        SnapshotState::Error => Some(Err(SnapshotFault::Failed { message: snapshot.state_message.clone() })),
        SnapshotState::Recoverable => Some(Err(SnapshotFault::InRecycleBin)),
        SnapshotState::Completed if snapshot.storage_tier.as_deref() == Some("archive") => {
            Some(Err(SnapshotFault::Archived))
        }
        SnapshotState::Completed => Some(Ok(())),
    }
}

/// Pauses between lists grow.
pub(crate) fn longer(pause: Duration) -> Duration {
    pause.mul_f64(1.5).min(Duration::from_secs(15))
}

/// Nobody knows whether the call had its effect: a failure of the service says as little as no reply.
pub(crate) fn is_open(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NoReply | ErrorKind::Service)
}

/// No call for a single volume would fare better.
pub(crate) fn is_hopeless(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Credentials | ErrorKind::NotFound | ErrorKind::SnapshotQuota)
}

/// The cloud refuses now, and may not later.
pub(crate) fn may_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Throttled
            | ErrorKind::VolumeRate
            | ErrorKind::ConcurrentSnapshots
            | ErrorKind::PendingSnapshots
    )
}

/// Of each wait; who watches is told as well, so that it need not be a warning.
pub(crate) fn say_wait(error: &ApiError, after: Duration) {
    if after >= Duration::from_secs(5) {
        tracing::info!(%error, seconds = after.as_secs(), "refused for now: waiting before another call");
    }
}

pub(crate) fn pause_after(kind: ErrorKind, number: u32) -> Duration {
    let jitter = |base, cap| full_jitter(Duration::from_secs(base), Duration::from_secs(cap), number);
    match kind {
        ErrorKind::VolumeRate => Duration::from_secs(15).saturating_add(jitter(1, 5)),
        ErrorKind::ConcurrentSnapshots | ErrorKind::PendingSnapshots => {
            Duration::from_secs(5).saturating_add(jitter(5, 60))
        }
        _ => jitter(1, 20),
    }
}
