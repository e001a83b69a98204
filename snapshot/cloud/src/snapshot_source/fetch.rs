use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use stillframe_block::BlockBuffer;
use tokio::time::Instant;

use super::index::{CHUNK_BLOCKS, Index, ListPages, NextWritten};
use super::{ReadLimit, SourceError};
use crate::api::{ApiError, BlockData, BlockPage, Blocks, ErrorKind};
use crate::audit::DataCall;
use crate::client::Caller;
use crate::limiter::Operation;
use crate::retry::retry;

const BLOCK_BYTES_USIZE: usize = 512 * 1024;

/// The bytes of one block.
pub(super) type BlockBytes = Arc<BlockBuffer>;

/// Gets blocks and lists pages of one snapshot.
pub(super) struct Fetch {
    pub(super) caller: Caller,
    pub(super) blocks: Arc<dyn Blocks>,
    pub(super) snapshot_id: String,
    pub(super) limit: Arc<ReadLimit>,
    /// The volume's size as the first page said it.
    pub(super) volume_gib: OnceLock<u64>,
    pub(super) latency: Latency,
    /// Set by the first failure that ends reading.
    pub(super) ended: OnceLock<SourceError>,
}

impl Fetch {
    /// The failure that ended reading, where one did.
    fn check_ended(&self) -> Result<(), SourceError> {
        self.ended.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn note(&self, error: &SourceError) {
        if error.ends_reading() {
            // The first one stays: it is the cause.
            let _ = self.ended.set(error.clone());
        }
    }

    /// The block's verified bytes; `None` where it was never written.
    pub(super) async fn block(&self, index: &Index, block: u32) -> Result<Option<BlockBytes>, SourceError> {
        let mut relisted = false;
        loop {
            let Some((token, page)) = index.token(block, self).await? else { return Ok(None) };
            self.check_ended()?;
            let _memory = self.limit.in_flight.acquire().await.map_err(|_| SourceError::Ended)?;
            match retry(self.caller.retry, || self.get(block, &token)).await {
                Err(error) if error.is_stale_token() && !relisted => {
                    relisted = true;
                    index.forget(block, &page);
                }
                answer => {
                    let answer = answer.inspect_err(|error| self.note(error));
                    return answer.map(|bytes| Some(Arc::new(BlockBuffer::from(bytes))));
                }
            }
        }
    }

    /// The first run of written blocks at or after `block`, listing where that is needed to tell.
    pub(super) async fn next_written(
        &self,
        index: &Index,
        block: u32,
    ) -> Result<Option<std::ops::Range<u32>>, SourceError> {
        loop {
            match index.next_written(block) {
                NextWritten::Known(run) => return Ok(run),
                NextWritten::Unlisted(chunk) => {
                    index.list(chunk, self).await?;
                }
            }
        }
    }

    async fn get(&self, block: u32, token: &str) -> Result<Vec<u8>, SourceError> {
        self.limit.take_get()?;
        let name = "ebs:GetSnapshotBlock";
        let mut line = None;
        let answer = self
            .caller
            .once(Operation::Get, name, || {
                // Not before: what waits for its turn is no call yet.
                line = Some(self.caller.begin_data(name, format!("{}#{block}", self.snapshot_id)));
                Box::pin(async {
                    let asked = Instant::now();
                    let answer = self.blocks.get_snapshot_block(&self.snapshot_id, block, token).await;
                    if answer.is_ok() {
                        self.latency.record(asked.elapsed());
                    }
                    answer
                })
            })
            .await;
        write_down(line, answer.as_ref().map(|data| &data.request_id));
        if answer.as_ref().is_err_and(was_not_served) {
            self.limit.give_back_get();
        }
        let data = answer?;
        let received = u64::try_from(data.bytes.len()).unwrap_or(u64::MAX);
        self.caller.counts.bytes.fetch_add(received, Ordering::Relaxed);
        verify(block, data).inspect_err(|_| {
            self.caller.counts.bad_blocks.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// One page, with retries.
    pub(super) async fn list_page(
        &self,
        starting_block: u32,
        token: Option<String>,
    ) -> Result<BlockPage, SourceError> {
        let name = "ebs:ListSnapshotBlocks";
        self.check_ended()?;
        let answer = retry(self.caller.retry, || async {
            self.limit.take_list()?;
            let mut line = None;
            let call = || {
                line = Some(self.caller.begin_data(name, self.snapshot_id.clone()));
                self.blocks.list_snapshot_blocks(&self.snapshot_id, starting_block, token.clone())
            };
            let answer = self.caller.once(Operation::List, name, call).await;
            write_down(line, answer.as_ref().map(|page| &page.request_id));
            if answer.as_ref().is_err_and(was_not_served) {
                self.limit.give_back_list();
            }
            let page = answer?;
            if page.block_size_bytes != stillframe_block::BLOCK_BYTES {
                return Err(SourceError::BlockSize { found: page.block_size_bytes });
            }
            let found = page.volume_size_gib;
            if *self.volume_gib.get_or_init(|| found) != found {
                return Err(SourceError::VolumeSize { found });
            }
            Ok(page)
        })
        .await;
        answer.inspect_err(|error| self.note(error))
    }
}

impl ListPages for Fetch {
    async fn page(&self, starting_block: u32, token: Option<String>) -> Result<BlockPage, SourceError> {
        debug_assert!(token.is_some() || starting_block < u32::MAX - CHUNK_BLOCKS);
        self.list_page(starting_block, token).await
    }
}

/// What came of a call, for the audit log.
fn write_down(line: Option<DataCall>, answer: Result<&Option<String>, &ApiError>) {
    let (id, result) = match answer {
        Ok(id) => (id.clone(), "ok"),
        Err(error) => (error.request_id.clone(), error.code.as_str()),
    };
    if let Some(line) = line {
        line.end(id, result);
    }
}

/// Refused before anything was read: it is not billed.
fn was_not_served(error: &ApiError) -> bool {
    error.kind != ErrorKind::NoReply
}

/// The bytes, where they are what was announced.
fn verify(block: u32, data: BlockData) -> Result<Vec<u8>, SourceError> {
    let found = u64::try_from(data.bytes.len()).unwrap_or(u64::MAX);
    let announced = data.data_length.map(usize::try_from);
    if data.bytes.len() != BLOCK_BYTES_USIZE || announced.is_some_and(|len| len != Ok(BLOCK_BYTES_USIZE)) {
        return Err(SourceError::Length { block, found });
    }
    let (Some(checksum), Some("SHA256")) = (&data.checksum, data.checksum_algorithm.as_deref()) else {
        return Err(SourceError::NoChecksum { block });
    };
    let digest = Sha256::digest(&data.bytes);
    if BASE64_STANDARD.encode(digest) != *checksum {
        return Err(SourceError::Checksum { block });
    }
    Ok(data.bytes)
}

/// How long a get takes: a mean in which newer ones weigh more.
#[derive(Default)]
pub(super) struct Latency {
    nanos: AtomicU64,
}

impl Latency {
    fn record(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = |old: u64| {
            let kept = old.saturating_sub(old / 8);
            Some(if old == 0 { took } else { kept.saturating_add(took / 8).max(1) })
        };
        // The closure always gives a value.
        let _ = self.nanos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mean);
    }

    /// `None` before the first get.
    pub(super) fn mean(&self) -> Option<Duration> {
        let nanos = self.nanos.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::cost::Prices;
    use crate::limiter::{Rate, Rates};
    use crate::testing::{self, FakeBlocks, TokioClock};

    /// Whoever stops a scan drops what it waits for; the cloud has the calls in its own log all the same.
    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_is_written_down_and_one_that_was_not_made_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut fake = FakeBlocks::new(1, |_| true);
        fake.latency = Duration::from_secs(5);
        let rates = Rates { get: Rate::per_second(1.0), ..Rates::default() };
        let caller = testing::caller(&path, rates, TokioClock::new());
        let fetch = Fetch {
            caller: caller.clone(),
            blocks: Arc::new(fake),
            snapshot_id: "snap-1".to_owned(),
            limit: ReadLimit::new(None, None, Prices::default()),
            volume_gib: OnceLock::new(),
            latency: Latency::default(),
            ended: OnceLock::new(),
        };
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, fetch.list_page(0, None)).await.is_err());
        // The first ones go at once, the others wait for their turn.
        let gets = (0..20).map(|_| tokio::time::timeout(soon, fetch.get(7, "token")));
        let mut given_up = 0;
        for get in gets {
            given_up += u64::from(get.await.is_err());
        }
        let made = caller.counts.gets.load(Ordering::Relaxed);
        assert!(given_up == 20 && (1..10).contains(&made), "{given_up} given up, {made} made");
        caller.audit.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = |resource: &str| {
            let is_it = |line: &&str| {
                line.contains(&format!(r#""resource":"{resource}""#))
                    && line.contains(r#""result":"cancelled""#)
            };
            u64::try_from(text.lines().filter(is_it).count()).unwrap()
        };
        assert_eq!((lines("snap-1"), lines("snap-1#7")), (1, made), "{text}");
    }

    fn good() -> BlockData {
        let bytes = vec![7; BLOCK_BYTES_USIZE];
        BlockData {
            checksum: Some(BASE64_STANDARD.encode(Sha256::digest(&bytes))),
            bytes,
            data_length: Some(524_288),
            checksum_algorithm: Some("SHA256".to_owned()),
            request_id: None,
        }
    }

    #[test]
    fn a_block_is_what_was_announced_or_nothing() {
        assert_eq!(verify(5, good()).unwrap(), good().bytes);
        let with = |change: fn(&mut BlockData)| {
            let mut data = good();
            change(&mut data);
            verify(5, data).unwrap_err()
        };
        // Short, and yet with the checksum of what came.
        let short = with(|data| {
            data.bytes.truncate(1000);
            data.checksum = Some(BASE64_STANDARD.encode(Sha256::digest(&data.bytes)));
        });
        assert_eq!(short, SourceError::Length { block: 5, found: 1000 });
        assert_eq!(
            with(|data| data.data_length = Some(512)),
            SourceError::Length { block: 5, found: 524_288 }
        );
        assert_eq!(
            with(|data| data.data_length = Some(-1)),
            SourceError::Length { block: 5, found: 524_288 }
        );
        assert_eq!(with(|data| data.bytes[9] = 8), SourceError::Checksum { block: 5 });
        assert_eq!(with(|data| data.checksum = Some("x".to_owned())), SourceError::Checksum { block: 5 });
        assert_eq!(with(|data| data.checksum = None), SourceError::NoChecksum { block: 5 });
        assert_eq!(with(|data| data.checksum_algorithm = None), SourceError::NoChecksum { block: 5 });
        let other = with(|data| data.checksum_algorithm = Some("MD5".to_owned()));
        assert_eq!(other, SourceError::NoChecksum { block: 5 });
    }

    #[test]
    fn the_checksum_is_what_another_tool_says() {
        // `head -c 524288 /dev/zero | openssl dgst -sha256 -binary | base64`
        let mut data = good();
        data.bytes = vec![0; BLOCK_BYTES_USIZE];
        data.checksum = Some("B4VNL+8pega6gWheZgwzLeNtXRjVRpJ9MNqtbX/aFUE=".to_owned());
        assert!(verify(0, data).is_ok());
    }
}
