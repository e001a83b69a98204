//! What a failed call means. The cloud's codes come from the EC2 and EBS references; what never reached the cloud gets
//! words of ours.
//!
//! Neither the message of the cloud nor the SDK's own text goes on: they quote requests, and those bear credentials. Of a
//! message only the name of the missing permission is kept.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use stillframe_cloud::api::{ApiError, ErrorKind};

/// Longer than any code or request id of the cloud.
const LONGEST_WORD: usize = 128;
/// Errors are nested, but never this deep.
const DEEPEST_SOURCE: usize = 32;

/// The call may have had its effect all the same.
const UNREADABLE: &str = "the reply was cut or unreadable";

/// The call that failed.
pub(crate) struct Call<'a> {
    /// `ec2:CreateSnapshots`.
    pub(crate) operation: &'static str,
    /// `i-…`, `snap-…`.
    pub(crate) resource: Option<&'a str>,
}

/// What the service said. Everything is as it came over the wire.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Refusal<'a> {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `UnauthorizedOperation`.
    pub(crate) code: Option<&'a str>,
    /// `DEPENDENCY_ACCESS_DENIED`; EBS only.
    pub(crate) reason: Option<&'a str>,
    /// For people.
    pub(crate) message: Option<&'a str>,
}

/// The SDK's error in our words. `reason_of` finds the `Reason` in the service's error.
pub(crate) fn translate<E>(
    call: &Call<'_>,
    error: &SdkError<E, HttpResponse>,
    reason_of: impl Fn(&E) -> Option<&str>,
) -> ApiError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let failed = |kind, code: String, request_id: Option<String>| ApiError {
        operation: call.operation,
        resource: call.resource.map(str::to_owned),
        kind,
        code,
        request_id,
    };
    match error {
        // The SDK takes a good status with a body that it cannot read for a refusal.
        SdkError::ServiceError(refused) if refused.raw().status().is_success() => {
            failed(ErrorKind::NoReply, UNREADABLE.to_owned(), error.request_id().and_then(request_word))
        }
        SdkError::ServiceError(refused) => {
            let service = refused.err();
            let (kind, code) = classify(
                call.operation,
                &Refusal {
                    status: refused.raw().status().as_u16(),
                    code: service.code(),
                    reason: reason_of(service),
                    message: service.message(),
                },
            );
            let request_id = error.request_id().or_else(|| service.meta().request_id());
            failed(kind, code, request_id.and_then(request_word))
        }
        SdkError::ResponseError(broken) => {
            let status = broken.raw().status().as_u16();
            let request_id = error.request_id().and_then(request_word);
            if status >= 500 {
                failed(ErrorKind::Service, format!("HTTP {status}"), request_id)
            } else {
                failed(ErrorKind::NoReply, UNREADABLE.to_owned(), request_id)
            }
        }
        SdkError::TimeoutError(_) => failed(ErrorKind::NoReply, "timed out".to_owned(), None),
        SdkError::DispatchFailure(unsent) => {
            if let Some(credentials) = credentials_failure(error) {
                return credentials;
            }
            let (kind, code) = match unsent {
                _ if unsent.is_timeout() => (ErrorKind::NoReply, "timed out"),
                _ if unsent.is_user() => (ErrorKind::Other, "the request could not be made"),
                _ if unsent.is_io() => (ErrorKind::NoReply, "the connection failed"),
                _ => (ErrorKind::NoReply, "no reply"),
            };
            failed(kind, code.to_owned(), None)
        }
        SdkError::ConstructionFailure(_) => credentials_failure(error)
            .unwrap_or_else(|| failed(ErrorKind::Invalid, "the request could not be made".to_owned(), None)),
        _ => failed(ErrorKind::Other, "unknown failure".to_owned(), None),
    }
}

/// EC2 and STS have no `Reason`.
pub(crate) fn no_reason<E>(_: &E) -> Option<&str> {
    None
}

