//! The bytes of an attribute: resident, in clusters, or compressed.
//!
//! A compressed attribute is cut into units of 2^n clusters. A unit that has all its clusters is stored as it is, one
//! that has none is zeros, and one that has fewer holds LZNT1 in those, followed by a hole.

use std::ops::Range;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{Extent, FileContent, FsError, extent_hints, prefetch_on};

use crate::attribute::{Body, Stream};
use crate::lznt1;
use crate::runs::Runs;
use crate::volume::Volume;

const COMPRESSION_METHOD: u16 = 0x00FF;
const LZNT1: u16 = 0x0001;
/// Of an attribute: encrypted by EFS.
pub(crate) const ENCRYPTED: u16 = 0x4000;
/// Windows compresses by 16 clusters of at most 4 KiB: 64 KiB.
const UNIT_CAP_BYTES: u64 = 1 << 20;

/// Opens an attribute's bytes.
///
/// # Errors
/// Where it is encrypted, or compressed by a method that is not LZNT1.
pub(crate) fn open(volume: &Volume, stream: Stream) -> Result<Content<'_>, FsError> {
    if stream.flags & ENCRYPTED != 0 {
        return Err(FsError::Encrypted("EFS"));
    }
    let unit = match (stream.flags & COMPRESSION_METHOD, &stream.body) {
        (0, _) | (_, Body::Resident(_)) => None,
        (LZNT1, Body::Runs(_)) => {
            let clusters = 1_u64.checked_shl(u32::from(stream.unit_exponent));
            let bytes = clusters.and_then(|clusters| clusters.checked_mul(volume.cluster_bytes));
            match clusters.zip(bytes) {
                Some((clusters, bytes)) if bytes <= UNIT_CAP_BYTES && clusters > 1 => {
                    Some(Unit { clusters, bytes, held: None })
                }
                _ => return Err(FsError::Unsupported("a compression unit of this size")),
            }
        }
        _ => return Err(FsError::Unsupported("a compression method other than LZNT1")),
    };
    Ok(Content { volume, stream, unit })
}

/// Reads a short attribute whole. The caller has looked at its size.
pub(crate) fn read_stream(volume: &Volume, stream: Stream) -> Result<Vec<u8>, FsError> {
    let cap = stream.size;
    stillframe_fs::read_whole(&mut open(volume, stream)?, cap)
}

/// An open attribute.
pub(crate) struct Content<'v> {
    volume: &'v Volume,
    stream: Stream,
    unit: Option<Unit>,
}

/// How a compressed attribute is cut, and the unit that was read last, decompressed.
struct Unit {
    clusters: u64,
    bytes: u64,
    held: Option<(u64, Vec<u8>)>,
}

