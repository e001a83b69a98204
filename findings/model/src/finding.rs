use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fingerprint::hex;
use crate::{Evidence, Label, Location};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Mend it some day.
    Low,
    /// Mend it soon.
    Medium,
    /// Mend it this week.
    High,
    /// Mend it now.
    Critical,
}

impl Severity {
    /// All of them, the mildest first.
    pub const ALL: &'static [Self] = &[Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Its name in a report and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What sort of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A package with a known vulnerability.
    Vulnerability,
    /// A newer version stands in the distribution's own index.
    MissingUpdate,
    /// An unsafe setting.
    Misconfiguration,
    /// A credential that lies about.
    Secret,
    /// A hostile file.
    Malware,
    /// Endpoint protection that is missing, off or stale.
    EndpointProtection,
    /// A monitoring agent that is missing, off or in conflict.
    Monitoring,
    /// A security event in a log.
    SecurityEvent,
    /// Something reachable that should not be.
    Exposure,
}

/// What every finding of one sort has in common: a row of a detector's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `area.name`, for ever the same.
    pub id: &'static str,
    /// The sort of finding.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// What to do.
    pub remediation: &'static str,
}

/// One thing that is wrong, and where.
///
/// There is no field for text of a file:
///
/// ```compile_fail
/// # use stillframe_model::*;
/// fn leak(mut finding: Finding, line_of_a_file: String) -> Finding {
///     finding.title = line_of_a_file.into();
///     finding
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Stable across scans and versions; see [`FindingId::of`].
    pub id: FindingId,
    /// The rule that found it.
    pub rule_id: Label,
    /// What sort of thing it is.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a few words of the rule.
    pub title: Label,
    /// Where.
    pub location: Location,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What to do, in words of the rule.
    pub remediation: Label,
}

impl Finding {
    /// Says again what `rule` says of it: a report of another process may say something else.
    pub fn restate(&mut self, rule: &Rule) {
        self.rule_id = Label::new(rule.id);
        self.kind = rule.kind;
        self.severity = rule.severity;
        self.title = Label::new(rule.title);
        self.remediation = Label::new(rule.remediation);
    }

    /// A finding of `rule` at `location`; `distinguisher` tells two findings of one rule at one place apart (a package
    /// name, an advisory id) and only enters the id.
    #[must_use]
    pub fn new(rule: &Rule, location: Location, distinguisher: &str, evidence: Vec<Evidence>) -> Self {
        Self {
            id: FindingId::of(rule.id, &location, distinguisher),
            rule_id: Label::new(rule.id),
            kind: rule.kind,
            severity: rule.severity,
            title: Label::new(rule.title),
            location,
            evidence,
            remediation: Label::new(rule.remediation),
        }
    }
}

/// Names a finding: the same rule, place and thing have the same id in every scan, whatever the host is called and
/// whatever the fingerprint key is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct FindingId(String);

impl FindingId {
    /// The id of a finding of `rule_id`: 128 bits of SHA-256 over the rule, the place and the distinguisher. The place
    /// enters as [`Location::identity`], in which a home's owner is a number: an unkeyed hash of a person's name could
    /// be found by guessing.
    #[must_use]
    pub fn of(rule_id: &str, location: &Location, distinguisher: &str) -> Self {
        let mut hash = Sha256::new();
        for part in ["stillframe/finding/1", rule_id, location.identity(), distinguisher] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        Self(hex(&hash.finalize()).chars().take(32).collect())
    }
}

impl TryFrom<String> for FindingId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex { Ok(Self(text)) } else { Err("a finding id is 32 hexadecimal digits") }
    }
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FingerprintKey, PathView};

    const RULE: Rule = Rule {
        id: "test.rule",
        kind: FindingKind::Misconfiguration,
        severity: Severity::High,
        title: "something is open",
        remediation: "close it",
    };

    fn finding(key: u8, path: &[u8], uid: Option<u32>) -> Finding {
        let key = FingerprintKey::new([key; 32]);
        let location = Location::in_volume("disk0/p1", "ext4").at(path, uid, PathView::Masked(&key));
        Finding::new(&RULE, location, "", vec![])
    }

    #[test]
    fn an_id_depends_on_rule_and_place_and_not_on_the_key() {
        let one = finding(1, b"/home/alice/x", Some(1000));
        let other_key = finding(2, b"/home/alice/x", Some(1000));
        assert_eq!(one.id, other_key.id);
        assert_ne!(one.location.path, other_key.location.path);
        assert_ne!(one.id, finding(1, b"/home/alice/y", Some(1000)).id);
        assert_ne!(one.id, finding(1, b"/home/bob/x", Some(1001)).id);
    }

    #[test]
    fn an_id_does_not_tell_the_user() {
        // Whoever guesses the name gets the same id with any other name: it does not depend on it.
        assert_eq!(finding(1, b"/home/alice/x", Some(1000)).id, finding(1, b"/home/bob/x", Some(1000)).id);
    }

    #[test]
    fn severities_are_ordered() {
        assert!(Severity::Critical > Severity::High && Severity::Low > Severity::Info);
    }
}
