//! Clients that we did not write agree with the fake: boto3 and trivy. Python packages are installed under `target/` the
//! first time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use fake_aws::{
    Account, Content, Device, Estate, Instance, Policy, Role, ScaledClock, Snapshot, Tags, Volume, World,
    serve,
};
use serde_json::json;

/// The Python environment with the packages that requirements.txt pins.
fn python_environment() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake-aws-venv");
        let script = root.join("../venv.sh");
        let made = Command::new(&script).arg(&folder).arg(root.join("requirements.txt")).output();
        let made = made.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "Python packages could not be installed (python3-venv, pip): {said}");
        folder
    })
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn ours() -> Tags {
    tags(&[("CreatedBy", "Microsoft Defender for Cloud"), ("stillframe:scan-id", "scan")])
}

/// A raw file of 100 MiB and some bytes, written here and there.
fn patchy_image(folder: &Path) -> PathBuf {
    use std::os::unix::fs::FileExt;
    let path = folder.join("root.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len((100 << 20) + 512).unwrap();
    for number in 0..180_u64 {
        // Three blocks of each four, so that there is more than a page of them.
        let offset = number / 3 * (4 << 19) + number % 3 * (1 << 19);
        if offset < 100 << 20 {
            let text = format!("block of offset {offset} ");
            file.write_all_at(text.repeat(300).as_bytes(), offset + number * 1_000).unwrap();
        }
    }
    file.write_all_at(b"the end", (100 << 20) + 505).unwrap();
    path
}

/// Everything that boto3_client.py does, but on snapshots only with both of our tags.
fn tag_policy() -> Policy {
    let snapshots = "arn:aws:ec2:*::snapshot/*";
    let both = |kind: &str| {
        json!({
            "StringEquals": {format!("aws:{kind}/CreatedBy"): "Microsoft Defender for Cloud"},
            "Null": {format!("aws:{kind}/stillframe:scan-id"): "false"},
        })
    };
    let statements = json!([
        {"Effect": "Allow", "Resource": "*", "Action": [
            "ec2:Describe*", "ec2:ListSnapshotsInRecycleBin", "kms:*", "rbin:*", "servicequotas:Get*"]},
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::222222222222:role/scanner"},
        {"Effect": "Allow", "Action": "ec2:CreateSnapshot*", "Resource": ["arn:aws:ec2:*:*:volume/*", "arn:aws:ec2:*:*:instance/*"]},
        {"Effect": "Allow", "Action": ["ec2:CreateSnapshot*", "ec2:CreateTags"], "Resource": snapshots, "Condition": both("RequestTag")},
        {"Effect": "Allow", "Action": ["ec2:DeleteSnapshot", "ec2:*lockSnapshot", "ebs:*"], "Resource": snapshots, "Condition": both("ResourceTag")},
    ]);
    json!({"Version": "2012-10-17", "Statement": statements}).try_into().unwrap()
}

/// The world that boto3_client.py knows.
fn estate(image: PathBuf) -> Estate {
    let mut estate = Estate::default();
    estate.regions.push("eu-west-3".to_owned());
    let key = "arn:aws:kms:us-east-1:111111111111:key/1".to_owned();
    let one = &mut estate.accounts[0];
    one.access_keys.push("AKIAONE".to_owned());
    one.policy = Some(tag_policy());
    one.expired_keys.push("AKIAOLD".to_owned());
    one.denied_keys.push(key.clone());
    one.recycle_bin_days = Some(7);
    one.recycle_bin_exclusion = Some(("keep".to_owned(), "no".to_owned()));
    one.key_states.insert(key.replace("key/1", "key/2"), "Disabled".to_owned());
    let role = Role {
        name: "scanner".to_owned(),
        external_id: Some("right".to_owned()),
        denied_actions: [
            "ec2:DescribeVolumes",
            "kms:DescribeKey",
            "rbin:ListRules",
            "servicequotas:GetServiceQuota",
        ]
        .map(str::to_owned)
        .into(),
        ..Role::default()
    };
    let two = "222222222222".to_owned();
    estate.accounts.push(Account { id: two.clone(), roles: vec![role], ..Account::default() });

    for number in 0..7 {
        let id = format!("vol-0000000000000000{number}");
        estate.volumes.push(Volume { id, ..Volume::default() });
    }
    estate.volumes[0].content.image = Some(image);
    estate.volumes[1].multi_attach = true;
    estate.volumes[2].encrypted = true;
    estate.volumes[2].kms_key_id = Some(key);
    estate.volumes[2].content.pattern_blocks = 3;
    estate.volumes[3].snapshot_error = Some("the disk is gone".to_owned());
    let device = |name: &str, volume: Option<u32>| Device {
        name: name.to_owned(),
        volume: volume.map(|number| format!("vol-0000000000000000{number}")),
    };
    for number in 0..12 {
        let id = format!("i-000000000000000{number:02}");
        let state = if number < 6 { "running" } else { "stopped" }.to_owned();
        estate.instances.push(Instance { id, state, ..Instance::default() });
    }
    estate.instances[0].tags = tags(&[("Name", "web-1 <&>")]);
    estate.instances[0].devices =
        vec![device("/dev/xvda", Some(0)), device("/dev/sdf", Some(1)), device("/dev/sdc", None)];
    estate.instances[1].devices = vec![device("/dev/sdf", Some(1))];
    let id = "i-0000000000000000f".to_owned();
    estate.instances.push(Instance { id, account: two, ..Instance::default() });

    let snapshot = |id: &str, tags: Tags| Snapshot { id: id.to_owned(), tags, ..Snapshot::default() };
    for number in 0..23 {
        let old = snapshot(&format!("snap-0000000000000aa{number:02}"), Tags::new());
        estate.snapshots.push(Snapshot { description: "old".to_owned(), ..old });
    }
    let archived = snapshot("snap-0000000000000bb00", ours());
    estate.snapshots.push(Snapshot { storage_tier: "archive".to_owned(), ..archived });
    let local = snapshot("snap-0000000000000bb01", ours());
    estate.snapshots.push(Snapshot { stays_local: true, ..local });
    let used = snapshot("snap-0000000000000bb02", ours());
    estate.snapshots.push(Snapshot { in_use_by: Some("ami-1".to_owned()), ..used });
    let plain = snapshot("snap-0000000000000cc00", ours());
    estate.snapshots.push(Snapshot { content: Content { image: None, pattern_blocks: 2 }, ..plain });
    estate.instance_types.insert("m5d.large".to_owned(), 75);
    estate.settings.quotas.gets_per_second = 5_000.0;
    estate.settings.snapshot_delay_ms = 60_000;
    estate
}

#[test]
fn boto3_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let image = patchy_image(folder.path());
    // A minute of the fake is 1.5 s, the 15 s between two snapshots of a volume 0.4 s.
    let world = World::of(Arc::new(ScaledClock::new(40.0)), estate(image.clone()));
    let running = serve(world.clone()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/boto3_client.py");
    let output = Command::new(python_environment().join("bin/python"))
        .arg(script)
        .arg(running.url())
        .arg(&image)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap();
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success(), "{text}");
    assert!(text.trim().ends_with("checks"), "{text}");

    let created: Vec<String> = world
        .events()
        .into_iter()
        .filter(|event| event.operation.starts_with("CreateSnapshot") && event.effect == "ok")
        .flat_map(|event| event.resources.into_iter().filter(|id| id.starts_with("snap-")))
        .collect();
    assert_eq!(created.len(), 4, "{created:?}");
    let given = [
        "snap-0000000000000bb00",
        "snap-0000000000000bb01",
        "snap-0000000000000bb02",
        "snap-0000000000000cc00",
    ];
    assert_eq!(world.leaks(), given, "all that was created is deleted");
}

