//! Stock moto as a process, and what it is filled with.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use aws_sdk_ebs::primitives::ByteStream;
use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice, InstanceType, VolumeType};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

pub(crate) const BLOCK_BYTES: usize = 524_288;

/// A server of its own for each test: moto has no accounts to keep them apart.
pub(crate) struct Moto {
    process: Child,
    pub(crate) url: String,
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moto")
}

/// The Python environment, made once though several tests want it.
fn python_environment() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto-venv");
        let script = here().join("../../../../tests/venv.sh");
        let made = Command::new(&script).arg(&folder).arg(here().join("requirements.txt")).output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "Python packages could not be installed (python3-venv, pip): {said}");
        folder
    })
}

impl Moto {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(python_environment().join("bin/python"))
            .arg(here().join("serve.py"))
            // It ends when this process does, however that ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://127.0.0.1:"), "moto did not start: {url:?}");
        Self { process, url: url.trim().to_owned() }
    }

    /// The SDK itself, for what a scanner never does: starting machines, writing snapshots.
    pub(crate) async fn sdk(&self) -> aws_config::SdkConfig {
        aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
            .endpoint_url(&self.url)
            .region("eu-west-3")
            .credentials_provider(aws_sdk_ec2::config::Credentials::new(
                "AKIDFORTESTS",
                "x",
                None,
                None,
                "test",
            ))
            .load()
            .await
    }

    /// Starts a machine with disks of 8 and 100 GiB.
    pub(crate) async fn start_machine(&self) -> String {
        let machines = aws_sdk_ec2::Client::new(&self.sdk().await)
            .run_instances()
            .image_id("ami-12345678")
            .instance_type(InstanceType::M5dLarge)
            .min_count(1)
            .max_count(1)
            .block_device_mappings(disk("/dev/sda1", 8))
            .block_device_mappings(disk("/dev/sdf", 100))
            .send()
            .await
            .unwrap();
        machines.instances()[0].instance_id().unwrap().to_owned()
    }

    /// Uploads a snapshot of 1 GiB: each of these blocks full of its byte.
    pub(crate) async fn upload(&self, written: &[(i32, u8)]) -> String {
        let writer = aws_sdk_ebs::Client::new(&self.sdk().await);
        let snapshot_id = writer.start_snapshot().volume_size(1).send().await.unwrap().snapshot_id.unwrap();
        for (index, byte) in written {
            let data = vec![*byte; BLOCK_BYTES];
            writer
                .put_snapshot_block()
                .snapshot_id(&snapshot_id)
                .block_index(*index)
                .data_length(524_288)
                .checksum(sum(&data))
                .checksum_algorithm("SHA256".into())
                .block_data(ByteStream::from(data))
                .send()
                .await
                .unwrap();
        }
        let count = i32::try_from(written.len()).unwrap();
        writer
            .complete_snapshot()
            .snapshot_id(&snapshot_id)
            .changed_blocks_count(count)
            .send()
            .await
            .unwrap();
        snapshot_id
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn sum(data: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(data))
}

fn disk(name: &str, gib: i32) -> BlockDeviceMapping {
    let ebs = EbsBlockDevice::builder().volume_size(gib).volume_type(VolumeType::Gp3).build();
    BlockDeviceMapping::builder().device_name(name).ebs(ebs).build()
}
