//! What the environment decides. It belongs to a process, so each case runs in one of its own: this test, started again.

use std::process::Command;

use stillframe_aws::{Connection, Options};
use stillframe_cloud::api::Advice;

use crate::server::{Reply, Server, xml};

const CASE: &str = "STILLFRAME_TEST_CASE";
/// Nothing of the environment of whoever runs the tests, but what a process needs.
const KEPT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR"];

/// The second process: opens as it is told, asks who it is, and says what came of it.
#[tokio::test]
async fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let options = Options {
        region: case.strip_prefix("region ").map(str::to_owned),
        allow_cross_region: case == "allowed",
        ..Options::default()
    };
    match Connection::open(&options).await {
        Err(error) => println!("<refused: {error}>"),
        Ok(connection) => {
            println!("<{} {}>", connection.region(), connection.locality());
            match connection.caller().await {
                Ok(place) => println!("<{} {}>", place.account, place.region),
                Err(error) => println!("<{:?} {error}>", error.kind),
            }
        }
    }
}

fn run(case: &str, environment: &[(&str, &str)]) -> Vec<String> {
    run_test("environment::child", case, environment)
}

fn run_test(test: &str, case: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env_clear();
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(CASE, case)
        .envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let says = text.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0.to_owned()));
    says.collect()
}

const IDENTITY: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>111122223333</Account>\
                        </GetCallerIdentityResult></GetCallerIdentityResponse>";
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDCANARY"), ("AWS_SECRET_ACCESS_KEY", "canary")];

#[test]
fn region_endpoint_and_credentials_come_from_the_environment() {
    let server = Server::start(vec![xml(200, IDENTITY)]);
    let environment = [KEYS[0], KEYS[1], ("AWS_REGION", "eu-north-1"), ("AWS_ENDPOINT_URL", server.url())];
    assert_eq!(run("", &environment), ["eu-north-1 endpoints on loopback", "111122223333 eu-north-1"]);
    assert!(server.requests()[0].contains("Credential=AKIDCANARY/"));
}

#[test]
fn a_service_of_its_own_endpoint_goes_before_that_of_all() {
    let server = Server::start(vec![xml(200, IDENTITY)]);
    let environment = [
        KEYS[0],
        KEYS[1],
        ("AWS_REGION", "eu-north-1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ENDPOINT_URL_STS", server.url()),
    ];
    assert_eq!(run("", &environment), ["eu-north-1 endpoints on loopback", "111122223333 eu-north-1"]);
    let elsewhere = [KEYS[0], KEYS[1], ("AWS_REGION", "eu-north-1"), ("AWS_ENDPOINT_URL_EBS", server.url())];
    let says = run("", &elsewhere);
    assert_eq!(says, ["refused: nothing tells which region this machine is in; the disks are in eu-north-1"]);
}

/// Says what became of a question to each of the services that are asked before a scan.
#[tokio::test]
async fn adviser() {
    if std::env::var(CASE).is_err() {
        return;
    }
    let connection = Connection::open(&Options::default()).await.unwrap();
    let answers = [
        connection.describe_key("key").await.map(drop),
        connection.recycle_bin_rules(None).await.map(drop),
        connection.quota("ebs", "L-C125AE42").await.map(drop),
    ];
    for answer in answers {
        println!("<{}>", answer.unwrap_err());
    }
}

#[test]
fn where_disks_are_on_loopback_no_service_is_asked_that_is_not() {
    let far = "not asked: EC2 and EBS are on loopback, and this service is not";
    let here = "http://127.0.0.1:1";
    let base = [KEYS[0], KEYS[1], ("AWS_REGION", "eu-north-1")];
    let disks = [("AWS_ENDPOINT_URL_EC2", here), ("AWS_ENDPOINT_URL_EBS", here)];
    let asked = |more: &[(&str, &str)]| {
        let environment: Vec<_> = base.iter().chain(&disks).chain(more).copied().collect();
        run_test("environment::adviser", "", &environment)
    };
    let says = asked(&[]);
    assert_eq!(says.len(), 3, "{says:?}");
    assert!(says.iter().all(|said| said.ends_with(far)), "{says:?}");
    let says = asked(&[
        ("AWS_ENDPOINT_URL_KMS", here),
        ("AWS_ENDPOINT_URL_RBIN", here),
        ("AWS_ENDPOINT_URL_SERVICE_QUOTAS", here),
    ]);
    assert!(says.iter().all(|said| said.ends_with("the connection failed")), "{says:?}");
    let says = asked(&[("AWS_ENDPOINT_URL", here), ("AWS_ENDPOINT_URL_KMS", "http://kms.example.invalid")]);
    let kinds: Vec<_> = says.iter().map(|said| said.ends_with(far)).collect();
    assert_eq!(kinds, [true, false, false], "{says:?}");
}

