//! What is asked of the cloud, one method for one call of its API. No retry, no rate limit and no paging lies behind a
//! method: they are the callers' part, so that they are tested without a cloud.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use jiff::Timestamp;

/// The answer to one call.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// One page of a list. The next one is asked for with `next`; there is none where it is `None`. A page may be empty and
/// still have a next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page<T> {
    /// What the page lists.
    pub items: Vec<T>,
    /// The token of the next page.
    pub next: Option<String>,
}

/// An answer that the audit log must be able to match with the cloud's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replied<T> {
    /// The answer.
    pub value: T,
    /// The request's id, as the audit log of the cloud has it.
    pub request_id: Option<String>,
}

/// The compute API (EC2) of one account and region.
pub trait Compute: Send + Sync {
    /// `DescribeInstances` with filters (name, values), 1,000 a page.
    fn describe_instances(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Instance>>;
    /// `DescribeInstances` by id. Ids that do not exist fail the call.
    fn describe_instances_by_id(&self, ids: &[String]) -> Answer<'_, Vec<Instance>>;
    /// `DescribeVolumes` with filters, 500 a page.
    fn describe_volumes(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Volume>>;
    /// `CreateSnapshots`: one crash-consistent set of all volumes of an instance. Not idempotent: a lost reply leaves
    /// snapshots that only their tags lead to.
    fn create_snapshots(&self, request: &CreateSet) -> Answer<'_, Replied<Vec<Snapshot>>>;
    /// `CreateSnapshot` of one volume. Not idempotent either.
    fn create_snapshot(
        &self,
        volume_id: &str,
        description: &str,
        tags: &Tags,
    ) -> Answer<'_, Replied<Snapshot>>;
    /// `DescribeSnapshots` owned by the account, with filters, 1,000 a page.
    fn describe_snapshots(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Snapshot>>;
    /// `DescribeSnapshots` by id. Ids that do not exist fail the call.
    fn describe_snapshots_by_id(&self, ids: &[String]) -> Answer<'_, Vec<Snapshot>>;
    /// `DeleteSnapshot`.
    fn delete_snapshot(&self, snapshot_id: &str) -> Answer<'_, Replied<()>>;
    /// `ListSnapshotsInRecycleBin`: which of these deleted snapshots a retention rule keeps.
    fn snapshots_in_recycle_bin(&self, ids: &[String]) -> Answer<'_, Vec<String>>;
    /// A call with `DryRun`: whether it would be allowed. [`ApiError`] of kind `AccessDenied` where it would not.
    fn dry_run(&self, action: DryRunAction) -> Answer<'_, ()>;
    /// `DescribeRegions`: the regions that are enabled.
    fn describe_regions(&self) -> Answer<'_, Vec<String>>;
    /// `DescribeInstanceTypes`: how many GiB of instance store machines of these types have. Types without one are left
    /// out. `DescribeInstances` says nothing of instance stores: this is the only way to know of them.
    fn instance_store_gib(&self, types: &[String]) -> Answer<'_, BTreeMap<String, u64>> {
        let types = types.join(",");
        Box::pin(async move {
            Err(ApiError {
                operation: "ec2:DescribeInstanceTypes",
                resource: Some(types),
                kind: ErrorKind::Other,
                code: "not offered".to_owned(),
                request_id: None,
            })
        })
    }
}

/// The direct block API (EBS) of one account and region.
pub trait Blocks: Send + Sync {
    /// `ListSnapshotBlocks`, 10,000 blocks a page, from block `starting_block`.
    fn list_snapshot_blocks(
        &self,
        snapshot_id: &str,
        starting_block: u32,
        page: Option<String>,
    ) -> Answer<'_, BlockPage>;
    /// `GetSnapshotBlock`: the bytes as they came, unverified.
    fn get_snapshot_block(
        &self,
        snapshot_id: &str,
        block_index: u32,
        block_token: &str,
    ) -> Answer<'_, BlockData>;
}

/// What a check before a scan asks of the account beside its machines: keys, the Recycle Bin, quotas. None of it is
/// needed to scan.
pub trait Advice: Send + Sync {
    /// `DescribeKey` of KMS: the state of a key.
    fn describe_key(&self, key: &str) -> Answer<'_, KeyState>;
    /// `ListRules` of the Recycle Bin: the ids of the rules for snapshots.
    fn recycle_bin_rules(&self, page: Option<String>) -> Answer<'_, Page<String>>;
    /// `GetRule` of the Recycle Bin.
    fn recycle_bin_rule(&self, id: &str) -> Answer<'_, RetentionRule>;
    /// `GetServiceQuota`: a quota as it was set for the account; `None` where it was not.
    fn quota(&self, service_code: &str, quota_code: &str) -> Answer<'_, Option<f64>>;
    /// `GetAWSDefaultServiceQuota`: the quota of an account that nobody set it for.
    fn default_quota(&self, service_code: &str, quota_code: &str) -> Answer<'_, Option<f64>>;
}

/// Who is calling (STS `GetCallerIdentity`) and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The account's number.
    pub account: String,
    /// The region.
    pub region: String,
}

/// A filter of a describe call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `instance-state-name`, `tag:Name`, `tag-key`, `attachment.instance-id`, …
    pub name: String,
    /// Any of these.
    pub values: Vec<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// `running`, `stopped`, ….
    pub state: String,
    /// `t3.micro`, ….
    pub instance_type: String,
    /// `eu-west-3a`: a Local Zone has a longer name.
    pub availability_zone: String,
    /// Set where the instance runs on an Outpost.
    pub outpost: bool,
    /// The root device's name: `/dev/xvda`.
    pub root_device_name: Option<String>,
    /// The block devices: device name and EBS volume.
    pub devices: Vec<Device>,
    /// The tags.
    pub tags: Tags,
    /// `windows`, or empty for all else.
    pub platform: String,
}

