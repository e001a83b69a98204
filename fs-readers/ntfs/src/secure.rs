//! $Secure: the security descriptors that files share.
//!
//! A file's $STANDARD_INFORMATION has a security id. The index $SII says where in the stream $SDS the descriptor of an id
//! lies; $SDS has each block of 256 KiB of descriptors twice, one behind the other. libyal's libfsntfs documentation,
//! "The secure metadata file", describes both. A file without an id has a $SECURITY_DESCRIPTOR attribute of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use stillframe_bytes::{Fault, Structure};
use stillframe_fs::{FileContent, FsError, Owners, read_full};

use crate::attribute::Kind;
use crate::content::{self, read_stream};
use crate::descriptor;
use crate::index::{IndexRecords, NODE_HEADER_AT};
use crate::record::{FileRecord, Scope, UNNAMED};
use crate::volume::Volume;

const SECURE_FILE: u64 = 9;
const SECURITY_IDS: &[u8] = b"$\0S\0I\0I\0";
const DESCRIPTORS: &[u8] = b"$\0S\0D\0S\0";
/// How far behind a descriptor its copy lies, which is how long a block of them is.
const MIRROR_BYTES: u64 = 256 << 10;
/// Before each descriptor: its hash, its id, its offset in $SDS, and its length with these.
const HEADER_LEN: usize = 20;
const HEADER_BYTES: u64 = 20;
/// The largest descriptor that Windows writes, in bytes: two access control lists of 64 KiB among it.
const DESCRIPTOR_CAP_BYTES: u64 = MIRROR_BYTES;
/// No tree of 32-bit keys is deeper, even with two entries in a node.
const DEPTH_AT_MOST: usize = 32;
/// How many ids are remembered. A volume has some thousands.
const KNOWN_AT_MOST: usize = 4096;

const HAS_CHILD: u8 = 0x1;
const LAST_ENTRY: u8 = 0x2;

/// What is known of $Secure so far.
#[derive(Default)]
pub(crate) struct Secure {
    record: OnceLock<FileRecord>,
    known: Mutex<BTreeMap<u32, Owners>>,
}

/// Where $SDS has a descriptor, as $SII says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    hash: u32,
    id: u32,
    offset: u64,
    len: u32,
}

impl Place {
    /// The 20 bytes that $SII has as an entry's data and $SDS before the descriptor.
    fn of(header: &Structure<'_>) -> Result<Self, Fault> {
        Ok(Self {
            hash: header.u32_le(0)?,
            id: header.u32_le(4)?,
            offset: header.u64_le(8)?,
            len: header.u32_le(16)?,
        })
    }
}

impl Secure {
    /// Who owns `file`, whose record was loaded whole and has this security id (0: none).
    ///
    /// # Errors
    /// Where there is no descriptor of this id, or it and its copy are damaged.
    pub(crate) fn owners(
        &self,
        volume: &Volume,
        file: &FileRecord,
        security_id: u32,
    ) -> Result<Option<Owners>, FsError> {
        if security_id != 0 {
            return self.by_id(volume, security_id).map(Some);
        }
        let own = file.stream(volume, Kind::SECURITY_DESCRIPTOR, UNNAMED)?;
        let Some(own) = own else { return Ok(None) };
        if own.size > DESCRIPTOR_CAP_BYTES {
            return Err(Fault::new("$SECURITY_DESCRIPTOR", own.at, DESCRIPTOR_CAP_BYTES, own.size).into());
        }
        let at = own.at;
        let bytes = read_stream(volume, own)?;
        Ok(Some(descriptor::owners(&Structure::new("security descriptor", at, &bytes))?))
    }

    fn by_id(&self, volume: &Volume, id: u32) -> Result<Owners, FsError> {
        if let Some(owners) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(owners.clone());
        }
        let record = match self.record.get() {
            Some(record) => record,
            None => {
                let record = FileRecord::load(volume, SECURE_FILE, Scope::Whole)?;
                self.record.get_or_init(|| record)
            }
        };
        let place = place(volume, record, id)?;
        let owners = shared(volume, record, place)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_AT_MOST {
            known.clear();
        }
        known.insert(id, owners.clone());
        Ok(owners)
    }
}

/// Finds `id` in $SII, from the root of the tree down.
fn place(volume: &Volume, secure: &FileRecord, id: u32) -> Result<Place, FsError> {
    let missing = Fault::new("$Secure", secure.at, "an index $SII", "none");
    let root = secure.first(Kind::INDEX_ROOT, SECURITY_IDS).ok_or(missing)?;
    let root = root.resident().ok_or(missing)?;
    let unknown = Fault::new("security id", secure.at, "in the index $SII", id);
    let mut child = match search(&root, 0x10, id)? {
        Found::Place(place) => return Ok(place),
        Found::Nothing => return Err(unknown.into()),
        Found::Child(child) => child,
    };
    let mut nodes = IndexRecords::open(volume, secure, SECURITY_IDS, &root)?;
    for _ in 0..DEPTH_AT_MOST {
        let number = nodes.number_of(child)?;
        child = match search(&nodes.read(number)?, NODE_HEADER_AT, id)? {
            Found::Place(place) => return Ok(place),
            Found::Nothing => return Err(unknown.into()),
            Found::Child(child) => child,
        };
    }
    Err(Fault::new("$SII depth", secure.at, DEPTH_AT_MOST, "more").into())
}

