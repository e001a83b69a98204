//! The replay itself: the changes of the fast-commit area, one after the other.
//!
//! It takes each change as the kernel does. A change of an inode that is not there is passed over, a name that is there
//! already stays, a name that is not there is not removed. Where the kernel gives the mount up, a fault tells.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileKind, FsError};

use super::{ChangedInode, Changes, FolderChanges};
use crate::block_map::{EXTENT_MAGIC, Run};
use crate::directory;
use crate::inode::{BLOCK_MAP_AT, BLOCK_MAP_BYTES, Inode, flag};
use crate::journal::{Change, Name};
use crate::volume::Volume;

const LINKS_AT: usize = 0x1a;
const FLAGS_AT: usize = 0x20;
/// What follows `i_block`.
const GENERATION_AT: usize = BLOCK_MAP_AT + BLOCK_MAP_BYTES;
const SIZE_AT: usize = 4;
const SIZE_HIGH_AT: usize = 0x6c;
/// The most bytes of inodes that are kept: those of a quarter of a million files.
const MAX_INODE_BYTES: usize = 64 << 20;
const EXTENT_HEADER_BYTES: usize = 12;

/// Applies `changes`, in order, to what `volume` holds in place.
///
/// # Errors
/// [`FsError`] where the budget of the volume ran out. Damage is a fault of the volume, and the change that met it is left
/// out.
pub(crate) fn replay(volume: &Volume, changes: &[Change]) -> Result<Changes, FsError> {
    let mut replay = Replay {
        volume,
        done: Changes::default(),
        mentioned: HashMap::new(),
        in_place: HashMap::new(),
        spelled: HashMap::new(),
    };
    for change in changes {
        if let Change::Create(name) | Change::Link(name) | Change::Unlink(name) = change {
            replay.mentioned.entry(name.parent).or_default().insert(&name.name);
        }
    }
    for change in changes {
        match replay.apply(change) {
            Ok(()) => {}
            Err(FsError::Corrupt(fault)) => volume.push_fault(fault),
            Err(error) if error.is_final() => return Err(error),
            Err(FsError::Limit { what, cap }) => {
                volume.push_fault(Fault::new(what, 0, cap, "more"));
                break;
            }
            Err(_) => volume.push_fault(Fault::new("fast commit", 0, "replayed", "not applied")),
        }
    }
    Ok(replay.done)
}

struct Replay<'a> {
    volume: &'a Volume,
    done: Changes,
    /// The names that any change mentions, by their directory: no others are looked for.
    mentioned: HashMap<u32, HashSet<&'a [u8]>>,
    /// The inodes of those that are in place, by directory.
    in_place: HashMap<u32, HashMap<Vec<u8>, u32>>,
    /// How names are spelled in directories that ignore case, by their lower case.
    spelled: HashMap<(u32, Vec<u8>), Vec<u8>>,
}

