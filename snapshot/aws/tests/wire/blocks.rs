//! The EBS direct APIs.

use stillframe_cloud::api::{Blocks, ErrorKind, ListedBlock};
use tokio::time::{Duration, Instant};

use crate::server::{Reply, Server, block_head, ebs_error};

const BLOCK_BYTES: usize = 524_288;

fn json(body: &str) -> Reply {
    Reply::Bytes(
        format!(
            "HTTP/1.1 200 OK\r\nx-amzn-RequestId: req-list\r\nContent-Type: application/json\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

fn block_of(byte: u8, length: usize) -> Vec<u8> {
    let mut reply = block_head(length);
    reply.resize(reply.len() + length, byte);
    reply
}

#[tokio::test]
async fn blocks_are_listed_by_the_largest_page() {
    let server = Server::start(vec![
        json(
            r#"{"Blocks":[{"BlockIndex":0,"BlockToken":"AAAB+/="},{"BlockIndex":33554431,"BlockToken":"CCC"}],
               "ExpiryTime":1.7E9,"VolumeSize":16384,"BlockSize":524288,"NextToken":"next+/="}"#,
        ),
        json(r#"{"Blocks":[],"VolumeSize":16384,"BlockSize":512}"#),
    ]);
    let connection = server.connection().await;
    let page = connection.list_snapshot_blocks("snap-0a", 7, None).await.unwrap();
    assert_eq!(
        page.blocks,
        [
            ListedBlock { index: 0, token: "AAAB+/=".to_owned() },
            ListedBlock { index: 33_554_431, token: "CCC".to_owned() }
        ]
    );
    assert_eq!((page.volume_size_gib, page.block_size_bytes), (16_384, 524_288));
    assert_eq!(page.request_id.as_deref(), Some("req-list"));
    let last = connection.list_snapshot_blocks("snap-0a", 0, page.next).await.unwrap();
    // What the service says is passed on: whoever reads judges it.
    assert_eq!((last.blocks.len(), last.block_size_bytes, last.next), (0, 512, None));

    let requests = server.requests();
    let [first, second] = requests.as_slice() else { panic!("two requests: {requests:?}") };
    let line = first.lines().next().unwrap();
    assert!(line.starts_with("GET /snapshots/snap-0a/blocks?"), "{line}");
    assert!(line.contains("maxResults=10000") && line.contains("startingBlockIndex=7"), "{line}");
    assert!(second.lines().next().unwrap().contains("pageToken=next%2B%2F%3D"), "{second}");
}

#[tokio::test]
async fn a_list_without_its_sizes_is_no_list() {
    let lacking = [
        r#"{"Blocks":[],"BlockSize":524288}"#,
        r#"{"Blocks":[],"VolumeSize":8}"#,
        r#"{"Blocks":[{"BlockToken":"A"}],"VolumeSize":8,"BlockSize":524288}"#,
        r#"{"Blocks":[{"BlockIndex":-1,"BlockToken":"A"}],"VolumeSize":8,"BlockSize":524288}"#,
        r#"{"Blocks":[{"BlockIndex":1}],"VolumeSize":8,"BlockSize":524288}"#,
    ];
    for body in lacking {
        let server = Server::start(vec![json(body)]);
        let error = server.connection().await.list_snapshot_blocks("snap-0a", 0, None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Other, "{body}");
        assert_eq!(error.request_id.as_deref(), Some("req-list"));
    }
}

#[tokio::test]
async fn a_block_comes_with_what_was_announced() {
    let server = Server::start(vec![Reply::Bytes(block_of(0x5a, BLOCK_BYTES)), Reply::Bytes(block_of(1, 3))]);
    let connection = server.connection().await;
    let block = connection.get_snapshot_block("snap-0a", 3, "A+/=").await.unwrap();
    assert_eq!(block.bytes.len(), BLOCK_BYTES);
    assert!(block.bytes.iter().all(|byte| *byte == 0x5a));
    assert_eq!(block.data_length, Some(524_288));
    assert_eq!(block.checksum.as_deref(), Some("c3VtbWU="));
    assert_eq!(block.checksum_algorithm.as_deref(), Some("SHA256"));
    assert_eq!(block.request_id.as_deref(), Some("req-block"));
    // Unverified: a short one comes as it is.
    assert_eq!(connection.get_snapshot_block("snap-0a", 3, "A").await.unwrap().bytes, [1, 1, 1]);
    let line = server.requests()[0].lines().next().unwrap().to_owned();
    assert_eq!(line, "GET /snapshots/snap-0a/blocks/3?blockToken=A%2B%2F%3D HTTP/1.1");
}

#[tokio::test]
async fn a_body_that_is_cut_or_endless_is_an_error() {
    let mut cut = block_of(0, BLOCK_BYTES);
    cut.truncate(300_000);
    let server = Server::start(vec![Reply::Cut(cut), Reply::Cut(block_of(0, 3 * BLOCK_BYTES))]);
    let connection = server.connection().await;
    let error = connection.get_snapshot_block("snap-0a", 3, "A").await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NoReply, "the body was cut"));
    assert_eq!(error.request_id.as_deref(), Some("req-block"));
    let error = connection.get_snapshot_block("snap-0a", 3, "A").await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Other, "the body is far longer than a block"));
    assert_eq!(server.requests().len(), 2, "the SDK tried again");
}

