//! Which machines are scanned and which of their disks, and what is said of all others.

use std::fs;

use fake_aws::{Content, Device, Estate, Volume};
use serde_json::Value;

use crate::harness::{Cloud, DATA, MACHINE, ROOT, instance, volume};
use crate::said::{is_plain, one_mistake, row};

const WEB: &str = "i-0eeeeeeeeeeeeeee1";
const DATABASE: &str = "i-0fffffffffffffff2";

/// A volume with some bytes that mean nothing.
fn noise(id: &str) -> Volume {
    Volume { id: id.to_owned(), content: Content { image: None, pattern_blocks: 2 }, ..Volume::default() }
}

fn add(estate: &mut Estate, id: &str, name: &str, team: &str) {
    let disk = id.replacen("i-", "vol-", 1);
    let mut machine = instance(id, &[("/dev/xvda", &disk)]);
    machine.tags.insert("Name".to_owned(), name.to_owned());
    machine.tags.insert("team".to_owned(), team.to_owned());
    estate.volumes.push(noise(&disk));
    estate.instances.push(machine);
}

fn three_machines(estate: &mut Estate) {
    estate.instances[0].tags.insert("Name".to_owned(), "web-1".to_owned());
    estate.instances[0].tags.insert("team".to_owned(), "shop".to_owned());
    add(estate, WEB, "web-2", "blog");
    add(estate, DATABASE, "db-1", "shop-eu");
}

/// A second machine with the same disks' contents as the first.
fn a_twin(estate: &mut Estate) {
    let images: Vec<_> = estate.volumes.iter().map(|volume| volume.content.image.clone().unwrap()).collect();
    for (id, image) in ["vol-0ccccccccccccccc3", "vol-0ddddddddddddddd4"].into_iter().zip(images) {
        estate.volumes.push(volume(id, image));
    }
    let devices = [("/dev/xvda", "vol-0ccccccccccccccc3"), ("/dev/sdf", "vol-0ddddddddddddddd4")];
    estate.instances.push(instance(WEB, &devices));
    for machine in &mut estate.instances {
        machine.tags.insert("twin".to_owned(), "yes".to_owned());
    }
}

/// The instances that a list has.
fn listed(cloud: &Cloud, choice: &[&str]) -> Vec<String> {
    let run = cloud.run(&[&["instances", "--format", "json"], choice].concat());
    assert_eq!(run.code(), 0, "{}", run.err());
    let json = run.json();
    let instances = json["instances"].as_array().unwrap().iter();
    instances.map(|one| one["instance_id"].as_str().unwrap().to_owned()).collect()
}

