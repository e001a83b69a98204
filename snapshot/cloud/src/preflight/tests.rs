use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::*;
use crate::api::{Answer, KeyState, Page, RetentionRule, SnapshotState};
use crate::tags::{CREATED_BY, DEFAULT_CREATED_BY, SCAN_ID};
use crate::testing::{FakeCompute, Process, api_error};

const KEY: &str = "arn:aws:kms:eu-west-3:111122223333:key/1";

/// What the account says of keys, rules and quotas. Pages of one rule.
#[derive(Default)]
struct FakeAdvice {
    keys: BTreeMap<&'static str, Result<KeyState, ErrorKind>>,
    rules: Vec<RetentionRule>,
    quotas: BTreeMap<&'static str, f64>,
    denied: Vec<&'static str>,
    log: Mutex<Vec<String>>,
}

impl FakeAdvice {
    fn answer<T: Send + 'static>(
        &self,
        operation: &'static str,
        about: &str,
        answer: Result<T, ErrorKind>,
    ) -> Answer<'_, T> {
        self.log.lock().unwrap().push(format!("{operation} {about}"));
        let answer = if self.denied.contains(&operation) { Err(ErrorKind::AccessDenied) } else { answer };
        Box::pin(async move { answer.map_err(|kind| api_error(operation, kind)) })
    }
}

impl Advice for FakeAdvice {
    fn describe_key(&self, key: &str) -> Answer<'_, KeyState> {
        let state = self.keys.get(key).cloned().unwrap_or(Ok(KeyState::Enabled));
        self.answer("kms:DescribeKey", key, state)
    }

    fn recycle_bin_rules(&self, page: Option<String>) -> Answer<'_, Page<String>> {
        let start: usize = page.map_or(0, |page| page.parse().unwrap());
        let items: Vec<String> = self.rules.iter().skip(start).take(1).map(|rule| rule.id.clone()).collect();
        let next = (start + 1 < self.rules.len()).then(|| (start + 1).to_string());
        self.answer("rbin:ListRules", "", Ok(Page { items, next }))
    }

    fn recycle_bin_rule(&self, id: &str) -> Answer<'_, RetentionRule> {
        let rule = self.rules.iter().find(|rule| rule.id == id).cloned();
        self.answer("rbin:GetRule", id, rule.ok_or(ErrorKind::NotFound))
    }

    fn quota(&self, service: &str, code: &str) -> Answer<'_, Option<f64>> {
        assert_eq!(service, "ebs");
        self.answer("servicequotas:GetServiceQuota", code, Ok(self.quotas.get(code).copied()))
    }

    fn default_quota(&self, _: &str, code: &str) -> Answer<'_, Option<f64>> {
        let value = match code {
            "L-C125AE42" => Some(1_000.0),
            "L-18E976AB" => Some(50.0),
            "L-94D7AB7D" => Some(100.0),
            _ => None,
        };
        self.answer("servicequotas:GetAWSDefaultServiceQuota", code, Ok(value))
    }
}

fn order(role: Role) -> PreflightOrder {
    PreflightOrder {
        role,
        created_by: DEFAULT_CREATED_BY.to_owned(),
        user_tags: Tags::from([("team".to_owned(), "blue".to_owned())]),
        selection: Selection::default(),
        exclusions: Exclusions::default(),
        rates: Rates::default(),
        pending_snapshots: 100,
        now: Timestamp::from_second(1_790_000_000).unwrap(),
    }
}

fn sendable<T: Send>(future: T) -> T {
    future
}

async fn checked(cloud: &std::sync::Arc<FakeCompute>, advice: &FakeAdvice, role: Role) -> Vec<Check> {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), cloud);
    // Whoever asks may do so on any thread.
    sendable(preflight(&process.purger.client, advice, &order(role))).await
}

/// An account with a machine of two disks, one of them encrypted, and a snapshot of ours.
fn cloud() -> std::sync::Arc<FakeCompute> {
    let cloud = FakeCompute::new().with_instance("i-1", &["vol-1", "vol-2"]);
    cloud.world().volumes[1].kms_key_id = Some(KEY.to_owned());
    let tags = [(CREATED_BY, DEFAULT_CREATED_BY), (SCAN_ID, "0123456789abcdef")];
    cloud.plant("snap-1", SnapshotState::Completed, &tags);
    cloud
}

