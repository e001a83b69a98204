//! The process that starts workers, watches them, and goes on where one dies.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stillframe_block::{BlockSource, Budget, MemorySource};
use stillframe_channel::serve;
use stillframe_detectors::RULES;
use stillframe_model::DiskText;

use super::child::WORD;
use super::death::Death;
use super::frame::{self, FrameError, Messages};
use super::keep::Kept;
use super::message::{DiskOrder, Done, Job, Message, Order, ReadBy};
use super::{Bytes, IsolationError, Sandbox, Supervision, Target, accept, descriptors, log};
use crate::progress::Measured;

/// So many workers may die on the disks of one machine. Then those volumes that were not read are given up.
const MAX_DEATHS: u64 = 16;
/// Between looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// What all workers of a machine may say together, without what they list: a report and the facts that it is made of.
const MAX_SAID_BYTES: u64 = 256 << 20;
/// Messages that a worker may send at once, and a second: files with facts, and its heartbeat.
const MESSAGES_AT_ONCE: u64 = 100_000;
const MESSAGES_A_SECOND: u64 = 5_000;
/// Log lines of one worker that are passed on.
const MAX_LOG_LINES: u64 = 200;
/// How much of standard error is kept: the runtime's last words.
const LAST_WORDS_BYTES: u64 = 16 * 1024;
/// Address space beside the cache: for each thread its stack, for each of the allocator's arenas what it reserves, of
/// which there are at most eight for each core, and for the rest.
const SPACE_OF_A_STACK: u64 = 3 << 20;
const SPACE_OF_AN_ARENA: u64 = 64 << 20;
const ARENAS_OF_A_CORE: u64 = 8;
const SPACE_OF_THE_REST: u64 = 2 << 30;
/// The longest part of a listing that has no line's end: a path has 64 KiB at most, before it is escaped.
const MAX_TAIL_BYTES: usize = 1 << 20;
/// For putting facts together, which reads no disk.
const CONCLUDE_WITHIN: Duration = Duration::from_secs(600);

/// What a worker said that it is confined by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ConfinedBy {
    pub(super) landlock_abi: Option<u32>,
    pub(super) seccomp: bool,
    pub(super) memory_locked: bool,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) started: Timestamp,
    pub(super) done: Result<Done, Death>,
    pub(super) kept: Kept,
    pub(super) confined: ConfinedBy,
}

/// Has the job done by one worker after another, until one is done or another would die of the same.
pub(super) fn run(
    targets: &[Target],
    job: &Job,
    budget: Budget,
    supervision: &Supervision<'_>,
    out: &mut dyn Write,
) -> Result<Ended, IsolationError> {
    let started = Timestamp::now();
    let mut kept = Kept::default();
    let mut confined = ConfinedBy::default();
    let mut traffic = Traffic::default();
    loop {
        kept.begin();
        let mut worker = match Running::start(supervision) {
            Ok(worker) => worker,
            // Another process was there before: what it died of must not make this one parse.
            Err(_) if kept.deaths > 0 => {
                return Ok(Ended { started, done: Err(Death::NoAnswer), kept, confined });
            }
            Err(error) => return Err(error),
        };
        // Where it takes no order it has ended, or does not read: both are seen below.
        let _ = worker.order(targets, job, budget, supervision, &kept);
        let mut watch = Watch { kept: &mut kept, traffic: &mut traffic, targets, job, budget, supervision };
        let ended = worker.watch(&mut watch, out);
        confined = worker.confined.unwrap_or(confined);
        let death = match ended {
            Ok(done) => return Ok(Ended { started, done: Ok(done), kept, confined }),
            Err(Unfinished::Error(error)) => return Err(error),
            Err(Unfinished::Died(death)) => death,
        };
        let step = kept.step().map_or_else(|| "at its start".to_owned(), ToString::to_string);
        tracing::warn!(target: "stillframe", "a reader ended {step}: {}", death.words());
        if !kept.died(death) || kept.deaths > MAX_DEATHS {
            return Ok(Ended { started, done: Err(death), kept, confined });
        }
        if kept.deaths == MAX_DEATHS {
            kept.give_up();
        }
    }
}

