//! What is changed in a mutant.

use stillframe_block::BlockSource;
use stillframe_probe::FsKind;

use crate::covers::Depth;
use crate::dice::Dice;
use crate::disk::{Mutant, bytes_at};
use crate::golden::{Golden, Volume};

const PAGE_BYTES: u64 = 4096;
const BLOCKS: [u64; 5] = [512, 1024, 4096, 4096, 16384];

/// Makes one change: of a field mostly, of a whole block in one of six.
pub(crate) fn change(golden: &Golden, mutant: &mut Mutant, dice: &mut Dice, depth: Depth) {
    match dice.below(12) {
        0 => copy_block(golden, mutant, dice, depth),
        1 => clear_block(golden, mutant, dice, depth),
        2 | 3 => point_elsewhere(golden, mutant, dice, depth),
        4 => copy_field(golden, mutant, dice, depth),
        _ => change_field(golden, mutant, dice, depth),
    }
}

/// A place that is written: in what has a checksum, near the start, or anywhere; `align` bytes aligned.
fn place(golden: &Golden, dice: &mut Dice, align: u64) -> u64 {
    let at = match dice.below(4) {
        0 | 1 if !golden.metadata.is_empty() => {
            let range = dice.one_of(&golden.metadata);
            range.start + dice.below((range.end - range.start) as usize) as u64
        }
        2 => golden.pages[dice.below(golden.pages.len().min(64))] + dice.below(PAGE_BYTES as usize) as u64,
        _ => *dice.one_of(&golden.pages) + dice.below(PAGE_BYTES as usize) as u64,
    };
    let last = golden.disk.len_bytes() - align.max(8);
    (at - at % align).min(last - last % align)
}

fn write(golden: &Golden, mutant: &mut Mutant, at: u64, bytes: &[u8], depth: Depth) {
    let is_on_ntfs = |volume: &Volume| volume.kind == FsKind::Ntfs && volume.range.contains(&at);
    let touches_fixup = at % 512 + bytes.len() as u64 > 510 && bytes.len() < 512;
    // The last two bytes of a sector are the sequence number of NTFS's records: a reader stops there.
    if depth == Depth::None || !touches_fixup || !golden.volumes.iter().any(is_on_ntfs) {
        golden.covers.write(mutant, at, bytes, depth);
    }
}

fn change_field(golden: &Golden, mutant: &mut Mutant, dice: &mut Dice, depth: Depth) {
    let width = 1 << dice.below(4);
    let at = place(golden, dice, width as u64);
    let old = bytes_at(mutant, at, 8);
    let old = u64::from_le_bytes(old.try_into().expect("eight bytes"));
    let new = match dice.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old.swap_bytes(),
        5 | 6 => old ^ (1 << dice.below(8 * width)),
        _ => dice.roll(),
    };
    write(golden, mutant, at, &new.to_le_bytes()[..width], depth);
}

/// A field of 4 or 8 bytes becomes the number of some block of its volume, in blocks of a usual size or in bytes.
fn point_elsewhere(golden: &Golden, mutant: &mut Mutant, dice: &mut Dice, depth: Depth) {
    let width = *dice.one_of(&[4_usize, 8]);
    let at = place(golden, dice, 4);
    let target = *dice.one_of(&golden.pages);
    let volume = golden.volumes.iter().find(|volume| volume.holds(target));
    let within = target - volume.map_or(0, |volume| volume.range.start.min(target));
    let number = within / dice.one_of(&[1, 512, 1024, 4096]);
    let bytes = if dice.below(2) == 0 {
        number.to_le_bytes()[..width].to_vec()
    } else {
        number.to_be_bytes()[8 - width..].to_vec()
    };
    write(golden, mutant, at, &bytes, depth);
}

/// A field takes the value of another of the metadata: a pointer becomes another pointer.
fn copy_field(golden: &Golden, mutant: &mut Mutant, dice: &mut Dice, depth: Depth) {
    let width = *dice.one_of(&[1, 2, 4, 8, 16, 32]);
    let (from, to) = (place(golden, dice, width), place(golden, dice, width));
    let bytes = bytes_at(mutant, from, width);
    write(golden, mutant, to, &bytes, depth);
}

fn copy_block(golden: &Golden, mutant: &mut Mutant, dice: &mut Dice, depth: Depth) {
    let len = *dice.one_of(&BLOCKS);
    let (from, to) = (place(golden, dice, len), place(golden, dice, len));
    let bytes = bytes_at(mutant, from, len);
    write(golden, mutant, to, &bytes, depth);
}

fn clear_block(golden: &Golden, mutant: &mut Mutant, dice: &mut Dice, depth: Depth) {
    let len = *dice.one_of(&BLOCKS);
    let at = place(golden, dice, len);
    write(golden, mutant, at, &vec![0; len as usize], depth);
}
