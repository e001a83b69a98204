//! The paths under `/_fake/`, for tests that run the fake as a process of its own.
//!
//! | request | what it does |
//! |---|---|
//! | `GET events?after=N` | the log as JSON, from the event after number N |
//! | `GET counters`, `GET leaks`, `GET world` | as the methods of [`World`] |
//! | `POST world` | loads an [`Estate`] |
//! | `POST faults` | replaces the fault plan by a list of rules |
//! | `POST hold` | `{"event": 17, "before": false}`: see [`World::hold`] |
//! | `POST release` | goes on |

use http::{Method, Request};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::estate::Estate;
use crate::fault::Rule;
use crate::reply::Reply;
use crate::world::World;

/// Where the world is held still.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// The event's number.
    pub event: u64,
    /// Before the event's effect, rather than after it.
    pub before: bool,
    /// Whether the world stands still.
    #[serde(skip_deserializing)]
    pub is_reached: bool,
}

pub(crate) fn answer(world: &World, request: &Request<Bytes>) -> Reply {
    match handle(world, request) {
        Ok(body) => Reply::json(200, &body),
        Err((status, message)) => Reply::json(status, &json!({"error": message})),
    }
}

fn handle(world: &World, request: &Request<Bytes>) -> Result<Value, (u16, String)> {
    let shown = |value: serde_json::Result<Value>| value.map_err(|error| (500, error.to_string()));
    match (request.method(), request.uri().path().trim_start_matches("/_fake/")) {
        (&Method::GET, "events") => {
            let after = request.uri().query().and_then(|query| query.strip_prefix("after="));
            let after = after.and_then(|after| after.parse().ok()).unwrap_or(0);
            let events = world.events();
            shown(serde_json::to_value(events.get(after..).unwrap_or_default()))
        }
        (&Method::GET, "counters") => shown(serde_json::to_value(world.counters())),
        (&Method::GET, "leaks") => {
            Ok(json!({"leaks": world.leaks(), "in_recycle_bin": world.in_recycle_bin()}))
        }
        (&Method::GET, "world") => shown(serde_json::to_value(world.estate())),
        (&Method::POST, "world") => {
            world.load(read::<Estate>(request)?);
            Ok(json!({}))
        }
        (&Method::POST, "faults") => {
            let rules = read::<Vec<Rule>>(request)?;
            world.clear_faults();
            for rule in rules {
                world.add_fault(rule);
            }
            Ok(json!({}))
        }
        (&Method::POST, "hold") => {
            world.hold(read::<Hold>(request)?);
            Ok(json!({}))
        }
        (&Method::POST, "release") => {
            world.release();
            Ok(json!({}))
        }
        (method, path) => Err((404, format!("there is no {method} /_fake/{path}"))),
    }
}

fn read<T: DeserializeOwned>(request: &Request<Bytes>) -> Result<T, (u16, String)> {
    serde_json::from_slice(request.body()).map_err(|error| (400, error.to_string()))
}
