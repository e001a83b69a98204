//! The SDK's own client against the fake in the same process, without a socket and on a clock that stands still until
//! everybody waits for it: hours pass in moments.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use fake_aws::{Clock as _, Content, DEFAULT_REGION, Device, Estate, Instance, TokioClock, Volume, World};
use http_body_util::BodyExt;
use jiff::Timestamp;
use stillframe_aws::{Connection, Options};
use stillframe_cloud::audit::{AuditLog, verify};
use stillframe_cloud::client::{CallCounts, Caller, Client};
use stillframe_cloud::clock::Clock;
use stillframe_cloud::cost::Prices;
use stillframe_cloud::discover::{Exclusions, Selection, discover};
use stillframe_cloud::lifecycle::{Lifecycle, LifecycleSettings, SnapshotOrder};
use stillframe_cloud::limiter::{Limiter, Rates};
use stillframe_cloud::purge::{PurgeGuard, PurgeOutcome, PurgeSettings, Purger};
use stillframe_cloud::retry::RetryPolicy;
use stillframe_cloud::scan_lock::LockFolder;
use stillframe_cloud::snapshot_source::{EbsSource, ReadLimit, SourceMemory};
use stillframe_cloud::state::StateStore;
use stillframe_cloud::tags::ScanId;

const MACHINE: &str = "i-0123456789abcdef0";
const BLOCK_BYTES: usize = 512 * 1024;
/// How long a snapshot is pending.
const PENDING: Duration = Duration::from_secs(50 * 60);

/// The fake as the SDK's HTTP client. The SDK's own timeouts stay as they are.
#[derive(Debug, Clone)]
struct Wire(World);

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = self.0.clone();
        HttpConnectorFuture::new(async move {
            let (head, body) = request.try_into_http1x().map_err(|error| lost(error.into()))?.into_parts();
            let body = body.collect().await.map_err(lost)?.to_bytes();
            let answer = world.answer(http::Request::from_parts(head, body)).await;
            let answer = answer.map_err(|broken| lost(broken.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x)).map_err(|error| lost(error.into()))
        })
    }
}

fn lost(error: Box<dyn std::error::Error + Send + Sync>) -> ConnectorError {
    ConnectorError::io(error)
}

/// The fake's clock, which is the runtime's, for our side.
#[derive(Debug)]
struct Virtual(Arc<TokioClock>);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(i64::try_from(self.0.now().as_millis()).unwrap()).unwrap()
    }
}

