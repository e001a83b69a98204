//! What must be known after a crash: scans, intents to create, and snapshots, in one SQLite file.
//!
//! Written before the cloud is asked (write-ahead log, flushed to the disk at each commit), read by whoever cleans up. Only
//! ids, states and times are in it. Each change of the schema is one more entry of [`MIGRATIONS`].

use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::api::{Place, SnapshotState};
use crate::tags::ScanId;

const MIGRATIONS: &[&str] = &[
    FIRST,
    // By which tag its snapshots are found. Scans from before do not tell: it was the purge's own.
    "ALTER TABLE scans ADD COLUMN created_by TEXT",
];
const FIRST: &str = "
    CREATE TABLE scans (
        id TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        begun TEXT NOT NULL,
        closed TEXT
    ) STRICT;
    CREATE TABLE intents (
        id INTEGER PRIMARY KEY,
        scan TEXT NOT NULL REFERENCES scans (id),
        instance TEXT NOT NULL,
        volume TEXT,
        written TEXT NOT NULL,
        outcome TEXT NOT NULL
    ) STRICT;
    CREATE TABLE snapshots (
        id TEXT PRIMARY KEY,
        scan TEXT NOT NULL REFERENCES scans (id),
        instance TEXT NOT NULL,
        volume TEXT NOT NULL,
        state TEXT NOT NULL,
        seen INTEGER NOT NULL,
        created TEXT NOT NULL,
        completed TEXT,
        deleted TEXT,
        gone TEXT
    ) STRICT;
    CREATE INDEX intents_by_scan ON intents (scan, outcome);
    CREATE INDEX snapshots_by_scan ON snapshots (scan, gone);
    ";

/// The store of one machine's scans.
#[derive(Debug)]
pub struct StateStore {
    connection: Mutex<Connection>,
    path: PathBuf,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or the file cannot be made.
    #[error("{} cannot be made", path.display())]
    Unwritable {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A later version of stillframe wrote it.
    #[error("{} was written by a newer stillframe (schema {found}, this one knows {known})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It is damaged.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// SQLite failed.
    #[error("the state store failed")]
    Sqlite(#[from] rusqlite::Error),
}

/// A scan that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRow {
    /// Its name.
    pub id: ScanId,
    /// Where.
    pub place: Place,
    /// When.
    pub begun: Timestamp,
    /// When nothing of it was left.
    pub closed: Option<Timestamp>,
    /// The value of the tag `CreatedBy` of its snapshots; a scan of an older stillframe does not say.
    pub created_by: Option<String>,
}

/// What became of a call that creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentOutcome {
    /// Not known: the call may have had its effect.
    Unknown,
    /// Its snapshots are recorded.
    Recorded,
    /// The cloud refused; there is nothing.
    Refused,
    /// It was looked for, long enough, and there is nothing.
    NothingFound,
}

/// A call that creates, written down before it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRow {
    /// Its number.
    pub id: i64,
    /// Of which instance.
    pub instance_id: String,
    /// Of which volume; all of them where there is none.
    pub volume_id: Option<String>,
    /// When it was written.
    pub written: Timestamp,
}

/// A snapshot that we made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// `snap-…`.
    pub id: String,
    /// Whose.
    pub scan: ScanId,
    /// Of which instance.
    pub instance_id: String,
    /// Of which volume.
    pub volume_id: String,
    /// How far it was when it was last seen.
    pub state: SnapshotState,
    /// Whether a list of the cloud's ever had it: only then does its absence mean that it is gone.
    pub seen: bool,
    /// When it was begun.
    pub created: Timestamp,
    /// When it was first seen completed.
    pub completed: Option<Timestamp>,
    /// When the cloud took our call to delete it.
    pub deleted: Option<Timestamp>,
    /// When it was confirmed gone.
    pub gone: Option<Timestamp>,
}

impl StateError {
    /// Whether another process has the store just now.
    fn is_busy(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
    }
}

/// How long another process is waited for.
const BUSY: Duration = Duration::from_secs(10);

