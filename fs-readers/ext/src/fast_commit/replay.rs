//! The replay itself: the changes of the fast-commit area, one after the other.
//!
//! It takes each change as the kernel does. A change of an inode that is not there is passed over, a name that is there
//! already stays, a name that is not there is not removed. Where the kernel gives the mount up, the replay ends, and a fault
//! tells.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileKind, FsError};

use super::{ChangedInode, Changes};
use crate::block_map::{EXTENT_MAGIC, Run};
use crate::inode::{BLOCK_MAP_AT, BLOCK_MAP_BYTES, Inode, flag};
use crate::journal::Change;
use crate::volume::Volume;

pub(super) const LINKS_AT: usize = 0x1a;
const FLAGS_AT: usize = 0x20;
/// What follows `i_block`.
const GENERATION_AT: usize = BLOCK_MAP_AT + BLOCK_MAP_BYTES;
pub(super) const SIZE_AT: usize = 4;
pub(super) const SIZE_HIGH_AT: usize = 0x6c;
const EXTENT_HEADER_BYTES: usize = 12;
/// The root directory.
const ROOT_INODE: u32 = 2;
/// Those before are no files, but for the root directory; no filesystem may have fewer of them.
const FIRST_FILE_INODE: u32 = 11;
/// The most bytes of memory for what changes: inodes, ranges of blocks, names.
const MAX_HELD_BYTES: usize = 32 << 20;
/// What an inode, a name, or a range of blocks takes besides its bytes.
pub(super) const HELD_BYTES_EACH: usize = 128;
/// The most bytes of directories that are searched for names.
const MAX_SEARCHED_BYTES: u64 = 128 << 20;
/// The most changes that are left out one by one: as many as `mke2fs(8)` leaves room for.
const MAX_LEFT_OUT: u64 = 50_000;

/// Applies `changes`, in order, to what `volume` holds in place.
///
/// # Errors
/// [`FsError`] where the budget of the volume ran out. Damage is a fault of the volume: the change that met it is left out,
/// with those behind it where the kernel would go no further.
pub(crate) fn replay(volume: &Volume, changes: &[Change]) -> Result<Changes, FsError> {
    let mut replay = Replay::new(volume);
    if let Err(error) = replay.run(changes) {
        replay.done.is_partial = true;
        match error {
            error if error.is_final() => return Err(error),
            FsError::Corrupt(fault) => volume.push_fault(fault),
            FsError::Limit { what, cap } => volume.push_fault(Fault::new(what, 0, cap, "more")),
            FsError::Unsupported(what) | FsError::Encrypted(what) => {
                volume.push_fault(Fault::new("fast commit", 0, "replayed", what));
            }
            _ => volume.push_fault(Fault::new("fast commit", 0, "replayed", "not applied")),
        }
    }
    Ok(replay.done)
}

pub(super) struct Replay<'a> {
    pub(super) volume: &'a Volume,
    pub(super) done: Changes,
    /// What is known of inodes, by number, until they change: `None` of those that are not in use.
    known: HashMap<u32, Option<Living>>,
    /// Inodes whose first block was set aside by a fast commit, and not written.
    pub(super) reserved: HashSet<u32>,
    /// The names that any change mentions, by their directory: no others are looked for.
    pub(super) mentioned: HashMap<u32, HashSet<&'a [u8]>>,
    /// The inodes of those that are in place, by directory.
    pub(super) in_place: HashMap<u32, HashMap<Vec<u8>, u32>>,
    /// How names are spelled in directories that ignore case, by their lower case.
    pub(super) spelled: HashMap<(u32, Vec<u8>), Vec<u8>>,
    held_bytes: usize,
    searched_bytes: u64,
    left_out: u64,
}

/// What the replay asks of an inode in use. It does not hold where its blocks lie, since that changes most often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Living {
    pub(super) at: u64,
    pub(super) kind: FileKind,
    pub(super) size_bytes: u64,
    pub(super) has_extents: bool,
    pub(super) has_inline_data: bool,
    claims_inline_data: bool,
    pub(super) is_encrypted: bool,
    pub(super) ignores_case: bool,
}

impl Living {
    fn of(inode: &Inode) -> Result<Option<Self>, Fault> {
        if inode.is_deleted() {
            return Ok(None);
        }
        Ok(Some(Self {
            at: inode.at,
            kind: inode.kind(),
            size_bytes: inode.size_bytes,
            has_extents: inode.has_extents(),
            has_inline_data: inode.has_inline_data(),
            claims_inline_data: inode.claims_inline_data()?,
            is_encrypted: inode.is_encrypted(),
            ignores_case: inode.ignores_case(),
        }))
    }
}

