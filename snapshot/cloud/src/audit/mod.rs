//! What was done to the account and read from it: an append-only log of JSON lines, each bearing the hash of the line
//! before, so that one that is changed, left out or moved is found. Request ids match the cloud's own log.
//!
//! A line's hash is SHA-256 over the line as it would be without its `hash`. Lines are buffered; those of calls that change
//! something are written at once, before the call (`requested`) and after it. A call that reads is told of when it begins
//! ([`AuditLog::begin_data`]), so that one whose end nobody waits for has a line as well (`cancelled`). Several processes may write to one log: the
//! file is locked while lines are chained on to it. Where a process was killed amid a line, the next writer ends the torn
//! line and says so.
//!
//! The log can be cut at its end, or rewritten whole, by whoever may write the file: keep the last hash elsewhere where that
//! matters ([`verify`] returns it).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::Place;
use crate::clock::Clock;

/// What stands before the first line.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The operation of the line that follows a torn one.
const RESUMED: &str = "log:Resumed";
/// The operation of the line that stands for those that could not be written.
const LOST: &str = "log:Lost";
/// The result of a call whose end nobody waited for. It may have been answered, and billed.
const CANCELLED: &str = "cancelled";
/// Lines are written when so many wait, or when the last were written so long ago: a process that is killed loses no more.
const BUFFER_LINES: usize = 256;
const BUFFER_TIME: Duration = Duration::from_millis(500);
/// So many wait at most while the log cannot be written; further ones are only counted.
const WAITING_AT_MOST: usize = 64 * 1024;
/// No line of ours is longer.
const LINE_BYTES_AT_MOST: u64 = 16 * 1024;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditLine {
    /// When, RFC 3339.
    pub time: String,
    /// In which account.
    pub account: String,
    /// In which region.
    pub region: String,
    /// The call: `ec2:DeleteSnapshot`.
    pub operation: String,
    /// What it was about: `i-…`, `snap-…`, `snap-…#7` for its block 7.
    pub resource: String,
    /// The request's id, where there was a reply.
    pub request_id: Option<String>,
    /// `requested`, `ok`, `cancelled`, or the cloud's code.
    pub result: String,
    /// The hash of the line before.
    pub previous: String,
}

#[derive(Serialize, Deserialize)]
struct HashedLine {
    #[serde(flatten)]
    line: AuditLine,
    hash: String,
}

/// A log that lines are appended to.
pub struct AuditLog {
    file: Mutex<Tail>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
}

struct Tail {
    file: File,
    /// Where our last line ended: the file is longer where others wrote since.
    len: u64,
    hash: String,
    waiting: Vec<AuditLine>,
    /// Lines that were not kept because too many waited.
    lost: u64,
    /// Calls that read and have not ended, by their numbers.
    under_way: BTreeMap<u64, AuditLine>,
    next_number: u64,
    written: Instant,
    /// Set while writing fails; that is said once.
    failed: bool,
}