/// A block device of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `/dev/sdf`.
    pub name: String,
    /// `vol-…`; `None` for what is no EBS volume.
    pub volume_id: Option<String>,
}

/// An EBS volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `vol-…`.
    pub id: String,
    /// `in-use`, `error`, ….
    pub state: String,
    /// Its size in GiB.
    pub size_gib: u64,
    /// `gp3`, `st1`, ….
    pub volume_type: String,
    /// Whether it is encrypted, and with which key.
    pub encrypted: bool,
    /// The key's ARN.
    pub kms_key_id: Option<String>,
    /// The instances that it is attached to; several for Multi-Attach.
    pub attached_to: Vec<String>,
    /// Set where the volume lies on an Outpost.
    pub outpost: bool,
    /// Its zone.
    pub availability_zone: String,
    /// The tags.
    pub tags: Tags,
}

/// A snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `snap-…`.
    pub id: String,
    /// The volume.
    pub volume_id: String,
    /// How far it is.
    pub state: SnapshotState,
    /// How much of it is taken, in percent, where the cloud tells.
    pub progress_percent: Option<u8>,
    /// Why it failed, in the cloud's words.
    pub state_message: Option<String>,
    /// The volume's size in GiB.
    pub volume_size_gib: u64,
    /// The bytes of written blocks, where the cloud tells.
    pub full_size_bytes: Option<u64>,
    /// When it was begun.
    pub started: Option<Timestamp>,
    /// The account that owns it.
    pub owner: String,
    /// Whether it is encrypted, and with which key.
    pub encrypted: bool,
    /// The key's ARN.
    pub kms_key_id: Option<String>,
    /// `standard` or `archive`.
    pub storage_tier: Option<String>,
    /// The tags.
    pub tags: Tags,
}

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotState {
    /// Being taken.
    Pending,
    /// It can be read.
    Completed,
    /// It failed.
    Error,
    /// In the Recycle Bin.
    Recoverable,
    /// Coming back from it.
    Recovering,
}

/// `CreateSnapshots`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSet {
    /// The instance.
    pub instance_id: String,
    /// Leave out the root volume.
    pub exclude_boot_volume: bool,
    /// Leave out these data volumes; at most 40, the root not among them.
    pub exclude_data_volume_ids: Vec<String>,
    /// What the snapshots are for.
    pub description: String,
    /// The tags that they are created with.
    pub tags: Tags,
}

