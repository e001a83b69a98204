//! What a connection is opened with, and why it is not.

use std::fmt;

use aws_sdk_ec2::config::{Credentials, HttpClient, SharedHttpClient};
use stillframe_cloud::api::ApiError;

use crate::locality::{self, CrossRegion};

/// Enough for 1,000 block reads a second at 100 ms each, with some to spare.
const CONNECTIONS: usize = 128;

/// What a connection is opened with. What is not said comes from where Amazon's other tools take it: the environment,
/// the profile, the machine's role.
#[derive(Clone)]
pub struct Options {
    /// The region of the disks.
    pub region: Option<String>,
    /// A profile of `~/.aws/config`.
    pub profile: Option<String>,
    /// A role to assume, in another account or in this one.
    pub role: Option<Role>,
    /// The endpoint of every service, in place of the region's own and of `AWS_ENDPOINT_URL*`.
    pub endpoint_url: Option<String>,
    /// Whether data may leave its region.
    pub allow_cross_region: bool,
    /// Connections to one host at the same time. More calls than that wait for one, and their time runs meanwhile: keep
    /// no more calls in flight.
    pub max_connections: usize,
    /// Fixed credentials, for a fake on loopback: [`Options::loopback`] sets them.
    pub loopback_credentials: Option<LoopbackCredentials>,
    /// What answers in place of a socket: [`Options::in_process`] sets it.
    pub in_process: Option<InProcess>,
}

/// Something in this process that answers as the cloud does. `open` takes it only with the credentials of a loopback.
#[derive(Clone)]
pub struct InProcess(pub(crate) SharedHttpClient);

/// Credentials that `open` takes only where every endpoint is on loopback.
#[derive(Clone)]
pub struct LoopbackCredentials(pub(crate) Credentials);

/// A role to assume.
#[derive(Clone, PartialEq, Eq)]
pub struct Role {
    /// `arn:aws:iam::111122223333:role/stillframe`.
    pub arn: String,
    /// What the role's trust policy may ask for.
    pub external_id: Option<String>,
    /// The session is `stillframe-` and this: CloudTrail shows it.
    pub scan_id: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region: None,
            profile: None,
            role: None,
            endpoint_url: None,
            allow_cross_region: false,
            max_connections: CONNECTIONS,
            loopback_credentials: None,
            in_process: None,
        }
    }
}

impl Options {
    /// For a fake on loopback: all services at `endpoint_url`, credentials that open nothing anywhere else. `open` refuses
    /// them at any other endpoint.
    #[must_use]
    pub fn loopback(endpoint_url: &str, region: &str, access_key_id: &str) -> Self {
        let credentials = Credentials::new(access_key_id, "no secret", None, None, "loopback");
        Self {
            region: Some(region.to_owned()),
            endpoint_url: Some(endpoint_url.to_owned()),
            loopback_credentials: Some(LoopbackCredentials(credentials)),
            ..Self::default()
        }
    }

    /// For a fake in the same process, which answers without a socket, and on a clock of its own where it has one.
    #[must_use]
    pub fn in_process(fake: impl HttpClient + 'static, region: &str, access_key_id: &str) -> Self {
        let in_process = Some(InProcess(SharedHttpClient::new(fake)));
        // Nobody listens there, and nobody is asked.
        Self { in_process, ..Self::loopback("http://127.0.0.1:9", region, access_key_id) }
    }

    /// Checks what can be checked without asking anybody.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if self.region.as_deref().is_some_and(|region| !locality::is_region_name(region)) {
            return Err(OpenError::RegionName);
        }
        if self.role.as_ref().is_some_and(|role| !is_role_arn(&role.arn)) {
            return Err(OpenError::RoleArn);
        }
        if self.loopback_credentials.is_some()
            && !self.endpoint_url.as_deref().is_some_and(locality::is_loopback)
        {
            return Err(OpenError::FixedCredentials);
        }
        if self.in_process.is_some() && self.loopback_credentials.is_none() {
            return Err(OpenError::FixedCredentials);
        }
        if self.max_connections == 0 {
            return Err(OpenError::NoConnections);
        }
        Ok(())
    }
}

impl Role {
    /// The session's name: 2 to 64 of the letters that STS takes.
    pub(crate) fn session_name(&self) -> String {
        let allowed = |letter: &char| letter.is_ascii_alphanumeric() || "_=,.@-".contains(*letter);
        "stillframe-".chars().chain(self.scan_id.chars().filter(allowed)).take(64).collect()
    }
}

