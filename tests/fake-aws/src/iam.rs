//! Identity-based policies of IAM: a JSON document, and what it allows. "Policy evaluation logic" and "IAM JSON policy
//! elements" of the IAM User Guide.
//!
//! Nothing is allowed that no statement allows, and what a statement denies no other one allows. Not supported, and refused
//! when the document is read: `NotAction`, `NotResource`, principals, policy variables, and operators on numbers, dates,
//! addresses and bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a managed policy may hold, white space not counted.
const LONGEST: usize = 6_144;

/// A policy, as IAM takes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Policy {
    document: Value,
    statements: Vec<Statement>,
}

/// What is known of a call, by the condition keys in small letters: their case does not count. A key that is not there has
/// no value.
pub(crate) type Context = BTreeMap<String, Vec<String>>;

/// What a call does something to: an ARN, or `*` where the action knows no resources.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) arn: String,
    pub(crate) context: Context,
}

impl Policy {
    /// Whether `action` (`ec2:CreateSnapshot`) may be done to the target.
    pub(crate) fn allows(&self, action: &str, target: &Target) -> bool {
        let fits = |statement: &&Statement| statement.fits(action, target);
        let mut allowed = false;
        for statement in self.statements.iter().filter(fits) {
            if !statement.allows {
                return false;
            }
            allowed = true;
        }
        allowed
    }
}

impl TryFrom<Value> for Policy {
    type Error = String;

    fn try_from(document: Value) -> Result<Self, String> {
        let text = document.to_string();
        if text.chars().filter(|character| !character.is_whitespace()).count() > LONGEST {
            return Err(format!("the policy has more than {LONGEST} characters"));
        }
        if text.contains("${") {
            return Err("policy variables are not supported".to_owned());
        }
        let members = object(&document, &["Version", "Id", "Statement"])?;
        if members.get("Version") != Some(&Value::from("2012-10-17")) {
            return Err("the policy's version is 2012-10-17".to_owned());
        }
        let statements = match members.get("Statement") {
            Some(Value::Array(all)) => all.iter().map(Statement::read).collect::<Result<Vec<_>, _>>()?,
            Some(one) => vec![Statement::read(one)?],
            None => return Err("the policy has no statement".to_owned()),
        };
        let names: Vec<&String> = statements.iter().filter_map(|statement| statement.sid.as_ref()).collect();
        if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
            return Err("two statements have one Sid".to_owned());
        }
        Ok(Self { document, statements })
    }
}

impl From<Policy> for Value {
    fn from(policy: Policy) -> Self {
        policy.document
    }
}

#[derive(Debug, Clone)]
struct Statement {
    sid: Option<String>,
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

impl Statement {
    fn read(value: &Value) -> Result<Self, String> {
        let members = object(value, &["Sid", "Effect", "Action", "Resource", "Condition"])?;
        let texts_of = |name: &str| texts(members.get(name).unwrap_or(&Value::Null), name);
        let sid = members.get("Sid").map(|sid| sid.as_str().unwrap_or_default().to_owned());
        let is_plain = |sid: &String| sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !sid.iter().all(is_plain) {
            return Err("a Sid is of letters and digits".to_owned());
        }
        let allows = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err("an Effect is Allow or Deny".to_owned()),
        };
        let actions = texts_of("Action")?;
        let is_action = |action: &&String| {
            let service = action.split_once(':').map(|(service, _)| service);
            *action == "*"
                || service.is_some_and(|service| !service.is_empty() && !service.contains(['*', '?']))
        };
        if let Some(action) = actions.iter().find(|action| !is_action(action)) {
            return Err(format!("{action} is no action"));
        }
        let resources = texts_of("Resource")?;
        let is_arn = |resource: &&String| {
            *resource == "*" || (resource.starts_with("arn:") && resource.splitn(6, ':').count() == 6)
        };
        if let Some(resource) = resources.iter().find(|resource| !is_arn(resource)) {
            return Err(format!("{resource} is neither an ARN nor *"));
        }
        let mut conditions = Vec::new();
        if let Some(value) = members.get("Condition") {
            for (operator, keys) in value.as_object().ok_or("a Condition is an object")? {
                for (key, values) in keys.as_object().ok_or("an operator has keys and values")? {
                    conditions.push(Condition::read(operator, key, values)?);
                }
            }
        }
        Ok(Self { sid, allows, actions, resources, conditions })
    }

