//! `stillframe instances`, and what `--dry-run` prints: which machines, which of their disks, and what it would cost.

use std::io::{self, Write};

use serde_json::{Value, json};
use stillframe_aws::Locality;
use stillframe_cloud::cost::{NanoDollars, Prices};
use stillframe_cloud::discover::{InstanceStore, Selection};
use stillframe_cloud::tags::ScanId;
use stillframe_reports::Format;

use super::super::EXIT_CLEAN;
use super::super::arguments::Global;
use super::super::failure::Failure;
use super::super::output::printed;
use super::account::CROSSING;
use super::arguments::{InstancesArguments, Limits, ListFormat};
use super::{counted, explained, limiter, on_runtime, open, shown, size};
use crate::cloud::forecast::{DiskForecast, InstanceForecast, foresee};
use crate::cloud::machine::find;

/// `stillframe instances`.
pub(in crate::cli) fn list(_: &Global, arguments: &InstancesArguments) -> Result<u8, Failure> {
    on_runtime(async {
        let name = ScanId::random().map(|id| id.to_string()).unwrap_or_default();
        let region = arguments.region.region.clone();
        let session = open(&arguments.account, region, None, limiter(None), &name).await?;
        let selection = arguments.choice.selection(&arguments.ids);
        let found = find(&session, &selection, &arguments.choice.exclusions()).await.map_err(explained)?;
        let foreseen = foresee(&session, found.instances, &Prices::default()).await.map_err(explained)?;
        let place = session.place();
        printed(|out| match arguments.format {
            ListFormat::Table => {
                if foreseen.is_empty() {
                    let fit = if selection == Selection::default() { "" } else { " fit" };
                    return writeln!(
                        out,
                        "no instances in {} of account {}{fit}",
                        place.region, place.account
                    );
                }
                foreseen.iter().try_for_each(|one| write_instance(out, one))?;
                let scanned = foreseen.iter().filter(|one| one.planned.skipped.is_none()).count();
                writeln!(out, "{scanned} of {} would be scanned in {}", foreseen.len(), place.region)
            }
            ListFormat::Json => {
                let instances: Vec<Value> = foreseen.iter().map(instance_value).collect();
                write_json(
                    out,
                    &json!({"account": place.account, "region": place.region, "instances": instances}),
                )
            }
        })?;
        Ok(EXIT_CLEAN)
    })
}

/// What `scan instance --dry-run` prints.
pub(super) fn print_forecast(
    foreseen: &[InstanceForecast],
    format: Format,
    limits: &Limits,
    locality: &Locality,
) -> Result<u8, Failure> {
    let total = foreseen.iter().fold(NanoDollars::default(), |sum, one| sum.plus(one.cost.total()));
    printed(|out| {
        if matches!(format, Format::Json | Format::Jsonl) {
            let instances: Vec<Value> = foreseen.iter().map(instance_value).collect();
            let most = limits.max_cost().map(|cost| cost.0);
            let all = json!({
                "dry_run": true,
                "instances": instances,
                "total_nano_usd": total.0,
                "max_cost_nano_usd": most,
                "max_blocks": limits.max_blocks,
                "locality": where_data_goes(locality, limits),
            });
            return if format == Format::Jsonl { writeln!(out, "{all}") } else { write_json(out, &all) };
        }
        for one in foreseen {
            write_instance(out, one)?;
            write_cost(out, one)?;
        }
        writeln!(out, "dry run: nothing was created; in all about {}", sum(total))?;
        if let Some(most) = limits.max_cost() {
            writeln!(out, "reading stops at {most} a machine (--max-cost)")?;
        }
        if let Some(most) = limits.max_blocks {
            writeln!(out, "reading stops at {most} blocks a machine (--max-blocks)")?;
        }
        writeln!(out, "data locality: {}", where_data_goes(locality, limits))
    })?;
    Ok(EXIT_CLEAN)
}

/// What a scan would make of where this machine and the disks are. A dry run itself was opened as one that reads nothing.
fn where_data_goes(locality: &Locality, limits: &Limits) -> String {
    match locality {
        Locality::CrossRegionAllowed(why) if !limits.allow_cross_region => {
            format!("{why}: the scan would refuse; {CROSSING}")
        }
        other => other.to_string(),
    }
}

fn write_instance(out: &mut dyn Write, one: &InstanceForecast) -> io::Result<()> {
    let instance = &one.planned.instance;
    let name = instance.tags.get("Name").map(|name| format!("  {}", shown(name))).unwrap_or_default();
    let verdict = match &one.planned.skipped {
        // A state stands in front of its reason already.
        Some(skip) => format!("skipped: {skip}"),
        None => instance.state.clone(),
    };
    writeln!(out, "{}{name}  {}  {verdict}", instance.id, shown(&instance.instance_type))?;
    for disk in &one.disks {
        write_disk(out, disk, one.planned.skipped.is_some())?;
    }
    if one.has_unknown_store() {
        writeln!(out, "  instance store   not known: allow ec2:DescribeInstanceTypes")?;
    }
    writeln!(out)
}

