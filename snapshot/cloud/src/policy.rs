//! The least that the cloud must allow: the IAM policy of each role, each action with its reason.
//!
//! Create only with our tag; delete and read only what bears it *and* a scan's id; keys only through EC2. A snapshot's ARN has
//! no account. Partitions (China, GovCloud) have ARNs and domains of their own: a policy is for one.

use serde_json::{Value, json};

use crate::tags::{CREATED_BY, SCAN_ID};

/// Who gets a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Finds machines, makes and deletes snapshots; reads no block.
    Orchestrator,
    /// Reads blocks of snapshots that are there; makes and deletes none.
    Worker,
    /// All in one.
    Single,
}

/// A part of the cloud that has its own accounts, ARNs and domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partition {
    /// The second part of its ARNs.
    pub id: &'static str,
    /// What its services' names end with.
    pub domain: &'static str,
}

impl Default for Partition {
    fn default() -> Self {
        Self { id: "aws", domain: "amazonaws.com" }
    }
}

impl Partition {
    /// The partition of a region; that of most regions where the name says nothing else.
    #[must_use]
    pub fn of_region(region: &str) -> Self {
        let partitions = [
            ("cn-", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-", "aws-us-gov", "amazonaws.com"),
            ("eusc-", "aws-eusc", "amazonaws.eu"),
            ("us-iso-", "aws-iso", "c2s.ic.gov"),
            ("us-isob-", "aws-iso-b", "sc2s.sgov.gov"),
            ("eu-isoe-", "aws-iso-e", "cloud.adc-e.uk"),
            ("us-isof-", "aws-iso-f", "csp.hci.ic.gov"),
        ];
        let found = partitions.into_iter().find(|(begin, ..)| region.starts_with(begin));
        found.map_or_else(Self::default, |(_, id, domain)| Self { id, domain })
    }

    fn arn(self, resource: &str) -> String {
        format!("arn:{}:ec2:*:{resource}", self.id)
    }

    fn snapshots(self) -> Vec<String> {
        vec![self.arn(":snapshot/*")]
    }
}

/// A part of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Its name.
    pub sid: &'static str,
    /// Its actions, each with what it is needed for.
    pub actions: &'static [(&'static str, &'static str)],
    /// What they may be done to.
    pub resources: Vec<String>,
    /// On which condition.
    pub condition: Option<Value>,
}

/// The parts of a role's policy.
#[must_use]
pub fn statements(role: Role, created_by: &str, partition: Partition) -> Vec<Statement> {
    let (makes, reads) = match role {
        Role::Orchestrator => (true, false),
        Role::Worker => (false, true),
        Role::Single => (true, true),
    };
    let mut all = vec![looking()];
    if makes {
        all.extend(making(created_by, partition));
    }
    if reads {
        all.extend(reading(created_by, partition));
    }
    all
}

/// The policy as the cloud takes it.
#[must_use]
pub fn document(role: Role, created_by: &str, partition: Partition) -> Value {
    let statement = |statement: &Statement| {
        let actions: Vec<&str> = statement.actions.iter().map(|(action, _)| *action).collect();
        let mut part = json!({
            "Sid": statement.sid,
            "Effect": "Allow",
            "Action": actions,
            "Resource": statement.resources,
        });
        if let (Some(part), Some(condition)) = (part.as_object_mut(), &statement.condition) {
            part.insert("Condition".to_owned(), condition.clone());
        }
        part
    };
    let all = statements(role, created_by, partition);
    json!({ "Version": "2012-10-17", "Statement": all.iter().map(statement).collect::<Vec<_>>() })
}

/// Every action of a role and its reason, in the policy's order.
#[must_use]
pub fn reasons(role: Role, created_by: &str) -> Vec<(&'static str, &'static str)> {
    let all = statements(role, created_by, Partition::default());
    all.into_iter().flat_map(|statement| statement.actions.iter().copied()).collect()
}

/// What every role asks of snapshots.
fn looking() -> Statement {
    Statement {
        sid: "LookAtSnapshots",
        actions: &[
            ("ec2:DescribeSnapshots", "tells whether a snapshot can be read, is left behind, or is gone"),
            ("ec2:ListSnapshotsInRecycleBin", "tells whether a deleted snapshot is kept by a rule"),
        ],
        resources: everything(),
        condition: None,
    }
}

