//! What the tests share: a cloud with a machine of two disks, and the program that scans it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_aws::{
    Content, Device, Estate, Instance, Policy, Running, ScaledClock, Snapshot, Volume, World, serve,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The machine: Debian on its root disk, Amazon Linux on its data disk.
pub const MACHINE: &str = "i-0123456789abcdef0";
pub const ROOT: &str = "vol-0aaaaaaaaaaaaaaa1";
pub const DATA: &str = "vol-0bbbbbbbbbbbbbbb2";
pub const REGION: &str = "us-east-1";
const CLOUDS_AT_ONCE: usize = 6;

/// A cloud on loopback. When it is dropped nothing of ours may be left in it.
pub struct Cloud {
    running: Running,
    folder: TempDir,
    estate: Estate,
    may_leak: bool,
}

impl Cloud {
    /// With [`MACHINE`] in it, whose snapshots are pending for 300 ms. The program may do what its policy for a single role
    /// allows, as it is printed, and nothing else.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, changed.
    pub fn with(change: impl FnOnce(&mut Estate)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = |name: &str| {
            let path = folder.path().join(format!("{name}.img"));
            std::os::unix::fs::symlink(image(name), &path).unwrap();
            path
        };
        let mut estate = Estate {
            volumes: vec![volume(ROOT, image("debian-gpt-ext4")), volume(DATA, image("amazon-shape"))],
            instances: vec![instance(MACHINE, &[("/dev/xvda", ROOT), ("/dev/sdf", DATA)])],
            ..Estate::default()
        };
        estate.settings.snapshot_delay_ms = 300;
        estate.accounts[0].policy = Some(policy(&[]));
        change(&mut estate);
        let world = World::of(Arc::new(ScaledClock::new(1.0)), estate.clone());
        Self { running: serve(world).unwrap(), folder, estate, may_leak: false }
    }

    /// One more of the same machines. It needs this one's disks, so it must not outlive it.
    pub fn another(&self) -> Self {
        let world = World::of(Arc::new(ScaledClock::new(1.0)), self.estate.clone());
        let folder = tempfile::tempdir().unwrap();
        Self { running: serve(world).unwrap(), folder, estate: self.estate.clone(), may_leak: self.may_leak }
    }

    /// What happens in it.
    pub fn world(&self) -> &World {
        &self.running.world
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with this cloud and nothing else of the environment. Its state directory is `state` of the folder.
    pub fn stillframe(&self) -> Command {
        let mut command = Command::new(crate::PROGRAM);
        command
            .env_clear()
            .env("XDG_STATE_HOME", self.path("state"))
            .env("HOME", self.folder.path())
            .env("AWS_ENDPOINT_URL", self.running.url())
            .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
            .env("AWS_SECRET_ACCESS_KEY", "no secret")
            .env("AWS_REGION", REGION)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir(self.folder.path());
        command
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Run {
        Run(self.stillframe().args(arguments).output().unwrap())
    }

    /// The calls of an operation so far.
    pub fn calls(&self, operation: &str) -> u64 {
        self.world().counters().calls.get(operation).copied().unwrap_or(0)
    }

    /// Runs the program, and does not wait for its end.
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        let mut command = self.stillframe();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Process(Some(command.spawn().unwrap()))
    }

    /// The same machines in a world where nothing has happened yet, and no state store.
    pub fn begin_anew(&self, change: impl FnOnce(&mut Estate)) {
        self.no_call_is_under_way();
        let mut estate = self.estate.clone();
        change(&mut estate);
        self.world().load(estate);
        self.lose_state();
    }

    /// Deletes the state directory.
    pub fn lose_state(&self) {
        let folder = self.path("state");
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    /// Waits until the calls of a process that was killed have ended, those included that the world holds: what such a
    /// call was to do it does not do later.
    pub fn no_call_is_under_way(&self) {
        until("calls to end", || self.world().counters().in_flight == 0);
    }

    /// The snapshots of ours that are there, pending ones with them.
    pub fn ours(&self) -> Vec<Snapshot> {
        let estate = self.world().estate();
        let is_ours = |snapshot: &Snapshot| snapshot.tags.contains_key(&estate.settings.scan_id_tag);
        estate.snapshots.iter().filter(|one| is_ours(one) && one.deleted_ms.is_none()).cloned().collect()
    }

    /// For tests that end with something left on purpose.
    pub fn may_leak(&mut self) {
        self.may_leak = true;
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if !self.may_leak && !std::thread::panicking() {
            assert_eq!(self.world().leaks(), Vec::<String>::new(), "snapshots are left");
        }
    }
}

/// A run under way. When it is dropped it is killed.
pub struct Process(Option<Child>);

impl Process {
    /// Sends a signal: `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let id = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// `kill -9`, and waits until it is dead.
    pub fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Run {
        Run(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _dead_already = child.kill();
            let _status = child.wait();
        }
    }
}

/// Tries each case in a cloud of its own, several at once: most of the time a process waits for another one, or for the
/// next look at the cloud.
pub fn each<T: Sync>(cases: &[T], cloud: &Cloud, test: impl Fn(&Cloud, &T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cases.len().min(CLOUDS_AT_ONCE) {
            scope.spawn(|| {
                let cloud = cloud.another();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    test(&cloud, case);
                    assert_eq!(cloud.world().leaks(), Vec::<String>::new());
                }
            });
        }
    });
}

