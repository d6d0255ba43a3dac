//! `twinhub status`: what a running server serves, who is there, what lies on its disk, what waits and whom it refused last, as it
//! tells it itself.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use server::out;

use super::DataDirArgs;
use crate::live::Live;
use crate::{Failure, config};

/// Refusals that are printed; `--json` has all that the server keeps.
const REFUSED_SHOWN: usize = 10;

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    data_dir: DataDirArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Fails where no server runs, and where one does that is not ready.
pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let live = Live::of_running(&config::load(&args.data_dir.layer())?.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(live.json("GET", "/_twinhub/status"))?;
    if args.json {
        out::line(serde_json::to_string_pretty(&status)?);
    } else {
        out::write(text(&status));
    }
    let is_ready = status["ready"] == true;
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(status: &Value) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<14}{text}");
    };
    let uptime = duration(status["uptimeSeconds"].as_u64().unwrap_or(0));
    row(
        "twinhub",
        format!("{}, up {uptime}, process {}", word(&status["version"]), word(&status["processId"])),
    );
    row("ready", readiness(status));
    row("listens", words(&status["addresses"]).join("  "));
    row("data", format!("{}, durability {}", word(&status["dataDirectory"]), word(&status["durability"])));
    row("disk", disk(&status["disk"]));
    let connections = &status["connections"];
    row(
        "connections",
        format!("{} over MQTT, {} over HTTPS", word(&connections["mqtt"]), word(&connections["https"])),
    );
    row("events", events(&status["events"]));
    for instance in status["instances"].as_array().into_iter().flatten() {
        let (kind, name) = (word(&instance["kind"]), word(&instance["name"]));
        let devices = if kind == "hub" { devices(&status["hubs"], &name) } else { String::new() };
        row(&kind, format!("{name} at {}{devices}", word(&instance["advertisedHost"])));
    }
    out.push_str(&refused(&status["refused"]));
    out
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn readiness(status: &Value) -> String {
    let troubles = words(&status["troubles"]).join("; ");
    match (status["ready"] == true, troubles.is_empty()) {
        (true, true) => {
            let remarks = words(&status["remarks"]).into_iter().map(|remark| format!(" ({remark})"));
            format!("yes{}", remarks.collect::<String>())
        }
        (true, false) => format!("yes, but {troubles}"),
        (false, true) => "no: it is starting or ending".to_owned(),
        (false, false) => format!("no: {troubles}"),
    }
}

fn disk(disk: &Value) -> String {
    let size = |name: &str| bytes(disk[name].as_u64().unwrap_or(0));
    let free = disk["freeBytes"].as_u64().map(|free| format!(", {} free", bytes(free))).unwrap_or_default();
    if disk["inMemory"] == true {
        return format!("records and events in memory{free}");
    }
    if disk["inDatabase"] == true {
        return format!("records and events in PostgreSQL{free}");
    }
    format!(
        "records {} and {} of write-ahead log, events {}{free}",
        size("recordsBytes"),
        size("recordsWalBytes"),
        size("logBytes")
    )
}

fn events(events: &Value) -> String {
    let number = |name: &str| events[name].as_u64().unwrap_or(0);
    if number("waitingBytes") == 0 {
        return "none waits".to_owned();
    }
    let throttled = match number("instancesThrottled") {
        0 => String::new(),
        count => format!("; {count} instances are throttled for it"),
    };
    format!(
        "{} wait, of that {} parked for {} endpoints{throttled}",
        bytes(number("waitingBytes")),
        bytes(number("parkedBytes")),
        number("endpointsWaiting")
    )
}

fn devices(hubs: &Value, name: &str) -> String {
    let hub = hubs.as_array().into_iter().flatten().find(|hub| hub["name"] == name);
    hub.map(|hub| format!(", {} devices, {} connected", hub["devices"], hub["devicesConnected"]))
        .unwrap_or_default()
}

fn refused(list: &Value) -> String {
    let all = list.as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return "refused       nobody since the start\n".to_owned();
    }
    let mut out = format!("refused last ({} of {} kept)\n", all.len().min(REFUSED_SHOWN), all.len());
    for one in all.iter().take(REFUSED_SHOWN) {
        let word = |name: &str| one[name].as_str().unwrap_or_default();
        let from =
            if word("who") == word("peer") { String::new() } else { format!(" from {}", word("peer")) };
        let action = one["action"].as_str().map(|action| format!(": {action}")).unwrap_or_default();
        let (time, door, who, reason) = (word("time"), word("door"), word("who"), word("reason"));
        let _ = writeln!(out, "  {time}  {door}  {who}{from}  {reason}{action}");
    }
    out
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// To three digits or so.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut number, mut unit) = (count as f64, 0);
    while number >= 1000.0 && unit + 1 < units.len() {
        number /= 1000.0;
        unit += 1;
    }
    if unit == 0 || number >= 100.0 {
        format!("{number:.0} {}", units[unit])
    } else {
        format!("{number:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_written_for_people() {
        let sizes =
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (5_000_000_000, "5.0 GB")];
        for (count, text) in sizes {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in [(59, "59 s"), (60, "1 min"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
