//! What is asked before a scan, through the SDK's clients, of the project's fake AWS: machines' instance stores, what is
//! written, and whether a scan may do what it needs to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and reads what it wrote itself"
)]

use std::sync::Arc;
use std::time::Duration;

use fake_aws::{
    Account, Content, Device, Estate, Fault, Instance, Rule, Running, Snapshot, TokioClock, Volume, World,
};
use stillframe_aws::{Connection, Options};
use stillframe_cloud::api::{Advice, Blocks, Compute, ErrorKind, KeyState};
use stillframe_cloud::audit::AuditLog;
use stillframe_cloud::client::{CallCounts, Caller, Client};
use stillframe_cloud::clock::SystemClock;
use stillframe_cloud::discover::{DiskSkip, Exclusions, InstanceStore, Selection, discover};
use stillframe_cloud::limiter::{Limiter, Rates};
use stillframe_cloud::policy::{Partition, Role, document};
use stillframe_cloud::preflight::{Check, PreflightOrder, Verdict, preflight};
use stillframe_cloud::retry::RetryPolicy;
use stillframe_cloud::tags::DEFAULT_CREATED_BY;
use stillframe_cloud::written::written_bytes;

const REGION: &str = fake_aws::DEFAULT_REGION;
const KEY: &str = "arn:aws:kms:us-east-1:111111111111:key/1234abcd";
const GETS: &str = "quota L-C125AE42: GetSnapshotBlock calls a second";

/// A machine of two disks, one of them encrypted, with an instance store; and a snapshot of ours of an earlier scan.
fn estate() -> Estate {
    let volume = |id: &str| Volume { id: id.to_owned(), ..Volume::default() };
    let secret = Volume { encrypted: true, kms_key_id: Some(KEY.to_owned()), ..volume("vol-0b") };
    let device = |name: &str, volume: &str| Device { name: name.to_owned(), volume: Some(volume.to_owned()) };
    let instance = Instance {
        id: "i-0a".to_owned(),
        instance_type: "m5d.large".to_owned(),
        devices: vec![device("/dev/xvda", "vol-0a"), device("/dev/sdf", "vol-0b")],
        ..Instance::default()
    };
    let tags = [("CreatedBy", DEFAULT_CREATED_BY), ("stillframe:scan-id", "0123456789abcdef")];
    let earlier = Snapshot {
        id: "snap-0a".to_owned(),
        volume_id: "vol-0a".to_owned(),
        content: Content { pattern_blocks: 7, ..Content::default() },
        tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ..Snapshot::default()
    };
    let mut estate = Estate {
        instances: vec![instance],
        volumes: vec![volume("vol-0a"), secret],
        snapshots: vec![earlier],
        ..Estate::default()
    };
    estate.instance_types.insert("m5d.large".to_owned(), 75);
    let policy = document(Role::Single, DEFAULT_CREATED_BY, Partition::default());
    estate.accounts[0].policy = Some(policy.try_into().unwrap());
    estate
}

fn start(estate: Estate) -> Running {
    fake_aws::serve(World::of(Arc::new(TokioClock::new()), estate)).unwrap()
}

async fn connect(fake: &Running) -> Connection {
    Connection::open(&Options::loopback(&fake.url(), REGION, "AKIDFORTESTS")).await.unwrap()
}

async fn client(connection: &Connection, folder: &std::path::Path) -> Client {
    let caller = Caller {
        place: connection.caller().await.unwrap(),
        limiter: Limiter::new(Rates::default()),
        retry: RetryPolicy { attempts: 3, base: Duration::from_millis(1), ..RetryPolicy::default() },
        time_limit: Duration::from_secs(30),
        audit: Arc::new(AuditLog::open(&folder.join("audit.jsonl"), Arc::new(SystemClock)).unwrap()),
        counts: Arc::new(CallCounts::default()),
    };
    Client { compute: Arc::new(connection.clone()), caller }
}

async fn checked(change: impl FnOnce(&mut Estate)) -> (Vec<Check>, World) {
    let mut estate = estate();
    change(&mut estate);
    let fake = start(estate);
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&fake).await;
    let client = client(&connection, folder.path()).await;
    let order = PreflightOrder {
        role: Role::Single,
        created_by: DEFAULT_CREATED_BY.to_owned(),
        user_tags: [("team".to_owned(), "blue".to_owned())].into(),
        selection: Selection::default(),
        exclusions: Exclusions::default(),
        rates: Rates::default(),
        pending_snapshots: 100,
        now: jiff::Timestamp::from_second(1_790_000_000).unwrap(),
    };
    let checks = preflight(&client, &connection, &order).await;
    assert_eq!(fake.world.estate().snapshots.len(), 1, "nothing is made");
    assert_eq!(fake.world.leaks(), ["snap-0a"], "nothing is deleted");
    (checks, fake.world.clone())
}