/// What a dry run asks for, and about what: the cloud looks the thing up before it judges, so an id that does not exist
/// gives `NotFound` and no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DryRunAction {
    /// `ec2:DescribeInstances`.
    DescribeInstances,
    /// `ec2:DescribeVolumes`.
    DescribeVolumes,
    /// `ec2:DescribeSnapshots`.
    DescribeSnapshots,
    /// `ec2:CreateSnapshots` of this instance with these tags: a policy may ask for them.
    CreateSnapshots {
        /// `i-…`.
        instance_id: String,
        /// As a scan would set them.
        tags: Tags,
    },
    /// `ec2:CreateSnapshot` of this volume with these tags.
    CreateSnapshot {
        /// `vol-…`.
        volume_id: String,
        /// As a scan would set them.
        tags: Tags,
    },
    /// `ec2:DeleteSnapshot` of this snapshot.
    DeleteSnapshot {
        /// `snap-…`.
        snapshot_id: String,
    },
}

/// Whether a key can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// It can.
    Enabled,
    /// Someone switched it off.
    Disabled,
    /// It will be deleted, and cannot be used meanwhile.
    PendingDeletion,
    /// Any other state, in the cloud's word: `Unavailable`, `PendingImport`, ….
    Other(String),
}

/// A rule of the Recycle Bin: which deleted snapshots are kept, and billed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionRule {
    /// Its id.
    pub id: String,
    /// How long they are kept.
    pub days: u64,
    /// Whether it is for snapshots.
    pub covers_snapshots: bool,
    /// Only snapshots with one of these tags; all snapshots of the region where empty. No value is any value.
    pub resource_tags: Vec<(String, Option<String>)>,
    /// No snapshot with one of these tags.
    pub exclude_tags: Vec<(String, Option<String>)>,
    /// Whether it is locked: nobody can change it then.
    pub locked: bool,
}

/// A page of written blocks, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPage {
    /// The blocks.
    pub blocks: Vec<ListedBlock>,
    /// The volume's size in GiB.
    pub volume_size_gib: u64,
    /// The length of a block in bytes: 524,288, or this is no service that we know.
    pub block_size_bytes: u64,
    /// The token of the next page.
    pub next: Option<String>,
    /// The request's id, as the audit log of the cloud has it.
    pub request_id: Option<String>,
}

/// A block that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBlock {
    /// Its index; times 524,288 its offset in bytes.
    pub index: u32,
    /// What it is read with; valid for 7 days.
    pub token: String,
}

/// A block as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockData {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The length that was announced.
    pub data_length: Option<i32>,
    /// The checksum that was announced, in base 64.
    pub checksum: Option<String>,
    /// Its algorithm: `SHA256`.
    pub checksum_algorithm: Option<String>,
    /// The request's id, as the audit log of the cloud has it.
    pub request_id: Option<String>,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}{}: {code}", resource.as_ref().map(|resource| format!(" {resource}")).unwrap_or_default())]
pub struct ApiError {
    /// The call: `ec2:CreateSnapshots`.
    pub operation: &'static str,
    /// What it was about: `i-…`, `snap-…`.
    pub resource: Option<String>,
    /// What sort of failure it is.
    pub kind: ErrorKind,
    /// The cloud's code: `UnauthorizedOperation`; for what never reached it, words of ours.
    pub code: String,
    /// The request's id, where there was a reply.
    pub request_id: Option<String>,
}

/// What can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Too many calls: try again, more slowly.
    Throttled,
    /// `SnapshotCreationPerVolumeRateExceeded`: 15 s between two snapshots of a volume.
    VolumeRate,
    /// `ConcurrentSnapshotLimitExceeded`: too many snapshots of this volume are pending.
    ConcurrentSnapshots,
    /// `PendingSnapshotLimitExceeded`: too many snapshots of the account are pending.
    PendingSnapshots,
    /// The account may have no more snapshots.
    SnapshotQuota,
    /// A failure of the service (5xx): try again.
    Service,
    /// No reply: time out, broken connection, cut body. The call may have had its effect.
    NoReply,
    /// There is no such thing (any more, or yet).
    NotFound,
    /// The caller may not.
    AccessDenied,
    /// The caller may not use the key.
    KmsDenied,
    /// The credentials are missing, wrong or expired.
    Credentials,
    /// The snapshot is in use or locked.
    InUse,
    /// The call makes no sense to the cloud: a wrong id, a wrong state.
    Invalid,
    /// A block's or page's token is expired or unknown (`INVALID_BLOCK_TOKEN`, `INVALID_PAGE_TOKEN`): list again.
    InvalidToken,
    /// Anything else.
    Other,
}
