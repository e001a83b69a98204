//! The process that parses.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use stillframe_block::{BlockCache, BlockSource, FileSource};
use stillframe_channel::{ChannelSource, Lanes};
use stillframe_confinement::{Limits, Parent, close_inherited, confine};

use super::message::{Done, Job, Message, Order, ReadBy, scan_options};
use super::{descriptors, frame, log};
use crate::Disk;
use crate::files::{FilesOptions, files_on};
use crate::journal::{Event, Journal};
use crate::progress::Progress;
use crate::scan::{scan_on, survey_on};

/// The word that makes this program a worker. No command, option or path that a person gives begins with two spaces.
pub(super) const WORD: &str = "  confined-worker";

/// How often progress is told.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// A listing is sent in pieces of about this size.
const LISTING_BYTES: usize = 64 * 1024;
/// For what a library opens while descriptors are counted.
const SPARE_DESCRIPTORS: u64 = 8;

/// Whether this process was started as a worker. To be asked before anything else is done.
#[must_use]
pub fn is_worker() -> bool {
    std::env::args_os().nth(1).as_deref() == Some(OsStr::new(WORD))
}

/// How a worker behaves. The program's own is honest; tests have others.
pub struct Behaviour<'b> {
    /// Called when the process is confined, before it reads a disk. `true` where it did all that the worker was to do.
    pub confined: &'b dyn Fn(&Confined) -> bool,
    /// Called when an event was told, before what it tells of goes on.
    pub event: &'b (dyn Fn(&Event<'_>) + Sync),
}

impl Behaviour<'_> {
    /// Does what it was ordered to do.
    pub const HONEST: Behaviour<'static> = Behaviour { confined: &|_| false, event: &|_| {} };
}

/// A worker that is confined.
pub struct Confined {
    /// To its parent.
    pub control: UnixStream,
    /// The lanes that it asks for blocks on.
    pub lanes: Vec<UnixStream>,
}

impl Confined {
    /// Says something.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn say(&self, message: &Message) -> io::Result<()> {
        frame::write(&mut &self.control, message)
    }
}

/// What a worker says, from any of its threads. Where the parent is gone nothing is left to do, and it ends.
pub(super) struct Speaker(Mutex<UnixStream>);

impl Speaker {
    pub(super) fn say(&self, message: &Message) {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frame::write(&mut *to, message).is_err() {
            // Readers end at their next block, or with their parent.
            let _ = to.shutdown(Shutdown::Both);
        }
    }
}