/// What a worker is watched by.
struct Watch<'a> {
    kept: &'a mut Kept,
    traffic: &'a mut Traffic,
    targets: &'a [Target],
    job: &'a Job,
    budget: Budget,
    supervision: &'a Supervision<'a>,
}

enum Unfinished {
    Died(Death),
    Error(IsolationError),
}

impl From<Death> for Unfinished {
    fn from(death: Death) -> Self {
        Self::Died(death)
    }
}

/// A worker that runs. Dropped, it is ended.
struct Running {
    /// Taken when it is dropped.
    process: Option<Child>,
    control: UnixStream,
    lanes: Vec<UnixStream>,
    misuse: Arc<Mutex<Option<&'static str>>>,
    last_words: Option<JoinHandle<Vec<u8>>>,
    /// Once it has said so.
    confined: Option<ConfinedBy>,
}

impl Running {
    fn start(supervision: &Supervision<'_>) -> Result<Self, IsolationError> {
        let begin = || -> io::Result<Self> {
            let (control, theirs) = UnixStream::pair()?;
            let mut process = Command::new("/proc/self/exe")
                // What a list of processes shows.
                .arg0("stillframe-reader")
                .arg(WORD)
                .args(&supervision.worker.arguments)
                .env_clear()
                .current_dir("/")
                // An interrupt from the terminal is for this process to handle.
                .process_group(0)
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            let listening = process.stderr.take().map(|stderr| {
                thread::Builder::new().name("last-words".to_owned()).spawn(move || {
                    let mut said = Vec::new();
                    let _ = stderr.take(LAST_WORDS_BYTES).read_to_end(&mut said);
                    said
                })
            });
            // Without it only the cause of an end is less clear.
            let last_words = listening.and_then(Result::ok);
            Ok(Self {
                process: Some(process),
                control,
                lanes: Vec::new(),
                misuse: Arc::default(),
                last_words,
                confined: None,
            })
        };
        begin().map_err(IsolationError::Start)
    }

    /// Sends the order, and the descriptors that belong to it.
    fn order(
        &mut self,
        targets: &[Target],
        job: &Job,
        budget: Budget,
        supervision: &Supervision<'_>,
        kept: &Kept,
    ) -> io::Result<()> {
        let threads = supervision.threads.max(1);
        let is_here = |target: &&Target| matches!(target.bytes, Bytes::Here(_));
        // One more than threads: the heartbeat asks for nothing, but whoever hints must not wait for one that reads.
        let lanes = if targets.iter().any(|target| is_here(&target)) { threads.saturating_add(1) } else { 0 };
        let thread_count = u64::try_from(threads).unwrap_or(u64::MAX);
        let volumes = u64::try_from(targets.len()).unwrap_or(u64::MAX).saturating_mul(8);
        let order = Order {
            job: job.clone(),
            disks: targets.iter().map(disk_order).collect(),
            lanes,
            threads,
            cache_bytes: supervision.cache_bytes,
            address_space_bytes: address_space(supervision.cache_bytes, thread_count),
            cpu_seconds: budget.time.as_secs().saturating_mul(thread_count).saturating_mul(volumes).max(60),
            log_level: log::wanted(),
            before: kept.before.clone(),
        };
        // Whoever does not read is not waited for.
        self.control.set_write_timeout(Some(supervision.worker.silence))?;
        frame::write(&mut &self.control, &order)?;
        let mut theirs = Vec::new();
        for _ in 0..lanes {
            let (one, other) = UnixStream::pair()?;
            self.lanes.push(one);
            theirs.push(other);
        }
        let files = targets.iter().filter_map(|target| match &target.bytes {
            Bytes::File(file) => Some(file.as_fd()),
            Bytes::Here(_) => None,
        });
        let all: Vec<BorrowedFd<'_>> = files.chain(theirs.iter().map(AsFd::as_fd)).collect();
        descriptors::send(&self.control, &all)
    }

