//! How much is written on volumes, before anything is created: what their last snapshots say. They may be old, so this
//! is good for a plan and an estimate, not for a bill.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::{ApiError, Filter};
use crate::client::Client;

/// A filter takes so many values.
const FILTER_VALUES_AT_MOST: usize = 200;

/// What a volume's last snapshot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The bytes of written blocks.
    pub bytes: u64,
    /// The snapshot.
    pub snapshot_id: String,
    /// When it was begun.
    pub started: Option<Timestamp>,
}

/// What is written on these volumes, by volume. Left out are volumes without a completed snapshot of this account that
/// tells.
///
/// # Errors
/// What the list fails with, after retries.
pub async fn written_bytes(
    client: &Client,
    volume_ids: &[String],
) -> Result<BTreeMap<String, Written>, ApiError> {
    let mut written: BTreeMap<String, Written> = BTreeMap::new();
    for ids in volume_ids.chunks(FILTER_VALUES_AT_MOST) {
        let filters = [
            Filter { name: "volume-id".to_owned(), values: ids.to_vec() },
            Filter { name: "status".to_owned(), values: vec!["completed".to_owned()] },
        ];
        for snapshot in client.snapshots(&filters).await? {
            let Some(bytes) = snapshot.full_size_bytes else { continue };
            let found = Written { bytes, snapshot_id: snapshot.id, started: snapshot.started };
            match written.get(&snapshot.volume_id) {
                Some(known) if known.started >= found.started => {}
                _ => {
                    written.insert(snapshot.volume_id, found);
                }
            }
        }
    }
    Ok(written)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::api::{ErrorKind, SnapshotState};
    use crate::testing::{FakeCompute, Process};

    fn plant(
        cloud: &FakeCompute,
        id: &str,
        volume: &str,
        hours: i64,
        state: SnapshotState,
        bytes: Option<u64>,
    ) {
        cloud.plant(id, state, &[]);
        let mut world = cloud.world();
        let snapshot = &mut world.snapshots.get_mut(id).unwrap().snapshot;
        snapshot.volume_id = volume.to_owned();
        snapshot.full_size_bytes = bytes;
        snapshot.started = Some(Timestamp::from_second(1_700_000_000 + hours * 3_600).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_completed_snapshot_that_tells_counts() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new();
        cloud.world().page_items = 2;
        let done = SnapshotState::Completed;
        plant(&cloud, "snap-1", "vol-1", 5, done, Some(500));
        plant(&cloud, "snap-2", "vol-1", 1, done, Some(100));
        plant(&cloud, "snap-3", "vol-1", 8, done, None);
        plant(&cloud, "snap-4", "vol-1", 9, SnapshotState::Pending, Some(900));
        plant(&cloud, "snap-5", "vol-1", 10, SnapshotState::Error, Some(1_000));
        plant(&cloud, "snap-6", "vol-2", 2, done, Some(0));
        plant(&cloud, "snap-7", "vol-3", 2, SnapshotState::Pending, None);
        plant(&cloud, "snap-8", "vol-9", 2, done, Some(9));
        let process = Process::start(folder.path(), &cloud);
        let volumes: Vec<String> = ["vol-1", "vol-2", "vol-3", "vol-4"].map(str::to_owned).into();
        let written = written_bytes(&process.purger.client, &volumes).await.unwrap();
        let said: Vec<_> = written
            .iter()
            .map(|(volume, found)| (volume.as_str(), found.bytes, found.snapshot_id.as_str()))
            .collect();
        assert_eq!(said, [("vol-1", 500, "snap-1"), ("vol-2", 0, "snap-6")]);
        let at = Timestamp::from_second(1_700_000_000 + 5 * 3600).unwrap();
        assert_eq!(written["vol-1"].started, Some(at));
    }

    #[tokio::test(start_paused = true)]
    async fn many_volumes_are_asked_for_in_chunks_and_none_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = FakeCompute::new();
        let volumes: Vec<String> = (0..450).map(|number| format!("vol-{number}")).collect();
        plant(&cloud, "snap-1", "vol-449", 1, SnapshotState::Completed, Some(7));
        let process = Process::start(folder.path(), &cloud);
        let client = &process.purger.client;
        assert_eq!(written_bytes(client, &[]).await, Ok(BTreeMap::new()));
        assert_eq!(cloud.world().calls, 0);
        assert_eq!(written_bytes(client, &volumes).await.unwrap().len(), 1);
        assert_eq!(cloud.world().calls, 3);
        cloud.world().refusals.insert("ec2:DescribeSnapshots", ErrorKind::AccessDenied);
        assert_eq!(written_bytes(client, &volumes).await.unwrap_err().kind, ErrorKind::AccessDenied);
    }
}
