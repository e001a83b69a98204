//! Keys, the Recycle Bin, quotas. The calls are other services', which need not be within reach: they get few attempts.

use std::collections::BTreeSet;

use super::{Check, Round, Verdict, allow, is_denied};
use crate::api::{Answer, ApiError, ErrorKind, KeyState, RetentionRule, Tags};
use crate::discover::Discovery;
use crate::limiter::Operation;
use crate::retry::{RetryPolicy, retry};
use crate::tags::CREATED_BY;

const KEY_REASON: &str = "blocks of a disk are read with its key";
const BIN_REASON: &str =
    "a deleted snapshot that a rule keeps is not gone, and costs until the rule lets it go";
const QUOTA_REASON: &str = "what is above a quota is throttled";

const ATTEMPTS: u32 = 3;
/// A list of this many pages has no end.
const PAGES_AT_MOST: u32 = 1_000;

/// A quota of EBS that a scan comes near.
struct Quota {
    code: &'static str,
    what: &'static str,
    /// What the scans are set to.
    wanted: f64,
}

impl Round<'_> {
    /// The keys of the disks that would be scanned.
    pub(super) async fn keys(&mut self, found: Result<&Discovery, &ApiError>) {
        let action = "kms:DescribeKey";
        let planned = match found {
            Ok(found) => found.instances.iter(),
            Err(error) => {
                let why = format!("the disks and their keys could not be listed: {error}");
                self.verdicts.insert(action, Verdict::Unknown { why });
                return;
            }
        };
        let volumes = planned.flat_map(|planned| planned.volumes());
        let keys: BTreeSet<&String> = volumes.filter_map(|volume| volume.kms_key_id.as_ref()).collect();
        self.verdicts.insert(action, Verdict::unknown("no disk that would be scanned is encrypted"));
        for key in keys {
            let answer = self.ask(action, || self.advice.describe_key(key)).await;
            self.note(action, &answer);
            let verdict = verdict_on_key(&answer);
            self.settings.push(Check { what: format!("KMS key {key}"), verdict, reason: KEY_REASON });
        }
    }

    /// The rules that would keep what we delete.
    pub(super) async fn recycle_bin(&mut self) {
        let (list, get) = ("rbin:ListRules", "rbin:GetRule");
        let listed = self.list_rules().await;
        self.verdicts.insert(list, Verdict::of(list, &listed));
        let ids = match listed {
            Ok(ids) => ids,
            Err(error) => {
                self.verdicts.insert(get, Verdict::unknown("the rules could not be listed"));
                self.setting("Recycle Bin", Verdict::unknown(error.to_string()), BIN_REASON);
                return;
            }
        };
        let tags = self.creation_tags("i-0");
        self.verdicts.insert(get, Verdict::unknown("there is no rule to read"));
        let mut keeps = false;
        for id in ids {
            let answer = self.ask(get, || self.advice.recycle_bin_rule(&id)).await;
            self.note(get, &answer);
            let verdict = match answer {
                Ok(rule) if keeps_ours(&rule, &tags) => kept(&rule, &self.order.created_by),
                Ok(_) => continue,
                Err(error) if error.kind == ErrorKind::NotFound => continue,
                Err(error) => Verdict::unknown(error.to_string()),
            };
            keeps = true;
            self.setting(&format!("Recycle Bin rule {id}"), verdict, BIN_REASON);
        }
        if !keeps {
            self.setting("Recycle Bin", Verdict::Allowed, BIN_REASON);
        }
    }

    async fn list_rules(&self) -> Result<Vec<String>, ApiError> {
        let (mut ids, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_AT_MOST {
            let call = || self.advice.recycle_bin_rules(token.clone());
            let page = self.ask("rbin:ListRules", call).await?;
            ids.extend(page.items);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        Ok(ids)
    }

    /// The quotas beside what the scans are set to.
    pub(super) async fn quotas(&mut self) {
        let (own, default) = ("servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota");
        let rates = &self.order.rates;
        let quotas = [
            Quota { code: "L-C125AE42", what: "GetSnapshotBlock calls a second", wanted: rates.get.cap },
            Quota { code: "L-18E976AB", what: "ListSnapshotBlocks calls a second", wanted: rates.list.cap },
            Quota {
                code: "L-94D7AB7D",
                what: "pending snapshots",
                wanted: f64::from(self.order.pending_snapshots),
            },
        ];
        for quota in quotas {
            let mut answer = self.ask(own, || self.advice.quota("ebs", quota.code)).await;
            self.note(own, &answer);
            // Asked for anyway the first time: whether it is allowed is to be known.
            if answer == Ok(None) || !self.verdicts.contains_key(default) {
                let common = self.ask(default, || self.advice.default_quota("ebs", quota.code)).await;
                self.note(default, &common);
                if answer == Ok(None) {
                    answer = common;
                }
            }
            let verdict = verdict_on_quota(&quota, &answer);
            self.setting(&format!("quota {}: {}", quota.code, quota.what), verdict, QUOTA_REASON);
        }
    }

    /// Of several answers about an action a denial says most, and a failure least. That there is no such thing is as
    /// good as any other answer.
    fn note<T>(&mut self, action: &'static str, answer: &Result<T, ApiError>) {
        let verdict = match answer {
            Err(error) if error.kind == ErrorKind::NotFound => Verdict::Allowed,
            answer => Verdict::of(action, answer),
        };
        let weight = |verdict: &Verdict| match verdict {
            Verdict::Missing { .. } => 2,
            Verdict::Allowed | Verdict::Warning { .. } => 1,
            Verdict::Unknown { .. } => 0,
        };
        let before = self.verdicts.get(action);
        if before.is_none_or(|before| weight(before) <= weight(&verdict)) {
            self.verdicts.insert(action, verdict);
        }
    }

    fn setting(&mut self, what: &str, verdict: Verdict, reason: &'static str) {
        self.settings.push(Check { what: what.to_owned(), verdict, reason });
    }

    async fn ask<'b, T>(&self, name: &'static str, call: impl Fn() -> Answer<'b, T>) -> Result<T, ApiError> {
        let caller = &self.client.caller;
        let policy = RetryPolicy { attempts: caller.retry.attempts.min(ATTEMPTS), ..caller.retry };
        retry(policy, || caller.once(Operation::Describe, name, &call)).await
    }
}