fn disks_of(report: &Value) -> Vec<(String, String)> {
    let rows = report["coverage"].as_array().unwrap().iter().filter(|row| row["kind"] == "disk");
    rows.map(|row| (row["label"].as_str().unwrap().to_owned(), row["status"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn instances_are_chosen_by_id_tag_and_name() {
    let cloud = Cloud::with(three_machines);
    assert_eq!(listed(&cloud, &[]), [MACHINE, WEB, DATABASE]);
    assert_eq!(listed(&cloud, &[WEB]), [WEB]);
    assert_eq!(listed(&cloud, &["--tag", "team=shop"]), [MACHINE]);
    assert_eq!(listed(&cloud, &["--tag", "team=shop*"]), [MACHINE, DATABASE]);
    assert_eq!(listed(&cloud, &["--tag", "team=shop*", "--tag", "Name=db-*"]), [DATABASE]);
    assert_eq!(listed(&cloud, &["--name", "web-*"]), [MACHINE, WEB]);
    assert_eq!(listed(&cloud, &["--name", "db-1", "--name", "*-2"]), [WEB, DATABASE]);
    assert_eq!(listed(&cloud, &["--name", "web"]), Vec::<String>::new());
    assert_eq!(listed(&cloud, &[WEB, DATABASE, "--name", "web-*"]), [WEB]);
    let run = cloud.run(&["instances", "--tag", "team=none"]);
    assert_eq!(run.out(), "no instances in us-east-1 of account 111111111111 fit\n");
}

#[test]
fn tags_leave_out_machines_and_disks() {
    let cloud = Cloud::with(|estate| {
        three_machines(estate);
        let exclude = ("stillframe:exclude".to_owned(), String::new());
        estate.instances[1].tags.extend([exclude.clone()]);
        estate.volumes[1].tags.extend([exclude]);
    });
    let run = cloud.run(&["scan", "instance", WEB]);
    let error = one_mistake(&run, &[], "remove the tag stillframe:exclude");
    assert_eq!(error, format!("{WEB} is excluded by the tag stillframe:exclude"));

    let run = cloud.run(&["scan", "instance", "--name", "web-*", "--format", "json"]);
    is_plain(&run);
    assert_eq!(run.code(), 0, "{}", run.err());
    assert!(run.err().contains(&format!("skipped: {WEB} is excluded by the tag stillframe:exclude\n")));
    let report = run.json();
    assert_eq!(row(&report, "disk1")["reason"], "excluded by the tag: stillframe:exclude");
    assert_eq!(row(&report, "disk1")["status"], "skipped");
    assert_eq!(cloud.world().estate().snapshots.len(), 1);

    let choice = ["scan", "instance", "--tag", "team=*", "--exclude-tag"];
    let skipped = |tag: &str| -> Vec<String> {
        let run = cloud.run(&[&choice[..], &[tag, "--dry-run"]].concat());
        let lines = run.err();
        let lines = lines.lines().filter_map(|line| line.strip_prefix("skipped: "));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(skipped("team=shop"), [MACHINE, WEB]);
    assert_eq!(skipped("nothing"), [WEB]);
    assert_eq!(skipped("team"), [MACHINE, WEB, DATABASE]);
}

#[test]
fn root_or_data_disks_can_be_left_out() {
    let cloud = Cloud::with(|estate| estate.settings.quotas.volume_interval_ms = 0);
    for (option, disk, why, host) in [
        ("--no-root", "disk0", "root volumes are left out", "ip-10-0-0-1.example.internal"),
        ("--no-data", "disk1", "data volumes are left out", "debian-fixture"),
    ] {
        let run = cloud.run(&["scan", "instance", MACHINE, option, "--format", "json"]);
        assert_eq!(run.code(), 0, "what is left out on purpose is no gap: {}", run.err());
        let report = run.json();
        assert_eq!(
            (&row(&report, disk)["status"], &row(&report, disk)["reason"]),
            (&"skipped".into(), &why.into())
        );
        assert_eq!(report["machine"]["hostname"], host);
        assert_eq!(report["snapshots"].as_array().unwrap().len(), 1);
    }
    let run = cloud.run(&["scan", "instance", MACHINE, "--no-root", "--no-data"]);
    one_mistake(&run, &[MACHINE, "not scanned: none of its disks is taken"], "`stillframe instances`");
}

#[test]
fn an_instance_store_has_a_row() {
    let cloud = Cloud::with(|estate| {
        estate.instances[0].instance_type = "m5d.large".to_owned();
        estate.instance_types.insert("m5d.large".to_owned(), 75);
    });
    let run = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]);
    is_plain(&run);
    assert_eq!(run.code(), 2, "a disk was not read");
    let report = run.json();
    let store = row(&report, "disk2");
    assert_eq!((&store["status"], &store["label"]), (&"unsupported".into(), &"instance store".into()));
    assert_eq!(store["reason"], "an instance store has no snapshots: it was not read");

    let json = cloud.run(&["instances", "--format", "json"]).json();
    assert_eq!(json["instances"][0]["instance_store_gib"], 75);
    let table = cloud.run(&["instances"]).out();
    assert!(
        table.contains(
            "instance store   -                      left out: instance store: it has no snapshots"
        ),
        "{table}"
    );
}

#[test]
fn machines_and_disks_that_lie_where_nothing_can_be_read() {
    let zone = "us-east-1-bos-1a".to_owned();
    let cloud = Cloud::with(|estate| {
        three_machines(estate);
        estate.instances[1].availability_zone = Some(zone.clone());
        estate.instances[2].outpost_arn = Some("arn:aws:outposts:us-east-1:1:outpost/op-1".to_owned());
        estate.volumes[1].outpost_arn = Some("arn:aws:outposts:us-east-1:1:outpost/op-1".to_owned());
    });
    let run = cloud.run(&["scan", "instance", WEB]);
    one_mistake(&run, &[WEB, "is in the Local Zone us-east-1-bos-1a"], "`stillframe scan image PATH`");
    let run = cloud.run(&["scan", "instance", DATABASE]);
    one_mistake(&run, &[DATABASE, "is on an Outpost"], "`stillframe scan image PATH`");
    let run = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]);
    is_plain(&run);
    assert_eq!(run.code(), 2);
    let report = run.json();
    assert_eq!(row(&report, "disk1")["status"], "unsupported");
    assert_eq!(row(&report, "disk1")["reason"], "on an Outpost: its snapshots cannot be read directly");
    assert_eq!(report["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn a_volume_that_two_chosen_machines_share_is_taken_once() {
    let cloud = Cloud::with(|estate| {
        a_twin(estate);
        estate.volumes[1].multi_attach = true;
        let shared = Device { name: "/dev/sdg".to_owned(), volume: Some(DATA.to_owned()) };
        estate.instances[1].devices.push(shared);
    });
    let folder = cloud.path("reports");
    fs::create_dir(&folder).unwrap();
    let run = cloud.run(&[
        "scan",
        "instance",
        "--tag",
        "twin=*",
        "--format",
        "json",
        "--output",
        folder.to_str().unwrap(),
    ]);
    is_plain(&run);
    assert_eq!(run.code(), 0, "{}", run.err());
    assert!(run.err().contains(&format!("{MACHINE} (1 of 2)\n")), "{}", run.err());
    let report = |id: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.join(format!("{id}.json"))).unwrap()).unwrap()
    };
    assert_eq!(disks_of(&report(MACHINE)).len(), 2);
    let second = report(WEB);
    assert_eq!(row(&second, "disk2")["reason"], format!("shared: it is read with: {MACHINE}"));
    assert_eq!(row(&second, "disk2")["status"], "skipped");
    let snapshots = cloud.world().estate().snapshots;
    assert_eq!(snapshots.iter().filter(|snapshot| snapshot.volume_id == DATA).count(), 1);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn several_machines_go_where_several_reports_fit() {
    let cloud = Cloud::with(a_twin);
    let both = ["scan", "instance", MACHINE, WEB, "--format"];
    let run = cloud.run(&[&both[..], &["json"]].concat());
    one_mistake(&run, &["2 machines were chosen", "one json document holds one"], "--output");
    let file = cloud.path("report.json");
    let run = cloud.run(&[&both[..], &["json", "--output", file.to_str().unwrap()]].concat());
    one_mistake(&run, &["2 machines were chosen", "report.json is no folder"], "--output");
    assert_eq!(cloud.calls("CreateSnapshots"), 0);

    let run = cloud.run(&[&both[..], &["jsonl"]].concat());
    assert_eq!(run.code(), 0, "{}", run.err());
    let out = run.out();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |id: &str| lines.iter().filter(|line| line.to_string().contains(id)).count();
    assert!(of(MACHINE) > 0 && of(WEB) > 0);
}

#[test]
fn the_list_says_of_each_machine_what_would_be_done() {
    let cloud = Cloud::with(|estate| {
        three_machines(estate);
        estate.instances[1].state = "stopped".to_owned();
        estate.instances[2].tags.insert("Name".to_owned(), "db\u{202e}".to_owned());
        estate.volumes[1].tags.insert("stillframe:exclude".to_owned(), String::new());
    });
    let run = cloud.run(&["instances"]);
    is_plain(&run);
    let table = run.out();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], format!("{MACHINE}  web-1  t3.micro  running"));
    assert!(lines[1].starts_with(&format!("  /dev/xvda (root) {ROOT}  1.00 GiB")), "{}", lines[1]);
    assert_eq!(
        lines[2],
        format!("  /dev/sdf         {DATA}  left out: excluded by the tag stillframe:exclude")
    );
    let stopped = format!("{WEB}  web-2  t3.micro  skipped: stopped: a deallocated machine is not scanned");
    assert!(lines.contains(&stopped.as_str()), "{table}");
    assert!(!table.contains('\u{202e}'), "{table:?}");
    assert_eq!(lines.last().unwrap(), &"2 of 3 would be scanned in us-east-1");

    let json = cloud.run(&["instances", "--format", "json"]).json();
    assert_eq!((&json["account"], &json["region"]), (&"111111111111".into(), &"us-east-1".into()));
    let one = &json["instances"][1];
    assert_eq!((&one["state"], &one["name"]), (&"stopped".into(), &"web-2".into()));
    assert_eq!(one["skipped"], "stopped: a deallocated machine is not scanned");
    let disks = &json["instances"][0]["disks"];
    assert_eq!((&disks[0]["is_root"], &disks[0]["left_out"]), (&true.into(), &Value::Null));
    assert_eq!(disks[0]["size_bytes"], 1_u64 << 30);
    assert_eq!(disks[1]["left_out"], "excluded by the tag stillframe:exclude");
}