    /// Answers questions about disks, each lane on a thread of its own. Not before the worker is confined.
    fn serve(&mut self, targets: &[Target]) {
        let disks: Arc<[Arc<dyn BlockSource>]> = targets.iter().map(served).collect();
        for lane in self.lanes.drain(..) {
            let (disks, misuse) = (disks.clone(), self.misuse.clone());
            let serving = thread::Builder::new().name("lane".to_owned()).spawn(move || {
                if let Err(what) = serve(&lane, &disks) {
                    misuse.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what.0);
                }
            });
            // A lane that nobody serves is closed, and the reader's question fails.
            drop(serving);
        }
    }

    /// Listens until it is done or must be given up.
    fn watch(&mut self, watch: &mut Watch<'_>, out: &mut dyn Write) -> Result<Done, Unfinished> {
        let control = self.control.try_clone().map_err(|_| Death::NoAnswer)?;
        // A socket that is open takes a time that is not zero.
        let _ = control.set_read_timeout(Some(TICK));
        let mut messages = Messages::new(control);
        let mut clock = Clock::new(watch.budget, watch.supervision);
        let mut lines = Lines::default();
        let disks: Vec<u32> = watch.targets.iter().map(|target| target.number).collect();
        loop {
            if !(watch.supervision.is_wanted)() {
                return Err(Unfinished::Error(IsolationError::Stopped));
            }
            if let Some(what) = *self.misuse.lock().unwrap_or_else(PoisonError::into_inner) {
                return Err(Death::Forgery(what).into());
            }
            clock.check()?;
            let before = messages.received;
            let taken = messages.next::<Message>();
            watch.traffic.add(messages.received.saturating_sub(before))?;
            let message = match taken {
                Ok(None) => continue,
                Ok(Some(message)) => message,
                Err(FrameError::Closed) => return Err(self.ended().into()),
                Err(FrameError::TooLong | FrameError::Malformed) => return Err(Death::Nonsense.into()),
            };
            clock.heard();
            watch.traffic.count()?;
            match message {
                Message::Log { level, line } => {
                    if watch.traffic.may_log() {
                        log::relay(level, &line);
                    }
                }
                Message::Confined { landlock_abi, seccomp, memory_locked } if self.confined.is_none() => {
                    self.confined = Some(ConfinedBy { landlock_abi, seccomp, memory_locked });
                    judge(landlock_abi, seccomp, watch.supervision.sandbox)?;
                    self.serve(watch.targets);
                }
                Message::NotConfined(what) if self.confined.is_none() => {
                    // Said before anything of a disk was read; escaped and cut all the same.
                    let what = DiskText::new(&what).to_string();
                    return Err(Unfinished::Error(IsolationError::NotConfined { what }));
                }
                // Once, and before anything else.
                Message::Confined { .. } | Message::NotConfined(_) => {
                    return Err(Death::Forgery("it spoke of its confinement again").into());
                }
                _ if self.confined.is_none() => return Err(Death::Nonsense.into()),
                Message::Progress { entries, files_read, files_wanted, bytes } => {
                    show(watch, [entries, files_read, files_wanted], bytes);
                }
                Message::Listing(text) if matches!(watch.job, Job::Files { .. }) => {
                    watch.traffic.listed(&text);
                    let begun = Instant::now();
                    lines.write(&text, out)?;
                    // Who reads the list may take a rest: that is not the worker's silence.
                    clock.forgive(begun.elapsed());
                }
                Message::Listing(_) => return Err(Death::Nonsense.into()),
                Message::Panicked => return Err(Death::Panic.into()),
                Message::Done(done) => {
                    if !watch.kept.has_read_all() {
                        return Err(Death::Forgery("it did not read all that it met").into());
                    }
                    return Ok(accepted(done, &disks)?);
                }
                Message::Step(step) => {
                    clock.begin(&step);
                    watch.kept.take(Message::Step(step), 0, &disks)?;
                }
                told => watch.kept.take(told, messages.taken_bytes, &disks)?,
            }
        }
    }

    /// What it ended of.
    fn ended(&mut self) -> Death {
        // It closed its channel: it is ending, or it hides.
        let until = Instant::now().checked_add(Duration::from_secs(5));
        let status = loop {
            match self.process.as_mut().map_or(Ok(None), Child::try_wait) {
                Ok(Some(status)) => break Some(status),
                Ok(None) if until.is_some_and(|until| Instant::now() < until) => {
                    thread::sleep(Duration::from_millis(5))
                }
                Ok(None) | Err(_) => break None,
            }
        };
        let Some(status) = status else { return Death::NoAnswer };
        let said = self.last_words.take().and_then(|said| said.join().ok()).unwrap_or_default();
        Death::of(status, &said)
    }
}