impl AuditLog {
    /// Opens or makes the log at `path`, for its owner alone: one that others may read or write is closed to them.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
        let found = file.metadata()?;
        // A pipe or a device that was put there is not ours to close.
        if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        let tail = Tail {
            file,
            len: 0,
            hash: GENESIS.to_owned(),
            waiting: Vec::new(),
            lost: 0,
            under_way: BTreeMap::new(),
            next_number: 0,
            written: Instant::now(),
            failed: false,
        };
        Ok(Self { file: Mutex::new(tail), clock, path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A call that reads data begins. Its line is appended when it ends, whichever way; it may wait for others.
    #[must_use]
    pub fn begin_data(self: &Arc<Self>, place: &Place, operation: &str, resource: String) -> DataCall {
        let line = self.line(place, operation, resource, None, CANCELLED);
        let mut tail = self.lock();
        let number = tail.next_number;
        tail.next_number = number.wrapping_add(1);
        tail.under_way.insert(number, line);
        DataCall { log: Arc::clone(self), number }
    }

    fn end_data(&self, number: u64, id: Option<String>, result: &str) {
        let mut tail = self.lock();
        // Where it was concluded already nothing more is said of it.
        let Some(mut line) = tail.under_way.remove(&number) else { return };
        line.time = self.clock.now().to_string();
        line.request_id = id;
        result.clone_into(&mut line.result);
        tail.keep(line);
        let is_much = tail.waiting.len() >= BUFFER_LINES && !tail.failed;
        if is_much || tail.written.elapsed() >= BUFFER_TIME {
            tail.write_or_warn(&self.path);
        }
    }

    /// Appends a line of a call that changes something, and writes it.
    ///
    /// # Errors
    /// What the operating system says: a change that cannot be logged must not be made.
    pub fn change(
        &self,
        place: &Place,
        operation: &str,
        resource: String,
        id: Option<String>,
        result: &str,
    ) -> io::Result<()> {
        let line = self.line(place, operation, resource, id, result);
        let mut tail = self.lock();
        tail.keep(line);
        tail.write()
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn flush(&self) -> io::Result<()> {
        self.lock().write()
    }

    /// Says of the calls that read and are under way still that nobody waits for them, and writes what waits.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn conclude(&self) -> io::Result<()> {
        let mut tail = self.lock();
        tail.give_up(&self.clock.now().to_string());
        tail.write()
    }

    fn line(
        &self,
        place: &Place,
        operation: &str,
        resource: String,
        id: Option<String>,
        result: &str,
    ) -> AuditLine {
        AuditLine {
            time: self.clock.now().to_string(),
            account: place.account.clone(),
            region: place.region.clone(),
            operation: operation.to_owned(),
            resource,
            request_id: id,
            result: result.to_owned(),
            previous: String::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that reads, from its beginning to its end. Dropped before, it has a line that says so.
pub struct DataCall {
    log: Arc<AuditLog>,
    number: u64,
}

impl DataCall {
    /// It was answered, or failed with the code `result`.
    pub fn end(self, id: Option<String>, result: &str) {
        self.log.end_data(self.number, id, result);
    }
}

impl Drop for DataCall {
    fn drop(&mut self) {
        // After its end it is under way no more, and this says nothing.
        self.log.end_data(self.number, None, CANCELLED);
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lock().write_or_warn(&self.path);
    }
}

impl Tail {
    fn keep(&mut self, line: AuditLine) {
        if self.waiting.len() < WAITING_AT_MOST {
            self.waiting.push(line);
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn give_up(&mut self, now: &str) {
        for (_, mut line) in std::mem::take(&mut self.under_way) {
            now.clone_into(&mut line.time);
            self.keep(line);
        }
    }

    fn write_or_warn(&mut self, path: &Path) {
        let Err(error) = self.write() else { return };
        // Not again with the next line.
        self.written = Instant::now();
        if !std::mem::replace(&mut self.failed, true) {
            tracing::error!(path = %path.display(), %error, "the audit log cannot be written");
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        flock(&self.file, FlockOperation::LockExclusive)?;
        let written = self.write_locked();
        let unlocked = flock(&self.file, FlockOperation::Unlock);
        written?;
        Ok(unlocked?)
    }

    fn write_locked(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        let mut hash = self.hash.clone();
        if self.file.metadata()?.len() != self.len {
            let last = last_line(&mut self.file)?;
            hash = last.hash;
            if last.torn {
                text.push(b'\n');
                let now = self.waiting.first().map(|line| line.time.clone()).unwrap_or_default();
                let said = of_the_log(now, RESUMED, "the line above was torn".to_owned());
                hash = chain(&mut text, &said, &hash)?;
            }
        }
        for line in &self.waiting {
            hash = chain(&mut text, line, &hash)?;
        }
        if let (1.., Some(last)) = (self.lost, self.waiting.last()) {
            let said = format!("{} lines could not be written", self.lost);
            hash = chain(&mut text, &of_the_log(last.time.clone(), LOST, said), &hash)?;
        }
        let end = self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(&text)?;
        self.len = end.saturating_add(u64::try_from(text.len()).unwrap_or(0));
        self.hash = hash;
        self.waiting.clear();
        (self.lost, self.failed) = (0, false);
        self.written = Instant::now();
        Ok(())
    }
}

/// A line about the log itself.
fn of_the_log(time: String, operation: &str, result: String) -> AuditLine {
    AuditLine {
        time,
        account: String::new(),
        region: String::new(),
        operation: operation.to_owned(),
        resource: String::new(),
        request_id: None,
        result,
        previous: String::new(),
    }
}

fn chain(text: &mut Vec<u8>, line: &AuditLine, previous: &str) -> io::Result<String> {
    let line = AuditLine { previous: previous.to_owned(), ..line.clone() };
    let hash = hash_of(&line)?;
    serde_json::to_writer(&mut *text, &HashedLine { line, hash: hash.clone() })?;
    text.push(b'\n');
    Ok(hash)
}

fn hash_of(line: &AuditLine) -> io::Result<String> {
    let digest = Sha256::digest(serde_json::to_vec(line)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

struct LastLine {
    hash: String,
    torn: bool,
}

/// The hash of the last whole line, and whether a part of one follows it.
fn last_line(file: &mut File) -> io::Result<LastLine> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(LINE_BYTES_AT_MOST.saturating_mul(2));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(len.saturating_sub(from)).read_to_end(&mut bytes)?;
    let torn = bytes.last().is_some_and(|byte| *byte != b'\n');
    let mut lines = bytes.split(|byte| *byte == b'\n').rev();
    // What follows the last line's end: nothing, or the torn line.
    lines.next();
    let hashed = lines.find_map(|line| serde_json::from_slice::<HashedLine>(line).ok());
    let hash = hashed.map_or_else(|| GENESIS.to_owned(), |line| line.hash);
    Ok(LastLine { hash, torn })
}

/// What a log that holds together says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Lines.
    pub lines: u64,
    /// Torn lines, each followed by a line that says so.
    pub torn: u64,
    /// The hash of the last line.
    pub last_hash: String,
}

/// Where a log does not hold together.
#[derive(Debug, thiserror::Error)]
pub enum BrokenLog {
    /// It cannot be read.
    #[error("the audit log cannot be read")]
    Unreadable(#[from] io::Error),
    /// This line is not what it was, or one before it is missing.
    #[error("line {line} of the audit log does not follow from the lines before it")]
    Line {
        /// Its number, from 1.
        line: u64,
    },
}

/// Checks every line that the log at `path` has when this begins; it may be written to meanwhile.
///
/// # Errors
/// [`BrokenLog`] with the first line that does not follow from those before it.
pub fn verify(path: &Path) -> Result<Verified, BrokenLog> {
    let file = File::open(path)?;
    // While nobody writes its end is that of a line.
    flock(&file, FlockOperation::LockShared).map_err(io::Error::from)?;
    let len = file.metadata()?.len();
    flock(&file, FlockOperation::Unlock).map_err(io::Error::from)?;
    let mut reader = BufReader::new(file.take(len));
    let mut so_far = Verified { lines: 0, torn: 0, last_hash: GENESIS.to_owned() };
    let mut torn_at = None;
    let mut number = 0_u64;
    loop {
        let mut text = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_AT_MOST).read_until(b'\n', &mut text)?;
        if read == 0 {
            break;
        }
        number = number.saturating_add(1);
        let broken = |line: Option<u64>| BrokenLog::Line { line: line.unwrap_or(number) };
        let whole = text.strip_suffix(b"\n").and_then(|text| {
            let hashed: HashedLine = serde_json::from_slice(text).ok()?;
            // Written again it must be the same bytes: nothing is added, left out or said twice.
            (serde_json::to_vec(&hashed).ok()? == text).then_some(hashed)
        });
        let Some(HashedLine { line, hash }) = whole else {
            if torn_at.replace(number).is_some() {
                return Err(broken(torn_at));
            }
            continue;
        };
        let follows = line.previous == so_far.last_hash && hash_of(&line)? == hash;
        let torn_is_said = torn_at.is_some() == (line.operation == RESUMED);
        if !follows || !torn_is_said {
            return Err(broken(torn_at));
        }
        so_far.torn = so_far.torn.saturating_add(u64::from(torn_at.take().is_some()));
        so_far.lines = so_far.lines.saturating_add(1);
        so_far.last_hash = hash;
    }
    match torn_at {
        Some(line) => Err(BrokenLog::Line { line }),
        None => Ok(so_far),
    }
}
