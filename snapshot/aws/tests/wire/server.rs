//! A server on loopback that gives written replies, one to each request in turn, and keeps what it was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use stillframe_aws::{Connection, Options};

/// What one request gets.
pub(crate) enum Reply {
    /// These bytes; the connection stays.
    Bytes(Vec<u8>),
    /// These bytes, and the connection is closed.
    Cut(Vec<u8>),
    /// These bytes and then nothing, for as long as the client cares to wait.
    Stall(Vec<u8>),
}

/// The server. It ends with the test.
pub(crate) struct Server {
    url: String,
    requests: Receiver<String>,
}

impl Server {
    /// Starts; after the last reply no connection is taken any more.
    pub(crate) fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || serve(&listener, replies, &sender));
        Self { url, requests }
    }

    /// A connection to it.
    pub(crate) async fn connection(&self) -> Connection {
        Connection::open(&self.options()).await.unwrap()
    }

    /// What `connection` opens with.
    pub(crate) fn options(&self) -> Options {
        Options::loopback(&self.url, "eu-west-3", "AKIDFORTESTS")
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

fn serve(listener: &TcpListener, replies: Vec<Reply>, requests: &Sender<String>) {
    let mut stream: Option<TcpStream> = None;
    let mut stalled = Vec::new();
    for reply in replies {
        // A client that was cut comes back on a new connection.
        let request = loop {
            let mut open = stream.take().unwrap_or_else(|| listener.accept().unwrap().0);
            if let Some(request) = read_request(&mut open) {
                stream = Some(open);
                break request;
            }
        };
        requests.send(request).unwrap_or_default();
        let mut open = stream.take().unwrap();
        match reply {
            Reply::Bytes(bytes) => {
                open.write_all(&bytes).unwrap();
                stream = Some(open);
            }
            Reply::Cut(bytes) => open.write_all(&bytes).unwrap(),
            Reply::Stall(bytes) => {
                open.write_all(&bytes).unwrap();
                stalled.push(open);
            }
        }
    }
    // Whatever comes now is counted, and gets no answer: a test that sees it here has found a retry.
    drop(stream);
    while let Ok((mut extra, _)) = listener.accept() {
        extra.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        if let Some(request) = read_request(&mut extra) {
            requests.send(request).unwrap_or_default();
        }
    }
}

/// Head and body; `None` where the client hung up.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// A reply of EC2 or STS.
pub(crate) fn xml(status: u16, body: &str) -> Reply {
    Reply::Bytes(
        format!(
            "HTTP/1.1 {status} X\r\nx-amzn-RequestId: req-{status}\r\nContent-Type: text/xml\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// A refusal of EC2.
pub(crate) fn ec2_error(status: u16, code: &str, message: &str) -> Reply {
    xml(
        status,
        &format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}\
             </Message></Error></Errors><RequestID>in-the-body</RequestID></Response>"
        ),
    )
}

/// A refusal of EBS.
pub(crate) fn ebs_error(status: u16, code: &str, reason: Option<&str>) -> Reply {
    let reason = reason.map(|reason| format!(",\"Reason\":\"{reason}\"")).unwrap_or_default();
    let body = format!("{{\"Message\":\"words of the service\"{reason}}}");
    Reply::Bytes(
        format!(
            "HTTP/1.1 {status} X\r\nx-amzn-RequestId: req-{status}\r\nx-amzn-ErrorType: {code}\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// The head of a block's reply that announces so many bytes.
pub(crate) fn block_head(length: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nx-amzn-RequestId: req-block\r\nx-amz-Data-Length: 524288\r\nx-amz-Checksum: \
         c3VtbWU=\r\nx-amz-Checksum-Algorithm: SHA256\r\nContent-Type: \
         application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}
