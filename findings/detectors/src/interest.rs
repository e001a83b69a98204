/// Which entries a detector wants. Paths are the machine's: a filesystem that the machine mounts on `/var` is matched
/// as `/var`. Folders are found through symbolic links (`/lib/apk` where `/lib` leads to `usr/lib`); a file that is itself
/// a link is not followed, since its content is another file's: a detector names every place that it may really be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// The one entry at this path.
    Path(&'static str),
    /// Every entry directly in the folder at this path.
    In(&'static str),
    /// Every entry directly in any folder whose path ends like this: `/.local/share/containers/storage/overlay`.
    InFolderEndingWith(&'static str),
    /// Every entry with this name, wherever it is, on filesystems that are mounted nowhere too.
    Named(&'static str),
}

/// How a wanted entry is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Its name, kind and place: nothing is read. Directories and special files too.
    Entry,
    /// A regular file's whole content, if it is not longer than this many bytes.
    Whole {
        /// The longest content in bytes; a longer file is a fault in the ledger.
        cap_bytes: u64,
    },
    /// A regular file's content in pieces, to a [`crate::StreamSink`].
    Stream,
    /// A regular file, open for reads at any offset, with the files beside it.
    Open,
}

/// Some entries, and how they are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Which.
    pub pattern: Pattern,
    /// How.
    pub delivery: Delivery,
}

impl Interest {
    /// The whole content, of at most `cap_bytes`, of what `pattern` names.
    #[must_use]
    pub const fn whole(pattern: Pattern, cap_bytes: u64) -> Self {
        Self { pattern, delivery: Delivery::Whole { cap_bytes } }
    }

    /// What `pattern` names, open for reads.
    #[must_use]
    pub const fn open(pattern: Pattern) -> Self {
        Self { pattern, delivery: Delivery::Open }
    }

    /// What `pattern` names, unread.
    #[must_use]
    pub const fn entry(pattern: Pattern) -> Self {
        Self { pattern, delivery: Delivery::Entry }
    }
}
