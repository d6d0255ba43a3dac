//! `twinhub wait`: until the server of a data directory is ready, for scripts that have just started one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use base::{Clock, caps};
use clap::Args;
use server::client::{Https, Trust};

use super::DataDirArgs;
use crate::run_file::RunFile;
use crate::{Failure, config};

const LOOK_MIN: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    data_dir: DataDirArgs,
    /// How long at most
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    timeout: u64,
}

pub(crate) fn run(args: &WaitArgs) -> Result<ExitCode, Failure> {
    let data_dir = config::load(&args.data_dir.layer())?.data_dir;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(until_ready(&data_dir, Duration::from_secs(args.timeout)))
}

async fn until_ready(data_dir: &Path, patience: Duration) -> Result<ExitCode, Failure> {
    let clock = Clock::system();
    let begun = clock.elapsed();
    let mut missing = "the server does not answer".to_owned();
    loop {
        let left = patience.saturating_sub(clock.elapsed().since(begun));
        // One look is taken however short the patience.
        match tokio::time::timeout(left.max(LOOK_MIN), look(data_dir)).await {
            Ok(Ok(())) => return Ok(ExitCode::SUCCESS),
            Ok(Err(what)) => missing = what,
            Err(_) => {}
        }
        if left.is_zero() {
            return Err(format!("waited {} s: {missing}", patience.as_secs()).into());
        }
        clock.sleep(Duration::from_millis(caps::WAIT_POLL_MS).min(left)).await;
    }
}

/// What there is still to wait for.
async fn look(data_dir: &Path) -> Result<(), String> {
    let path = RunFile::path(data_dir);
    let run = RunFile::read(data_dir).map_err(|error| {
        let path = path.display();
        format!(
            "{path}: {error}. A server writes it once it is ready: twinhub serve --data-dir {}",
            data_dir.display()
        )
    })?;
    let at = SocketAddr::new(run.address, run.https_port);
    let trust_file = run.environment.get("TWINHUB_CA_FILE").map(String::as_str).unwrap_or_default();
    let pem = std::fs::read_to_string(trust_file).map_err(|error| format!("{trust_file}: {error}"))?;
    let https = Https::new(Trust::only(&pem).map_err(|error| error.to_string())?);
    let answer = https.send("GET", &format!("https://{at}/readyz"), &[], "").await;
    let answer = answer.map_err(|error| format!("{at} does not answer: {error}"))?;
    if answer.status.is_success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.body);
    Err(format!("{at} is not ready ({}): {}", answer.status, said.trim()))
}
