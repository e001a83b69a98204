//! Which blocks were written, and the tokens that they are read with.
//!
//! The volume is cut into chunks of 10,000 blocks, which is the largest page: in a volume that is written all over, a page
//! that begins where a chunk does is that chunk. A chunk is listed when it is first asked about; a page of a sparse volume
//! settles many chunks at once. What is kept of a chunk for good is one bit a block (4 MiB for 16 TiB). Its tokens, some
//! hundred bytes each, are kept while they are in use, and listed again when they are needed again: 33 million of them
//! would be gigabytes. They also expire.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Mutex as AsyncMutex;

use super::SourceError;
use crate::api::BlockPage;

/// Blocks of a chunk, and of the largest page.
pub(super) const CHUNK_BLOCKS: u32 = 10_000;
/// Chunks that may be listed at once.
const LISTING_LOCKS: u32 = 16;
/// A list that brings so many empty pages in a row has no end.
const EMPTY_PAGES_AT_MOST: u32 = 1_000;

/// What is known of all blocks.
pub(super) struct Index {
    len_blocks: u32,
    known: Arc<Mutex<Known>>,
    /// Held while a chunk is listed, so that all who want it wait for one list.
    listing: [AsyncMutex<()>; LISTING_LOCKS as usize],
}

struct Known {
    chunks: Vec<Chunk>,
    pages: HashMap<u32, (Arc<TokenPage>, u64)>,
    page_bytes: u64,
    page_bytes_at_most: u64,
    pool: Arc<TokenPool>,
}

/// What the tokens of all of a scan's snapshots may take together. Volumes are read one after the other: those of one that
/// is done make room for the next.
#[derive(Debug)]
pub(super) struct TokenPool {
    bytes_at_most: u64,
    bytes: AtomicU64,
    /// Uses of any page so far: which one was used longest ago.
    uses: AtomicU64,
    members: Mutex<Vec<Weak<Mutex<Known>>>>,
}

