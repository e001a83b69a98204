//! The frames in which btrfs keeps LZO1X streams: a total length, then for each sector of content a length and a stream. A
//! length field never crosses a sector's end; zeros fill up to it.

const LENGTH_BYTES: usize = 4;

/// Decompresses a whole extent. `None` where it is damaged or longer than `most_bytes`.
pub(crate) fn decompress_extent(data: &[u8], sector_bytes: usize, most_bytes: usize) -> Option<Vec<u8>> {
    let total = length_at(data, 0).filter(|total| *total > LENGTH_BYTES)?;
    let data = data.get(..total)?;
    let mut content = Vec::new();
    let mut at = LENGTH_BYTES;
    while at < total && content.len() < most_bytes {
        let left = sector_bytes.checked_sub(at.checked_rem(sector_bytes)?)?;
        if left < LENGTH_BYTES {
            at = at.checked_add(left)?;
            if at >= total {
                break;
            }
        }
        let len = length_at(data, at)?;
        at = at.checked_add(LENGTH_BYTES)?;
        let stream = data.get(at..)?.get(..len)?;
        at = at.checked_add(len)?;
        let end = content.len().checked_add(sector_bytes)?;
        stillframe_lzo::decompress(stream, end, &mut content)?;
    }
    (content.len() <= most_bytes).then_some(content)
}

fn length_at(data: &[u8], at: usize) -> Option<usize> {
    let field = data.get(at..)?.first_chunk::<LENGTH_BYTES>()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_never_crosses_a_sector() {
        // Sectors of 32 bytes: a stream that ends 3 bytes before one leaves zeros, whether another follows or not.
        let mut extent = vec![0; 4];
        let stream = |literals: u8| {
            let mut stream = vec![literals + 17];
            stream.extend((0..literals).map(|literal| b'a' + literal));
            stream.extend_from_slice(b"\x11\0\0");
            stream
        };
        for literals in [17, 24] {
            let stream = stream(literals);
            extent.extend_from_slice(&u32::try_from(stream.len()).unwrap().to_le_bytes());
            extent.extend_from_slice(&stream);
            extent.resize(extent.len().next_multiple_of(32), 0);
            let total = u32::try_from(extent.len()).unwrap();
            extent[..4].copy_from_slice(&total.to_le_bytes());
        }
        assert_eq!(extent.len(), 64);
        let content = decompress_extent(&extent, 32, 64).unwrap();
        assert_eq!(content, b"abcdefghijklmnopqabcdefghijklmnopqrstuvwx");
    }

    #[test]
    fn damage_is_no_content() {
        assert_eq!(decompress_extent(&[0; 8], 4096, 4096), None);
        assert_eq!(decompress_extent(&[255; 8], 4096, 4096), None);
    }
}
