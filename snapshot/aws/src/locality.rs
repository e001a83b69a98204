//! A snapshot's data stays in its region. Reading from a machine in another region would carry it out, so that is refused
//! unless it was allowed by name.
//!
//! Pure functions: what is known goes in, the verdict comes out. Not seen here: a proxy, or a tunnel behind an endpoint
//! that bears the region's name.

use std::fmt;
use std::net::IpAddr;

/// Why data stays where it is, or that it was allowed not to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locality {
    /// This machine is in the target's region.
    SameRegion,
    /// The endpoints are on loopback: no cloud is asked.
    Loopback,
    /// Allowed by name. This belongs into the audit log.
    CrossRegionAllowed(CrossRegion),
}

/// Why data would leave the region, or might.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrossRegion {
    /// This machine is elsewhere.
    #[error("this machine is in {own}, the disks are in {target}")]
    Elsewhere {
        /// Where this machine is.
        own: String,
        /// Where the disks are.
        target: String,
    },
    /// Nothing says where this machine is.
    #[error("nothing tells which region this machine is in; the disks are in {target}")]
    Unknown {
        /// Where the disks are.
        target: String,
    },
    /// An endpoint was set that is not Amazon's own of the region.
    #[error("the {service} endpoint {host} is not known to be in {target}")]
    Endpoint {
        /// `EC2` or `EBS`.
        service: &'static str,
        /// Its host.
        host: String,
        /// Where the disks are.
        target: String,
    },
}

/// An endpoint that was set in place of the region's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `EC2` or `EBS`.
    pub(crate) service: &'static str,
    /// As it was given; `None` is the region's own.
    pub(crate) url: Option<String>,
}

/// What the rule looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Situation {
    /// Where this machine is, if that can be told.
    pub(crate) own: Option<String>,
    /// Where the disks are.
    pub(crate) target: String,
    /// Of all services that data or names of it come from.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether leaving the region was allowed.
    pub(crate) allow_cross_region: bool,
}

impl Situation {
    /// Whether all endpoints are on loopback: where this machine is need not be asked then.
    pub(crate) fn is_loopback(&self) -> bool {
        !self.endpoints.is_empty()
            && self.endpoints.iter().all(|endpoint| endpoint.url.as_deref().is_some_and(is_loopback))
    }
}

/// The rule.
///
/// # Errors
/// Data would leave the region or might, and nobody allowed it.
pub(crate) fn judge(situation: &Situation) -> Result<Locality, CrossRegion> {
    if situation.is_loopback() {
        return Ok(Locality::Loopback);
    }
    match leak(situation) {
        None => Ok(Locality::SameRegion),
        Some(leak) if situation.allow_cross_region => Ok(Locality::CrossRegionAllowed(leak)),
        Some(leak) => Err(leak),
    }
}

fn leak(situation: &Situation) -> Option<CrossRegion> {
    let target = &situation.target;
    let foreign = situation.endpoints.iter().find_map(|endpoint| {
        let host = host_of(endpoint.url.as_deref()?).unwrap_or_default();
        let near = is_loopback_host(host) || is_regions_own(host, endpoint.service, target);
        (!near).then(|| CrossRegion::Endpoint {
            service: endpoint.service,
            host: host.chars().filter(|letter| !letter.is_control()).take(255).collect(),
            target: target.clone(),
        })
    });
    if foreign.is_some() {
        return foreign;
    }
    match &situation.own {
        Some(own) if own == target => None,
        Some(own) => Some(CrossRegion::Elsewhere { own: own.clone(), target: target.clone() }),
        None => Some(CrossRegion::Unknown { target: target.clone() }),
    }
}

/// Amazon's domains. Nobody else can have a name below them; but customers do have some, so what stands before is looked at
/// as well. The second ones are for both versions of IP.
const DOMAINS: [&str; 4] = ["amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn"];