fn verdict_on_key(answer: &Result<KeyState, ApiError>) -> Verdict {
    let missing = |code: &str, fix: &str| Verdict::Missing { code: code.to_owned(), fix: fix.to_owned() };
    match answer {
        Ok(KeyState::Enabled) => Verdict::Allowed,
        Ok(KeyState::Disabled) => {
            missing("Disabled", "enable the key, or leave its disks out: they cannot be read without it")
        }
        Ok(KeyState::PendingDeletion) => missing(
            "PendingDeletion",
            "cancel the deletion and enable the key, or leave its disks out: once it is gone nobody can read them",
        ),
        Ok(KeyState::Other(state)) => Verdict::Warning {
            found: format!("the key is in state {state}"),
            fix: "blocks of its disks can be read once it is Enabled".to_owned(),
        },
        Err(error) if error.kind == ErrorKind::NotFound => missing(
            &error.code,
            "leave its disks out: there is no such key any more, and nobody can read them without it",
        ),
        Err(error) if is_denied(error) => Verdict::Missing {
            code: error.code.clone(),
            fix: format!("{}; the key's own policy must let the caller in too", allow("kms:DescribeKey")),
        },
        Err(error) => Verdict::unknown(error.to_string()),
    }
}

/// Whether a snapshot with these tags, deleted, would be kept. Where a rule gives no value to a tag it is taken for the
/// worse: a rule keeps what has any value, and excludes nothing.
fn keeps_ours(rule: &RetentionRule, tags: &Tags) -> bool {
    let retains = |(key, value): &(String, Option<String>)| {
        tags.get(key).is_some_and(|ours| value.as_ref().is_none_or(|value| value == ours))
    };
    let excludes =
        |(key, value): &(String, Option<String>)| value.is_some() && tags.get(key) == value.as_ref();
    rule.covers_snapshots
        && (rule.resource_tags.is_empty() || rule.resource_tags.iter().any(retains))
        && !rule.exclude_tags.iter().any(excludes)
}

fn kept(rule: &RetentionRule, created_by: &str) -> Verdict {
    let found = format!("it keeps the snapshots that a scan deletes for {} days", rule.days);
    let fix = if !rule.resource_tags.is_empty() {
        "it takes them for their tags: leave those out of the scan's tags, or out of the rule".to_owned()
    } else if rule.locked {
        format!("it is locked: unlock it, then add the exclusion tag {CREATED_BY}={created_by}")
    } else {
        format!("add the exclusion tag {CREATED_BY}={created_by} to the rule")
    };
    Verdict::Warning { found, fix }
}

fn verdict_on_quota(quota: &Quota, answer: &Result<Option<f64>, ApiError>) -> Verdict {
    match answer {
        Ok(Some(value)) if *value < quota.wanted => Verdict::Warning {
            found: format!("the quota is {value}, the scan is set to {}", quota.wanted),
            fix: "set the scan lower, or have the quota raised".to_owned(),
        },
        Ok(Some(_)) => Verdict::Allowed,
        Ok(None) => Verdict::unknown("the cloud knows no such quota"),
        Err(error) => Verdict::unknown(error.to_string()),
    }
}
