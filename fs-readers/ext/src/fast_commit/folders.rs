use std::collections::BTreeMap;
use std::ops::ControlFlow;

use stillframe_fs::{DirEntry, FileId, FileKind, FsError};

/// What fast commits change in one directory.
#[derive(Debug, Default)]
pub(crate) struct FolderChanges {
    /// It was made by a fast commit: what its inode maps is not its own.
    pub(super) is_new: bool,
    /// Names that were added, and those that are gone (`None`). In order, so that two readings are the same.
    pub(super) names: BTreeMap<Vec<u8>, Option<(u32, FileKind)>>,
}

type Visit<'v> = dyn FnMut(DirEntry<'_>) -> ControlFlow<()> + 'v;

impl FolderChanges {
    /// Visits the entries that `in_place` visits, without those that are gone, and then those that were added.
    pub(crate) fn read(
        &self,
        in_place: impl FnOnce(&mut Visit<'_>) -> Result<(), FsError>,
        visit: &mut Visit<'_>,
    ) -> Result<(), FsError> {
        let mut is_over = false;
        let mut end = Ok(());
        if !self.is_new {
            end = in_place(&mut |entry| {
                if self.names.contains_key(entry.name) {
                    return ControlFlow::Continue(());
                }
                let flow = visit(entry);
                is_over |= flow.is_break();
                flow
            });
        }
        if is_over {
            return end;
        }
        for (name, (inode, kind)) in self.names.iter().filter_map(|(name, entry)| Some((name, (*entry)?))) {
            let kind = (kind != FileKind::Unknown).then_some(kind);
            if visit(DirEntry { name, id: FileId::new(inode.into()), kind }).is_break() {
                break;
            }
        }
        end
    }
}
