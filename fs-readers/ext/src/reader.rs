use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::Fault;
use stillframe_fs::{
    DirEntry, Extent, FileContent, FileId, FileKind, FsDescription, FsError, Metadata, ReadOnlyFs, Xattr,
    prefetch_on,
};

use crate::attributes;
use crate::backup;
use crate::block_map::BlockMap;
use crate::content::{Content, read_blocks};
use crate::directory;
use crate::fast_commit;
use crate::inode::Inode;
use crate::journal;
use crate::overlay::OverlaySource;
use crate::second_opinion::SecondOpinion;
use crate::superblock::{SUPERBLOCK_AT, SUPERBLOCK_BYTES, Superblock};
use crate::volume::Volume;

const FAST_COMMITS_REPLAYED: &str = "fast commits replayed";
const FAST_COMMITS_IN_PART: &str = "fast commits replayed in part";
const COPY_READ: &str = "the first superblock is damaged; a backup was read";
const ROOT_INODE: u64 = 2;
/// The kernel takes no longer target than a page.
const MAX_LINK_BYTES: u64 = 4096;

/// An ext2, ext3 or ext4 filesystem.
pub struct ExtFs {
    volume: Volume,
    description: FsDescription,
}

impl ExtFs {
    /// Opens the filesystem on `source`, its journal replayed.
    ///
    /// # Errors
    /// [`FsError`] where there is no superblock of ext2, ext3 or ext4, or it uses what this reader does not know. A
    /// damaged journal is no error here: the volume opens as it is without, and [`ReadOnlyFs::faults`] tells.
    pub fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let mut notes = Vec::new();
        let mut faults = Vec::new();
        let superblock = match read_superblock(&*source) {
            Err(FsError::Corrupt(fault)) => {
                let copy = backup::find(&*source)?.ok_or(FsError::Corrupt(fault))?;
                notes.push(COPY_READ);
                faults.push(fault);
                copy
            }
            read => read?,
        };
        let mut is_dirty = superblock.needs_recovery();
        let mut changes = Vec::new();
        let mut seen = (source.clone(), superblock.clone());
        if is_dirty {
            match journal::replay(source.clone(), &superblock) {
                Ok(replay) => {
                    let is_empty = replay.blocks.is_empty() && replay.changes.is_empty();
                    is_dirty = superblock.copy_in_group.is_none() || !is_empty;
                    if is_dirty {
                        notes.push(if is_empty { "journal empty" } else { "journal replayed" });
                    }
                    faults.extend(replay.faults);
                    changes = replay.changes;
                    let overlay: Arc<dyn BlockSource> =
                        Arc::new(OverlaySource::new(source, superblock.block_bytes, replay.blocks));
                    seen = with_replayed_superblock(overlay, superblock, &mut faults);
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => faults.push(not_replayed(&error)),
            }
        }
        let (source, superblock) = seen;
        let mut volume = Volume::new(source, superblock);
        if !changes.is_empty() {
            volume.changes = fast_commit::replay(&volume, &changes)?;
            let is_partial = volume.changes.is_partial;
            notes.push(if is_partial { FAST_COMMITS_IN_PART } else { FAST_COMMITS_REPLAYED });
        }
        let description = describe(&volume.superblock, is_dirty, notes);
        faults.into_iter().for_each(|fault| volume.push_fault(fault));
        check_size(&volume);
        Ok(Self { volume, description })
    }

    /// The same volume as `ext4-view` reads it.
    pub(crate) fn second_opinion(&self) -> Result<SecondOpinion, FsError> {
        let mut faults = self.volume.faults();
        if let Err(FsError::Corrupt(fault)) = self.inode(self.root()) {
            faults.push(fault);
        }
        let of_fast_commits = [FAST_COMMITS_REPLAYED, FAST_COMMITS_IN_PART];
        if self.description.notes.iter().any(|note| of_fast_commits.contains(note)) {
            faults.push(Fault::new("fast commits", 0, "replayed", "not applied by the second reader"));
        }
        SecondOpinion::open(self.volume.source.clone(), self.description.clone(), faults)
    }

    fn inode(&self, file: FileId) -> Result<Inode, FsError> {
        let inode = self.volume.inode(file.number)?;
        if inode.is_deleted() {
            return Err(Fault::new("link count", inode.at, "at least 1", 0_u32).into());
        }
        Ok(inode)
    }
}

fn read_superblock(source: &dyn BlockSource) -> Result<Superblock, FsError> {
    let mut bytes = [0; SUPERBLOCK_BYTES];
    source.read_exact_at(SUPERBLOCK_AT, &mut bytes)?;
    Superblock::parse(SUPERBLOCK_AT, &bytes)
}

