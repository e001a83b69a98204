//! What was done to the account and read from it: an append-only log of JSON lines, each bearing the hash of the line
//! before, so that one that is changed, left out or moved is found. Request ids match the cloud's own log.
//!
//! A line's hash is SHA-256 over the line as it would be without its `hash`. Lines are buffered; those of calls that change
//! something are written at once, before the call (`requested`) and after it. Several processes may write to one log: the
//! file is locked while lines are chained on to it. Where a process was killed amid a line, the next writer ends the torn
//! line and says so.
//!
//! The log can be cut at its end, or rewritten whole, by whoever may write the file: keep the last hash elsewhere where that
//! matters ([`verify`] returns it).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
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
/// Lines are written when so many wait, or when the last were written so long ago: a process that is killed loses no more.
const BUFFER_LINES: usize = 256;
const BUFFER_TIME: Duration = Duration::from_millis(500);
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
    /// `requested`, `ok`, or the cloud's code.
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
    written: Instant,
    /// Set when writing failed once; it is said once.
    failed: bool,
}

impl AuditLog {
    /// Opens or makes the log at `path`, for its owner alone.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
        let tail = Tail {
            file,
            len: 0,
            hash: GENESIS.to_owned(),
            waiting: Vec::new(),
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

    /// Appends a line of a call that reads data; it may wait for others.
    pub fn data(&self, place: &Place, operation: &str, resource: String, id: Option<String>, result: &str) {
        let line = self.line(place, operation, resource, id, result);
        let mut tail = self.lock();
        tail.waiting.push(line);
        if tail.waiting.len() >= BUFFER_LINES || tail.written.elapsed() >= BUFFER_TIME {
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
        tail.waiting.push(line);
        tail.write()
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn flush(&self) -> io::Result<()> {
        self.lock().write()
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

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lock().write_or_warn(&self.path);
    }
}

impl Tail {
    fn write_or_warn(&mut self, path: &Path) {
        if let Err(error) = self.write()
            && !std::mem::replace(&mut self.failed, true)
        {
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
                hash = chain(&mut text, &resumed(now), &hash)?;
            }
        }
        for line in &self.waiting {
            hash = chain(&mut text, line, &hash)?;
        }
        let end = self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(&text)?;
        self.len = end.saturating_add(u64::try_from(text.len()).unwrap_or(0));
        self.hash = hash;
        self.waiting.clear();
        self.written = Instant::now();
        Ok(())
    }
}

fn resumed(time: String) -> AuditLine {
    AuditLine {
        time,
        account: String::new(),
        region: String::new(),
        operation: RESUMED.to_owned(),
        resource: String::new(),
        request_id: None,
        result: "the line above was torn".to_owned(),
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

/// Checks every line of the log at `path`.
///
/// # Errors
/// [`BrokenLog`] with the first line that does not follow from those before it.
pub fn verify(path: &Path) -> Result<Verified, BrokenLog> {
    let mut reader = BufReader::new(File::open(path)?);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::SystemClock;

    fn place() -> Place {
        Place { account: "111122223333".to_owned(), region: "eu-west-3".to_owned() }
    }

    fn log(path: &Path) -> AuditLog {
        AuditLog::open(path, Arc::new(SystemClock)).unwrap()
    }

    fn get(log: &AuditLog, block: u32) {
        let id = Some(format!("request-{block}"));
        log.data(&place(), "ebs:GetSnapshotBlock", format!("snap-1#{block}"), id, "ok");
    }

    #[test]
    fn lines_hold_together_and_belong_to_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        for _ in 0..2 {
            let log = log(&path);
            (0..600).for_each(|block| get(&log, block));
            log.change(&place(), "ec2:DeleteSnapshot", "snap-1".into(), None, "requested").unwrap();
        }
        let verified = verify(&path).unwrap();
        assert_eq!((verified.lines, verified.torn), (1202, 0));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // The hash is what another tool computes over the line without it.
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let (body, hash) = first.split_once(r#","hash":""#).unwrap();
        let mut sum = std::process::Command::new("sha256sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        sum.stdin.take().unwrap().write_all(format!("{body}}}").as_bytes()).unwrap();
        let said = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(said.split(' ').next(), hash.strip_suffix("\"}"));
    }

    #[test]
    fn a_line_that_is_changed_left_out_moved_or_added_to_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let writer = log(&path);
        (0..10).for_each(|block| get(&writer, block));
        drop(writer);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let broken_at = |lines: &[String]| {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            match verify(&path) {
                Err(BrokenLog::Line { line }) => line,
                other => panic!("{other:?}"),
            }
        };
        let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut changed = owned.clone();
        changed[4] = changed[4].replace("\"ok\"", "\"no\"");
        assert_eq!(broken_at(&changed), 5);
        let mut left_out = owned.clone();
        left_out.remove(4);
        assert_eq!(broken_at(&left_out), 5);
        let mut moved = owned.clone();
        moved.swap(4, 5);
        assert_eq!(broken_at(&moved), 5);
        let mut added = owned.clone();
        added[4] = added[4].replacen('{', "{\"time\":\"\",", 1);
        assert_eq!(broken_at(&added), 5);
        let mut torn = owned;
        torn[4].truncate(20);
        assert_eq!(broken_at(&torn), 5);
    }

    #[test]
    fn a_torn_line_is_said_and_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let first = log(&path);
        (0..3).for_each(|block| get(&first, block));
        drop(first);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 40);
        std::fs::write(&path, &bytes).unwrap();
        let second = log(&path);
        get(&second, 9);
        drop(second);
        let verified = verify(&path).unwrap();
        assert_eq!((verified.lines, verified.torn), (4, 1));
    }

    #[test]
    fn several_writers_share_one_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let log = log(&path);
                    for block in 0..1000 {
                        get(&log, block);
                        if block % 100 == 0 {
                            log.change(&place(), "ec2:Test", "x".into(), None, "ok").unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(verify(&path).unwrap().lines, 4040);
    }
}
