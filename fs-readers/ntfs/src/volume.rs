//! The volume as the `ntfs` crate sees it: a cursor over the block source, behind whose end the MFT lies in one piece.
//!
//! The crate finds a file record by the first $DATA attribute of record 0 alone, and reads it as contiguous bytes: an
//! MFT that continues in an attribute list, or a record that two runs share, is beyond it. So it is shown a record 0 of
//! ours with one run past the volume's end, and reads there are sent to where the MFT's clusters are.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use ntfs::Ntfs;
use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::error::{from_crate, guarded};
use crate::runs::Runs;

/// A FILE record larger than this is no record: Windows writes 1024 or 4096 bytes.
const RECORD_CAP_BYTES: u32 = 64 << 10;
/// Past this no cluster number of 63 bits is in danger of overflow.
const VOLUME_CAP_BYTES: u64 = 1 << 61;
/// Reads smaller than this go through the cursor's buffer.
const SMALL_READ_BYTES: usize = 512;
const BUFFER_BYTES: u64 = 4096;

/// An NTFS volume: where its bytes come from and how it is laid out.
pub(crate) struct Volume {
    pub(crate) source: Arc<dyn BlockSource>,
    pub(crate) ntfs: Ntfs,
    pub(crate) cluster_bytes: u64,
    pub(crate) clusters: u64,
    pub(crate) record_bytes: u32,
    mft_at: u64,
    view: Option<MftView>,
}

impl Volume {
    /// Reads the boot sector. Until [`Volume::show_mft`] only the file records in the MFT's first part can be read.
    pub(crate) fn open(source: Arc<dyn BlockSource>) -> Result<Self, FsError> {
        let mut name = [0; 8];
        source.read_exact_at(3, &mut name)?;
        if &name != b"NTFS    " {
            return Err(Fault::new("boot sector", 3, "NTFS", "something else").into());
        }
        let ntfs =
            guarded(|| Ntfs::new(&mut Cursor::new(&*source, None)).map_err(|error| from_crate(&error, 0)))?;
        let record_bytes = ntfs.file_record_size();
        if !(512..=RECORD_CAP_BYTES).contains(&record_bytes) || !record_bytes.is_power_of_two() {
            return Err(
                Fault::new("boot sector file record size", 0x40, RECORD_CAP_BYTES, record_bytes).into()
            );
        }
        if ntfs.size() > VOLUME_CAP_BYTES {
            return Err(Fault::new("boot sector volume size", 0x28, VOLUME_CAP_BYTES, ntfs.size()).into());
        }
        let cluster_bytes = u64::from(ntfs.cluster_size());
        let mft_at = ntfs.mft_position().value().map_or(0, u64::from);
        // The last cluster may be cut short by the sector that holds the boot sector's copy.
        let clusters = ntfs.size().div_ceil(cluster_bytes.max(1));
        Ok(Self { source, ntfs, cluster_bytes, clusters, record_bytes, mft_at, view: None })
    }

    /// Gives the crate the MFT that lies in `runs` and is `len_bytes` long.
    pub(crate) fn show_mft(&mut self, runs: Runs, len_bytes: u64) -> Result<(), FsError> {
        let len_bytes = len_bytes.min(runs.len_bytes());
        let at = self.clusters.saturating_mul(self.cluster_bytes);
        if runs.has_hole() || len_bytes > VOLUME_CAP_BYTES {
            return Err(Fault::new("MFT", self.mft_at, "data runs without a hole", "a hole").into());
        }
        let record_zero = record_zero(self.record_bytes, self.clusters, runs.clusters(), len_bytes);
        self.view = Some(MftView { at, mft_at: self.mft_at, record_zero, runs, len_bytes });
        Ok(())
    }

    /// A cursor for the crate. It costs nothing until it is read from.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor::new(&*self.source, self.view.as_ref())
    }

    /// The offset on the volume of file record `number`, as far as is known.
    pub(crate) fn record_position(&self, number: u64) -> u64 {
        let offset = number.saturating_mul(u64::from(self.record_bytes));
        match &self.view {
            Some(view) => view.runs.position(offset).unwrap_or(self.mft_at),
            None => self.mft_at.saturating_add(offset),
        }
    }

    /// Whether the MFT reaches as far as record `number`.
    pub(crate) fn has_record(&self, number: u64) -> bool {
        let end = number.checked_add(1).and_then(|end| end.checked_mul(u64::from(self.record_bytes)));
        self.view.as_ref().is_none_or(|view| end.is_some_and(|end| end <= view.len_bytes))
    }

    /// No run yet, of an attribute of this volume.
    pub(crate) fn no_runs(&self) -> Runs {
        Runs::new(self.cluster_bytes, self.clusters)
    }
}

/// The MFT in one piece, from byte `at` on, which is past the end of the volume.
struct MftView {
    at: u64,
    mft_at: u64,
    record_zero: Vec<u8>,
    runs: Runs,
    len_bytes: u64,
}

