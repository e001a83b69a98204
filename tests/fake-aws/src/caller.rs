//! Who calls: the account behind an access key, sessions of assumed roles, and what they may do.

use crate::access;
use crate::estate::DEFAULT_REGION;
use crate::iam::Target;
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

    /// Refuses what the account or the role forbids, whatever a policy allows: `ec2:CreateSnapshots`.
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
                return Err(self.unauthorized(service, &action, ""));
            }
        }
        Ok(())
    }

    /// As `GetCallerIdentity` names it.
    pub(crate) fn arn(&self) -> String {
        let (account, partition) = (&self.account, access::partition(&self.region));
        match &self.session {
            Some(Session { role, name, .. }) => {
                format!("arn:{partition}:sts::{account}:assumed-role/{role}/{name}")
            }
            None => format!("arn:{partition}:iam::{account}:user/fake"),
        }
    }

    /// Refuses what the caller's policy does not allow to be done to the target. Who has no policy may do all.
    pub(crate) fn authorize(
        &self,
        state: &State,
        service: Service,
        operation: &str,
        target: &Target,
    ) -> Result<(), Refusal> {
        let account = state.account(&self.account);
        let policy = account.and_then(|account| match &self.session {
            Some(session) => account
                .roles
                .iter()
                .find(|role| role.name == session.role)
                .and_then(|role| role.policy.as_ref()),
            None => account.policy.as_ref(),
        });
        let action = format!("{}:{operation}", service.prefix());
        match policy.filter(|_| state.estate.settings.enforce_policy) {
            Some(policy) if !policy.allows(&action, target) => {
                let why = format!(
                    " on resource: {} because no identity-based policy allows the {action} action",
                    target.arn
                );
                Err(self.unauthorized(service, &action, &why))
            }
            _ => Ok(()),
        }
    }

    fn unauthorized(&self, service: Service, action: &str, why: &str) -> Refusal {
        let message = format!("User: {} is not authorized to perform: {action}{why}", self.arn());
        match service {
            Service::Ec2 => {
                let message = format!("You are not authorized to perform this operation. {message}");
                Refusal::new(403, "UnauthorizedOperation", message)
            }
            Service::Sts => Refusal::new(403, "AccessDenied", message),
            service => Refusal::new(denied_status(service), "AccessDeniedException", message),
        }
    }
}

/// The query APIs and REST refuse with 403, JSON 1.1 with 400.
fn denied_status(service: Service) -> u16 {
    if matches!(service, Service::Kms | Service::Quotas) { 400 } else { 403 }
}
