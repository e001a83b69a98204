//! A fake of AWS for tests: the EC2 Query API as far as snapshots go, the EBS direct APIs, STS, and what KMS, the Recycle
//! Bin and Service Quotas tell of the account. It speaks HTTP on loopback ([`serve`]), or answers requests in the same process without a socket ([`World::answer`]).
//!
//! A [`World`] holds an [`Estate`] (accounts, instances, volumes backed by raw files, snapshots, settings), a plan of
//! faults ([`Rule`]), a log of [`Event`]s and [`Counters`], and asks a [`Clock`] for the time. After a test,
//! [`World::leaks`] says which snapshots were left behind.
//!
//! What it takes care to do as the services do: wire formats, paging, tokens and their expiry, states, quotas, and policies
//! of IAM ([`Policy`]), which hold for the users of an account or for a role. What it does not: signatures are not checked,
//! there are no key policies and no organization's, and nothing is ever copied, so a volume's file must not change while the
//! world lives.
//!
//! A world file for the program, which serves the same over `/_fake/` (everything left out has a default):
//!
//! ```
//! let estate: fake_aws::Estate = serde_json::from_str(
//!     r#"{
//!         "accounts": [{"id": "111111111111", "recycle_bin_days": 7, "policy": {
//!             "Version": "2012-10-17",
//!             "Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]
//!         }}],
//!         "volumes": [{"id": "vol-0a", "size_gib": 8, "content": {"image": "disk.img"}}],
//!         "instances": [{"id": "i-0a", "devices": [{"name": "/dev/xvda", "volume": "vol-0a"}]}],
//!         "settings": {"snapshot_delay_ms": 2000},
//!         "faults": [{"operation": "GetSnapshotBlock", "probability": 0.2, "seed": 1, "fault": {"kind": "throttle"}}]
//!     }"#,
//! )?;
//! # assert_eq!(estate.instances[0].state, "running");
//! # Ok::<(), serde_json::Error>(())
//! ```
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "dev-only: no foreign disk is parsed here, and a fake that panics fails its test"
)]

mod access;
mod caller;
mod clock;
mod content;
mod control;
mod ebs;
mod ec2;
mod estate;
mod events;
mod fault;
mod iam;
mod kms;
mod quota;
mod recycle_bin;
mod reply;
mod request;
mod server;
mod service_quotas;
mod sts;
mod token;
mod world;
mod xml;

pub use clock::{Clock, ManualClock, ScaledClock, Sleep, TokioClock};
pub use content::BLOCK_LEN;
pub use control::Hold;
pub use estate::{
    Account, Content, DEFAULT_ACCOUNT, DEFAULT_REGION, Device, Estate, Instance, Role, Settings, Snapshot,
    Tags, Volume,
};
pub use events::{Counters, Event};
pub use fault::{Fault, Rule};
pub use iam::Policy;
pub use quota::Quotas;
pub use reply::{Broken, FakeBody};
pub use server::{Running, serve, serve_on};
pub use world::World;