/// A file record as [`Ntfs::file`] wants it of the MFT: a $DATA attribute with one run of `clusters` clusters at `lcn`.
fn record_zero(record_bytes: u32, lcn: u64, clusters: u64, len_bytes: u64) -> Vec<u8> {
    const UPDATE_SEQUENCE_AT: u16 = 0x30;
    const ATTRIBUTE_BYTES: u16 = 0x58;
    let mut record = vec![0; usize::try_from(record_bytes).unwrap_or(0)];
    let mut put = |at: u16, bytes: &[u8]| {
        if let Some(place) = record.get_mut(usize::from(at)..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
    };
    // An update sequence of zeros over sectors that end in zeros: nothing to put back.
    let update_count = u16::try_from(record_bytes / 512).unwrap_or(0).saturating_add(1);
    let data_at = UPDATE_SEQUENCE_AT.saturating_add(update_count.saturating_mul(2)).next_multiple_of(8);
    let end_at = data_at.saturating_add(ATTRIBUTE_BYTES);
    put(0x00, b"FILE");
    put(0x04, &UPDATE_SEQUENCE_AT.to_le_bytes());
    put(0x06, &update_count.to_le_bytes());
    put(0x14, &data_at.to_le_bytes());
    put(0x16, &1_u16.to_le_bytes());
    put(0x18, &u32::from(end_at.saturating_add(8)).to_le_bytes());
    put(0x1C, &record_bytes.to_le_bytes());
    put(data_at, &0x80_u32.to_le_bytes());
    put(data_at.saturating_add(0x04), &u32::from(ATTRIBUTE_BYTES).to_le_bytes());
    put(data_at.saturating_add(0x08), &[1]);
    put(data_at.saturating_add(0x20), &0x40_u16.to_le_bytes());
    for size_at in [0x28, 0x30, 0x38] {
        put(data_at.saturating_add(size_at), &len_bytes.to_le_bytes());
    }
    put(data_at.saturating_add(0x40), &[0x88]);
    put(data_at.saturating_add(0x41), &clusters.to_le_bytes());
    put(data_at.saturating_add(0x49), &lcn.to_le_bytes());
    put(end_at, &[0xFF; 4]);
    record
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

/// Reads the volume for one call into the crate.
pub(crate) struct Cursor<'v> {
    source: &'v dyn BlockSource,
    view: Option<&'v MftView>,
    position: u64,
    /// What was read last, so that the crate's reads of a few bytes do not each reach the source.
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'v> Cursor<'v> {
    fn new(source: &'v dyn BlockSource, view: Option<&'v MftView>) -> Self {
        Self { source, view, position: 0, buffer: Vec::new(), buffer_at: 0 }
    }

    /// Reads all of `buffer` at `position` and keeps a copy, which serves the crate when it reads there again.
    pub(crate) fn read_and_keep(&mut self, position: u64, len: u32) -> Result<&[u8], FsError> {
        self.buffer = vec![0; usize::try_from(len).unwrap_or(0)];
        self.buffer_at = position;
        let mut bytes = std::mem::take(&mut self.buffer);
        self.read_source(position, &mut bytes)?;
        self.buffer = bytes;
        Ok(&self.buffer)
    }

    /// The bytes at `position` up to the end of what can be read there.
    fn available(&self, position: u64) -> u64 {
        match self.view {
            Some(view) if position >= view.at => {
                view.len_bytes.saturating_sub(position.saturating_sub(view.at))
            }
            _ => self.source.len_bytes().saturating_sub(position),
        }
    }

    fn read_source(&self, position: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        match self.view {
            Some(view) if position >= view.at => {
                view.runs.read(self.source, position.saturating_sub(view.at), buffer)
            }
            _ => Ok(self.source.read_exact_at(position, buffer)?),
        }
    }

    fn buffered(&self) -> &[u8] {
        let skip = self.position.checked_sub(self.buffer_at).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.buffer.get(skip..)).unwrap_or_default()
    }
}

/// Where the crate asks record `number` from, given a cursor of a volume that shows its MFT; `None` before that.
pub(crate) fn view_position(volume: &Volume, number: u64) -> Option<u64> {
    let offset = number.checked_mul(u64::from(volume.record_bytes))?;
    volume.view.as_ref()?.at.checked_add(offset)
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.view {
            Some(view) if self.position == view.mft_at => copy(&view.record_zero, buffer),
            _ => {
                if self.buffered().is_empty() && buffer.len() < SMALL_READ_BYTES {
                    let len = u32::try_from(self.available(self.position).min(BUFFER_BYTES)).unwrap_or(0);
                    self.read_and_keep(self.position, len).map_err(into_io)?;
                }
                if self.buffered().is_empty() && !buffer.is_empty() {
                    let available = usize::try_from(self.available(self.position)).unwrap_or(usize::MAX);
                    let len = buffer.len().min(available);
                    let wanted = buffer.get_mut(..len).unwrap_or_default();
                    self.read_source(self.position, wanted).map_err(into_io)?;
                    len
                } else {
                    copy(self.buffered(), buffer)
                }
            }
        };
        self.position = self.position.saturating_add(u64::try_from(read).unwrap_or(0));
        Ok(read)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            SeekFrom::End(delta) => self.source.len_bytes().checked_add_signed(delta),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..len), to.get_mut(..len)) {
        to.copy_from_slice(from);
    }
    len
}

fn into_io(error: FsError) -> io::Error {
    match error {
        FsError::Read(error) => error.into(),
        other => io::Error::other(other),
    }
}