/// The journal may hold a newer superblock. One that says another block size cannot be of this filesystem.
fn with_replayed_superblock(
    overlay: Arc<dyn BlockSource>,
    old: Superblock,
    faults: &mut Vec<Fault>,
) -> (Arc<dyn BlockSource>, Superblock) {
    let superblock = match read_superblock(&*overlay) {
        Ok(new) if new.block_bytes == old.block_bytes => new,
        Ok(new) => {
            faults.push(Fault::new("journalled superblock", SUPERBLOCK_AT, old.block_bytes, new.block_bytes));
            old
        }
        Err(FsError::Corrupt(fault)) => {
            // Of a copy it is known already.
            if old.copy_in_group.is_none() {
                faults.push(fault);
            }
            old
        }
        Err(_) => {
            faults.push(Fault::new("journalled superblock", SUPERBLOCK_AT, "a known filesystem", "none"));
            old
        }
    };
    (overlay, superblock)
}

fn not_replayed(error: &FsError) -> Fault {
    match error {
        FsError::Corrupt(fault) => *fault,
        FsError::Unsupported(what) => Fault::new("journal", 0, "replayed", *what),
        FsError::Limit { what, cap } => Fault::new(what, 0, *cap, "more"),
        _ => Fault::new("journal", 0, "replayed", "not readable"),
    }
}

/// A filesystem that claims more than its volume holds was cut, or lies.
fn check_size(volume: &Volume) {
    let superblock = &volume.superblock;
    let claimed = superblock.blocks_count.saturating_mul(u64::from(superblock.block_bytes));
    let found = volume.source.len_bytes();
    if claimed > found {
        volume.push_fault(Fault::new("filesystem size in bytes", SUPERBLOCK_AT, claimed, found));
    }
}

fn describe(superblock: &Superblock, is_dirty: bool, notes: Vec<&'static str>) -> FsDescription {
    let label_len = superblock.label.iter().position(|byte| *byte == 0).unwrap_or(16);
    let label = superblock.label.get(..label_len).filter(|label| !label.is_empty());
    FsDescription {
        kind: superblock.kind(),
        label: label.map(<[u8]>::to_vec),
        uuid: Some(uuid_text(&superblock.uuid)),
        size_bytes: superblock.blocks_count.saturating_mul(u64::from(superblock.block_bytes)),
        dirty: Some(is_dirty),
        reader: "stillframe-ext",
        hidden: Vec::new(),
        notes,
    }
}

fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

impl ReadOnlyFs for ExtFs {
    fn description(&self) -> &FsDescription {
        &self.description
    }

    fn root(&self) -> FileId {
        FileId::new(ROOT_INODE)
    }

    fn read_dir(
        &self,
        directory: FileId,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let inode = self.inode(directory)?;
        if inode.kind() != FileKind::Directory {
            return Err(FsError::NotADirectory);
        }
        match self.volume.changes.folder(directory.number) {
            Some(changes) => changes.read(|visit| directory::read(&self.volume, &inode, visit), visit),
            None => directory::read(&self.volume, &inode, visit),
        }
    }

    fn metadata(&self, file: FileId) -> Result<Metadata, FsError> {
        Ok(self.inode(file)?.metadata())
    }

    fn will_ask(&self, files: &[FileId]) {
        self.volume.will_read_inodes(files.iter().map(|file| file.number));
    }

    fn wants_hints(&self) -> bool {
        self.volume.source.wants_hints()
    }

    fn prefetch(&self, extents: &[Extent]) {
        // Where the journal holds a newer copy of a block, the source knows.
        prefetch_on(std::slice::from_ref(&self.volume.source), extents);
    }

    fn xattrs(&self, file: FileId) -> Result<Vec<Xattr>, FsError> {
        attributes::read(&self.volume, &self.inode(file)?)
    }

    fn open(&self, file: FileId) -> Result<Box<dyn FileContent + '_>, FsError> {
        let inode = self.inode(file)?;
        if inode.kind() != FileKind::File {
            return Err(FsError::NotAFile);
        }
        Ok(Box::new(Content::open(&self.volume, inode)?))
    }

    fn read_link(&self, link: FileId) -> Result<Vec<u8>, FsError> {
        let inode = self.inode(link)?;
        if inode.kind() != FileKind::Symlink {
            return Err(FsError::NotAFile);
        }
        if inode.is_encrypted() {
            return Err(FsError::Encrypted("ext4 file encryption"));
        }
        if inode.size_bytes > MAX_LINK_BYTES {
            return Err(FsError::Limit { what: "bytes of a link", cap: MAX_LINK_BYTES });
        }
        let len = usize::try_from(inode.size_bytes).unwrap_or(0);
        if inode.has_inline_data() {
            let (first, second) = inode.inline_data()?;
            return Ok(first.iter().chain(second).copied().take(len).collect());
        }
        if inode.is_fast_link {
            // `slice` fails where the target would not fit.
            return Ok(inode.block_field()?.slice(0, len)?.to_vec());
        }
        let mut target = vec![0; len];
        read_blocks(&self.volume, &mut BlockMap::new(&self.volume, &inode), 0, &mut target)?;
        Ok(target)
    }

    fn faults(&self) -> Vec<Fault> {
        self.volume.faults()
    }
}