/// What to do about a refusal, and the code to show.
pub(crate) fn classify(operation: &str, refusal: &Refusal<'_>) -> (ErrorKind, String) {
    let code = refusal.code.unwrap_or("");
    let reason = refusal.reason.unwrap_or("");
    let message = refusal.message.unwrap_or("");
    let missing = missing_permission(message);
    let kind = kind_of(refusal.status, code, reason, message, missing);

    let mut shown = word(code);
    if shown.is_empty() {
        shown = format!("HTTP {}", refusal.status);
    }
    let reason = word(reason);
    // The SDK's word for a member that the service left out.
    if !reason.is_empty() && refusal.reason != Some("no value was set") {
        shown = format!("{shown} ({reason})");
    }
    match missing {
        Some(action) if action != operation => (kind, format!("{shown}: {action}")),
        _ => (kind, shown),
    }
}

/// The codes, most telling first.
fn kind_of(status: u16, code: &str, reason: &str, message: &str, missing: Option<&str>) -> ErrorKind {
    let of_kms =
        code.to_ascii_lowercase().contains("kms") || missing.is_some_and(|action| action.starts_with("kms:"));
    match code {
        "SnapshotCreationPerVolumeRateExceeded" => return ErrorKind::VolumeRate,
        "ConcurrentSnapshotLimitExceeded" => return ErrorKind::ConcurrentSnapshots,
        "PendingSnapshotLimitExceeded" => return ErrorKind::PendingSnapshots,
        "SnapshotLimitExceeded" | "ResourceLimitExceeded" => return ErrorKind::SnapshotQuota,
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "ConcurrentLimitExceededException"
        | "BandwidthLimitExceeded"
        | "SlowDown" => return ErrorKind::Throttled,
        "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => return ErrorKind::Credentials,
        _ => {}
    }
    match reason {
        "DEPENDENCY_ACCESS_DENIED" | "DEPENDENCY_RESOURCE_NOT_FOUND" | "INVALID_CUSTOMER_KEY" => {
            return ErrorKind::KmsDenied;
        }
        "INVALID_BLOCK_TOKEN" | "INVALID_PAGE_TOKEN" => return ErrorKind::InvalidToken,
        _ => {}
    }
    if status == 429 {
        ErrorKind::Throttled
    } else if status >= 500
        || matches!(
            code,
            "InternalError"
                | "InternalFailure"
                | "InternalServerException"
                | "Unavailable"
                | "ServiceUnavailable"
        )
    {
        ErrorKind::Service
    } else if of_kms {
        ErrorKind::KmsDenied
    } else if matches!(code, "UnauthorizedOperation" | "OptInRequired" | "Blocked" | "PendingVerification")
        || code.starts_with("AccessDenied")
    {
        ErrorKind::AccessDenied
    } else if code.ends_with(".InUse") || names_a_lock(code) || names_a_lock(message) {
        ErrorKind::InUse
    } else if matches!(code, "InvalidNextToken" | "InvalidPaginationToken") {
        ErrorKind::InvalidToken
    } else if code.ends_with("NotFound") || code.contains("NotFoundException") {
        ErrorKind::NotFound
    } else if is_senseless(code) {
        ErrorKind::Invalid
    } else {
        ErrorKind::Other
    }
}

/// No reference names the code of deleting a locked snapshot, so its words decide too.
fn names_a_lock(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("snapshotlocked") || (text.contains("snapshot") && text.contains("locked"))
}

fn is_senseless(code: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "Invalid",
        "Incorrect",
        "Missing",
        "Malformed",
        "Validation",
        "Unknown",
        "Unsupported",
        "OperationNotPermitted",
    ];
    BEGINNINGS.iter().any(|beginning| code.starts_with(beginning))
}

