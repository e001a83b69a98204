use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use stillframe_aws::{Options, Role};
use stillframe_cloud::api::Tags;
use stillframe_cloud::cost::NanoDollars;
use stillframe_cloud::discover::{Exclusions, Selection};
use stillframe_cloud::{policy, tags};

use super::super::arguments::{Reading, ScanArguments};

/// Which account and region, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "AWS")]
pub struct Account {
    /// A profile of ~/.aws/config
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// A role to assume, in another account or in this one
    #[arg(long, value_name = "ARN")]
    pub role_arn: Option<String>,
    /// What the role's trust policy asks for
    #[arg(long, value_name = "ID", requires = "role_arn")]
    pub external_id: Option<String>,
    /// The value of the tag CreatedBy, which our snapshots bear and are found again by
    #[arg(long, env = "STILLFRAME_CREATED_BY", default_value = tags::DEFAULT_CREATED_BY, value_name = "VALUE")]
    pub created_by: String,
}

/// One region.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "AWS")]
pub struct Region {
    /// The region; else AWS_REGION's or the profile's
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
}

/// Several regions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "AWS")]
pub struct Regions {
    /// The regions, separated by commas; else AWS_REGION's or the profile's
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub region: Vec<String>,
    /// All regions that the account has enabled
    #[arg(long, conflicts_with = "region")]
    pub all_regions: bool,
}

impl Account {
    /// What a connection is opened with. `session` is a part of the name of an assumed role's session.
    pub(super) fn options(&self, region: Option<String>, session: &str) -> Options {
        let role = self.role_arn.as_ref().map(|arn| Role {
            arn: arn.clone(),
            external_id: self.external_id.clone(),
            scan_id: session.to_owned(),
        });
        Options { region, profile: self.profile.clone(), role, ..Options::default() }
    }
}

/// How much may be read, and how fast.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// What reading the disks of one machine may cost at most, in dollars; 0 is no limit
    #[arg(long, default_value = "0.25", value_name = "DOLLARS", value_parser = dollars)]
    pub max_cost: NanoDollars,
    /// Blocks of 512 KiB that may be read of one machine at most
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_blocks: Option<u64>,
    /// Blocks read a second at most, in one account and region
    #[arg(long, default_value_t = 400.0, value_name = "RATE", value_parser = rate)]
    pub gets_per_second: f64,
    /// Lists of blocks a second at most, in one account and region
    #[arg(long, default_value_t = 20.0, value_name = "RATE", value_parser = rate)]
    pub lists_per_second: f64,
    /// Read also where the data would leave its region; this is written to the audit log
    #[arg(long)]
    pub allow_cross_region: bool,
}

impl Limits {
    /// The limit of cost, where there is one.
    pub(super) fn max_cost(&self) -> Option<NanoDollars> {
        (self.max_cost.0 > 0).then_some(self.max_cost)
    }
}

/// Which instances and which of their disks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub struct Choice {
    /// Only instances with this tag; * stands for any characters
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub tag: Vec<(String, String)>,
    /// Only instances whose Name tag fits; * stands for any characters
    #[arg(long, value_name = "PATTERN")]
    pub name: Vec<String>,
    /// Leave out instances and volumes with this tag, beside stillframe:exclude
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = key_or_pair)]
    pub exclude_tag: Vec<(String, Option<String>)>,
    /// Leave out root volumes
    #[arg(long)]
    pub no_root: bool,
    /// Leave out data volumes
    #[arg(long)]
    pub no_data: bool,
}

impl Choice {
    pub(super) fn selection(&self, ids: &[String]) -> Selection {
        Selection { ids: ids.to_vec(), tags: self.tag.clone(), names: self.name.clone() }
    }

    pub(super) fn exclusions(&self) -> Exclusions {
        let mut exclusions = Exclusions::default();
        exclusions.tags.extend(self.exclude_tag.iter().cloned());
        Exclusions { root: self.no_root, data: self.no_data, ..exclusions }
    }

    /// Whether anything was chosen but by id.
    pub(super) fn is_given(&self) -> bool {
        !self.tag.is_empty() || !self.name.is_empty()
    }
}

