//! Data runs: where the clusters of a non-resident attribute lie.
//!
//! Mapping pairs as libyal's libfsntfs documentation, "Data runs", describes them. They are decoded here and not by
//! the `ntfs` crate, which takes a run at cluster 0 (`$Boot`) for a hole.

use std::ops::Range;

use stillframe_block::BlockSource;
use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

/// A range of clusters of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first cluster, counted within the attribute (VCN).
    pub(crate) first: u64,
    /// How many.
    pub(crate) clusters: u64,
    /// The cluster of the volume (LCN) where they begin; `None` for a hole.
    pub(crate) lcn: Option<u64>,
}

impl Run {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.clusters)
    }
}

/// All runs of an attribute, in order, without a gap.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    clusters: u64,
    cluster_bytes: u64,
    volume_clusters: u64,
}

impl Runs {
    /// No run yet, of an attribute of a volume of so many clusters of that size (in bytes, not 0).
    pub(crate) fn new(cluster_bytes: u64, volume_clusters: u64) -> Self {
        Self { runs: Vec::new(), clusters: 0, cluster_bytes, volume_clusters }
    }

    /// How many bytes the runs hold.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.clusters.saturating_mul(self.cluster_bytes)
    }

    /// How many clusters the runs hold, holes included.
    pub(crate) fn clusters(&self) -> u64 {
        self.clusters
    }

    /// Whether a run is a hole.
    pub(crate) fn has_hole(&self) -> bool {
        self.runs.iter().any(|run| run.lcn.is_none())
    }

    /// Appends the runs that `pairs` holds, up to its end marker. `lowest_vcn` is what the attribute says of its first
    /// run: it must follow those that are here.
    pub(crate) fn append(&mut self, lowest_vcn: u64, pairs: &Structure<'_>) -> Result<(), Fault> {
        if lowest_vcn != self.clusters {
            return Err(pairs.fault("data runs: first cluster of an extent", 0, lowest_vcn, self.clusters));
        }
        let (mut offset, mut lcn) = (0_usize, 0_u64);
        while offset < pairs.len() {
            let header = pairs.u8(offset)?;
            if header == 0 {
                break;
            }
            let (count_len, delta_len) = (usize::from(header & 0x0F), usize::from(header >> 4));
            if count_len == 0 || count_len > 8 || delta_len > 8 {
                return Err(pairs.fault("data run header", offset, "at most 8 bytes each", header));
            }
            let count_at = offset.saturating_add(1);
            let delta_at = count_at.saturating_add(count_len);
            let clusters = little_endian(pairs.slice(count_at, count_len)?);
            let delta = sign_extended(pairs.slice(delta_at, delta_len)?);
            let position = if delta_len == 0 {
                None
            } else {
                lcn = lcn.wrapping_add(delta);
                Some(lcn)
            };
            self.push(clusters, position)
                .map_err(|what| pairs.fault(what, offset, "in the volume", clusters))?;
            offset = delta_at.saturating_add(delta_len);
        }
        Ok(())
    }

    fn push(&mut self, clusters: u64, lcn: Option<u64>) -> Result<(), &'static str> {
        if clusters == 0 {
            return Err("data run of no cluster");
        }
        let in_volume =
            lcn.is_none_or(|lcn| lcn.checked_add(clusters).is_some_and(|end| end <= self.volume_clusters));
        if !in_volume {
            return Err("data run past the end of the volume");
        }
        let end = self.clusters.checked_add(clusters);
        // Positions in bytes are computed from these and must fit.
        let Some(end) = end.filter(|end| end.checked_mul(self.cluster_bytes).is_some()) else {
            return Err("data run past what a file can hold");
        };
        self.runs.push(Run { first: self.clusters, clusters, lcn });
        self.clusters = end;
        Ok(())
    }

    /// The pieces of runs that hold the clusters from `first` to before `end`.
    pub(crate) fn pieces(&self, first: u64, end: u64) -> impl Iterator<Item = Run> + '_ {
        let start = self.runs.partition_point(|run| run.end() <= first);
        self.runs.get(start..).unwrap_or_default().iter().take_while(move |run| run.first < end).map(
            move |run| {
                let (from, to) = (run.first.max(first), run.end().min(end));
                let skipped = from.saturating_sub(run.first);
                let lcn = run.lcn.map(|lcn| lcn.saturating_add(skipped));
                Run { first: from, clusters: to.saturating_sub(from), lcn }
            },
        )
    }

    /// The offset on the volume of byte `offset` of the attribute; `None` in a hole or past the end.
    pub(crate) fn position(&self, offset: u64) -> Option<u64> {
        let cluster = offset.checked_div(self.cluster_bytes)?;
        let lcn = self.pieces(cluster, cluster.saturating_add(1)).next()?.lcn?;
        lcn.checked_mul(self.cluster_bytes)?.checked_add(offset.checked_rem(self.cluster_bytes)?)
    }

    /// Where on the volume the bytes from `start` to before `end` lie, but for holes.
    pub(crate) fn volume_ranges(&self, start: u64, end: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = start.checked_div(self.cluster_bytes).unwrap_or(0);
        self.pieces(first, end.div_ceil(self.cluster_bytes.max(1))).filter_map(move |piece| {
            let at = piece.first.saturating_mul(self.cluster_bytes);
            let len = piece.clusters.saturating_mul(self.cluster_bytes);
            let on_volume = piece.lcn?.saturating_mul(self.cluster_bytes);
            let (skipped, kept) = (start.saturating_sub(at), end.saturating_sub(at).min(len));
            Some(on_volume.saturating_add(skipped)..on_volume.saturating_add(kept))
        })
    }

    /// Fills `buffer` with the bytes at `offset`; holes are zeros.
    ///
    /// # Errors
    /// Where the runs end before the range does, or the source fails.
    pub(crate) fn read(
        &self,
        source: &dyn BlockSource,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), FsError> {
        let len = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = offset.checked_add(len).filter(|end| *end <= self.len_bytes());
        let (Some(end), Some(first)) = (end, offset.checked_div(self.cluster_bytes)) else {
            return Err(Fault::new("data runs", offset, len, self.len_bytes()).into());
        };
        let mut rest = buffer;
        let mut at = offset;
        for piece in self.pieces(first, end.div_ceil(self.cluster_bytes)) {
            // OK to saturate: `push` has seen that every position within the runs fits.
            let piece_at = piece.first.saturating_mul(self.cluster_bytes);
            let piece_end = piece_at.saturating_add(piece.clusters.saturating_mul(self.cluster_bytes));
            let take = usize::try_from(piece_end.min(end).saturating_sub(at)).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(take.min(rest.len()));
            match piece.lcn {
                Some(lcn) => {
                    let within = at.saturating_sub(piece_at);
                    let position = lcn.saturating_mul(self.cluster_bytes).saturating_add(within);
                    source.read_exact_at(position, now)?;
                }
                None => now.fill(0),
            }
            at = piece_end.min(end);
            rest = later;
        }
        Ok(())
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// The two's complement number in `bytes` as a `u64` to add with wrapping.
fn sign_extended(bytes: &[u8]) -> u64 {
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { u64::MAX } else { 0 };
    bytes.iter().rev().fold(sign, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test code")]
mod tests {
    use stillframe_block::MemorySource;

    use super::*;

    fn runs(pairs: &[u8]) -> Result<Runs, Fault> {
        let mut runs = Runs::new(512, 100);
        runs.append(0, &Structure::new("data runs", 0, pairs)).map(|()| runs)
    }

    #[test]
    fn runs_are_relative_and_signed_and_may_be_holes() {
        let runs = runs(&[0x11, 3, 50, 0x01, 5, 0x11, 2, 0xF6, 0, 0xFF]).unwrap();
        assert_eq!(
            runs.runs,
            [
                Run { first: 0, clusters: 3, lcn: Some(50) },
                Run { first: 3, clusters: 5, lcn: None },
                Run { first: 8, clusters: 2, lcn: Some(40) },
            ]
        );
        assert_eq!(runs.position(512 * 9 + 7), Some(512 * 41 + 7));
        assert_eq!(runs.position(512 * 4), None);
        assert_eq!(runs.position(512 * 10), None);
    }

    #[test]
    fn cluster_zero_is_no_hole() {
        assert_eq!(runs(&[0x11, 1, 0]).unwrap().position(5), Some(5));
    }

    #[test]
    fn runs_outside_the_volume_or_of_no_length_are_refused() {
        for pairs in [
            &[0x11, 1, 100][..],
            &[0x11, 101, 0],
            &[0x11, 0, 1],
            &[0x11, 1, 0xFF],
            &[0x10, 1],
            &[0x91, 1, 1],
            &[0x11, 1],
            &[0x08, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert!(runs(pairs).is_err(), "{pairs:?}");
        }
        assert!(runs(&[0x01, 1]).unwrap().append(2, &Structure::new("data runs", 0, &[])).is_err());
    }

    #[test]
    fn reads_cross_runs() {
        let disk = (0..51_200_u32).map(|at| (at / 512).to_le_bytes()[0]).collect();
        let runs = runs(&[0x11, 1, 50, 0x01, 1, 0x11, 1, 10]).unwrap();
        let mut bytes = [9; 520];
        runs.read(&MemorySource(disk), 510, &mut bytes).unwrap();
        assert_eq!((bytes[1], bytes[2], bytes[513], bytes[514], bytes[519]), (50, 0, 0, 60, 60));
        assert!(runs.read(&MemorySource(Vec::new()), 1500, &mut [0; 37]).is_err());
    }
}
