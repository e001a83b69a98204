//! What happens on the wire: cuts, resets, lost replies, slow bodies, the world held still, the program.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_aws::{
    BLOCK_LEN, Content, Estate, Fault, Hold, Rule, Running, ScaledClock, Snapshot, Volume, World, serve,
};
use serde_json::{Value, json};

const VOLUME: &str = "vol-00000000000000001";
const SNAPSHOT: &str = "snap-00000000000000001";

fn start() -> Running {
    let mut estate = Estate::default();
    let content = Content { image: None, pattern_blocks: 2 };
    estate.volumes.push(Volume { id: VOLUME.to_owned(), content: content.clone(), ..Volume::default() });
    estate.snapshots.push(Snapshot { id: SNAPSHOT.to_owned(), content, ..Snapshot::default() });
    estate.settings.quotas.volume_interval_ms = 0;
    serve(World::of(Arc::new(ScaledClock::new(1.0)), estate)).unwrap()
}

fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let signature = "AWS4-HMAC-SHA256 Credential=KEY/20260101/us-east-1/any/aws4_request, Signature=0";
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: fake\r\nauthorization: {signature}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

/// The head and the body, as far as they came.
fn receive(stream: &mut TcpStream) -> (String, Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).err().map(|error| error.kind());
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
    let body = bytes.split_off(end);
    (String::from_utf8(bytes).unwrap(), body, error)
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (String, Vec<u8>, Option<ErrorKind>) {
    receive(&mut send(address, method, path, body))
}

fn control(address: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let (head, reply, error) = ask(address, method, &format!("/_fake/{path}"), &body.to_string());
    assert!(
        head.starts_with("HTTP/1.1 200") && error.is_none(),
        "{head} {}",
        String::from_utf8_lossy(&reply)
    );
    serde_json::from_slice(&reply).unwrap()
}

fn create() -> String {
    format!(
        "Version=2016-11-15&Action=CreateSnapshot&VolumeId={VOLUME}&TagSpecification.1.ResourceType=snapshot\
         &TagSpecification.1.Tag.1.Key=stillframe%3Ascan-id&TagSpecification.1.Tag.1.Value=1"
    )
}

fn block_path(address: SocketAddr) -> String {
    let (_, body, _) = ask(address, "GET", &format!("/snapshots/{SNAPSHOT}/blocks"), "");
    let listed: Value = serde_json::from_slice(&body).unwrap();
    let token = listed["Blocks"][1]["BlockToken"].as_str().unwrap().replace('+', "%2B");
    format!("/snapshots/{SNAPSHOT}/blocks/1?blockToken={token}")
}

#[test]
fn it_listens_on_loopback_and_numbers_its_replies() {
    let running = start();
    assert!(running.address.ip().is_loopback());
    let (head, body, error) = ask(running.address, "GET", &block_path(running.address), "");
    assert!(head.starts_with("HTTP/1.1 200") && error.is_none(), "{head}");
    assert_eq!(body.len(), BLOCK_LEN);
    let id = running.world.events().last().unwrap().request_id.clone();
    assert!(head.contains(&format!("x-amzn-requestid: {id}")), "{head}");
    let (head, body, _) = ask(running.address, "GET", "/snapshots/snap-2/blocks", "");
    assert!(head.contains("x-amzn-errortype: ResourceNotFoundException"), "{head}");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["Reason"], "SNAPSHOT_NOT_FOUND");
}

#[test]
fn bodies_are_cut_where_the_plan_says() {
    let running = start();
    let path = block_path(running.address);
    for at_bytes in [0, 1, 70_000, BLOCK_LEN - 1] {
        running.world.clear_faults();
        running.world.add_fault(Rule::always("GetSnapshotBlock", Fault::Cut { at_bytes }));
        let (head, body, _) = ask(running.address, "GET", &path, "");
        assert!(head.contains(&format!("content-length: {BLOCK_LEN}")), "{head}");
        assert_eq!(body.len(), at_bytes);
    }
}

#[test]
fn connections_are_reset_and_replies_lost() {
    let running = start();
    running.world.add_fault(Rule::nth("CreateSnapshot", 1, Fault::Reset));
    running.world.add_fault(Rule::nth("CreateSnapshot", 2, Fault::ReplyLost));
    for leaks in [0, 1] {
        let (head, _, error) = ask(running.address, "POST", "/", &create());
        assert_eq!((head.as_str(), error), ("", Some(ErrorKind::ConnectionReset)));
        assert_eq!(running.world.leaks().len(), leaks);
    }
}

