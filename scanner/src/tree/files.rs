//! The files in which a system says what it mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use stillframe_fs::{FileId, read_whole};

use super::fstab::{self, Line};
use super::lookup::Lookup;
use super::{Opened, units};

const FSTAB_CAP_BYTES: u64 = 256 * 1024;
const UNIT_CAP_BYTES: u64 = 64 * 1024;
const MAX_LINES: usize = 256;
const MAX_UNITS: usize = 256;
/// Folders of links to what a target wants.
const MAX_WANTS: usize = 256;
/// Where units lie; the first that has one by a name is believed.
const UNIT_FOLDERS: [&[u8]; 3] = [b"/etc/systemd/system", b"/usr/lib/systemd/system", b"/lib/systemd/system"];

/// Reads them from the root of a system, through symbolic links on its own filesystem: nothing is mounted yet.
pub(super) struct Files<'a> {
    lookup: Lookup<'a>,
    /// How many were there and could not be read whole.
    pub(super) unread: u32,
}

impl<'a> Files<'a> {
    /// For the system whose root is `folder` of the filesystem at this index.
    pub(super) fn new(opened: &'a [Opened<'a>], filesystem: usize, folder: &[u8], id: FileId) -> Self {
        let mut lookup = Lookup::new(opened);
        lookup.mount(Vec::new(), filesystem, id, folder.to_vec());
        Self { lookup, unread: 0 }
    }

    /// The lines of its `fstab`, in their order.
    pub(super) fn fstab(&mut self) -> Vec<Line> {
        let Some(text) = self.text(b"/etc/fstab", FSTAB_CAP_BYTES) else { return Vec::new() };
        let mut lines = fstab::parse(&text);
        self.limit(lines.len(), MAX_LINES);
        lines.truncate(MAX_LINES);
        lines
    }

    /// The lines that its mount units make which something wants, in the order of their names.
    pub(super) fn units(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for path in self.wanted_units() {
            // A link to `/dev/null` masks a unit, and leads to no file.
            let text = self.text(&path, UNIT_CAP_BYTES);
            lines.extend(text.as_deref().and_then(units::line));
        }
        lines
    }

    /// The paths of units by which a link among `*.wants` or `*.requires` goes.
    fn wanted_units(&mut self) -> Vec<Vec<u8>> {
        let mut wants: Vec<Vec<u8>> = Vec::new();
        let mut there: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for folder in UNIT_FOLDERS {
            self.each(folder, &mut |name| {
                if name.ends_with(b".wants") || name.ends_with(b".requires") {
                    wants.push(crate::walk::join(folder, name));
                } else if name.ends_with(b".mount") {
                    there.entry(name.to_vec()).or_insert_with(|| crate::walk::join(folder, name));
                }
            });
        }
        self.limit(wants.len(), MAX_WANTS);
        wants.truncate(MAX_WANTS);
        let mut wanted: BTreeSet<Vec<u8>> = BTreeSet::new();
        for folder in wants {
            self.each(&folder, &mut |name| {
                if name.ends_with(b".mount") {
                    wanted.insert(name.to_vec());
                }
            });
        }
        self.limit(wanted.len(), MAX_UNITS);
        wanted.iter().filter_map(|name| there.remove(name)).take(MAX_UNITS).collect()
    }

    /// Tells each name in a folder; one that is there and cannot be read counts.
    fn each(&mut self, folder: &[u8], visit: &mut dyn FnMut(&[u8])) {
        let Some(folder) = self.lookup.folder(folder) else { return };
        let Some(fs) = self.lookup.fs(folder.filesystem) else { return };
        let read = fs.read_dir(folder.id, &mut |entry| {
            visit(entry.name);
            ControlFlow::Continue(())
        });
        self.unread = self.unread.saturating_add(u32::from(read.is_err()));
    }

    /// The text of a file; `None` where there is none, or it cannot be read, which counts.
    fn text(&mut self, path: &[u8], cap_bytes: u64) -> Option<String> {
        let file = self.lookup.file(path)?;
        let fs = self.lookup.fs(file.filesystem)?;
        let text = fs.open(file.id).and_then(|mut file| read_whole(&mut *file, cap_bytes));
        self.unread = self.unread.saturating_add(u32::from(text.is_err()));
        text.ok().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    fn limit(&mut self, count: usize, most: usize) {
        self.unread = self.unread.saturating_add(u32::from(count > most));
    }
}
