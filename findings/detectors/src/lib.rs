//! What is wanted from a disk, and what is made of it.
//!
//! A [`Detector`] declares the files that it wants ([`Interest`]). The interests of all detectors are compiled into one
//! [`Matcher`], one walk finds the files, and each is opened and read once for all who want it. A detector turns what
//! it is handed into [`Fact`]s; [`conclude`] turns the facts of all volumes into what the report says of the machine.
//!
//! To add a detector, write one file and put one line into [`catalog`].

mod architecture;
mod catalog;
mod conclude;
mod containers;
mod detector;
mod fact;
mod hostname;
mod interest;
pub mod ledger;
mod matcher;
mod packages;
mod release;
mod windows;

pub use catalog::{RULES, catalog};
pub use conclude::{Conclusion, conclude};
pub use detector::{Delivered, Detector, FileSet, Found, StreamSink};
pub use fact::{ContainerLayers, DatabaseKind, Fact, PackageDatabase, Release, ReleaseSource, Sourced};
pub use interest::{Delivery, Interest, Pattern};
pub use matcher::{FolderMatcher, Matcher, Want};