impl TokenPool {
    pub(super) fn new(bytes_at_most: u64) -> Arc<Self> {
        let (bytes, uses) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { bytes_at_most, bytes, uses, members: Mutex::default() })
    }

    fn add(&self, member: Weak<Mutex<Known>>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(member);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.bytes_at_most
    }

    /// Drops the page that was used longest ago, of another snapshot than the one that asks, and before `own`. Whoever is
    /// asked at the same time is left alone: he who asks holds his own lock.
    fn drop_of_another(&self, own: Option<u64>) -> bool {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let others = members.iter().filter_map(Weak::upgrade);
        let oldest = others
            .filter_map(|other| {
                let (number, used) = other.try_lock().ok()?.oldest()?;
                Some((used, number, other))
            })
            .filter(|(used, ..)| own.is_none_or(|own| *used < own))
            .min_by_key(|(used, ..)| *used);
        let Some((_, number, other)) = oldest else { return false };
        let Ok(mut known) = other.try_lock() else { return false };
        known.drop_page(number)
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Chunk {
    Unlisted,
    Empty,
    /// One bit a block.
    Written(Box<[u64]>),
}

/// The tokens of one chunk.
pub(super) struct TokenPage {
    /// Blocks, counted from the chunk's first.
    blocks: Box<[u16]>,
    /// Where in `text` the token of each ends.
    ends: Box<[u32]>,
    text: Box<str>,
}

/// What is known without a call.
pub(super) enum NextWritten {
    Known(Option<Range<u32>>),
    /// This chunk must be listed first.
    Unlisted(u32),
}

/// Asks the cloud for a page: from this block, or with the token of the page before.
pub(super) trait ListPages {
    async fn page(&self, starting_block: u32, token: Option<String>) -> Result<BlockPage, SourceError>;
}

impl Index {
    pub(super) fn new(len_blocks: u32, page_bytes_at_most: u64, pool: &Arc<TokenPool>) -> Self {
        let chunks = usize::try_from(len_blocks.div_ceil(CHUNK_BLOCKS)).unwrap_or(0);
        let known = Known {
            chunks: vec![Chunk::Unlisted; chunks],
            pages: HashMap::new(),
            page_bytes: 0,
            page_bytes_at_most,
            pool: Arc::clone(pool),
        };
        let known = Arc::new(Mutex::new(known));
        pool.add(Arc::downgrade(&known));
        Self { len_blocks, known, listing: Default::default() }
    }

    /// The first run of written blocks at or after `block`, as far as chunks that are listed tell.
    pub(super) fn next_written(&self, block: u32) -> NextWritten {
        let known = self.lock();
        let mut at = block;
        while at < self.len_blocks {
            let number = at / CHUNK_BLOCKS;
            match known.chunk(number) {
                Chunk::Unlisted => return NextWritten::Unlisted(number),
                Chunk::Empty => {}
                Chunk::Written(bits) => {
                    if let Some(start) = next_bit(bits, at % CHUNK_BLOCKS, true) {
                        let first = self.start_of(number);
                        let end = next_bit(bits, start, false).unwrap_or(CHUNK_BLOCKS).min(CHUNK_BLOCKS);
                        let end = first.saturating_add(end).min(self.len_blocks);
                        return NextWritten::Known(Some(first.saturating_add(start)..end));
                    }
                }
            }
            at = self.end_of(number);
        }
        NextWritten::Known(None)
    }

    /// The token of `block` and the page that it is from; `None` where the block was never written.
    pub(super) async fn token(
        &self,
        block: u32,
        list: &impl ListPages,
    ) -> Result<Option<(String, Arc<TokenPage>)>, SourceError> {
        let number = block / CHUNK_BLOCKS;
        if let NextWritten::Known(run) = self.next_written(block)
            && run.is_none_or(|run| run.start != block)
        {
            return Ok(None);
        }
        let page = match self.page(number) {
            Some(page) => page,
            None => match self.list(number, list).await? {
                Some(page) => page,
                None => return Ok(None),
            },
        };
        let within = u16::try_from(block % CHUNK_BLOCKS).unwrap_or(u16::MAX);
        let token = page.token(within).map(str::to_owned);
        Ok(token.map(|token| (token, page)))
    }

    /// Lists the chunk unless its tokens are there; `None` where nothing of it was written.
    pub(super) async fn list(
        &self,
        number: u32,
        list: &impl ListPages,
    ) -> Result<Option<Arc<TokenPage>>, SourceError> {
        let [first, ..] = &self.listing;
        let lock = self.listing.get(usize::try_from(number % LISTING_LOCKS).unwrap_or(0)).unwrap_or(first);
        let _listing = lock.lock().await;
        // Another may have listed it while we waited.
        if let Some(page) = self.page(number) {
            return Ok(Some(page));
        }
        if matches!(self.lock().chunk(number), Chunk::Empty) {
            return Ok(None);
        }
        let start = self.start_of(number);
        let (listed, covered) = self.list_from(start, self.end_of(number), list).await?;
        self.absorb(number, listed, covered)
    }

    /// Takes a page that was asked for from the volume's first block.
    pub(super) fn absorb_first(&self, page: &BlockPage) -> Result<(), SourceError> {
        let mut listed = self.entries(page, 0)?;
        let covered = covered_by(page, &listed, self.len_blocks);
        listed.retain(|(block, _)| *block < covered);
        self.absorb(0, listed, covered).map(|_| ())
    }

    /// The token page turned out to be no longer valid.
    pub(super) fn forget(&self, block: u32, stale: &Arc<TokenPage>) {
        let number = block / CHUNK_BLOCKS;
        let mut known = self.lock();
        if known.pages.get(&number).is_some_and(|(page, _)| Arc::ptr_eq(page, stale)) {
            known.drop_page(number);
        }
    }

    /// Bytes that the tokens and bits take.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> u64 {
        let known = self.lock();
        let bits = |chunk: &Chunk| match chunk {
            Chunk::Written(bits) => u64::try_from(size_of_val(&**bits)).unwrap(),
            Chunk::Unlisted | Chunk::Empty => 0,
        };
        let chunks = u64::try_from(size_of_val(&*known.chunks)).unwrap();
        known.chunks.iter().map(bits).fold(chunks.saturating_add(known.page_bytes), u64::saturating_add)
    }

    /// Everything written from `start` on, at least up to `end`, and where what is known ends.
    async fn list_from(
        &self,
        start: u32,
        end: u32,
        list: &impl ListPages,
    ) -> Result<(Vec<(u32, String)>, u32), SourceError> {
        let mut listed: Vec<(u32, String)> = Vec::new();
        let (mut covered, mut token, mut empty) = (start, None::<String>, 0_u32);
        loop {
            let page = match list.page(covered, token.clone()).await {
                // A page's token lives an hour; the block reached says as well where to go on.
                Err(error) if error.is_stale_token() && token.is_some() => list.page(covered, None).await?,
                page => page?,
            };
            let entries = self.entries(&page, covered)?;
            let reached = covered_by(&page, &entries, self.len_blocks);
            empty = if reached > covered { 0 } else { empty.saturating_add(1) };
            covered = covered.max(reached);
            listed.extend(entries);
            if covered >= end {
                return Ok((listed, covered));
            }
            if empty > EMPTY_PAGES_AT_MOST {
                return Err(SourceError::List { what: "it does not end" });
            }
            token = page.next;
        }
    }

    /// The page's blocks from `from` on, in ascending order, each once.
    fn entries(&self, page: &BlockPage, from: u32) -> Result<Vec<(u32, String)>, SourceError> {
        let in_order = page.blocks.is_sorted_by(|one, next| one.index < next.index);
        if !in_order && page.next.is_some() {
            // Where more follows, what lies between the blocks of this page is not known.
            return Err(SourceError::List { what: "its blocks are not in ascending order" });
        }
        if page.blocks.iter().any(|block| block.index >= self.len_blocks) {
            return Err(SourceError::List { what: "a block lies beyond the volume's end" });
        }
        let mut entries: Vec<_> = page
            .blocks
            .iter()
            .filter(|block| block.index >= from)
            .map(|block| (block.index, block.token.clone()))
            .collect();
        if !in_order {
            entries.sort_by_key(|(block, _)| *block);
            entries.dedup_by_key(|(block, _)| *block);
        }
        Ok(entries)
    }

    /// Keeps what was listed for `first` and the chunks after it that end before `covered`. A snapshot does not change: where
    /// a list says something else than an earlier one, a block that was written would be read as zeros by one of them.
    fn absorb(
        &self,
        first: u32,
        listed: Vec<(u32, String)>,
        covered: u32,
    ) -> Result<Option<Arc<TokenPage>>, SourceError> {
        let mut known = self.lock();
        let mut entries = listed.into_iter().peekable();
        let mut number = first;
        let mut wanted = None;
        while self.start_of(number) < covered && self.end_of(number) <= covered {
            let (start, end) = (self.start_of(number), self.end_of(number));
            let mut bits = vec![0_u64; usize::try_from(CHUNK_BLOCKS.div_ceil(64)).unwrap_or(0)];
            let (mut blocks, mut ends, mut text) = (Vec::new(), Vec::new(), String::new());
            while let Some((block, token)) = entries.next_if(|(block, _)| *block < end) {
                let within = block.saturating_sub(start);
                set_bit(&mut bits, within);
                text.push_str(&token);
                blocks.push(u16::try_from(within).unwrap_or(u16::MAX));
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
            let written = if blocks.is_empty() { Chunk::Empty } else { Chunk::Written(bits.into()) };
            if !known.learn(number, written) {
                return Err(SourceError::List { what: "it is another one than before" });
            }
            if !blocks.is_empty() {
                let (blocks, ends, text) = (blocks.into(), ends.into(), text.into());
                let page = Arc::new(TokenPage { blocks, ends, text });
                if number == first {
                    wanted = Some(Arc::clone(&page));
                }
                // Those after the first may never be wanted: they push nothing out.
                known.keep_page(number, page, number == first);
            }
            number = number.saturating_add(1);
        }
        Ok(wanted)
    }

    fn page(&self, number: u32) -> Option<Arc<TokenPage>> {
        let mut known = self.lock();
        let now = known.pool.next_use();
        let (page, used) = known.pages.get_mut(&number)?;
        *used = now;
        Some(Arc::clone(page))
    }

    fn start_of(&self, number: u32) -> u32 {
        number.saturating_mul(CHUNK_BLOCKS).min(self.len_blocks)
    }

    fn end_of(&self, number: u32) -> u32 {
        self.start_of(number.saturating_add(1))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn chunk(&self, number: u32) -> &Chunk {
        // Chunks beyond the end hold nothing.
        usize::try_from(number).ok().and_then(|number| self.chunks.get(number)).unwrap_or(&Chunk::Empty)
    }

    /// Whether it is what was known, if anything was.
    fn learn(&mut self, number: u32, listed: Chunk) -> bool {
        let slot = usize::try_from(number).ok().and_then(|number| self.chunks.get_mut(number));
        match slot {
            Some(chunk @ Chunk::Unlisted) => {
                *chunk = listed;
                true
            }
            Some(known) => *known == listed,
            // Beyond the volume's end, where nothing is listed.
            None => true,
        }
    }

    fn keep_page(&mut self, number: u32, page: Arc<TokenPage>, wanted: bool) {
        let bytes = page.bytes();
        let fits = |known: &Self| known.page_bytes.saturating_add(bytes) <= known.page_bytes_at_most;
        let pool = Arc::clone(&self.pool);
        // Those that may never be wanted push nothing out.
        let has_room = fits(self) && pool.has_room(bytes);
        if !wanted && !has_room {
            return;
        }
        self.drop_page(number);
        while !fits(self) && self.drop_oldest() {}
        while !pool.has_room(bytes) {
            let own = self.oldest().map(|(_, used)| used);
            if !pool.drop_of_another(own) && !self.drop_oldest() {
                break;
            }
        }
        self.page_bytes = self.page_bytes.saturating_add(bytes);
        pool.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.pages.insert(number, (page, pool.next_use()));
    }

    /// The page that was used longest ago, and when that was.
    fn oldest(&self) -> Option<(u32, u64)> {
        let oldest = self.pages.iter().min_by_key(|(_, (_, used))| *used);
        oldest.map(|(number, (_, used))| (*number, *used))
    }

    fn drop_oldest(&mut self) -> bool {
        self.oldest().is_some_and(|(number, _)| self.drop_page(number))
    }

    /// Whether it was there.
    fn drop_page(&mut self, number: u32) -> bool {
        let Some((page, _)) = self.pages.remove(&number) else { return false };
        self.page_bytes = self.page_bytes.saturating_sub(page.bytes());
        self.pool.bytes.fetch_sub(page.bytes(), Ordering::Relaxed);
        true
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.pool.bytes.fetch_sub(self.page_bytes, Ordering::Relaxed);
    }
}

impl TokenPage {
    fn token(&self, within: u16) -> Option<&str> {
        let at = self.blocks.binary_search(&within).ok()?;
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        let end = *self.ends.get(at)?;
        self.text.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn bytes(&self) -> u64 {
        let bytes = size_of_val(&*self.blocks)
            .saturating_add(size_of_val(&*self.ends))
            .saturating_add(self.text.len())
            // The map's own and the allocations'.
            .saturating_add(256);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// Up to where the page says all there is.
fn covered_by(page: &BlockPage, entries: &[(u32, String)], len_blocks: u32) -> u32 {
    if page.next.is_none() {
        return len_blocks;
    }
    entries.last().map_or(0, |(block, _)| block.saturating_add(1))
}

fn set_bit(bits: &mut [u64], at: u32) {
    let word = usize::try_from(at / 64).ok().and_then(|word| bits.get_mut(word));
    if let Some(word) = word {
        *word |= 1_u64.wrapping_shl(at % 64);
    }
}

/// The first bit at or after `from` that is `value`.
fn next_bit(bits: &[u64], from: u32, value: bool) -> Option<u32> {
    let mut base = from.saturating_sub(from % 64);
    let mut mask = u64::MAX.wrapping_shl(from % 64);
    for word in bits.iter().skip(usize::try_from(from / 64).ok()?) {
        let word = if value { *word } else { !*word };
        let left = word & mask;
        if left != 0 {
            return Some(base.saturating_add(left.trailing_zeros()));
        }
        mask = u64::MAX;
        base = base.saturating_add(64);
    }
    None
}
