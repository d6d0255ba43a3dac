//! Logs go to stderr, as text or as JSON, so that stdout stays for what a command prints. A thread of its own writes them: whoever reads stderr
//! may stall, and then lines are lost, and counted, rather than that work waits.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use base::caps;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The crates of the house, which print no secret at any level.
const OWN: &[&str] = &[
    "access",
    "amqp_protocol",
    "base",
    "delivery",
    "digital_twins",
    "dtdl",
    "entrance",
    "event_hubs",
    "events",
    "hub",
    "mqtt",
    "provisioning",
    "query",
    "resource_manager",
    "rest",
    "server",
    "storage",
    "store",
    "twinhub",
];

/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lines that were lost since the start, and those that were told of.
static LOST: AtomicU64 = AtomicU64::new(0);
static QUEUE: OnceLock<SyncSender<Entry>> = OnceLock::new();

enum Entry {
    Line(Vec<u8>),
    /// Asks to be told once everything before it is written.
    Written(SyncSender<()>),
}

/// Lines that were lost because whoever reads stderr was too slow.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Where each line is handed over in one piece.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let taken = QUEUE.get().map(|queue| queue.try_send(Entry::Line(line.to_vec())));
        if !matches!(taken, Some(Ok(()))) {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes what is handed over, and how much was lost before it. `out` may take as long as it likes.
fn write_lines(entries: &Receiver<Entry>, mut out: impl Write) {
    let mut told = 0;
    while let Ok(entry) = entries.recv() {
        let lost = lines_lost();
        if lost > told {
            let _ =
                writeln!(out, "{} lines of the log were lost: stderr is not read fast enough", lost - told);
            told = lost;
        }
        match entry {
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Written(done) => drop(done.try_send(())),
        }
    }
}

/// Waits for the last lines, but not for ever.
pub(crate) fn finish() {
    let (done, written) = sync_channel(1);
    if QUEUE.get().is_some_and(|queue| queue.try_send(Entry::Written(done)).is_ok()) {
        let _ = written.recv_timeout(LAST_LINES);
    }
}

fn start_writing() -> std::io::Result<()> {
    let (queue, entries) = sync_channel(caps::LOG_LINES_WAITING_MAX);
    if QUEUE.set(queue).is_ok() {
        let work = move || write_lines(&entries, std::io::stderr());
        std::thread::Builder::new().name("log-lines".into()).spawn(work)?;
        // The usual report would wait for stderr.
        std::panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current();
            let (thread, trace) = (thread.name().unwrap_or_default(), std::backtrace::Backtrace::capture());
            tracing::error!(thread, %trace, "{panic}");
        }));
    }
    Ok(())
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    /// One JSON object a line.
    Json,
}

/// `filter` is `tracing`'s syntax: `info`, `warn,hub=debug`.
pub(crate) fn start(filter: &str, format: Format) -> Result<(), crate::Failure> {
    let filter = EnvFilter::builder().parse(filter)?;
    start_writing()?;
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines);
    let lines = match format {
        Format::Text => lines.with_ansi(ansi).boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // A second call, which only tests make, keeps the first one's settings.
    let _ =
        tracing_subscriber::registry().with(lines.with_filter(filter_fn(may_pass))).with(filter).try_init();
    Ok(())
}

/// Libraries print what passes through them below `info`, headers and passwords included, whatever the filter asks for.
fn may_pass(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    OWN.contains(&name) || *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_told_before_the_next_line() {
        let (queue, entries) = sync_channel(2);
        LOST.fetch_add(3, Ordering::Relaxed);
        queue.try_send(Entry::Line(b"a line\n".to_vec())).unwrap();
        drop(queue);
        let mut out = Vec::new();
        write_lines(&entries, &mut out);
        let said = String::from_utf8(out).unwrap();
        assert!(said.contains(" lines of the log were lost") && said.ends_with("a line\n"), "{said}");
    }

    #[test]
    fn every_crate_of_the_house_may_speak_at_every_level() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for entry in std::fs::read_dir(crates).unwrap() {
            let entry = entry.unwrap();
            if entry.path().join("Cargo.toml").is_file() {
                let name = entry.file_name().into_string().unwrap();
                // What tests read is no part of the server.
                assert!(name.starts_with("test_") || OWN.contains(&name.as_str()), "{name}");
            }
        }
    }
}
