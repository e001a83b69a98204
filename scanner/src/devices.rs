//! Filesystems that lie on several devices: their volumes are put together before one is opened.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stillframe_model::{Coverage, CoverageKind, Label};

use crate::layout::{Layout, Volume};

/// The most devices that are put together; a crafted disk has thousands of partitions.
const MAX_DEVICES: usize = 256;

/// Joins the volumes of `layout` that are devices of one filesystem: the one with the lowest number stays and has the
/// others, and their rows say so. What cannot say which filesystem it is of stays alone, and fails when it is opened.
pub(crate) fn join(layout: &mut Layout) {
    let mut groups: BTreeMap<[u8; 16], Vec<(u64, usize)>> = BTreeMap::new();
    for (index, volume) in layout.volumes.iter().enumerate() {
        let device =
            catch_unwind(AssertUnwindSafe(|| stillframe_readers::device(volume.kind, &*volume.source)));
        if let Ok(Ok(Some(device))) = device
            && device.devices > 1
        {
            groups.entry(device.filesystem).or_default().push((device.number, index));
        }
    }
    groups.retain(|_, devices| devices.len() > 1);
    let mut first_of: BTreeMap<usize, usize> = BTreeMap::new();
    for devices in groups.values_mut() {
        devices.sort_unstable();
        devices.truncate(MAX_DEVICES);
        if let Some(((_, first), others)) = devices.split_first() {
            first_of.extend(others.iter().map(|(_, other)| (*other, *first)));
        }
    }
    if first_of.is_empty() {
        return;
    }
    let volumes: Vec<Volume> = std::mem::take(&mut layout.volumes);
    let mut others: BTreeMap<usize, Vec<Volume>> = BTreeMap::new();
    let mut kept: Vec<(usize, Volume)> = Vec::new();
    for (index, volume) in volumes.into_iter().enumerate() {
        match first_of.get(&index) {
            Some(first) => others.entry(*first).or_default().push(volume),
            None => kept.push((index, volume)),
        }
    }
    for (index, mut volume) in kept {
        for other in others.remove(&index).unwrap_or_default() {
            tell(
                &mut layout.coverage,
                &other.name,
                "a device of a filesystem that is read with its first device",
            );
            volume.more.push(other.source);
        }
        layout.volumes.push(volume);
    }
}

fn tell(coverage: &mut [Coverage], name: &str, note: &'static str) {
    let is_it = |row: &&mut Coverage| {
        matches!(row.kind, CoverageKind::Partition | CoverageKind::Disk) && row.name.as_str() == name
    };
    coverage.iter_mut().filter(is_it).for_each(|row| row.notes.push(Label::new(note)));
}