/// Whether it is confined as far as was required.
fn judge(landlock_abi: Option<u32>, seccomp: bool, sandbox: Sandbox) -> Result<(), Unfinished> {
    let missing = match (landlock_abi, seccomp) {
        (Some(_), true) => return Ok(()),
        (None, true) => "this kernel has no Landlock",
        (Some(_), false) => "this kernel cannot filter system calls",
        (None, false) => "this kernel has neither Landlock nor a filter of system calls",
    };
    match sandbox {
        Sandbox::Required => Err(Unfinished::Error(IsolationError::NotConfined { what: missing.to_owned() })),
        Sandbox::Auto | Sandbox::Off => {
            tracing::info!(target: "stillframe", "the process that reads disks is less confined: {missing}");
            Ok(())
        }
    }
}

/// The lines of a listing: those that are whole are written. Where a worker dies, half a line is dropped with it.
#[derive(Default)]
struct Lines {
    tail: String,
}

impl Lines {
    fn write(&mut self, text: &str, out: &mut dyn Write) -> Result<(), Unfinished> {
        self.tail.push_str(text);
        let whole = self.tail.rfind('\n').map_or(0, |end| end.saturating_add(1));
        let rest = self.tail.split_off(whole);
        let lines = std::mem::replace(&mut self.tail, rest);
        if self.tail.len() > MAX_TAIL_BYTES {
            return Err(Death::Nonsense.into());
        }
        out.write_all(lines.as_bytes()).map_err(|error| Unfinished::Error(IsolationError::Write(error)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            // The kernel takes milliseconds to take its memory back: nobody needs to wait for that.
            let waiting = thread::Builder::new().name("reaper".to_owned()).spawn(move || process.wait());
            drop(waiting);
        }
    }
}

fn address_space(cache_bytes: u64, threads: u64) -> u64 {
    let cores = thread::available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1));
    let arenas = ARENAS_OF_A_CORE.saturating_mul(cores).min(threads.saturating_add(2));
    SPACE_OF_THE_REST
        .saturating_add(cache_bytes)
        .saturating_add(SPACE_OF_AN_ARENA.saturating_mul(arenas))
        .saturating_add(SPACE_OF_A_STACK.saturating_mul(threads))
}

fn disk_order(target: &Target) -> DiskOrder {
    let read_by = match &target.bytes {
        Bytes::File(_) => ReadBy::File,
        Bytes::Here(source) => {
            ReadBy::Lane { len_bytes: source.len_bytes(), wants_hints: source.wants_hints() }
        }
    };
    DiskOrder { number: target.number, attached_as: target.attached_as.clone(), read_by }
}