#[test]
fn data_does_not_leave_its_region() {
    let unknown = "refused: nothing tells which region this machine is in; the disks are in eu-west-3";
    let elsewhere = "refused: this machine is in us-east-1, the disks are in eu-west-3";
    assert_eq!(run("region eu-west-3", &[("AWS_REGION", "us-east-1")]), [unknown]);
    let function = [("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"), ("AWS_REGION", "us-east-1")];
    assert_eq!(run("region eu-west-3", &function), [elsewhere]);
    let far = [("AWS_REGION", "eu-west-3"), ("AWS_ENDPOINT_URL_EBS", "https://ebs.us-east-1.amazonaws.com")];
    assert_eq!(
        run("", &far),
        ["refused: the EBS endpoint ebs.us-east-1.amazonaws.com is not known to be in eu-west-3"]
    );
    assert_eq!(run("", &[]), ["refused: no region: give one, or set AWS_REGION"]);
    assert!(run("region eu-west-3.evil.example", &[])[0].starts_with("refused: the region's name"));
    assert_eq!(
        run("", &[("AWS_REGION", "eu-west-3"), ("AWS_ENDPOINT_URL_EC2", "ftp://127.0.0.1")]),
        ["refused: the EC2 endpoint is no http:// or https:// URL"]
    );
}

/// There `AWS_REGION` is whatever the task's definition says, and it says where the disks are.
#[test]
fn a_container_is_where_its_task_is() {
    let fargate = [("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE"), ("AWS_REGION", "eu-west-3")];
    let unknown = "refused: nothing tells which region this machine is in; the disks are in eu-west-3";
    assert_eq!(run("", &fargate), [unknown]);
    let run_in = |region: &str| {
        let body = format!(r#"{{"TaskARN":"arn:aws:ecs:{region}:111122223333:task/c/0a1b","Family":"f"}}"#);
        let reply = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let agent = Server::start(vec![Reply::Cut(reply.into_bytes())]);
        let url = format!("{}/v4/0a1b", agent.url());
        // The endpoint of STS is closed, so that nothing leaves this machine.
        let more =
            [("ECS_CONTAINER_METADATA_URI_V4", url.as_str()), ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")];
        let environment: Vec<_> = fargate.iter().chain(&more).chain(&KEYS).copied().collect();
        let says = run("", &environment);
        assert!(agent.requests()[0].starts_with("GET /v4/0a1b/task HTTP/1.0\r\n"));
        says
    };
    assert_eq!(run_in("us-east-1"), ["refused: this machine is in us-east-1, the disks are in eu-west-3"]);
    assert_eq!(run_in("eu-west-3")[0], "eu-west-3 in the region of the disks");
    let nowhere = [fargate[0], fargate[1], ("ECS_CONTAINER_METADATA_URI_V4", "http://127.0.0.1:1/v4/x")];
    assert_eq!(run("", &nowhere), [unknown]);
}

#[test]
fn without_credentials_nothing_is_asked() {
    let server = Server::start(vec![xml(200, IDENTITY)]);
    let environment =
        [("AWS_REGION", "eu-north-1"), ("AWS_ENDPOINT_URL", server.url()), ("AWS_PROFILE", "none-such")];
    let says = run("", &environment);
    assert_eq!(says.len(), 2, "{says:?}");
    assert_eq!(says[1], "Credentials credentials: none were found, or their source failed");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn crossing_is_allowed_by_name_and_said() {
    // The endpoint of STS is closed, so that nothing leaves this machine.
    let environment =
        [KEYS[0], KEYS[1], ("AWS_REGION", "eu-north-1"), ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")];
    let says = run("allowed", &environment);
    assert_eq!(
        says,
        [
            "eu-north-1 crossing regions was allowed: nothing tells which region this machine is in; the disks are in \
             eu-north-1",
            "NoReply sts:GetCallerIdentity: the connection failed"
        ]
    );
}
