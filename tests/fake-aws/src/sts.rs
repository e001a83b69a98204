//! STS: who am I, and roles of other accounts.

use crate::access;
use crate::caller::Session;
use crate::reply::{Refusal, Reply};
use crate::world::Scene;
use crate::xml::{self, Xml};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

pub(crate) fn answer(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    match scene.call.operation.as_str() {
        "GetCallerIdentity" => Ok(caller_identity(scene)),
        "AssumeRole" => assume_role(scene),
        operation => Err(Refusal::new(400, "InvalidAction", format!("Could not find operation {operation}"))),
    }
}

fn caller_identity(scene: &Scene<'_>) -> Reply {
    let account = &scene.caller.account;
    let arn = scene.caller.arn();
    let user_id = match &scene.caller.session {
        Some(Session { name, .. }) => format!("AROAFAKE:{name}"),
        None => "AIDAFAKE".to_owned(),
    };
    let mut xml = Xml::default();
    xml.element("GetCallerIdentityResult", |xml| {
        xml.text("Arn", arn).text("UserId", user_id).text("Account", account);
    });
    finished(xml, "GetCallerIdentityResponse", &scene.request_id)
}

fn assume_role(scene: &mut Scene<'_>) -> Result<Reply, Refusal> {
    let wanted = |name| scene.call.value(name).unwrap_or_default().to_owned();
    let (arn, name) = (wanted("RoleArn"), wanted("RoleSessionName"));
    let denied =
        || Refusal::new(403, "AccessDenied", format!("not authorized to perform: sts:AssumeRole on {arn}"));
    let own_partition = format!("arn:{}:iam::", access::partition(&scene.caller.region));
    let (account_id, role_name) = arn
        .strip_prefix(&own_partition)
        .and_then(|rest| rest.split_once(":role/"))
        .ok_or_else(|| Refusal::new(400, "ValidationError", format!("{arn} is no ARN of a role")))?;
    access::check_role(scene, arn.clone())?;
    let account = scene.state.account(account_id).ok_or_else(denied)?;
    let role = account.roles.iter().find(|role| role.name == role_name).ok_or_else(denied)?;
    if role.external_id.is_some() && role.external_id.as_deref() != scene.call.value("ExternalId") {
        return Err(denied());
    }
    let seconds = scene.call.value("DurationSeconds").and_then(|seconds| seconds.parse::<u64>().ok());
    let length_ms = seconds.map_or(scene.state.estate.settings.session_ms, |seconds| seconds * 1_000);
    let expires_ms = scene.now_ms + length_ms;
    let serial = scene.state.next_serial();
    let key = format!("ASIAFAKE{serial:012}");
    let session = Session {
        account: account_id.to_owned(),
        role: role_name.to_owned(),
        name: name.clone(),
        expires_ms,
    };
    scene.state.sessions.insert(key.clone(), session);
    let partition = access::partition(&scene.caller.region);
    let mut xml = Xml::default();
    xml.element("AssumeRoleResult", |xml| {
        xml.element("AssumedRoleUser", |xml| {
            xml.text("AssumedRoleId", format!("AROAFAKE:{name}"))
                .text("Arn", format!("arn:{partition}:sts::{account_id}:assumed-role/{role_name}/{name}"));
        });
        xml.element("Credentials", |xml| {
            xml.text("AccessKeyId", &key)
                .text("SecretAccessKey", format!("not-a-secret-{serial}"))
                .text("SessionToken", format!("session-{serial}"))
                .text("Expiration", xml::time(expires_ms));
        });
    });
    Ok(finished(xml, "AssumeRoleResponse", &scene.request_id))
}

fn finished(mut xml: Xml, root: &str, request_id: &str) -> Reply {
    xml.element("ResponseMetadata", |xml| {
        xml.text("RequestId", request_id);
    });
    Reply::xml(xml.document(root, NAMESPACE))
}