/// Disks that the worker reads by itself are not served.
fn served(target: &Target) -> Arc<dyn BlockSource> {
    match &target.bytes {
        Bytes::File(_) => Arc::new(MemorySource(Vec::new())),
        Bytes::Here(source) => source.clone(),
    }
}

fn accepted(done: Done, disks: &[u32]) -> Result<Done, Death> {
    Ok(match done {
        Done::Report(report) => Done::Report(Box::new(accept::of_worker(*report, disks, RULES)?)),
        Done::Rows(rows) if rows.len() > accept::MAX_ROWS => return Err(Death::Flood),
        Done::Rows(rows) => {
            Done::Rows(rows.into_iter().map(|row| accept::row(row, disks)).collect::<Result<_, _>>()?)
        }
    })
}

/// Shows how far it is. What it is at is told in words of this process; what reading elsewhere costs is measured here.
fn show(watch: &Watch<'_>, counts: [u64; 3], bytes: u64) {
    let (progress, stage) = (watch.supervision.progress, watch.kept.stage());
    match stage.strip_prefix("reading ") {
        Some(what) => progress.set_reading(what),
        None => progress.set_stage(stage),
    }
    progress.set_counts(counts);
    if watch.targets.iter().all(|target| matches!(target.bytes, Bytes::File(_))) {
        progress.measure(move || Measured { bytes, note: None });
    }
}

/// When it must have said something, and when it must be done with what it is at.
struct Clock {
    silence: Duration,
    grace: Duration,
    budget: Duration,
    heard: Instant,
    begun: Instant,
    within: Duration,
}

impl Clock {
    fn new(budget: Budget, supervision: &Supervision<'_>) -> Self {
        let (now, worker) = (Instant::now(), &supervision.worker);
        Self {
            silence: worker.silence,
            grace: worker.grace,
            budget: budget.time,
            heard: now,
            begun: now,
            // To be confined and to say its first step.
            within: worker.silence.saturating_mul(2),
        }
    }

    fn heard(&mut self) {
        self.heard = Instant::now();
    }

    fn begin(&mut self, step: &super::message::StepTold) {
        let within = if *step == super::message::StepTold::Conclude { CONCLUDE_WITHIN } else { self.budget };
        self.within = within.saturating_add(self.grace);
        self.begun = Instant::now();
    }

    /// Time in which this process did not listen.
    fn forgive(&mut self, time: Duration) {
        self.begun = self.begun.checked_add(time).unwrap_or(self.begun);
        self.heard();
    }

    fn check(&self) -> Result<(), Death> {
        if self.begun.elapsed() > self.within {
            return Err(Death::Deadline);
        }
        if self.heard.elapsed() > self.silence {
            return Err(Death::Silence);
        }
        Ok(())
    }
}

/// How much the workers of a machine say.
struct Traffic {
    since: Instant,
    messages: u64,
    received: u64,
    listed: u64,
    log_lines: u64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { since: Instant::now(), messages: 0, received: 0, listed: 0, log_lines: 0 }
    }
}

impl Traffic {
    fn add(&mut self, bytes: u64) -> Result<(), Death> {
        self.received = self.received.saturating_add(bytes);
        // A listing as JSON is at most six times as long as its text.
        let most = MAX_SAID_BYTES.saturating_add(self.listed.saturating_mul(6));
        if self.received > most { Err(Death::Flood) } else { Ok(()) }
    }

    fn count(&mut self) -> Result<(), Death> {
        self.messages = self.messages.saturating_add(1);
        let seconds = self.since.elapsed().as_secs();
        let most = MESSAGES_AT_ONCE.saturating_add(MESSAGES_A_SECOND.saturating_mul(seconds));
        if self.messages > most { Err(Death::Flood) } else { Ok(()) }
    }

    fn listed(&mut self, text: &str) {
        self.listed = self.listed.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
    }

    fn may_log(&mut self) -> bool {
        self.log_lines = self.log_lines.saturating_add(1);
        self.log_lines <= MAX_LOG_LINES
    }
}
