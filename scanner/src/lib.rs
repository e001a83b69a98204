//! One machine's scan, from its disks to the report.
//!
//! [`Disk`]s are opened, [`layout`] says what lies on them, each filesystem is opened behind a budget, [`tree`] puts them
//! together as the machine sees them, [`walk`] goes over each once, [`deliver`] reads what the detectors want, and
//! [`scan`] makes the report of it. [`cloud`] gets the disks of machines that run in one. Nothing here prints or exits: that is the program's part, in [`cli`].

pub mod cli;
pub mod cloud;
pub mod deliver;
mod devices;
pub mod disk;
pub mod files;
mod images;
pub mod isolation;
pub mod journal;
pub mod key;
pub mod layout;
pub mod mount;
mod open;
mod plan;
pub mod progress;
pub mod scan;
pub mod tree;
pub mod walk;

pub use disk::Disk;
pub use scan::{ScanOptions, scan};
