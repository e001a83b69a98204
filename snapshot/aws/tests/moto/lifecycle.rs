//! The whole lifecycle, and reads through the block source.

use std::sync::Arc;
use std::time::Duration;

use stillframe_aws::{Connection, Options};
use stillframe_block::{BLOCK_BYTES as BLOCK, BlockSource};
use stillframe_cloud::api::{Answer, BlockData, BlockPage, Blocks};
use stillframe_cloud::audit::{AuditLog, verify};
use stillframe_cloud::client::{CallCounts, Caller, Client};
use stillframe_cloud::clock::{Clock, SystemClock};
use stillframe_cloud::cost::Prices;
use stillframe_cloud::discover::{Exclusions, Selection, discover};
use stillframe_cloud::lifecycle::{Lifecycle, LifecycleSettings, SnapshotOrder};
use stillframe_cloud::limiter::{Limiter, Rates};
use stillframe_cloud::purge::{PurgeGuard, PurgeOutcome, PurgeSettings, Purger};
use stillframe_cloud::retry::RetryPolicy;
use stillframe_cloud::scan_lock::LockFolder;
use stillframe_cloud::snapshot_source::{EbsSource, ReadLimit, SourceError, SourceMemory};
use stillframe_cloud::state::StateStore;
use stillframe_cloud::sweep::SweepOptions;
use stillframe_cloud::tags::{DEFAULT_CREATED_BY, ScanId};

use crate::server::{BLOCK_BYTES, Moto};

/// Corrects the one field that stock moto has wrong: a block has 524,288 bytes, and it says 512.
struct RightBlockSize(Connection);

impl Blocks for RightBlockSize {
    fn list_snapshot_blocks(&self, id: &str, from: u32, page: Option<String>) -> Answer<'_, BlockPage> {
        let listed = self.0.list_snapshot_blocks(id, from, page);
        Box::pin(async {
            let mut page = listed.await?;
            assert_eq!(page.block_size_bytes, 512, "moto has learnt it: the correction can go");
            page.block_size_bytes = 524_288;
            Ok(page)
        })
    }

    fn get_snapshot_block(&self, id: &str, block: u32, token: &str) -> Answer<'_, BlockData> {
        self.0.get_snapshot_block(id, block, token)
    }
}