fn of<'a>(checks: &'a [Check], what: &str) -> &'a Verdict {
    let found: Vec<_> = checks.iter().filter(|check| check.what == what).collect();
    let [check] = found[..] else { panic!("{what}: {checks:#?}") };
    &check.verdict
}

fn is_unknown(verdict: &Verdict, because: &str) -> bool {
    matches!(verdict, Verdict::Unknown { why } if why.contains(because))
}

#[tokio::test(start_paused = true)]
async fn every_action_of_the_policy_is_checked_once_and_in_its_order() {
    for role in [Role::Single, Role::Orchestrator, Role::Worker] {
        let checks = checked(&cloud(), &FakeAdvice::default(), role).await;
        let mut seen = BTreeSet::new();
        let listed = policy::reasons(role, DEFAULT_CREATED_BY);
        let wanted: Vec<_> = listed.into_iter().filter(|(action, _)| seen.insert(*action)).collect();
        let found: Vec<_> =
            checks.iter().take(wanted.len()).map(|check| (check.what.as_str(), check.reason)).collect();
        assert_eq!(found, wanted);
        for check in &checks {
            assert!(!is_unknown(&check.verdict, "nothing tries it"), "{check:?}");
            assert!(!check.reason.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_allowed_is_said_and_what_cannot_be_tried_too() {
    let cloud = cloud();
    let advice = FakeAdvice::default();
    let checks = checked(&cloud, &advice, Role::Single).await;
    for check in &checks {
        match check.what.as_str() {
            "ebs:ListSnapshotBlocks" | "ebs:GetSnapshotBlock" => {
                assert!(is_unknown(&check.verdict, "the EBS direct APIs have no dry run"));
            }
            "kms:Decrypt" => assert!(is_unknown(&check.verdict, "encrypted disk")),
            "rbin:GetRule" => assert!(is_unknown(&check.verdict, "there is no rule to read")),
            _ => assert_eq!(check.verdict, Verdict::Allowed, "{check:?}"),
        }
    }
    for setting in [&format!("KMS key {KEY}"), "Recycle Bin", "quota L-94D7AB7D: pending snapshots"] {
        assert_eq!(of(&checks, setting), &Verdict::Allowed);
    }
    // Nothing is made, deleted or read.
    let world = cloud.world();
    let plain =
        |line: &String| line.starts_with("ec2:Describe") || line == "dry-run" || line.contains("RecycleBin");
    assert!(world.log.iter().all(plain), "{:?}", world.log);
}

#[tokio::test(start_paused = true)]
async fn a_worker_asks_for_what_a_scan_of_snapshots_asks_for_and_nothing_else() {
    let (cloud, advice) = (cloud(), FakeAdvice::default());
    let checks = checked(&cloud, &advice, Role::Worker).await;
    let looks = ["ec2:DescribeSnapshots", "ec2:ListSnapshotsInRecycleBin"];
    for check in &checks {
        match looks.contains(&check.what.as_str()) {
            true => assert_eq!(check.verdict, Verdict::Allowed),
            false => assert!(matches!(check.verdict, Verdict::Unknown { .. }), "{check:?}"),
        }
    }
    assert_eq!(cloud.world().log, ["dry-run", "ec2:ListSnapshotsInRecycleBin"]);
    assert_eq!(advice.log.lock().unwrap().len(), 0);
    for look in looks {
        assert!(checks.iter().any(|check| check.what == look), "{look}");
    }
    cloud.world().refusals.insert("dry-run", ErrorKind::AccessDenied);
    let checks = checked(&cloud, &advice, Role::Worker).await;
    assert!(matches!(of(&checks, "ec2:DescribeSnapshots"), Verdict::Missing { .. }));
}

#[tokio::test(start_paused = true)]
async fn without_a_machine_or_a_snapshot_nothing_is_guessed() {
    let checks = checked(&FakeCompute::new(), &FakeAdvice::default(), Role::Single).await;
    for action in ["ec2:CreateSnapshots", "ec2:CreateSnapshot", "ec2:CreateTags"] {
        assert!(is_unknown(of(&checks, action), "there is no running instance to try it on"));
    }
    assert!(is_unknown(of(&checks, "ec2:DeleteSnapshot"), "no snapshot of ours"));
    assert!(is_unknown(of(&checks, "kms:DescribeKey"), "no disk"));
    assert_eq!(of(&checks, "ec2:ListSnapshotsInRecycleBin"), &Verdict::Allowed);
    assert_eq!(of(&checks, "ec2:DescribeInstanceTypes"), &Verdict::Allowed);
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_missing_and_the_rest_goes_on() {
    let cloud = cloud();
    cloud.world().refusals.insert("ec2:DescribeInstances", ErrorKind::AccessDenied);
    cloud.world().refusals.insert("ec2:DescribeRegions", ErrorKind::AccessDenied);
    cloud.world().refusals.insert("ec2:DescribeSnapshots", ErrorKind::AccessDenied);
    let denied = vec!["rbin:ListRules", "servicequotas:GetServiceQuota"];
    let checks = checked(&cloud, &FakeAdvice { denied, ..FakeAdvice::default() }, Role::Single).await;
    let Verdict::Missing { code, fix } = of(&checks, "ec2:DescribeRegions") else { panic!("{checks:?}") };
    assert_eq!(code, "AccessDenied");
    assert!(fix.contains("ec2:DescribeRegions") && fix.contains("`stillframe aws policy`"), "{fix}");
    assert!(is_unknown(of(&checks, "ec2:CreateSnapshots"), "could not be listed: ec2:DescribeInstances"));
    assert!(is_unknown(of(&checks, "ec2:DeleteSnapshot"), "could not be listed: ec2:DescribeSnapshots"));
    assert!(is_unknown(of(&checks, "kms:DescribeKey"), "could not be listed"));
    assert!(matches!(of(&checks, "rbin:ListRules"), Verdict::Missing { .. }));
    assert!(matches!(of(&checks, "servicequotas:GetServiceQuota"), Verdict::Missing { .. }));
    assert_eq!(of(&checks, "servicequotas:GetAWSDefaultServiceQuota"), &Verdict::Allowed);
    assert!(is_unknown(of(&checks, "quota L-94D7AB7D: pending snapshots"), "GetServiceQuota"));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_says_nothing_and_is_not_waited_for_long() {
    let cloud = cloud();
    cloud.world().refusals.insert("dry-run", ErrorKind::Service);
    let keys = [(KEY, Err(ErrorKind::NoReply))].into();
    let advice = FakeAdvice { keys, ..FakeAdvice::default() };
    let checks = checked(&cloud, &advice, Role::Single).await;
    assert!(is_unknown(of(&checks, "ec2:CreateSnapshots"), "dry-run: Service"));
    assert!(is_unknown(of(&checks, "ec2:CreateTags"), "creating call"));
    assert!(is_unknown(of(&checks, "kms:DescribeKey"), "NoReply"));
    let log = advice.log.lock().unwrap();
    assert_eq!(log.iter().filter(|line| line.starts_with("kms:DescribeKey")).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn keys_have_their_state_and_what_to_do() {
    let keys = ["key/1", "key/2", "key/3", "key/4", "key/5", "key/6"];
    let cloud = FakeCompute::new().with_instance("i-1", &["v1", "v2", "v3", "v4", "v5", "v6", "v7"]);
    for (volume, key) in cloud.world().volumes.iter_mut().zip(keys.iter().chain(["key/1"].iter())) {
        volume.kms_key_id = Some((*key).to_owned());
    }
    let states = [
        Ok(KeyState::Enabled),
        Ok(KeyState::Disabled),
        Ok(KeyState::PendingDeletion),
        Ok(KeyState::Other("Unavailable".to_owned())),
        Err(ErrorKind::NotFound),
        Err(ErrorKind::KmsDenied),
    ];
    let advice = FakeAdvice { keys: keys.into_iter().zip(states).collect(), ..FakeAdvice::default() };
    let checks = checked(&cloud, &advice, Role::Single).await;
    let code = |key: &str| match of(&checks, &format!("KMS key {key}")) {
        Verdict::Missing { code, fix } if !fix.is_empty() => code.clone(),
        Verdict::Warning { found, .. } => found.clone(),
        other => format!("{other:?}"),
    };
    let found: Vec<_> = keys.iter().map(|key| code(key)).collect();
    assert_eq!(
        found,
        [
            "Allowed",
            "Disabled",
            "PendingDeletion",
            "the key is in state Unavailable",
            "NotFound",
            "KmsDenied"
        ]
    );
    assert!(matches!(of(&checks, "kms:DescribeKey"), Verdict::Missing { .. }));
    assert_eq!(advice.log.lock().unwrap().iter().filter(|line| line.contains("kms")).count(), 6);
}

#[tokio::test(start_paused = true)]
async fn rules_warn_only_where_they_would_keep_ours() {
    let tag = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
    let rule = |id: &str| RetentionRule {
        id: id.to_owned(),
        days: 7,
        covers_snapshots: true,
        ..RetentionRule::default()
    };
    let ours = tag(CREATED_BY, Some(DEFAULT_CREATED_BY));
    let rules = vec![
        rule("all"),
        RetentionRule { locked: true, ..rule("locked") },
        RetentionRule { exclude_tags: vec![tag("x", Some("y")), ours.clone()], ..rule("excluded") },
        RetentionRule { exclude_tags: vec![tag(CREATED_BY, None)], ..rule("vague") },
        RetentionRule { exclude_tags: vec![tag("team", Some("blue"))], ..rule("by user tag") },
        RetentionRule { covers_snapshots: false, ..rule("images") },
        RetentionRule { resource_tags: vec![tag("team", Some("red"))], ..rule("others") },
        RetentionRule { resource_tags: vec![tag("team", Some("blue"))], ..rule("team") },
        RetentionRule { resource_tags: vec![tag("stillframe:scan-id", None)], ..rule("scans") },
    ];
    let checks = checked(&cloud(), &FakeAdvice { rules, ..FakeAdvice::default() }, Role::Single).await;
    let warned: Vec<_> =
        checks.iter().filter_map(|check| check.what.strip_prefix("Recycle Bin rule ")).collect();
    assert_eq!(warned, ["all", "locked", "vague", "team", "scans"]);
    let fix = |id: &str| match of(&checks, &format!("Recycle Bin rule {id}")) {
        Verdict::Warning { found, fix } => {
            assert!(found.contains("7 days"));
            fix.clone()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(fix("all"), "add the exclusion tag CreatedBy=Microsoft Defender for Cloud to the rule");
    assert!(fix("locked").contains("unlock it") && fix("team").contains("leave those out"));
    assert_eq!(of(&checks, "rbin:GetRule"), &Verdict::Allowed);
    assert!(!checks.iter().any(|check| check.what == "Recycle Bin"));
}

#[tokio::test(start_paused = true)]
async fn quotas_below_what_is_asked_for_are_warned_of() {
    let quotas = [("L-C125AE42", 100.0), ("L-18E976AB", 20.0), ("L-94D7AB7D", 99.0)].into();
    let advice = FakeAdvice { quotas, ..FakeAdvice::default() };
    let checks = checked(&cloud(), &advice, Role::Single).await;
    let found = |what: &str| match of(&checks, what) {
        Verdict::Warning { found, .. } => found.clone(),
        other => format!("{other:?}"),
    };
    let gets = found("quota L-C125AE42: GetSnapshotBlock calls a second");
    assert_eq!(gets, "the quota is 100, the scan is set to 400");
    assert_eq!(found("quota L-18E976AB: ListSnapshotBlocks calls a second"), "Allowed");
    assert_eq!(found("quota L-94D7AB7D: pending snapshots"), "the quota is 99, the scan is set to 100");
    // The account's own counts; the common one is asked for once, to know whether it may be.
    let log = advice.log.lock().unwrap();
    assert_eq!(log.iter().filter(|line| line.contains("AWSDefault")).count(), 1);
}

#[test]
fn a_denial_that_names_tagging_is_one_of_tagging() {
    let error = |code: &str| ApiError {
        operation: "ec2:CreateSnapshots",
        resource: None,
        kind: ErrorKind::AccessDenied,
        code: code.to_owned(),
        request_id: None,
    };
    assert!(denies_tagging(&&error("UnauthorizedOperation: ec2:CreateTags")));
    assert!(!denies_tagging(&&error("UnauthorizedOperation")));
}