fn of<'a>(checks: &'a [Check], what: &str) -> &'a Verdict {
    let found: Vec<_> = checks.iter().filter(|check| check.what == what).collect();
    let [check] = found[..] else { panic!("{what}: {checks:#?}") };
    &check.verdict
}

/// What is neither allowed nor known to be unknowable.
fn noted(checks: &[Check]) -> Vec<&str> {
    const NO_DRY_RUN: [&str; 4] =
        ["ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock", "kms:Decrypt", "rbin:GetRule"];
    let rest = checks.iter().filter(|check| check.verdict != Verdict::Allowed);
    let what = rest.map(|check| check.what.as_str());
    what.filter(|what| !NO_DRY_RUN.contains(what)).collect()
}

#[tokio::test]
async fn instance_stores_and_written_bytes_are_known_before_a_scan() {
    let fake = start(estate());
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&fake).await;
    let stores = connection.instance_store_gib(&["m5d.large".to_owned()]).await.unwrap();
    assert_eq!(stores, [("m5d.large".to_owned(), 75)].into());
    let unknown = connection.instance_store_gib(&["x9.huge".to_owned()]).await.unwrap_err();
    assert_eq!((unknown.kind, unknown.code.as_str()), (ErrorKind::Invalid, "InvalidInstanceType"));

    let client = client(&connection, folder.path()).await;
    let found = discover(&client, &Selection::default(), &Exclusions::default()).await.unwrap();
    let planned = &found.instances[0];
    assert_eq!(planned.instance_store, InstanceStore::Gib(75));
    let skips: Vec<_> = planned.disks.iter().map(|disk| disk.skipped.clone()).collect();
    assert_eq!(skips, [None, None, Some(DiskSkip::InstanceStore)]);

    let volumes: Vec<String> = planned.volumes().map(|volume| volume.id.clone()).collect();
    let written = written_bytes(&client, &volumes).await.unwrap();
    assert_eq!(written.len(), 1);
    assert_eq!((written["vol-0a"].bytes, written["vol-0a"].snapshot_id.as_str()), (7 << 19, "snap-0a"));

    fake.world.change(|estate| {
        estate.accounts[0].denied_actions.push("ec2:DescribeInstanceTypes".to_owned());
    });
    let found = discover(&client, &Selection::default(), &Exclusions::default()).await.unwrap();
    assert_eq!((found.instances[0].skipped.as_ref(), found.instances[0].disks.len()), (None, 2));
    let InstanceStore::Unknown(error) = &found.instances[0].instance_store else { panic!("{found:?}") };
    assert_eq!(error.to_string(), "ec2:DescribeInstanceTypes m5d.large: UnauthorizedOperation");
}

