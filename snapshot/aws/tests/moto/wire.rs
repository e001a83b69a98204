//! Each call on the wire.

use std::collections::BTreeSet;

use stillframe_aws::{Connection, Options};
use stillframe_cloud::api::{Blocks, Compute, CreateSet, DryRunAction, ErrorKind, Filter, Tags};

use crate::server::{BLOCK_BYTES, Moto, sum};

fn filter(name: &str, value: &str) -> [Filter; 1] {
    [Filter { name: name.to_owned(), values: vec![value.to_owned()] }]
}

#[tokio::test]
async fn a_machines_snapshots_come_and_go() {
    let moto = Moto::start();
    let instance_id = moto.start_machine().await;
    let connection =
        Connection::open(&Options::loopback(&moto.url, "eu-west-3", "AKIDFORTESTS")).await.unwrap();
    assert_eq!(connection.caller().await.unwrap().account, "123456789012");
    assert!(connection.describe_regions().await.unwrap().contains(&"eu-west-3".to_owned()));

    let running =
        connection.describe_instances(&filter("instance-state-name", "running"), None).await.unwrap();
    let instance = running.items.iter().find(|instance| instance.id == instance_id).unwrap();
    let by_id = connection.describe_instances_by_id(std::slice::from_ref(&instance_id)).await.unwrap();
    assert_eq!(by_id, std::slice::from_ref(instance));
    assert_eq!((instance.state.as_str(), instance.instance_type.as_str()), ("running", "m5d.large"));
    let devices: Vec<_> = instance.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(devices, ["/dev/sda1", "/dev/sdf"]);

    let volumes =
        connection.describe_volumes(&filter("attachment.instance-id", &instance_id), None).await.unwrap();
    let sizes: BTreeSet<_> = volumes.items.iter().map(|volume| volume.size_gib).collect();
    assert_eq!(sizes, BTreeSet::from([8, 100]));
    assert!(volumes.items.iter().all(|volume| volume.attached_to == [instance_id.as_str()]));
    let stores =
        connection.instance_store_gib(&["m5d.large".to_owned(), "m5.large".to_owned()]).await.unwrap();
    assert_eq!(stores.into_iter().collect::<Vec<_>>(), [("m5d.large".to_owned(), 75)]);

    let tags = Tags::from([
        ("CreatedBy".to_owned(), "Microsoft Defender for Cloud".to_owned()),
        ("stillframe:scan-id".to_owned(), instance_id.clone()),
    ]);
    let dry = DryRunAction::CreateSnapshots { instance_id: instance_id.clone(), tags: tags.clone() };
    assert_eq!(connection.dry_run(dry).await, Ok(()));
    let ours = filter("tag:stillframe:scan-id", &instance_id);
    assert_eq!(connection.describe_snapshots(&ours, None).await.unwrap().items, []);

    let request = CreateSet {
        instance_id: instance_id.clone(),
        exclude_boot_volume: false,
        exclude_data_volume_ids: Vec::new(),
        description: "a test".to_owned(),
        tags: tags.clone(),
    };
    let set = connection.create_snapshots(&request).await.unwrap().value;
    assert_eq!(set.len(), 2);
    let third = connection.create_snapshot(&volumes.items[0].id, "a test", &tags).await.unwrap().value;
    let mut made: BTreeSet<_> = set.iter().map(|snapshot| snapshot.id.clone()).collect();
    made.insert(third.id.clone());

    let found = connection.describe_snapshots(&ours, None).await.unwrap();
    assert_eq!(found.items.iter().map(|snapshot| snapshot.id.clone()).collect::<BTreeSet<_>>(), made);
    assert!(found.items.iter().all(|snapshot| snapshot.tags == tags && snapshot.owner == "123456789012"));
    let ids: Vec<_> = made.iter().cloned().collect();
    assert_eq!(connection.describe_snapshots_by_id(&ids).await.unwrap().len(), 3);

    for id in &ids {
        connection.delete_snapshot(id).await.unwrap();
    }
    let gone = connection.delete_snapshot(&third.id).await.unwrap_err();
    assert_eq!((gone.kind, gone.code.as_str()), (ErrorKind::NotFound, "InvalidSnapshot.NotFound"));
    assert!(gone.request_id.is_some(), "{gone:?}");
    assert_eq!(connection.describe_snapshots(&ours, None).await.unwrap().items, []);
    assert_eq!(connection.describe_snapshots_by_id(&ids).await.unwrap_err().kind, ErrorKind::NotFound);

    let nobody = CreateSet { instance_id: "i-00000000000000000".to_owned(), ..request };
    assert_eq!(connection.create_snapshots(&nobody).await.unwrap_err().kind, ErrorKind::NotFound);
    let unknown = connection.describe_instances_by_id(&["i-00000000000000000".to_owned()]).await.unwrap_err();
    assert_eq!((unknown.kind, unknown.code.as_str()), (ErrorKind::NotFound, "InvalidInstanceID.NotFound"));
}

#[tokio::test]
async fn blocks_that_were_uploaded_are_read() {
    let moto = Moto::start();
    let written = [(0, 0x11), (7, 0x22), (2_047, 0x33)];
    let snapshot_id = moto.upload(&written).await;
    let connection =
        Connection::open(&Options::loopback(&moto.url, "eu-west-3", "AKIDFORTESTS")).await.unwrap();
    let page = connection.list_snapshot_blocks(&snapshot_id, 0, None).await.unwrap();
    assert_eq!((page.volume_size_gib, page.next.as_deref()), (1, None));
    // Stock moto says 512 where the service says 524,288: passed on as it came.
    assert_eq!(page.block_size_bytes, 512);
    assert_eq!(page.blocks.iter().map(|block| block.index).collect::<Vec<_>>(), [0, 7, 2_047]);
    for (block, (_, byte)) in page.blocks.iter().zip(written) {
        let read = connection.get_snapshot_block(&snapshot_id, block.index, &block.token).await.unwrap();
        assert_eq!(read.bytes, vec![byte; BLOCK_BYTES]);
        assert_eq!(read.data_length, Some(524_288));
        assert_eq!(read.checksum, Some(sum(&read.bytes)));
        assert_eq!(read.checksum_algorithm.as_deref(), Some("SHA256"));
    }
}
