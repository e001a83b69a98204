use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stillframe_aws::{Connection, Locality, Options};
use stillframe_cloud::api::{Blocks, Place};
use stillframe_cloud::audit::AuditLog;
use stillframe_cloud::client::{CallCounts, Caller, Client};
use stillframe_cloud::clock::{Clock, SystemClock};
use stillframe_cloud::lifecycle::{Lifecycle, LifecycleSettings};
use stillframe_cloud::limiter::Limiter;
use stillframe_cloud::purge::{PurgeSettings, Purger};
use stillframe_cloud::retry::{RetryPolicy, retry};
use stillframe_cloud::scan_lock::LockFolder;
use stillframe_cloud::state::StateStore;

use super::CloudError;

/// One call may take as long as the client underneath lets it, and a little more.
const CALL_LIMIT: Duration = Duration::from_secs(65);

/// The first call may meet a bad moment as any other; but where nobody answers at all, that is to be said soon.
const FIRST_CALL: RetryPolicy = RetryPolicy {
    attempts: 6,
    base: Duration::from_millis(100),
    cap: Duration::from_secs(2),
    deadline: Duration::from_secs(30),
};

/// What a session is opened with.
pub struct SessionOptions {
    /// Account, region, role.
    pub connection: Options,
    /// Where the state store, the scans' locks and the audit log lie.
    pub state_directory: PathBuf,
    /// How many calls a second; shared by all sessions of the process.
    pub limiter: Arc<Limiter>,
    /// The value of the tag `CreatedBy`.
    pub created_by: String,
    /// Whether disks will be read: that their data may leave the region is then written to the audit log.
    pub reads_disks: bool,
}

/// One account and region, and this machine's memory of what was done there.
#[derive(Clone)]
pub struct Session {
    pub(super) connection: Connection,
    pub(super) client: Client,
    pub(super) state: Arc<StateStore>,
    pub(super) locks: LockFolder,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) created_by: String,
}

impl Session {
    /// Opens it: finds out who calls and where, and opens the state store, the locks and the audit log. Must run on the
    /// runtime that the session is used on.
    ///
    /// # Errors
    /// [`CloudError`]: no credentials, data would leave its region, or a file that cannot be used.
    pub async fn open(options: SessionOptions) -> Result<Self, CloudError> {
        let connection = Connection::open(&options.connection).await?;
        let place = retry(FIRST_CALL, || connection.caller()).await?;
        let folder = &options.state_directory;
        let unusable = |source| CloudError::StateDirectory { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let audit = Arc::new(AuditLog::open(&folder.join("audit.jsonl"), clock.clone()).map_err(unusable)?);
        let state_path = folder.join("state.db");
        let state = Arc::new(StateStore::open(&state_path)?);
        let locks = LockFolder::beside(&state_path).map_err(unusable)?;
        if options.reads_disks && matches!(connection.locality(), Locality::CrossRegionAllowed(_)) {
            let (operation, resource) = ("stillframe:AllowCrossRegion", connection.region().to_owned());
            audit.change(&place, operation, resource, None, "allowed").map_err(unusable)?;
        }
        let caller = Caller {
            place,
            limiter: options.limiter,
            retry: RetryPolicy::default(),
            time_limit: CALL_LIMIT,
            audit,
            counts: Arc::new(CallCounts::default()),
        };
        let client = Client { compute: Arc::new(connection.clone()), caller };
        Ok(Self { connection, client, state, locks, clock, created_by: options.created_by })
    }

    /// The account and the region.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.client.caller.place
    }

    /// What is asked of the account there.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The account's other settings, for a preflight.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What was called so far.
    #[must_use]
    pub fn counts(&self) -> &Arc<CallCounts> {
        &self.client.caller.counts
    }

    /// The same account and region, with calls counted anew: for one scan of several.
    #[must_use]
    pub fn counted_anew(&self) -> Self {
        let mut session = self.clone();
        session.client.caller.counts = Arc::default();
        session
    }

    /// Deletes what scans made.
    #[must_use]
    pub fn purger(&self) -> Purger {
        Purger {
            client: self.client.clone(),
            state: self.state.clone(),
            locks: self.locks.clone(),
            clock: self.clock.clone(),
            settings: PurgeSettings { created_by: self.created_by.clone(), ..PurgeSettings::default() },
        }
    }

    /// Writes what waits of the audit log, and which data calls nobody waits for any more: those of this process that
    /// are under way.
    ///
    /// # Errors
    /// [`CloudError::Audit`].
    pub fn flush_audit(&self) -> Result<(), CloudError> {
        let audit = &self.client.caller.audit;
        audit.conclude().map_err(|source| CloudError::Audit { path: audit.path().to_owned(), source })
    }

    /// The value of the tag `CreatedBy`.
    #[must_use]
    pub fn created_by(&self) -> &str {
        &self.created_by
    }

    pub(super) fn lifecycle(&self) -> Lifecycle {
        Lifecycle {
            client: self.client.clone(),
            state: self.state.clone(),
            clock: self.clock.clone(),
            settings: LifecycleSettings {
                created_by: self.created_by.clone(),
                ..LifecycleSettings::default()
            },
        }
    }

    pub(super) fn blocks(&self) -> Arc<dyn Blocks> {
        Arc::new(self.connection.clone())
    }
}