#[tokio::test]
async fn keys_rules_and_quotas_as_the_services_tell_them() {
    let mut estate = estate();
    estate.accounts[0] = Account {
        recycle_bin_days: Some(30),
        recycle_bin_exclusion: Some(("CreatedBy".to_owned(), "x".to_owned())),
        key_states: [(KEY.to_owned(), "PendingImport".to_owned())].into(),
        ..estate.accounts[0].clone()
    };
    estate.settings.quotas.gets_per_second = 5_000.0;
    let fake = start(estate);
    let connection = connect(&fake).await;
    assert_eq!(connection.describe_key(KEY).await, Ok(KeyState::Other("PendingImport".to_owned())));
    let gone = connection.describe_key("arn:aws:kms:us-east-1:111111111111:key/none").await.unwrap_err();
    assert_eq!((gone.kind, gone.code.as_str()), (ErrorKind::NotFound, "NotFoundException"));
    assert!(gone.request_id.is_some());

    let rules = connection.recycle_bin_rules(None).await.unwrap();
    assert_eq!((rules.items.len(), rules.next), (1, None));
    let rule = connection.recycle_bin_rule(&rules.items[0]).await.unwrap();
    assert_eq!((rule.days, rule.covers_snapshots, rule.locked), (30, true, false));
    assert_eq!(rule.exclude_tags, [("CreatedBy".to_owned(), Some("x".to_owned()))]);
    assert_eq!(rule.resource_tags, []);
    let gone = connection.recycle_bin_rule("aaaaaaaaaaa").await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound, "{gone}");

    assert_eq!(connection.quota("ebs", "L-C125AE42").await, Ok(Some(5_000.0)));
    assert_eq!(connection.default_quota("ebs", "L-C125AE42").await, Ok(Some(1_000.0)));
    assert_eq!(connection.quota("ebs", "L-18E976AB").await, Ok(None), "nobody set it");
    assert_eq!(connection.default_quota("ebs", "L-18E976AB").await, Ok(Some(50.0)));
    assert_eq!(connection.default_quota("ebs", "L-00000000").await, Ok(None));

    let faults = [
        (Fault::Throttle { code: None }, ErrorKind::Throttled),
        (Fault::Http { status: 500 }, ErrorKind::Service),
        (Fault::Reset, ErrorKind::NoReply),
    ];
    for (fault, kind) in faults {
        for operation in ["DescribeKey", "ListRules", "GetServiceQuota"] {
            fake.world.add_fault(Rule::always(operation, fault.clone()));
        }
        assert_eq!(connection.describe_key(KEY).await.unwrap_err().kind, kind);
        assert_eq!(connection.recycle_bin_rules(None).await.unwrap_err().kind, kind);
        assert_eq!(connection.quota("ebs", "L-C125AE42").await.unwrap_err().kind, kind);
        fake.world.clear_faults();
    }
}

#[tokio::test]
async fn all_is_allowed() {
    let (checks, world) = checked(|_| ()).await;
    assert_eq!(noted(&checks), Vec::<&str>::new(), "{checks:#?}");
    assert_eq!(of(&checks, &format!("KMS key {KEY}")), &Verdict::Allowed);
    let tried: Vec<_> =
        world.events().into_iter().filter(|event| event.effect == "DryRunOperation").collect();
    let mut operations: Vec<_> = tried.iter().map(|event| event.operation.as_str()).collect();
    operations.sort_unstable();
    assert_eq!(
        operations,
        [
            "CreateSnapshot",
            "CreateSnapshots",
            "DeleteSnapshot",
            "DescribeInstances",
            "DescribeSnapshots",
            "DescribeVolumes",
        ]
    );
}

#[tokio::test]
async fn what_is_denied_is_missing_and_nothing_else_is() {
    let actions = [
        "ec2:CreateSnapshots",
        "ec2:CreateSnapshot",
        "ec2:DeleteSnapshot",
        "ec2:DescribeRegions",
        "ec2:DescribeInstanceTypes",
        "ec2:ListSnapshotsInRecycleBin",
        "servicequotas:GetAWSDefaultServiceQuota",
    ];
    for action in actions {
        let (checks, _) = checked(|estate| estate.accounts[0].denied_actions.push(action.to_owned())).await;
        let Verdict::Missing { code, fix } = of(&checks, action) else { panic!("{action}: {checks:#?}") };
        let expected =
            if action.starts_with("ec2:") { "UnauthorizedOperation" } else { "AccessDeniedException" };
        assert_eq!(code, expected);
        assert!(fix.contains(action) && fix.contains("`stillframe aws policy`"), "{fix}");
        let others: Vec<_> = noted(&checks).into_iter().filter(|what| *what != action).collect();
        // Three quotas that nobody set are those of every account, which may not be asked for then.
        let expected = if action.starts_with("servicequotas:") { 3 } else { 0 };
        assert_eq!(others.len(), expected, "{action}: {others:?}");
    }
}

#[tokio::test]
async fn a_denied_tag_is_told_from_a_denied_snapshot() {
    let (checks, _) =
        checked(|estate| estate.accounts[0].denied_actions.push("ec2:CreateTags".to_owned())).await;
    let Verdict::Missing { code, .. } = of(&checks, "ec2:CreateTags") else { panic!("{checks:#?}") };
    assert_eq!(code, "UnauthorizedOperation: ec2:CreateTags");
    for action in ["ec2:CreateSnapshots", "ec2:CreateSnapshot"] {
        assert!(matches!(of(&checks, action), Verdict::Unknown { why } if why.contains("ec2:CreateTags")));
    }
}

