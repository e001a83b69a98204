//! From logical addresses to places on devices (On-disk format, "Chunk tree"; kernel `fs/btrfs/volumes.c` has the
//! arithmetic of stripes).
//!
//! A chunk is a range of logical addresses, kept in stripes on devices: copied (single, DUP, RAID1 with two to four
//! copies), striped in units of 64 KiB (RAID0, RAID10), or striped with one or two parities that move on from row to row
//! (RAID5, RAID6).

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::devices::Devices;
use crate::node::{CHUNK_ITEM, Key};
use crate::superblock::Superblock;

/// Chunks are 8 MiB at the least in practice.
const MAX_CHUNKS: usize = 1 << 20;
/// Of all chunks together.
const MAX_STRIPES: usize = 1 << 22;
const CHUNK_BYTES: usize = 48;
const STRIPE_BYTES: usize = 32;
const KEY_BYTES: usize = 17;
/// What lies side by side on one device. The kernel takes no other.
const STRIPE_UNIT_BYTES: u64 = 64 << 10;

const PROFILE_RAID0: u64 = 1 << 3;
const PROFILE_RAID1: u64 = 1 << 4;
const PROFILE_DUP: u64 = 1 << 5;
const PROFILE_RAID10: u64 = 1 << 6;
const PROFILE_RAID5: u64 = 1 << 7;
const PROFILE_RAID6: u64 = 1 << 8;
const PROFILE_RAID1_C3: u64 = 1 << 9;
const PROFILE_RAID1_C4: u64 = 1 << 10;
const PROFILES: u64 = 0x7f8;

/// How the stripes of a chunk hold its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Each stripe holds all of it.
    Copies,
    /// Units go round groups of so many stripes, which hold the same.
    Striped { copies: usize },
    /// Units go round all stripes but so many in each row.
    Parity { parities: usize },
}

/// One stripe: where it begins, on which of the devices at hand.
#[derive(Debug, Clone, Copy)]
struct Stripe {
    device: u64,
    offset: u64,
    /// `None` where the device is missing.
    index: Option<usize>,
    is_stale: bool,
}

#[derive(Debug, Clone)]
struct Chunk {
    logical: u64,
    len_bytes: u64,
    layout: Layout,
    stripes: Vec<Stripe>,
}

/// A place on a device that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) index: usize,
    pub(crate) offset: u64,
    pub(crate) is_stale: bool,
}

/// One way to get at bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// They lie there.
    Copy(Spot),
    /// They are made of the other units of their row.
    Rebuilt(Row),
}

/// A row of units of RAID5 or RAID6 of which some are lost: data first, then the parities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// `None` where the device is missing, or the unit is not believed.
    pub(crate) units: Vec<Option<Spot>>,
    pub(crate) parities: usize,
    /// The unit that is wanted.
    pub(crate) wanted: usize,
}

/// Where the bytes at a logical address are.
pub(crate) struct Place {
    /// How many bytes lie side by side from there on.
    pub(crate) left: u64,
    /// In the order in which they are tried.
    pub(crate) ways: Vec<Way>,
    /// The number of a device that is missing, where there is one.
    pub(crate) missing: Option<u64>,
}

/// All chunks by logical address.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkMap {
    /// Sorted, without overlap.
    chunks: Vec<Chunk>,
    stripes: usize,
}

impl ChunkMap {
    /// The chunks that the chunk tree itself lies in, from the superblock.
    pub(crate) fn from_system_chunks(superblock: &Superblock, devices: &Devices) -> Result<Self, FsError> {
        let mut map = Self::default();
        let array = Structure::new("system chunk array", 0, &superblock.system_chunks);
        let mut at = 0;
        while at < array.len() {
            let key = Key::parse(&array, at)?;
            if key.kind != CHUNK_ITEM {
                return Err(array.fault("system chunk key", at, CHUNK_ITEM, key.kind).into());
            }
            let item = array.rest("chunk item", at.saturating_add(KEY_BYTES))?;
            let len = map.insert(superblock, devices, key.offset, &item)?;
            at = at.saturating_add(KEY_BYTES).saturating_add(len);
        }
        Ok(map)
    }

