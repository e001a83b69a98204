//! The names that a kernel gives to disks, and which disks they were.
//!
//! `/dev/sdb1` says nothing certain of an image: the kernel counts disks as its drivers find them. So a name is bound to a
//! disk by what is certain first: the line of the root, which we know, and the name under which the cloud attached the
//! disk. Then comes what fits: the only disk on which all partitions that are asked for are there and hold what the lines
//! say, and the order in which the disks were given. Unless names and disks are in the same order from one that is
//! certain, that is a guess, and told as one.

use std::collections::{BTreeMap, BTreeSet};

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
    /// `sda` is 0, `sdb` is 1, `sdaa` is 26.
    Sd(u32),
    /// `xvda` is 0.
    Xvd(u32),
    /// `vda` is 0.
    Vd(u32),
    /// `hda` is 0.
    Hd(u32),
    /// `nvme0n1` is 0, `nvme1n1` is 1.
    Nvme(u32),
    /// `mmcblk0` is 0.
    Mmc(u32),
}

impl DiskName {
    /// Its place among the disks that the driver found.
    const fn place(self) -> u32 {
        match self {
            Self::Sd(place)
            | Self::Xvd(place)
            | Self::Vd(place)
            | Self::Hd(place)
            | Self::Nvme(place)
            | Self::Mmc(place) => place,
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
        type Make = fn(u32) -> DiskName;
        const DRIVERS: [(&str, Make); 4] =
            [("xvd", DiskName::Xvd), ("sd", DiskName::Sd), ("vd", DiskName::Vd), ("hd", DiskName::Hd)];
        let (make, rest) =
            DRIVERS.iter().find_map(|(prefix, make)| Some((make, name.strip_prefix(prefix)?)))?;
        let digits = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let (letters, digits) = rest.split_at_checked(digits)?;
        let partition = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
        Some(Self { disk: make(place_of(letters)?), partition })
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

/// Which disk each name was, by the number of the disk.
#[derive(Default)]
pub(super) struct Bound {
    disks: BTreeMap<DiskName, usize>,
    /// Those of which only what fits, or the order of the disks, says which they were.
    guessed: BTreeSet<DiskName>,
    root: usize,
}

/// Filesystems by disk and partition.
type ByPlace<'a> = BTreeMap<(usize, Option<u32>), (usize, &'a Opened<'a>)>;

impl Bound {
    /// Binds the names in `lines` of the system whose root is `opened[root]`.
    pub(super) fn of(lines: &[Line], opened: &[Opened<'_>], root: usize) -> Self {
        let mut bound = Self { root, ..Self::default() };
        let mut wanted: BTreeMap<DiskName, Vec<(&Line, Option<u32>)>> = BTreeMap::new();
        for line in lines {
            if let By::Device(name) = &line.by {
                wanted.entry(name.disk).or_default().push((line, name.partition));
            }
        }
        if wanted.is_empty() {
            return bound;
        }
        bound.bind_root(&wanted, opened.get(root));
        bound.bind_attached(&wanted, opened);
        let places: ByPlace<'_> =
            opened.iter().enumerate().map(|(index, one)| ((one.disk, one.partition), (index, one))).collect();
        let mut disks: Vec<usize> = opened.iter().map(|one| one.disk).collect();
        disks.sort_unstable();
        disks.dedup();
        // Each name that is bound leaves fewer disks for the others.
        loop {
            let before = bound.disks.len();
            for (name, lines) in &wanted {
                if let &[disk] = bound.fitting(*name, lines, &disks, &places).as_slice() {
                    bound.guess(*name, disk);
                }
            }
            if bound.disks.len() == before {
                break;
            }
        }
        for (name, lines) in &wanted {
            let place = usize::try_from(name.place()).unwrap_or(usize::MAX);
            if bound.fitting(*name, lines, &disks, &places).contains(&place) {
                bound.guess(*name, place);
            }
        }
        bound
    }

    /// The line of the root says what its disk is called.
    fn bind_root(
        &mut self,
        wanted: &BTreeMap<DiskName, Vec<(&Line, Option<u32>)>>,
        own: Option<&Opened<'_>>,
    ) {
        for (name, lines) in wanted {
            let is_root = |(line, partition): &(&Line, Option<u32>)| {
                line.at.is_empty() && own.is_some_and(|own| own.partition == *partition)
            };
            if let Some(own) = own.filter(|_| lines.iter().any(is_root)) {
                self.disks.insert(*name, own.disk);
            }
        }
    }

    /// A cloud says under which name it attached a disk: `/dev/sdf`, which the kernel may call `xvdf`.
    fn bind_attached(
        &mut self,
        wanted: &BTreeMap<DiskName, Vec<(&Line, Option<u32>)>>,
        opened: &[Opened<'_>],
    ) {
        for name in wanted.keys() {
            let is_it = |one: &&Opened<'_>| {
                let device = one.device.and_then(|device| DeviceName::parse(device.strip_prefix("/dev/")?));
                match (device.map(|device| device.disk), *name) {
                    (
                        Some(DiskName::Sd(attached) | DiskName::Xvd(attached)),
                        DiskName::Sd(called) | DiskName::Xvd(called),
                    ) => attached == called,
                    (Some(attached), called) => attached == called,
                    (None, _) => false,
                }
            };
            if let Some(one) = opened.iter().find(is_it).filter(|one| !self.is_taken(one.disk)) {
                self.disks.entry(*name).or_insert(one.disk);
            }
        }
    }

    fn is_taken(&self, disk: usize) -> bool {
        self.disks.values().any(|taken| *taken == disk)
    }

    /// Binds a name by what fits. That is no guess where the same driver counted another disk that is known for certain, and
    /// the disks lie as far apart as the names.
    fn guess(&mut self, name: DiskName, disk: usize) {
        let place = |name: DiskName| i64::from(name.place());
        let number = |disk: usize| i64::try_from(disk).unwrap_or(i64::MAX);
        let agrees = |(known, known_disk): (&DiskName, &usize)| {
            !self.guessed.contains(known)
                && std::mem::discriminant(known) == std::mem::discriminant(&name)
                && place(name).saturating_sub(place(*known))
                    == number(disk).saturating_sub(number(*known_disk))
        };
        if !self.disks.iter().any(agrees) {
            self.guessed.insert(name);
        }
        self.disks.insert(name, disk);
    }

    /// The disks that are not bound yet and have everything that the lines want of the disk called `name`. The root is
    /// mounted by its own line, and by no other.
    fn fitting(
        &self,
        name: DiskName,
        lines: &[(&Line, Option<u32>)],
        disks: &[usize],
        places: &ByPlace<'_>,
    ) -> Vec<usize> {
        if self.disks.contains_key(&name) {
            return Vec::new();
        }
        let has = |disk: usize, line: &Line, partition: Option<u32>| {
            let there = places.get(&(disk, partition));
            there.is_some_and(|(index, one)| {
                is_kind(one, &line.kind) && (*index == self.root) == line.at.is_empty()
            })
        };
        let fits = |disk: &&usize| {
            !self.is_taken(**disk) && lines.iter().all(|(line, partition)| has(**disk, line, *partition))
        };
        disks.iter().filter(fits).copied().collect()
    }

    /// The filesystem that a line means by `name`, and whether that is a guess.
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
        assert_eq!(parse("sda"), Some((DiskName::Sd(0), None)));
        assert_eq!(parse("xvdf1"), Some((DiskName::Xvd(5), Some(1))));
        assert_eq!(parse("vdb15"), Some((DiskName::Vd(1), Some(15))));
        assert_eq!(parse("sdaa2"), Some((DiskName::Sd(26), Some(2))));
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