/// Whether a host is the service's endpoint in the region: `ebs.REGION.DOMAIN`, `ebs-fips.REGION.DOMAIN`, or, through a
/// network's own endpoint, `vpce-….ebs.REGION.vpce.DOMAIN`.
fn is_regions_own(host: &str, service: &str, region: &str) -> bool {
    let (host, service) = (host.to_ascii_lowercase(), service.to_ascii_lowercase());
    let host = host.strip_suffix('.').unwrap_or(&host);
    let before = DOMAINS.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
    let Some(labels) = before.map(|before| before.split('.').collect::<Vec<_>>()) else { return false };
    let is_service = |label: &str| label == service || label.strip_suffix("-fips") == Some(&service);
    match labels.as_slice() {
        [name, place] => is_service(name) && *place == region,
        [endpoint, name, place, "vpce"] => {
            endpoint.starts_with("vpce-") && is_service(name) && *place == region
        }
        _ => false,
    }
}

/// Where this machine is: what its own metadata or those of its task say; else, inside a function, the region that the
/// runtime sets and nobody else can. Anywhere else, in a container too, `AWS_REGION` says only where the user wants to go.
pub(crate) fn own_region(
    metadata: Option<String>,
    execution_environment: Option<&str>,
    region_variable: Option<&str>,
) -> Option<String> {
    metadata.or_else(|| {
        let environment = execution_environment?;
        region_variable.filter(|_| environment.starts_with("AWS_Lambda_")).map(str::to_owned)
    })
}

