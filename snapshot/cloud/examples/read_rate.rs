//! How much of the allowed rate content reads keep, at the latency of a call: files of an ext4 image that `mkfs.ext4`
//! makes, read through the sources of a scan from blocks that an in-memory service gives.
//!
//! ```sh
//! cargo run --release -p stillframe-cloud --example read_rate
//! ```
//!
//! One line a case: the gets a second that were made (without those that the bucket allows at once after a pause), their
//! share of what is allowed, blocks that were got twice, blocks that were got and never read, processor time.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a program for measuring, over data of its own"
)]

// The very code that a scan reads with, without a scan's dependencies, which take long to build.
#[path = "../../../scanner/src/plan.rs"]
mod plan;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use stillframe_block::{BLOCK_BYTES, BlockCache, BlockSource, CachedSource, CountingSource, WindowSource};
use stillframe_cloud::api::{Answer, BlockData, BlockPage, Blocks, ListedBlock, Place};
use stillframe_cloud::audit::AuditLog;
use stillframe_cloud::client::{CallCounts, Caller};
use stillframe_cloud::clock::SystemClock;
use stillframe_cloud::cost::Prices;
use stillframe_cloud::limiter::{Limiter, Rate, Rates};
use stillframe_cloud::retry::RetryPolicy;
use stillframe_cloud::snapshot_source::{EbsSource, ReadLimit, SourceMemory};
use stillframe_fs::{FileId, FileKind, ReadAhead, ReadOnlyFs, read_full};

const PIECE_BYTES: usize = 256 * 1024;
const BLOCK: usize = 512 * 1024;

/// The blocks of a file, each after the latency of a call.
struct Service {
    file: File,
    written: Vec<Option<String>>,
    latency: Duration,
    got: Mutex<HashMap<u32, u32>>,
}

impl Service {
    fn open(path: &Path) -> (File, Vec<Option<String>>) {
        let file = File::open(path).unwrap();
        let blocks = file.metadata().unwrap().len() / BLOCK_BYTES;
        let checksums = (0..blocks)
            .into_par_iter()
            .map(|block| {
                let mut bytes = vec![0; BLOCK];
                file.read_exact_at(&mut bytes, block * BLOCK_BYTES).unwrap();
                let is_written = bytes.iter().any(|byte| *byte != 0);
                is_written.then(|| BASE64_STANDARD.encode(Sha256::digest(&bytes)))
            })
            .collect();
        (file, checksums)
    }
}

impl Blocks for Service {
    fn list_snapshot_blocks(&self, _: &str, start: u32, _: Option<String>) -> Answer<'_, BlockPage> {
        Box::pin(async move {
            tokio::time::sleep(self.latency).await;
            let listed = (0_u32..).zip(&self.written).filter(|(block, sum)| *block >= start && sum.is_some());
            Ok(BlockPage {
                blocks: listed.map(|(index, _)| ListedBlock { index, token: index.to_string() }).collect(),
                volume_size_gib: self.file.metadata().unwrap().len() >> 30,
                block_size_bytes: BLOCK_BYTES,
                next: None,
                request_id: None,
            })
        })
    }

    fn get_snapshot_block(&self, _: &str, block: u32, _: &str) -> Answer<'_, BlockData> {
        Box::pin(async move {
            tokio::time::sleep(self.latency).await;
            *self.got.lock().unwrap().entry(block).or_default() += 1;
            let mut bytes = vec![0; BLOCK];
            self.file.read_exact_at(&mut bytes, u64::from(block) * BLOCK_BYTES).unwrap();
            Ok(BlockData {
                bytes,
                data_length: Some(524_288),
                checksum: self.written[usize::try_from(block).unwrap()].clone(),
                checksum_algorithm: Some("SHA256".to_owned()),
                request_id: None,
            })
        })
    }
}

fn mix(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Writes a file of numbers that do not repeat.
fn write_file(path: &Path, len: u64, seed: u64) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..len.div_ceil(8) {
        number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        file.write_all(&mix(number).to_le_bytes()).unwrap();
    }
    file.into_inner().unwrap().set_len(len).unwrap();
}

/// Makes an image of `gib` with what `fill` puts into a folder.
fn image(folder: &Path, name: &str, gib: u64, fill: impl Fn(&Path)) -> std::path::PathBuf {
    let (tree, path) = (folder.join(format!("{name}.tree")), folder.join(format!("{name}.img")));
    if !path.exists() {
        std::fs::create_dir(&tree).unwrap();
        fill(&tree);
        File::create(&path).unwrap().set_len(gib << 30).unwrap();
        let status =
            Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(&tree).arg(&path).status().unwrap();
        assert!(status.success());
        std::fs::remove_dir_all(&tree).unwrap();
    }
    path
}

