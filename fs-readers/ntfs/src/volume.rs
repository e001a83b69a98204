//! The volume: how it is laid out, and its file records.
//!
//! Records are read some at once, since those of one directory mostly lie side by side. Their update sequences are undone
//! then, and what was read is kept (`pieces`).

use std::ops::Range;
use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FsError, extent_hints};

use crate::boot::BootSector;
use crate::pieces::{Piece, Pieces, RecordBytes};
use crate::runs::Runs;

/// How much of the MFT is read at once, in bytes.
const PIECE_BYTES: u64 = 64 << 10;
/// $MFTMirr has $MFT, itself, $LogFile and $Volume; where a cluster holds more records, those are not used.
const MIRRORED_RECORDS: u64 = 4;

/// An NTFS volume: where its bytes come from and how it is laid out.
pub(crate) struct Volume {
    pub(crate) source: Arc<dyn BlockSource>,
    pub(crate) boot: BootSector,
    pub(crate) cluster_bytes: u64,
    pub(crate) clusters: u64,
    mft: Option<Mft>,
}

/// The MFT's own place, and pieces of it.
struct Mft {
    runs: Runs,
    len_bytes: u64,
    pieces: Pieces,
}

impl Volume {
    /// Reads the boot sector. Until [`Volume::show_mft`] only the file records in the MFT's first part can be read.
    pub(crate) fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let boot = BootSector::read(&*source)?;
        // The last cluster may be cut short by the sector that holds the boot sector's copy.
        let clusters = boot.size_bytes.div_ceil(boot.cluster_bytes.max(1));
        Ok(Self { source, boot, cluster_bytes: boot.cluster_bytes, clusters, mft: None })
    }

    /// Says that the MFT lies in `runs` and is `len_bytes` long.
    pub(crate) fn show_mft(&mut self, runs: Runs, len_bytes: u64) -> Result<(), FsError> {
        let len_bytes = len_bytes.min(runs.len_bytes());
        if runs.has_hole() {
            return Err(Fault::new("MFT", self.boot.mft_at, "data runs without a hole", "a hole").into());
        }
        self.mft = Some(Mft { runs, len_bytes, pieces: Pieces::new() });
        Ok(())
    }

    /// The offset on the volume of file record `number`, as far as is known.
    pub(crate) fn record_position(&self, number: u64) -> u64 {
        let offset = number.saturating_mul(self.record_bytes());
        match &self.mft {
            Some(mft) => mft.runs.position(offset).unwrap_or(self.boot.mft_at),
            None => self.boot.mft_at.saturating_add(offset),
        }
    }

    /// No run yet, of an attribute of this volume.
    pub(crate) fn no_runs(&self) -> Runs {
        Runs::new(self.cluster_bytes, self.clusters)
    }

    /// Reads file record `number`: of the MFT's first four, where one is damaged, the copy that $MFTMirr has.
    ///
    /// # Errors
    /// [`FsError::NotFound`] where the MFT does not reach so far, else where the record cannot be read, is none, or is cut
    /// off in the middle of a write.
    pub(crate) fn record(&self, number: u64) -> Result<RecordBytes, FsError> {
        match self.record_in_mft(number) {
            Err(error) if number < MIRRORED_RECORDS && is_damage(&error) => {
                match self.record_in_mirror(number) {
                    Err(other) if !other.is_final() => Err(error),
                    copy => copy,
                }
            }
            read => read,
        }
    }

    /// What is wrong with those of the first records that are read from $MFTMirr.
    ///
    /// # Errors
    /// Where the source gives no more.
    pub(crate) fn mirrored(&self) -> Result<Vec<Fault>, FsError> {
        let mut faults = Vec::new();
        for number in 0..MIRRORED_RECORDS {
            let fault = match self.record_in_mft(number) {
                Err(FsError::Corrupt(fault)) => fault,
                Err(error) if error.is_final() => return Err(error),
                Err(error) if is_damage(&error) => {
                    Fault::new("file record", self.record_position(number), "readable", "not read")
                }
                _ => continue,
            };
            match self.record_in_mirror(number) {
                Err(error) if error.is_final() => return Err(error),
                // Whoever needs that record is told.
                Err(_) => {}
                Ok(_) => faults.push(fault),
            }
        }
        Ok(faults)
    }

    fn record_in_mft(&self, number: u64) -> Result<RecordBytes, FsError> {
        let at = self.record_position(number);
        let Some(mft) = &self.mft else { return self.single(None, number, at) };
        let end = number.checked_add(1).and_then(|end| end.checked_mul(self.record_bytes()));
        if end.is_none_or(|end| end > mft.len_bytes) {
            return Err(FsError::NotFound);
        }
        let (piece_number, index) = self.place(number);
        match self.piece(mft, piece_number) {
            Ok(piece) => Ok(piece.record(index, at)?),
            Err(error) if error.is_final() => Err(error),
            // Some other record of the piece may be what cannot be read.
            Err(_) => self.single(Some(mft), number, at),
        }
    }

    fn record_in_mirror(&self, number: u64) -> Result<RecordBytes, FsError> {
        let at = self.boot.mirror_at.ok_or(FsError::NotFound)?;
        self.single(None, number, at.saturating_add(number.saturating_mul(self.record_bytes())))
    }

    /// Where the source is asked for these records, in order and each byte once; those that are at hand are left out.
    pub(crate) fn record_hints(&self, numbers: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
        let Some(mft) = &self.mft else { return Vec::new() };
        let mut pieces: Vec<_> = numbers.map(|number| self.place(number).0).collect();
        pieces.sort_unstable();
        pieces.dedup();
        pieces.retain(|number| mft.pieces.kept(*number).is_none());
        let mut ranges = Vec::new();
        for number in pieces {
            let start = number.saturating_mul(self.piece_bytes());
            let end = start.saturating_add(self.piece_bytes()).min(mft.len_bytes);
            for range in mft.runs.volume_ranges(start, end.max(start)) {
                if !extent_hints(&mut ranges, range) {
                    return ranges;
                }
            }
        }
        ranges
    }

    fn record_bytes(&self) -> u64 {
        u64::from(self.boot.record_bytes)
    }

    /// At least one record, and as many as fit: both are powers of two.
    fn piece_bytes(&self) -> u64 {
        PIECE_BYTES.max(self.record_bytes())
    }

    /// The piece that record `number` lies in, and which of its records it is.
    fn place(&self, number: u64) -> (u64, usize) {
        let records = self.piece_bytes().checked_div(self.record_bytes()).unwrap_or(1).max(1);
        let index = number.checked_rem(records).and_then(|index| usize::try_from(index).ok());
        (number.checked_div(records).unwrap_or(0), index.unwrap_or(0))
    }

    fn piece(&self, mft: &Mft, number: u64) -> Result<Arc<Piece>, FsError> {
        if let Some(piece) = mft.pieces.kept(number) {
            return Ok(piece);
        }
        let start = number.saturating_mul(self.piece_bytes());
        let left = mft.len_bytes.saturating_sub(start).min(self.piece_bytes());
        let whole = left.saturating_sub(left.checked_rem(self.record_bytes()).unwrap_or(0));
        let mut bytes = vec![0; usize::try_from(whole).unwrap_or(0)];
        mft.runs.read(&*self.source, start, &mut bytes)?;
        let position = |offset| mft.runs.position(start.saturating_add(offset)).unwrap_or(self.boot.mft_at);
        let piece = self.undone(bytes, position);
        mft.pieces.keep(number, &piece);
        Ok(piece)
    }

    /// One record alone, read from where `mft` says or, before that is known, where the boot sector says.
    fn single(&self, mft: Option<&Mft>, number: u64, at: u64) -> Result<RecordBytes, FsError> {
        let mut bytes = vec![0; usize::try_from(self.boot.record_bytes).unwrap_or(0)];
        match mft {
            Some(mft) => {
                mft.runs.read(&*self.source, number.saturating_mul(self.record_bytes()), &mut bytes)?;
            }
            None => self.source.read_exact_at(at, &mut bytes)?,
        }
        Ok(self.undone(bytes, |_| at).record(0, at)?)
    }

    /// Undoes the update sequences of all records in `bytes`. What is no record is left as it is.
    fn undone(&self, mut bytes: Vec<u8>, position: impl Fn(u64) -> u64) -> Arc<Piece> {
        let record_len = usize::try_from(self.boot.record_bytes).unwrap_or(1).max(1);
        let mut piece = Piece::for_records(bytes.len().checked_div(record_len).unwrap_or(0));
        for (index, record) in (0_u64..).zip(bytes.chunks_exact_mut(record_len)) {
            let undone = match record.starts_with(b"FILE") {
                true => fix_up("file record", position(index.saturating_mul(self.record_bytes())), record),
                false => Ok(()),
            };
            piece.push(undone.map(|()| &*record));
        }
        piece.closed()
    }
}

