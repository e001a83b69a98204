//! Starts workers, watches them, and adds up what they tell.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stillframe_fixtures::golden_names;
use stillframe_mutations::{Golden, MAX_WRITTEN_BYTES};

use crate::{Mode, Wanted};

const LONGEST: Duration = Duration::from_secs(10);
/// A worker that says nothing for so long is ended.
const SILENCE: Duration = Duration::from_secs(30);
const MOST_MEMORY_KIB: u64 = 512 << 10;
/// What a worker may take of address space, so that a reader that takes everything dies before the machine does.
const ADDRESS_SPACE_KIB: &str = "6000000";
const MUTANTS_A_WORKER: u64 = 500;

/// Mutants `from` to `to` of a golden, or all image files.
#[derive(Debug, Clone)]
struct Job {
    name: String,
    from: u64,
    to: u64,
}

/// What became of the mutants of one image.
#[derive(Debug, Clone, Default)]
struct Tally {
    mutants: u64,
    entries: u64,
    busy_micros: u64,
    longest: (u64, u64),
    most_memory: (u64, u64),
}

#[derive(Default)]
struct Results {
    tallies: BTreeMap<String, Tally>,
    panics: BTreeMap<String, u64>,
    failures: Vec<String>,
}

pub(crate) fn run(wanted: &Wanted) -> ExitCode {
    let jobs = Mutex::new(if wanted.mode == Mode::Files { file_jobs(wanted) } else { golden_jobs(wanted) });
    let results = Mutex::new(Results::default());
    let started = Instant::now();
    let take = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
    std::thread::scope(|scope| {
        for _ in 0..wanted.jobs {
            scope.spawn(|| {
                while let Some(job) = take() {
                    finish(job, wanted, &results);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.print(started.elapsed(), wanted.seed);
    if results.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As many mutants of each image: of those named, or of all with a filesystem and little that is written.
fn golden_jobs(wanted: &Wanted) -> Vec<Job> {
    let names = match wanted.words.as_slice() {
        [] => golden_names().into_iter().filter(|name| is_small(name)).collect(),
        names => names.to_vec(),
    };
    let each = wanted.count.div_ceil((names.len() as u64).max(1));
    let mut jobs = Vec::new();
    for name in names {
        for from in (0..each).step_by(MUTANTS_A_WORKER as usize) {
            jobs.push(Job { name: name.clone(), from, to: (from + MUTANTS_A_WORKER).min(each) });
        }
    }
    jobs
}

fn is_small(name: &str) -> bool {
    let golden = Golden::open(name);
    golden.written_bytes() <= MAX_WRITTEN_BYTES && !golden.volumes.is_empty()
}

fn file_jobs(wanted: &Wanted) -> Vec<Job> {
    vec![Job { name: "files".to_owned(), from: 0, to: wanted.words.len() as u64 }]
}

/// Runs workers until the job is done: one that dies is followed by one that goes on behind the mutant it died of.
fn finish(mut job: Job, wanted: &Wanted, results: &Mutex<Results>) {
    while job.from < job.to {
        let mut child = start(&job, wanted);
        let (sender, lines) = channel();
        let output = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        let was_at = watch(&mut child, &lines, &job, results);
        let _ = child.wait();
        let _ = reader.join();
        match was_at {
            Some(index) => job.from = index + 1,
            None => return,
        }
    }
}

fn start(job: &Job, wanted: &Wanted) -> Child {
    let program = std::env::current_exe().unwrap();
    let numbers = [("--seed", wanted.seed.to_string()), ("--entries", wanted.entries.to_string())];
    let mut words: Vec<String> =
        numbers.into_iter().flat_map(|(word, number)| [word.to_owned(), number]).collect();
    if wanted.mode == Mode::Files {
        words.extend(["--work-on-files".to_owned(), job.from.to_string()]);
        words.extend(wanted.words.iter().cloned());
    } else {
        words.extend(["--work".to_owned(), job.name.clone(), job.from.to_string(), job.to.to_string()]);
    }
    Command::new("sh")
        .args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh", ADDRESS_SPACE_KIB])
        .arg(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Takes what a worker tells; the mutant at which it ended, where that was not the last.
fn watch(child: &mut Child, lines: &Receiver<String>, job: &Job, results: &Mutex<Results>) -> Option<u64> {
    let mut at = None;
    loop {
        let line = match lines.recv_timeout(SILENCE) {
            Ok(line) => line,
            Err(silent) => {
                let words = match silent {
                    RecvTimeoutError::Timeout => "said nothing for 30 seconds",
                    RecvTimeoutError::Disconnected => "ended the process",
                };
                let _ = child.kill();
                let has_ended_well =
                    silent == RecvTimeoutError::Disconnected && at.is_none_or(|(_, is_done)| is_done);
                let is_complete = at.is_some_and(|(index, _)| index + 1 == job.to);
                if has_ended_well && is_complete {
                    return None;
                }
                let index = at.map_or(job.from, |(index, _)| index);
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.failures.push(format!("{} {index}: {words}", job.name));
                return Some(index);
            }
        };
        let mut fields = line.split('\t');
        let (word, index) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let rest: Vec<&str> = fields.collect();
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        match word {
            "start" => at = index.parse().ok().map(|index| (index, false)),
            "panic" => results.panicked(index, job, at.map_or(0, |(index, _)| index)),
            "crossed" => results.failures.push(format!("{} {index}: a panic passed the reader", job.name)),
            "differs" => results.failures.push(format!("{} {index}: believed: {}", job.name, rest.join(" "))),
            "done" => {
                at = index.parse().ok().map(|index| (index, true));
                results.done(job, index, &rest);
            }
            _ => {}
        }
    }
}

impl Results {
    /// A panic in code of ours, or of the standard library on its behalf, is a failure even where it was caught.
    fn panicked(&mut self, place: &str, job: &Job, index: u64) {
        let count = self.panics.entry(place.to_owned()).or_default();
        *count += 1;
        if *count <= 3 && !place.contains("/registry/src/") {
            self.failures.push(format!("{} {index}: panicked at {place}", job.name));
        }
    }

    fn done(&mut self, job: &Job, index: &str, rest: &[&str]) {
        let number = |at: usize| rest.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let (micros, memory_kib, entries) = (number(0), number(1), number(2));
        let tally = self.tallies.entry(job.name.clone()).or_default();
        let index = index.parse().unwrap_or(0);
        tally.mutants += 1;
        tally.entries += entries;
        tally.busy_micros += micros;
        tally.longest = tally.longest.max((micros, index));
        tally.most_memory = tally.most_memory.max((memory_kib, index));
        if u128::from(micros) > LONGEST.as_micros() {
            self.failures.push(format!("{} {index}: took {} ms", job.name, micros / 1000));
        }
        if memory_kib > MOST_MEMORY_KIB {
            self.failures.push(format!("{} {index}: took {} MiB", job.name, memory_kib / 1024));
        }
    }

    fn print(&self, elapsed: Duration, seed: u64) {
        println!("image\tmutants\tentries\tms each\tlongest ms (of)\tmost MiB (of)");
        for (name, tally) in &self.tallies {
            println!(
                "{name}\t{}\t{}\t{:.2}\t{} ({})\t{} ({})",
                tally.mutants,
                tally.entries,
                tally.busy_micros as f64 / 1000.0 / tally.mutants as f64,
                tally.longest.0 / 1000,
                tally.longest.1,
                tally.most_memory.0 / 1024,
                tally.most_memory.1
            );
        }
        for (place, count) in &self.panics {
            let whose = if place.contains("/registry/src/") { "caught, in another's crate" } else { "OURS" };
            println!("{count} panics ({whose}) at {place}");
        }
        for failure in &self.failures {
            println!("FAILED  {failure}");
        }
        let mutants: u64 = self.tallies.values().map(|tally| tally.mutants).sum();
        let images = self.tallies.len();
        let rate = mutants as f64 / elapsed.as_secs_f64();
        println!(
            "{mutants} mutants of {images} images in {:.1} s: {rate:.0} a second; seed {seed}; {} failures",
            elapsed.as_secs_f64(),
            self.failures.len()
        );
    }
}