enum Found {
    Place(Place),
    /// The VCN of the node where it may be.
    Child(u64),
    Nothing,
}

/// Looks for `id` among the entries of the node whose header is at `header_at`: they are in the order of their ids, and
/// before an entry come those of its child.
fn search(node: &Structure<'_>, header_at: usize, id: u32) -> Result<Found, Fault> {
    let header = node.rest("index node", header_at)?;
    let len = usize::try_from(header.u32_le(0x04)?).unwrap_or(usize::MAX);
    let header = node.part("index node", header_at, len)?;
    let mut offset = usize::try_from(header.u32_le(0x00)?).unwrap_or(usize::MAX);
    loop {
        let len = usize::from(header.rest("index entry", offset)?.u16_le(0x08)?).max(0x10);
        let entry = header.part("index entry", offset, len)?;
        let flags = entry.u8(0x0C)?;
        let is_last = flags & LAST_ENTRY != 0;
        let key = if is_last { None } else { Some(entry.u32_le(0x10)?) };
        if key == Some(id) {
            let data = entry.part(
                "$SII entry",
                usize::from(entry.u16_le(0x00)?),
                usize::from(entry.u16_le(0x02)?),
            )?;
            let place = Place::of(&data)?;
            return if place.id == id {
                Ok(Found::Place(place))
            } else {
                Err(data.fault("$SII security id", 4, id, place.id))
            };
        }
        if key.is_none_or(|key| key > id) {
            return if flags & HAS_CHILD == 0 {
                Ok(Found::Nothing)
            } else {
                Ok(Found::Child(entry.u64_le(len.saturating_sub(8))?))
            };
        }
        offset = offset.saturating_add(len);
    }
}

/// Reads the descriptor at `place`, or where that one is damaged its copy.
fn shared(volume: &Volume, secure: &FileRecord, place: Place) -> Result<Owners, FsError> {
    let missing = Fault::new("$Secure", secure.at, "a stream $SDS", "none");
    let stream = secure.stream(volume, Kind::DATA, DESCRIPTORS)?.ok_or(missing)?;
    let at = stream.at;
    let len_bytes = u64::from(place.len);
    if !(HEADER_BYTES..=DESCRIPTOR_CAP_BYTES).contains(&len_bytes) {
        return Err(Fault::new("$SDS entry length", at, DESCRIPTOR_CAP_BYTES, len_bytes).into());
    }
    let mut descriptors = content::open(volume, stream)?;
    let first = read_shared(&mut descriptors, at, place, place.offset);
    match first {
        Err(FsError::Corrupt(fault)) => {
            let mirror = place.offset.checked_add(MIRROR_BYTES).ok_or(fault)?;
            // Of two that are damaged the first is told.
            read_shared(&mut descriptors, at, place, mirror).map_err(|error| match error {
                FsError::Corrupt(_) => fault.into(),
                other => other,
            })
        }
        other => other,
    }
}

fn read_shared(
    descriptors: &mut content::Content<'_>,
    stream_at: u64,
    place: Place,
    offset: u64,
) -> Result<Owners, FsError> {
    let len_bytes = u64::from(place.len);
    let available = descriptors.len_bytes().saturating_sub(offset);
    if len_bytes > available {
        return Err(Fault::new("$SDS entry", stream_at, len_bytes, available).into());
    }
    let mut bytes = vec![0; usize::try_from(len_bytes).unwrap_or(0)];
    read_full(descriptors, offset, &mut bytes)?;
    let at = descriptors.position(offset).unwrap_or(stream_at);
    let entry = Structure::new("$SDS entry", at, &bytes);
    if Place::of(&entry)? != place {
        return Err(entry.fault("$SDS entry", 0, "as the index $SII says", "another").into());
    }
    let found = hash(entry.slice(HEADER_LEN, bytes.len().saturating_sub(HEADER_LEN))?);
    if found != place.hash {
        let hex = |hash| stillframe_bytes::Quantity::Hex(u64::from(hash));
        return Err(entry.fault("security descriptor hash", 0, hex(place.hash), hex(found)).into());
    }
    Ok(descriptor::owners(&entry.rest("security descriptor", HEADER_LEN)?)?)
}

/// Each 32-bit word is added to what came before, turned left by three bits.
fn hash(descriptor: &[u8]) -> u32 {
    let words = descriptor.chunks_exact(4).filter_map(|word| word.first_chunk::<4>());
    words.fold(0, |hash: u32, word| hash.rotate_left(3).wrapping_add(u32::from_le_bytes(*word)))
}
