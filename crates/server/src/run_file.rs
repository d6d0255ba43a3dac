//! `run.json`: what a running server tells the other commands through its data directory. Written when ready, removed at the
//! end. It holds keys, so its owner alone may read it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::Certificates;
use base::tasks::Stopping;
use serde::{Deserialize, Serialize};

use crate::house::House;
use crate::{Failure, data_directory};

/// How soon `twinhub env` follows a changed key.
const CHECK_EVERY: Duration = Duration::from_secs(3);

/// Not to be printed: the environment holds keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub(crate) process_id: u32,
    /// The address that clients on this machine dial, and the ports there.
    pub(crate) address: IpAddr,
    pub(crate) https_port: u16,
    pub(crate) mqtt_port: u16,
    /// The GUID; the environment says `adfs` in most forms.
    pub(crate) tenant_id: String,
    /// What `twinhub env` prints.
    pub(crate) environment: BTreeMap<String, String>,
    /// Lines of a hosts file.
    pub(crate) hosts: Vec<(IpAddr, String)>,
}

impl RunFile {
    pub(crate) fn describe(
        house: &House,
        certificates: &Certificates,
        address: IpAddr,
        https_port: u16,
        mqtt_port: u16,
    ) -> Self {
        Self {
            process_id: std::process::id(),
            address,
            https_port,
            mqtt_port,
            tenant_id: house.tenant_id().to_owned(),
            environment: house.environment(address, mqtt_port, certificates),
            hosts: house.host_lines(address),
        }
    }

    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("run.json")
    }

    pub(crate) fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain data");
        data_directory::write_private(&Self::path(data_dir), &text)
    }

    /// What the server that wrote it said of itself; it may be gone.
    pub(crate) fn read(data_dir: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(Self::path(data_dir)).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// The file of a server that answers.
    pub(crate) fn of_running(data_dir: &Path) -> Result<Self, Failure> {
        let nobody = || {
            format!("no server runs on {0}: start one with twinhub serve --data-dir {0}", data_dir.display())
        };
        let text = std::fs::read_to_string(Self::path(data_dir)).map_err(|_| nobody())?;
        let run: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}", Self::path(data_dir).display()))?;
        // A server that was killed leaves its file behind.
        let at = SocketAddr::new(run.address, run.https_port);
        TcpStream::connect_timeout(&at, Duration::from_secs(2)).map_err(|_| nobody())?;
        Ok(run)
    }
}

/// Writes the file anew when keys or instances have changed, until shutdown.
pub(crate) async fn keep_true(
    data_dir: PathBuf,
    mut written: RunFile,
    describe: Arc<impl Fn() -> RunFile + Send + Sync>,
    mut stopping: Stopping,
) {
    loop {
        tokio::select! {
            () = stopping.wait() => return,
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
        let now = describe();
        if now != written {
            match now.write(&data_dir) {
                Ok(()) => written = now,
                Err(error) => tracing::warn!(%error, "run.json cannot be written"),
            }
        }
    }
}
