//! Service Quotas: what the quotas of EBS are. One that is as it always was has no value of the account's own, so that
//! clients have to ask for the common one.

use serde_json::json;

use crate::quota::Quotas;
use crate::reply::{Refusal, Reply};
use crate::world::Scene;

pub(crate) fn answer(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let is_own = match scene.call.operation.as_str() {
        "GetServiceQuota" => true,
        "GetAWSDefaultServiceQuota" => false,
        _ => return Err(Refusal::new(400, "UnknownOperationException", "there is no such operation")),
    };
    let wanted = |name| scene.call.value(name).unwrap_or_default();
    let (service, code) = (wanted("ServiceCode"), wanted("QuotaCode"));
    let missing = || {
        let message = "The request failed because the specified service quota does not exist.";
        Refusal::new(400, "NoSuchResourceException", message)
    };
    let (name, common) = quota(&Quotas::default(), code).filter(|_| service == "ebs").ok_or_else(missing)?;
    let (_, set) = quota(&scene.state.estate.settings.quotas, code).ok_or_else(missing)?;
    if is_own && set.total_cmp(&common).is_eq() {
        return Err(missing());
    }
    let value = if is_own { set } else { common };
    let (region, account) = (&scene.caller.region, &scene.caller.account);
    Ok(Reply::json_1_1(
        200,
        &json!({"Quota": {
            "ServiceCode": service,
            "ServiceName": "Amazon Elastic Block Store (Amazon EBS)",
            "QuotaArn": format!("arn:aws:servicequotas:{region}:{account}:ebs/{code}"),
            "QuotaCode": code,
            "QuotaName": name,
            "Value": value,
            "Unit": "None",
            "Adjustable": code == "L-C125AE42",
            "GlobalQuota": false,
        }}),
    ))
}

fn quota(quotas: &Quotas, code: &str) -> Option<(&'static str, f64)> {
    let count = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    Some(match code {
        "L-C125AE42" => ("GetSnapshotBlock requests per account", quotas.gets_per_second),
        "L-028ACFB9" => ("GetSnapshotBlock requests per snapshot", quotas.gets_per_snapshot_second),
        "L-18E976AB" => ("ListSnapshotBlocks requests per account", quotas.lists_per_second),
        "L-94D7AB7D" => ("Pending snapshots per account", count(quotas.pending_snapshots)),
        _ => return None,
    })
}
