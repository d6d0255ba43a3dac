//! PostgreSQL as Debian packages it, with the durability it has by default, in a directory of its own.

use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use server::client::{Trust, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};

use crate::Failure;
use crate::certificate::{CERTIFICATE, KEY, certify};
use crate::clock::now;
use crate::loopback;
use crate::process::Process;

const START_SECONDS_MAX: u64 = 60;
/// A length of 8 and the code 80877103, by which a client asks for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Where it listens, and whom its clients believe.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) at: SocketAddr,
    trust: Trust,
}

pub(crate) struct Postgres {
    pub(crate) process: Process,
    pub(crate) at: Listener,
    /// From its start to the first connection that may ask.
    pub(crate) ready_after: Duration,
}

/// A data directory that a server can be started on.
pub(crate) struct Cluster {
    directory: PathBuf,
    owner: Option<Owner>,
}

/// PostgreSQL refuses to run as root, so under root it runs as the package's user.
#[derive(Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

impl Cluster {
    pub(crate) async fn create(directory: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(directory)?;
        let owner = Owner::find()?;
        if let Some(owner) = owner {
            chown(directory, Some(owner.user), Some(owner.group))?;
        }
        let cluster = Self { directory: directory.to_owned(), owner };
        let mut command = cluster.command("initdb")?;
        command.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=bench", "-D"]);
        let output = command.arg(directory).output().await?;
        if !output.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(cluster)
    }

    fn command(&self, program: &str) -> Result<Command, Failure> {
        let mut command = Command::new(programs()?.join(program));
        command.current_dir(&self.directory);
        if let Some(owner) = self.owner {
            command.uid(owner.user).gid(owner.group);
        }
        Ok(command)
    }

    pub(crate) async fn start(&self) -> Result<Postgres, Failure> {
        let [at] = loopback::free_ports()?;
        let root = certify(&self.directory, at.ip())?;
        if let Some(owner) = self.owner {
            let key = self.directory.join(KEY);
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
            chown(key, Some(owner.user), Some(owner.group))?;
        }
        let at = Listener { at, trust: Trust::only_with_aes_128_gcm(&root)? };
        let mut command = self.command("postgres")?;
        command.arg("-D").arg(&self.directory);
        for setting in [
            format!("listen_addresses={}", at.at.ip()),
            format!("port={}", at.at.port()),
            "unix_socket_directories=".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={CERTIFICATE}"),
            format!("ssl_key_file={KEY}"),
        ] {
            command.arg("-c").arg(setting);
        }
        let start = now();
        // The log lies beside the data, which the server's user may not write to itself.
        let log = self.directory.with_extension("log");
        let (process, _) = Process::start(command, &log)?;
        let mut process = process.stopped_with(Signal::INT);
        while connect(&at).await.is_err() {
            process.check().map_err(|error| format!("postgres: {error}; see {}", log.display()))?;
            if start.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                return Err("postgres does not accept connections".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Postgres { process, at, ready_after: start.elapsed() })
    }
}

impl Owner {
    fn find() -> Result<Option<Self>, Failure> {
        if !rustix::process::getuid().is_root() {
            return Ok(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd")?;
        let line = accounts.lines().find_map(|line| line.strip_prefix("postgres:"));
        let line = line.ok_or("there is no user postgres: install Debian's package postgresql")?;
        let mut numbers = line.split(':').skip(1);
        let mut number = || numbers.next().and_then(|text| text.parse().ok()).ok_or("/etc/passwd is odd");
        Ok(Some(Self { user: number()?, group: number()? }))
    }
}

/// The newest version's programs.
fn programs() -> Result<PathBuf, Failure> {
    let root = Path::new("/usr/lib/postgresql");
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let entries = std::fs::read_dir(root).map_err(|_| "install Debian's package postgresql")?;
    let newest = entries.flatten().map(|entry| entry.path()).max_by_key(version);
    Ok(newest.ok_or("install Debian's package postgresql")?.join("bin"))
}

pub(crate) fn version() -> Option<String> {
    let output =
        std::process::Command::new(programs().ok()?.join("postgres")).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Lets the server's user pass through a directory that we made.
pub(crate) fn open_to_all(directory: &Path) -> Result<(), Failure> {
    Ok(std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?)
}

/// A connection over TLS, as twinhub's are, and what must be polled for it to make progress.
pub(crate) async fn connect(
    Listener { at, trust }: &Listener,
) -> Result<(Client, impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static), Failure> {
    let host = at.ip().to_string();
    let mut tcp = dial(&host, at.port()).await?;
    tcp.write_all(&SSL_REQUEST).await?;
    if tcp.read_u8().await? != b'S' {
        return Err("postgres does not speak TLS".into());
    }
    let stream = trust.over(tcp, &host, at.port()).await?;
    let mut config = tokio_postgres::Config::new();
    // What is below is encrypted already.
    config.user("bench").dbname("postgres").ssl_mode(SslMode::Disable);
    Ok(config.connect_raw(stream, NoTls).await?)
}
