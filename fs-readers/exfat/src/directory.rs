//! Directories: rows of 32-byte entries, some of which form sets (exFAT specification, section 6).

use std::collections::HashSet;
use std::ops::ControlFlow;

use stillframe_bytes::{Fault, Quantity, Structure, wtf8};
use stillframe_clusters::Table as _;
use stillframe_fs::{DirEntry, FileId, FsError};

use crate::ExFatReader;
use crate::entry_set::{ENTRY_BYTES, ENTRY_LEN, EntryKind, EntrySet, SET_LEN_CAP};

/// No directory may be longer (section 7.4.9).
const DIRECTORY_CAP_BYTES: u64 = 256 << 20;
/// What is read at once of a cluster, which may have 32 MiB.
const PIECE_BYTES: u64 = 32 << 10;
const LABEL_UNITS_CAP: u8 = 11;
/// Stands in a [`FileId`] beside where the set lies, which is a multiple of 32: whether the directory that it lies in has
/// no chain in the FAT.
const NO_FAT_CHAIN: u64 = 1;

/// Visits the entries of the directory; the root where `set` is `None`.
pub(crate) fn read(
    fs: &ExFatReader,
    set: Option<&EntrySet>,
    visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
) -> Result<(), FsError> {
    let pieces = Pieces::of(fs, set)?;
    let chain_bit = if pieces.no_fat_chain { NO_FAT_CHAIN } else { 0 };
    let mut first_fault = None;
    let mut gathered = Gathered::default();
    let damage = each_entry(fs, pieces, |raw| {
        let set = match gathered.push(raw) {
            Ok(Some(set)) => set,
            Ok(None) => return Ok(ControlFlow::Continue(())),
            Err(fault) => {
                first_fault.get_or_insert(fault);
                return Ok(ControlFlow::Continue(()));
            }
        };
        Ok(visit(DirEntry { name: &set.name, id: FileId::new(set.at | chain_bit), kind: Some(set.kind) }))
    })?;
    first_fault.or(damage).or(gathered.cut_short()).map_or(Ok(()), |fault| Err(fault.into()))
}

/// The label that the root directory holds.
pub(crate) fn label(fs: &ExFatReader) -> Result<Option<Vec<u8>>, FsError> {
    let mut label = None;
    let damage = each_entry(fs, Pieces::of(fs, None)?, |raw| {
        if EntryKind::of(raw.u8(0)?) != EntryKind::VolumeLabel {
            return Ok(ControlFlow::Continue(()));
        }
        let units = raw.u8(1)?;
        if units > LABEL_UNITS_CAP {
            return Err(raw.fault("volume label length", 1, LABEL_UNITS_CAP, units));
        }
        let bytes = raw.slice(2, usize::from(units).saturating_mul(2))?;
        let units =
            bytes.chunks_exact(2).map(|pair| pair.first_chunk().map_or(0, |pair| u16::from_le_bytes(*pair)));
        label = Some(wtf8(units)).filter(|label| !label.is_empty());
        Ok(ControlFlow::Break(()))
    })?;
    damage.map_or(Ok(label), |fault| Err(fault.into()))
}

