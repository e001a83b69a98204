//! Where this machine is and where the disks are, and who says so.

use std::process::Command;

use crate::harness::{Cloud, MACHINE, Run};
use crate::said::{is_plain, one_mistake, server_of};

const UNKNOWN: &str = "nothing tells which region this machine is in; the disks are in us-east-1";
const REFUSES: &str =
    "the scan would refuse; scan from a machine in that region, or give --allow-cross-region";
const CHINA: &str = r#"{"Cluster":"c","TaskARN":"arn:aws-cn:ecs:cn-north-1:111122223333:task/c/0a1b"}"#;
const HERE: &str = r#"{"Cluster":"c","TaskARN":"arn:aws:ecs:us-east-1:111122223333:task/c/0a1b"}"#;

/// Runs where everything is on loopback but EBS: that is the region's own, which nobody may ask here.
fn run(cloud: &Cloud, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command: Command = cloud.stillframe();
    let url = command.get_envs().find(|(name, _)| *name == "AWS_ENDPOINT_URL").unwrap().1.unwrap().to_owned();
    command.env_remove("AWS_ENDPOINT_URL");
    for service in ["EC2", "STS", "KMS", "RBIN", "SERVICE_QUOTAS"] {
        command.env(format!("AWS_ENDPOINT_URL_{service}"), &url);
    }
    command.envs(environment.iter().copied()).args(arguments);
    Run(command.output().unwrap())
}

/// There `AWS_REGION` is whatever the task's definition says.
#[test]
fn a_container_is_where_its_task_is_and_not_where_it_wants_to_go() {
    let cloud = Cloud::new();
    let scan = ["scan", "instance", MACHINE];
    for environment in ["AWS_ECS_FARGATE", "AWS_ECS_EC2"] {
        let variables = [("AWS_EXECUTION_ENV", environment), ("AWS_REGION", "us-east-1")];
        one_mistake(&run(&cloud, &scan, &variables), &[UNKNOWN], "--allow-cross-region");
        let agent = |body| format!("{}/v4/0a1b", server_of("200 OK", "application/json", body));
        let in_task = |arguments: &[&str], agent: &str| {
            let more = [("ECS_CONTAINER_METADATA_URI_V4", agent)];
            run(&cloud, arguments, &[&variables[..], &more].concat())
        };
        let elsewhere = ["this machine is in cn-north-1, the disks are in us-east-1"];
        one_mistake(&in_task(&scan, &agent(CHINA)), &elsewhere, "--allow-cross-region");
        one_mistake(&in_task(&scan, &agent("no JSON")), &[UNKNOWN], "--allow-cross-region");
        // A far address is no witness, so it is not even asked.
        one_mistake(&in_task(&scan, "http://192.0.2.1/v4/0a1b"), &[UNKNOWN], "--allow-cross-region");
        let here = in_task(&["scan", "instance", MACHINE, "--dry-run"], &agent(HERE));
        assert_eq!(here.code(), 0, "{}", here.err());
        assert!(here.out().ends_with("data locality: in the region of the disks\n"), "{}", here.out());
    }
    assert_eq!(cloud.world().estate().snapshots.len(), 0, "nothing was made");
}

#[test]
fn an_endpoint_with_the_regions_name_is_not_yet_the_regions_own() {
    let cloud = Cloud::new();
    for host in [
        "us-east-1.example.com",
        "ebs.us-east-1.example.com",
        "ebs.us-east-1.amazonaws.com.example.com",
        "us-east-1.s3.eu-west-3.amazonaws.com",
    ] {
        let url = format!("https://{host}");
        let variables = [("AWS_ENDPOINT_URL_EBS", url.as_str())];
        let run = run(&cloud, &["scan", "instance", MACHINE], &variables);
        one_mistake(
            &run,
            &[&format!("the EBS endpoint {host} is not known to be in us-east-1")],
            "--allow-cross-region",
        );
    }
    assert_eq!(cloud.world().counters().events, 0, "nobody was called");
}

#[test]
fn a_dry_run_reads_nothing_and_says_what_a_scan_would_make_of_it() {
    let cloud = Cloud::new();
    let dry_run = ["scan", "instance", MACHINE, "--dry-run"];
    let said = run(&cloud, &dry_run, &[]);
    is_plain(&said);
    assert_eq!(said.code(), 0, "{}", said.err());
    assert!(said.out().contains(&format!("data locality: {UNKNOWN}: {REFUSES}")), "{}", said.out());
    let json = run(&cloud, &[&dry_run[..], &["--format", "json"]].concat(), &[]).json();
    assert!(json["locality"].as_str().unwrap().starts_with(UNKNOWN), "{json}");
    let allowed = run(&cloud, &[&dry_run[..], &["--allow-cross-region"]].concat(), &[]).out();
    assert!(
        allowed.contains(&format!("data locality: crossing regions was allowed: {UNKNOWN}\n")),
        "{allowed}"
    );
    let audit = std::fs::read_to_string(cloud.path("state/stillframe/audit.jsonl")).unwrap_or_default();
    assert_eq!(audit, "", "nothing was crossed");
    let near = cloud.run(&dry_run).out();
    assert!(near.ends_with("data locality: endpoints on loopback\n"), "{near}");
}

#[test]
fn preflight_warns_where_a_scan_from_here_would_refuse() {
    let cloud = Cloud::new();
    let said = run(&cloud, &["aws", "preflight"], &[]);
    is_plain(&said);
    assert_eq!(said.code(), 0, "{}", said.err());
    let warning = format!("warning  data locality: {UNKNOWN}: a scan from here refuses to read\n");
    assert!(said.out().contains(&warning) && said.out().contains("--allow-cross-region"), "{}", said.out());
    assert!(cloud.run(&["aws", "preflight"]).out().contains("fine     data locality\n"));
}
