//! The devices that a filesystem lies on, by the number and the UUID that chunks name them by (On-disk format, "Device
//! item"). They come in any order; one may be missing, be there twice, or have missed the last transactions.

use std::sync::Arc;

use stillframe_block::BlockSource;
use stillframe_bytes::Fault;
use stillframe_fs::FsError;

use crate::superblock::Superblock;

/// No more devices are taken.
const MAX_DEVICES: usize = 4096;

/// What the superblock of a volume says of the filesystem that the volume is a device of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The filesystem's UUID: the same on all its devices. A copy that `btrfstune -m` gave another UUID is another
    /// filesystem, though its nodes still have the old one.
    pub filesystem: [u8; 16],
    /// The device's number in the filesystem, from 1.
    pub number: u64,
    /// The device's own UUID.
    pub uuid: [u8; 16],
    /// How many devices the filesystem has.
    pub devices: u64,
    /// The last transaction that the device knows of. One that was missing for a while has an older one.
    pub generation: u64,
}

impl Device {
    pub(crate) fn of(superblock: &Superblock) -> Self {
        Self {
            filesystem: superblock.filesystem_uuid,
            number: superblock.device,
            uuid: superblock.device_uuid,
            devices: superblock.device_count,
            generation: superblock.generation,
        }
    }
}

/// A device that chunks may name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// Its place among the devices that were given.
    pub(crate) index: usize,
    number: u64,
    uuid: [u8; 16],
    generation: u64,
    /// Set where it missed transactions: what has no checksum is not believed.
    pub(crate) is_stale: bool,
}

/// The devices at hand.
pub(crate) struct Devices {
    pub(crate) sources: Vec<Arc<dyn BlockSource>>,
    members: Vec<Member>,
    /// What is not as it should be, and does not keep the filesystem from being read.
    pub(crate) faults: Vec<Fault>,
    pub(crate) missing: u64,
}

impl Devices {
    /// Reads the superblocks of `sources`; gives the newest, which says where everything is.
    pub(crate) fn open(sources: Vec<Arc<dyn BlockSource>>) -> Result<(Self, Superblock), FsError> {
        if sources.len() > MAX_DEVICES {
            return Err(FsError::Limit { what: "devices of a btrfs", cap: 4096 });
        }
        let mut faults = Vec::new();
        let mut members = Vec::new();
        let mut newest: Option<Superblock> = None;
        let mut first_error = None;
        for (index, source) in sources.iter().enumerate() {
            let superblock = match Superblock::read(source) {
                Ok(superblock) => superblock,
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    if let FsError::Corrupt(fault) = &error {
                        faults.push(*fault);
                    }
                    first_error.get_or_insert(error);
                    continue;
                }
            };
            faults.extend(superblock.damage);
            if source.len_bytes() < superblock.device_bytes {
                faults.push(Fault::new("volume length", 0, superblock.device_bytes, source.len_bytes()));
            }
            members.push((
                superblock.filesystem_uuid,
                Member {
                    index,
                    number: superblock.device,
                    uuid: superblock.device_uuid,
                    generation: superblock.generation,
                    is_stale: false,
                },
            ));
            let rank = |one: &Superblock| (one.generation, one.log_tree.is_some());
            if newest.as_ref().is_none_or(|held| rank(held) < rank(&superblock)) {
                newest = Some(superblock);
            }
        }
        let Some(newest) = newest else {
            return Err(first_error.unwrap_or(FsError::NotFound));
        };
        if members.iter().any(|(filesystem, _)| *filesystem != newest.filesystem_uuid) {
            return Err(Fault::new("filesystem UUID", 32, "one for all devices", "several").into());
        }
        let members = members.into_iter().map(|(_, member)| member).collect();
        let mut devices = Self { sources, members, faults, missing: 0 };
        devices.judge(&newest);
        Ok((devices, newest))
    }

    /// Tells of devices that are there twice, are behind, or are not there.
    fn judge(&mut self, newest: &Superblock) {
        // The newest of those with one name serves; of equals the one that was given first.
        self.members.sort_by(|a, b| {
            let name = |one: &Member| (one.number, one.uuid);
            name(a).cmp(&name(b)).then(b.generation.cmp(&a.generation)).then(a.index.cmp(&b.index))
        });
        let faults = &mut self.faults;
        self.members.dedup_by(|next, kept| {
            let is_twice = (next.number, next.uuid) == (kept.number, kept.uuid);
            if is_twice {
                faults.push(Fault::new("device number", 201, "one device", next.number));
            }
            is_twice
        });
        for member in &mut self.members {
            if member.generation != newest.generation {
                member.is_stale = true;
                faults.push(Fault::new("device generation", 72, newest.generation, member.generation));
            }
        }
        let mut numbers: Vec<u64> = self.members.iter().map(|member| member.number).collect();
        numbers.dedup();
        let present = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
        self.missing = newest.device_count.saturating_sub(present);
        if self.missing > 0 {
            faults.push(Fault::new("btrfs devices", 136, newest.device_count, present));
        }
    }

    /// The device that a chunk names.
    pub(crate) fn find(&self, number: u64, uuid: [u8; 16]) -> Option<Member> {
        let place = self.members.binary_search_by_key(&(number, uuid), |member| (member.number, member.uuid));
        place.ok().and_then(|place| self.members.get(place)).copied()
    }

    pub(crate) fn read(&self, index: usize, offset: u64, buffer: &mut [u8]) -> Result<(), FsError> {
        let source = self.sources.get(index).ok_or(FsError::NotFound)?;
        Ok(source.read_exact_at(offset, buffer)?)
    }
}
