//! From logical addresses to places on devices (On-disk format, "Chunk tree"; kernel `fs/btrfs/volumes.c` has the
//! arithmetic of stripes).
//!
//! A chunk is a range of logical addresses, kept in stripes on devices: copied (single, DUP, RAID1 with two to four
//! copies), striped in units of 64 KiB (RAID0, RAID10), or striped with one or two parities that move on from row to row
//! (RAID5, RAID6).

use std::ops::Range;

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::FsError;

use crate::devices::Devices;
use crate::node::{CHUNK_ITEM, Key};
use crate::superblock::Superblock;

/// Chunks are 8 MiB at the least in practice.
const MAX_CHUNKS: usize = 1 << 20;
/// Of all chunks together.
const MAX_STRIPES: usize = 1 << 22;
/// Of one chunk. Of RAID6 the kernel's arithmetic tells no more than 255 data units apart.
const MAX_STRIPES_OF_CHUNK: usize = 256;
const CHUNK_BYTES: usize = 48;
const STRIPE_BYTES: usize = 32;
const KEY_BYTES: usize = 17;
/// No more ways are tried: a wide row of RAID6 has one for each of its units, and each reads the whole row.
pub(crate) const MAX_TRIES: usize = 32;
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
pub(crate) struct Place<'a> {
    /// How many bytes lie side by side from there on.
    pub(crate) left: u64,
    /// Where they begin in each of the stripes.
    offset: u64,
    /// The stripes that hold them; of a row of RAID5 or RAID6 all, data first.
    held_by: HeldBy,
    chunk: &'a Chunk,
}

#[derive(Debug, Clone, Copy)]
enum HeldBy {
    /// Each of these holds them.
    Copies { first: usize, count: usize },
    /// The data unit `wanted` of a row that begins at the stripe `turned`.
    Row { turned: usize, parities: usize, wanted: usize },
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
        check_count(count)?;
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
        check_devices(item, &stripes)?;
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
    pub(crate) fn locate(&self, logical: u64) -> Result<Place<'_>, Fault> {
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
        0 => (Layout::Copies, count == 1),
        PROFILE_DUP | PROFILE_RAID1 => (Layout::Copies, count == 2),
        PROFILE_RAID1_C3 => (Layout::Copies, count == 3),
        PROFILE_RAID1_C4 => (Layout::Copies, count == 4),
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

fn check_count(stripes: usize) -> Result<(), FsError> {
    if stripes > MAX_STRIPES_OF_CHUNK {
        return Err(FsError::Limit { what: "stripes of a chunk", cap: 256 });
    }
    Ok(())
}

/// Each stripe lies on another device, but for those of DUP: else one that is read again and again looks like many.
fn check_devices(item: &Structure<'_>, stripes: &[Stripe]) -> Result<(), Fault> {
    if item.u64_le(24)? & PROFILES == PROFILE_DUP {
        return Ok(());
    }
    let mut devices: Vec<u64> = stripes.iter().map(|stripe| stripe.device).collect();
    devices.sort_unstable();
    devices.dedup();
    if devices.len() < stripes.len() {
        return Err(item.fault("devices of a chunk", 44, stripes.len(), devices.len()));
    }
    Ok(())
}

impl Chunk {
    fn locate(&self, within: u64) -> Place<'_> {
        let left = self.len_bytes.saturating_sub(within);
        let unit = within.checked_div(STRIPE_UNIT_BYTES).unwrap_or(0);
        let in_unit = within.checked_rem(STRIPE_UNIT_BYTES).unwrap_or(0);
        let left_in_unit = left.min(STRIPE_UNIT_BYTES.saturating_sub(in_unit));
        let in_row = |row: u64| row.saturating_mul(STRIPE_UNIT_BYTES).saturating_add(in_unit);
        let count = self.stripes.len();
        match self.layout {
            Layout::Copies => {
                Place { left, offset: within, held_by: HeldBy::Copies { first: 0, count }, chunk: self }
            }
            Layout::Striped { copies } => {
                let (row, group) = divided(unit, count.checked_div(copies).unwrap_or(0));
                let held_by = HeldBy::Copies { first: group.saturating_mul(copies), count: copies };
                Place { left: left_in_unit, offset: in_row(row), held_by, chunk: self }
            }
            Layout::Parity { parities } => {
                let (row, wanted) = divided(unit, count.saturating_sub(parities));
                let (_, turned) = divided(row, count);
                let held_by = HeldBy::Row { turned, parities, wanted };
                Place { left: left_in_unit, offset: in_row(row), held_by, chunk: self }
            }
        }
    }