/// What knows no resources, or is limited by its condition alone.
fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

fn making(created_by: &str, partition: Partition) -> Vec<Statement> {
    vec![
        Statement {
            sid: "Describe",
            actions: &[
                ("ec2:DescribeInstances", "finds the machines, their states and their disks"),
                ("ec2:DescribeVolumes", "finds size, key, tags and attachments of each disk"),
                (
                    "ec2:DescribeInstanceTypes",
                    "tells which machines have disks of the host: they have no snapshots",
                ),
                ("ec2:DescribeRegions", "finds the enabled regions, for leftovers in each"),
                ("rbin:ListRules", "preflight: finds the rules that keep deleted snapshots"),
                ("rbin:GetRule", "preflight: warns of a rule that would keep our deleted snapshots"),
                ("servicequotas:GetServiceQuota", "preflight: compares the rates asked for with the quotas"),
                (
                    "servicequotas:GetAWSDefaultServiceQuota",
                    "preflight: the same for a quota that was not set for the account",
                ),
                ("kms:DescribeKey", "preflight: tells a key that is disabled or gone from one denied"),
            ],
            resources: everything(),
            condition: None,
        },
        Statement {
            sid: "SnapshotFrom",
            actions: &[
                ("ec2:CreateSnapshots", "takes all disks of a machine in one consistent set"),
                ("ec2:CreateSnapshot", "takes one disk, where the set fails"),
            ],
            resources: vec![partition.arn("*:instance/*"), partition.arn("*:volume/*")],
            condition: None,
        },
        Statement {
            sid: "SnapshotToWithOurTagsOnly",
            actions: &[
                ("ec2:CreateSnapshots", "makes the snapshots of the set, with our tags or not at all"),
                ("ec2:CreateSnapshot", "makes the snapshot of one disk, with our tags or not at all"),
            ],
            resources: partition.snapshots(),
            condition: Some(json!({
                "StringEquals": { format!("aws:RequestTag/{CREATED_BY}"): created_by },
                "Null": { format!("aws:RequestTag/{SCAN_ID}"): "false" },
            })),
        },
        Statement {
            sid: "TagWhileCreatingOnly",
            actions: &[("ec2:CreateTags", "sets the tags within the creating call; never on what exists")],
            resources: partition.snapshots(),
            condition: Some(json!({
                "StringEquals": { "ec2:CreateAction": ["CreateSnapshot", "CreateSnapshots"] },
            })),
        },
        Statement {
            sid: "DeleteOursOnly",
            actions: &[("ec2:DeleteSnapshot", "deletes what a scan made, and nothing else")],
            resources: partition.snapshots(),
            condition: Some(ours(created_by)),
        },
    ]
}

fn reading(created_by: &str, partition: Partition) -> Vec<Statement> {
    vec![
        Statement {
            sid: "ReadOursOnly",
            actions: &[
                ("ebs:ListSnapshotBlocks", "finds the blocks that were written"),
                ("ebs:GetSnapshotBlock", "reads a block"),
            ],
            resources: partition.snapshots(),
            condition: Some(ours(created_by)),
        },
        Statement {
            sid: "KeysThroughEc2Only",
            actions: &[("kms:Decrypt", "reads blocks of encrypted disks, through EC2 and in no other way")],
            resources: everything(),
            condition: Some(json!({
                "StringLike": { "kms:ViaService": format!("ec2.*.{}", partition.domain) },
            })),
        },
    ]
}

