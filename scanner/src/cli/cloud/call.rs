//! A call that failed, in words: what was called, on what, what came of it, and what to do.

use stillframe_cloud::api::{ApiError, ErrorKind};

/// Not a call: there was nothing to sign one with.
const NO_CREDENTIALS: &str = "credentials";
const ASSUME_ROLE: &str = "sts:AssumeRole";

/// `ec2:CreateSnapshots of i-…: denied (UnauthorizedOperation)`. What the line names already, as `named`, is left out.
pub(super) fn call(error: &ApiError, named: &[&str], key: Option<&str>) -> String {
    if error.operation == NO_CREDENTIALS {
        return format!("no AWS credentials: {}", error.code);
    }
    let resource = error.resource.as_deref().filter(|resource| !named.contains(resource));
    let of = resource.map(|resource| format!(" of {resource}")).unwrap_or_default();
    if error.kind == ErrorKind::NoReply {
        // There is no code but words of ours.
        return format!("{}{of}: {}", error.operation, error.code);
    }
    format!("{}{of}: {} ({})", error.operation, what_came(error, key), code(error))
}

fn what_came(error: &ApiError, key: Option<&str>) -> String {
    let words = match error.kind {
        ErrorKind::AccessDenied if permission(error) != error.operation => {
            return format!("denied for want of {}", permission(error));
        }
        ErrorKind::KmsDenied => {
            let key = key.map(|key| format!(" {key}")).unwrap_or_default();
            return match is_key_broken(error) {
                true => format!("its key{key} is disabled or gone"),
                false => format!("its key{key} may not be used for want of kms:Decrypt"),
            };
        }
        ErrorKind::AccessDenied => "denied",
        ErrorKind::Credentials if has_expired(error) => "the credentials have expired",
        ErrorKind::Credentials => "the credentials are refused",
        ErrorKind::Throttled => "too many calls, also after waiting",
        ErrorKind::VolumeRate => "the volume had a snapshot less than 15 s ago, again and again",
        ErrorKind::ConcurrentSnapshots => "too many snapshots of the volume are pending",
        ErrorKind::PendingSnapshots => "too many snapshots of the account are pending",
        ErrorKind::SnapshotQuota => "the account may have no more snapshots",
        ErrorKind::Service => "the service failed, also after other tries",
        ErrorKind::NoReply => "no reply",
        ErrorKind::NotFound => "there is no such thing",
        ErrorKind::InUse => "it is in use or locked",
        ErrorKind::Invalid | ErrorKind::InvalidToken | ErrorKind::Other => "refused",
    };
    words.to_owned()
}

/// What to do about it. `key` is that of the disk, where it is encrypted.
pub(super) fn api_hint(error: &ApiError, key: Option<&str>) -> String {
    let hint = match error.kind {
        ErrorKind::AccessDenied if error.operation == ASSUME_ROLE => {
            "name the caller in the role's trust policy, allow it sts:AssumeRole, and give the --external-id that the \
             trust policy asks for"
        }
        ErrorKind::AccessDenied => {
            return format!(
                "allow {} to this role: `stillframe aws policy` prints all that is needed",
                permission(error)
            );
        }
        ErrorKind::KmsDenied if is_key_broken(error) => {
            "see `aws kms describe-key`; a key that is disabled or to be deleted can be enabled again"
        }
        ErrorKind::KmsDenied => {
            return format!(
                "allow kms:Decrypt on {} to this role, in the key's policy too; `stillframe aws policy` has the condition",
                key.unwrap_or("the volume's key")
            );
        }
        ErrorKind::Credentials if error.operation == NO_CREDENTIALS => {
            "log in (`aws sso login`), name a profile by --profile or AWS_PROFILE, or give this machine a role"
        }
        // STS took them before anything else is called.
        ErrorKind::Credentials if !has_expired(error) && !error.operation.starts_with("sts:") => {
            "check that the account has the region enabled, --region, and this machine's clock"
        }
        ErrorKind::Credentials => {
            "log in again, or name a profile by --profile or AWS_PROFILE; `aws sts get-caller-identity` tells"
        }
        ErrorKind::Throttled => {
            "another tool uses up the quota: try later, or with a lower --gets-per-second"
        }
        ErrorKind::VolumeRate | ErrorKind::ConcurrentSnapshots => {
            "another tool takes snapshots of the same volume: try when it is done"
        }
        ErrorKind::PendingSnapshots => "other snapshots of the account must be completed first: try later",
        ErrorKind::SnapshotQuota => "delete snapshots, or have the quota raised",
        ErrorKind::Service => "try again; the AWS Health Dashboard tells of failures of a region",
        ErrorKind::NoReply => "check the network, proxies, and AWS_ENDPOINT_URL if it is set",
        ErrorKind::Other if error.code.starts_with("HTTP ") => {
            "check AWS_ENDPOINT_URL: this does not answer as AWS does"
        }
        ErrorKind::NotFound => "check the id, --region and the account",
        ErrorKind::InUse => "see who uses or locks it",
        ErrorKind::Invalid | ErrorKind::InvalidToken | ErrorKind::Other => {
            "check the id and --region; `stillframe aws preflight` checks the account"
        }
    };
    hint.to_owned()
}

/// The permission that is missing: the one that the cloud names, which may be another than the call's.
pub(super) fn permission(error: &ApiError) -> &str {
    let named = error.code.rsplit(": ").next().unwrap_or_default();
    let is_action = named.contains(':') && !named.contains(' ');
    if is_action { named } else { error.operation }
}

/// The cloud's code, within brackets: no more brackets, and not the permission once more.
fn code(error: &ApiError) -> String {
    let code = error.code.strip_suffix(permission(error)).unwrap_or(&error.code);
    code.trim_end_matches(": ").replace(" (", ", ").replace(')', "")
}

fn has_expired(error: &ApiError) -> bool {
    error.code.contains("Expired")
}

/// The key itself, and not our right to it.
fn is_key_broken(error: &ApiError) -> bool {
    error.code.contains("INVALID_CUSTOMER_KEY") || error.code.contains("DEPENDENCY_RESOURCE_NOT_FOUND")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(operation: &'static str, kind: ErrorKind, code: &str) -> ApiError {
        ApiError {
            operation,
            resource: Some("vol-1".to_owned()),
            kind,
            code: code.to_owned(),
            request_id: None,
        }
    }

    #[test]
    fn a_line_names_each_thing_once() {
        let denied =
            error("ec2:CreateSnapshot", ErrorKind::AccessDenied, "UnauthorizedOperation: ec2:CreateTags");
        assert_eq!(
            call(&denied, &["vol-1"], None),
            "ec2:CreateSnapshot: denied for want of ec2:CreateTags (UnauthorizedOperation)"
        );
        let plain = error("ec2:CreateSnapshot", ErrorKind::AccessDenied, "UnauthorizedOperation");
        assert_eq!(call(&plain, &[], None), "ec2:CreateSnapshot of vol-1: denied (UnauthorizedOperation)");
        let key = error(
            "ebs:GetSnapshotBlock",
            ErrorKind::KmsDenied,
            "AccessDeniedException (DEPENDENCY_ACCESS_DENIED)",
        );
        assert_eq!(
            call(&key, &["vol-1"], Some("key/1")),
            "ebs:GetSnapshotBlock: its key key/1 may not be used for want of kms:Decrypt \
             (AccessDeniedException, DEPENDENCY_ACCESS_DENIED)"
        );
    }
}
