//! What the world holds: accounts, instances, volumes, snapshots, settings. This is also the JSON of a world file, where
//! everything but ids has a default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fault::Rule;
use crate::iam::Policy;
use crate::quota::Quotas;

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// The account and region of whatever names none.
pub const DEFAULT_ACCOUNT: &str = "111111111111";
/// See [`DEFAULT_ACCOUNT`].
pub const DEFAULT_REGION: &str = "us-east-1";

fn default_account() -> String {
    DEFAULT_ACCOUNT.to_owned()
}

fn default_region() -> String {
    DEFAULT_REGION.to_owned()
}

/// Everything there is. `Estate::default()` has one account, one region and nothing in them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Estate {
    /// The accounts. A caller with an access key that no account lists acts in the first.
    pub accounts: Vec<Account>,
    /// The regions that are enabled.
    pub regions: Vec<String>,
    /// The instances.
    pub instances: Vec<Instance>,
    /// The instance store of instance types, in GiB. Other types have none.
    pub instance_types: BTreeMap<String, u64>,
    /// The EBS volumes.
    pub volumes: Vec<Volume>,
    /// The snapshots, deleted ones too.
    pub snapshots: Vec<Snapshot>,
    /// How the services behave.
    pub settings: Settings,
    /// What goes wrong.
    pub faults: Vec<Rule>,
}

impl Default for Estate {
    fn default() -> Self {
        Self {
            accounts: vec![Account { id: default_account(), ..Account::default() }],
            regions: vec![default_region()],
            instances: Vec::new(),
            instance_types: BTreeMap::new(),
            volumes: Vec::new(),
            snapshots: Vec::new(),
            settings: Settings::default(),
            faults: Vec::new(),
        }
    }
}

/// How the services behave.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a snapshot is pending.
    pub snapshot_delay_ms: u64,
    /// How long every reply takes.
    pub latency_ms: u64,
    /// How long the replies of some operations take instead.
    pub latency_by_operation_ms: BTreeMap<String, u64>,
    /// Whether the policies of accounts and roles hold.
    pub enforce_policy: bool,
    /// The key of the tag that decides what is a leak.
    pub scan_id_tag: String,
    /// No page of blocks is longer, whatever is asked for. The services may send short pages.
    pub block_page_limit: Option<usize>,
    /// No page of a description is longer, and there are pages where none were asked for.
    pub describe_page_limit: Option<usize>,
    /// How long a block token is good: 7 days.
    pub block_token_ms: u64,
    /// How long a page token is good: 60 minutes.
    pub page_token_ms: u64,
    /// How long assumed credentials are good, where the caller does not say.
    pub session_ms: u64,
    /// The quotas.
    pub quotas: Quotas,
    /// Whether the quotas hold at all.
    pub enforce_quotas: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            snapshot_delay_ms: 0,
            latency_ms: 0,
            latency_by_operation_ms: BTreeMap::new(),
            enforce_policy: true,
            scan_id_tag: "stillframe:scan-id".to_owned(),
            block_page_limit: None,
            describe_page_limit: None,
            block_token_ms: 7 * 24 * 3_600_000,
            page_token_ms: 3_600_000,
            session_ms: 3_600_000,
            quotas: Quotas::default(),
            enforce_quotas: true,
        }
    }
}

/// An account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Account {
    /// Twelve digits.
    pub id: String,
    /// The access keys of its users.
    pub access_keys: Vec<String>,
    /// Access keys whose time is over: `RequestExpired`, `ExpiredToken`.
    pub expired_keys: Vec<String>,
    /// What the account's users may do: a document of IAM. Where there is none they may do all.
    pub policy: Option<Policy>,
    /// Roles that others may assume.
    pub roles: Vec<Role>,
    /// What nobody may do here, whatever policies allow: `ec2:CreateSnapshots`, `ebs:GetSnapshotBlock`, `ebs:*`.
    pub denied_actions: Vec<String>,
    /// ARNs of KMS keys that nobody may use here: such a snapshot is listed, and its blocks are refused.
    pub denied_keys: Vec<String>,
    /// The states of KMS keys, by ARN: `Enabled`, `Disabled`, `PendingDeletion`, …. The keys of volumes and snapshots are
    /// enabled where this does not say otherwise; other keys do not exist.
    pub key_states: BTreeMap<String, String>,
    /// How long deleted snapshots stay in the Recycle Bin, where a retention rule covers them.
    pub recycle_bin_days: Option<u64>,
    /// Snapshots with this tag (key, value) go past the Recycle Bin.
    pub recycle_bin_exclusion: Option<(String, String)>,
    /// The retention rule covers only snapshots with this tag, and not all of the region.
    pub recycle_bin_tag: Option<(String, String)>,
}

