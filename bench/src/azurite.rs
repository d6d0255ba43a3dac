//! Azurite's blob service, the emulator that developers know best: a Node program that keeps its data in a folder.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{ChildStdout, Command};

use crate::Failure;
use crate::clock::now;
use crate::loopback;
use crate::process::Process;

const START_SECONDS_MAX: u64 = 60;

pub(crate) struct Azurite {
    pub(crate) process: Process,
    /// From its start to its first answer.
    pub(crate) ready_after: Duration,
    /// It ends when nobody hears what it says.
    pub(crate) said: ChildStdout,
}

impl Azurite {
    /// `program` is the `main.js` of its blob service.
    pub(crate) async fn start(program: &Path, directory: &Path) -> Result<Self, Failure> {
        let [at] = loopback::free_ports()?;
        let mut command = Command::new("node");
        command.arg(program).args(["--silent", "--disableTelemetry", "--location"]).arg(directory);
        command.arg("--blobHost").arg(at.ip().to_string()).arg("--blobPort").arg(at.port().to_string());
        let start = now();
        let (mut process, said) = Process::start(command, &directory.join("azurite.log"))?;
        while answer(at).await.is_err() {
            process.check()?;
            if start.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                return Err("Azurite does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self { process, ready_after: start.elapsed(), said })
    }
}

/// Any answer over HTTP: it may refuse what it is asked.
async fn answer(at: SocketAddr) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).await?;
    if beginning.starts_with(b"HTTP/1.1 ") { Ok(()) } else { Err("no answer over HTTP".into()) }
}
