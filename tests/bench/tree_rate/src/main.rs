//! `tree_rate` walks and reads one tree, and says how long it took and what was asked of the disk, as JSON on one line.
//!
//! ```text
//! tree_rate walk IMAGE       every entry with its metadata
//! tree_rate read IMAGE       the same, then the content of every file, in the order of the disk
//! tree_rate mounted FOLDER   both, by the kernel: files in the order of their inode numbers
//! tree_rate ntfs IMAGE       both, by the crate `ntfs` on one thread
//!   --threads N   2 where not given
//!   --cache MIB   of blocks, as `stillframe` has it; 48 where not given
//!   --asked       counts what readers ask of the cache, too: one lock for all threads
//! ```
//!
//! The largest filesystem of the image is the one. Nothing is hashed and nothing matched: this is what a reader costs.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "dev-only: it prints its results, and a mistake should end it"
)]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "counts of a tree of ours")]

mod image;
mod mounted;
mod peer;
mod walk;

use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a file that are asked for at once.
const PIECE_BYTES: usize = 256 << 10;

/// What the command line says.
struct Wanted {
    what: String,
    path: PathBuf,
    threads: usize,
    cache_bytes: u64,
    counts_asked: bool,
}

/// What one run came to.
#[derive(Debug, Default)]
struct Outcome {
    walk: Duration,
    content: Duration,
    entries: u64,
    files: u64,
    content_bytes: u64,
    faults: u64,
    /// What was read of the image by then.
    after_walk: Reads,
    after_content: Reads,
}

/// What was asked of the image, and, where it was counted, of the cache above it.
#[derive(Debug, Default, Clone, Copy)]
struct Reads {
    requests: u64,
    bytes: u64,
    blocks: u64,
    asked_requests: u64,
    asked_bytes: u64,
}

impl Reads {
    fn json(&self) -> String {
        format!(
            r#"{{"requests": {}, "bytes": {}, "blocks": {}, "asked_requests": {}, "asked_bytes": {}}}"#,
            self.requests, self.bytes, self.blocks, self.asked_requests, self.asked_bytes
        )
    }
}

fn wanted() -> Wanted {
    let mut places = Vec::new();
    let (mut threads, mut cache_mib, mut counts_asked) = (2, 48, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--threads" => threads = words.next().unwrap().parse().unwrap(),
            "--cache" => cache_mib = words.next().unwrap().parse().unwrap(),
            "--asked" => counts_asked = true,
            _ => places.push(word),
        }
    }
    let [what, path] = places.as_slice() else { panic!("usage: tree_rate walk|read|mounted|ntfs PLACE") };
    let (what, path) = (what.clone(), PathBuf::from(path));
    Wanted { what, path, threads, cache_bytes: cache_mib << 20, counts_asked }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() {
    let wanted = wanted();
    rayon::ThreadPoolBuilder::new().num_threads(wanted.threads).build_global().unwrap();
    let outcome = match wanted.what.as_str() {
        "walk" => image::run(&wanted, false),
        "read" => image::run(&wanted, true),
        "mounted" => mounted::run(&wanted.path),
        "ntfs" => peer::run(&wanted.path),
        other => panic!("{other} is not walk, read, mounted or ntfs"),
    };
    println!(
        r#"{{"walk_seconds": {:.4}, "content_seconds": {:.4}, "entries": {}, "files": {}, "content_bytes": {}, "faults": {}, "peak_kib": {}, "after_walk": {}, "after_content": {}}}"#,
        outcome.walk.as_secs_f64(),
        outcome.content.as_secs_f64(),
        outcome.entries,
        outcome.files,
        outcome.content_bytes,
        outcome.faults,
        peak_kib(),
        outcome.after_walk.json(),
        outcome.after_content.json()
    );
}
