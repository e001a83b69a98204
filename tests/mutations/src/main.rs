//! `mutate` reads mutants of golden disks in processes of its own, and says what it met.
//!
//! ```text
//! mutate [--count N] [--seed S] [--jobs J] [--entries E] [NAME…]
//!                         N mutants in all, of these goldens or of all that are small; at most E entries of each are read
//! mutate --files FILE…    image files as they are, compressed ones too
//! mutate --one NAME INDEX [--seed S] [--write FILE]
//!                         one mutant with its panics shown, or written to a file
//! ```
//!
//! It fails where code of ours panicked, a panic passed a reader, a mutant took longer than 10 seconds or 512 MiB, a
//! process died, or a changed disk whose checksums say so was believed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    reason = "dev-only: it prints its results, and a mistake should end it"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counts and times of ours"
)]

mod supervisor;
mod worker;

use std::process::ExitCode;

/// What the command line says.
#[derive(Debug, Clone)]
struct Wanted {
    count: u64,
    seed: u64,
    jobs: usize,
    entries: usize,
    mode: Mode,
    words: Vec<String>,
    write: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Supervise,
    Files,
    One,
    Work,
    WorkOnFiles,
}

const SEED: u64 = 0x5f17_1f4a_3e00_0003;

fn wanted() -> Wanted {
    let mut wanted = Wanted {
        count: 2000,
        seed: SEED,
        jobs: 2,
        entries: stillframe_mutations::ENTRIES,
        mode: Mode::Supervise,
        words: Vec::new(),
        write: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--count" => wanted.count = value().parse().unwrap(),
            "--seed" => wanted.seed = value().parse().unwrap(),
            "--jobs" => wanted.jobs = value().parse().unwrap(),
            "--entries" => wanted.entries = value().parse().unwrap(),
            "--write" => wanted.write = Some(value()),
            "--files" => wanted.mode = Mode::Files,
            "--one" => wanted.mode = Mode::One,
            "--work" => wanted.mode = Mode::Work,
            "--work-on-files" => wanted.mode = Mode::WorkOnFiles,
            _ => wanted.words.push(word),
        }
    }
    wanted
}

fn main() -> ExitCode {
    let wanted = wanted();
    match wanted.mode {
        Mode::Supervise | Mode::Files => supervisor::run(&wanted),
        Mode::One => worker::one(&wanted),
        Mode::Work => worker::mutants(&wanted),
        Mode::WorkOnFiles => worker::files(&wanted),
    }
}