    /// Adds a chunk item; gives its length. One that is there already is left alone.
    pub(crate) fn insert(
        &mut self,
        superblock: &Superblock,
        devices: &Devices,
        logical: u64,
        item: &Structure<'_>,
    ) -> Result<usize, FsError> {
        let len_bytes = item.u64_le(0)?;
        let count = usize::from(item.u16_le(44)?);
        let fields = item.part("chunk stripes", CHUNK_BYTES, count.saturating_mul(STRIPE_BYTES))?;
        let layout = layout(item, count)?;
        let aligned = len_bytes.is_multiple_of(superblock.sector_bytes)
            && logical.is_multiple_of(superblock.sector_bytes);
        let end = logical.checked_add(len_bytes).filter(|_| len_bytes > 0 && aligned);
        let Some(end) = end else {
            return Err(item.fault("chunk length", 0, superblock.sector_bytes, len_bytes).into());
        };
        let mut stripes = Vec::with_capacity(count);
        for at in (0..fields.len()).step_by(STRIPE_BYTES) {
            let device = fields.u64_le(at)?;
            let offset = fields.u64_le(at.saturating_add(8))?;
            if offset.checked_add(len_bytes).is_none() {
                return Err(item.fault("chunk stripe offset", CHUNK_BYTES, "inside 2^64", "beyond").into());
            }
            let member = devices.find(device, fields.array(at.saturating_add(16))?);
            let is_stale = member.is_some_and(|member| member.is_stale);
            stripes.push(Stripe { device, offset, index: member.map(|member| member.index), is_stale });
        }
        self.place(Chunk { logical, len_bytes, layout, stripes }, end)?;
        Ok(CHUNK_BYTES.saturating_add(fields.len()))
    }

    fn place(&mut self, chunk: Chunk, end: u64) -> Result<(), FsError> {
        self.stripes = self.stripes.saturating_add(chunk.stripes.len());
        if self.chunks.len() >= MAX_CHUNKS || self.stripes > MAX_STRIPES {
            return Err(FsError::Limit { what: "chunks", cap: 1 << 20 });
        }
        let place = self.chunks.partition_point(|other| other.logical < chunk.logical);
        if self.chunks.get(place).is_some_and(|other| other.logical == chunk.logical) {
            return Ok(());
        }
        let before = place.checked_sub(1).and_then(|before| self.chunks.get(before));
        let overlaps = before
            .is_some_and(|other| other.logical.saturating_add(other.len_bytes) > chunk.logical)
            || self.chunks.get(place).is_some_and(|other| end > other.logical);
        if overlaps {
            return Err(Fault::new("chunk address", chunk.logical, "a free range", "an overlap").into());
        }
        self.chunks.insert(place, chunk);
        Ok(())
    }

    /// Where the bytes at `logical` are.
    pub(crate) fn locate(&self, logical: u64) -> Result<Place, Fault> {
        let place = self.chunks.partition_point(|chunk| chunk.logical <= logical);
        let chunk = place.checked_sub(1).and_then(|place| self.chunks.get(place));
        let within = chunk.map(|chunk| (chunk, logical.saturating_sub(chunk.logical)));
        match within.filter(|(chunk, within)| *within < chunk.len_bytes) {
            Some((chunk, within)) => Ok(chunk.locate(within)),
            None => Err(Fault::new("logical address", logical, "in a chunk", "in none")),
        }
    }
}

/// What the profile of a chunk with `count` stripes means, where it can have so many.
fn layout(item: &Structure<'_>, count: usize) -> Result<Layout, Fault> {
    let profile = item.u64_le(24)? & PROFILES;
    let copies = usize::from(item.u16_le(46)?);
    let (layout, fits) = match profile {
        0 | PROFILE_RAID1 | PROFILE_DUP | PROFILE_RAID1_C3 | PROFILE_RAID1_C4 => {
            (Layout::Copies, (1..=4).contains(&count))
        }
        PROFILE_RAID0 => (Layout::Striped { copies: 1 }, count > 0),
        PROFILE_RAID10 => (Layout::Striped { copies }, copies == 2 && count > 0 && count.is_multiple_of(2)),
        PROFILE_RAID5 => (Layout::Parity { parities: 1 }, count >= 2),
        PROFILE_RAID6 => (Layout::Parity { parities: 2 }, count >= 3),
        _ => return Err(item.fault("chunk profile", 24, "one", profile)),
    };
    if !fits {
        return Err(item.fault("chunk stripe count", 44, "what its profile has", count));
    }
    let unit = item.u64_le(16)?;
    if layout != Layout::Copies && unit != STRIPE_UNIT_BYTES {
        return Err(item.fault("chunk stripe length", 16, STRIPE_UNIT_BYTES, unit));
    }
    Ok(layout)
}

