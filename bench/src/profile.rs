//! Where a server's time goes, for `--profile`: its threads from `/proc`, its functions from `perf` where that is installed.
//! A profiled round is one more round; it never counts among the measured ones.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::Failure;
use crate::process::threads_of;

const SAMPLES_PER_SECOND: &str = "997";
/// Functions below this share of the samples are left out.
const SHARE_PERCENT_MIN: &str = "0.5";

/// Watches a server for `duration` and writes what it saw to `path`.
pub(crate) async fn watch(process_id: u32, duration: Duration, path: &Path) -> Result<(), Failure> {
    let before = threads_of(process_id)?;
    let data = path.with_extension("perf");
    let mut record = Command::new("perf");
    record.args(["record", "--quiet", "-F", SAMPLES_PER_SECOND, "-p", &process_id.to_string(), "-o"]);
    record.arg(&data).args(["--", "sleep", &duration.as_secs_f64().to_string()]);
    let recorded = record.output().await;
    let has_samples = recorded.is_ok_and(|output| output.status.success());
    if !has_samples {
        // Without perf, the threads alone still say something.
        tokio::time::sleep(duration).await;
    }
    let mut text = threads(&before, &threads_of(process_id)?);
    text.push_str(&if has_samples { functions(&data).await? } else { "\nperf is not here\n".to_owned() });
    let _ = std::fs::remove_file(&data);
    Ok(std::fs::write(path, text)?)
}

fn threads(before: &HashMap<String, Duration>, after: &HashMap<String, Duration>) -> String {
    let used = |(name, now): (&String, &Duration)| {
        (now.saturating_sub(before.get(name).copied().unwrap_or_default()), name.clone())
    };
    let mut rows: Vec<_> = after.iter().map(used).collect();
    rows.sort_by(|a, b| b.cmp(a));
    let total: f64 = rows.iter().map(|(used, _)| used.as_secs_f64()).sum();
    let mut text = format!("CPU seconds by thread name, {total:.2} in all\n");
    for (used, name) in rows.iter().filter(|(used, _)| !used.is_zero()) {
        let seconds = used.as_secs_f64();
        let _ = writeln!(text, "{seconds:8.2}  {:5.1} %  {name}", 100.0 * seconds / total);
    }
    text
}

async fn functions(data: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    for (title, sort) in [("by object", "dso"), ("by function", "comm,dso,symbol")] {
        let mut report = Command::new("perf");
        report.args([
            "report",
            "--stdio",
            "--no-children",
            "-g",
            "none",
            "--percent-limit",
            SHARE_PERCENT_MIN,
        ]);
        let output = report.arg("--sort").arg(sort).arg("-i").arg(data).output().await?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        // Columns of which perf knows nothing end every line with dashes.
        let lines = lines.lines().map(|line| line.trim_end_matches([' ', '-']));
        let lines = lines.filter(|line| !line.starts_with('#') && !line.is_empty());
        let _ = write!(text, "\nSamples {title}\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    }
    Ok(text)
}