/// Reads the set that `file` names.
pub(crate) fn set(fs: &ExFatReader, file: FileId) -> Result<EntrySet, FsError> {
    let at = file.number & !NO_FAT_CHAIN;
    let place = fs.boot.cluster_of(at).filter(|_| file.tree == 0 && at.is_multiple_of(ENTRY_BYTES));
    let (cluster, within) = place.ok_or(FsError::NotFound)?;
    let no_fat_chain = file.number & NO_FAT_CHAIN != 0;
    let left_bytes = within.saturating_add(u64::try_from(SET_LEN_CAP).unwrap_or(0));
    let mut pieces = Pieces::new(fs, cluster, no_fat_chain, left_bytes);
    pieces.within = within;
    let mut gathered = Gathered::default();
    let mut found = None;
    let damage = each_entry(fs, pieces, |raw| {
        found = gathered.push(raw)?;
        let is_over = found.is_some() || gathered.bytes.is_empty();
        Ok(if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    match (found, damage.or(gathered.cut_short())) {
        (Some(set), _) => Ok(set),
        (None, Some(fault)) => Err(fault.into()),
        (None, None) => Err(FsError::NotFound),
    }
}

/// Gathers the entries of a set.
#[derive(Debug, Default)]
struct Gathered {
    at: u64,
    bytes: Vec<u8>,
    /// The length of the whole set.
    len: usize,
}

impl Gathered {
    /// Takes an entry; gives the set that it completes.
    fn push(&mut self, entry: &Structure<'_>) -> Result<Option<EntrySet>, Fault> {
        let entry_type = entry.u8(0)?;
        if !self.bytes.is_empty() && EntryKind::is_secondary(entry_type) {
            self.bytes.extend_from_slice(entry.bytes());
        } else {
            let cut_short = self.cut_short();
            self.bytes.clear();
            match EntryKind::of(entry_type) {
                EntryKind::File => {
                    self.len = EntrySet::len(entry)?;
                    self.at = entry.at();
                    self.bytes.extend_from_slice(entry.bytes());
                }
                EntryKind::UnknownCritical => {
                    return Err(entry.fault(
                        "entry type",
                        0,
                        "a known one",
                        Quantity::Hex(entry_type.into()),
                    ));
                }
                EntryKind::PassedOver | EntryKind::VolumeLabel => {}
            }
            cut_short.map_or(Ok(()), Err)?;
        }
        if self.bytes.is_empty() || self.bytes.len() < self.len {
            return Ok(None);
        }
        let set = EntrySet::parse(&Structure::new("directory entry set", self.at, &self.bytes));
        self.bytes.clear();
        set.map(Some)
    }

    /// What is wrong where a set is not whole and no more of it follows.
    fn cut_short(&self) -> Option<Fault> {
        let whole = self.len / ENTRY_LEN;
        let is_cut = !self.bytes.is_empty();
        is_cut.then(|| Fault::new("entries of a set", self.at, whole, self.bytes.len() / ENTRY_LEN))
    }
}

/// Calls `take` for each entry before the end mark. Gives back what is wrong with the chain behind the entries that were
/// taken.
fn each_entry(
    fs: &ExFatReader,
    mut pieces: Pieces<'_>,
    mut take: impl FnMut(&Structure<'_>) -> Result<ControlFlow<()>, Fault>,
) -> Result<Option<Fault>, FsError> {
    let mut bytes = Vec::new();
    loop {
        let (piece_at, len_bytes) = match pieces.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(None),
            Err(FsError::Corrupt(fault)) => return Ok(Some(fault)),
            Err(error) => return Err(error),
        };
        bytes.resize(usize::try_from(len_bytes).unwrap_or(0), 0);
        fs.source.read_exact_at(piece_at, &mut bytes)?;
        let mut at = piece_at;
        for raw in bytes.chunks_exact(ENTRY_LEN) {
            let raw = Structure::new("directory entry", at, raw);
            if EntryKind::is_end(raw.u8(0)?) || take(&raw)?.is_break() {
                return Ok(None);
            }
            at = at.saturating_add(ENTRY_BYTES);
        }
    }
}

/// The pieces of a directory, found in the FAT as they are needed.
struct Pieces<'a> {
    fs: &'a ExFatReader,
    cluster: Option<u32>,
    /// How much of the cluster was given.
    within: u64,
    no_fat_chain: bool,
    /// How much of the directory was not given, from the start of the cluster.
    left_bytes: u64,
    seen: HashSet<u32>,
}

impl<'a> Pieces<'a> {
    /// Those of the directory that `set` describes; of the root where there is none, whose length its chain says.
    fn of(fs: &'a ExFatReader, set: Option<&EntrySet>) -> Result<Self, FsError> {
        let Some(set) = set else {
            return Ok(Self::new(
                fs,
                fs.boot.root_cluster,
                false,
                DIRECTORY_CAP_BYTES.max(fs.boot.cluster_bytes),
            ));
        };
        if set.size_bytes > DIRECTORY_CAP_BYTES {
            return Err(
                Fault::new("directory size in bytes", set.at, DIRECTORY_CAP_BYTES, set.size_bytes).into()
            );
        }
        Ok(Self::new(fs, set.first_cluster, set.no_fat_chain, set.size_bytes))
    }

    fn new(fs: &'a ExFatReader, cluster: u32, no_fat_chain: bool, left_bytes: u64) -> Self {
        Self { fs, cluster: Some(cluster), within: 0, no_fat_chain, left_bytes, seen: HashSet::new() }
    }

    /// Where the next piece lies, in bytes, and its length.
    fn next(&mut self) -> Result<Option<(u64, u64)>, FsError> {
        let boot = &self.fs.boot;
        if self.within >= boot.cluster_bytes {
            self.left_bytes = self.left_bytes.saturating_sub(boot.cluster_bytes);
            self.within = 0;
            self.cluster = match self.cluster {
                Some(cluster) if self.left_bytes == 0 => Some(cluster),
                Some(cluster) if self.no_fat_chain => cluster.checked_add(1),
                Some(cluster) => self.fs.table.next(cluster)?,
                None => None,
            };
        }
        let len = boot.cluster_bytes.min(self.left_bytes).saturating_sub(self.within).min(PIECE_BYTES);
        let Some(cluster) = self.cluster.filter(|_| len > 0) else {
            return Ok(None);
        };
        let what = "directory's clusters";
        let cluster_at = boot
            .cluster_at(cluster)
            .ok_or_else(|| Fault::new(what, boot.table_at, "a cluster of the volume", cluster))?;
        if self.within == 0 && !self.seen.insert(cluster) {
            return Err(Fault::new(what, cluster_at, "an end", "a cycle").into());
        }
        let at = cluster_at.saturating_add(self.within);
        self.within = self.within.saturating_add(len);
        Ok(Some((at, len)))
    }
}
