use crate::harness::*;
use fake_aws::*;

fn show(name: &str, cloud: &mut Cloud, run: &Run) {
    cloud.may_leak();
    println!("=== {name} (exit {}) leaks {:?}", run.code(), cloud.world().leaks());
    let out = run.out();
    let short: String = out.lines().take(30).map(|l| format!("  > {l}\n")).collect();
    println!("{short}");
    println!("{}", run.err().lines().map(|l| format!("  ! {l}\n")).collect::<String>());
}

#[test]
fn explore() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let scan = ["scan", "instance", MACHINE];
    let denied = |actions: &'static [&'static str]| move |estate: &mut Estate| {
        estate.accounts[0].denied_actions = actions.iter().map(|a| a.to_string()).collect();
    };
    let mut go = |name: &str, change: &dyn Fn(&mut Estate), args: &[&str]| {
        if !name.contains(&only) { return }
        let mut cloud = Cloud::with(change);
        let run = cloud.run(args);
        show(name, &mut cloud, &run);
    };
    go("stopped", &|e| e.instances[0].state = "stopped".into(), &scan);
    go("stopped by tag alone", &|e| { e.instances[0].state = "stopped".into(); e.instances[0].tags.insert("a".into(), "b".into()); }, &["scan", "instance", "--tag", "a=b"]);
    go("unknown instance", &|_| {}, &["scan", "instance", "i-0fffffffffffffff0"]);
    go("wrong region", &|e| e.regions.push("eu-west-3".into()), &["scan", "instance", MACHINE, "--region", "eu-west-3"]);
    go("disabled region", &|_| {}, &["scan", "instance", MACHINE, "--region", "eu-west-3"]);
    go("no region name", &|_| {}, &["scan", "instance", MACHINE, "--region", "EU WEST"]);
    go("malformed", &|_| {}, &["scan", "instance", "i-xyz"]);
    go("malformed snap", &|_| {}, &["scan", "snapshot", "snapshot-1"]);
    go("expired", &|e| e.accounts[0].expired_keys.push("AKIDTEST".into()), &scan);
    for action in [&["ec2:DescribeInstances"][..], &["ec2:DescribeVolumes"], &["ec2:DescribeInstanceTypes"], &["ec2:CreateSnapshots"], &["ec2:CreateSnapshot"], &["ec2:CreateSnapshots", "ec2:CreateSnapshot"], &["ec2:CreateTags"], &["ec2:DescribeSnapshots"], &["ec2:DeleteSnapshot"], &["ec2:ListSnapshotsInRecycleBin"], &["ebs:ListSnapshotBlocks"], &["ebs:GetSnapshotBlock"], &["sts:GetCallerIdentity"]] {
        go(&format!("denied {action:?}"), &|e| e.accounts[0].denied_actions = action.iter().map(|a| a.to_string()).collect(), &scan);
    }
    let _ = denied;
    go("kms", &|e| { e.volumes[0].encrypted = true; e.volumes[0].kms_key_id = Some("arn:aws:kms:us-east-1:111111111111:key/k1".into()); e.accounts[0].denied_keys.push("arn:aws:kms:us-east-1:111111111111:key/k1".into()); }, &scan);
    go("kms disabled", &|e| { e.volumes[0].encrypted = true; e.volumes[0].kms_key_id = Some("arn:aws:kms:us-east-1:111111111111:key/k1".into()); e.accounts[0].key_states.insert("arn:aws:kms:us-east-1:111111111111:key/k1".into(), "Disabled".into()); }, &scan);
    go("volume in error", &|e| e.volumes[1].state = Some("error".into()), &scan);
    go("snapshot in error", &|e| e.volumes[1].snapshot_error = Some("Client.InternalError".into()), &scan);
    let snap = |e: &mut Estate, id: &str| {
        let s = Snapshot { id: id.into(), volume_id: ROOT.into(), content: e.volumes[0].content.clone(), ..Snapshot::default() };
        e.settings.enforce_policy = false;
        e.snapshots.push(s);
    };
    let s1 = "snap-0aaaaaaaaaaaaaaa1";
    let ss = ["scan", "snapshot", s1];
    go("snap ok", &|e| snap(e, s1), &ss);
    go("snap archived", &|e| { snap(e, s1); e.snapshots[0].storage_tier = "archive".into() }, &ss);
    go("snap pending", &|e| { snap(e, s1); e.snapshots[0].completes_ms = u64::MAX / 2 }, &ss);
    go("snap failed", &|e| { snap(e, s1); e.snapshots[0].error = Some("x".into()) }, &ss);
    go("snap public", &|e| { snap(e, s1); e.snapshots[0].public = true; e.snapshots[0].account = "999999999999".into() }, &ss);
    go("snap bin", &|e| { snap(e, s1); e.snapshots[0].deleted_ms = Some(1); e.snapshots[0].in_recycle_bin_until_ms = Some(u64::MAX / 2) }, &ss);
    go("snap unknown", &|_| {}, &ss);
    go("snap local", &|e| { snap(e, s1); e.snapshots[0].stays_local = true }, &ss);
    go("snap policy", &|e| { snap(e, s1); e.settings.enforce_policy = true }, &ss);
    go("snap two", &|e| { snap(e, s1); }, &["scan", "snapshot", "snap-0bbbbbbbbbbbbbbb1", s1]);
    let tool = |name: &str, f: &dyn Fn(&Cloud, &mut std::process::Command)| {
        if !name.contains(&only) { return }
        let mut cloud = Cloud::new();
        let mut c = cloud.stillframe();
        f(&cloud, c.args(scan));
        let run = Run(c.output().unwrap());
        show(name, &mut cloud, &run);
    };
    tool("no credentials", &|_, c| { c.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY"); });
    tool("no region", &|_, c| { c.env_remove("AWS_REGION"); });
    tool("no profile", &|_, c| { c.args(["--profile", "nobody"]); });
    tool("unreachable", &|_, c| { c.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"); });
    tool("state dir", &|cl, c| { std::fs::write(cl.path("state"), "x").unwrap(); let _ = c; });
    tool("state damaged", &|cl, c| { std::fs::create_dir_all(cl.path("state/stillframe")).unwrap(); std::fs::write(cl.path("state/stillframe/state.db"), "not a db").unwrap(); let _ = c; });
    tool("no folder for many", &|_, c| { c.env("AWS_ENDPOINT_URL", "ftp://x"); });
    tool("role nonsense", &|_, c| { c.args(["--role-arn", "me"]); });
    tool("role", &|_, c| { c.args(["--role-arn", "arn:aws:iam::222222222222:role/scan"]); });
    tool("far", &|_, c| { c.env("AWS_ENDPOINT_URL", "http://192.0.2.1"); });
    tool("far allowed", &|_, c| { c.env("AWS_ENDPOINT_URL", "http://192.0.2.1:9").env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1").arg("--allow-cross-region"); });
    tool("max blocks", &|_, c| { c.args(["--max-blocks", "20"]); });
    tool("max cost", &|_, c| { c.args(["--max-cost", "0.0001"]); });
    tool("max blocks 0", &|_, c| { c.args(["--max-blocks", "0"]); });
    tool("dry", &|_, c| { c.args(["--dry-run"]); });
    tool("nothing named", &|cl, c| { *c = cl.stillframe(); c.args(["scan", "instance"]); });
    tool("ok", &|_, _| {});
    tool("list", &|cl, c| { *c = cl.stillframe(); c.args(["instances"]); });
    tool("policy", &|cl, c| { *c = cl.stillframe(); c.args(["aws", "policy", "--role", "worker"]); });
    tool("preflight", &|cl, c| { *c = cl.stillframe(); c.args(["aws", "preflight"]); });
}