    fn spot(&self, stripe: usize, offset: u64) -> Option<Spot> {
        let stripe = self.stripes.get(stripe)?;
        let offset = stripe.offset.saturating_add(offset);
        Some(Spot { index: stripe.index?, offset, is_stale: stripe.is_stale })
    }
}

impl Place<'_> {
    /// The ways in the order in which they are tried; each is made when it is asked for.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Way> {
        (0..MAX_TRIES).map_while(|number| self.way(number))
    }

    /// The way with this number.
    pub(crate) fn way(&self, number: usize) -> Option<Way> {
        if number >= MAX_TRIES {
            return None;
        }
        match self.held_by {
            HeldBy::Copies { first, count } => self.copy(first..first.saturating_add(count), number),
            HeldBy::Row { turned, parities, wanted } => self.of_row(turned, parities, wanted, number),
        }
    }

    /// The number of a device that is missing, where there is one.
    pub(crate) fn missing(&self) -> Option<u64> {
        let these = match self.held_by {
            HeldBy::Copies { first, count } => first..first.saturating_add(count),
            HeldBy::Row { .. } => 0..self.chunk.stripes.len(),
        };
        let mut all = self.chunk.stripes.get(these).unwrap_or_default().iter();
        all.find(|stripe| stripe.index.is_none()).map(|stripe| stripe.device)
    }

    /// Stripes that missed something come last.
    fn copy(&self, stripes: Range<usize>, number: usize) -> Option<Way> {
        let spots = |is_stale: bool| {
            let all = stripes.clone().filter_map(|stripe| self.chunk.spot(stripe, self.offset));
            all.filter(move |spot| spot.is_stale == is_stale)
        };
        spots(false).chain(spots(true)).nth(number).map(Way::Copy)
    }

    /// The unit itself, then what can be made of the others, then the unit itself where it missed something. Last of RAID6
    /// once without the first parity, and with each of the other data units held to be bad too.
    fn of_row(&self, turned: usize, parities: usize, wanted: usize, number: usize) -> Option<Way> {
        let count = self.chunk.stripes.len();
        let unit = |role: usize| {
            let stripe = role.saturating_add(turned).checked_rem(count).unwrap_or(0);
            self.chunk.spot(stripe, self.offset)
        };
        let without = |also: Option<usize>| {
            let units =
                (0..count).map(|role| if role == wanted || Some(role) == also { None } else { unit(role) });
            Some(Way::Rebuilt(Row { units: units.collect(), parities, wanted }))
        };
        let own = unit(wanted);
        let is_stale = own.is_some_and(|spot| spot.is_stale);
        if number == 0
            && let Some(spot) = own.filter(|_| !is_stale)
        {
            return Some(Way::Copy(spot));
        }
        let mut number = number.checked_sub(usize::from(own.is_some() && !is_stale))?;
        let lost = (0..count).filter(|role| *role == wanted || unit(*role).is_none()).count();
        if lost <= parities {
            match number.checked_sub(1) {
                None => return without(None),
                Some(later) => number = later,
            }
        }
        if is_stale {
            match number.checked_sub(1) {
                None => return own.map(Way::Copy),
                Some(later) => number = later,
            }
        }
        let data = count.saturating_sub(parities);
        let mut others = std::iter::once(data).chain((0..data).filter(|role| *role != wanted));
        if lost < parities { others.nth(number).and_then(|other| without(Some(other))) } else { None }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A chunk item of a profile, with its stripes on these devices.
    fn item(profile: u64, copies: u16, devices: &[u64]) -> Vec<u8> {
        let mut item = Vec::new();
        for field in [1 << 30, 2, STRIPE_UNIT_BYTES, profile] {
            item.extend(field.to_le_bytes());
        }
        item.extend([0; 12]);
        item.extend(u16::try_from(devices.len()).unwrap().to_le_bytes());
        item.extend(copies.to_le_bytes());
        for device in devices {
            item.extend(device.to_le_bytes());
            item.extend([0; 24]);
        }
        item
    }

    fn stripes(devices: &[u64]) -> Vec<Stripe> {
        let stripe = |device: &u64| {
            let index = usize::try_from(*device).ok();
            Stripe { device: *device, offset: 0, index, is_stale: false }
        };
        devices.iter().map(stripe).collect()
    }

    fn fails(profile: u64, copies: u16, devices: &[u64]) -> Option<&'static str> {
        let bytes = item(profile, copies, devices);
        let item = Structure::new("chunk item", 0, &bytes);
        let outcome = layout(&item, devices.len()).and_then(|_| check_devices(&item, &stripes(devices)));
        outcome.err().map(|fault| fault.what)
    }

    #[test]
    fn profiles_have_the_stripes_that_the_kernel_takes() {
        for (profile, counts) in [
            (0, 1..=1),
            (PROFILE_DUP, 2..=2),
            (PROFILE_RAID1, 2..=2),
            (PROFILE_RAID1_C3, 3..=3),
            (PROFILE_RAID1_C4, 4..=4),
            (PROFILE_RAID5, 2..=6),
            (PROFILE_RAID6, 3..=6),
        ] {
            for count in 0..=6 {
                let devices: Vec<u64> = (1..=count).collect();
                let expected = (!counts.contains(&count)).then_some("chunk stripe count");
                assert_eq!(fails(profile, 1, &devices), expected, "profile {profile}, {count} stripes");
            }
        }
        assert_eq!(fails(PROFILE_DUP, 1, &[1, 1]), None);
        for profile in [PROFILE_RAID1, PROFILE_RAID0, PROFILE_RAID5] {
            assert_eq!(fails(profile, 1, &[1, 1]), Some("devices of a chunk"));
        }
        assert_eq!(fails(PROFILE_RAID10, 2, &[1, 2, 3, 1]), Some("devices of a chunk"));
        assert_eq!(fails(PROFILE_RAID6, 1, &[1, 2, 3, 4, 2]), Some("devices of a chunk"));
    }

    #[test]
    fn the_ways_of_a_row_are_made_one_by_one() {
        let devices: Vec<u64> = (0..6).collect();
        let layout = Layout::Parity { parities: 2 };
        let mut chunk = Chunk { logical: 0, len_bytes: 1 << 30, layout, stripes: stripes(&devices) };
        let lost = |way: Way| match way {
            Way::Copy(spot) => vec![100, spot.index],
            Way::Rebuilt(row) => (0..row.units.len()).filter(|unit| row.units[*unit].is_none()).collect(),
        };
        // The second row: four units of data, the roles turned by one stripe.
        let ways = |chunk: &Chunk| -> Vec<_> { chunk.locate(4 << 16).ways().map(lost).collect() };
        assert_eq!(ways(&chunk), [vec![100, 1], vec![0], vec![0, 4], vec![0, 1], vec![0, 2], vec![0, 3]]);
        chunk.stripes[1].is_stale = true;
        assert_eq!(ways(&chunk)[..3], [vec![0], vec![100, 1], vec![0, 4]]);
        chunk.stripes[1].index = None;
        chunk.stripes[3].index = None;
        assert_eq!((ways(&chunk), chunk.locate(4 << 16).missing()), (vec![vec![0, 2]], Some(1)));
        chunk.stripes[0].index = None;
        assert_eq!(ways(&chunk).len(), 0);
        let devices: Vec<u64> = (0..200).collect();
        let wide = Chunk { logical: 0, len_bytes: 1 << 30, layout, stripes: stripes(&devices) };
        assert_eq!(wide.locate(0).ways().count(), MAX_TRIES);
    }

    #[test]
    fn chunks_of_very_many_stripes_are_refused() {
        let devices: Vec<u64> = (0..257).collect();
        let bytes = item(PROFILE_RAID6, 1, &devices);
        assert!(layout(&Structure::new("chunk item", 0, &bytes), devices.len()).is_ok());
        assert!(check_count(devices.len()).is_err() && check_count(256).is_ok());
    }
}
