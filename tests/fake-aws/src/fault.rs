//! What goes wrong, and when. A plan is a list of rules; every rule that fits a call and whose turn it is applies.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One rule: which calls, when, and what befalls them. Without any of `nth`, `every`, `first` and `probability` it
/// befalls every call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `GetSnapshotBlock`, …; `*` for every operation.
    pub operation: String,
    /// Only calls about this resource: a snapshot, a volume, an instance. A block is `snap-…/17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Only the n-th call that fits, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Every n-th call that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// The first n calls that fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// How likely, from 0 to 1. The coin is thrown by `seed` and the count of the call: the same plan over the same
    /// calls is the same luck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// See `probability`.
    #[serde(default)]
    pub seed: u64,
    /// What happens.
    pub fault: Fault,
}

/// What befalls a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Refused as too fast, in the words of the service: `RequestLimitExceeded` of EC2, `RequestThrottledException`
    /// of EBS, or this code.
    Throttle {
        /// `ThrottlingException`, say, which EBS also sends, undeclared.
        #[serde(default)]
        code: Option<String>,
    },
    /// The service fails, before any effect.
    Http {
        /// 500 or 503.
        status: u16,
    },
    /// Any other refusal, before any effect.
    Error {
        /// The HTTP status.
        status: u16,
        /// The service's code.
        code: String,
        /// `Reason` of the EBS direct APIs.
        #[serde(default)]
        reason: Option<String>,
    },
    /// The body ends after so many bytes, though more were announced, and the connection closes.
    Cut {
        /// How many bytes still come.
        at_bytes: usize,
    },
    /// The announced checksum of a block is not that of its bytes.
    WrongChecksum,
    /// The block has a flipped bit; the announced checksum is the right one.
    WrongData,
    /// The body comes slowly.
    Drip {
        /// Bytes a second.
        bytes_per_second: u64,
    },
    /// The connection is reset, before any effect.
    Reset,
    /// The caller may not use the key.
    KmsDenied,
    /// What the call creates is not found for a while.
    NotFoundAfterCreate {
        /// For how long.
        seconds: u64,
    },
    /// The call has its effect, and the connection is reset before the reply.
    ReplyLost,
    /// A list returns an empty page with a token.
    EmptyPage,
    /// A list lacks what is there, as lists that are consistent only at last do: it has so many rows, and ends.
    StaleList {
        /// Rows that it still has.
        #[serde(default)]
        rows: usize,
    },
    /// The reply takes longer by so much.
    Delay {
        /// By how much.
        milliseconds: u64,
    },
}

/// The rules, and how often each was asked.
#[derive(Debug, Default)]
pub(crate) struct Plan(Vec<(Rule, u64)>);

impl Plan {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self(rules.into_iter().map(|rule| (rule, 0)).collect())
    }

    pub(crate) fn add(&mut self, rule: Rule) {
        self.0.push((rule, 0));
    }

    /// The faults of the next call.
    pub(crate) fn faults(&mut self, operation: &str, resources: &[String]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (rule, count) in &mut self.0 {
            let fits = (rule.operation == "*" || rule.operation == operation)
                && rule.resource.as_ref().is_none_or(|wanted| resources.contains(wanted));
            if fits {
                *count += 1;
                if rule.is_due(*count) {
                    faults.push(rule.fault.clone());
                }
            }
        }
        faults
    }
}

impl Rule {
    /// A rule for every call of an operation.
    #[must_use]
    pub fn always(operation: &str, fault: Fault) -> Self {
        Self {
            operation: operation.to_owned(),
            resource: None,
            nth: None,
            every: None,
            first: None,
            probability: None,
            seed: 0,
            fault,
        }
    }

    /// A rule for the n-th call of an operation.
    #[must_use]
    pub fn nth(operation: &str, nth: u64, fault: Fault) -> Self {
        Self { nth: Some(nth), ..Self::always(operation, fault) }
    }

    /// A rule for some of the calls of an operation.
    #[must_use]
    pub fn sometimes(operation: &str, probability: f64, seed: u64, fault: Fault) -> Self {
        Self { probability: Some(probability), seed, ..Self::always(operation, fault) }
    }

    fn is_due(&self, count: u64) -> bool {
        self.nth.is_none_or(|nth| nth == count)
            && self.every.is_none_or(|every| every != 0 && count.is_multiple_of(every))
            && self.first.is_none_or(|first| count <= first)
            && self.probability.is_none_or(|probability| self.coin(count) < probability)
    }

    /// A number from 0 to 1 that only the seed, the operation, the kind of fault and the count decide.
    fn coin(&self, count: u64) -> f64 {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(count.to_le_bytes());
        hash.update(format!("{} {:?}", self.operation, self.fault));
        let digest = hash.finalize();
        let number = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
        f64::from(number) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(rule: Rule, calls: u64) -> Vec<u64> {
        let mut plan = Plan::new(vec![rule]);
        (1..=calls).filter(|_| !plan.faults("GetSnapshotBlock", &[]).is_empty()).collect()
    }

    #[test]
    fn rules_are_due_when_they_say() {
        let nth = Rule::nth("GetSnapshotBlock", 3, Fault::Reset);
        assert_eq!(due(nth.clone(), 10), [3]);
        assert_eq!(due(Rule { operation: "*".to_owned(), ..nth.clone() }, 10), [3]);
        assert!(due(Rule { operation: "DeleteSnapshot".to_owned(), ..nth }, 10).is_empty());
        let every = Rule { every: Some(4), ..Rule::always("GetSnapshotBlock", Fault::WrongChecksum) };
        assert_eq!(due(every, 10), [4, 8]);
        let first = Rule { first: Some(2), ..Rule::always("GetSnapshotBlock", Fault::WrongChecksum) };
        assert_eq!(due(first, 10), [1, 2]);
    }

    #[test]
    fn luck_follows_the_seed_alone() {
        let rule = Rule::sometimes("GetSnapshotBlock", 0.2, 7, Fault::Throttle { code: None });
        let calls = due(rule.clone(), 10_000);
        assert_eq!(calls, due(rule.clone(), 10_000));
        assert!((1_800..2_200).contains(&calls.len()), "{}", calls.len());
        assert_ne!(calls, due(Rule { seed: 8, ..rule }, 10_000));
    }

    #[test]
    fn a_rule_for_one_resource_leaves_the_others() {
        let rule = Rule {
            resource: Some("snap-1".to_owned()),
            ..Rule::nth("DeleteSnapshot", 2, Fault::Http { status: 503 })
        };
        let mut plan = Plan::new(vec![rule]);
        let mut call = |resource: &str| plan.faults("DeleteSnapshot", &[resource.to_owned()]).len();
        assert_eq!([call("snap-1"), call("snap-2"), call("snap-2"), call("snap-1")], [0, 0, 0, 1]);
    }

    #[test]
    fn a_plan_reads_as_json() {
        let rule: Rule = serde_json::from_str(
            r#"{"operation": "GetSnapshotBlock", "probability": 0.02, "seed": 1, "fault": {"kind": "cut", "at_bytes": 70000}}"#,
        )
        .unwrap();
        assert_eq!(rule, Rule::sometimes("GetSnapshotBlock", 0.02, 1, Fault::Cut { at_bytes: 70_000 }));
        assert!(serde_json::from_str::<Rule>(r#"{"operation": "*", "fault": {"kind": "gremlin"}}"#).is_err());
    }
}