impl Replay<'_> {
    fn apply(&mut self, change: &Change) -> Result<(), FsError> {
        match change {
            Change::AddRange { inode, first, len_blocks, start, is_written } => {
                let start = is_written.then_some(*start);
                self.map(*inode, *first, Run { len_blocks: u64::from(*len_blocks), start })
            }
            Change::DelRange { inode, first, len_blocks } => {
                self.map(*inode, *first, Run { len_blocks: u64::from(*len_blocks), start: None })
            }
            Change::Inode { inode, bytes } => self.inode(*inode, bytes),
            Change::Create(name) => self.create(name),
            Change::Link(name) => match self.living(name.inode)? {
                Some(inode) => self.link(name, &inode).map(|_| ()),
                None => Ok(()),
            },
            Change::Unlink(name) => self.unlink(name),
        }
    }

    /// The inode, if it is in use. What is in place must be whole; what a fast commit wrote is.
    fn living(&self, number: u32) -> Result<Option<Inode>, FsError> {
        let inode = match self.done.inodes.get(&u64::from(number)) {
            Some(changed) => changed.parse(&self.volume.superblock, number.into())?,
            None => {
                let (at, bytes) = self.volume.inode_bytes(number.into())?;
                // One that was never in use may have no checksum either.
                if Structure::new("inode", at, &bytes).u16_le(LINKS_AT)? == 0 {
                    return Ok(None);
                }
                Inode::parse(&self.volume.superblock, number.into(), at, bytes)?
            }
        };
        Ok((!inode.is_deleted()).then_some(inode))
    }

    /// The inode, to be changed.
    fn changed(&mut self, number: u32) -> Result<&mut ChangedInode, FsError> {
        let number = u64::from(number);
        if !self.done.inodes.contains_key(&number) {
            let inode_bytes = usize::from(self.volume.superblock.inode_bytes);
            if self.done.inodes.len().saturating_mul(inode_bytes) >= MAX_INODE_BYTES {
                let cap = u64::try_from(MAX_INODE_BYTES).unwrap_or(u64::MAX);
                return Err(FsError::Limit { what: "bytes of inodes in fast commits", cap });
            }
            let (at, bytes) = self.volume.inode_bytes(number)?;
            let inode = ChangedInode { at, bytes, moved: Arc::default() };
            self.done.inodes.insert(number, inode);
        }
        self.done.inodes.get_mut(&number).ok_or(FsError::NotFound)
    }

    fn map(&mut self, number: u32, first: u32, run: Run) -> Result<(), FsError> {
        let Some(inode) = self.living(number)? else { return Ok(()) };
        // Data inside an inode has no blocks; the inode itself follows.
        if inode.claims_inline_data()? {
            return Ok(());
        }
        let (has_extents, at) = (inode.has_extents(), inode.at);
        // Nobody else may hold the ranges when they are changed, or all of them are copied each time.
        drop(inode);
        if !has_extents {
            // The kernel has no way to do it, and goes on.
            return Err(
                Fault::new("fast commit of a file without extents", at, "extents", "a block map").into()
            );
        }
        if let Some(start) = run.start {
            self.volume.block_at("first block of a fast commit", start)?;
            let last = start.saturating_add(run.len_blocks.saturating_sub(1));
            self.volume.block_at("last block of a fast commit", last)?;
        }
        Arc::make_mut(&mut self.changed(number)?.moved).put(first.into(), run);
        Ok(())
    }

    /// Writes the inode, but for where its blocks lie: the ranges before say that.
    fn inode(&mut self, number: u32, new: &[u8]) -> Result<(), FsError> {
        let inode = self.changed(number)?;
        inode.put(0, new.get(..BLOCK_MAP_AT).unwrap_or_default());
        inode.put(GENERATION_AT, new.get(GENERATION_AT..).unwrap_or_default());
        let flags = u32::from_le_bytes(inode.field(FLAGS_AT)?);
        if flags & flag::EXTENTS != 0 {
            if inode.field(BLOCK_MAP_AT)? != EXTENT_MAGIC.to_le_bytes() {
                inode.put(BLOCK_MAP_AT, &empty_extent_header());
                Arc::make_mut(&mut inode.moved).clear();
            }
        } else if flags & flag::INLINE_DATA != 0 {
            inode.put(BLOCK_MAP_AT, new.get(BLOCK_MAP_AT..GENERATION_AT).unwrap_or_default());
            Arc::make_mut(&mut inode.moved).clear();
        }
        Ok(())
    }

    fn create(&mut self, name: &Name) -> Result<(), FsError> {
        let Some(inode) = self.living(name.inode)? else {
            return Err(Fault::new("inode of a fast commit", 0, name.inode, "not in use").into());
        };
        if inode.kind() == FileKind::Directory {
            if self.living(name.parent)?.is_none() {
                return Ok(());
            }
            self.new_folder(name.inode, &inode)?;
        }
        if self.link(name, &inode)? {
            self.changed(name.inode)?.put(LINKS_AT, &1_u16.to_le_bytes());
        }
        Ok(())
    }

    /// Gives a directory the one block that a new one has, or the inode's own space.
    fn new_folder(&mut self, number: u32, inode: &Inode) -> Result<(), FsError> {
        self.done.folders.insert(number.into(), FolderChanges { is_new: true, ..FolderChanges::default() });
        if !inode.has_inline_data() {
            let block_bytes = self.volume.superblock.block_bytes;
            let changed = self.changed(number)?;
            changed.put(SIZE_AT, &block_bytes.to_le_bytes());
        }
        Ok(())
    }

    /// Adds the name and counts it; `false` where its directory is not there.
    fn link(&mut self, name: &Name, inode: &Inode) -> Result<bool, FsError> {
        if is_unusable(&name.name) {
            return Err(Fault::new(
                "name of a fast commit",
                inode.at,
                "a name without separator",
                name.name.len(),
            )
            .into());
        }
        let Some(folder) = self.folder(name.parent)? else { return Ok(false) };
        if self.find(name.parent, &folder, name)?.is_some() {
            return Ok(true);
        }
        if folder.ignores_case() {
            self.spelled.insert((name.parent, name.name.to_ascii_lowercase()), name.name.clone());
        }
        let entry = Some((name.inode, inode.kind()));
        self.done.folders.entry(name.parent.into()).or_default().names.insert(name.name.clone(), entry);
        let changed = self.changed(name.inode)?;
        let links = u16::from_le_bytes(changed.field(LINKS_AT)?).saturating_add(1);
        changed.put(LINKS_AT, &links.to_le_bytes());
        Ok(true)
    }

    fn unlink(&mut self, name: &Name) -> Result<(), FsError> {
        let Some(inode) = self.living(name.inode)? else { return Ok(()) };
        let Some(folder) = self.folder(name.parent)? else { return Ok(()) };
        let Some((found, of)) = self.find(name.parent, &folder, name)? else { return Ok(()) };
        // A name that is another file's by now stays; the link is counted off all the same.
        if of == name.inode {
            self.done.folders.entry(name.parent.into()).or_default().names.insert(found, None);
        }
        let changed = self.changed(name.inode)?;
        let links = u16::from_le_bytes(changed.field(LINKS_AT)?).saturating_sub(1);
        changed.put(LINKS_AT, &links.to_le_bytes());
        if links == 0 {
            // The file goes, and its blocks with it: the inode may be another file's next.
            let map = if inode.has_extents() { empty_extent_header().to_vec() } else { Vec::new() };
            changed.put(BLOCK_MAP_AT, &[0; BLOCK_MAP_BYTES]);
            changed.put(BLOCK_MAP_AT, &map);
            changed.put(SIZE_AT, &[0; 4]);
            changed.put(SIZE_HIGH_AT, &[0; 4]);
            Arc::make_mut(&mut changed.moved).clear();
        }
        Ok(())
    }

    /// The directory `number`, if it is one.
    fn folder(&self, number: u32) -> Result<Option<Inode>, FsError> {
        let Some(folder) = self.living(number)? else { return Ok(None) };
        if folder.kind() != FileKind::Directory {
            return Err(FsError::NotADirectory);
        }
        if folder.is_encrypted() {
            return Err(FsError::Encrypted("ext4 file encryption"));
        }
        Ok(Some(folder))
    }

    /// The entry of that name as it is now: the name on the disk, and its inode.
    fn find(&mut self, parent: u32, folder: &Inode, name: &Name) -> Result<Option<(Vec<u8>, u32)>, FsError> {
        self.read_in_place(parent, folder)?;
        if let Some(inode) = self.exactly(parent, &name.name) {
            return Ok(Some((name.name.clone(), inode)));
        }
        if !folder.ignores_case() {
            return Ok(None);
        }
        let other = self.spelled.get(&(parent, name.name.to_ascii_lowercase()));
        if let Some(other) = other
            && let Some(inode) = self.exactly(parent, other)
        {
            return Ok(Some((other.clone(), inode)));
        }
        // Which of other letters are the same is written in tables that are not here.
        if name.name.is_ascii() {
            return Ok(None);
        }
        Err(FsError::Unsupported("a fast commit of such a name in a folder that ignores case"))
    }

    fn exactly(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let changes = self.done.folders.get(&u64::from(parent));
        match changes.and_then(|changes| changes.names.get(name)) {
            Some(entry) => entry.map(|(inode, _)| inode),
            None if changes.is_some_and(|changes| changes.is_new) => None,
            None => self.in_place.get(&parent)?.get(name).copied(),
        }
    }

    /// Reads the directory in place, once, for the names that are mentioned.
    fn read_in_place(&mut self, parent: u32, folder: &Inode) -> Result<(), FsError> {
        let is_new = self.done.folders.get(&u64::from(parent)).is_some_and(|changes| changes.is_new);
        if is_new || self.in_place.contains_key(&parent) {
            return Ok(());
        }
        let mut found = HashMap::new();
        if let Some(mentioned) = self.mentioned.get(&parent) {
            let folded: HashSet<Vec<u8>> = if folder.ignores_case() {
                mentioned.iter().map(|name| name.to_ascii_lowercase()).collect()
            } else {
                HashSet::new()
            };
            let spelled = &mut self.spelled;
            let end = directory::read(self.volume, folder, &mut |entry| {
                let lower = (!folded.is_empty()).then(|| entry.name.to_ascii_lowercase());
                let lower = lower.filter(|lower| folded.contains(lower));
                if lower.is_some() || mentioned.contains(entry.name) {
                    let inode = u32::try_from(entry.id.number).unwrap_or(0);
                    found.entry(entry.name.to_vec()).or_insert(inode);
                }
                if let Some(lower) = lower {
                    spelled.insert((parent, lower), entry.name.to_vec());
                }
                ControlFlow::Continue(())
            });
            // Damage is met again, and told, when the directory is read.
            if let Err(error @ FsError::Read(_)) = end {
                self.in_place.insert(parent, found);
                return Err(error);
            }
        }
        self.in_place.insert(parent, found);
        Ok(())
    }
}

fn empty_extent_header() -> [u8; EXTENT_HEADER_BYTES] {
    let mut header = [0; EXTENT_HEADER_BYTES];
    let entries = u16::try_from((BLOCK_MAP_BYTES - EXTENT_HEADER_BYTES) / EXTENT_HEADER_BYTES).unwrap_or(4);
    for (slot, byte) in
        header.iter_mut().zip([EXTENT_MAGIC, 0, entries].into_iter().flat_map(u16::to_le_bytes))
    {
        *slot = byte;
    }
    header
}

fn is_unusable(name: &[u8]) -> bool {
    matches!(name, b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/'))
}