fn write_disk(out: &mut dyn Write, disk: &DiskForecast, is_skipped: bool) -> io::Result<()> {
    let volume = disk.disk.volume_id.as_deref().unwrap_or("-");
    let root = if disk.disk.is_root { " (root)" } else { "" };
    let device = format!("{}{root}", shown(&disk.disk.device));
    let fate = match &disk.disk.skipped {
        Some(skip) => format!("left out: {skip}"),
        // Its machine says why.
        None if is_skipped => String::new(),
        None => format!("{}, {}", disk.size_bytes.map(size).unwrap_or_default(), written(disk)),
    };
    writeln!(out, "{}", format!("  {device:<16} {volume:<22} {fate}").trim_end())
}

fn written(disk: &DiskForecast) -> String {
    match &disk.written {
        Some(written) => {
            let of = written.started.map(|at| format!(" on {}", at.strftime("%Y-%m-%d"))).unwrap_or_default();
            format!("{} written{of}", size(written.bytes))
        }
        None => "written bytes not known before its first snapshot".to_owned(),
    }
}

fn write_cost(out: &mut dyn Write, one: &InstanceForecast) -> io::Result<()> {
    let (bytes, is_known) = one.written();
    let most = if is_known { "" } else { "at most " };
    let lists = usize::try_from(one.usage.lists).unwrap_or(usize::MAX);
    writeln!(
        out,
        "  would take {} of {most}{}, kept for about {} min, and read about {} blocks in {}",
        counted(one.disks.iter().filter(|disk| disk.disk.skipped.is_none()).count(), "snapshot", "snapshots"),
        size(bytes),
        one.usage.lifetime.as_secs() / 60,
        one.usage.gets,
        counted(lists, "list", "lists"),
    )?;
    let cost = &one.cost;
    writeln!(
        out,
        "  about {}: reads {}, lists {}, storage at most {}\n",
        sum(cost.total()),
        sum(cost.gets),
        sum(cost.lists),
        sum(cost.storage)
    )
}

/// Rounded up to a millionth of a dollar: nobody reads more digits of a forecast.
fn sum(cost: NanoDollars) -> String {
    match cost.0.div_ceil(1000) {
        // Cents, or nothing.
        0 | 10_000.. => cost.to_string(),
        millionths => format!("$0.{millionths:06}").trim_end_matches('0').to_owned(),
    }
}

fn instance_value(one: &InstanceForecast) -> Value {
    let instance = &one.planned.instance;
    let disks: Vec<Value> = one
        .disks
        .iter()
        .map(|disk| {
            json!({
                "device": disk.disk.device,
                "volume_id": disk.disk.volume_id,
                "is_root": disk.disk.is_root,
                "size_bytes": disk.size_bytes,
                "written_bytes": disk.written.as_ref().map(|written| written.bytes),
                "encrypted": disk.disk.volume.as_ref().map(|volume| volume.encrypted),
                "left_out": disk.disk.skipped.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    json!({
        "instance_id": instance.id,
        "name": instance.tags.get("Name"),
        "state": instance.state,
        "type": instance.instance_type,
        "skipped": one.planned.skipped.as_ref().map(ToString::to_string),
        "instance_store_gib": match &one.planned.instance_store {
            InstanceStore::Gib(gib) => json!(gib),
            InstanceStore::None => json!(0),
            InstanceStore::NotAsked | InstanceStore::Unknown(_) => Value::Null,
        },
        "disks": disks,
        "estimate": {
            "blocks": one.usage.gets,
            "lists": one.usage.lists,
            "snapshot_bytes": one.usage.snapshot_bytes,
            "lifetime_seconds": one.usage.lifetime.as_secs(),
            "gets_nano_usd": one.cost.gets.0,
            "lists_nano_usd": one.cost.lists.0,
            "storage_nano_usd": one.cost.storage.0,
            "total_nano_usd": one.cost.total().0,
        },
    })
}

pub(super) fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_has_no_digits_that_nobody_reads() {
        let shown = |nano| sum(NanoDollars(nano));
        assert_eq!(shown(0), "$0.00");
        assert_eq!(shown(2), "$0.000001");
        assert_eq!(shown(39_000), "$0.000039");
        assert_eq!(shown(5_000_000), "$0.005");
        assert_eq!(shown(1_500_000_000), "$1.50");
    }
}