/// `ec2:CreateTags` of "… is not authorized to perform: ec2:CreateTags on resource: …".
fn missing_permission(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("to perform: ")?;
    let action = after.split(|letter: char| letter.is_whitespace() || letter == ',').next()?;
    let (service, name) = action.split_once(':')?;
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (plain(service) && plain(name)).then_some(action)
}

/// Why there are no credentials, where that is why the call was not sent.
fn credentials_failure(error: &(dyn Error + 'static)) -> Option<ApiError> {
    // Not the error itself: it may be that of assuming a role, whose cause is asked for here.
    let mut source = error.source();
    let mut lacking = false;
    for _ in 0..DEEPEST_SOURCE {
        let Some(cause) = source else { break };
        if let Some(assume) = cause.downcast_ref::<SdkError<AssumeRoleError, HttpResponse>>() {
            let call = Call { operation: "sts:AssumeRole", resource: None };
            let mut failure = translate(&call, assume, no_reason);
            // A trust policy that does not let us in is no matter of the action that was asked for.
            if !matches!(
                failure.kind,
                ErrorKind::AccessDenied | ErrorKind::NoReply | ErrorKind::Throttled | ErrorKind::Service
            ) {
                failure.kind = ErrorKind::Credentials;
            }
            return Some(failure);
        }
        lacking |= cause.is::<CredentialsError>();
        source = cause.source();
    }
    lacking.then(|| ApiError {
        operation: "credentials",
        resource: None,
        kind: ErrorKind::Credentials,
        code: "none were found, or their source failed".to_owned(),
        request_id: None,
    })
}

/// Letters that codes are made of, so that nothing else of a reply is shown.
fn word(text: &str) -> String {
    text.chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_'))
        .take(LONGEST_WORD)
        .collect()
}

/// A request's id, as it may be shown and logged.
pub(crate) fn request_word(text: &str) -> Option<String> {
    let word = word(text);
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str) -> ErrorKind {
        classify("ec2:Test", &Refusal { status, code: Some(code), ..Refusal::default() }).0
    }

    #[test]
    fn codes_of_the_references_have_their_kind() {
        let expected = [
            (503, "RequestLimitExceeded", ErrorKind::Throttled),
            (400, "Throttling", ErrorKind::Throttled),
            (400, "ThrottlingException", ErrorKind::Throttled),
            (400, "RequestThrottledException", ErrorKind::Throttled),
            (429, "", ErrorKind::Throttled),
            (400, "SnapshotCreationPerVolumeRateExceeded", ErrorKind::VolumeRate),
            (400, "ConcurrentSnapshotLimitExceeded", ErrorKind::ConcurrentSnapshots),
            (400, "PendingSnapshotLimitExceeded", ErrorKind::PendingSnapshots),
            (400, "SnapshotLimitExceeded", ErrorKind::SnapshotQuota),
            (400, "ResourceLimitExceeded", ErrorKind::SnapshotQuota),
            (400, "InvalidInstanceID.NotFound", ErrorKind::NotFound),
            (400, "InvalidVolume.NotFound", ErrorKind::NotFound),
            (400, "InvalidSnapshot.NotFound", ErrorKind::NotFound),
            (404, "ResourceNotFoundException", ErrorKind::NotFound),
            (400, "InvalidSnapshotID.Malformed", ErrorKind::Invalid),
            (400, "IncorrectState", ErrorKind::Invalid),
            (400, "ValidationException", ErrorKind::Invalid),
            (403, "UnauthorizedOperation", ErrorKind::AccessDenied),
            (403, "AccessDenied", ErrorKind::AccessDenied),
            (403, "AccessDeniedException", ErrorKind::AccessDenied),
            (401, "AuthFailure", ErrorKind::Credentials),
            (403, "ExpiredToken", ErrorKind::Credentials),
            (403, "ExpiredTokenException", ErrorKind::Credentials),
            (403, "InvalidClientTokenId", ErrorKind::Credentials),
            (400, "InvalidSnapshot.InUse", ErrorKind::InUse),
            (400, "SnapshotLocked", ErrorKind::InUse),
            (500, "InternalError", ErrorKind::Service),
            (503, "Unavailable", ErrorKind::Service),
            (500, "", ErrorKind::Service),
            (400, "KMSKeyNotAccessibleFault", ErrorKind::KmsDenied),
            (418, "Teapot", ErrorKind::Other),
        ];
        for (status, code, wanted) in expected {
            assert_eq!(kind(status, code), wanted, "{status} {code}");
        }
    }

    #[test]
    fn a_reason_tells_more_than_its_code() {
        let with = |status, code, reason| {
            classify("ebs:Test", &Refusal { status, code: Some(code), reason: Some(reason), message: None })
        };
        assert_eq!(
            with(403, "AccessDeniedException", "DEPENDENCY_ACCESS_DENIED"),
            (ErrorKind::KmsDenied, "AccessDeniedException (DEPENDENCY_ACCESS_DENIED)".to_owned())
        );
        assert_eq!(with(403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT").0, ErrorKind::AccessDenied);
        assert_eq!(with(400, "ValidationException", "INVALID_BLOCK_TOKEN").0, ErrorKind::InvalidToken);
        assert_eq!(with(400, "ValidationException", "INVALID_PAGE_TOKEN").0, ErrorKind::InvalidToken);
        assert_eq!(with(400, "ValidationException", "INVALID_SNAPSHOT_ID").0, ErrorKind::Invalid);
        // A key that is gone is no snapshot that is gone.
        assert_eq!(
            with(404, "ResourceNotFoundException", "DEPENDENCY_RESOURCE_NOT_FOUND").0,
            ErrorKind::KmsDenied
        );
        assert_eq!(with(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND").0, ErrorKind::NotFound);
        assert_eq!(with(403, "AccessDeniedException", "no value was set").1, "AccessDeniedException");
    }

    #[test]
    fn the_missing_permission_is_named_and_nothing_else_of_the_message() {
        let denied = |message| {
            classify(
                "ec2:CreateSnapshots",
                &Refusal {
                    status: 403,
                    code: Some("UnauthorizedOperation"),
                    reason: None,
                    message: Some(message),
                },
            )
        };
        let user = "You are not authorized to perform this operation. User: arn:aws:iam::111122223333:user/x is not \
                    authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:eu-west-3::snapshot/*";
        assert_eq!(
            denied(user),
            (ErrorKind::AccessDenied, "UnauthorizedOperation: ec2:CreateTags".to_owned())
        );
        let itself = "is not authorized to perform: ec2:CreateSnapshots on resource: x";
        assert_eq!(denied(itself).1, "UnauthorizedOperation");
        assert_eq!(denied("is not authorized to perform: kms:GenerateDataKey on").0, ErrorKind::KmsDenied);
        assert_eq!(denied("to perform: secret\u{1b}[31m:x").1, "UnauthorizedOperation");
        assert_eq!(denied("to perform: ").1, "UnauthorizedOperation");
    }

    #[test]
    fn a_code_of_no_letters_becomes_the_status() {
        assert_eq!(kind(400, "\u{1b}[2J"), ErrorKind::Other);
        let shown =
            classify("ec2:Test", &Refusal { status: 502, code: Some("\n\u{1b}"), ..Refusal::default() }).1;
        assert_eq!(shown, "HTTP 502");
        assert_eq!(request_word(&"a".repeat(500)).map(|word| word.len()), Some(LONGEST_WORD));
        assert_eq!(request_word(" \n"), None);
    }

    #[test]
    fn a_lock_is_told_by_its_words() {
        let locked = Refusal {
            status: 400,
            code: Some("OperationNotPermitted"),
            reason: None,
            message: Some("The snapshot snap-1 is locked and cannot be deleted."),
        };
        assert_eq!(classify("ec2:DeleteSnapshot", &locked).0, ErrorKind::InUse);
    }
}
