//! The names that a kernel gives to disks, and which disks they were.
//!
//! `/dev/sdb1` says nothing certain of an image: the kernel counts disks as its drivers find them. So a name is bound to a
//! disk by what is certain first: the line of the root, which we know; the name under which the cloud attached the disk;
//! the only disk on which all partitions that are asked for are there and hold what the lines say. Only then by the order
//! in which the disks were given.

use std::collections::BTreeMap;

use super::Opened;
use super::fstab::{By, Line};

/// A disk or a partition of one, as the kernel calls it (`Documentation/admin-guide/devices.txt`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceName {
    pub(super) disk: DiskName,
    /// `None` for the whole disk.
    pub(super) partition: Option<u32>,
}

/// Which disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DiskName {
    /// `sda` is 0, `xvdb` and `vdb` are 1, `sdaa` is 26. The driver's prefix is left out: a cloud attaches `/dev/sdf`, and
    /// the kernel calls it `xvdf`.
    Letter(u32),
    /// `nvme0n1` is 0, `nvme1n1` is 1.
    Nvme(u32),
    /// `mmcblk0` is 0.
    Mmc(u32),
}

impl DiskName {
    /// Its place among the disks that the driver found.
    const fn place(self) -> u32 {
        match self {
            Self::Letter(place) | Self::Nvme(place) | Self::Mmc(place) => place,
        }
    }
}

impl DeviceName {
    /// Reads a name without `/dev/`; `None` for what is no disk.
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("nvme") {
            let (controller, rest) = number(rest)?;
            let (namespace, rest) = number(rest.strip_prefix('n')?)?;
            // A second namespace is another disk, whose place among the disks nobody knows.
            return (namespace == 1)
                .then_some(())
                .and_then(|()| Some(Self { disk: DiskName::Nvme(controller), partition: behind_p(rest)? }));
        }
        if let Some(rest) = name.strip_prefix("mmcblk") {
            let (place, rest) = number(rest)?;
            return Some(Self { disk: DiskName::Mmc(place), partition: behind_p(rest)? });
        }
        let rest = ["xvd", "sd", "vd", "hd"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
        let digits = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let (letters, digits) = rest.split_at_checked(digits)?;
        let partition = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
        Some(Self { disk: DiskName::Letter(place_of(letters)?), partition })
    }
}

