//! What goes over the wire, and what comes of the replies: against written bytes in the form of the services' references.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and reads what it wrote itself"
)]

mod blocks;
mod compute;
mod environment;
mod pool;
mod server;