/// Whether `name` can be a region's: it becomes part of a host's name.
pub(crate) fn is_region_name(name: &str) -> bool {
    (4..=32).contains(&name.len())
        && name.contains('-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    host_of(url).is_some_and(is_loopback_host)
}

fn is_loopback_host(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host of `scheme://[user@]host[:port][/…]`.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    // A backslash ends the host for some readers of URLs and not for others: no host of ours has one.
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.starts_with('[') {
        return host.split_inclusive(']').next().filter(|host| host.ends_with(']'));
    }
    Some(host.split(':').next().unwrap_or(host)).filter(|host| !host.is_empty())
}

impl fmt::Display for Locality {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameRegion => out.write_str("in the region of the disks"),
            Self::Loopback => out.write_str("endpoints on loopback"),
            Self::CrossRegionAllowed(why) => write!(out, "crossing regions was allowed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation(own: Option<&str>, ec2: Option<&str>, ebs: Option<&str>) -> Situation {
        Situation {
            own: own.map(str::to_owned),
            target: "eu-west-3".to_owned(),
            endpoints: vec![
                Endpoint { service: "EC2", url: ec2.map(str::to_owned) },
                Endpoint { service: "EBS", url: ebs.map(str::to_owned) },
            ],
            allow_cross_region: false,
        }
    }

    #[test]
    fn the_same_region_is_let_in_and_any_other_is_not() {
        assert_eq!(judge(&situation(Some("eu-west-3"), None, None)), Ok(Locality::SameRegion));
        let elsewhere = CrossRegion::Elsewhere { own: "us-east-1".into(), target: "eu-west-3".into() };
        assert_eq!(judge(&situation(Some("us-east-1"), None, None)), Err(elsewhere.clone()));
        let unknown = CrossRegion::Unknown { target: "eu-west-3".into() };
        assert_eq!(judge(&situation(None, None, None)), Err(unknown.clone()));

        let allowed = |mut situation: Situation| {
            situation.allow_cross_region = true;
            judge(&situation)
        };
        assert_eq!(
            allowed(situation(Some("us-east-1"), None, None)),
            Ok(Locality::CrossRegionAllowed(elsewhere))
        );
        assert_eq!(allowed(situation(None, None, None)), Ok(Locality::CrossRegionAllowed(unknown)));
        // Allowed or not, what stays in the region is no crossing.
        assert_eq!(allowed(situation(Some("eu-west-3"), None, None)), Ok(Locality::SameRegion));
    }

    #[test]
    fn loopback_is_exempt_only_if_all_of_it_is() {
        let here = Some("http://127.0.0.1:4566");
        assert_eq!(judge(&situation(None, here, here)), Ok(Locality::Loopback));
        assert_eq!(
            judge(&situation(None, Some("http://[::1]:80/"), Some("http://localhost"))),
            Ok(Locality::Loopback)
        );
        assert!(judge(&situation(None, here, None)).is_err());
        assert!(judge(&situation(None, None, here)).is_err());
        assert!(judge(&situation(None, here, Some("https://ebs.eu-west-3.amazonaws.com"))).is_err());
        assert_eq!(judge(&situation(Some("eu-west-3"), here, None)), Ok(Locality::SameRegion));
    }

    #[test]
    fn an_endpoint_must_be_the_regions_own() {
        let judged = |url| judge(&situation(Some("eu-west-3"), None, Some(url)));
        for near in [
            "https://ebs.eu-west-3.amazonaws.com",
            "https://vpce-0abc-x.ebs.eu-west-3.vpce.amazonaws.com:443/",
            "https://vpce-0abc-x-eu-west-3a.ebs.eu-west-3.vpce.amazonaws.com",
            "https://ebs.eu-west-3.api.aws",
            "https://EBS-fips.eu-west-3.amazonaws.com.",
        ] {
            assert_eq!(judged(near), Ok(Locality::SameRegion), "{near}");
        }
        for far in [
            "https://ebs.us-east-1.amazonaws.com",
            "https://eu-west-3.example.com",
            "https://ebs.eu-west-3.example.com",
            "https://ebs.eu-west-3.amazonaws.com.example.com",
            "https://ebs.eu-west-3.evilamazonaws.com",
            "https://ebs.eu-west-3.elb.amazonaws.com",
            "https://eu-west-3.s3.us-east-1.amazonaws.com",
            "https://abc.execute-api.eu-west-3.amazonaws.com",
            "https://ec2.eu-west-3.amazonaws.com",
            "https://x.ebs.eu-west-3.vpce.amazonaws.com",
            "https://example.com/eu-west-3/",
            "https://eu-west-3@example.com/",
            "https://example.com?.eu-west-3.",
            "https://eu-west-3x.example.com",
            "https://example.com\\.eu-west-3.amazonaws.com",
            "eu-west-3",
            "",
        ] {
            assert!(matches!(judged(far), Err(CrossRegion::Endpoint { service: "EBS", .. })), "{far}");
        }
    }

    #[test]
    fn what_only_looks_like_loopback_is_none() {
        for far in [
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://127.0.0.1@example.com",
            "http://10.0.0.1",
            "127.0.0.1",
            "http://[::1",
            "http://0.0.0.0",
        ] {
            assert!(!is_loopback(far), "{far}");
        }
        for near in ["http://127.9.9.9:1", "https://LOCALHOST:8443/x", "http://u:p@[::1]:5000"] {
            assert!(is_loopback(near), "{near}");
        }
    }

    #[test]
    fn the_variable_counts_only_where_the_service_sets_it() {
        let metadata = || Some("eu-west-1".to_owned());
        assert_eq!(own_region(metadata(), Some("AWS_ECS_FARGATE"), Some("us-east-1")), metadata());
        assert_eq!(own_region(None, None, Some("us-east-1")), None);
        assert_eq!(own_region(None, Some("CloudShell"), Some("us-east-1")), None);
        let function = Some("AWS_Lambda_provided.al2023");
        assert_eq!(own_region(None, function, Some("us-east-1")).as_deref(), Some("us-east-1"));
        assert_eq!(own_region(None, function, None), None);
        // In a container the variable is whoever's who wrote the task's definition.
        for environment in ["AWS_ECS_FARGATE", "AWS_ECS_EC2"] {
            assert_eq!(own_region(None, Some(environment), Some("us-east-1")), None);
        }
    }

    #[test]
    fn a_region_is_a_plain_name() {
        for name in ["eu-west-3", "us-gov-east-1", "cn-north-1", "ap-southeast-7", "mars-1"] {
            assert!(is_region_name(name), "{name}");
        }
        for name in [
            "",
            "x",
            "eu-west-3.evil.example",
            "EU-WEST-3",
            "eu_west_3",
            "-eu-west",
            "eu-west-3/",
            "localhost",
        ] {
            assert!(!is_region_name(name), "{name}");
        }
    }
}