struct Scene {
    connection: Connection,
    client: Client,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn of(moto: &Moto) -> Self {
        let connection =
            Connection::open(&Options::loopback(&moto.url, "eu-west-3", "AKIDFORTESTS")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let audit = AuditLog::open(&folder.path().join("audit.jsonl"), Arc::new(SystemClock)).unwrap();
        let caller = Caller {
            place: connection.caller().await.unwrap(),
            limiter: Limiter::new(Rates::default()),
            // What moto has not got it answers with 500, for ever.
            retry: RetryPolicy { attempts: 2, ..RetryPolicy::default() },
            time_limit: Duration::from_secs(30),
            audit: Arc::new(audit),
            counts: Arc::new(CallCounts::default()),
        };
        let client = Client { compute: Arc::new(connection.clone()), caller };
        Self { connection, client, folder }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_goes_through_its_whole_lifecycle() {
    let moto = Moto::start();
    let instance_id = moto.start_machine().await;
    let scene = Scene::of(&moto).await;
    let selection = Selection { ids: vec![instance_id.clone()], ..Selection::default() };
    let found = discover(&scene.client, &selection, &Exclusions::default()).await.unwrap();
    let planned = &found.instances[0];
    let volume_ids: Vec<String> = planned.volumes().map(|volume| volume.id.clone()).collect();
    assert_eq!((volume_ids.len(), planned.skipped.as_ref()), (2, None));

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let state_path = scene.folder.path().join("state.db");
    let state = Arc::new(StateStore::open(&state_path).unwrap());
    let locks = LockFolder::beside(&state_path).unwrap();
    let scan = ScanId::random().unwrap();
    let lock = locks.take(&scan).unwrap();
    state.begin_scan(&scan, &scene.client.caller.place, DEFAULT_CREATED_BY, clock.now()).unwrap();
    let purger = Purger {
        client: scene.client.clone(),
        state: state.clone(),
        locks: locks.clone(),
        clock: clock.clone(),
        settings: PurgeSettings::default(),
    };
    let guard = PurgeGuard::new(purger.clone(), scan.clone());
    let lifecycle = Lifecycle {
        client: scene.client.clone(),
        state,
        clock: clock.clone(),
        settings: LifecycleSettings::default(),
    };
    let order = SnapshotOrder {
        scan: scan.clone(),
        instance_id,
        volume_ids,
        leave_out_root: false,
        leave_out_data: Vec::new(),
        expires_at: clock.now() + jiff::SignedDuration::from_hours(1),
        user_tags: [("team".to_owned(), "blue".to_owned())].into(),
    };
    let taken = lifecycle.run(&order, &|_| {}).await.unwrap();
    assert_eq!((taken.good.len(), taken.failed), (2, Vec::new()));
    for snapshot in &taken.good {
        assert_eq!(snapshot.tags["CreatedBy"], "Microsoft Defender for Cloud");
        assert_eq!(snapshot.tags["stillframe:scan-id"], scan.as_str());
        assert_eq!(snapshot.tags["team"], "blue");
    }
    // While the scan lives a sweep leaves it alone.
    let sweep = purger.sweep(&SweepOptions::default()).await.unwrap();
    assert_eq!((sweep.found.len(), sweep.purged.len()), (2, 0));

    let purged = guard.purge().await.unwrap();
    assert!(purged.receipts.iter().all(|receipt| receipt.outcome == PurgeOutcome::Gone), "{purged:?}");
    assert_eq!((purged.receipts.len(), purged.unknown_intents, purged.complete), (2, 0, true));
    // moto has no Recycle Bin, and says so by failing: that is told, and hides nothing.
    assert!(purged.recycle_bin_error.is_some());
    lock.finish();
    let left = purger.sweep(&SweepOptions { all: true, ..SweepOptions::default() }).await.unwrap();
    assert_eq!(left.found, []);
    scene.client.caller.audit.flush().unwrap();
    // A creating call, two deleting ones, and that they were about to be made.
    assert_eq!(verify(&scene.folder.path().join("audit.jsonl")).unwrap().lines, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_snapshot_reads_as_a_disk() {
    let moto = Moto::start();
    let snapshot_id = moto.upload(&[(0, 0x11), (7, 0x22), (2_047, 0x33)]).await;
    let scene = Scene::of(&moto).await;
    let open = async |blocks: Arc<dyn Blocks>| {
        let limit = ReadLimit::new(None, None, Prices::default());
        let (caller, memory) = (scene.client.caller.clone(), SourceMemory::default());
        EbsSource::open(caller, blocks, snapshot_id.clone(), memory, limit).await
    };
    // As it is, it is no service that we know.
    let refused = open(Arc::new(scene.connection.clone())).await.err().unwrap();
    assert_eq!(refused, SourceError::BlockSize { found: 512 });

    let source = open(Arc::new(RightBlockSize(scene.connection.clone()))).await.unwrap();
    assert_eq!(source.len_bytes(), 1 << 30);
    let disk = tokio::task::spawn_blocking(move || {
        let mut disk = vec![0xff; 1 << 30];
        source.read_exact_at(0, &mut disk).unwrap();
        disk
    });
    let disk = disk.await.unwrap();
    for (number, block) in (0_u64..).zip(disk.chunks(BLOCK_BYTES)) {
        let byte = match number {
            0 => 0x11,
            7 => 0x22,
            2_047 => 0x33,
            _ => 0,
        };
        assert!(block.iter().all(|found| *found == byte), "block at {:#x}", number * BLOCK);
    }
}
