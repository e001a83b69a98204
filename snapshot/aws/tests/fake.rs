//! Against the project's fake AWS, over a socket: a machine's disks from discovery to purge, and what can go wrong.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and reads what it wrote itself"
)]

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use base64::Engine;
use fake_aws::{
    Account, Content, Device, Estate, Fault, Instance, Role, Rule, Running, TokioClock, Volume, World,
};
use sha2::{Digest, Sha256};
use stillframe_aws::{Connection, Options};
use stillframe_cloud::api::{
    Blocks, Compute, CreateSet, DryRunAction, ErrorKind, Filter, SnapshotState, Tags,
};
use stillframe_cloud::policy::{self, Partition, document};
use stillframe_cloud::tags::DEFAULT_CREATED_BY;

const BLOCK_BYTES: usize = 524_288;
const REGION: &str = fake_aws::DEFAULT_REGION;
const TARGET: &str = "222222222222";
const KEY: &str = "arn:aws:kms:us-east-1:222222222222:key/k";

/// A machine of two disks in another account, that a role leads to. The returned file is the first disk.
fn estate() -> (Estate, tempfile::NamedTempFile) {
    let mut disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 30).unwrap();
    for (block, byte) in [(0, 0x11), (5, 0x22), (2_047, 0x33)] {
        disk.seek(SeekFrom::Start(block * BLOCK_BYTES as u64)).unwrap();
        disk.write_all(&vec![byte; BLOCK_BYTES]).unwrap();
    }
    disk.flush().unwrap();
    let volume = |id: &str| Volume { id: id.to_owned(), account: TARGET.to_owned(), ..Volume::default() };
    let root = Volume {
        content: Content { image: Some(disk.path().to_owned()), ..Content::default() },
        ..volume("vol-0a")
    };
    let data = Volume {
        size_gib: 16_384,
        encrypted: true,
        kms_key_id: Some(KEY.to_owned()),
        content: Content { pattern_blocks: 25_000, ..Content::default() },
        ..volume("vol-0b")
    };
    let devices = [("/dev/xvda", "vol-0a"), ("/dev/sdf", "vol-0b")];
    let device =
        |(name, volume): (&str, &str)| Device { name: name.to_owned(), volume: Some(volume.to_owned()) };
    let instance = Instance {
        id: "i-0a".to_owned(),
        account: TARGET.to_owned(),
        devices: devices.into_iter().map(device).collect(),
        ..Instance::default()
    };
    let policy = document(policy::Role::Single, DEFAULT_CREATED_BY, Partition::default());
    let role = Role {
        name: "scanner".to_owned(),
        external_id: Some("word".to_owned()),
        policy: Some(policy.try_into().unwrap()),
        ..Role::default()
    };
    let mut estate = Estate { instances: vec![instance], volumes: vec![root, data], ..Estate::default() };
    estate.accounts.push(Account { id: TARGET.to_owned(), roles: vec![role], ..Account::default() });
    (estate, disk)
}

fn tags() -> Tags {
    Tags::from([
        ("CreatedBy".to_owned(), "Microsoft Defender for Cloud".to_owned()),
        ("stillframe:scan-id".to_owned(), "0a1b2c3d".to_owned()),
    ])
}

fn set() -> CreateSet {
    CreateSet {
        instance_id: "i-0a".to_owned(),
        exclude_boot_volume: false,
        exclude_data_volume_ids: Vec::new(),
        description: "a test".to_owned(),
        tags: tags(),
    }
}

async fn open(fake: &Running) -> Connection {
    let role = stillframe_aws::Role {
        arn: format!("arn:aws:iam::{TARGET}:role/scanner"),
        external_id: Some("word".to_owned()),
        scan_id: "0a1b2c3d".to_owned(),
    };
    let options = Options { role: Some(role), ..Options::loopback(&fake.url(), REGION, "AKIDFORTESTS") };
    Connection::open(&options).await.unwrap()
}

