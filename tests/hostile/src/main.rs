//! `stillframe`, whose process that reads disks misbehaves as it is told.
//!
//! `HOSTILE=PLAN stillframe-hostile scan image …`: the parent is the program as it is. The worker is the program too, and
//! does at one point what a reader would do that an attacker's disk has taken over, or that has a fault. A plan is
//! `POINT=ACT`: the point is `confined`, before the first byte is read, or a step (`open disk0/p1`, `read disk0/p1`,
//! `look disk0`, `mount disk0/p1`, `conclude`). `HOSTILE_PATIENCE` is how many milliseconds the parent waits.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::exit,
    reason = "a program for tests, that is meant to fail"
)]

mod attempts;
mod lies;
mod ways_to_die;

use std::process::ExitCode;
use std::time::Duration;

use stillframe_scanner::cli;
use stillframe_scanner::isolation::{Behaviour, Confined, Worker, is_worker};
use stillframe_scanner::journal::{Event, Step};

fn main() -> ExitCode {
    if !is_worker() {
        let plan = std::env::var("HOSTILE").unwrap_or_default();
        let patience = std::env::var("HOSTILE_PATIENCE").ok().and_then(|text| text.parse().ok());
        let patience = patience.map_or(Duration::from_secs(30), Duration::from_millis);
        let worker = Worker { arguments: vec![plan], silence: patience, grace: patience };
        return cli::main_with(&Behaviour::HONEST, worker);
    }
    let plan = std::env::args().nth(2).unwrap_or_default();
    let (point, act) = plan
        .split_once('=')
        .map_or((String::new(), String::new()), |(point, act)| (point.into(), act.into()));
    let confined = |confined: &Confined| {
        let is_now = point == "confined";
        if is_now && !attempts::make(&act, confined) && !lies::tell(&act, confined) {
            ways_to_die::die(&act);
        }
        is_now
    };
    let event = |event: &Event<'_>| {
        if name(event).is_some_and(|name| name == point) {
            ways_to_die::die(&act);
        }
    };
    cli::main_with(&Behaviour { confined: &confined, event: &event }, Worker::default())
}

fn name(event: &Event<'_>) -> Option<String> {
    // What is told of a volume's facts comes in the middle of its reading.
    match event {
        Event::Step(Step::Look(disk)) => Some(format!("look {disk}")),
        Event::Step(Step::Open(volume)) => Some(format!("open {volume}")),
        Event::Step(Step::Mount(volume)) => Some(format!("mount {volume}")),
        Event::Step(Step::Read(_)) => None,
        Event::Step(Step::Conclude) => Some("conclude".to_owned()),
        Event::Opened(row) => Some(format!("read {}", row.name)),
        Event::Facts(facts) => Some(format!("facts {}", facts.first()?.location.volume)),
        Event::Read { row, .. } => Some(format!("done {}", row.name)),
        _ => None,
    }
}
