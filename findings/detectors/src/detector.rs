use stillframe_fs::{FileContent, FileId, FileKind, FsError};
use stillframe_model::{Location, Scanner};

use crate::{Fact, Interest, Sourced};

/// Turns files into facts.
///
/// A detector holds no state of a scan: it may be called for many files at once, from many threads. It must not panic;
/// if it does, the file is a row in the ledger and the others go on.
pub trait Detector: Send + Sync {
    /// Its name, in a few words.
    fn name(&self) -> &'static str;

    /// The scanner that it belongs to.
    fn scanner(&self) -> Scanner;

    /// The entries that it wants.
    fn interests(&self) -> Vec<Interest>;

    /// Takes one entry. Everything found out is pushed to `facts`.
    ///
    /// # Errors
    /// [`FsError`] where the content cannot be read or is not what it should be; it becomes a fault of the filesystem's
    /// row. What belongs to a package database is better told in its own fact.
    fn inspect(
        &self,
        found: &Found<'_>,
        content: Delivered<'_>,
        facts: &mut Vec<Sourced<Fact>>,
    ) -> Result<(), FsError>;

    /// Begins a stream of a file that was wanted as [`crate::Delivery::Stream`].
    fn stream(&self, _found: &Found<'_>) -> Option<Box<dyn StreamSink>> {
        None
    }
}

/// An entry that somebody wants.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// The path on the machine, as the detector's interest writes it where symbolic links lead to the entry's folder; on a
    /// filesystem that is mounted nowhere, from its root. The `location` has the real one.
    pub path: &'a [u8],
    /// Its last component.
    pub name: &'a [u8],
    /// What it is.
    pub kind: FileKind,
    /// The file.
    pub id: FileId,
    /// Where it is, as a report shows it.
    pub location: &'a Location,
    /// Which of the systems on the disks it belongs to; 0 is the machine's own.
    pub system: usize,
}

impl<'a> Found<'a> {
    /// A fact that this file tells.
    #[must_use]
    pub fn fact(&self, what: Fact) -> Sourced<Fact> {
        Sourced { path: self.path.to_vec(), location: self.location.clone(), system: self.system, what }
    }

    /// The path of the folder that it is in.
    #[must_use]
    pub fn folder(&self) -> &'a [u8] {
        let end = self.path.len().saturating_sub(self.name.len()).saturating_sub(1);
        self.path.get(..end).unwrap_or_default()
    }
}

/// What a detector is handed.
pub enum Delivered<'a> {
    /// Nothing but the entry.
    Entry,
    /// The whole content.
    Whole(&'a [u8]),
    /// The open file, and the files beside it.
    Open(&'a mut dyn FileContent, &'a dyn FileSet),
}

/// The files beside one that was delivered open.
pub trait FileSet {
    /// Opens the file called `name` in the same folder; `None` where there is none.
    ///
    /// # Errors
    /// [`FsError`] where it is there and cannot be opened.
    fn open_beside(&self, name: &[u8]) -> Result<Option<Box<dyn FileContent + '_>>, FsError>;
}

/// Takes a file's content in order.
pub trait StreamSink: Send {
    /// Takes the next piece. `false` asks for no more.
    fn take(&mut self, piece: &[u8]) -> bool;

    /// Called when the file has ended, and not where it could not be read to its end.
    fn end(self: Box<Self>, found: &Found<'_>, facts: &mut Vec<Sourced<Fact>>);
}