/// A role.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Role {
    /// Its name: the end of `arn:aws:iam::222222222222:role/NAME`.
    pub name: String,
    /// The external id that whoever assumes it must give.
    pub external_id: Option<String>,
    /// What the role may do: a document of IAM. Where there is none it may do all.
    pub policy: Option<Policy>,
    /// What the role may not do, beyond what the account forbids.
    pub denied_actions: Vec<String>,
}

/// An instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// Its account.
    pub account: String,
    /// Its region.
    pub region: String,
    /// `pending`, `running`, `shutting-down`, `terminated`, `stopping`, `stopped`.
    pub state: String,
    /// `t3.micro`, ….
    pub instance_type: String,
    /// Its zone; the region's zone a where there is none. A Local Zone has a longer name: `us-east-1-bos-1a`.
    pub availability_zone: Option<String>,
    /// The root device's name.
    pub root_device_name: String,
    /// The block devices.
    pub devices: Vec<Device>,
    /// `windows` or none.
    pub platform: Option<String>,
    /// The Outpost that it runs on.
    pub outpost_arn: Option<String>,
    /// The tags.
    pub tags: Tags,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            id: String::new(),
            account: default_account(),
            region: default_region(),
            state: "running".to_owned(),
            instance_type: "t3.micro".to_owned(),
            availability_zone: None,
            root_device_name: "/dev/xvda".to_owned(),
            devices: Vec::new(),
            platform: None,
            outpost_arn: None,
            tags: Tags::new(),
        }
    }
}

/// A block device of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// `/dev/sdf`.
    pub name: String,
    /// The volume; none is an instance-store disk.
    #[serde(default)]
    pub volume: Option<String>,
}

/// An EBS volume. It is attached where an instance has it as a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Volume {
    /// `vol-…`.
    pub id: String,
    /// Its account.
    pub account: String,
    /// Its region.
    pub region: String,
    /// Its size.
    pub size_gib: u64,
    /// What is on it.
    pub content: Content,
    /// `gp3`, `io2`, `st1`, ….
    pub volume_type: String,
    /// `in-use`, `available`, `error`, …; where none is set, whether it is attached decides.
    pub state: Option<String>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// By which key.
    pub kms_key_id: Option<String>,
    /// Its zone; the region's zone a where there is none.
    pub availability_zone: Option<String>,
    /// Whether several instances may have it.
    pub multi_attach: bool,
    /// The Outpost that it lies on.
    pub outpost_arn: Option<String>,
    /// Its snapshots end in `error`, with this message; and so do those of its whole set.
    pub snapshot_error: Option<String>,
    /// How long its snapshots are pending, where it differs.
    pub snapshot_delay_ms: Option<u64>,
    /// Its last snapshot stayed in its Local Zone or on its Outpost, so all others do.
    pub snapshots_stay_local: bool,
    /// The tags.
    pub tags: Tags,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            id: String::new(),
            account: default_account(),
            region: default_region(),
            size_gib: 1,
            content: Content::default(),
            volume_type: "gp3".to_owned(),
            state: None,
            encrypted: false,
            kms_key_id: None,
            availability_zone: None,
            multi_attach: false,
            outpost_arn: None,
            snapshot_error: None,
            snapshot_delay_ms: None,
            snapshots_stay_local: false,
            tags: Tags::new(),
        }
    }
}

/// What is on a volume: nothing, a raw file, or blocks made up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Content {
    /// A raw file. Its holes are blocks that were never written. A snapshot reads the file as it is, and the file is
    /// not to change while the world lives.
    pub image: Option<PathBuf>,
    /// Without a file: so many blocks are written, from the first on, each with bytes of its own.
    pub pattern_blocks: u32,
}