impl<'a> Replay<'a> {
    fn new(volume: &'a Volume) -> Self {
        Self {
            volume,
            done: Changes::default(),
            known: HashMap::new(),
            reserved: HashSet::new(),
            mentioned: HashMap::new(),
            in_place: HashMap::new(),
            spelled: HashMap::new(),
            held_bytes: 0,
            searched_bytes: 0,
            left_out: 0,
        }
    }

    fn run(&mut self, changes: &'a [Change]) -> Result<(), FsError> {
        for change in changes {
            if let Change::Create(name) | Change::Link(name) | Change::Unlink(name) = change {
                self.mentioned.entry(name.parent).or_default().insert(&name.name);
            }
        }
        changes.iter().try_for_each(|change| self.apply(change))
    }

    /// An error is the end of the replay.
    fn apply(&mut self, change: &Change) -> Result<(), FsError> {
        match change {
            Change::AddRange { inode, first, len_blocks, start, is_written } => {
                let start = is_written.then_some(*start);
                self.map(*inode, *first, Run { len_blocks: u64::from(*len_blocks), start }, !is_written)
            }
            Change::DelRange { inode, first, len_blocks } => {
                self.map(*inode, *first, Run { len_blocks: u64::from(*len_blocks), start: None }, false)
            }
            Change::Inode { inode, bytes } => self.inode(*inode, bytes),
            Change::Create(name) => self.create(name),
            Change::Link(name) => match self.living(name.inode)? {
                Some(inode) => self.link(name, &inode),
                None => Ok(()),
            },
            Change::Unlink(name) => self.unlink(name),
        }
    }

    /// Passes one change over, as the kernel does or for want of what it would take, and goes on.
    pub(super) fn leave_out(&mut self, fault: Fault) -> Result<(), FsError> {
        self.volume.push_fault(fault);
        self.done.is_partial = true;
        self.left_out = self.left_out.saturating_add(1);
        if self.left_out > MAX_LEFT_OUT {
            return Err(FsError::Limit { what: "fast commits left out", cap: MAX_LEFT_OUT });
        }
        Ok(())
    }