/// A machine of one disk of which the first four blocks are written, and what lies in its first six.
fn world(clock: Arc<TokioClock>, folder: &std::path::Path) -> (World, Vec<u8>) {
    let mut bytes = vec![0; 6 * BLOCK_BYTES];
    for (block, value) in [(1, 0x11), (3, 0x33)] {
        bytes[block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES].fill(value);
    }
    let image = folder.join("disk.img");
    fs::write(&image, &bytes[..4 * BLOCK_BYTES]).unwrap();
    fs::File::options().write(true).open(&image).unwrap().set_len(1 << 30).unwrap();
    let content = Content { image: Some(image), ..Content::default() };
    let device = Device { name: "/dev/xvda".to_owned(), volume: Some("vol-0aaaaaaaaaaaaaaa1".to_owned()) };
    let mut estate = Estate {
        volumes: vec![Volume { id: "vol-0aaaaaaaaaaaaaaa1".to_owned(), content, ..Volume::default() }],
        instances: vec![Instance {
            id: MACHINE.to_owned(),
            root_device_name: "/dev/xvda".to_owned(),
            devices: vec![device],
            ..Instance::default()
        }],
        ..Estate::default()
    };
    estate.settings.snapshot_delay_ms = u64::try_from(PENDING.as_millis()).unwrap();
    (World::of(clock, estate), bytes)
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_created_waited_for_read_and_purged_without_a_socket() {
    let (real, began) = (std::time::Instant::now(), tokio::time::Instant::now());
    let folder = tempfile::tempdir().unwrap();
    let time = Arc::new(TokioClock::new());
    let clock: Arc<dyn Clock> = Arc::new(Virtual(Arc::clone(&time)));
    let (world, expected) = world(time, folder.path());
    let options = Options::in_process(Wire(world.clone()), DEFAULT_REGION, "AKIDTEST");
    let connection = Connection::open(&options).await.unwrap();
    let audit_path = folder.path().join("audit.jsonl");
    let caller = Caller {
        place: connection.caller().await.unwrap(),
        limiter: Limiter::new(Rates::default()),
        retry: RetryPolicy::default(),
        time_limit: Duration::from_secs(65),
        audit: Arc::new(AuditLog::open(&audit_path, clock.clone()).unwrap()),
        counts: Arc::new(CallCounts::default()),
    };
    let client = Client { compute: Arc::new(connection.clone()), caller: caller.clone() };
    let selection = Selection { ids: vec![MACHINE.to_owned()], ..Selection::default() };
    let found = discover(&client, &selection, &Exclusions::default()).await.unwrap();
    let volume_ids: Vec<String> = found.instances[0].volumes().map(|volume| volume.id.clone()).collect();
    assert_eq!(volume_ids, ["vol-0aaaaaaaaaaaaaaa1"]);

    let state_path = folder.path().join("state.db");
    let state = Arc::new(StateStore::open(&state_path).unwrap());
    let locks = LockFolder::beside(&state_path).unwrap();
    let scan = ScanId::random().unwrap();
    let lock = locks.take(&scan).unwrap();
    let created_by = PurgeSettings::default().created_by;
    state.begin_scan(&scan, &caller.place, &created_by, clock.now()).unwrap();
    let purger = Purger {
        client: client.clone(),
        state: state.clone(),
        locks,
        clock: clock.clone(),
        settings: PurgeSettings::default(),
    };
    let guard = PurgeGuard::new(purger, scan.clone());
    let lifecycle = Lifecycle { client, state, clock: clock.clone(), settings: LifecycleSettings::default() };
    let order = SnapshotOrder {
        scan,
        instance_id: MACHINE.to_owned(),
        volume_ids,
        leave_out_root: false,
        leave_out_data: Vec::new(),
        expires_at: clock.now() + jiff::SignedDuration::from_hours(12),
        user_tags: [].into(),
    };
    let taken = lifecycle.run(&order, &|_| {}).await.unwrap();
    assert_eq!((taken.good.len(), &taken.failed), (1, &Vec::new()));
    assert!(began.elapsed() >= PENDING, "{:?}", began.elapsed());

    let snapshot = taken.good[0].id.clone();
    let limit = ReadLimit::new(None, None, Prices::default());
    let blocks = Arc::new(connection.clone());
    let source =
        EbsSource::open(caller.clone(), blocks, snapshot, SourceMemory::default(), limit).await.unwrap();
    let mut disk = vec![0xff; 6 * BLOCK_BYTES];
    source.read(0, &mut disk).await.unwrap();
    assert!(disk == expected);
    drop(source);

    let purged = guard.purge().await.unwrap();
    assert!(purged.complete && purged.unknown_intents == 0, "{purged:?}");
    let [receipt] = &purged.receipts[..] else { panic!("{purged:?}") };
    assert_eq!(receipt.outcome, PurgeOutcome::Gone);
    assert!(receipt.lifetime >= PENDING && receipt.lifetime < began.elapsed() + Duration::from_secs(1));
    lock.finish();
    assert_eq!(world.leaks(), Vec::<String>::new());
    caller.audit.conclude().unwrap();
    // A list, four blocks, and each change before and after.
    assert_eq!(verify(&audit_path).unwrap().lines, 1 + 4 + 2 + 2);
    assert!(real.elapsed() < PENDING / 10, "the clock was not virtual: {:?}", real.elapsed());
}
