//! As whom, in which account and in which region; what a role must be allowed, and whether it is.

use std::fs;
use std::process::{Command, Stdio};

use fake_aws::{Account, Estate, Role};
use serde_json::Value;

use crate::harness::{Cloud, DATA, MACHINE, ROOT, Run, policy, policy_and, until};
use crate::said::{denying, is_plain, one_mistake};

const TARGET: &str = "222222222222";
const ROLE: &str = "arn:aws:iam::222222222222:role/scan";
/// An address that is kept for documentation: nobody is there.
const FAR: &str = "http://192.0.2.1";

/// The machine is in another account, which has a role for us.
fn elsewhere(estate: &mut Estate, external_id: Option<&str>) {
    estate.accounts[0].policy = Some(policy_and(&["sts:AssumeRole"], ROLE));
    let role = Role {
        name: "scan".to_owned(),
        external_id: external_id.map(str::to_owned),
        policy: Some(policy(&[])),
        ..Role::default()
    };
    let account =
        Account { id: TARGET.to_owned(), roles: vec![role], policy: Some(policy(&[])), ..Account::default() };
    estate.accounts.push(account);
    for volume in &mut estate.volumes {
        volume.account = TARGET.to_owned();
    }
    estate.instances[0].account = TARGET.to_owned();
}

fn with(cloud: &Cloud, change: impl FnOnce(&mut Command)) -> Run {
    let mut command = cloud.stillframe();
    change(command.args(["scan", "instance", MACHINE, "--format", "json"]));
    Run(command.output().unwrap())
}

/// The lines of the audit log.
fn audit(cloud: &Cloud) -> Vec<Value> {
    let text = fs::read_to_string(cloud.path("state/stillframe/audit.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_role_reads_in_the_account_of_the_machine() {
    let cloud = Cloud::with(|estate| elsewhere(estate, None));
    one_mistake(&with(&cloud, |_| {}), &[MACHINE, "of account 111111111111"], "--role-arn");
    let run = with(&cloud, |command| {
        command.args(["--role-arn", ROLE]);
    });
    is_plain(&run);
    assert_eq!(run.code(), 0, "{}", run.err());
    assert_eq!(run.json()["cloud"]["account"], TARGET);
    let events = cloud.world().events();
    let acted = |operation: &str| -> Vec<&str> {
        let of = events.iter().filter(|event| event.operation == operation && event.effect == "ok");
        of.map(|event| event.account.as_str()).collect()
    };
    for operation in ["CreateSnapshots", "ListSnapshotBlocks", "GetSnapshotBlock", "DeleteSnapshot"] {
        let accounts = acted(operation);
        assert!(!accounts.is_empty() && accounts.iter().all(|account| *account == TARGET), "{operation}");
    }
    assert!(audit(&cloud).iter().all(|line| line["account"] == TARGET));
}

#[test]
fn an_external_id_is_given_where_the_role_asks_for_one() {
    let cloud = Cloud::with(|estate| elsewhere(estate, Some("hush-hush")));
    for given in [&["--role-arn", ROLE][..], &["--role-arn", ROLE, "--external-id", "wrong"]] {
        let run = with(&cloud, |command| {
            command.args(given);
        });
        one_mistake(&run, &[&format!("sts:AssumeRole of {ROLE}: denied")], "--external-id");
        assert!(!run.err().contains("wrong"), "{}", run.err());
    }
    let run = with(&cloud, |command| {
        command.args(["--role-arn", ROLE, "--external-id", "hush-hush", "-vv"]);
    });
    is_plain(&run);
    assert_eq!(run.code(), 0, "{}", run.err());
    assert!(!run.err().contains("hush-hush") && !run.out().contains("hush-hush"));

    let run = with(&cloud, |command| {
        command.args(["--external-id", "hush-hush"]);
    });
    one_mistake(&run, &["--role-arn"], "--help");
    let run = with(&cloud, |command| {
        command.args(["--role-arn", "scan"]);
    });
    one_mistake(&run, &["a role is given by its ARN"], "aws iam list-roles");
}

#[test]
fn what_a_role_may_not_do_is_said_of_it() {
    let cloud = Cloud::with(|estate| {
        elsewhere(estate, None);
        estate.accounts[1].roles[0].denied_actions.push("ebs:GetSnapshotBlock".to_owned());
    });
    let run = with(&cloud, |command| {
        command.args(["--role-arn", ROLE]);
    });
    let parts = [ROOT, DATA, "ebs:GetSnapshotBlock", "denied"];
    one_mistake(&run, &parts, "allow ebs:GetSnapshotBlock to this role");
}

#[test]
fn a_profile_gives_credentials_and_region() {
    let cloud = Cloud::with(|estate| {
        elsewhere(estate, None);
        estate.accounts[1].access_keys.push("AKIDPROFILE".to_owned());
    });
    fs::create_dir(cloud.path(".aws")).unwrap();
    let config = "[default]\nregion = eu-west-3\n\n[profile target]\nregion = us-east-1\naws_access_key_id = AKIDPROFILE\n\
                  aws_secret_access_key = no secret\n";
    fs::write(cloud.path(".aws/config"), config).unwrap();
    let without_variables = |command: &mut Command| {
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
            command.env_remove(name);
        }
    };
    let run = with(&cloud, |command| {
        without_variables(command);
        command.args(["--profile", "target"]);
    });
    is_plain(&run);
    assert_eq!(run.code(), 0, "{}", run.err());
    let json = run.json();
    assert_eq!((&json["cloud"]["account"], &json["cloud"]["region"]), (&TARGET.into(), &"us-east-1".into()));
    let run = with(&cloud, |command| {
        without_variables(command);
        command.args(["--profile", "nobody", "--region", "us-east-1"]);
    });
    one_mistake(&run, &["no AWS credentials"], "--profile");
    // A profile that is named goes before the variables, which are another account's.
    let run = with(&cloud, |command| {
        command.args(["--profile", "target"]);
    });
    assert_eq!(run.code(), 0, "{}", run.err());
    assert_eq!(run.json()["cloud"]["account"], TARGET);
}

#[test]
fn endpoints_of_single_services_are_taken() {
    let cloud = Cloud::new();
    let run = with(&cloud, |command| {
        let url =
            command.get_envs().find(|(name, _)| *name == "AWS_ENDPOINT_URL").unwrap().1.unwrap().to_owned();
        command.env_remove("AWS_ENDPOINT_URL");
        for service in ["EC2", "EBS", "STS"] {
            command.env(format!("AWS_ENDPOINT_URL_{service}"), &url);
        }
    });
    assert_eq!(run.code(), 0, "{}", run.err());
}

#[test]
fn data_does_not_leave_its_region() {
    let cloud = Cloud::new();
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_EBS"] {
        let run = with(&cloud, |command| {
            command.env(name, FAR);
        });
        let parts = ["endpoint 192.0.2.1 is not known to be in us-east-1"];
        one_mistake(&run, &parts, "--allow-cross-region");
    }
    // Only the fake's EC2 is near: the region's own EBS endpoint, and nothing tells where this machine is.
    let run = with(&cloud, |command| {
        let url =
            command.get_envs().find(|(name, _)| *name == "AWS_ENDPOINT_URL").unwrap().1.unwrap().to_owned();
        command
            .env_remove("AWS_ENDPOINT_URL")
            .env("AWS_ENDPOINT_URL_EC2", &url)
            .env("AWS_ENDPOINT_URL_STS", &url);
    });
    one_mistake(
        &run,
        &["nothing tells which region this machine is in", "us-east-1"],
        "--allow-cross-region",
    );
    let mut command = cloud.stillframe();
    command.env("AWS_ENDPOINT_URL_EBS", FAR).args(["scan", "snapshot", "snap-0aaaaaaaaaaaaaaa1"]);
    one_mistake(&Run(command.output().unwrap()), &["EBS endpoint 192.0.2.1"], "--allow-cross-region");
    assert_eq!(cloud.world().counters().events, 0, "nobody was called");
}

