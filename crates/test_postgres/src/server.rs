//! One server in a temporary directory, reached by a unix socket. It dies with the thread that started it, which never ends before
//! the process does, and a process beside it removes what it leaves. Never runs as root: as root it runs as user postgres.

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::Database;

const START_SECONDS: u32 = 60;
/// Names its socket, and nothing listens there on the network unless it is asked to.
const PORT: u16 = 5432;

/// Fast and forgetful, unless a test says otherwise: a test's data need not survive a power cut.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "fsync=off",
    "max_connections=600",
    "shared_buffers=64MB",
    "autovacuum_naptime=10s",
    "log_min_messages=warning",
];

/// A running server. Clones share it; the last one to go ends it.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    programs: PathBuf,
    owner: Option<Owner>,
    directory: PathBuf,
    settings: Vec<String>,
    port: u16,
    running: Mutex<u32>,
    /// Removes the directory when its standard input ends, which it does with this process, however that ends.
    remover: Mutex<Child>,
}

/// PostgreSQL refuses to run as root, so under root it runs as the package's user.
#[derive(Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn find() -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        let accounts = std::fs::read_to_string("/etc/passwd").expect("accounts can be read");
        let line = accounts.lines().find_map(|line| line.strip_prefix("postgres:"));
        let mut numbers = line.expect("there is a user postgres, as the package makes it").split(':').skip(1);
        let mut number =
            || numbers.next().and_then(|text| text.parse().ok()).expect("an account has numbers");
        Some(Self { user: number(), group: number() })
    }
}

impl Server {
    /// A server of one test's own, with more settings such as `fsync=on`. None where PostgreSQL is missing.
    ///
    /// # Panics
    /// When PostgreSQL is there and does not work.
    pub fn start(settings: &[&str]) -> Option<Self> {
        Self::begin(settings, PORT, |_| ())
    }

    /// One that is reached over TLS too, at `127.0.0.1`, with the certificate that proves it, which is its own authority.
    ///
    /// # Panics
    /// When PostgreSQL is there and does not work, or openssl is missing in CI.
    pub fn start_with_tls() -> Option<(Self, PathBuf)> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let is_made = std::cell::Cell::new(false);
        let settings =
            ["listen_addresses=127.0.0.1", "ssl=on", "ssl_cert_file=../cert.pem", "ssl_key_file=../key.pem"];
        let made = |directory: &Path| is_made.set(certify(directory));
        if Command::new("openssl").arg("version").output().is_err() {
            test_data::did_not_run("openssl is missing");
            return None;
        }
        let server = Self::begin(&settings, port, made)?;
        assert!(is_made.get(), "openssl makes a certificate");
        let certificate = server.directory().join("cert.pem");
        Some((server, certificate))
    }

    fn begin(settings: &[&str], port: u16, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let settings = SETTINGS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let inner = Inner::place(settings, port)?;
        inner.make();
        prepare(&inner.directory);
        inner.give_away("key.pem");
        let server = Self(Arc::new(inner));
        server.start_again();
        Some(server)
    }

    /// A standby for which every commit of this one waits from now on, which has its settings.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn synchronous_standby(&self) -> Self {
        let inner = Inner::place(self.0.settings.clone(), self.0.port).expect("the first one was found");
        let mut copy = inner.command(&["pg_basebackup"]);
        copy.arg("-h").arg(self.directory()).args(["-p", &self.0.port.to_string(), "-U", "postgres", "-R"]);
        copy.args(["-X", "stream", "--checkpoint=fast", "--no-sync", "-D"]).arg(inner.directory.join("data"));
        let output = copy.output().expect("pg_basebackup is beside the server");
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        let standby = Self(Arc::new(inner));
        standby.start_again();
        self.query("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.query("postgres", "SELECT pg_reload_conf()");
        let state = "SELECT sync_state FROM pg_stat_replication";
        let waits = || self.try_query("postgres", state).is_ok_and(|state| state == "sync");
        assert!(within(START_SECONDS, waits), "the standby does not follow:\n{}", standby.log());
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        assert_eq!(self.query("postgres", "SELECT pg_promote(true, 60)"), "t", "{}", self.log());
    }

    /// Where a database is found on whichever of two servers takes writes.
    pub fn url_of_both(&self, other: &Self, database: &str) -> String {
        let host = |server: &Self| server.directory().to_str().expect("it is text").replace('/', "%2F");
        let ports = (self.0.port, other.0.port);
        format!("postgresql://postgres@{}:{},{}:{}/{database}", host(self), ports.0, host(other), ports.1)
    }

    /// Stops all of its processes in their tracks, or lets them go on: `Signal::STOP` and `Signal::CONT`.
    pub fn signal_all(&self, signal: Signal) {
        for process in self.0.processes() {
            // One that has ended meanwhile needs none.
            let _ = kill_process(process, signal);
        }
    }

    pub fn database(&self) -> Database {
        Database::create(self)
    }

    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Its process: the parent of all that serve connections.
    pub fn process(&self) -> u32 {
        *self.0.running.lock()
    }

    /// Where a database of it is found.
    pub fn url(&self, database: &str) -> String {
        let folder = self.0.directory.to_str().expect("a temporary directory is text").replace('/', "%2F");
        format!("postgresql://postgres@{folder}:{}/{database}", self.0.port)
    }

    /// The same over the network, for a server that was started with TLS.
    pub fn network_url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.0.port)
    }

    /// Ends it at once, as a crash does, with all that serve its connections.
    pub fn kill(&self) {
        // The parent first, so that it does not think of a crash of one of the others; they would end with it, but not at once.
        self.signal(Signal::KILL);
        self.signal_all(Signal::KILL);
        let is_gone = || self.try_query("postgres", "SELECT 1").is_err() && self.0.processes().is_empty();
        assert!(within(START_SECONDS, is_gone), "a killed server is still there");
    }

    /// Stops it in its tracks, or lets it go on: `Signal::STOP` and `Signal::CONT` of its main process alone.
    pub fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.process()).ok().and_then(Pid::from_raw).expect("it runs");
        kill_process(process, signal).expect("a process of ours");
    }

    /// Starts it again after [`Self::kill`], and waits until it answers.
    pub fn start_again(&self) {
        let _ = std::fs::remove_file(self.0.directory.join("data/postmaster.pid"));
        *self.0.running.lock() = self.0.run();
        let answers = || self.try_query("postgres", "SELECT 1").is_ok();
        assert!(within(START_SECONDS, answers), "PostgreSQL does not answer:\n{}", self.log());
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.0.directory.join("log")).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn query(&self, database: &str, sql: &str) -> String {
        self.try_query(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs a statement and gives its rows, or what the server said against it.
    pub fn try_query(&self, database: &str, sql: &str) -> Result<String, String> {
        // What a test says on the side never waits for a standby: there may be none, on purpose.
        let output = Command::new(self.0.programs.join("psql"))
            .env("PGOPTIONS", "-c synchronous_commit=local")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-p",
                &self.0.port.to_string(),
                "-d",
                database,
            ])
            .args([OsStr::new("-h"), self.0.directory.as_os_str(), OsStr::new("-c"), OsStr::new(sql)])
            .output()
            .expect("psql is beside the server");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }
}

