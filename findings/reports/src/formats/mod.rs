//! One module a format, named as [`crate::Format`] names it.

pub(crate) mod cyclonedx;
pub(crate) mod json;
pub(crate) mod jsonl;
pub(crate) mod table;