fn start(estate: Estate) -> Running {
    fake_aws::serve(World::of(Arc::new(TokioClock::new()), estate)).unwrap()
}

#[tokio::test]
async fn disks_of_another_account_from_discovery_to_purge() {
    let (estate, disk) = estate();
    let fake = start(estate);
    let connection = open(&fake).await;
    assert_eq!(connection.caller().await.unwrap().account, TARGET);
    let running = Filter { name: "instance-state-name".to_owned(), values: vec!["running".to_owned()] };
    let found = connection.describe_instances(&[running], None).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].devices[1].volume_id.as_deref(), Some("vol-0b"));
    let dry = DryRunAction::CreateSnapshots { instance_id: "i-0a".to_owned(), tags: tags() };
    assert_eq!(connection.dry_run(dry).await, Ok(()));
    let untagged = DryRunAction::CreateSnapshots { instance_id: "i-0a".to_owned(), tags: Tags::new() };
    assert_eq!(connection.dry_run(untagged).await.unwrap_err().kind, ErrorKind::AccessDenied);

    let made = connection.create_snapshots(&set()).await.unwrap();
    assert!(made.request_id.is_some());
    let ours = Filter { name: "tag:stillframe:scan-id".to_owned(), values: vec!["0a1b2c3d".to_owned()] };
    let listed = connection.describe_snapshots(std::slice::from_ref(&ours), None).await.unwrap().items;
    assert_eq!(listed.len(), 2);
    assert!(
        listed.iter().all(|snapshot| snapshot.state == SnapshotState::Completed && snapshot.tags == tags())
    );
    let of = |volume: &str| listed.iter().find(|snapshot| snapshot.volume_id == volume).unwrap();
    assert_eq!(of("vol-0a").full_size_bytes, Some(3 * BLOCK_BYTES as u64));
    assert_eq!(of("vol-0b").kms_key_id.as_deref(), Some(KEY));

    let root = &of("vol-0a").id;
    let page = connection.list_snapshot_blocks(root, 0, None).await.unwrap();
    assert_eq!((page.volume_size_gib, page.block_size_bytes), (1, 524_288));
    assert_eq!(page.blocks.iter().map(|block| block.index).collect::<Vec<_>>(), [0, 5, 2_047]);
    for block in &page.blocks {
        let read = connection.get_snapshot_block(root, block.index, &block.token).await.unwrap();
        let mut written = vec![0; BLOCK_BYTES];
        disk.as_file().read_exact_at(&mut written, u64::from(block.index) * BLOCK_BYTES as u64).unwrap();
        assert!(read.bytes == written, "block {}", block.index);
        let sum = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&read.bytes));
        assert_eq!(read.checksum, Some(sum));
    }
    let data = &of("vol-0b").id;
    let (mut indexes, mut next) = (Vec::new(), None);
    for pages in 1.. {
        let page = connection.list_snapshot_blocks(data, 0, next).await.unwrap();
        indexes.extend(page.blocks.iter().map(|block| block.index));
        next = page.next;
        if next.is_none() {
            assert_eq!(pages, 3, "25,000 blocks in pages of 10,000");
            break;
        }
    }
    assert_eq!(indexes, (0..25_000).collect::<Vec<_>>());
    let wrong = connection.get_snapshot_block(root, 0, "bogus").await.unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::InvalidToken, "{wrong}");

    for snapshot in &listed {
        connection.delete_snapshot(&snapshot.id).await.unwrap();
    }
    assert_eq!(connection.delete_snapshot(root).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(connection.describe_snapshots(&[ours], None).await.unwrap().items, []);
    assert_eq!(fake.world.leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn what_goes_wrong_comes_out_as_what_it_is() {
    let (mut estate, _disk) = estate();
    estate.accounts[1].denied_keys.push(KEY.to_owned());
    estate.accounts[1].recycle_bin_days = Some(7);
    let fake = start(estate);
    let connection = open(&fake).await;
    let snapshots = connection.create_snapshots(&set()).await.unwrap().value;
    let too_soon = connection.create_snapshots(&set()).await.unwrap_err();
    assert_eq!(too_soon.kind, ErrorKind::VolumeRate, "{too_soon}");

    let encrypted = &snapshots.iter().find(|snapshot| snapshot.volume_id == "vol-0b").unwrap().id;
    let root = &snapshots.iter().find(|snapshot| snapshot.volume_id == "vol-0a").unwrap().id;
    let page = connection.list_snapshot_blocks(encrypted, 0, None).await.unwrap();
    let denied = connection.get_snapshot_block(encrypted, 0, &page.blocks[0].token).await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::KmsDenied, "{denied}");

    let token = connection.list_snapshot_blocks(root, 0, None).await.unwrap().blocks[0].token.clone();
    let faults = [
        (Fault::Throttle { code: None }, ErrorKind::Throttled),
        (Fault::Throttle { code: Some("ThrottlingException".to_owned()) }, ErrorKind::Throttled),
        (Fault::Http { status: 503 }, ErrorKind::Service),
        (Fault::Cut { at_bytes: 100_000 }, ErrorKind::NoReply),
        (Fault::Reset, ErrorKind::NoReply),
        (Fault::KmsDenied, ErrorKind::KmsDenied),
    ];
    for (fault, kind) in faults {
        fake.world.add_fault(Rule::always("GetSnapshotBlock", fault.clone()));
        let error = connection.get_snapshot_block(root, 0, &token).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        fake.world.clear_faults();
    }
    assert_eq!(connection.get_snapshot_block(root, 0, &token).await.unwrap().bytes.len(), BLOCK_BYTES);

    fake.world.add_fault(Rule::always("DeleteSnapshot", Fault::ReplyLost));
    assert_eq!(connection.delete_snapshot(root).await.unwrap_err().kind, ErrorKind::NoReply);
    fake.world.clear_faults();
    assert_eq!(connection.delete_snapshot(root).await.unwrap_err().kind, ErrorKind::NotFound);
    let kept = connection.snapshots_in_recycle_bin(std::slice::from_ref(root)).await.unwrap();
    assert_eq!(kept, std::slice::from_ref(root));
    let both = [root.clone(), encrypted.clone()];
    assert_eq!(connection.snapshots_in_recycle_bin(&both).await.unwrap(), std::slice::from_ref(root));

    connection.delete_snapshot(encrypted).await.unwrap();
    assert_eq!(fake.world.leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn denied_actions_and_expired_keys() {
    let (mut estate, _disk) = estate();
    estate.accounts[1].denied_actions.push("ec2:CreateSnapshots".to_owned());
    estate.accounts[1].denied_actions.push("ebs:*".to_owned());
    estate.accounts[0].expired_keys.push("AKIDEXPIRED".to_owned());
    let fake = start(estate);
    let connection = open(&fake).await;
    let denied = connection.create_snapshots(&set()).await.unwrap_err();
    assert_eq!((denied.kind, denied.code.as_str()), (ErrorKind::AccessDenied, "UnauthorizedOperation"));
    assert_eq!(denied.to_string(), "ec2:CreateSnapshots i-0a: UnauthorizedOperation");
    let denied = connection.list_snapshot_blocks("snap-0a", 0, None).await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::AccessDenied);

    let expired = Options::loopback(&fake.url(), REGION, "AKIDEXPIRED");
    let connection = Connection::open(&expired).await.unwrap();
    assert_eq!(connection.caller().await.unwrap_err().kind, ErrorKind::Credentials);
    assert_eq!(connection.describe_regions().await.unwrap_err().kind, ErrorKind::Credentials);
    assert_eq!(
        connection.list_snapshot_blocks("snap-0a", 0, None).await.unwrap_err().kind,
        ErrorKind::Credentials
    );
}
