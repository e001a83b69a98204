//! Who calls: the account behind an access key, sessions of assumed roles, and what they may do.

use crate::estate::{DEFAULT_REGION, Tags};
use crate::reply::Refusal;
use crate::request::{Call, Service};
use crate::world::State;

/// Temporary credentials of a role.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) account: String,
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) expires_ms: u64,
}

/// Who calls, and where.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) session: Option<Session>,
}

impl Caller {
    /// Reads the credentials of a call.
    pub(crate) fn of(state: &State, call: &Call, now_ms: u64) -> Result<Self, Refusal> {
        let region = call.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let Some(key) = &call.access_key else {
            return Err(match call.service {
                Service::Ec2 => Refusal::new(401, "AuthFailure", "the request is not signed"),
                Service::Sts => Refusal::new(403, "MissingAuthenticationToken", "the request is not signed"),
                service => {
                    let code = "MissingAuthenticationTokenException";
                    Refusal::new(denied_status(service), code, "the request is not signed")
                }
            });
        };
        let accounts = &state.estate.accounts;
        let session = state.sessions.get(key);
        let is_expired = session.is_some_and(|session| now_ms >= session.expires_ms)
            || accounts.iter().any(|account| account.expired_keys.contains(key));
        if is_expired {
            return Err(match call.service {
                Service::Ec2 => Refusal::new(400, "RequestExpired", "the credentials have expired"),
                Service::Sts => Refusal::new(403, "ExpiredToken", "the security token has expired"),
                service => {
                    let message = "the security token has expired";
                    Refusal::new(denied_status(service), "ExpiredTokenException", message)
                }
            });
        }
        if !state.estate.regions.contains(&region) && call.service != Service::Sts {
            let message = format!("the region {region} is not enabled for this account");
            return Err(match call.service {
                Service::Ec2 => Refusal::new(401, "AuthFailure", message),
                service => Refusal::new(denied_status(service), "UnrecognizedClientException", message),
            });
        }
        let account = session.map(|session| session.account.clone()).or_else(|| {
            let owner = accounts.iter().find(|account| account.access_keys.contains(key));
            owner.or(accounts.first()).map(|account| account.id.clone())
        });
        Ok(Self { account: account.unwrap_or_default(), region, session: session.cloned() })
    }

    /// Refuses what the account or the role forbids: `ec2:CreateSnapshots`.
    pub(crate) fn check_allowed(
        &self,
        state: &State,
        service: Service,
        operation: &str,
    ) -> Result<(), Refusal> {
        let prefix = service.prefix();
        let action = format!("{prefix}:{operation}");
        let account = state.account(&self.account);
        let role = account
            .zip(self.session.as_ref())
            .and_then(|(account, session)| account.roles.iter().find(|role| role.name == session.role));
        let denied = account
            .into_iter()
            .flat_map(|account| &account.denied_actions)
            .chain(role.into_iter().flat_map(|role| &role.denied_actions));
        for pattern in denied {
            if *pattern == action || *pattern == format!("{prefix}:*") {
                return Err(unauthorized(service, &action, &self.arn()));
            }
        }
        Ok(())
    }

    /// As `GetCallerIdentity` names it.
    pub(crate) fn arn(&self) -> String {
        let account = &self.account;
        match &self.session {
            Some(Session { role, name, .. }) => {
                format!("arn:aws:sts::{account}:assumed-role/{role}/{name}")
            }
            None => format!("arn:aws:iam::{account}:user/fake"),
        }
    }

    /// Refuses what the tag conditions of the policy do not cover.
    pub(crate) fn check_tags(
        &self,
        state: &State,
        service: Service,
        operation: &str,
        tags: &Tags,
    ) -> Result<(), Refusal> {
        let settings = &state.estate.settings;
        let covered =
            tags.get("CreatedBy") == Some(&settings.created_by) && tags.contains_key(&settings.scan_id_tag);
        if covered || !settings.enforce_policy {
            return Ok(());
        }
        Err(unauthorized(service, operation, &self.arn()))
    }
}

/// The query APIs and REST refuse with 403, JSON 1.1 with 400.
fn denied_status(service: Service) -> u16 {
    if matches!(service, Service::Kms | Service::Quotas) { 400 } else { 403 }
}

fn unauthorized(service: Service, action: &str, arn: &str) -> Refusal {
    let message = format!("User: {arn} is not authorized to perform: {action}");
    match service {
        Service::Ec2 => {
            let message = format!("You are not authorized to perform this operation. {message}");
            Refusal::new(403, "UnauthorizedOperation", message)
        }
        Service::Sts => Refusal::new(403, "AccessDenied", message),
        service => Refusal::new(denied_status(service), "AccessDeniedException", message),
    }
}
