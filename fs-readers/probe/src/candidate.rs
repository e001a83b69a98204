use std::ops::Range;

use crate::Content;

/// A signature that was found, and the evidence that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) content: Content,
    /// The offset in bytes of the magic.
    pub(crate) at: u64,
    /// Whether more than the magic and its neighbours speaks for it: a checksum, or a second structure in its place.
    pub(crate) certain: bool,
    /// What the tools that make this format overwrite. Another signature that lies in there was written later.
    pub(crate) clears: Range<u64>,
    /// The offset in bytes where it says that it ends.
    pub(crate) ends_at: Option<u64>,
    /// Whether its superblock lies at the volume's end, which leaves the start to what it contains.
    pub(crate) trailing: bool,
    pub(crate) uuid: Option<String>,
}

impl Candidate {
    pub(crate) fn new(content: Content, at: u64) -> Self {
        Self { content, at, certain: true, clears: at..at, ends_at: None, trailing: false, uuid: None }
    }

    pub(crate) fn certain(self, certain: bool) -> Self {
        Self { certain, ..self }
    }

    pub(crate) fn clears(self, clears: Range<u64>) -> Self {
        Self { clears, ..self }
    }

    pub(crate) fn ends_at(self, ends_at: u64) -> Self {
        Self { ends_at: Some(ends_at), ..self }
    }

    pub(crate) fn trailing(self) -> Self {
        Self { trailing: true, ..self }
    }

    pub(crate) fn uuid(self, uuid: Option<String>) -> Self {
        Self { uuid, ..self }
    }
}