impl StateStore {
    /// Opens the store at `path`, and makes it where it is missing: mode 0600 in a folder of mode 0700.
    ///
    /// # Errors
    /// [`StateError`]; one that is damaged or newer is left as it is.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unwritable = |source| StateError::Unwritable { path: path.to_owned(), source };
        if let Some(folder) =
            path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unwritable)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(unwritable)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(unwritable)?;
        drop(file);
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        // Changing the journal's mode, SQLite does not wait for others that do the same: several processes may begin at once.
        let begun = Instant::now();
        while let Err(error) = prepare(&mut connection, path) {
            if !error.is_busy() || begun.elapsed() > BUSY {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down that a scan begins, and the value of `CreatedBy` that its snapshots will bear. Its lock must be held.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn begin_scan(
        &self,
        scan: &ScanId,
        place: &Place,
        created_by: &str,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.lock().execute(
            "INSERT INTO scans (id, account, region, begun, created_by) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![scan.as_str(), place.account, place.region, now.to_string(), created_by],
        )?;
        Ok(())
    }

    /// Writes down that a creating call is about to be made.
    ///
    /// # Errors
    /// [`StateError::Sqlite`]: the call must not be made then.
    pub fn intend(
        &self,
        scan: &ScanId,
        instance_id: &str,
        volume_id: Option<&str>,
        now: Timestamp,
    ) -> Result<i64, StateError> {
        let connection = self.lock();
        connection.execute(
            "INSERT INTO intents (scan, instance, volume, written, outcome) VALUES (?1, ?2, ?3, ?4, 'unknown')",
            params![scan.as_str(), instance_id, volume_id, now.to_string()],
        )?;
        Ok(connection.last_insert_rowid())
    }

    /// Writes down what became of an intent.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn settle(&self, intent: i64, outcome: IntentOutcome) -> Result<(), StateError> {
        let word = match outcome {
            IntentOutcome::Unknown => "unknown",
            IntentOutcome::Recorded => "recorded",
            IntentOutcome::Refused => "refused",
            IntentOutcome::NothingFound => "nothing-found",
        };
        self.lock().execute("UPDATE intents SET outcome = ?2 WHERE id = ?1", params![intent, word])?;
        Ok(())
    }

    /// Records snapshots, or what is newly known of them: what was seen, completed, deleted or gone stays so.
    ///
    /// # Errors
    /// [`StateError::Sqlite`]; none of them is recorded then.
    pub fn record(&self, rows: &[SnapshotRow]) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for row in rows {
            transaction.execute(
                "INSERT INTO snapshots
                    (id, scan, instance, volume, state, seen, created, completed, deleted, gone)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (id) DO UPDATE SET
                    state = excluded.state,
                    seen = max(seen, excluded.seen),
                    completed = coalesce(completed, excluded.completed),
                    deleted = coalesce(deleted, excluded.deleted),
                    gone = coalesce(gone, excluded.gone)",
                params![
                    row.id,
                    row.scan.as_str(),
                    row.instance_id,
                    row.volume_id,
                    word_of(row.state),
                    row.seen,
                    row.created.to_string(),
                    row.completed.map(|at| at.to_string()),
                    row.deleted.map(|at| at.to_string()),
                    row.gone.map(|at| at.to_string()),
                ],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Writes down that nothing of the scan is left.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn close_scan(&self, scan: &ScanId, now: Timestamp) -> Result<(), StateError> {
        self.lock().execute(
            "UPDATE scans SET closed = ?2 WHERE id = ?1 AND closed IS NULL",
            params![scan.as_str(), now.to_string()],
        )?;
        Ok(())
    }

    /// A scan, where this store knows it.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn scan(&self, scan: &ScanId) -> Result<Option<ScanRow>, StateError> {
        let connection = self.lock();
        let mut query = connection
            .prepare("SELECT id, account, region, begun, closed, created_by FROM scans WHERE id = ?1")?;
        Ok(query.query_row([scan.as_str()], scan_row).optional()?)
    }

    /// The scans there of which something may be left, oldest first.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn open_scans(&self, place: &Place) -> Result<Vec<ScanRow>, StateError> {
        let connection = self.lock();
        let mut query = connection.prepare(
            "SELECT id, account, region, begun, closed, created_by FROM scans
             WHERE closed IS NULL AND account = ?1 AND region = ?2 ORDER BY begun, id",
        )?;
        let rows = query.query_map([&place.account, &place.region], scan_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The values of `CreatedBy` that scans there ever used.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn created_by_values(&self, place: &Place) -> Result<BTreeSet<String>, StateError> {
        let connection = self.lock();
        let mut query = connection.prepare(
            "SELECT DISTINCT created_by FROM scans
             WHERE account = ?1 AND region = ?2 AND created_by IS NOT NULL",
        )?;
        let values = query.query_map([&place.account, &place.region], |row| row.get(0))?;
        Ok(values.collect::<Result<_, _>>()?)
    }

    /// All snapshots of a scan, those that are gone too.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn snapshots(&self, scan: &ScanId) -> Result<Vec<SnapshotRow>, StateError> {
        let connection = self.lock();
        let mut query = connection.prepare(
            "SELECT id, scan, instance, volume, state, seen, created, completed, deleted, gone
             FROM snapshots WHERE scan = ?1 ORDER BY created, id",
        )?;
        let rows = query.query_map([scan.as_str()], snapshot_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The intents of a scan of which nobody knows what became.
    ///
    /// # Errors
    /// [`StateError::Sqlite`].
    pub fn unknown_intents(&self, scan: &ScanId) -> Result<Vec<IntentRow>, StateError> {
        let connection = self.lock();
        let mut query = connection.prepare(
            "SELECT id, instance, volume, written FROM intents
             WHERE scan = ?1 AND outcome = 'unknown' ORDER BY id",
        )?;
        let rows = query.query_map([scan.as_str()], |row| {
            Ok(IntentRow {
                id: row.get(0)?,
                instance_id: row.get(1)?,
                volume_id: row.get(2)?,
                written: time(row, 3)?.unwrap_or(Timestamp::UNIX_EPOCH),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StateError> {
    let damaged = || StateError::Damaged { path: path.to_owned() };
    let check: Result<String, _> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match check {
        Ok(word) if word == "ok" => {}
        Err(error) => {
            let error = StateError::from(error);
            return Err(if error.is_busy() { error } else { damaged() });
        }
        Ok(_) => return Err(damaged()),
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    // Looked at before anything is changed: a newer store is left as it is, its journal's mode too.
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StateError::Newer { path: path.to_owned(), found, known });
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Immediate, and asked again inside: two processes may both have found an empty file.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).map_err(|_| damaged())?) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known.max(found))?;
    transaction.commit()?;
    Ok(())
}

fn scan_row(row: &Row<'_>) -> Result<ScanRow, rusqlite::Error> {
    Ok(ScanRow {
        id: scan_id(row, 0)?,
        place: Place { account: row.get(1)?, region: row.get(2)? },
        begun: time(row, 3)?.unwrap_or(Timestamp::UNIX_EPOCH),
        closed: time(row, 4)?,
        created_by: row.get(5)?,
    })
}

fn snapshot_row(row: &Row<'_>) -> Result<SnapshotRow, rusqlite::Error> {
    Ok(SnapshotRow {
        id: row.get(0)?,
        scan: scan_id(row, 1)?,
        instance_id: row.get(2)?,
        volume_id: row.get(3)?,
        state: state_of(&row.get::<_, String>(4)?),
        seen: row.get(5)?,
        created: time(row, 6)?.unwrap_or(Timestamp::UNIX_EPOCH),
        completed: time(row, 7)?,
        deleted: time(row, 8)?,
        gone: time(row, 9)?,
    })
}

fn scan_id(row: &Row<'_>, column: usize) -> Result<ScanId, rusqlite::Error> {
    let text: String = row.get(column)?;
    let wrong = || rusqlite::Error::InvalidColumnType(column, text.clone(), rusqlite::types::Type::Text);
    ScanId::parse(&text).ok_or_else(wrong)
}

fn time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, rusqlite::Error> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|text| text.parse::<Timestamp>()).transpose();
    parsed.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn word_of(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Pending => "pending",
        SnapshotState::Completed => "completed",
        SnapshotState::Error => "error",
        SnapshotState::Recoverable => "recoverable",
        SnapshotState::Recovering => "recovering",
    }
}

fn state_of(word: &str) -> SnapshotState {
    match word {
        "completed" => SnapshotState::Completed,
        "error" => SnapshotState::Error,
        "recoverable" => SnapshotState::Recoverable,
        "recovering" => SnapshotState::Recovering,
        _ => SnapshotState::Pending,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may panic")]
#[path = "state_tests.rs"]
mod tests;
