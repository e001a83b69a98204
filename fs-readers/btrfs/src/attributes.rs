//! Extended attributes (On-disk format, "Extended attribute item"): one item for each hash of a name.

use stillframe_fs::{FsError, XATTR_BYTES_AT_MOST, XATTRS_AT_MOST, Xattr};

use crate::node::{Key, XATTR_ITEM};
use crate::store::Store;
use crate::to_u64;
use crate::view::View;

/// Location, transaction, length of data, length of name, type.
const HEAD_BYTES: usize = 30;

/// All attributes of an inode. Names and values are on the disk as `getxattr(2)` gives them.
pub(crate) fn read(store: &Store, view: View<'_>, inode: u64) -> Result<Vec<Xattr>, FsError> {
    let mut items = view.seek(store, Key::new(inode, XATTR_ITEM, 0))?;
    let mut attributes = Vec::new();
    let mut held_bytes = 0_usize;
    while let Some((key, item)) = items.item() {
        if (key.object, key.kind) != (inode, XATTR_ITEM) {
            break;
        }
        let mut at = 0_usize;
        while at < item.len() {
            let entry = item.rest("extended attribute", at)?;
            let (value_len, name_len) = (usize::from(entry.u16_le(25)?), usize::from(entry.u16_le(27)?));
            let name = entry.slice(HEAD_BYTES, name_len)?.to_vec();
            let value_at = HEAD_BYTES.saturating_add(name_len);
            let value = entry.slice(value_at, value_len)?.to_vec();
            if name.is_empty() || name.contains(&0) {
                return Err(entry.fault("extended attribute name", HEAD_BYTES, "a name", "none").into());
            }
            at = at.saturating_add(value_at).saturating_add(value_len);
            held_bytes = held_bytes.saturating_add(value.len());
            attributes.push(Xattr { name, value });
            if attributes.len() > XATTRS_AT_MOST {
                return Err(FsError::Limit { what: "extended attributes", cap: to_u64(XATTRS_AT_MOST) });
            }
            if held_bytes > XATTR_BYTES_AT_MOST {
                let what = "bytes of extended attributes";
                return Err(FsError::Limit { what, cap: to_u64(XATTR_BYTES_AT_MOST) });
            }
        }
        items.advance()?;
    }
    Ok(attributes)
}
