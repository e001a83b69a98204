//! The Recycle Bin's rules. An account has one for snapshots, or none.

use serde_json::{Value, json};

use crate::access;
use crate::estate::Account;
use crate::reply::{Refusal, Reply};
use crate::world::Scene;

/// The one rule: ids have eleven letters and digits.
const RULE: &str = "fA4eBinRule";

pub(crate) fn answer(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    match scene.call.operation.as_str() {
        "ListRules" => list(scene),
        _ => describe(scene),
    }
}

fn list(scene: &Scene<'_>) -> Result<Reply, Refusal> {
    let call = scene.call;
    let bad = |message: &str| {
        Err(Refusal::new(400, "ValidationException", message).because("INVALID_PARAMETER_VALUE"))
    };
    if ["ResourceTags", "ExcludeResourceTags", "LockState"].iter().any(|name| call.value(name).is_some()) {
        return bad("this fake does not select rules by tags or locks");
    }
    let kind = call.value("ResourceType");
    if !kind.is_some_and(|kind| matches!(kind, "EBS_SNAPSHOT" | "EC2_IMAGE" | "EBS_VOLUME")) {
        return bad("ResourceType is EBS_SNAPSHOT, EC2_IMAGE or EBS_VOLUME");
    }
    if call.value("NextToken").is_some() {
        let refusal = Refusal::new(400, "ValidationException", "no page has a next one here");
        return Err(refusal.because("INVALID_PAGE_TOKEN"));
    }
    let days = account(scene).and_then(|account| account.recycle_bin_days);
    let days = days.filter(|_| kind == Some("EBS_SNAPSHOT"));
    let rule = |days: u64| json!({"Identifier": RULE, "Description": "", "RetentionPeriod": period(days), "RuleArn": arn(scene)});
    let rules: Vec<Value> = days.map(rule).into_iter().collect();
    Ok(Reply::json(200, &json!({"Rules": rules})))
}

fn describe(scene: &Scene<'_>) -> Result<Reply, Refusal> {
    access::check_rule(scene, arn(scene))?;
    let account = account(scene).filter(|_| scene.call.path.get(1).is_some_and(|id| id == RULE));
    let Some((account, days)) = account.and_then(|account| Some((account, account.recycle_bin_days?))) else {
        let refusal = Refusal::new(404, "ResourceNotFoundException", "there is no such rule");
        return Err(refusal.because("RULE_NOT_FOUND"));
    };
    let tags = |tag: &Option<(String, String)>| -> Vec<Value> {
        let tag = tag.iter();
        tag.map(|(key, value)| json!({"ResourceTagKey": key, "ResourceTagValue": value})).collect()
    };
    let body = json!({
        "Identifier": RULE,
        "Description": "",
        "ResourceType": "EBS_SNAPSHOT",
        "RetentionPeriod": period(days),
        "ResourceTags": tags(&account.recycle_bin_tag),
        "ExcludeResourceTags": tags(&account.recycle_bin_exclusion),
        "Status": "available",
        "RuleArn": arn(scene),
    });
    Ok(Reply::json(200, &body))
}

fn account<'a>(scene: &'a Scene<'_>) -> Option<&'a Account> {
    scene.state.account(&scene.caller.account)
}

fn period(days: u64) -> Value {
    json!({"RetentionPeriodValue": days, "RetentionPeriodUnit": "DAYS"})
}

fn arn(scene: &Scene<'_>) -> String {
    let (region, account) = (&scene.caller.region, &scene.caller.account);
    format!("arn:{}:rbin:{region}:{account}:rule/{RULE}", access::partition(region))
}