/// `arn:aws:iam::111122223333:role/path/name`, in any partition.
fn is_role_arn(text: &str) -> bool {
    let mut fields = text.splitn(6, ':');
    let mut field = || fields.next().unwrap_or("");
    let (arn, partition, service, region, account, resource) =
        (field(), field(), field(), field(), field(), field());
    arn == "arn"
        && (partition == "aws" || partition.starts_with("aws-"))
        && service == "iam"
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
        && text.len() <= 2048
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

// No derive: neither credentials nor an external id may be shown.
impl fmt::Debug for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Options")
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("role", &self.role)
            .field("allow_cross_region", &self.allow_cross_region)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Role")
            .field("arn", &self.arn)
            .field("scan_id", &self.scan_id)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No region was given, and neither environment, profile nor metadata name one.
    #[error("no region: give one, or set AWS_REGION")]
    NoRegion,
    /// What was given is no region's name.
    #[error("the region's name is made of small letters, digits and hyphens, like eu-west-3")]
    RegionName,
    /// What was given is no role.
    #[error("a role is given by its ARN, like arn:aws:iam::111122223333:role/name")]
    RoleArn,
    /// Data would leave its region.
    #[error(transparent)]
    CrossRegion(#[from] CrossRegion),
    /// An endpoint from the environment or the profile is no `http://` or `https://` URL.
    #[error("the {service} endpoint is no http:// or https:// URL")]
    Endpoint {
        /// `EC2`, `EBS`, `STS`, `KMS`, `rbin` or `Service Quotas`.
        service: &'static str,
    },
    /// Fixed credentials for an endpoint that is not on loopback.
    #[error("fixed credentials are for an endpoint on loopback")]
    FixedCredentials,
    /// `max_connections` is 0.
    #[error("at least one connection is needed")]
    NoConnections,
    /// TLS could not be set up.
    #[error("the HTTP client could not be built")]
    HttpClient,
    /// The cloud would not say who is calling.
    #[error(transparent)]
    Api(#[from] ApiError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(arn: &str) -> Options {
        let role =
            Role { arn: arn.to_owned(), external_id: Some("hush".to_owned()), scan_id: "s1".to_owned() };
        Options { role: Some(role), ..Options::default() }
    }

    #[test]
    fn a_role_is_an_arn_of_iam() {
        for arn in [
            "arn:aws:iam::111122223333:role/stillframe",
            "arn:aws-cn:iam::111122223333:role/path/to/x",
            "arn:aws-us-gov:iam::111122223333:role/x",
        ] {
            assert_eq!(role(arn).check(), Ok(()), "{arn}");
        }
        for arn in [
            "",
            "stillframe",
            "arn:aws:iam::111122223333:user/x",
            "arn:aws:iam::11112222333:role/x",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:sts::111122223333:assumed-role/x/y",
            "arn:aws:iam::111122223333:role/x\n",
        ] {
            assert_eq!(role(arn).check(), Err(OpenError::RoleArn), "{arn:?}");
        }
    }

    #[test]
    fn fixed_credentials_stay_on_loopback() {
        assert_eq!(Options::loopback("http://127.0.0.1:1", "eu-west-3", "x").check(), Ok(()));
        let far = Options::loopback("https://ec2.eu-west-3.amazonaws.com", "eu-west-3", "x");
        assert_eq!(far.check(), Err(OpenError::FixedCredentials));
        let no_endpoint = Options { endpoint_url: None, ..Options::loopback("", "eu-west-3", "x") };
        assert_eq!(no_endpoint.check(), Err(OpenError::FixedCredentials));
        assert_eq!(Options::loopback("http://[::1]", "eu.west", "x").check(), Err(OpenError::RegionName));
    }

    #[test]
    fn neither_credentials_nor_external_id_are_shown() {
        let mut options = role("arn:aws:iam::111122223333:role/x");
        options.loopback_credentials = Options::loopback("", "", "AKIAX").loopback_credentials;
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("hush") && !shown.contains("no secret") && !shown.contains("AKIAX"),
            "{shown}"
        );
        assert!(shown.contains("role/x"), "{shown}");
    }

    #[test]
    fn a_session_bears_the_scans_name() {
        let named = |scan_id: &str| {
            Role { arn: String::new(), external_id: None, scan_id: scan_id.to_owned() }.session_name()
        };
        assert_eq!(named("0a-1b"), "stillframe-0a-1b");
        assert_eq!(named("a b/c\u{e9}"), "stillframe-abc");
        assert_eq!(named(&"x".repeat(100)).len(), 64);
    }
}
