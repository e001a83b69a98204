//! How fast cached blocks go from one process to another.
//!
//! ```sh
//! cargo run --release -p stillframe-channel --example channel_rate
//! ```
//!
//! This process serves 64 MiB of blocks from a cache; as many other processes as the first argument says (1) read them
//! over a lane each, 8 GiB in all, in blocks of 512 KiB and in an order that is not the disk's. One line: GiB a second,
//! the median of five runs, the slowest and the fastest.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a program for measuring, over data of its own"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use stillframe_block::{BLOCK_BYTES, BlockCache, BlockSource, CachedSource, MemorySource};
use stillframe_channel::{ChannelSource, Lanes, serve};

const DISK_BYTES: u64 = 64 << 20;
const ALL_BYTES: u64 = 8 << 30;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some("read") {
        return read(arguments[1].parse().unwrap());
    }
    let readers = arguments.first().map_or(1, |count| count.parse().unwrap());
    let bytes = (0..DISK_BYTES).map(|at| u8::try_from(at / 4096 % 251).unwrap()).collect();
    let cached = CachedSource::new(Arc::new(MemorySource(bytes)), BlockCache::new(2 * DISK_BYTES), 0);
    let disks: Arc<[Arc<dyn BlockSource>]> = Arc::new([Arc::new(cached) as Arc<dyn BlockSource>]);
    let mut rates: Vec<f64> = (0..6).map(|_| measure(readers, &disks)).collect();
    // The first run fills the cache.
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    println!("{readers} readers: {:.2} GiB/s ({:.2}–{:.2})", rates[2], rates[0], rates[4]);
}

fn measure(readers: u64, disks: &Arc<[Arc<dyn BlockSource>]>) -> f64 {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..readers {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut child = Command::new("/proc/self/exe")
                .args(["read", &(ALL_BYTES / readers / BLOCK_BYTES).to_string()])
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .spawn()
                .unwrap();
            scope.spawn(move || {
                serve(&ours, disks).unwrap();
                assert!(child.wait().unwrap().success());
            });
        }
    });
    ALL_BYTES as f64 / begun.elapsed().as_secs_f64() / (1_u64 << 30) as f64
}

fn read(blocks: u64) {
    let lane = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let source = ChannelSource::new(Lanes::new(vec![lane]), 0, DISK_BYTES, false);
    let mut block = vec![0; usize::try_from(BLOCK_BYTES).unwrap()];
    for number in 0..blocks {
        let at = number * 37 % (DISK_BYTES / BLOCK_BYTES) * BLOCK_BYTES;
        source.read_exact_at(at, &mut block).unwrap();
        assert_eq!(u64::from(block[0]), at / 4096 % 251);
    }
}
