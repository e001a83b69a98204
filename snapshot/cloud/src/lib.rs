//! A machine's disks in a cloud, without the cloud's client: which machines run, their snapshots from intent to purge,
//! and block reads that cost as little as they can.
//!
//! [`api`] is the seam: what is asked of the cloud, and how it may answer. The crate `stillframe-aws` answers with the
//! SDK; tests answer from memory. [`client`] stands on it: every call goes through the rate limit of its account, region
//! and operation, is tried again where that helps, and is written to the audit log where it changes or reads data.
//!
//! A scan: [`discover`] → [`scan_lock`] → [`lifecycle`] (intent, snapshots, wait) → [`snapshot_source`] (reads) →
//! [`purge`]. What a scan that died left behind, [`sweep`] finds. Before one: [`written`] and [`cost`] tell what it will
//! read, [`preflight`] whether it may.

pub mod api;
pub mod audit;
pub mod client;
pub mod clock;
pub mod cost;
pub mod discover;
mod instance_store;
pub mod lifecycle;
pub mod limiter;
pub mod policy;
pub mod preflight;
pub mod purge;
pub mod retry;
pub mod scan_lock;
pub mod snapshot_source;
pub mod state;
pub mod sweep;
pub mod tags;
mod verdict;
pub mod written;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod leak_tests;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod lifecycle_tests;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod purge_tests;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod testing;