#[tokio::test]
async fn services_that_are_not_needed_are_only_missed() {
    let denied = ["kms:*", "rbin:*", "servicequotas:*"];
    let (checks, _) =
        checked(|estate| estate.accounts[0].denied_actions.extend(denied.map(str::to_owned))).await;
    for action in ["kms:DescribeKey", "rbin:ListRules", "servicequotas:GetServiceQuota"] {
        assert!(matches!(of(&checks, action), Verdict::Missing { .. }), "{action}: {checks:#?}");
    }
    assert_eq!(of(&checks, "ec2:CreateSnapshots"), &Verdict::Allowed);
    assert_eq!(of(&checks, "ec2:DeleteSnapshot"), &Verdict::Allowed);
}

#[tokio::test]
async fn a_rule_of_the_recycle_bin_is_warned_of_where_it_keeps_ours() {
    let warned = |checks: &[Check]| -> Option<(String, String)> {
        checks.iter().find_map(|check| match &check.verdict {
            Verdict::Warning { found, fix } if check.what.starts_with("Recycle Bin rule ") => {
                Some((found.clone(), fix.clone()))
            }
            _ => None,
        })
    };
    let (checks, _) = checked(|estate| estate.accounts[0].recycle_bin_days = Some(7)).await;
    let (found, fix) = warned(&checks).unwrap();
    assert!(found.ends_with("for 7 days"), "{found}");
    assert!(fix.contains("CreatedBy=Microsoft Defender for Cloud"), "{fix}");
    assert_eq!(of(&checks, "rbin:GetRule"), &Verdict::Allowed);

    let rule = |exclusion: Option<(&str, &str)>, tag: Option<(&str, &str)>| {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let (exclusion, tag) = (exclusion.map(owned), tag.map(owned));
        move |estate: &mut Estate| {
            estate.accounts[0].recycle_bin_days = Some(7);
            estate.accounts[0].recycle_bin_exclusion = exclusion;
            estate.accounts[0].recycle_bin_tag = tag;
        }
    };
    let ours = Some(("CreatedBy", DEFAULT_CREATED_BY));
    for (exclusion, tag, is_kept) in [
        (ours, None, false),
        (Some(("CreatedBy", "someone else")), None, true),
        (None, Some(("team", "red")), false),
        (None, Some(("team", "blue")), true),
    ] {
        let (checks, _) = checked(rule(exclusion, tag)).await;
        assert_eq!(warned(&checks).is_some(), is_kept, "{exclusion:?} {tag:?}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_said() {
    for state in ["Disabled", "PendingDeletion"] {
        let (checks, _) = checked(|estate| {
            estate.accounts[0].key_states.insert(KEY.to_owned(), state.to_owned());
        })
        .await;
        let Verdict::Missing { code, fix } = of(&checks, &format!("KMS key {KEY}")) else {
            panic!("{state}")
        };
        assert_eq!(code, state);
        assert!(fix.contains("leave its disks out"), "{fix}");
        assert_eq!(of(&checks, "kms:DescribeKey"), &Verdict::Allowed);
    }
}

#[tokio::test]
async fn blocks_of_a_disabled_key_are_refused_for_the_key() {
    let mut estate = estate();
    estate.snapshots[0].kms_key_id = Some(KEY.to_owned());
    let fake = start(estate);
    let connection = connect(&fake).await;
    let token = connection.list_snapshot_blocks("snap-0a", 0, None).await.unwrap().blocks[0].token.clone();
    assert!(connection.get_snapshot_block("snap-0a", 0, &token).await.is_ok());
    fake.world.change(|estate| {
        estate.accounts[0].key_states.insert(KEY.to_owned(), "Disabled".to_owned());
    });
    let refused = connection.get_snapshot_block("snap-0a", 0, &token).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::KmsDenied, "{refused}");
}

#[tokio::test]
async fn a_quota_below_the_rate_is_said() {
    let (checks, _) = checked(|estate| {
        estate.settings.quotas.gets_per_second = 200.0;
        estate.settings.quotas.pending_snapshots = 20;
    })
    .await;
    let Verdict::Warning { found, .. } = of(&checks, GETS) else { panic!("{checks:#?}") };
    assert_eq!(found, "the quota is 200, the scan is set to 400");
    assert!(matches!(of(&checks, "quota L-94D7AB7D: pending snapshots"), Verdict::Warning { .. }));
    assert_eq!(of(&checks, "quota L-18E976AB: ListSnapshotBlocks calls a second"), &Verdict::Allowed);
}