/// Takes one order from the socket that is standard input, and does it.
#[must_use]
pub fn worker(behaviour: &Behaviour<'_>) -> ExitCode {
    match begin(behaviour) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn begin(behaviour: &Behaviour<'_>) -> io::Result<()> {
    // Before the order comes: a parent that ends after it must not leave this process behind.
    let parent = Parent::now();
    close_inherited().map_err(io::Error::other)?;
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let order = read_order(&control)?;
    let files = order.disks.iter().filter(|disk| disk.read_by == ReadBy::File).count();
    let mut descriptors = descriptors::receive(&control, files.saturating_add(order.lanes))?;
    let lanes: Vec<UnixStream> = descriptors.split_off(files).into_iter().map(UnixStream::from).collect();
    let speaker = Arc::new(Speaker(Mutex::new(control.try_clone()?)));
    log::start(speaker.clone(), order.log_level);
    let limits = Limits {
        address_space_bytes: order.address_space_bytes,
        cpu_seconds: order.cpu_seconds,
        descriptors: u64::try_from(files.saturating_add(order.lanes))
            .unwrap_or(0)
            .saturating_add(SPARE_DESCRIPTORS),
    };
    match confine(&limits, parent) {
        Ok(enforced) => speaker.say(&Message::Confined {
            landlock_abi: enforced.landlock_abi,
            seccomp: enforced.seccomp,
            memory_locked: enforced.memory_locked,
        }),
        Err(error) => {
            speaker.say(&Message::NotConfined(error.to_string()));
            return Err(io::Error::other(error));
        }
    }
    let confined = Confined { control, lanes };
    if (behaviour.confined)(&confined) {
        return Ok(());
    }
    // Not before: Landlock restricts the thread that asks for it, and those that it starts.
    let pool = pool(order.threads)?;
    let disks = disks(&order, descriptors, confined.lanes)?;
    let done = catch_unwind(AssertUnwindSafe(|| work(order, &disks, &pool, &speaker, behaviour)));
    speaker.say(&done.map_or(Message::Panicked, Message::Done));
    Ok(())
}

fn read_order(mut control: &UnixStream) -> io::Result<Order> {
    // The bytes of the order and no more: with those that follow come descriptors.
    let mut len = [0; 4];
    control.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len).min(frame::MAX_MESSAGE_BYTES);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    control.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Threads are not counted by the library, which would look into files.
fn pool(threads: usize) -> io::Result<rayon::ThreadPool> {
    let named = |number| format!("reader-{number}");
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(named)
        .build()
        .map_err(io::Error::other)
}

fn disks(order: &Order, files: Vec<OwnedFd>, lanes: Vec<UnixStream>) -> io::Result<Vec<Disk>> {
    let cache = BlockCache::new(order.cache_bytes);
    let lanes = Lanes::new(lanes);
    let mut files = files.into_iter();
    let mut disks = Vec::new();
    for (place, disk) in (0_u16..).zip(&order.disks) {
        let source: Arc<dyn BlockSource> = match disk.read_by {
            ReadBy::File => {
                let file = files.next().ok_or(io::ErrorKind::UnexpectedEof)?;
                Arc::new(FileSource::from_descriptor(file)?)
            }
            ReadBy::Lane { len_bytes, wants_hints } => {
                Arc::new(ChannelSource::new(lanes.clone(), place, len_bytes, wants_hints))
            }
        };
        // What the disk is called is the parent's to say.
        let disk =
            Disk::new(disk.number, String::new(), source, &cache).attached_as(disk.attached_as.clone());
        disks.push(disk);
    }
    Ok(disks)
}

fn work(
    order: Order,
    disks: &[Disk],
    pool: &rayon::ThreadPool,
    speaker: &Arc<Speaker>,
    behaviour: &Behaviour<'_>,
) -> Done {
    let progress = Progress::default();
    let has_ended = AtomicBool::new(false);
    let journal = |event: Event<'_>| {
        tell(speaker, &event);
        (behaviour.event)(&event);
    };
    thread::scope(|scope| {
        let telling = scope.spawn(|| heartbeat(speaker, &progress, disks, &has_ended));
        // The thread that tells must end, whatever becomes of the work.
        let done = catch_unwind(AssertUnwindSafe(|| {
            pool.install(|| perform(order, disks, &progress, &journal, speaker))
        }));
        has_ended.store(true, Ordering::Relaxed);
        telling.thread().unpark();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn perform(
    order: Order,
    disks: &[Disk],
    progress: &Progress,
    journal: &Journal<'_>,
    speaker: &Speaker,
) -> Done {
    match order.job {
        Job::Scan { id, scanners, budget, limits, excluded, key, show_user_paths } => {
            match scan_options((id, scanners, &key), (budget, limits), excluded, show_user_paths) {
                Some(options) => {
                    Done::Report(Box::new(scan_on(disks, &options, progress, order.before, journal)))
                }
                // The parent made the key's text of a key.
                None => Done::Rows(Vec::new()),
            }
        }
        Job::Survey { budget } => Done::Rows(survey_on(disks, budget.into(), order.before, journal)),
        Job::Files { sha256, budget } => {
            let options = FilesOptions { sha256, budget: budget.into() };
            let mut out = BufWriter::with_capacity(LISTING_BYTES, Listing(speaker));
            let rows = files_on(disks, options, progress, order.before, journal, &mut out);
            // Writing to the parent reports no error: where it is gone nothing is written any more.
            let _ = out.flush();
            Done::Rows(rows.unwrap_or_default())
        }
    }
}

fn tell(speaker: &Speaker, event: &Event<'_>) {
    speaker.say(&match *event {
        Event::Step(step) => Message::Step(step.into()),
        Event::Met { volumes, coverage } => Message::Met {
            volumes: volumes.iter().map(crate::layout::Volume::row).collect(),
            coverage: coverage.to_vec(),
        },
        Event::Images(rows) => Message::Images(rows.to_vec()),
        Event::Mounted(mounts) => Message::Mounted(mounts.clone()),
        Event::Opened(row) => Message::Opened(row.clone()),
        Event::Facts(facts) => Message::Facts(facts.to_vec()),
        Event::Read { row, entries } => Message::Read { row: row.clone(), entries },
    });
}

fn heartbeat(speaker: &Speaker, progress: &Progress, disks: &[Disk], has_ended: &AtomicBool) {
    while !has_ended.load(Ordering::Relaxed) {
        let now = progress.snapshot();
        speaker.say(&Message::Progress {
            entries: now.entries,
            files_read: now.files_read,
            files_wanted: now.files_wanted,
            bytes: disks.iter().map(|disk| disk.counts().bytes).fold(0, u64::saturating_add),
        });
        thread::park_timeout(HEARTBEAT);
    }
}

/// Sends what is written to it as pieces of a listing.
struct Listing<'a>(&'a Speaker);

impl Write for Listing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Lines are UTF-8; a piece ends where one of its characters does.
        let whole = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) if error.valid_up_to() > 0 => {
                str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
            }
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        };
        self.0.say(&Message::Listing(whole.to_owned()));
        Ok(whole.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