fn ours(created_by: &str) -> Value {
    json!({
        "StringEquals": { format!("aws:ResourceTag/{CREATED_BY}"): created_by },
        "Null": { format!("aws:ResourceTag/{SCAN_ID}"): "false" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags::DEFAULT_CREATED_BY;

    fn actions(role: Role) -> Vec<&'static str> {
        reasons(role, DEFAULT_CREATED_BY).into_iter().map(|(action, _)| action).collect()
    }

    #[test]
    fn deleting_and_reading_need_both_tags_and_creating_needs_ours() {
        let policy = document(Role::Single, DEFAULT_CREATED_BY, Partition::default());
        let statements = policy["Statement"].as_array().unwrap();
        let with = |action: &str, resource: &str| -> Vec<&Value> {
            let has = |list: &Value, word: &str| list.as_array().unwrap().iter().any(|item| item == word);
            let fits = |part: &&Value| has(&part["Action"], action) && has(&part["Resource"], resource);
            statements.iter().filter(fits).collect()
        };
        let snapshot = "arn:aws:ec2:*::snapshot/*";
        for action in ["ec2:DeleteSnapshot", "ebs:GetSnapshotBlock", "ebs:ListSnapshotBlocks"] {
            let [part] = with(action, snapshot)[..] else { panic!("{action} is allowed more than once") };
            assert!(with(action, "*").is_empty());
            let condition = &part["Condition"];
            assert_eq!(
                condition["StringEquals"]["aws:ResourceTag/CreatedBy"],
                "Microsoft Defender for Cloud"
            );
            assert_eq!(condition["Null"]["aws:ResourceTag/stillframe:scan-id"], "false");
        }
        for action in ["ec2:CreateSnapshot", "ec2:CreateSnapshots"] {
            let [part] = with(action, snapshot)[..] else { panic!("{action} is allowed more than once") };
            let condition = &part["Condition"]["StringEquals"];
            assert_eq!(condition["aws:RequestTag/CreatedBy"], "Microsoft Defender for Cloud");
        }
        let [tagging] = with("ec2:CreateTags", snapshot)[..] else { panic!("tags") };
        assert!(tagging["Condition"]["StringEquals"]["ec2:CreateAction"].is_array());
        let [decrypt] = with("kms:Decrypt", "*")[..] else { panic!("keys") };
        assert_eq!(decrypt["Condition"]["StringLike"]["kms:ViaService"], "ec2.*.amazonaws.com");
    }

    #[test]
    fn roles_share_nothing_that_they_do_not_need() {
        let (orchestrator, mut worker) = (actions(Role::Orchestrator), actions(Role::Worker));
        let reads = |action: &&str| action.starts_with("ebs:") || *action == "kms:Decrypt";
        assert!(!orchestrator.iter().any(reads));
        // Whoever reads a snapshot looks first whether it can be read.
        let looks: Vec<_> = worker.drain(..2).collect();
        assert_eq!(looks, ["ec2:DescribeSnapshots", "ec2:ListSnapshotsInRecycleBin"]);
        assert!(worker.iter().all(reads));
        assert_eq!(orchestrator[..2], looks);
        assert_eq!(actions(Role::Single), [orchestrator, worker].concat());
    }

    #[test]
    fn each_partition_has_its_own_arns_and_domain() {
        for (region, id, via) in [
            ("eu-west-3", "aws", "ec2.*.amazonaws.com"),
            ("cn-north-1", "aws-cn", "ec2.*.amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "ec2.*.amazonaws.com"),
            ("us-isob-east-1", "aws-iso-b", "ec2.*.sc2s.sgov.gov"),
            ("mars-1", "aws", "ec2.*.amazonaws.com"),
        ] {
            let policy = document(Role::Single, DEFAULT_CREATED_BY, Partition::of_region(region));
            let text = policy.to_string();
            assert_eq!(text.matches("arn:").count(), 6);
            assert_eq!(text.matches(&format!("arn:{id}:ec2:*:")).count(), 6, "{region}: {text}");
            assert!(text.contains(&format!("\"kms:ViaService\":\"{via}\"")), "{region}: {text}");
        }
    }

    #[test]
    fn every_action_is_named_in_full_and_has_a_reason() {
        for (action, reason) in reasons(Role::Single, DEFAULT_CREATED_BY) {
            assert!(!action.contains('*') && action.contains(':'), "{action}");
            assert!(reason.len() > 10, "{action}");
        }
        let mut sids: Vec<_> = statements(Role::Single, DEFAULT_CREATED_BY, Partition::default())
            .iter()
            .map(|part| part.sid)
            .collect();
        let all = sids.len();
        sids.sort_unstable();
        sids.dedup();
        assert_eq!(sids.len(), all);
        assert!(sids.iter().all(|sid| sid.bytes().all(|byte| byte.is_ascii_alphanumeric())));
    }

    #[test]
    fn another_product_name_is_carried_into_every_condition() {
        let text = document(Role::Single, "Someone Else", Partition::default()).to_string();
        assert!(!text.contains("Defender"));
        assert_eq!(text.matches("Someone Else").count(), 3);
    }
}
