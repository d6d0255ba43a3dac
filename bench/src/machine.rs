//! The machine that the figures come from, and how busy it was: without it they mean nothing.

use std::path::Path;

use serde_json::{Value, json};

use crate::{Failure, disk, mosquitto, postgres, twinhub};

pub(crate) fn describe(program: &Path, scratch: &Path) -> Result<Value, Failure> {
    let syncs = disk::probe(&scratch.join("probe"))?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let field = |text: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(label));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    Ok(json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "loadAverageAtStart": read("/proc/loadavg"),
        "diskSyncOf64KiBMilliseconds": {"p50": syncs.percentile_ms(0.5), "p99": syncs.percentile_ms(0.99)},
        "versions": {
            "twinhub": twinhub::version(program),
            "mosquitto": mosquitto::Mosquitto::version(),
            "postgres": postgres::version(),
        },
    }))
}
