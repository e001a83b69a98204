//! The fake, seen from outside: by clients that others wrote, and on the wire.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics fails, as it should"
)]

mod access;
mod clients;
mod lifecycle;
mod wire;
