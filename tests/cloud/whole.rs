//! The whole job, where nothing goes wrong.

use crate::harness::{Cloud, DATA, MACHINE, ROOT};

#[test]
fn an_instance_is_snapshotted_read_reported_and_purged() {
    let cloud = Cloud::new();
    let run = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]);
    assert_eq!(run.code(), 0, "{}", run.err());
    let report = run.json();
    assert_eq!(report["machine"]["hostname"], "debian-fixture");
    assert_eq!(report["cloud"]["instance_id"], MACHINE);
    let receipts = report["snapshots"].as_array().unwrap();
    assert_eq!(receipts.len(), 2);
    for (receipt, device, volume) in
        [(0, "/dev/xvda", ROOT), (1, "/dev/sdf", DATA)].map(|(_, device, volume)| {
            (receipts.iter().find(|one| one["volume_id"] == volume).unwrap(), device, volume)
        })
    {
        assert_eq!(receipt["device"], device, "{volume}");
        assert_eq!(receipt["fate"], "gone");
        assert_eq!(receipt["cost_allocation_tag"], "CreatedBy=Microsoft Defender for Cloud");
        let time = |name: &str| receipt[name].as_str().unwrap().to_owned();
        assert!(time("created") <= time("completed") && time("completed") <= time("deleted"));
        assert!(time("deleted") <= time("confirmed_gone"));
    }
    // What was counted here is what was asked there.
    let calls = &report["cloud"]["calls"];
    assert_eq!(calls["gets"].as_u64(), Some(cloud.calls("GetSnapshotBlock")));
    assert_eq!(calls["lists"].as_u64(), Some(cloud.calls("ListSnapshotBlocks")));
    assert_eq!(calls["changes"], 3, "one CreateSnapshots, two DeleteSnapshot");
    assert_eq!(calls["block_bytes"].as_u64(), Some(cloud.world().counters().block_bytes));
    let cost = &report["cloud"]["cost"];
    assert_eq!(cost["gets_nano_usd"].as_u64(), Some(cloud.calls("GetSnapshotBlock") * 3000));
    assert_eq!(cost["lists_nano_usd"].as_u64(), Some(cloud.calls("ListSnapshotBlocks") * 600));
}

#[test]
fn the_same_disks_as_images_give_the_same_report() {
    let cloud = Cloud::new();
    let run = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]);
    let images = ["debian-gpt-ext4.img", "amazon-shape.img"].map(|name| cloud.path(name));
    let [root, data] = images.each_ref().map(|path| path.to_str().unwrap());
    let local = cloud.run(&["scan", "image", root, data, "--format", "json"]);
    let (remote, local) = (run.json(), local.json());
    for part in ["machine", "packages", "findings"] {
        assert_eq!(remote[part], local[part], "{part}");
    }
}
