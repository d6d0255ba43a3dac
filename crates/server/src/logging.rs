//! Logs go to stderr, as text, so that stdout stays for what a command prints.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// `filter` is `tracing`'s syntax: `info`, `warn,hub=debug`.
pub(crate) fn start(filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let ansi = std::io::stderr().is_terminal();
    // A second call, which only tests make, keeps the first one's settings.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
    Ok(())
}
