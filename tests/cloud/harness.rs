//! What the tests share: a cloud with a machine of two disks, and the program that scans it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use fake_aws::{Content, Device, Estate, Instance, Running, ScaledClock, Volume, World, serve};
use serde_json::Value;
use tempfile::TempDir;

/// The machine: Debian on its root disk, Amazon Linux on its data disk.
pub const MACHINE: &str = "i-0123456789abcdef0";
pub const ROOT: &str = "vol-0aaaaaaaaaaaaaaa1";
pub const DATA: &str = "vol-0bbbbbbbbbbbbbbb2";
pub const REGION: &str = "us-east-1";

/// A cloud on loopback. When it is dropped nothing of ours may be left in it.
pub struct Cloud {
    running: Running,
    folder: TempDir,
    may_leak: bool,
}

impl Cloud {
    /// With [`MACHINE`] in it, whose snapshots are pending for 300 ms, and the tag conditions of our policy in force.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, changed.
    pub fn with(change: impl FnOnce(&mut Estate)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = |name: &str| {
            let path = folder.path().join(format!("{name}.img"));
            stillframe_fixtures::write_sparse(name, &path);
            path
        };
        let mut estate = Estate {
            volumes: vec![volume(ROOT, image("debian-gpt-ext4")), volume(DATA, image("amazon-shape"))],
            instances: vec![instance(MACHINE, &[("/dev/xvda", ROOT), ("/dev/sdf", DATA)])],
            ..Estate::default()
        };
        estate.settings.snapshot_delay_ms = 300;
        estate.settings.enforce_policy = true;
        change(&mut estate);
        let world = World::of(Arc::new(ScaledClock::new(1.0)), estate);
        Self { running: serve(world).unwrap(), folder, may_leak: false }
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillframe"));
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