    /// Counts memory that is kept until the end.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), FsError> {
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes > MAX_HELD_BYTES {
            let cap = u64::try_from(MAX_HELD_BYTES).unwrap_or(u64::MAX);
            return Err(FsError::Limit { what: "bytes in memory of what fast commits change", cap });
        }
        Ok(())
    }

    /// So many bytes more may be kept.
    pub(super) const fn room(&self) -> usize {
        MAX_HELD_BYTES.saturating_sub(self.held_bytes)
    }

    /// Counts a directory that will be read.
    pub(super) fn search(&mut self, bytes: u64) -> Result<(), FsError> {
        self.searched_bytes = self.searched_bytes.saturating_add(bytes);
        if self.searched_bytes > MAX_SEARCHED_BYTES {
            let cap = MAX_SEARCHED_BYTES;
            return Err(FsError::Limit { what: "bytes of directories that fast commits change", cap });
        }
        Ok(())
    }

    /// The inode, if it is in use. What is in place must be whole, or the kernel does not find it.
    pub(super) fn living(&mut self, number: u32) -> Result<Option<Living>, FsError> {
        if let Some(known) = self.known.get(&number) {
            return Ok(*known);
        }
        self.hold(HELD_BYTES_EACH)?;
        let living = match self.whole(number) {
            Ok(Some(inode)) => Living::of(&inode)?,
            Ok(None) => None,
            Err(FsError::Corrupt(fault)) => {
                self.leave_out(fault)?;
                None
            }
            Err(error) => return Err(error),
        };
        self.known.insert(number, living);
        Ok(living)
    }

    /// All of the inode as it is now, but for one that was never in use.
    pub(super) fn whole(&self, number: u32) -> Result<Option<Inode>, FsError> {
        if number < FIRST_FILE_INODE && number != ROOT_INODE {
            return Ok(None);
        }
        match self.done.inodes.get(&u64::from(number)) {
            Some(changed) => Ok(Some(changed.parse(&self.volume.superblock, number.into())?)),
            None => self.untouched(number),
        }
    }

    /// The inode as it is in place.
    pub(super) fn untouched(&self, number: u32) -> Result<Option<Inode>, FsError> {
        let (at, bytes) = self.volume.inode_bytes(number.into())?;
        // One that was never in use may have no checksum either.
        if Structure::new("inode", at, &bytes).u16_le(LINKS_AT)? == 0 {
            return Ok(None);
        }
        Ok(Some(Inode::parse(&self.volume.superblock, number.into(), at, bytes)?))
    }

    /// Whether a fast commit can create it.
    pub(super) const fn is_file_number(number: u32) -> bool {
        number >= FIRST_FILE_INODE
    }

    /// What is known of the inode is so no more.
    pub(super) fn forget(&mut self, number: u32) {
        self.known.remove(&number);
    }

    /// The inode, to be changed.
    pub(super) fn changed(&mut self, number: u32) -> Result<&mut ChangedInode, FsError> {
        let key = u64::from(number);
        if !self.done.inodes.contains_key(&key) {
            let inode_bytes = usize::from(self.volume.superblock.inode_bytes);
            self.hold(inode_bytes.saturating_add(HELD_BYTES_EACH))?;
            let (at, bytes) = self.volume.inode_bytes(key)?;
            let inode = ChangedInode { at, bytes, moved: Arc::default() };
            self.done.inodes.insert(key, inode);
        }
        self.done.inodes.get_mut(&key).ok_or(FsError::NotFound)
    }

    fn map(&mut self, number: u32, first: u32, run: Run, is_reserved: bool) -> Result<(), FsError> {
        let Some(inode) = self.living(number)? else { return Ok(()) };
        // Data inside an inode has no blocks; the inode itself follows.
        if inode.claims_inline_data || run.len_blocks == 0 {
            return Ok(());
        }
        if !inode.has_extents {
            // The kernel has no way to do it, and goes on.
            let what = "fast commit of a file without extents";
            return self.leave_out(Fault::new(what, inode.at, "extents", "a block map"));
        }
        if let Some(start) = run.start {
            let last = start.saturating_add(run.len_blocks.saturating_sub(1));
            let ends = [("first block of a fast commit", start), ("last block of a fast commit", last)];
            if let Err(fault) =
                ends.into_iter().try_for_each(|(what, end)| self.volume.block_at(what, end).map(drop))
            {
                return self.leave_out(fault);
            }
        }
        if first == 0 {
            self.reserved.remove(&number);
            if is_reserved {
                self.hold(HELD_BYTES_EACH)?;
                self.reserved.insert(number);
            }
        }
        let moved = Arc::make_mut(&mut self.changed(number)?.moved);
        let before = moved.len();
        moved.put(first.into(), run);
        let more = moved.len().saturating_sub(before);
        self.hold(more.saturating_mul(HELD_BYTES_EACH))
    }

    /// Writes the inode, but for where its blocks lie: the ranges before say that.
    fn inode(&mut self, number: u32, new: &[u8]) -> Result<(), FsError> {
        self.forget(number);
        let inode = match self.changed(number) {
            // The kernel does not find it either, and goes on.
            Err(FsError::Corrupt(fault)) => return self.leave_out(fault),
            inode => inode?,
        };
        inode.put(0, new.get(..BLOCK_MAP_AT).unwrap_or_default());
        inode.put(GENERATION_AT, new.get(GENERATION_AT..).unwrap_or_default());
        let flags = u32::from_le_bytes(inode.field(FLAGS_AT)?);
        let is_mapped_anew = if flags & flag::EXTENTS != 0 {
            let is_mapped_anew = inode.field(BLOCK_MAP_AT)? != EXTENT_MAGIC.to_le_bytes();
            if is_mapped_anew {
                inode.put(BLOCK_MAP_AT, &empty_extent_header());
            }
            is_mapped_anew
        } else if flags & flag::INLINE_DATA != 0 {
            inode.put(BLOCK_MAP_AT, new.get(BLOCK_MAP_AT..GENERATION_AT).unwrap_or_default());
            true
        } else {
            false
        };
        if is_mapped_anew {
            Arc::make_mut(&mut inode.moved).clear();
            self.reserved.remove(&number);
        }
        Ok(())
    }
}

pub(super) fn empty_extent_header() -> [u8; EXTENT_HEADER_BYTES] {
    let mut header = [0; EXTENT_HEADER_BYTES];
    let entries = u16::try_from((BLOCK_MAP_BYTES - EXTENT_HEADER_BYTES) / EXTENT_HEADER_BYTES).unwrap_or(4);
    for (slot, byte) in
        header.iter_mut().zip([EXTENT_MAGIC, 0, entries].into_iter().flat_map(u16::to_le_bytes))
    {
        *slot = byte;
    }
    header
}