    fn fits(&self, action: &str, target: &Target) -> bool {
        let action = action.to_ascii_lowercase();
        self.actions.iter().any(|pattern| glob(&pattern.to_ascii_lowercase(), &action))
            && self.resources.iter().any(|pattern| fits_arn(pattern, &target.arn))
            && self.conditions.iter().all(|condition| condition.holds(&target.context))
    }
}

/// Of several values of a key, which must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    /// The key has one value.
    One,
    ForAll,
    ForAny,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equals,
    EqualsIgnoreCase,
    Like,
    Arn,
    Bool,
}

/// One key of one operator.
#[derive(Debug, Clone)]
struct Condition {
    quantity: Quantity,
    /// `None` asks whether the key is missing.
    comparison: Option<Comparison>,
    is_negated: bool,
    if_exists: bool,
    key: String,
    values: Vec<String>,
}

impl Condition {
    fn read(operator: &str, key: &str, values: &Value) -> Result<Self, String> {
        let (quantity, rest) = match operator.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantity::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Quantity::ForAny, rest),
            _ => (Quantity::One, operator),
        };
        let (name, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        let (comparison, is_negated) = match name {
            "StringEquals" => (Some(Comparison::Equals), false),
            "StringNotEquals" => (Some(Comparison::Equals), true),
            "StringEqualsIgnoreCase" => (Some(Comparison::EqualsIgnoreCase), false),
            "StringNotEqualsIgnoreCase" => (Some(Comparison::EqualsIgnoreCase), true),
            "StringLike" => (Some(Comparison::Like), false),
            "StringNotLike" => (Some(Comparison::Like), true),
            "ArnEquals" | "ArnLike" => (Some(Comparison::Arn), false),
            "ArnNotEquals" | "ArnNotLike" => (Some(Comparison::Arn), true),
            "Bool" => (Some(Comparison::Bool), false),
            "Null" if !if_exists => (None, false),
            _ => return Err(format!("the operator {operator} is not supported")),
        };
        let values = texts(values, key)?;
        let is_truth = |value: &String| matches!(value.as_str(), "true" | "false");
        if matches!(comparison, None | Some(Comparison::Bool)) && !values.iter().all(is_truth) {
            return Err(format!("{operator} of {key} is true or false"));
        }
        Ok(Self { quantity, comparison, is_negated, if_exists, key: key.to_ascii_lowercase(), values })
    }

    fn holds(&self, context: &Context) -> bool {
        let found = context.get(&self.key);
        let Some(comparison) = self.comparison else {
            let is_missing = found.is_none();
            return self.values.iter().any(|value| (value == "true") == is_missing);
        };
        let Some(found) = found else {
            return match self.quantity {
                _ if self.if_exists => true,
                Quantity::One => self.is_negated,
                Quantity::ForAll => true,
                Quantity::ForAny => false,
            };
        };
        let fits = |value: &String| {
            self.values.iter().any(|wanted| comparison.fits(wanted, value)) != self.is_negated
        };
        match self.quantity {
            Quantity::ForAll => found.iter().all(fits),
            Quantity::One | Quantity::ForAny => found.iter().any(fits),
        }
    }
}

impl Comparison {
    fn fits(self, wanted: &str, value: &str) -> bool {
        match self {
            Self::Equals => wanted == value,
            Self::EqualsIgnoreCase | Self::Bool => wanted.eq_ignore_ascii_case(value),
            Self::Like => glob(wanted, value),
            Self::Arn => fits_arn(wanted, value),
        }
    }
}

/// The members of an object, which has no others than these.
fn object<'a>(value: &'a Value, names: &[&str]) -> Result<&'a Map<String, Value>, String> {
    let members = value.as_object().ok_or("a policy and its statements are objects")?;
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(format!("{name} is not supported")),
        None => Ok(members),
    }
}