fn is_damage(error: &FsError) -> bool {
    !error.is_final() && matches!(error, FsError::Corrupt(_) | FsError::Read(_))
}

/// Undoes the update sequence of a FILE or INDX record: the last two bytes of each sector lie in its header.
pub(crate) fn fix_up(name: &'static str, at: u64, bytes: &mut [u8]) -> Result<(), Fault> {
    let record = Structure::new(name, at, bytes);
    let offset = usize::from(record.u16_le(4)?);
    let count = usize::from(record.u16_le(6)?);
    if count.saturating_sub(1).checked_mul(512) != Some(bytes.len()) {
        return Err(record.fault("update sequence count", 6, (bytes.len() / 512).saturating_add(1), count));
    }
    let sequence = record.slice(offset, count.saturating_mul(2))?.to_vec();
    let (number, saved) = sequence.split_at(2);
    for (index, (sector, saved)) in bytes.chunks_exact_mut(512).zip(saved.chunks_exact(2)).enumerate() {
        let sector_at = at.saturating_add(u64::try_from(index).unwrap_or(0).saturating_mul(512));
        match sector.last_chunk_mut::<2>() {
            Some(end) if *end == *number => end.copy_from_slice(saved),
            _ => {
                return Err(Fault::new("update sequence number", sector_at, "that of the record", "another"));
            }
        }
    }
    Ok(())
}
