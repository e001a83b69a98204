use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use stillframe_block::{BlockCache, CachedSource, ExhaustedBudget};
use tokio::time::{Instant, advance};

use super::index::TokenPool;
use super::*;
use crate::api::ErrorKind;
use crate::clock::Clock;
use crate::cost::{NanoDollars, Prices};
use crate::limiter::{Rate, Rates};
use crate::testing::{self, BlockFaults, FakeBlocks, TokioClock, block_content, count, mix};

const BLOCK: u64 = BLOCK_BYTES;

fn unlimited() -> Arc<ReadLimit> {
    ReadLimit::new(None, None, Prices::default())
}

struct Opened {
    source: EbsSource,
    fake: Arc<FakeBlocks>,
    caller: Caller,
    audit: tempfile::TempDir,
}

async fn try_open(
    fake: FakeBlocks,
    rates: Rates,
    limit: Arc<ReadLimit>,
) -> (Result<EbsSource, SourceError>, Arc<FakeBlocks>, Caller, tempfile::TempDir) {
    let audit = tempfile::tempdir().unwrap();
    let caller = testing::caller(&audit.path().join("audit.jsonl"), rates, TokioClock::new());
    let fake = Arc::new(fake);
    let memory = SourceMemory::default();
    let source = EbsSource::open(caller.clone(), fake.clone(), "snap-1".to_owned(), memory, limit).await;
    (source, fake, caller, audit)
}

async fn open_with(fake: FakeBlocks, rates: Rates, limit: Arc<ReadLimit>) -> Opened {
    let (source, fake, caller, audit) = try_open(fake, rates, limit).await;
    Opened { source: source.unwrap(), fake, caller, audit }
}

async fn open(fake: FakeBlocks) -> Opened {
    open_with(fake, Rates::default(), unlimited()).await
}

fn expected(fake: &FakeBlocks, block: u32) -> Vec<u8> {
    if (fake.written)(block) { block_content(block) } else { vec![0; 512 * 1024] }
}

async fn check_block(opened: &Opened, block: u32) {
    let mut bytes = vec![1; 512 * 1024];
    opened.source.read(u64::from(block) * BLOCK, &mut bytes).await.unwrap();
    assert!(bytes == expected(&opened.fake, block), "block {block}");
}

#[tokio::test(start_paused = true)]
async fn throttles_failures_cut_bodies_and_bad_checksums_give_the_same_bytes() {
    let mut fake = FakeBlocks::new(1, |block| block < 600);
    fake.faults = BlockFaults { throttled: 20, service: 5, cut: 2, bad_checksum: 1 };
    fake.latency = Duration::from_millis(20);
    let opened = open(fake).await;
    for block in (0..610).step_by(10) {
        let mut bytes = vec![1; 10 * 512 * 1024];
        opened.source.read(block * BLOCK, &mut bytes).await.unwrap();
        for (number, part) in (0_u32..).zip(bytes.chunks(512 * 1024)) {
            let number = u32::try_from(block).unwrap() + number;
            assert!(part == expected(&opened.fake, number), "block {number}");
        }
    }
    let counts = &opened.caller.counts;
    let share = |counter| count(counter) * 100 / count(&counts.gets);
    assert!(count(&counts.gets) >= 750, "{} gets", count(&counts.gets));
    assert!((15..=25).contains(&share(&counts.throttles)), "{} throttles", count(&counts.throttles));
    assert!(count(&counts.bad_blocks) >= 5 && count(&counts.failures) >= 20, "{counts:?}");
    assert!(count(&counts.bytes) >= 600 * BLOCK);
    drop(opened.source);
    let calls = count(&counts.gets) + count(&counts.lists);
    opened.caller.audit.flush().unwrap();
    let verified = crate::audit::verify(&opened.audit.path().join("audit.jsonl")).unwrap();
    assert_eq!(verified.lines, calls, "each data call is a line");
}