/// `stillframe instances`.
#[derive(Debug, Args)]
pub struct InstancesArguments {
    /// Instances; all of the region where none are named
    #[arg(value_name = "INSTANCE", value_parser = instance_id)]
    pub ids: Vec<String>,
    /// How the list is written
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub format: ListFormat,
    /// Which of them.
    #[command(flatten)]
    pub choice: Choice,
    /// The region.
    #[command(flatten)]
    pub region: Region,
    /// The account.
    #[command(flatten)]
    pub account: Account,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

/// `stillframe scan instance`.
#[derive(Debug, Args)]
pub struct InstanceArguments {
    /// Running instances; or choose them by --tag or --name
    #[arg(value_name = "INSTANCE", value_parser = instance_id)]
    pub ids: Vec<String>,
    /// Say what would be read and what it would cost, and create nothing
    #[arg(long)]
    pub dry_run: bool,
    /// A tag that the snapshots bear beside ours
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub snapshot_tag: Vec<(String, String)>,
    /// How it is reported.
    #[command(flatten)]
    pub scan: ScanArguments,
    /// How it is read.
    #[command(flatten)]
    pub reading: Reading,
    /// Which instances.
    #[command(flatten)]
    pub choice: Choice,
    /// How much.
    #[command(flatten)]
    pub limits: Limits,
    /// The region.
    #[command(flatten)]
    pub region: Region,
    /// The account.
    #[command(flatten)]
    pub account: Account,
}

impl InstanceArguments {
    pub(super) fn user_tags(&self) -> Tags {
        self.snapshot_tag.iter().cloned().collect()
    }
}

/// `stillframe scan snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArguments {
    /// Completed snapshots; several are the disks of one machine, the root first. They are read, and never deleted
    #[arg(required = true, value_name = "SNAPSHOT", value_parser = snapshot_id)]
    pub ids: Vec<String>,
    /// How it is reported.
    #[command(flatten)]
    pub scan: ScanArguments,
    /// How it is read.
    #[command(flatten)]
    pub reading: Reading,
    /// How much.
    #[command(flatten)]
    pub limits: Limits,
    /// The region.
    #[command(flatten)]
    pub region: Region,
    /// The account.
    #[command(flatten)]
    pub account: Account,
}

/// `stillframe snapshots`.
#[derive(Debug, Subcommand)]
pub enum SnapshotsCommand {
    /// List the snapshots that scans made and that are still there
    List(ListArguments),
    /// Delete what scans that died left behind; never what a living scan uses
    Purge(PurgeArguments),
}

/// `stillframe snapshots list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// How the list is written
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub format: ListFormat,
    /// The regions.
    #[command(flatten)]
    pub regions: Regions,
    /// The account.
    #[command(flatten)]
    pub account: Account,
}

/// `stillframe snapshots purge`.
#[derive(Debug, Args)]
pub struct PurgeArguments {
    /// Only what is older: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Also snapshots of scans that this machine does not know and that have not expired
    #[arg(long)]
    pub all: bool,
    /// Do not ask on a terminal before --all
    #[arg(long, short)]
    pub yes: bool,
    /// How long to look for snapshots that become visible late: 90s, 5m
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = age)]
    pub wait: Duration,
    /// How the result is written
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub format: ListFormat,
    /// The regions.
    #[command(flatten)]
    pub regions: Regions,
    /// The account.
    #[command(flatten)]
    pub account: Account,
}

/// `stillframe aws`.
#[derive(Debug, Subcommand)]
pub enum AwsCommand {
    /// Print the IAM policy that allows what stillframe needs, and no more
    Policy(PolicyArguments),
    /// Check permissions, keys, Recycle Bin rules and quotas before a scan
    Preflight(PreflightArguments),
    /// Check that no line of the audit log was changed, moved or left out
    Audit(AuditArguments),
}

/// `stillframe aws audit`.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// The log; else the one of this machine's state directory
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How the result is written
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub format: ListFormat,
}

/// `stillframe aws policy`.
#[derive(Debug, Args)]
pub struct PolicyArguments {
    /// Who gets the policy
    #[arg(long, value_enum, default_value_t = PolicyRole::Single, value_name = "ROLE")]
    pub role: PolicyRole,
    /// The value of the tag CreatedBy
    #[arg(long, env = "STILLFRAME_CREATED_BY", default_value = tags::DEFAULT_CREATED_BY, value_name = "VALUE")]
    pub created_by: String,
    /// A region that it is for: China, GovCloud and others have policies of their own
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
    pub region: Option<String>,
}

