//! KMS: in which state a key is. Nothing is encrypted here.

use serde_json::json;

use crate::access;
use crate::reply::{Refusal, Reply};
use crate::world::Scene;

pub(crate) fn answer(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    match scene.call.operation.as_str() {
        "DescribeKey" => describe(scene),
        _ => Err(Refusal::new(400, "UnknownOperationException", "there is no such operation")),
    }
}

fn describe(scene: &Scene<'_>) -> Result<Reply, Refusal> {
    let key = scene.call.value("KeyId").unwrap_or_default();
    // `arn:aws:kms:REGION:ACCOUNT:key/ID`
    let parts: Vec<&str> = key.splitn(6, ':').collect();
    let [_, _, "kms", region, account, name] = parts[..] else {
        return Err(Refusal::new(400, "InvalidArnException", format!("Invalid arn {key}")));
    };
    let not_found = || Refusal::new(400, "NotFoundException", format!("Key '{key}' does not exist"));
    access::check_key(scene, key)?;
    if region != scene.caller.region {
        return Err(not_found());
    }
    let state = state_of_key(scene, key).ok_or_else(not_found)?;
    Ok(Reply::json_1_1(
        200,
        &json!({"KeyMetadata": {
            "AWSAccountId": account,
            "KeyId": name.trim_start_matches("key/"),
            "Arn": key,
            "CreationDate": scene.now_ms / 1_000,
            "Enabled": state == "Enabled",
            "Description": "",
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": state,
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "MultiRegion": false,
        }}),
    ))
}

/// `None` where there is no such key.
pub(crate) fn state_of_key(scene: &Scene<'_>, key: &str) -> Option<String> {
    let estate = &scene.state.estate;
    let said = estate.accounts.iter().find_map(|account| account.key_states.get(key));
    let is_it = |of: &Option<String>| of.as_deref() == Some(key);
    let is_used = estate.volumes.iter().any(|volume| is_it(&volume.kms_key_id))
        || estate.snapshots.iter().any(|snapshot| is_it(&snapshot.kms_key_id));
    said.cloned().or_else(|| is_used.then(|| "Enabled".to_owned()))
}