/// Waits until it is so. What never comes fails the test, by far later than it could take.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A run that ended.
pub struct Run(pub Output);

impl Run {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Its standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out(), self.err()))
    }

    /// How many snapshots a purge says are gone from a region, and how many are left.
    pub fn purged(&self, region: &str) -> (usize, usize) {
        let out = self.out();
        let line = out.lines().find_map(|line| line.strip_prefix(&format!("{region}: ")));
        let words = line.unwrap_or_else(|| panic!("{region}: {out}{}", self.err())).split_whitespace();
        let numbers: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
        (numbers[0], numbers[1])
    }

    /// The lines that begin with `error:`, each with its `hint:`.
    pub fn errors(&self) -> Vec<(String, String)> {
        let err = self.err();
        let mut lines = err.lines();
        let mut errors = Vec::new();
        while let Some(line) = lines.next() {
            if let Some(error) = line.strip_prefix("error: ") {
                let hint = lines.next().and_then(|line| line.strip_prefix("hint: ")).unwrap_or_default();
                errors.push((error.to_owned(), hint.to_owned()));
            }
        }
        errors
    }
}

/// What `aws policy` prints with these arguments.
pub fn policy(arguments: &[&str]) -> Policy {
    static PRINTED: Mutex<BTreeMap<String, Policy>> = Mutex::new(BTreeMap::new());
    let mut printed = PRINTED.lock().unwrap();
    let print = || {
        let mut command = Command::new(crate::PROGRAM);
        let run =
            Run(command.env_clear().args(["aws", "policy", "--quiet"]).args(arguments).output().unwrap());
        assert_eq!((run.code(), run.err()), (0, String::new()));
        run.json().try_into().unwrap()
    };
    printed.entry(arguments.join(" ")).or_insert_with(print).clone()
}

/// What [`Cloud`] allows, and these actions on this resource.
pub fn policy_and(actions: &[&str], resource: &str) -> Policy {
    let mut document = Value::from(policy(&[]));
    let more = json!({"Effect": "Allow", "Action": actions, "Resource": resource});
    document["Statement"].as_array_mut().unwrap().push(more);
    document.try_into().unwrap()
}

/// The file of a fixture, written once for all clouds of the process: nobody changes it.
fn image(name: &str) -> PathBuf {
    static WRITTEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
    let path = folder.join(format!("{name}.img"));
    let mut written = WRITTEN.lock().unwrap();
    if written.insert(name.to_owned()) {
        std::fs::create_dir_all(&folder).unwrap();
        // Another run of the same tests may read the file that is there.
        let beside = folder.join(format!("{name}.{}", std::process::id()));
        stillframe_fixtures::write_sparse(name, &beside);
        std::fs::rename(beside, &path).unwrap();
    }
    path
}

/// A volume of 1 GiB with an image on it.
pub fn volume(id: &str, image: PathBuf) -> Volume {
    let content = Content { image: Some(image), ..Content::default() };
    Volume { id: id.to_owned(), content, ..Volume::default() }
}

/// A running instance with these devices and volumes; the first one is its root.
pub fn instance(id: &str, devices: &[(&str, &str)]) -> Instance {
    Instance {
        id: id.to_owned(),
        root_device_name: devices.first().map(|(name, _)| (*name).to_owned()).unwrap_or_default(),
        devices: devices
            .iter()
            .map(|(name, volume)| Device { name: (*name).to_owned(), volume: Some((*volume).to_owned()) })
            .collect(),
        ..Instance::default()
    }
}
