use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{api_error, mix};
use crate::api::{Answer, ApiError, BlockData, BlockPage, Blocks, ErrorKind, ListedBlock};

/// Per cent of calls that go wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct BlockFaults {
    pub(crate) throttled: u64,
    pub(crate) service: u64,
    pub(crate) cut: u64,
    pub(crate) bad_checksum: u64,
}

/// A snapshot whose written blocks and their bytes are computed.
pub(crate) struct FakeBlocks {
    pub(crate) size_gib: u64,
    pub(crate) block_size: u64,
    pub(crate) written: Box<dyn Fn(u32) -> bool + Send + Sync>,
    pub(crate) faults: BlockFaults,
    pub(crate) latency: Duration,
    pub(crate) page_blocks: usize,
    pub(crate) token_lifetime: Duration,
    /// Every second page is empty and has a next one.
    pub(crate) empty_pages: bool,
    pub(crate) refuse: Option<ErrorKind>,
    /// Lists from this one on, counted from 0, say another size.
    pub(crate) grows_at_list: u64,
    pub(crate) calls: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) most_in_flight: AtomicUsize,
    /// Calls under way of several of these, now and at most.
    pub(crate) flying: Option<(Arc<AtomicUsize>, Arc<AtomicUsize>)>,
    in_flight: AtomicUsize,
    epoch: Instant,
}

/// What a written block holds.
pub(crate) fn block_content(block: u32) -> Vec<u8> {
    let mut bytes = vec![0_u8; 512 * 1024];
    for (at, chunk) in (0_u64..).zip(bytes.chunks_exact_mut(4096)) {
        chunk[..8].copy_from_slice(&mix(u64::from(block) * 1000 + at).to_le_bytes());
    }
    bytes
}

impl FakeBlocks {
    pub(crate) fn new(size_gib: u64, written: impl Fn(u32) -> bool + Send + Sync + 'static) -> Self {
        Self {
            size_gib,
            block_size: 524_288,
            written: Box::new(written),
            faults: BlockFaults::default(),
            latency: Duration::ZERO,
            page_blocks: 10_000,
            token_lifetime: Duration::from_secs(7 * 24 * 3600),
            empty_pages: false,
            refuse: None,
            grows_at_list: u64::MAX,
            calls: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            most_in_flight: AtomicUsize::new(0),
            flying: None,
            in_flight: AtomicUsize::new(0),
            epoch: Instant::now(),
        }
    }

    fn now_nanos(&self) -> u128 {
        self.epoch.elapsed().as_nanos()
    }

    /// As long as real ones are.
    fn token(&self, block: u32) -> String {
        format!("{:020}/{block:010}/{}", self.now_nanos(), "AAABcdEf0123456789+/xyzXYZ".repeat(2))
    }

    fn check(&self, token: &str, block: u32) -> Result<(), ApiError> {
        let mut parts = token.split('/');
        let issued: u128 = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        let of: Option<u32> = parts.next().and_then(|part| part.parse().ok());
        let fresh = self.now_nanos() - issued <= self.token_lifetime.as_nanos();
        let valid = fresh && of == Some(block);
        valid.then_some(()).ok_or_else(|| api_error("ebs", ErrorKind::InvalidToken))
    }

    fn list(&self, starting_block: u32, page: Option<String>) -> Result<BlockPage, ApiError> {
        let calls = self.lists.fetch_add(1, Ordering::SeqCst);
        let len = u32::try_from(self.size_gib.saturating_mul(2048)).unwrap_or(u32::MAX);
        let start = match page {
            None => starting_block,
            Some(page) => {
                let start = page.split('/').nth(1).and_then(|part| part.parse().ok()).unwrap();
                self.check(&page, start)?;
                start
            }
        };
        let mut answer = BlockPage {
            blocks: Vec::new(),
            volume_size_gib: self.size_gib + u64::from(calls >= self.grows_at_list),
            block_size_bytes: self.block_size,
            next: None,
            request_id: Some(format!("list-{calls}")),
        };
        if self.empty_pages && calls.is_multiple_of(2) {
            answer.next = Some(self.token(start));
            return Ok(answer);
        }
        for block in (start..len).filter(|block| (self.written)(*block)) {
            if answer.blocks.len() == self.page_blocks {
                answer.next = Some(self.token(block));
                break;
            }
            answer.blocks.push(ListedBlock { index: block, token: self.token(block) });
        }
        Ok(answer)
    }

    fn get(&self, block: u32, token: &str, luck: u64) -> Result<BlockData, ApiError> {
        let gets = self.gets.fetch_add(1, Ordering::SeqCst);
        self.check(token, block)?;
        assert!((self.written)(block), "block {block} was never written");
        let mut bytes = block_content(block);
        let mut checksum = BASE64_STANDARD.encode(Sha256::digest(&bytes));
        let cut = self.faults.throttled + self.faults.service + self.faults.cut;
        if luck < cut {
            // Half of them lose their tail unnoticed; half end in an error of the connection.
            if luck.is_multiple_of(2) {
                return Err(api_error("ebs:GetSnapshotBlock", ErrorKind::NoReply));
            }
            bytes.truncate(usize::try_from(mix(luck) % 500_000).unwrap());
        } else if luck < cut + self.faults.bad_checksum {
            if mix(gets).is_multiple_of(2) {
                bytes[1000] ^= 1;
            } else {
                checksum = BASE64_STANDARD.encode([7; 32]);
            }
        }
        Ok(BlockData {
            bytes,
            data_length: Some(524_288),
            checksum: Some(checksum),
            checksum_algorithm: Some("SHA256".to_owned()),
            request_id: Some(format!("get-{gets}")),
        })
    }

    async fn trouble(&self, operation: &'static str) -> Result<u64, ApiError> {
        let luck = mix(self.calls.fetch_add(1, Ordering::SeqCst)) % 100;
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        if let Some((now, most)) = &self.flying {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        if self.latency > Duration::ZERO {
            sleep(self.latency).await;
        }
        if let Some((now, _)) = &self.flying {
            now.fetch_sub(1, Ordering::SeqCst);
        }
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        match self.refuse {
            Some(kind) => Err(api_error(operation, kind)),
            None if luck < self.faults.throttled => Err(api_error(operation, ErrorKind::Throttled)),
            None if luck < self.faults.throttled + self.faults.service => {
                Err(api_error(operation, ErrorKind::Service))
            }
            None => Ok(luck),
        }
    }
}

impl Blocks for FakeBlocks {
    fn list_snapshot_blocks(
        &self,
        _: &str,
        starting_block: u32,
        page: Option<String>,
    ) -> Answer<'_, BlockPage> {
        Box::pin(async move {
            self.trouble("ebs:ListSnapshotBlocks").await?;
            self.list(starting_block, page)
        })
    }

    fn get_snapshot_block(&self, _: &str, block: u32, token: &str) -> Answer<'_, BlockData> {
        let token = token.to_owned();
        Box::pin(async move {
            let luck = self.trouble("ebs:GetSnapshotBlock").await?;
            self.get(block, &token, luck)
        })
    }
}