impl Inner {
    /// A directory for a server, with what removes it. None where PostgreSQL is missing.
    fn place(settings: Vec<String>, port: u16) -> Option<Self> {
        let programs = crate::programs()?;
        let owner = Owner::find();
        let directory = tempfile::Builder::new().prefix("twinhub-postgres-").tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
            .expect("it is ours");
        if let Some(Owner { user, group }) = owner {
            chown(directory.path(), Some(user), Some(group)).expect("root may give it away");
        }
        let directory = directory.keep();
        let remover = remover(&directory);
        let (running, remover) = (Mutex::new(0), Mutex::new(remover));
        Some(Self { programs, owner, directory, settings, port, running, remover })
    }

    fn make(&self) {
        let mut command = self.command(&["initdb"]);
        command.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "--no-sync"]);
        let output = command.arg("-D").arg(self.directory.join("data")).output().expect("initdb is there");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A program of the package as the user that it may run as, killed when the thread that starts it ends.
    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(Owner { user, group }) = self.owner {
            command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
        }
        command.arg("--").arg(self.programs.join(program[0])).args(&program[1..]);
        command.current_dir(&self.directory).stdin(Stdio::null());
        command
    }

    /// Starts the server and gives its process.
    fn run(&self) -> u32 {
        let mut command = self.command(&["postgres"]);
        command.arg("-D").arg(self.directory.join("data"));
        command.arg("-c").arg(format!("unix_socket_directories={}", self.directory.display()));
        command.arg("-c").arg(format!("port={}", self.port));
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log"));
        let log = log.expect("the directory is writable");
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let (started, process) = mpsc::sync_channel(1);
        // The kernel ends the server with the thread that started it, so that thread stays until the server has ended.
        std::thread::spawn(move || {
            let child = command.spawn();
            let _ = started.send(child.as_ref().map(Child::id).map_err(ToString::to_string));
            let _ = child.map(|mut child| child.wait());
        });
        process.recv().expect("the thread answers").expect("setpriv of util-linux is there")
    }

    /// A file that is there becomes the server's own, and nobody else's.
    fn give_away(&self, file: &str) {
        let path = self.directory.join(file);
        if let (true, Some(Owner { user, group })) = (path.exists(), self.owner) {
            chown(&path, Some(user), Some(group)).expect("root may give it away");
        }
    }

    /// Those that have the server's directory as their own, as all of its processes have.
    fn processes(&self) -> Vec<Pid> {
        let data = self.directory.join("data");
        let entries = std::fs::read_dir("/proc").expect("processes are listed").flatten();
        let ours =
            entries.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data));
        ours.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)).collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let process = *self.running.lock();
        if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
            let _ = kill_process(process, Signal::KILL);
        }
        let mut remover = self.remover.lock();
        // The end of its standard input.
        drop(remover.stdin.take());
        let _ = remover.wait();
    }
}

/// Makes a certificate for the loopback and its key; gives whether that went well.
fn certify(directory: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=twinhub test",
    ]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", "key.pem", "-out", "cert.pem"]).current_dir(directory);
    command.output().is_ok_and(|output| output.status.success())
}

/// Waits for the end of its standard input and then removes the directory, for a while, since a dying server may still write.
fn remover(directory: &Path) -> Child {
    let script = "cat >/dev/null; for i in 1 2 3 4 5; do rm -rf \"$0\" 2>/dev/null && exit; sleep 1; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(directory).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // In a group of its own, so that a key that ends the tests does not end it.
    command.process_group(0).spawn().expect("there is a shell")
}

/// Whether something becomes true in time.
pub(crate) fn within(seconds: u32, is_so: impl Fn() -> bool) -> bool {
    for _ in 0..seconds * 100 {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    is_so()
}
