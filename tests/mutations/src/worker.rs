//! Reads mutants one after the other and tells of each on a line. What it dies of is known by the line before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Instant;

use stillframe_block::{BlockSource, SparseMemorySource};
use stillframe_mutations::{
    Depth, Golden, Guarded, Listing, Volume, differing, read_all, read_all_into, small_budget,
};

use crate::Wanted;

/// All of a golden disk: where a mutant lacks a folder, its walk comes further.
const TRUE_ENTRIES: usize = 20_000;

/// Mutants `FROM` to `TO` of the golden `NAME`, the three words of the command line.
pub(crate) fn mutants(wanted: &Wanted) -> ExitCode {
    let [name, from, to] = wanted.words.as_slice() else { panic!("--work NAME FROM TO") };
    tell_panics();
    let golden = Golden::open(name);
    let truth = golden.volumes.iter().map(|volume| truth(&golden, volume)).collect::<Vec<_>>();
    for index in from.parse().unwrap()..to.parse::<u64>().unwrap() {
        say(&format!("start\t{index}"));
        measured(index, || {
            let (mutant, depth) = golden.mutated(wanted.seed, index);
            let disk: Arc<dyn BlockSource> = Arc::new(mutant);
            // The partition table may have been changed, too: what it leads to now is not looked at twice.
            let _ = stillframe_mutations::volumes(&disk);
            let mut entries = 0;
            for (volume, truth) in golden.volumes.iter().zip(&truth) {
                let Ok(opened) = volume.open(disk.clone(), small_budget()) else { continue };
                match truth.as_ref().filter(|_| depth == Depth::None) {
                    None => entries += read_all(&opened, wanted.entries),
                    Some((truth, guarded)) => {
                        let mut listing = Listing::new();
                        entries += read_all_into(&opened, wanted.entries, &mut |path, row| {
                            listing.insert(path, row);
                        });
                        let faults = opened.fs.faults();
                        let all = differing(truth, &listing, &faults, *guarded);
                        if let Some((path, what)) = all.first() {
                            let (path, more) = (path.escape_ascii(), all.len() - 1);
                            say(&format!("differs\t{index}\t{path} {what}, and {more} more"));
                        }
                    }
                }
            }
            entries
        });
    }
    ExitCode::SUCCESS
}

/// What is on a volume of the golden disk, where checksums guard it.
fn truth(golden: &Golden, volume: &Volume) -> Option<(Listing, Guarded)> {
    let opened = volume.open(golden.disk.clone(), small_budget()).ok()?;
    let guarded = Guarded::on(golden, volume, opened.fs.description())?;
    let mut listing = Listing::new();
    read_all_into(&opened, TRUE_ENTRIES, &mut |path, row| {
        listing.insert(path, row);
    });
    Some((listing, guarded))
}

/// The image files from number `FROM`, which is the first word.
pub(crate) fn files(wanted: &Wanted) -> ExitCode {
    let Some((from, paths)) = wanted.words.split_first() else { panic!("--work-on-files FROM FILE…") };
    tell_panics();
    for (index, path) in (0..).zip(paths).skip(from.parse().unwrap()) {
        say(&format!("start\t{index}"));
        let disk: Arc<dyn BlockSource> = Arc::new(image(Path::new(path)));
        measured(index, || {
            let opened = stillframe_mutations::volumes(&disk).into_iter();
            opened
                .filter_map(|volume| {
                    Some(read_all(&volume.open(disk.clone(), small_budget()).ok()?, wanted.entries))
                })
                .sum()
        });
    }
    ExitCode::SUCCESS
}

fn image(path: &Path) -> SparseMemorySource {
    let program = match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => "gzip",
        Some("bz2") => "bzip2",
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return SparseMemorySource::from_reader(File::open(path).unwrap()).unwrap(),
    };
    let mut child = Command::new(program).arg("-dc").arg(path).stdout(Stdio::piped()).spawn().unwrap();
    let disk = SparseMemorySource::from_reader(child.stdout.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {}", path.display());
    disk
}

/// One mutant, for whoever looks for what went wrong in it.
pub(crate) fn one(wanted: &Wanted) -> ExitCode {
    let [name, index] = wanted.words.as_slice() else { panic!("--one NAME INDEX") };
    let golden = Golden::open(name);
    let (mutant, depth) = golden.mutated(wanted.seed, index.parse().unwrap());
    println!("checksums made right: {depth:?}");
    for page in &golden.pages {
        let mut changed = BTreeMap::new();
        let (mut before, mut after) = ([0; 4096], [0; 4096]);
        golden.disk.read_exact_at(*page, &mut before).unwrap();
        mutant.read_exact_at(*page, &mut after).unwrap();
        for ((at, before), after) in (*page..).zip(before).zip(after).filter(|((_, a), b)| a != b).take(40) {
            changed.insert(at, format!("{before:02x}>{after:02x}"));
        }
        if let Some((at, _)) = changed.first_key_value() {
            println!("{at:#x}: {}", changed.values().cloned().collect::<Vec<_>>().join(" "));
        }
    }
    if let Some(path) = &wanted.write {
        let mut file = File::create(path).unwrap();
        let mut page = vec![0; 4096];
        for at in (0..mutant.len_bytes()).step_by(4096) {
            let len = (mutant.len_bytes() - at).min(4096) as usize;
            mutant.read_exact_at(at, page.get_mut(..len).unwrap()).unwrap();
            file.write_all(page.get(..len).unwrap()).unwrap();
        }
        return ExitCode::SUCCESS;
    }
    let disk: Arc<dyn BlockSource> = Arc::new(mutant);
    for volume in &golden.volumes {
        let started = Instant::now();
        match volume.open(disk.clone(), small_budget()) {
            Ok(opened) => {
                let entries = read_all(&opened, wanted.entries);
                let faults = opened.fs.faults();
                println!("{:?}: {entries} entries in {:?}, {faults:?}", volume.range, started.elapsed());
            }
            Err(error) => println!("{:?}: {error} in {:?}", volume.range, started.elapsed()),
        }
    }
    ExitCode::SUCCESS
}

fn measured(index: u64, read: impl FnOnce() -> usize) {
    // The peak from here on: proc(5), clear_refs.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let started = Instant::now();
    let entries = catch_unwind(AssertUnwindSafe(read));
    let micros = started.elapsed().as_micros();
    if entries.is_err() {
        say(&format!("crossed\t{index}\t"));
    }
    say(&format!("done\t{index}\t{micros}\t{}\t{}", peak_kib(), entries.unwrap_or(0)));
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn say(line: &str) {
    println!("{line}");
}

/// Tells the place of each panic: what it says may quote the disk.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        say(&format!("panic\t{}", place.unwrap_or_default()));
    }));
}