#[test]
fn a_drip_is_slow_and_whole() {
    let running = start();
    let path = block_path(running.address);
    let bytes_per_second = 2 * 512 * 1024;
    running.world.add_fault(Rule::always("GetSnapshotBlock", Fault::Drip { bytes_per_second }));
    let begun = Instant::now();
    let (_, body, error) = ask(running.address, "GET", &path, "");
    assert_eq!((body.len(), error), (BLOCK_LEN, None));
    assert!(begun.elapsed() > Duration::from_millis(400), "{:?}", begun.elapsed());
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_world_is_held_after_an_event() {
    let running = start();
    let address = running.address;
    control(address, "POST", "hold", &json!({"event": 2}));
    let (head, ..) = ask(address, "POST", "/", &create());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let killed = send(address, "POST", "/", &create());
    until("held", || control(address, "GET", "counters", &Value::Null)["held"] == true);
    assert_eq!(running.world.leaks().len(), 2, "the effect was had");
    let mut waiting = send(address, "POST", "/", &create());
    drop(killed);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.world.events().len(), 2, "nobody else is answered");
    control(address, "POST", "release", &Value::Null);
    assert!(receive(&mut waiting).0.starts_with("HTTP/1.1 200"));
    assert_eq!(running.world.leaks().len(), 3);
}

#[test]
fn the_world_is_held_before_an_event() {
    let running = start();
    running.world.hold(Hold { event: 1, before: true, is_reached: false });
    let killed = send(running.address, "POST", "/", &create());
    until("held", || running.world.counters().held);
    drop(killed);
    // The request dies with its connection, as it would on the way to the service.
    until("forgotten", || running.world.counters().in_flight == 0);
    running.world.release();
    let (head, ..) = ask(running.address, "POST", "/", &create());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(running.world.leaks().len(), 1);
}

#[test]
fn it_serves_the_quota_of_gets_from_concurrent_clients() {
    let running = start();
    running.world.change(|estate| {
        estate.settings.latency_ms = 100;
        estate.settings.enforce_quotas = false;
    });
    let path = block_path(running.address);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let (head, body, error) = ask(running.address, "GET", &path, "");
                assert!(head.starts_with("HTTP/1.1 200") && error.is_none(), "{head}");
                assert_eq!(body.len(), BLOCK_LEN);
            });
        }
    });
    // One after the other they would take 10 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(running.world.counters().max_in_flight > 50);
}

/// Ends the program with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn the_program_says_where_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("disk.img"), vec![7; BLOCK_LEN + 1]).unwrap();
    let world = json!({
        "snapshots": [{"id": SNAPSHOT, "content": {"image": "disk.img"}}],
        "faults": [{"operation": "ListSnapshotBlocks", "nth": 2, "fault": {"kind": "http", "status": 503}}],
    });
    let path = folder.path().join("world.json");
    std::fs::write(&path, world.to_string()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fake-aws"))
        .arg("--world")
        .arg(&path)
        .args(["--latency-ms", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _program = Program(child);
    let address: SocketAddr = line.trim().strip_prefix("http://").unwrap().parse().unwrap();
    let (_, body, _) = ask(address, "GET", &format!("/snapshots/{SNAPSHOT}/blocks"), "");
    let listed: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(listed["Blocks"].as_array().unwrap().len(), 2);
    let (head, ..) = ask(address, "GET", &format!("/snapshots/{SNAPSHOT}/blocks"), "");
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let events = control(address, "GET", "events?after=1", &Value::Null);
    assert_eq!(events[0]["effect"], "ServiceUnavailable");
    assert_eq!(control(address, "GET", "counters", &Value::Null)["lists"], 2);
    let mut estate = control(address, "GET", "world", &Value::Null);
    assert_eq!(estate["settings"]["latency_ms"], 1);
    estate["snapshots"][0]["tags"] = json!({"stillframe:scan-id": "1"});
    control(address, "POST", "world", &estate);
    assert_eq!(control(address, "GET", "leaks", &Value::Null)["leaks"], json!([SNAPSHOT]));
    let (head, ..) = ask(address, "POST", "/_fake/world", r#"{"volums": []}"#);
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}