/// Who gets a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyRole {
    /// Finds machines, makes and deletes snapshots; reads no block
    Orchestrator,
    /// Reads blocks; makes and deletes nothing
    Worker,
    /// All in one
    Single,
}

impl From<PolicyRole> for policy::Role {
    fn from(role: PolicyRole) -> Self {
        match role {
            PolicyRole::Orchestrator => Self::Orchestrator,
            PolicyRole::Worker => Self::Worker,
            PolicyRole::Single => Self::Single,
        }
    }
}

/// `stillframe aws preflight`.
#[derive(Debug, Args)]
pub struct PreflightArguments {
    /// Whose permissions are wanted
    #[arg(long, value_enum, default_value_t = PolicyRole::Single, value_name = "ROLE")]
    pub role: PolicyRole,
    /// How the result is written
    #[arg(long, short, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub format: ListFormat,
    /// Blocks that scans would read a second, to compare with the quota
    #[arg(long, default_value_t = 400.0, value_name = "RATE", value_parser = rate)]
    pub gets_per_second: f64,
    /// Lists of blocks a second, to compare with the quota
    #[arg(long, default_value_t = 20.0, value_name = "RATE", value_parser = rate)]
    pub lists_per_second: f64,
    /// The region.
    #[command(flatten)]
    pub region: Region,
    /// The account.
    #[command(flatten)]
    pub account: Account,
}

fn dollars(text: &str) -> Result<NanoDollars, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(NanoDollars::from_dollars(dollars)),
        _ => Err("a sum of dollars, like 0.25".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.1 => Ok(rate),
        _ => Err("a number of calls a second, 0.1 or more".to_owned()),
    }
}

/// `90s`, `30m`, `2h`, `7d`.
fn age(text: &str) -> Result<Duration, String> {
    let seconds = |(unit, seconds): &(&str, u64)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(*seconds).map(Duration::from_secs)
    };
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];
    units.iter().find_map(seconds).ok_or_else(|| "a number with s, m, h or d: 90s, 30m, 2h, 7d".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a key and a value: KEY=VALUE".to_owned()),
    }
}

fn key_or_pair(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        _ if text.is_empty() || text.starts_with('=') => Err("a key, or KEY=VALUE".to_owned()),
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
        None => Ok((text.to_owned(), None)),
    }
}

fn instance_id(text: &str) -> Result<String, String> {
    id(text, "i-").ok_or_else(|| "an instance is named like i-0123456789abcdef0".to_owned())
}

pub(super) fn snapshot_id(text: &str) -> Result<String, String> {
    id(text, "snap-").ok_or_else(|| "a snapshot is named like snap-0123456789abcdef0".to_owned())
}

fn id(text: &str, prefix: &str) -> Option<String> {
    let digits = text.strip_prefix(prefix)?;
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase();
    let is_id = (8..=32).contains(&digits.len()) && digits.bytes().all(is_digit);
    is_id.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(age("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(age("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(age("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "2", "h", "-1h", "1.5h", "2w", "99999999999999999999d", "213503982334602d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_are_those_of_the_cloud() {
        assert!(instance_id("i-0123456789abcdef0").is_ok() && instance_id("i-12345678").is_ok());
        for wrong in ["", "i-", "i-xyz", "vol-12345678", "i-0123456789ABCDEF0", "i-1234 5678", "i-1234567"] {
            assert!(instance_id(wrong).is_err(), "{wrong}");
        }
        assert!(snapshot_id("snap-0123456789abcdef0").is_ok() && snapshot_id("i-12345678").is_err());
    }

    #[test]
    fn sums_and_pairs_are_checked() {
        assert_eq!(dollars("0.25"), Ok(NanoDollars(250_000_000)));
        assert_eq!(dollars("$1"), Ok(NanoDollars(1_000_000_000)));
        assert!(dollars("-1").is_err() && dollars("much").is_err() && dollars("inf").is_err());
        assert!(rate("0").is_err() && rate("NaN").is_err());
        assert_eq!(pair("team=a=b"), Ok(("team".to_owned(), "a=b".to_owned())));
        assert!(pair("team").is_err() && pair("=x").is_err());
        assert_eq!(key_or_pair("team"), Ok(("team".to_owned(), None)));
        assert!(key_or_pair("=x").is_err());
    }
}
