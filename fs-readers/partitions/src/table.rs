use std::fmt;
use std::ops::Range;

use stillframe_bytes::Fault;

use crate::guid::Guid;

/// Faults that are kept of one table.
const FAULTS_CAP: usize = 256;

/// The kind of a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// A GUID partition table.
    Gpt,
    /// A master boot record.
    Mbr,
    /// The disk has no table that is read here: what it holds begins at its first byte.
    None,
}

/// What a partition table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// Its kind.
    pub scheme: Scheme,
    /// The sectors that it counts in: 512 or 4096 bytes.
    pub sector_bytes: u32,
    /// The disk's GUID (GPT) or signature (MBR; `None` where it is 0), as `blkid` writes `PTUUID`.
    pub disk_id: Option<String>,
    /// The partitions by number, extended ones too.
    pub partitions: Vec<Partition>,
    /// What is wrong with the table; the first 256.
    pub faults: Vec<Fault>,
    /// Whether the GPT's copy at the end was read because the first was damaged.
    pub used_backup: bool,
    /// Byte ranges of the disk that belong neither to a partition nor to the MBR, an extended boot record or the GPT.
    /// Empty without a table.
    pub unallocated: Vec<Range<u64>>,
    /// Where the table itself lies.
    pub(crate) structures: Vec<Range<u64>>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As Linux numbers it: GPT slot + 1; MBR slots 1 to 4, logical partitions from 5 in the order of their chain.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start_bytes: u64,
    /// Its length in bytes as claimed. It may pass the end of the disk, never the range of `u64`.
    pub len_bytes: u64,
    /// What the table says that it is.
    pub type_code: TypeCode,
    /// Its place in the table.
    pub role: PartitionRole,
    /// The name (GPT), where it has one. It is the disk's text: escape it where it is shown.
    pub name: Option<String>,
    /// As `blkid` writes `PARTUUID`.
    pub part_uuid: Option<String>,
    /// Whether it passes the end of the disk. There is a fault for it.
    pub cut: bool,
}

impl Partition {
    /// The first byte behind it, as claimed.
    #[must_use]
    pub fn end_bytes(&self) -> u64 {
        self.start_bytes.saturating_add(self.len_bytes)
    }
}

/// A partition's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionRole {
    /// An entry of the table itself.
    Primary,
    /// An entry that holds a chain of logical partitions: it has no content of its own.
    Extended,
    /// An entry of an extended boot record.
    Logical,
}

/// What the table says that a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TypeCode {
    /// The type byte of an MBR entry.
    Mbr(u8),
    /// The type GUID of a GPT entry, as the disk has it.
    Gpt([u8; 16]),
}

impl fmt::Display for TypeCode {
    /// As `sfdisk` writes it: `83`, `0FC63DAF-8483-4772-8E79-3D69D8477DE4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(code) => write!(f, "{code:x}"),
            Self::Gpt(guid) => f.write_str(&Guid(*guid).to_string().to_uppercase()),
        }
    }
}

impl PartitionTable {
    pub(crate) fn none() -> Self {
        Self {
            scheme: Scheme::None,
            sector_bytes: 512,
            disk_id: None,
            partitions: Vec::new(),
            faults: Vec::new(),
            used_backup: false,
            unallocated: Vec::new(),
            structures: Vec::new(),
        }
    }

    /// Marks what passes the end of the disk, finds overlaps and gaps.
    pub(crate) fn finish(&mut self, disk_len_bytes: u64) {
        for partition in &mut self.partitions {
            partition.cut = partition.end_bytes() > disk_len_bytes;
            if partition.cut {
                let at = partition.start_bytes;
                self.faults.push(Fault::new("partition end", at, partition.end_bytes(), disk_len_bytes));
            }
        }
        self.find_overlaps();
        if self.scheme != Scheme::None {
            self.unallocated = self.gaps(disk_len_bytes);
        }
        self.faults.truncate(FAULTS_CAP);
    }

    fn find_overlaps(&mut self) {
        let mut spans: Vec<(u64, u64)> =
            self.contents().map(|partition| (partition.start_bytes, partition.end_bytes())).collect();
        spans.sort_unstable();
        let mut reached = 0;
        for (start, end) in spans {
            if start < reached {
                self.faults.push(Fault::new("partition start (partitions overlap)", start, start, reached));
            }
            reached = reached.max(end);
        }
    }

    fn gaps(&self, disk_len_bytes: u64) -> Vec<Range<u64>> {
        let partitions = self.contents().map(|partition| partition.start_bytes..partition.end_bytes());
        let mut taken: Vec<Range<u64>> = partitions.chain(self.structures.iter().cloned()).collect();
        taken.sort_unstable_by_key(|range| range.start);
        taken.push(disk_len_bytes..u64::MAX);
        let mut gaps = Vec::new();
        let mut reached = 0;
        for range in taken {
            if reached < range.start.min(disk_len_bytes) {
                gaps.push(reached..range.start.min(disk_len_bytes));
            }
            reached = reached.max(range.end);
        }
        gaps
    }

    /// The partitions that have content of their own.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter(|partition| partition.role != PartitionRole::Extended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u32, start_bytes: u64, len_bytes: u64) -> Partition {
        Partition {
            number,
            start_bytes,
            len_bytes,
            type_code: TypeCode::Mbr(0x83),
            role: PartitionRole::Primary,
            name: None,
            part_uuid: None,
            cut: false,
        }
    }

    #[test]
    fn overlaps_cuts_and_gaps_are_found() {
        let mut table = PartitionTable { scheme: Scheme::Mbr, ..PartitionTable::none() };
        table.structures.push(0..512);
        table.partitions = vec![partition(1, 4096, 4096), partition(2, 6000, 100), partition(3, 9000, 5000)];
        table.finish(10_000);
        assert_eq!(table.unallocated, [512..4096, 8192..9000]);
        assert_eq!(
            table.partitions.iter().map(|partition| partition.cut).collect::<Vec<_>>(),
            [false, false, true]
        );
        let faults: Vec<_> = table.faults.iter().map(|fault| (fault.what, fault.at)).collect();
        assert_eq!(faults, [("partition end", 9000), ("partition start (partitions overlap)", 6000)]);
    }
}
