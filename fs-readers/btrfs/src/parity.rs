//! What RAID5 and RAID6 make of the other units of a row (H. P. Anvin, "The mathematics of RAID-6"): P is the sum of the
//! data units, Q the sum of the units times 2 to the power of their number, in the field of 256 elements with the
//! polynomial 0x11d.

use stillframe_fs::FsError;

use crate::chunks::{Row, Spot};
use crate::devices::Devices;

/// Makes the wanted unit's bytes of the others, read at the same place of each.
///
/// # Errors
/// What a device fails with; [`FsError::NotFound`] where too many units are lost.
pub(crate) fn rebuild(devices: &Devices, row: &Row, buffer: &mut [u8]) -> Result<(), FsError> {
    let data = row.units.len().saturating_sub(row.parities);
    let unit = |number: usize| row.units.get(number).copied().flatten();
    let mut others = (0..data).filter(|number| *number != row.wanted && unit(*number).is_none());
    let (p, q) = (unit(data), if row.parities > 1 { unit(data.saturating_add(1)) } else { None });
    match (others.next(), others.next(), p, q) {
        (None, _, Some(p), _) => by_p(devices, row, p, buffer),
        (None, _, None, Some(q)) => by_q(devices, row, q, buffer),
        (Some(other), None, Some(p), Some(q)) => by_both(devices, row, other, (p, q), buffer),
        _ => Err(FsError::NotFound),
    }
}

fn by_p(devices: &Devices, row: &Row, p: Spot, buffer: &mut [u8]) -> Result<(), FsError> {
    devices.read(p.index, p.offset, buffer)?;
    each_data_unit(devices, row, buffer.len(), |_, bytes| add(buffer, bytes))
}

fn by_q(devices: &Devices, row: &Row, q: Spot, buffer: &mut [u8]) -> Result<(), FsError> {
    devices.read(q.index, q.offset, buffer)?;
    each_data_unit(devices, row, buffer.len(), |number, bytes| add_times(buffer, bytes, power(number)))?;
    let factor = inverse(power(row.wanted));
    multiply(buffer, factor);
    Ok(())
}

/// With x the wanted and y the other lost unit: x + y = P', 2^i·x + 2^j·y = Q', so x = (Q' + 2^j·P') / (2^i + 2^j).
fn by_both(
    devices: &Devices,
    row: &Row,
    other: usize,
    (p, q): (Spot, Spot),
    buffer: &mut [u8],
) -> Result<(), FsError> {
    let mut sum = vec![0; buffer.len()];
    devices.read(p.index, p.offset, &mut sum)?;
    devices.read(q.index, q.offset, buffer)?;
    each_data_unit(devices, row, buffer.len(), |number, bytes| {
        add(&mut sum, bytes);
        add_times(buffer, bytes, power(number));
    })?;
    add_times(buffer, &sum, power(other));
    let factor = inverse(power(row.wanted) ^ power(other));
    multiply(buffer, factor);
    Ok(())
}

/// Reads the data units that are not lost.
fn each_data_unit(
    devices: &Devices,
    row: &Row,
    len: usize,
    mut take: impl FnMut(usize, &[u8]),
) -> Result<(), FsError> {
    let data = row.units.len().saturating_sub(row.parities);
    let mut bytes = vec![0; len];
    for (number, spot) in row.units.iter().take(data).enumerate() {
        if let Some(spot) = spot.filter(|_| number != row.wanted) {
            devices.read(spot.index, spot.offset, &mut bytes)?;
            take(number, &bytes);
        }
    }
    Ok(())
}

fn add(sum: &mut [u8], bytes: &[u8]) {
    for (sum, byte) in sum.iter_mut().zip(bytes) {
        *sum ^= byte;
    }
}

fn add_times(sum: &mut [u8], bytes: &[u8], factor: u8) {
    let multiples = multiples(factor);
    for (sum, byte) in sum.iter_mut().zip(bytes) {
        *sum ^= multiple(&multiples, *byte);
    }
}

fn multiply(bytes: &mut [u8], factor: u8) {
    let multiples = multiples(factor);
    for byte in bytes {
        *byte = multiple(&multiples, *byte);
    }
}

/// The products of `factor` with all elements. A product is the sum of those with the bits of the other number.
fn multiples(factor: u8) -> [u8; 256] {
    let mut multiples = [0; 256];
    for bit in 0..8_u8 {
        let of_bit = times(factor, 1 << bit);
        let (smaller, larger) = multiples.split_at_mut(1 << bit);
        for (larger, smaller) in larger.iter_mut().zip(smaller) {
            *larger = *smaller ^ of_bit;
        }
    }
    multiples
}

fn multiple(multiples: &[u8; 256], byte: u8) -> u8 {
    multiples.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The product in the field.
fn times(one: u8, other: u8) -> u8 {
    let (mut product, mut shifted) = (0, one);
    for bit in 0..8_u8 {
        if other & (1 << bit) != 0 {
            product ^= shifted;
        }
        let carry = if shifted & 0x80 == 0 { 0 } else { 0x1d };
        shifted = (shifted << 1) ^ carry;
    }
    product
}

/// `number` to the power of `exponent`, by squares.
fn raised(number: u8, exponent: u8) -> u8 {
    (0..8_u8).rev().fold(1, |power, bit| {
        let square = times(power, power);
        if exponent & (1 << bit) == 0 { square } else { times(square, number) }
    })
}

/// 2 to the power of `exponent`. Powers repeat after 255.
fn power(exponent: usize) -> u8 {
    raised(2, exponent.checked_rem(255).and_then(|rest| u8::try_from(rest).ok()).unwrap_or(0))
}

/// What `number` must be multiplied with to give 1: its 254th power. Of 0 it is 0.
fn inverse(number: u8) -> u8 {
    raised(number, 254)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_that_of_raid6() {
        assert_eq!(times(0x80, 2), 0x1d);
        assert_eq!((power(0), power(1), power(8), power(255)), (1, 2, 0x1d, 1));
        for number in 1..=255 {
            assert_eq!(times(number, inverse(number)), 1);
        }
        for factor in [0, 1, 2, 0x1d, 0xff] {
            let mut bytes: Vec<u8> = (0..=255).collect();
            multiply(&mut bytes, factor);
            assert!((0..=255).zip(bytes).all(|(byte, product)| product == times(byte, factor)), "{factor}");
        }
    }
}