impl Chunk {
    fn locate(&self, within: u64) -> Place {
        let left = self.len_bytes.saturating_sub(within);
        let unit = within.checked_div(STRIPE_UNIT_BYTES).unwrap_or(0);
        let in_unit = within.checked_rem(STRIPE_UNIT_BYTES).unwrap_or(0);
        let left_in_unit = left.min(STRIPE_UNIT_BYTES.saturating_sub(in_unit));
        let count = self.stripes.len();
        match self.layout {
            Layout::Copies => self.copies(0, count, within, left),
            Layout::Striped { copies } => {
                let (row, group) = divided(unit, count.checked_div(copies).unwrap_or(0));
                let offset = row.saturating_mul(STRIPE_UNIT_BYTES).saturating_add(in_unit);
                self.copies(group.saturating_mul(copies), copies, offset, left_in_unit)
            }
            Layout::Parity { parities } => {
                let (row, wanted) = divided(unit, count.saturating_sub(parities));
                let offset = row.saturating_mul(STRIPE_UNIT_BYTES).saturating_add(in_unit);
                let (_, turned) = divided(row, count);
                let order =
                    (0..count).map(|role| role.saturating_add(turned).checked_rem(count).unwrap_or(0));
                let units = order.map(|stripe| self.spot(stripe, offset)).collect();
                let mut place = self.copies(0, count, offset, left_in_unit);
                place.ways = Row { units, parities, wanted }.ways();
                place
            }
        }
    }

    /// `count` stripes from `first` on, at `offset` of each. Those that missed something come last.
    fn copies(&self, first: usize, count: usize, offset: u64, left: u64) -> Place {
        let these = first..first.saturating_add(count);
        let mut spots: Vec<Spot> = these.clone().filter_map(|stripe| self.spot(stripe, offset)).collect();
        spots.sort_by_key(|spot| spot.is_stale);
        let mut all = self.stripes.get(these).unwrap_or_default().iter();
        let missing = all.find(|stripe| stripe.index.is_none()).map(|stripe| stripe.device);
        Place { left, ways: spots.into_iter().map(Way::Copy).collect(), missing }
    }

    fn spot(&self, stripe: usize, offset: u64) -> Option<Spot> {
        let stripe = self.stripes.get(stripe)?;
        let offset = stripe.offset.saturating_add(offset);
        Some(Spot { index: stripe.index?, offset, is_stale: stripe.is_stale })
    }
}

/// Quotient and remainder.
fn divided(number: u64, by: usize) -> (u64, usize) {
    let by = u64::try_from(by).unwrap_or(u64::MAX);
    let rest = number.checked_rem(by).unwrap_or(0);
    (number.checked_div(by).unwrap_or(0), usize::try_from(rest).unwrap_or(usize::MAX))
}

impl Row {
    /// The units that [`crate::parity::rebuild`] reads: of two parities the second only where a data unit is lost besides
    /// the wanted one, or the first is.
    pub(crate) fn read_units(&self) -> impl Iterator<Item = &Spot> {
        let data = self.units.len().saturating_sub(self.parities);
        let lost = self.units.iter().take(data.saturating_add(1)).filter(|unit| unit.is_none()).count();
        let count = if lost > 1 { self.units.len() } else { data.saturating_add(1) };
        self.units.iter().take(count).flatten()
    }

    /// The unit itself, then what can be made of the others: of RAID6 once without the one and once without the other
    /// parity, then with each of the other data units held to be bad too. A unit that missed something comes last.
    fn ways(self) -> Vec<Way> {
        let own = self.units.get(self.wanted).copied().flatten();
        let without = |also: Option<usize>| {
            let mut row = self.clone();
            for lost in [Some(row.wanted), also].into_iter().flatten() {
                if let Some(unit) = row.units.get_mut(lost) {
                    *unit = None;
                }
            }
            row
        };
        let mut ways: Vec<Way> = own.filter(|spot| !spot.is_stale).map(Way::Copy).into_iter().collect();
        let alone = without(None);
        let lost = alone.units.iter().filter(|unit| unit.is_none()).count();
        if lost <= self.parities {
            ways.push(Way::Rebuilt(alone));
        }
        if lost < self.parities {
            let data = self.units.len().saturating_sub(self.parities);
            let others = std::iter::once(data).chain((0..data).filter(|unit| *unit != self.wanted));
            ways.extend(others.map(|other| Way::Rebuilt(without(Some(other)))));
        }
        ways.extend(own.filter(|spot| spot.is_stale).map(Way::Copy));
        ways
    }
}

impl Way {
    /// Whether a device has a part in it that missed something.
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Self::Copy(spot) => spot.is_stale,
            Self::Rebuilt(row) => row.units.iter().flatten().any(|spot| spot.is_stale),
        }
    }
}
