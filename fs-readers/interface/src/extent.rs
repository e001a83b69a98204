use std::ops::Range;

use stillframe_block::BlockSource;

/// A range of bytes of one of the devices that a filesystem lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// The device, in the order in which they were given to the reader; 0 where there is one.
    pub device: u32,
    /// Where it begins, in bytes from the device's start.
    pub start_bytes: u64,
    /// Where it ends, in bytes from the device's start: the first byte behind it.
    pub end_bytes: u64,
}

impl Extent {
    /// A range of the only device.
    #[must_use]
    pub const fn new(range: Range<u64>) -> Self {
        Self::on(0, range)
    }

    /// A range of the device with this number.
    #[must_use]
    pub const fn on(device: u32, range: Range<u64>) -> Self {
        Self { device, start_bytes: range.start, end_bytes: range.end }
    }

    /// The bytes.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.start_bytes..self.end_bytes
    }

    /// The length in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.end_bytes.saturating_sub(self.start_bytes)
    }

    /// Whether it is no byte long.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len_bytes() == 0
    }
}

/// The extents of many files in the order in which a disk is read, each byte once.
#[must_use]
pub fn in_reading_order(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.retain(|extent| !extent.is_empty());
    extents.sort_unstable();
    extents.dedup_by(|next, last| {
        let is_joined = next.device == last.device && next.start_bytes <= last.end_bytes;
        if is_joined {
            last.end_bytes = last.end_bytes.max(next.end_bytes);
        }
        is_joined
    });
    extents
}

/// Gives `extents` to the sources that they lie on, in one call each: what most readers do for
/// [`crate::ReadOnlyFs::prefetch`].
pub fn prefetch_on<S: BlockSource>(devices: &[S], extents: &[Extent]) {
    for (number, device) in (0_u32..).zip(devices).filter(|(_, device)| device.wants_hints()) {
        let of_device = extents.iter().filter(|extent| extent.device == number);
        let ranges: Vec<Range<u64>> = of_device.map(Extent::range).collect();
        if !ranges.is_empty() {
            device.prefetch(&ranges);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_read_in_the_order_of_the_disk_and_once() {
        let extents = [40..50, 0..10, 5..20, 60..60, 20..30].map(Extent::new).to_vec();
        let ordered = in_reading_order([extents, vec![Extent::on(1, 0..5)]].concat());
        assert_eq!(ordered, [Extent::new(0..30), Extent::new(40..50), Extent::on(1, 0..5)]);
    }
}