/// A snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snapshot {
    /// `snap-…`.
    pub id: String,
    /// The account that owns it.
    pub account: String,
    /// Its region.
    pub region: String,
    /// The volume that it is of.
    pub volume_id: String,
    /// The volume's size.
    pub size_gib: u64,
    /// What is on it.
    pub content: Content,
    /// When it was begun, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it is completed, or failed.
    pub completes_ms: u64,
    /// Until then no call finds it.
    pub visible_ms: u64,
    /// It ends in `error`, with this message.
    pub error: Option<String>,
    /// `standard` or `archive`.
    pub storage_tier: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// By which key.
    pub kms_key_id: Option<String>,
    /// `governance`, `compliance`, `compliance-cooloff`.
    pub lock: Option<String>,
    /// The image that uses it.
    pub in_use_by: Option<String>,
    /// It lies in a Local Zone or on this Outpost, where the direct APIs do not reach.
    pub stays_local: bool,
    /// The Outpost that it lies on.
    pub outpost_arn: Option<String>,
    /// Everybody may see it, and nobody read it by the direct APIs.
    pub public: bool,
    /// Accounts that it is shared with.
    pub shared_with: Vec<String>,
    /// What it is for.
    pub description: String,
    /// When it was deleted. A pending one goes when it is completed.
    pub deleted_ms: Option<u64>,
    /// Until then it is in the Recycle Bin.
    pub in_recycle_bin_until_ms: Option<u64>,
    /// The tags.
    pub tags: Tags,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            id: String::new(),
            account: default_account(),
            region: default_region(),
            volume_id: "vol-ffffffff".to_owned(),
            size_gib: 1,
            content: Content::default(),
            started_ms: 0,
            completes_ms: 0,
            visible_ms: 0,
            error: None,
            storage_tier: "standard".to_owned(),
            encrypted: false,
            kms_key_id: None,
            lock: None,
            in_use_by: None,
            stays_local: false,
            outpost_arn: None,
            public: false,
            shared_with: Vec::new(),
            description: String::new(),
            deleted_ms: None,
            in_recycle_bin_until_ms: None,
            tags: Tags::new(),
        }
    }
}

impl Snapshot {
    /// `pending`, `completed` or `error`.
    #[must_use]
    pub fn state(&self, now_ms: u64) -> &'static str {
        match &self.error {
            _ if now_ms < self.completes_ms => "pending",
            Some(_) => "error",
            None => "completed",
        }
    }

    /// Whether it is deleted and gone. One that was pending is gone when it would have been completed.
    #[must_use]
    pub fn is_gone(&self, now_ms: u64) -> bool {
        self.deleted_ms.is_some_and(|deleted_ms| now_ms >= deleted_ms.max(self.completes_ms))
    }

    /// Whether it lies in the Recycle Bin.
    #[must_use]
    pub fn is_in_recycle_bin(&self, now_ms: u64) -> bool {
        self.is_gone(now_ms) && self.in_recycle_bin_until_ms.is_some_and(|until_ms| now_ms < until_ms)
    }

    /// Whether a call can find it.
    #[must_use]
    pub fn is_visible(&self, now_ms: u64) -> bool {
        now_ms >= self.visible_ms && !self.is_gone(now_ms)
    }
}

impl Account {
    /// How long a deleted snapshot with these tags stays in the Recycle Bin; `None` where it does not go there.
    #[must_use]
    pub fn days_in_recycle_bin(&self, tags: &Tags) -> Option<u64> {
        let bears = |(key, value): &(String, String)| tags.get(key) == Some(value);
        let is_covered = self.recycle_bin_tag.as_ref().is_none_or(bears);
        let is_excluded = self.recycle_bin_exclusion.as_ref().is_some_and(bears);
        self.recycle_bin_days.filter(|_| is_covered && !is_excluded)
    }
}

impl Instance {
    /// Its zone.
    #[must_use]
    pub fn zone(&self) -> String {
        self.availability_zone.clone().unwrap_or_else(|| format!("{}a", self.region))
    }
}

impl Volume {
    /// Its zone.
    #[must_use]
    pub fn zone(&self) -> String {
        self.availability_zone.clone().unwrap_or_else(|| format!("{}a", self.region))
    }
}
