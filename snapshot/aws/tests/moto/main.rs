//! Against stock moto, a server that we did not write. Its Python packages are installed under `target/` the first time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and reads what it wrote itself"
)]

mod lifecycle;
mod server;
mod wire;
