//! The fake as a program: it says where it listens on one line, and serves until it is killed.
#![allow(clippy::print_stdout, reason = "the address is this program's output")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use fake_aws::{Estate, ScaledClock, World, serve_on};

/// A fake of EC2 snapshots, EBS direct, STS, and what a check before a scan asks, on 127.0.0.1, for tests.
#[derive(Debug, Parser)]
struct Arguments {
    /// What there is, as JSON. Images are named relative to the file's folder.
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How long every reply takes, whatever the world says.
    #[arg(long, value_name = "N")]
    latency_ms: Option<u64>,
    /// How much faster than the wall's the fake's clock runs: 60 makes a minute of each second.
    #[arg(long, default_value_t = 1.0, value_parser = factor)]
    clock_factor: f64,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err("a number above zero".to_owned()),
    }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut estate = match &arguments.world {
        Some(path) => read(path)?,
        None => Estate::default(),
    };
    if let Some(latency_ms) = arguments.latency_ms {
        estate.settings.latency_ms = latency_ms;
    }
    let world = World::of(Arc::new(ScaledClock::new(arguments.clock_factor)), estate);
    let running = serve_on(world, arguments.port)?;
    println!("{}", running.url());
    io::stdout().flush()?;
    running.wait();
    Ok(())
}

fn read(path: &Path) -> io::Result<Estate> {
    let explained = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| explained(&error))?;
    let mut estate: Estate = serde_json::from_str(&text).map_err(|error| explained(&error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let volumes = estate.volumes.iter_mut().map(|volume| &mut volume.content);
    let snapshots = estate.snapshots.iter_mut().map(|snapshot| &mut snapshot.content);
    for content in volumes.chain(snapshots) {
        if let Some(image) = &mut content.image {
            *image = folder.join(&*image);
        }
    }
    Ok(estate)
}
