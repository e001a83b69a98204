//! Disks in memory and on disk files, and how the tests scan them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::arithmetic_side_effects, reason = "a written page lies on the disk")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use stillframe_block::{BlockCache, BlockSource, Budget, SparseMemorySource};
use stillframe_model::{Coverage, CoverageKind, FingerprintKey, Report};
use stillframe_scanner::files::{FilesOptions, files};
use stillframe_scanner::progress::Progress;
use stillframe_scanner::{Disk, ScanOptions, scan};

/// What reading a volume of some megabytes may cost: far more than a sound one needs, and an end within seconds.
pub fn tight_budget() -> Budget {
    Budget { reads: 200_000, bytes: 2 << 30, time: Duration::from_secs(5) }
}

/// Scans `disk` alone, as `stillframe scan image` does.
pub fn scanned(disk: impl BlockSource + 'static, budget: Budget) -> Report {
    let mut options = ScanOptions::new(FingerprintKey::new([7; 32]));
    options.budget = budget;
    scanned_with(disk, &options)
}

/// Scans `disk` alone with these options.
pub fn scanned_with(disk: impl BlockSource + 'static, options: &ScanOptions) -> Report {
    let cache = BlockCache::new(16 << 20);
    let disks = [Disk::new(0, "disk".to_owned(), Arc::new(disk), &cache)];
    scan(&disks, options, &Progress::default())
}

/// Reads every file of `disk` alone, as `stillframe files --hash sha256` does; gives the ledger.
pub fn read_all(disk: impl BlockSource + 'static, budget: Budget) -> Vec<Coverage> {
    let disks = [Disk::new(0, "disk".to_owned(), Arc::new(disk), &BlockCache::new(16 << 20))];
    let options = FilesOptions { sha256: true, budget };
    files(&disks, options, &Progress::default(), &mut std::io::sink()).unwrap()
}

/// The rows about filesystems.
pub fn filesystems(report: &Report) -> Vec<&Coverage> {
    report.coverage.iter().filter(|row| row.kind == CoverageKind::Filesystem).collect()
}

/// The image in a compressed file, by the program for its ending.
pub fn decompressed(path: &Path) -> SparseMemorySource {
    let program = match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => "gzip",
        Some("bz2") => "bzip2",
        Some("xz") => "xz",
        _ => panic!("{} has no known ending", path.display()),
    };
    let mut child = Command::new(program).arg("-dc").arg(path).stdout(Stdio::piped()).spawn().unwrap();
    let disk = SparseMemorySource::from_reader(child.stdout.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {}", path.display());
    disk
}

/// The image file at `path`.
pub fn read(path: &Path) -> SparseMemorySource {
    SparseMemorySource::from_reader(File::open(path).unwrap()).unwrap()
}

/// Writes `disk` to `path` with holes where it has zeros.
pub fn write(disk: &SparseMemorySource, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(disk.len_bytes()).unwrap();
    for offset in disk.written_pages() {
        let rest = usize::try_from(disk.len_bytes() - offset).unwrap_or(usize::MAX);
        let mut page = vec![0; rest.min(4096)];
        disk.read_exact_at(offset, &mut page).unwrap();
        file.write_all_at(&page, offset).unwrap();
    }
}

/// Puts `bytes` at `offset`.
pub fn patch(disk: &mut SparseMemorySource, offset: u64, bytes: &[u8]) {
    for (at, byte) in (offset..).zip(bytes) {
        disk.set(at, *byte);
    }
}

/// The `LEN` bytes at `offset`.
pub fn bytes_at<const LEN: usize>(disk: &dyn BlockSource, offset: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    disk.read_exact_at(offset, &mut bytes).unwrap();
    bytes
}

/// Runs a tool that must succeed; gives what it printed.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