/// One text or several, at least one. Truth values may come without quotes.
fn texts(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(format!("{name} is a text or a list of texts")),
    };
    match value {
        Value::Array(all) if !all.is_empty() => all.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

/// Each of an ARN's six parts for itself: a `*` does not reach over a colon, but in the last part.
fn fits_arn(pattern: &str, arn: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (patterns, parts): (Vec<_>, Vec<_>) =
        (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    patterns.len() == parts.len() && patterns.iter().zip(&parts).all(|(pattern, part)| glob(pattern, part))
}

/// `*` stands for any characters, `?` for one.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where the last star stands, and how much of the text it takes.
    let (mut at, mut in_text, mut star) = (0, 0, None);
    while in_text < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(character) if *character == '?' || *character == text[in_text] => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                at = place + 1;
                in_text = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SNAPSHOT: &str = "arn:aws:ec2:eu-west-3::snapshot/snap-1";

    fn policy(statements: Value) -> Result<Policy, String> {
        Policy::try_from(json!({"Version": "2012-10-17", "Statement": statements}))
    }

    fn target(arn: &str, context: &[(&str, &[&str])]) -> Target {
        let values = |values: &[&str]| values.iter().map(ToString::to_string).collect();
        let context =
            context.iter().map(|(key, all)| (key.to_ascii_lowercase(), values(all))).collect::<Context>();
        Target { arn: arn.to_owned(), context }
    }

    /// Whether a statement with this condition allows it.
    fn holds(condition: Value, context: &[(&str, &[&str])]) -> bool {
        let statement = json!({"Effect": "Allow", "Action": "ec2:DeleteSnapshot", "Resource": "*", "Condition": condition});
        policy(statement).unwrap().allows("ec2:DeleteSnapshot", &target(SNAPSHOT, context))
    }

    #[test]
    fn nothing_is_allowed_that_no_statement_allows_and_a_denial_goes_first() {
        let allow =
            json!({"Effect": "Allow", "Action": ["ec2:Describe*", "ec2:deletesnapshot"], "Resource": "*"});
        let deny = json!({"Effect": "Deny", "Action": "*", "Resource": "arn:aws:ec2:*::snapshot/snap-1"});
        let one = policy(json!([allow])).unwrap();
        let both = policy(json!([allow, deny])).unwrap();
        let (here, other) = (target(SNAPSHOT, &[]), target("arn:aws:ec2:eu-west-3::snapshot/snap-2", &[]));
        for action in ["ec2:DescribeSnapshots", "ec2:DeleteSnapshot"] {
            assert!(one.allows(action, &here) && both.allows(action, &other) && !both.allows(action, &here));
        }
        for action in ["ec2:CreateSnapshot", "ebs:DescribeSnapshots", "ec2:DeleteSnapshots"] {
            assert!(!one.allows(action, &here), "{action}");
        }
    }

    #[test]
    fn a_resource_is_matched_part_by_part() {
        let allows = |resource: &str, arn: &str| {
            let statement =
                json!({"Effect": "Allow", "Action": "ec2:DeleteSnapshot", "Resource": [resource]});
            policy(statement).unwrap().allows("ec2:DeleteSnapshot", &target(arn, &[]))
        };
        assert!(allows("arn:aws:ec2:*::snapshot/*", SNAPSHOT));
        assert!(allows("arn:aws:ec2:eu-west-?::snapshot/snap-1", SNAPSHOT));
        assert!(allows("*", SNAPSHOT) && allows("*", "*"));
        assert!(!allows("arn:aws:ec2:*:*:volume/*", SNAPSHOT));
        assert!(!allows("arn:aws-cn:ec2:*::snapshot/*", SNAPSHOT), "another partition");
        assert!(!allows("arn:aws:ec2:*::snapshot/*", "arn:aws:ec2:x:1:snapshot/snap-1"), "with an account");
        assert!(!allows("arn:aws:ec2:*::snapshot/*", "*"), "an action that knows no resources");
    }

    #[test]
    fn conditions_hold_all_together_and_values_one_by_one() {
        let both = json!({"StringEquals": {"aws:ResourceTag/A": ["x", "y"]}, "Null": {"aws:ResourceTag/B": "false"}});
        let b: (&str, &[&str]) = ("aws:ResourceTag/B", &[""]);
        assert!(holds(both.clone(), &[("aws:resourcetag/a", &["y"]), b]));
        assert!(!holds(both.clone(), &[("aws:ResourceTag/A", &["z"]), b]));
        assert!(!holds(both.clone(), &[("aws:ResourceTag/A", &["x"])]));
        assert!(!holds(both, &[b]));
        assert!(
            holds(json!({"Null": {"k": true}}), &[])
                && !holds(json!({"Null": {"k": "true"}}), &[("k", &["v"])])
        );
    }

    #[test]
    fn each_operator_compares_in_its_own_way() {
        let via: &[(&str, &[&str])] = &[("kms:ViaService", &["ec2.eu-west-3.amazonaws.com"])];
        assert!(holds(json!({"StringLike": {"kms:ViaService": "ec2.*.amazonaws.com"}}), via));
        assert!(!holds(json!({"StringEquals": {"kms:ViaService": "ec2.*.amazonaws.com"}}), via));
        assert!(!holds(json!({"StringLike": {"kms:ViaService": "ec2.*.amazonaws.com.cn"}}), via));
        assert!(!holds(json!({"StringNotLike": {"kms:ViaService": "ec2.*"}}), via));
        assert!(holds(json!({"StringEqualsIgnoreCase": {"k": "V"}}), &[("k", &["v"])]));
        assert!(holds(json!({"Bool": {"k": "true"}}), &[("k", &["true"])]));
        assert!(!holds(json!({"Bool": {"k": "true"}}), &[]));
        assert!(holds(json!({"ArnLike": {"k": "arn:aws:ec2:*::snapshot/*"}}), &[("k", &[SNAPSHOT])]));
        // A key that is missing fits what is negated, and what need not exist.
        assert!(holds(json!({"StringNotEquals": {"k": "v"}}), &[]));
        assert!(holds(json!({"StringEqualsIfExists": {"k": "v"}}), &[]));
        assert!(!holds(json!({"StringEqualsIfExists": {"k": "v"}}), &[("k", &["w"])]));
    }

    #[test]
    fn several_values_fit_all_or_any() {
        let keys: &[(&str, &[&str])] = &[("aws:TagKeys", &["a", "b"])];
        assert!(holds(json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b", "c"]}}), keys));
        assert!(!holds(json!({"ForAllValues:StringEquals": {"aws:TagKeys": "a"}}), keys));
        assert!(holds(json!({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a", "x"]}}), keys));
        assert!(holds(json!({"ForAllValues:StringEquals": {"aws:TagKeys": "a"}}), &[]));
        assert!(!holds(json!({"ForAnyValue:StringEquals": {"aws:TagKeys": "a"}}), &[]));
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_passed_over() {
        let good = json!({"Effect": "Allow", "Action": "ec2:DescribeRegions", "Resource": "*"});
        assert!(policy(good.clone()).is_ok());
        for (name, value) in [
            ("Effect", json!("allow")),
            ("Action", json!("DescribeRegions")),
            ("Action", json!("*:DescribeRegions")),
            ("Action", json!([])),
            ("Resource", json!("snapshot/*")),
            ("Resource", json!("arn:aws:ec2:snapshot")),
            ("NotAction", json!("ec2:*")),
            ("Principal", json!("*")),
            ("Sid", json!("with spaces")),
            ("Condition", json!({"StringEqual": {"k": "v"}})),
            ("Condition", json!({"Null": {"k": "no"}})),
            ("Condition", json!({"StringEquals": {"k": "${aws:username}"}})),
            ("Condition", json!({"NumericLessThan": {"k": "1"}})),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(policy(bad.clone()).is_err(), "{bad}");
        }
        let mut named = good.clone();
        named["Sid"] = json!("One");
        assert!(policy(json!([named, named])).unwrap_err().contains("Sid"));
        let many = vec![good; 200];
        assert!(policy(json!(many)).unwrap_err().contains("characters"));
        assert!(Policy::try_from(json!({"Version": "2008-10-17", "Statement": []})).is_err());
    }
}