/// The place of `a`, `b`, …, `z`, `aa`, …: letters count as digits without a zero.
fn place_of(letters: &str) -> Option<u32> {
    let is_name =
        (1..=3).contains(&letters.len()) && letters.bytes().all(|letter| letter.is_ascii_lowercase());
    let digit = |letter: u8| u32::from(letter.saturating_sub(b'a')).saturating_add(1);
    let number =
        letters.bytes().fold(0_u32, |sum, letter| sum.saturating_mul(26).saturating_add(digit(letter)));
    is_name.then(|| number.saturating_sub(1))
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// The partition in `p3`; `Some(None)` where there is nothing.
fn behind_p(rest: &str) -> Option<Option<u32>> {
    if rest.is_empty() {
        return Some(None);
    }
    let (number, rest) = number(rest.strip_prefix('p')?)?;
    rest.is_empty().then_some(Some(number))
}

/// Which disk each name was, by the index of the disk.
#[derive(Default)]
pub(super) struct Bound {
    disks: BTreeMap<DiskName, usize>,
    /// Those that were bound by the order of the disks alone.
    guessed: Vec<DiskName>,
}

impl Bound {
    /// Binds the names in `lines` of the system whose root is `opened[root]`.
    pub(super) fn of(lines: &[Line], opened: &[Opened<'_>], root: usize) -> Self {
        let mut bound = Self::default();
        let named: Vec<(&Line, &DeviceName)> = lines
            .iter()
            .filter_map(|line| match &line.by {
                By::Device(name) => Some((line, name)),
                _ => None,
            })
            .collect();
        let own = opened.get(root);
        for (_, name) in named.iter().filter(|(line, _)| line.at.is_empty()) {
            if let Some(own) = own.filter(|own| own.partition == name.partition) {
                bound.disks.insert(name.disk, own.disk);
            }
        }
        let names: Vec<DiskName> = named.iter().map(|(_, name)| name.disk).collect();
        for name in names.iter().copied() {
            let attached = opened.iter().find(|one| {
                let device = one.device.and_then(|device| DeviceName::parse(device.strip_prefix("/dev/")?));
                device.is_some_and(|device| device.disk == name)
            });
            if let Some(one) = attached.filter(|one| !bound.disks.values().any(|disk| *disk == one.disk)) {
                bound.disks.entry(name).or_insert(one.disk);
            }
        }
        // Each name that is bound leaves fewer disks for the others.
        for _ in 0..names.len() {
            for name in names.iter().copied() {
                let fits: Vec<usize> = bound.fitting(name, &named, opened);
                if let &[disk] = fits.as_slice() {
                    bound.disks.entry(name).or_insert(disk);
                }
            }
        }
        for name in names {
            let place = usize::try_from(name.place()).unwrap_or(usize::MAX);
            if bound.fitting(name, &named, opened).contains(&place) {
                bound.disks.insert(name, place);
                bound.guessed.push(name);
            }
        }
        bound
    }

    /// The disks that are not bound yet and have everything that the lines want of the disk called `name`.
    fn fitting(&self, name: DiskName, named: &[(&Line, &DeviceName)], opened: &[Opened<'_>]) -> Vec<usize> {
        if self.disks.contains_key(&name) {
            return Vec::new();
        }
        let mut disks: Vec<usize> = opened.iter().map(|one| one.disk).collect();
        disks.dedup();
        let has = |disk: usize, line: &Line, partition: Option<u32>| {
            opened
                .iter()
                .any(|one| one.disk == disk && one.partition == partition && is_kind(one, &line.kind))
        };
        disks.retain(|disk| {
            let wanted = named.iter().filter(|(_, wanted)| wanted.disk == name);
            !self.disks.values().any(|taken| taken == disk)
                && wanted.into_iter().all(|(line, wanted)| has(*disk, line, wanted.partition))
        });
        disks
    }

    /// The filesystem that a line means by `name`, and whether the order of the disks alone says so.
    pub(super) fn find(&self, name: &DeviceName, kind: &str, opened: &[Opened<'_>]) -> Option<(usize, bool)> {
        let disk = self.disks.get(&name.disk)?;
        let is_it =
            |one: &Opened<'_>| one.disk == *disk && one.partition == name.partition && is_kind(one, kind);
        Some((opened.iter().position(is_it)?, self.guessed.contains(&name.disk)))
    }
}

/// Whether `fstab` may call the filesystem by this type.
fn is_kind(one: &Opened<'_>, kind: &str) -> bool {
    let found = one.fs.description().kind;
    let is_ext = |kind: &str| matches!(kind, "ext2" | "ext3" | "ext4");
    match kind {
        "" => true,
        "vfat" | "msdos" | "fat" => found == "vfat",
        "ntfs" | "ntfs3" | "ntfs-3g" | "fuseblk" => found == "ntfs",
        kind => kind == found || (is_ext(kind) && is_ext(found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_drivers_are_disks_and_partitions() {
        let parse = |name: &str| DeviceName::parse(name).map(|name| (name.disk, name.partition));
        assert_eq!(parse("sda"), Some((DiskName::Letter(0), None)));
        assert_eq!(parse("xvdf1"), Some((DiskName::Letter(5), Some(1))));
        assert_eq!(parse("vdb15"), Some((DiskName::Letter(1), Some(15))));
        assert_eq!(parse("sdaa2"), Some((DiskName::Letter(26), Some(2))));
        assert_eq!(parse("nvme1n1p128"), Some((DiskName::Nvme(1), Some(128))));
        assert_eq!(parse("nvme0n1"), Some((DiskName::Nvme(0), None)));
        assert_eq!(parse("mmcblk0p2"), Some((DiskName::Mmc(0), Some(2))));
        for name in [
            "sd",
            "sda1x",
            "sdA1",
            "nvme0",
            "nvme0n2p1",
            "nvme0n1p",
            "mapper/vg-root",
            "md0",
            "sdabcd1",
            "sda99999999999",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
