//! How many connections are opened for many calls at once.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stillframe_aws::{Connection, Options};
use stillframe_cloud::api::Blocks;

use crate::server::block_head;

/// Answers every request after a while, on any number of connections, and counts these.
fn serve(listener: TcpListener, connections: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept() {
        connections.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                if line.trim().is_empty() {
                    std::thread::sleep(Duration::from_millis(20));
                    let mut reply = block_head(3);
                    reply.extend_from_slice(b"abc");
                    stream.write_all(&reply).unwrap();
                }
                line.clear();
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_connections_than_allowed_and_all_calls_get_through() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let opened = Arc::new(AtomicUsize::new(0));
    std::thread::spawn({
        let opened = Arc::clone(&opened);
        move || serve(listener, opened)
    });
    let options = Options { max_connections: 4, ..Options::loopback(&url, "eu-west-3", "AKIDFORTESTS") };
    let connection = Connection::open(&options).await.unwrap();
    let calls: Vec<_> = (0..40)
        .map(|index| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.get_snapshot_block("snap-0a", index, "A").await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().bytes, b"abc");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 4);
}
