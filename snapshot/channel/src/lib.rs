//! Disks whose bytes are read by another process.
//!
//! The process that parses has no network and no credentials, so blocks of a snapshot are fetched by its parent. Between
//! them are lanes, each a Unix stream socket on which the parser asks and the parent answers, one question at a time; as
//! many questions are under way as there are lanes. [`ChannelSource`] is the parser's side, [`serve`] the parent's.
//!
//! A socket, and no memory that both share: what two processes can write while the other reads is hard to get right, and
//! it was no faster. Both moved about 9 GiB/s over two lanes on two cores.
//!
//! The parser is not trusted: a question is bounded in length before anything is allocated for it, and one that is no
//! question ends the lane ([`Misuse`]). Nothing can be asked but bytes of the disks that are served.

mod client;
mod server;
mod wire;

pub use client::{ChannelSource, Lanes};
pub use server::{Misuse, Served, serve};

/// The longest read that one question can ask for, in bytes; longer reads are several questions.
pub const MAX_READ_BYTES: u32 = 512 * 1024;
/// How many ranges one hint can have; the rest of a longer hint is dropped.
pub const MAX_HINTED_RANGES: u32 = 4096;
