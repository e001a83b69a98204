//! Amazon's clients behind the interface of `stillframe-cloud`: the one crate that knows the AWS SDK.
//!
//! [`Connection`] is one account and region. It answers [`Compute`](stillframe_cloud::api::Compute),
//! [`Blocks`](stillframe_cloud::api::Blocks) and [`Advice`](stillframe_cloud::api::Advice) call by call: nothing is tried
//! again, paged or slowed down here, and every error comes out as an [`ApiError`](stillframe_cloud::api::ApiError) that
//! bears no word of a request. Specifications: the EC2 API reference, the EBS direct APIs, STS, KMS, Recycle Bin, Service
//! Quotas.
//!
//! # Contract
//! What is empty, and why:
//! - `Instance::devices` lists EBS volumes alone. EC2 tells nothing of instance stores there; `instance_store_gib` asks for
//!   them by the machine's type. `Device::volume_id` is `None` for a mapping that is no EBS volume, which EC2 does not send.
//! - `Snapshot` out of `create_snapshots` has no `full_size_bytes`, `kms_key_id`, `storage_tier` and `state_message`: the
//!   reply has no such fields. `describe_snapshots` has them: `full_size_bytes` once the snapshot is completed,
//!   `kms_key_id` if it is encrypted, `state_message` if it failed.
//! - A snapshot's state is `Pending` where the cloud gives none or one that we do not know: asking again is safe.
//! - `request_id` is `None` where no reply came, and in replies that bear no `x-amzn-requestid`.
//! - `ApiError::resource` names the first of several ids and how many more there are.
//! - `dry_run` looks the thing up before it judges: `NotFound` is no verdict.
//! - `quota` and `default_quota` are `None` where the service has no such quota, or none set for the account.
//! - `Advice` fails with words of ours where EC2 and EBS are on loopback and the service that it asks is not.
//!
//! Not supported: the `login` profiles of the newest `aws` command (single sign-on, roles, processes, metadata and web
//! identities are), and block reads through a snapshot that was not shared with the caller's account.

mod advice;
mod blocks;
mod compute;
mod connection;
mod errors;
mod locality;
mod options;
mod task;
mod translate;

pub use connection::Connection;
pub use locality::{CrossRegion, Locality};
pub use options::{InProcess, LoopbackCredentials, OpenError, Options, Role};