#[tokio::test(start_paused = true)]
async fn holes_cost_nothing_and_are_known() {
    let opened = open(FakeBlocks::new(16 * 1024, |block| block % 1_000_000 == 5)).await;
    assert_eq!(opened.source.len_bytes(), 16 << 40);
    check_block(&opened, 6).await;
    check_block(&opened, 33_000_000).await;
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 0);
    check_block(&opened, 33_000_005).await;
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 1);
    let source = &opened.source;
    assert_eq!(source.next_written(0).unwrap(), Some(5 * BLOCK..6 * BLOCK));
    assert_eq!(source.next_written(5 * BLOCK + 7).unwrap(), Some(5 * BLOCK + 7..6 * BLOCK));
    assert_eq!(source.next_written(6 * BLOCK).unwrap(), Some(1_000_005 * BLOCK..1_000_006 * BLOCK));
    assert_eq!(source.next_written(33_000_006 * BLOCK).unwrap(), None);
    assert_eq!(source.next_written(u64::MAX).unwrap(), None);
    assert_eq!(opened.fake.lists.load(Ordering::SeqCst), 1);
    assert!(matches!(source.read((16 << 40) - 1, &mut [0; 2]).await, Err(ReadError::OutOfBounds { .. })));
}

#[tokio::test(start_paused = true)]
async fn pages_may_be_short_or_empty() {
    for empty_pages in [false, true] {
        let mut fake = FakeBlocks::new(20, |block| mix(u64::from(block)).is_multiple_of(3));
        fake.page_blocks = 701;
        fake.empty_pages = empty_pages;
        let opened = open(fake).await;
        for number in 0..60 {
            check_block(&opened, u32::try_from(mix(number) % (20 * 2048)).unwrap()).await;
        }
        let mut at = 0;
        let mut runs = Vec::new();
        loop {
            let fetch = &opened.source.shared.fetch;
            let Some(run) = fetch.next_written(&opened.source.shared.index, at).await.unwrap() else { break };
            at = run.end;
            runs.extend(run);
        }
        assert_eq!(runs, (0..20 * 2048).filter(|block| (opened.fake.written)(*block)).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_we_do_not_know_is_refused() {
    let mut fake = FakeBlocks::new(1, |_| true);
    fake.block_size = 512;
    let (refused, ..) = try_open(fake, Rates::default(), unlimited()).await;
    assert_eq!(refused.err(), Some(SourceError::BlockSize { found: 512 }));
    for size in [0, 64 * 1024 + 1, u64::MAX] {
        let fake = FakeBlocks::new(size, |_| true);
        let (refused, ..) = try_open(fake, Rates::default(), unlimited()).await;
        assert!(matches!(refused.err(), Some(SourceError::VolumeSize { .. })), "{size} GiB");
    }
}

/// The tokens expire, and the list that is asked for then lacks blocks, has more of them, has none, or is of another volume.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_another_one_than_before_is_an_error_and_no_zeros() {
    type Written = fn(u32) -> bool;
    let others: [Written; 4] =
        [|block| block < 50, |block| block < 200, |_| false, |block| block < 100 && block != 7];
    for (number, other) in others.into_iter().enumerate() {
        let changed = Arc::new(AtomicBool::new(false));
        let has_changed = changed.clone();
        let mut fake = FakeBlocks::new(1, move |block| match has_changed.load(Ordering::SeqCst) {
            true => other(block),
            false => block < 100,
        });
        fake.token_lifetime = Duration::from_secs(60);
        let opened = open(fake).await;
        check_block(&opened, 1).await;
        advance(Duration::from_secs(61)).await;
        changed.store(true, Ordering::SeqCst);
        for block in [7, 60, 7] {
            let read = opened.source.read(block * BLOCK, &mut [1; 16]).await.unwrap_err();
            assert!(matches!(SourceError::of(&read), Some(SourceError::List { .. })), "{number}: {read:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_does_not_grow_from_page_to_page() {
    let mut fake = FakeBlocks::new(20, |block| block % 3 == 0);
    fake.grows_at_list = 1;
    let opened = open(fake).await;
    check_block(&opened, 0).await;
    let read = opened.source.read(30_000 * BLOCK, &mut [1; 16]).await.unwrap_err();
    assert_eq!(SourceError::of(&read), Some(&SourceError::VolumeSize { found: 21 }));
}

#[tokio::test(start_paused = true)]
async fn reading_ends_in_time() {
    let limit = unlimited();
    let opened = open_with(FakeBlocks::new(1, |_| true), Rates::default(), limit.clone()).await;
    let clock = TokioClock::new();
    let at = clock.now().checked_add(jiff::SignedDuration::from_hours(11)).unwrap();
    limit.end_at(at, clock.clone());
    // Whoever says it again changes nothing.
    limit.end_at(clock.now(), clock);
    check_block(&opened, 1).await;
    advance(Duration::from_secs(11 * 3600 - 60)).await;
    check_block(&opened, 2).await;
    assert_eq!(limit.time_is_over(), None);
    advance(Duration::from_secs(61)).await;
    let (gets, eleven) = (opened.fake.gets.load(Ordering::SeqCst), Duration::from_secs(11 * 3600));
    let read = opened.source.read(3 * BLOCK, &mut [1; 16]).await.unwrap_err();
    assert!(matches!(read, ReadError::Budget(ExhaustedBudget::Deadline { seconds: 39_600 })), "{read:?}");
    assert_eq!((limit.time_is_over(), opened.fake.gets.load(Ordering::SeqCst)), (Some(eleven), gets));
}

/// The tokens of all together, while each is read by itself, and when they take turns.
#[tokio::test(start_paused = true)]
async fn tokens_of_all_sources_of_a_scan_are_bounded_together() {
    const AT_MOST: u64 = 3 << 20;
    let pool = TokenPool::new(AT_MOST);
    let indexes: Vec<Index> = (0..8).map(|_| Index::new(100 * 2048, 24 << 20, &pool)).collect();
    let mut lists = 0;
    for round in 0..3 {
        for (number, index) in indexes.iter().enumerate() {
            let opened = open(FakeBlocks::new(100, |_| true)).await;
            let before = opened.fake.lists.load(Ordering::SeqCst);
            for block in [5, 10_005, 5, 10_006] {
                let token = index.token(block, &opened.source.shared.fetch).await.unwrap();
                assert!(token.is_some(), "{round} {number} {block}");
            }
            lists += opened.fake.lists.load(Ordering::SeqCst) - before;
            assert!(pool.bytes() <= AT_MOST, "{} bytes", pool.bytes());
        }
    }
    // Two chunks of one that is read stay; those of the others made room.
    assert_eq!(lists, 3 * 8 * 2);
    drop(indexes);
    assert_eq!(pool.bytes(), 0);
}

/// However many volumes a machine has, and however many readers wait.
#[tokio::test(start_paused = true)]
async fn sources_of_one_scan_have_a_bounded_number_of_blocks_in_flight() {
    let limit = unlimited();
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut sources = Vec::new();
    for _ in 0..20 {
        let mut fake = FakeBlocks::new(1, |_| true);
        fake.latency = Duration::from_millis(500);
        fake.flying = Some((now.clone(), most.clone()));
        let rates = Rates { get: Rate::per_second(100_000.0), ..Rates::default() };
        sources.push(Arc::new(open_with(fake, rates, limit.clone()).await));
    }
    let mut readers = tokio::task::JoinSet::new();
    for (source, block) in sources.iter().flat_map(|source| (0..8).map(move |number| (source, number * 20))) {
        let source = source.clone();
        readers.spawn(async move { check_block(&source, block).await });
    }
    while let Some(read) = readers.join_next().await {
        read.unwrap();
    }
    // 64 MiB.
    assert_eq!(most.load(Ordering::SeqCst), 128);
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_asked_for_once() {
    for kind in [ErrorKind::AccessDenied, ErrorKind::KmsDenied, ErrorKind::Credentials, ErrorKind::NotFound] {
        let mut fake = FakeBlocks::new(1, |_| true);
        fake.refuse = Some(kind);
        let (refused, fake, ..) = try_open(fake, Rates::default(), unlimited()).await;
        assert!(matches!(refused.err(), Some(SourceError::Api(error)) if error.kind == kind));
        assert_eq!(fake.calls.load(Ordering::SeqCst), 1, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_expired_are_listed_again_once() {
    let mut fake = FakeBlocks::new(10, |_| true);
    fake.token_lifetime = Duration::from_secs(3600);
    fake.latency = Duration::from_millis(10);
    let opened = open(fake).await;
    check_block(&opened, 3).await;
    advance(Duration::from_secs(4000)).await;
    check_block(&opened, 4).await;
    check_block(&opened, 5).await;
    assert_eq!(opened.fake.lists.load(Ordering::SeqCst), 2);
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 4);

    let mut fake = FakeBlocks::new(10, |_| true);
    fake.token_lifetime = Duration::from_millis(5);
    fake.latency = Duration::from_millis(10);
    let opened = open(fake).await;
    let error = opened.source.read(0, &mut [0; 9]).await.unwrap_err();
    assert!(SourceError::of(&error).unwrap().is_stale_token());
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn limits_end_reading_by_name() {
    let limit = ReadLimit::new(Some(3), None, Prices::default());
    let opened = open_with(FakeBlocks::new(1, |_| true), Rates::default(), limit.clone()).await;
    for block in 0..3 {
        check_block(&opened, block).await;
    }
    let error = opened.source.read(3 * BLOCK, &mut [0; 1]).await.unwrap_err();
    assert!(matches!(error, ReadError::Budget(ExhaustedBudget::Blocks { cap: 3 })), "{error:?}");
    // A limit is no failure: what is there already can still be read.
    assert_eq!(opened.source.failure(), None);
    assert_eq!((limit.blocks(), opened.fake.gets.load(Ordering::SeqCst)), (3, 3));

    // A list and two gets: 600 + 6,000; a third get would pass 9,000.
    let max = NanoDollars(9_000);
    let limit = ReadLimit::new(None, Some(max), Prices::default());
    let opened = open_with(FakeBlocks::new(1, |_| true), Rates::default(), limit.clone()).await;
    check_block(&opened, 0).await;
    check_block(&opened, 1).await;
    let error = opened.source.read(2 * BLOCK, &mut [0; 1]).await.unwrap_err();
    assert!(matches!(error, ReadError::Budget(ExhaustedBudget::Cost { nano_dollars: 9_000 })), "{error:?}");
    assert_eq!(limit.spent(), NanoDollars(6_600));
}

/// Blocks a second of a sequential read with hints 64 blocks ahead.
async fn streamed(per_second: f64, latency: Duration, blocks: u64) -> f64 {
    let mut fake = FakeBlocks::new(8, |_| true);
    fake.latency = latency;
    let rates = Rates { get: Rate::per_second(per_second), ..Rates::default() };
    let opened = open_with(fake, rates, unlimited()).await;
    let ahead = 192;
    let start = Instant::now();
    for block in 0..blocks {
        let from = if block == 0 { 0 } else { block + ahead - 1 };
        let hint = from * BLOCK..(block + ahead).min(blocks) * BLOCK;
        opened.source.prefetch(std::slice::from_ref(&hint));
        let mut byte = [0; 8];
        opened.source.read(block * BLOCK, &mut byte).await.unwrap();
        assert_eq!(byte, mix(block * 1000).to_le_bytes(), "block {block}");
    }
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), blocks, "no block was got twice");
    assert_eq!(opened.source.wasted_blocks(), 0);
    f64::from(u32::try_from(blocks).unwrap()) / start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn streams_use_the_whole_rate_at_any_latency() {
    for millis in [20, 100] {
        let rate = streamed(400.0, Duration::from_millis(millis), 1600).await;
        assert!(rate >= 0.95 * 400.0, "{rate} blocks a second of 400 at {millis} ms");
        assert!(rate <= 1.06 * 400.0, "{rate} blocks a second of 400 at {millis} ms");
    }
    let rate = streamed(1000.0, Duration::from_millis(100), 3000).await;
    assert!(rate >= 0.90 * 1000.0, "{rate} blocks a second of 1000 at 100 ms");
}

#[tokio::test(start_paused = true)]
async fn hints_are_bounded_and_skip_holes() {
    let mut fake = FakeBlocks::new(100, |block| block % 2 == 0);
    fake.latency = Duration::from_millis(50);
    let opened = open(fake).await;
    let whole = 0..opened.source.len_bytes();
    opened.source.prefetch(std::slice::from_ref(&whole));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let held = opened.source.shared.flights().held();
    assert_eq!(held, 128, "as many as fit into 64 MiB, and nobody takes them");
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 128);
    check_block(&opened, 0).await;
    check_block(&opened, 1).await;
    check_block(&opened, 2).await;
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 128, "those were held");
    // What nobody takes makes room in the end.
    tokio::time::sleep(flights::STALE + Duration::from_secs(5)).await;
    let other = 150_000 * BLOCK..150_100 * BLOCK;
    opened.source.prefetch(std::slice::from_ref(&other));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(opened.source.wasted_blocks() > 0);
    assert!(opened.source.shared.flights().held() <= 128);
    drop(opened.source);
    let gets = opened.fake.gets.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(opened.fake.gets.load(Ordering::SeqCst) <= gets, "a closed source reads no more");
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_16_tib_takes_little_memory() {
    let opened = open(FakeBlocks::new(16 * 1024, |_| true)).await;
    let chunks = 16 * 1024 * 2048 / index::CHUNK_BLOCKS;
    let mut most = 0;
    for number in (0..=chunks).step_by(31) {
        let block = (number * index::CHUNK_BLOCKS + 77).min(16 * 1024 * 2048 - 1);
        check_block(&opened, block).await;
        most = most.max(opened.source.shared.index.memory_bytes());
    }
    assert!(most <= (24 << 20) + (5 << 20), "{most} bytes");
    // One list for each of the places, and for the tokens that were dropped one more.
    let lists = opened.fake.lists.load(Ordering::SeqCst);
    assert!(lists <= 110, "{lists} lists");
    check_block(&opened, 78).await;
    assert_eq!(opened.fake.lists.load(Ordering::SeqCst), lists + 1);
}

fn on_real_threads<T: Send>(work: impl FnOnce(&tokio::runtime::Runtime) -> T + Send) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = work(&runtime);
    runtime.shutdown_background();
    done
}

#[test]
fn threads_block_and_read_the_same() {
    on_real_threads(|runtime| {
        let mut fake = FakeBlocks::new(1, |block| block % 3 != 0);
        fake.latency = Duration::from_millis(2);
        let opened = runtime.block_on(open_with(
            fake,
            Rates { get: Rate::per_second(100_000.0), ..Rates::default() },
            unlimited(),
        ));
        let (source, fake) = (&opened.source, &opened.fake);
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                scope.spawn(move || {
                    for number in 0..12 {
                        let offset = mix(thread * 100 + number) % (199 * BLOCK);
                        let mut bytes = vec![1; 700_000];
                        source.read_exact_at(offset, &mut bytes).unwrap();
                        let first = u32::try_from(offset / BLOCK).unwrap();
                        let mut all = expected(fake, first);
                        all.extend(expected(fake, first + 1));
                        all.extend(expected(fake, first + 2));
                        let within = usize::try_from(offset % BLOCK).unwrap();
                        assert!(bytes == all[within..within + 700_000]);
                    }
                });
            }
        });
    });
}

#[test]
fn a_read_that_waits_is_ended_by_the_stop_and_by_the_runtime() {
    on_real_threads(|runtime| {
        let limit = unlimited();
        let fake = FakeBlocks::new(1, |_| true);
        let opened = runtime.block_on(open_with(fake, Rates::default(), limit.clone()));
        // A bucket that is empty for an hour.
        let slow =
            Rates { get: Rate { cap: 0.0001, floor: 0.0001, burst: 1.0, increase: 0.0 }, ..Rates::default() };
        let waiting = runtime.block_on(open_with(FakeBlocks::new(1, |_| true), slow, limit.clone()));
        waiting.source.read_exact_at(0, &mut [0; 1]).unwrap();
        std::thread::scope(|scope| {
            let read = scope.spawn(|| waiting.source.read_exact_at(BLOCK, &mut [0; 1]));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!read.is_finished());
            limit.stop();
            let error = read.join().unwrap().unwrap_err();
            assert_eq!(SourceError::of(&error), Some(&SourceError::Stopped));
        });
        let error = opened.source.read_exact_at(0, &mut [0; 1]).unwrap_err();
        assert_eq!(SourceError::of(&error), Some(&SourceError::Stopped));
    });
    let source = on_real_threads(|runtime| runtime.block_on(open(FakeBlocks::new(1, |_| true))));
    let error = source.source.read_exact_at(0, &mut [0; 1]).unwrap_err();
    assert_eq!(SourceError::of(&error), Some(&SourceError::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_hint_for_what_a_reader_gets_and_a_read_of_what_is_hinted_get_nothing_twice() {
    let mut fake = FakeBlocks::new(1, |_| true);
    fake.latency = Duration::from_millis(50);
    let opened = open(fake).await;
    let source = &opened.source;
    let hint = |blocks: Range<u64>| {
        source.prefetch(std::slice::from_ref(&(blocks.start * BLOCK..blocks.end * BLOCK)));
    };
    // Two readers of one block, and a hint for it while it is under way.
    let (mut one, mut two) = ([0; 8], [0; 8]);
    let (first, second, ()) =
        tokio::join!(source.read(7 * BLOCK, &mut one), source.read(7 * BLOCK, &mut two), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            hint(6..9);
        });
    first.unwrap();
    second.unwrap();
    assert_eq!((one, two), (mix(7000).to_le_bytes(), mix(7000).to_le_bytes()));
    check_block(&opened, 6).await;
    check_block(&opened, 8).await;
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 3);
    // A reader of a block whose flight is under way, and of one that waits for its turn.
    hint(100..300);
    tokio::time::sleep(Duration::from_millis(20)).await;
    for block in [100, 299] {
        check_block(&opened, block).await;
    }
    for block in 100..300 {
        if block != 100 && block != 299 {
            check_block(&opened, block).await;
        }
    }
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 203);
    assert_eq!((source.wasted_blocks(), source.shared.flights().held()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_gives_up_leaves_the_block_to_the_next() {
    let mut fake = FakeBlocks::new(1, |_| true);
    fake.latency = Duration::from_millis(50);
    let opened = open(fake).await;
    let (mut one, mut two) = ([0; 8], [0; 8]);
    let (gave_up, read) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(20), opened.source.read(7 * BLOCK, &mut one)),
        opened.source.read(7 * BLOCK, &mut two),
    );
    assert!(gave_up.is_err());
    read.unwrap();
    assert_eq!(two, mix(7000).to_le_bytes());
    assert_eq!(opened.source.shared.flights().held(), 0);
}

#[test]
fn a_hint_after_the_runtime_ended_is_nothing() {
    let source = on_real_threads(|runtime| runtime.block_on(open(FakeBlocks::new(1, |_| true)))).source;
    // Until then hints may still begin flights, which end with the runtime.
    while source.read_exact_at(0, &mut [0; 1]).is_ok() {}
    let began = std::time::Instant::now();
    while source.shared.flights().held() > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "a flight outlived its runtime");
        std::thread::yield_now();
    }
    source.prefetch(std::slice::from_ref(&(0..100 * BLOCK)));
    assert_eq!(source.shared.flights().held(), 0);
}

/// Many files, streamed by many threads through a cache: each block is got once, and none for nothing.
#[test]
fn many_streams_get_each_block_once() {
    on_real_threads(|runtime| {
        let mut fake = FakeBlocks::new(1, |block| block % 7 != 3);
        fake.latency = Duration::from_millis(2);
        let rates = Rates { get: Rate::per_second(100_000.0), ..Rates::default() };
        let opened = runtime.block_on(open_with(fake, rates, unlimited()));
        let source = Arc::new(opened.source);
        let cached = CachedSource::new(source.clone(), BlockCache::new(1 << 30), 0);
        // Files of 3.5 blocks, so that neighbours share one.
        let (file_bytes, files) = (7 * BLOCK / 2, 400_u64);
        let next = std::sync::atomic::AtomicU64::new(0);
        let read = |file: u64| {
            let (start, end) = (file * file_bytes, (file + 1) * file_bytes);
            let mut hinted = start;
            for at in (start..end).step_by(256 * 1024) {
                let ahead = (at + 2 * BLOCK).min(end);
                cached.prefetch(std::slice::from_ref(&(hinted..ahead)));
                hinted = ahead;
                let mut piece = vec![1; 256 * 1024];
                cached.read_exact_at(at, &mut piece).unwrap();
                let block = u32::try_from(at / BLOCK).unwrap();
                let within = usize::try_from(at % BLOCK).unwrap();
                assert!(piece == expected(&opened.fake, block)[within..within + 256 * 1024], "{at}");
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    while let Some(file) =
                        Some(next.fetch_add(1, Ordering::SeqCst)).filter(|file| *file < files)
                    {
                        read(file);
                    }
                });
            }
        });
        let distinct = (0..files * 7 / 2).filter(|block| block % 7 != 3).count();
        assert_eq!(opened.fake.gets.load(Ordering::SeqCst), u64::try_from(distinct).unwrap());
        assert_eq!((source.wasted_blocks(), source.shared.flights().held()), (0, 0));
    });
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_waits_for_needs_no_room() {
    let mut fake = FakeBlocks::new(1, |_| true);
    fake.latency = Duration::from_millis(50);
    let opened = open(fake).await;
    opened.source.prefetch(std::slice::from_ref(&(0..200 * BLOCK)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(opened.source.shared.flights().held(), 128, "nobody takes them");
    for block in [150, 199, 140] {
        check_block(&opened, block).await;
    }
    assert_eq!(opened.fake.gets.load(Ordering::SeqCst), 131);
}