#[test]
fn the_root_device_decides_whose_system_it_is() {
    let cloud = Cloud::with(|estate| estate.instances[0].devices.reverse());
    let report = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]).json();
    assert_eq!(report["machine"]["hostname"], "debian-fixture");
    assert_eq!(row(&report, "disk0")["label"], format!("/dev/xvda {ROOT}"));

    let cloud = Cloud::with(|estate| estate.instances[0].root_device_name = "/dev/sdf".to_owned());
    let report = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]).json();
    assert_eq!(report["machine"]["hostname"], "ip-10-0-0-1.example.internal");
    assert_eq!(row(&report, "disk0")["label"], format!("/dev/sdf {DATA}"));
}

#[test]
fn a_system_on_the_data_disk_alone_is_found() {
    let cloud = Cloud::with(|estate| {
        let folder = estate.volumes[0].content.image.as_ref().unwrap().parent().unwrap().to_owned();
        let path = folder.join("plain.img");
        stillframe_fixtures::write_sparse("whole-disk-ext4", &path);
        estate.volumes[0].content.image = Some(path);
    });
    let run = cloud.run(&["scan", "instance", MACHINE, "--format", "json"]);
    assert_eq!(run.code(), 0, "{}", run.err());
    assert_eq!(run.json()["machine"]["hostname"], "ip-10-0-0-1.example.internal");
}