#[tokio::test]
async fn refusals_bear_their_reason() {
    let cases = [
        (403, "AccessDeniedException", Some("DEPENDENCY_ACCESS_DENIED"), ErrorKind::KmsDenied),
        (403, "AccessDeniedException", Some("UNAUTHORIZED_ACCOUNT"), ErrorKind::AccessDenied),
        (403, "AccessDeniedException", None, ErrorKind::AccessDenied),
        (404, "ResourceNotFoundException", Some("SNAPSHOT_NOT_FOUND"), ErrorKind::NotFound),
        (400, "ValidationException", Some("INVALID_BLOCK_TOKEN"), ErrorKind::InvalidToken),
        (400, "ValidationException", Some("INVALID_SNAPSHOT_ID"), ErrorKind::Invalid),
        (400, "RequestThrottledException", Some("ACCOUNT_THROTTLED"), ErrorKind::Throttled),
        (400, "ThrottlingException", None, ErrorKind::Throttled),
        (403, "ExpiredTokenException", None, ErrorKind::Credentials),
        (500, "InternalServerException", None, ErrorKind::Service),
    ];
    for (status, code, reason, kind) in cases {
        let server = Server::start(vec![ebs_error(status, code, reason), ebs_error(status, code, reason)]);
        let connection = server.connection().await;
        let shown = reason.map_or_else(|| code.to_owned(), |reason| format!("{code} ({reason})"));
        let listed = connection.list_snapshot_blocks("snap-0a", 0, None).await.unwrap_err();
        let got = connection.get_snapshot_block("snap-0a", 0, "A").await.unwrap_err();
        for error in [listed, got] {
            assert_eq!((error.kind, &error.code), (kind, &shown));
            assert_eq!(error.request_id, Some(format!("req-{status}")));
        }
        assert_eq!(server.requests().len(), 2, "{code} was tried again");
    }
}

/// Time stands still but for timers, so that what waits ends at once, and tells how long it would have waited.
#[tokio::test]
async fn silence_ends() {
    let server = Server::start(vec![
        Reply::Bytes(block_of(0, 1)),
        Reply::Stall(Vec::new()),
        Reply::Bytes(block_of(0, 1)),
        Reply::Stall(block_of(0, BLOCK_BYTES)[..100_000].to_vec()),
    ]);
    let connection = server.connection().await;
    // Opens the TCP connection while time still runs.
    connection.get_snapshot_block("snap-0a", 0, "A").await.unwrap();
    tokio::time::pause();
    let begun = Instant::now();
    let error = connection.get_snapshot_block("snap-0a", 1, "A").await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NoReply, "timed out"));
    assert!(begun.elapsed() <= Duration::from_secs(16), "{:?}", begun.elapsed());
    tokio::time::resume();

    connection.get_snapshot_block("snap-0a", 2, "A").await.unwrap();
    let begun = Instant::now();
    let error = connection.get_snapshot_block("snap-0a", 3, "A").await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NoReply, "the body was cut"));
    assert!(begun.elapsed() <= Duration::from_secs(12), "{:?}", begun.elapsed());
}