/// All regular files, in the order of the tree.
fn list(fs: &dyn ReadOnlyFs, directory: FileId, files: &mut Vec<FileId>) {
    let mut folders = Vec::new();
    fs.read_dir(directory, &mut |entry| {
        match entry.kind {
            Some(FileKind::File) => files.push(entry.id),
            Some(FileKind::Directory) => folders.push(entry.id),
            _ => {}
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    folders.into_iter().for_each(|folder| list(fs, folder, files));
}

/// As `stillframe files --sha256` reads.
fn hash(fs: &dyn ReadOnlyFs, file: FileId, read_ahead: &ReadAhead) -> [u8; 32] {
    let mut file = fs.open(file).unwrap();
    let len = file.len_bytes();
    let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(len).unwrap()).max(1)];
    let mut streamed = read_ahead.stream(len);
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < len {
        streamed.before_read(&mut *file, offset);
        let read = read_full(&mut *file, offset, &mut piece).unwrap();
        hash.update(&piece[..read]);
        offset += u64::try_from(read).unwrap();
    }
    hash.finalize().into()
}

fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn measure(
    what: &str,
    path: &Path,
    (per_second, latency): (f64, Duration),
    (threads, cache_bytes): (usize, u64),
) -> Vec<[u8; 32]> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (file, written) = Service::open(path);
    let service = Arc::new(Service { file, written, latency, got: Mutex::default() });
    let audit = tempfile::tempdir().unwrap();
    let rate = Rate::per_second(per_second);
    let caller = Caller {
        place: Place { account: "111122223333".to_owned(), region: "eu-west-3".to_owned() },
        limiter: Limiter::new(Rates { get: rate, ..Rates::default() }),
        retry: RetryPolicy::default(),
        time_limit: Duration::from_secs(60),
        audit: Arc::new(AuditLog::open(&audit.path().join("audit.jsonl"), Arc::new(SystemClock)).unwrap()),
        counts: Arc::new(CallCounts::default()),
    };
    let limit = ReadLimit::new(None, None, Prices::default());
    let opening =
        EbsSource::open(caller, service.clone(), "snap-1".to_owned(), SourceMemory::default(), limit);
    let snapshot = Arc::new(runtime.block_on(opening).unwrap());
    let counting = Arc::new(CountingSource::new(snapshot.clone()));
    let cached = CachedSource::new(counting.clone(), BlockCache::new(cache_bytes), 0);
    let len = cached.len_bytes();
    let fs = stillframe_ext::open(Arc::new(WindowSource::new(Arc::new(cached), 0, len))).unwrap();
    let mut files = Vec::new();
    list(&*fs, fs.root(), &mut files);
    files.sort_unstable();

    let gets = || service.got.lock().unwrap().values().map(|count| u64::from(*count)).sum::<u64>();
    let (before, processor, start) = (gets(), processor_seconds(), Instant::now());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let read_ahead = ReadAhead::default();
    let hashes = pool.install(|| {
        let reading = plan::Reading {
            ahead_on: Some(&*fs),
            id: |file: &FileId| *file,
            extents: |file: &FileId| plan::extents(&mut *fs.open(*file).unwrap()),
            work: |file: &FileId| hash(&*fs, *file, &read_ahead),
        };
        reading.run(&files)
    });
    let seconds = start.elapsed().as_secs_f64();
    let processor = processor_seconds() - processor;
    // What is still under way was asked for in vain.
    std::thread::sleep(latency * 2);
    let made = gets() - before;
    let got = service.got.lock().unwrap();
    let (twice, read) = (gets_twice(&got), counting.counts().distinct_blocks);
    let unread = u64::try_from(got.len()).unwrap().saturating_sub(read);
    #[allow(clippy::cast_precision_loss, reason = "numbers of a report")]
    let steady = (made as f64 - rate.burst) / seconds;
    println!(
        "{what}: {} files, {made} gets in {seconds:.2} s at {} ms: {steady:.0}/s = {:.1} % of {per_second}/s; \
         {twice} twice, {unread} unread, {} wasted; {processor:.1} s of processor",
        files.len(),
        latency.as_millis(),
        steady * 100.0 / per_second,
        snapshot.wasted_blocks(),
    );
    drop(got);
    runtime.shutdown_background();
    hashes
}

fn gets_twice(got: &HashMap<u32, u32>) -> u32 {
    got.values().map(|count| count - 1).sum()
}

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    // Images are kept where the first argument names a folder for them.
    let folder = std::env::args().nth(1).map_or(temporary.path().to_owned(), Into::into);
    let threads = std::env::args().nth(2).map_or(64, |threads| threads.parse().unwrap());
    let cache_mib: u64 = std::env::args().nth(3).map_or(64, |mebibytes| mebibytes.parse().unwrap());
    let big = image(&folder, "big", 2, |tree| write_file(&tree.join("big"), 1500 << 20, 1));
    let many = image(&folder, "many", 2, |tree| {
        for number in 0..4000_u64 {
            let folder = tree.join(format!("{}/{}", number / 1000, number / 50));
            std::fs::create_dir_all(&folder).unwrap();
            // From 1 KiB to 4 MiB, as many of each order.
            let len = (1024 << (mix(number) % 12)) + mix(number + 1) % 1024;
            write_file(&folder.join(number.to_string()), len, number);
        }
    });
    let mut seen: HashMap<&str, Vec<[u8; 32]>> = HashMap::new();
    for per_second in [400.0, 1000.0] {
        for latency in [20, 100].map(Duration::from_millis) {
            for (what, path, threads) in [("big", &big, 1), ("many", &many, threads)] {
                let hashes = measure(what, path, (per_second, latency), (threads, cache_mib << 20));
                assert!(seen.entry(what).or_insert_with(|| hashes.clone()) == &hashes, "other content");
            }
        }
    }
}