#[test]
fn that_data_may_leave_its_region_is_written_down_before_anything_is_read() {
    let cloud = Cloud::new();
    let near = cloud.stillframe();
    let url = near.get_envs().find(|(name, _)| *name == "AWS_ENDPOINT_URL").unwrap().1.unwrap().to_owned();
    let mut command = cloud.stillframe();
    command
        .env("AWS_ENDPOINT_URL_STS", url)
        .env("AWS_ENDPOINT_URL_EC2", FAR)
        .env("AWS_ENDPOINT_URL_EBS", FAR);
    command.args(["scan", "instance", MACHINE, "--allow-cross-region"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It would wait long for somebody who is not there.
    until("the line of the audit log", || !audit(&cloud).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = audit(&cloud);
    assert_eq!(lines[0]["operation"], "stillframe:AllowCrossRegion", "{lines:#?}");
    assert_eq!((&lines[0]["resource"], &lines[0]["result"]), (&"us-east-1".into(), &"allowed".into()));
}

#[test]
fn the_policy_of_each_role_is_a_document_with_reasons() {
    let cloud = Cloud::new();
    let actions = |role: &str| -> Vec<String> {
        let run = cloud.run(&["aws", "policy", "--role", role]);
        assert_eq!(run.code(), 0, "{}", run.err());
        let policy = run.json();
        assert_eq!(policy["Version"], "2012-10-17");
        let statements = policy["Statement"].as_array().unwrap().clone();
        let all = statements.iter().flat_map(|one| one["Action"].as_array().unwrap().clone());
        let all: Vec<String> = all.map(|action| action.as_str().unwrap().to_owned()).collect();
        let reasons: Vec<String> =
            run.err().lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
        assert_eq!(reasons, all, "each action has its reason");
        assert!(run.err().lines().all(|line| line.split_whitespace().count() > 2), "{}", run.err());
        all
    };
    let (single, orchestrator, worker) = (actions("single"), actions("orchestrator"), actions("worker"));
    let has = |list: &[String], action: &str| list.iter().any(|one| one == action);
    assert!(has(&orchestrator, "ec2:DeleteSnapshot") && !has(&orchestrator, "ebs:GetSnapshotBlock"));
    assert!(has(&worker, "ebs:GetSnapshotBlock") && !has(&worker, "ec2:DeleteSnapshot"));
    assert!(has(&single, "ec2:DeleteSnapshot") && has(&single, "ebs:GetSnapshotBlock"));
    let run = cloud.run(&["aws", "policy", "--region", "cn-north-1"]);
    assert!(
        run.out().contains("arn:aws-cn:ec2:*::snapshot/*") && !run.out().contains("arn:aws:"),
        "{}",
        run.out()
    );
    assert!(run.out().contains("\"ec2.*.amazonaws.com.cn\""), "{}", run.out());
    let run = cloud.run(&["aws", "policy", "--quiet", "--created-by", "Someone"]);
    assert_eq!(run.err(), "");
    assert!(run.out().contains("\"Someone\"") && !run.out().contains("Defender"));
    assert_eq!(cloud.world().counters().events, 0);
}

/// The verdict on each thing.
fn verdicts(run: &Run) -> Vec<(String, String)> {
    let json = run.json();
    let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    json["checks"].as_array().unwrap().iter().map(|one| (text(one, "what"), text(one, "verdict"))).collect()
}

fn verdict_on(run: &Run, what: &str) -> String {
    let all = verdicts(run);
    let found = all.iter().find(|(name, _)| name.starts_with(what));
    found.unwrap_or_else(|| panic!("{what}: {all:#?}")).1.clone()
}

#[test]
fn preflight_finds_nothing_missing_where_all_is_allowed() {
    let cloud = Cloud::new();
    let run = cloud.run(&["aws", "preflight", "--format", "json"]);
    is_plain(&run);
    assert_eq!((run.code(), run.err().as_str()), (0, ""));
    assert!(verdicts(&run).iter().all(|(_, verdict)| verdict == "allowed" || verdict == "unknown"));
    for action in ["ec2:DescribeInstances", "ec2:CreateSnapshots", "ec2:CreateSnapshot", "ec2:CreateTags"] {
        assert_eq!(verdict_on(&run, action), "allowed");
    }
    for action in ["ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock", "kms:Decrypt"] {
        assert_eq!(verdict_on(&run, action), "unknown");
    }
    assert_eq!(verdict_on(&run, "Recycle Bin"), "allowed");
    let table = cloud.run(&["aws", "preflight"]).out();
    assert!(
        table.contains("unknown  ebs:GetSnapshotBlock: the EBS direct APIs have no dry run\n"),
        "{table}"
    );
    assert!(table.contains("fine     quota L-C125AE42"), "{table}");
    assert!(table.ends_with("\nnothing that could be checked is missing\n"), "{table}");
    assert_eq!(cloud.world().estate().snapshots.len(), 0, "a dry run makes nothing");
}

#[test]
fn preflight_says_what_is_missing_first() {
    for action in ["ec2:CreateSnapshots", "ec2:DescribeVolumes", "ec2:CreateTags", "rbin:ListRules"] {
        let cloud = denying(&[action]);
        let run = cloud.run(&["aws", "preflight"]);
        is_plain(&run);
        assert_eq!(run.code(), 2, "{action}: {}", run.out());
        let out = run.out();
        let first = out.lines().nth(2).unwrap();
        assert!(first.starts_with(&format!("MISSING  {action} (")), "{out}");
        assert!(out.contains(&format!("allow {action}")), "{out}");
        assert!(
            out.ends_with("1 thing is missing; `stillframe aws policy` prints all that is needed\n"),
            "{out}"
        );
        assert_eq!(verdict_on(&cloud.run(&["aws", "preflight", "--format", "json"]), action), "missing");
    }
}

#[test]
fn preflight_warns_of_a_recycle_bin_that_keeps_what_is_deleted() {
    let cloud = Cloud::with(|estate| estate.accounts[0].recycle_bin_days = Some(7));
    let run = cloud.run(&["aws", "preflight"]);
    assert_eq!(run.code(), 0, "a warning keeps nobody from scanning");
    let out = run.out();
    let warning = out.lines().find(|line| line.starts_with("warning  Recycle Bin rule")).unwrap();
    assert!(warning.contains("7 days"), "{warning}");
    cloud.world().change(|estate| {
        let tag = ("CreatedBy".to_owned(), "Microsoft Defender for Cloud".to_owned());
        estate.accounts[0].recycle_bin_exclusion = Some(tag);
    });
    assert!(!cloud.run(&["aws", "preflight"]).out().contains("warning"));
}
