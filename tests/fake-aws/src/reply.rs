//! What is sent back, and how: whole, cut, or slowly.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::clock::{Clock, Sleep};
use crate::request::Service;
use crate::xml::Xml;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    /// `Reason` of the EBS direct APIs and of the Recycle Bin.
    pub(crate) reason: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), reason: None }
    }

    pub(crate) fn because(self, reason: &str) -> Self {
        Self { reason: Some(reason.to_owned()), ..self }
    }

    /// In the shape of the service.
    pub(crate) fn reply(&self, service: Service, request_id: &str) -> Reply {
        let mut xml = Xml::default();
        let body = match service {
            Service::Ec2 => {
                xml.element("Errors", |xml| {
                    xml.element("Error", |xml| {
                        xml.text("Code", &self.code).text("Message", &self.message);
                    });
                });
                xml.text("RequestID", request_id);
                xml.document("Response", "")
            }
            Service::Sts => {
                let kind = if self.status < 500 { "Sender" } else { "Receiver" };
                xml.element("Error", |xml| {
                    xml.text("Type", kind).text("Code", &self.code).text("Message", &self.message);
                });
                xml.text("RequestId", request_id);
                xml.document("ErrorResponse", "https://sts.amazonaws.com/doc/2011-06-15/")
            }
            Service::Kms | Service::Quotas => {
                let body = serde_json::json!({"__type": self.code, "message": self.message});
                return Reply::json_1_1(self.status, &body);
            }
            Service::Ebs | Service::RecycleBin => {
                let body = match &self.reason {
                    Some(reason) => serde_json::json!({"Message": self.message, "Reason": reason}),
                    None => serde_json::json!({"Message": self.message}),
                };
                let mut reply = Reply::json(self.status, &body);
                reply.headers.push(("x-amzn-errortype", self.code.clone()));
                return reply;
            }
        };
        Reply { status: self.status, ..Reply::xml(body) }
    }
}

/// A reply before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) delivery: Delivery,
}

/// How a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    /// It ends after so many bytes, and the connection with it.
    Cut(usize),
    /// So many bytes a second.
    Drip(u64),
}

impl Reply {
    pub(crate) fn xml(body: String) -> Self {
        let headers = vec![("content-type", "text/xml;charset=UTF-8".to_owned())];
        Self { status: 200, headers, body: body.into(), delivery: Delivery::Whole }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into(), delivery: Delivery::Whole }
    }

    /// For the services that are told what to do by a header.
    pub(crate) fn json_1_1(status: u16, body: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/x-amz-json-1.1".to_owned())];
        Self { headers, ..Self::json(status, body) }
    }

    pub(crate) fn into_response(self, clock: &Arc<dyn Clock>) -> Response<FakeBody> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let announced = self.body.len();
        let mut rest = self.body;
        if let Delivery::Cut(at) = self.delivery {
            rest.truncate(at);
        }
        let drip = match self.delivery {
            Delivery::Drip(bytes_per_second) => bytes_per_second.max(1),
            _ => 0,
        };
        let body = FakeBody { clock: Arc::clone(clock), sent: 0, announced, rest, drip, sleep: None };
        // Nothing that the fake writes into a header can be refused; a plan's code with a newline could.
        response.header("content-length", announced).body(body).unwrap_or_else(|error| {
            let rest = Bytes::from(error.to_string());
            let announced = rest.len();
            Response::new(FakeBody {
                clock: Arc::clone(clock),
                sent: 0,
                announced,
                rest,
                drip: 0,
                sleep: None,
            })
        })
    }
}

/// The body of a reply: whole, cut, or slow.
pub struct FakeBody {
    clock: Arc<dyn Clock>,
    sent: usize,
    announced: usize,
    rest: Bytes,
    /// Bytes a second; 0 is all at once.
    drip: u64,
    sleep: Option<Sleep>,
}

/// The connection broke: on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the fake breaks this connection on purpose")
    }
}

impl std::error::Error for Broken {}

impl fmt::Debug for FakeBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FakeBody({} of {} bytes)", self.rest.len(), self.announced)
    }
}

impl FakeBody {
    /// Ten pieces a second.
    fn next_piece(&mut self) -> Bytes {
        let piece = match self.drip {
            0 => self.rest.len(),
            drip => usize::try_from(drip.div_ceil(10)).unwrap_or(usize::MAX).min(self.rest.len()),
        };
        self.sent += piece;
        self.rest.split_to(piece)
    }
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        // Between pieces, and before the cut: what was written is to reach the client first.
        let pause = if this.drip > 0 { Some(100) } else { this.rest.is_empty().then_some(5) };
        if let Some(milliseconds) = pause {
            let clock = Arc::clone(&this.clock);
            let sleep = this.sleep.get_or_insert_with(|| clock.sleep(Duration::from_millis(milliseconds)));
            ready!(sleep.as_mut().poll(context));
            this.sleep = None;
        }
        if this.rest.is_empty() {
            return Poll::Ready(Some(Err(Broken)));
        }
        Poll::Ready(Some(Ok(Frame::data(this.next_piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.announced
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.announced - self.sent).unwrap_or(u64::MAX))
    }
}