#[test]
fn trivy_finds_the_packages() {
    let disk = "debian-gpt-ext4";
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    stillframe_fixtures::write_sparse(disk, &image);
    let world = World::new(Arc::new(ScaledClock::new(1.0)));
    let content = Content { image: Some(image), pattern_blocks: 0 };
    let id = "snap-0123456789abcdef0".to_owned();
    world.change(|estate| estate.snapshots.push(Snapshot { id, content, ..Snapshot::default() }));
    let running = serve(world.clone()).unwrap();
    let output = Command::new(python_environment().join("bin/trivy"))
        .args(["--quiet", "vm", "--pkg-types", "os", "--format", "cyclonedx", "--disable-telemetry"])
        .args(["--cache-backend", "memory", "--cache-dir"])
        .arg(folder.path())
        .arg("ebs:snap-0123456789abcdef0")
        .env("AWS_ENDPOINT_URL", running.url())
        .env("AWS_ACCESS_KEY_ID", "AKIAONE")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bill: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let property = |component: &serde_json::Value, name: &str| {
        let properties = component["properties"].as_array().cloned().unwrap_or_default();
        let found = properties.iter().find(|property| property["name"] == name);
        found.and_then(|property| property["value"].as_str()).map(ToOwned::to_owned)
    };
    // `bash@5.2.15-2+b2`: the version as dpkg writes it.
    let found: BTreeSet<String> = bill["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|component| property(component, "aquasecurity:trivy:PkgID"))
        .collect();
    let expected: BTreeSet<String> = stillframe_fixtures::packages(disk)
        .into_iter()
        // Trivy also counts what is unpacked: its files are there.
        .filter(|package| package.state != "config-files")
        .map(|package| format!("{}@{}", package.name, package.version))
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);
    let counters = world.counters();
    assert!(counters.lists > 0 && counters.gets > 0, "{counters:?}");
    assert!(counters.refusals.is_empty(), "{counters:?}");
}