impl FileContent for Content<'_> {
    fn len_bytes(&self) -> u64 {
        self.stream.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let left = usize::try_from(self.stream.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let buffer = buffer.get_mut(..len).unwrap_or_default();
        // Past what was ever written the clusters hold what some other file left there.
        let written =
            usize::try_from(self.stream.initialized.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
        let (content, unwritten) = buffer.split_at_mut(written);
        unwritten.fill(0);
        if content.is_empty() {
            return Ok(len);
        }
        match (&self.stream.body, &mut self.unit) {
            (Body::Resident(bytes), _) => {
                let value = Structure::new("resident value", self.stream.at, bytes);
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                content.copy_from_slice(value.slice(from.min(bytes.len()), content.len())?);
            }
            (Body::Runs(runs), None) => runs.read(&*self.volume.source, offset, content)?,
            (Body::Runs(runs), Some(unit)) => {
                unit.read(self.volume, runs, self.stream.at, offset, content)?
            }
        }
        Ok(len)
    }

    fn extents(&mut self, range: Range<u64>) -> Vec<Extent> {
        let Body::Runs(runs) = &self.stream.body else { return Vec::new() };
        let end = range.end.min(self.stream.size).min(self.stream.initialized);
        let (start, end) = match &self.unit {
            _ if range.start >= end => return Vec::new(),
            None => (range.start, end),
            // A unit is read whole.
            Some(unit) => (
                range.start.saturating_sub(range.start.checked_rem(unit.bytes).unwrap_or(0)),
                end.checked_next_multiple_of(unit.bytes).unwrap_or(end),
            ),
        };
        let mut ranges = Vec::new();
        for range in runs.volume_ranges(start, end) {
            if !extent_hints(&mut ranges, range) {
                break;
            }
        }
        ranges.into_iter().map(Extent::new).collect()
    }

    fn will_read(&mut self, range: Range<u64>) {
        if self.wants_hints() {
            let extents = self.extents(range);
            self.prefetch(&extents);
        }
    }
}

impl Unit {
    /// Fills `buffer` with the bytes at `offset`, unit by unit.
    fn read(
        &mut self,
        volume: &Volume,
        runs: &Runs,
        at: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), FsError> {
        let mut rest = buffer;
        let mut offset = offset;
        while !rest.is_empty() {
            let index = offset.checked_div(self.bytes).unwrap_or(0);
            let within = offset.saturating_sub(index.saturating_mul(self.bytes));
            let unit = self.load(volume, runs, at, index)?;
            let bytes =
                usize::try_from(within).ok().and_then(|within| unit.get(within..)).unwrap_or_default();
            let take = bytes.len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(bytes.get(..take).unwrap_or_default());
            if take == 0 {
                return Err(Fault::new("compression unit", at, "more bytes", within).into());
            }
            offset = offset.saturating_add(u64::try_from(take).unwrap_or(0));
            rest = later;
        }
        Ok(())
    }

    fn load(&mut self, volume: &Volume, runs: &Runs, at: u64, index: u64) -> Result<&[u8], FsError> {
        if self.held.as_ref().is_none_or(|(held, _)| *held != index) {
            // Dropped first, so that no error leaves a wrong unit behind.
            self.held = None;
            let bytes = self.decompress(volume, runs, at, index)?;
            self.held = Some((index, bytes));
        }
        Ok(self.held.as_ref().map_or(&[], |(_, bytes)| bytes))
    }

    fn decompress(&self, volume: &Volume, runs: &Runs, at: u64, index: u64) -> Result<Vec<u8>, FsError> {
        let first = index.saturating_mul(self.clusters);
        let end = first.saturating_add(self.clusters);
        let (mut present, mut hole) = (0_u64, 0_u64);
        for piece in runs.pieces(first, end) {
            match piece.lcn {
                None => hole = hole.saturating_add(piece.clusters),
                Some(_) if hole > 0 => {
                    let what = "compression unit";
                    return Err(Fault::new(what, at, "clusters before the hole", "clusters after it").into());
                }
                Some(_) => present = present.saturating_add(piece.clusters),
            }
        }
        // A unit that the runs end in has no hole that would call it compressed; only whole units are written.
        if present.saturating_add(hole) != self.clusters {
            return Err(
                Fault::new("compression unit", at, self.clusters, present.saturating_add(hole)).into()
            );
        }
        let unit_len = usize::try_from(self.bytes).unwrap_or(0);
        if present == 0 {
            return Ok(vec![0; unit_len]);
        }
        let input_len = present.saturating_mul(volume.cluster_bytes);
        let mut input = vec![0; usize::try_from(input_len).unwrap_or(0)];
        runs.read(&*volume.source, index.saturating_mul(self.bytes), &mut input)?;
        if hole == 0 {
            return Ok(input);
        }
        Ok(lznt1::decompress(at, &input, unit_len)?)
    }
}

impl Content<'_> {
    /// Whether the source below wants to know what will be read.
    pub(crate) fn wants_hints(&self) -> bool {
        self.volume.source.wants_hints()
    }

    /// Tells the source below what will be read.
    pub(crate) fn prefetch(&self, extents: &[Extent]) {
        prefetch_on(std::slice::from_ref(&self.volume.source), extents);
    }

    /// The offset on the volume of the byte at `offset`, where it is stored as it is.
    pub(crate) fn position(&self, offset: u64) -> Option<u64> {
        match &self.stream.body {
            Body::Runs(runs) if self.unit.is_none() => runs.position(offset),
            _ => None,
        }
    }
}
