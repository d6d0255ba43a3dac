//! `cargo xtask conform`: official clients, unmodified, against the release binary. Makes its own environments under the target
//! directory from pinned requirements, starts one server for all suites, and ends it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use test_postgres::Database;

use crate::azurite::Azurite;
use crate::docs;
use crate::shell::{self, Outcome, cargo, root, step, target};

/// The suites that run at every change.
pub const USUAL: &[&str] = &["shell", "python", "node", "sdk", "java", "go"];
/// Those, and the one that takes long to install.
pub const ALL: &[&str] = &["shell", "python", "node", "sdk", "java", "go", "az"];

/// What a run of the suites may do otherwise, for who writes them.
#[derive(Default)]
struct Wishes {
    /// Another binary than a release build.
    binary: Option<PathBuf>,
    /// Another address than 127.0.0.1, where another server may listen already.
    listen: Option<String>,
    /// Another place for its records than the data directory.
    store: Option<String>,
    /// The blocks of `docs/` and not the tests of the clients.
    pages_only: bool,
    /// The other way round.
    clients_only: bool,
}

/// `conform [--binary PATH] [--listen ADDRESS] [--store postgres] [--pages] [SUITE…]`.
pub fn run(arguments: &[String]) -> Outcome {
    let mut arguments = arguments.to_vec();
    let binary = shell::take_option(&mut arguments, "--binary")?.map(PathBuf::from);
    let listen = shell::take_option(&mut arguments, "--listen")?;
    let database = database(shell::take_option(&mut arguments, "--store")?.as_deref())?;
    let store = database.as_ref().map(Database::url);
    let given = arguments.len();
    arguments.retain(|argument| argument != "--pages");
    let wishes = Wishes { binary, listen, store, pages_only: arguments.len() < given, clients_only: false };
    let suites: Vec<_> = arguments.iter().map(String::as_str).collect();
    run_as_wished(&wishes, if suites.is_empty() { USUAL } else { &suites })
}

/// Suites on a server that keeps everything in a database. The pages of `docs/` are the same there and are not run again.
pub fn run_suites_on_postgres(suites: &[&str]) -> Outcome {
    let Some(database) = database(Some("postgres"))? else { return Ok(()) };
    eprintln!("── on PostgreSQL: {}", suites.join(", "));
    run_as_wished(&Wishes { store: Some(database.url()), clients_only: true, ..Wishes::default() }, suites)
}

/// A database that syncs, as the server demands of one. None where none is asked for, or PostgreSQL is missing, which is said.
fn database(store: Option<&str>) -> Result<Option<Database>, String> {
    match store {
        None => Ok(None),
        Some("postgres") => {
            let server = test_postgres::Server::start(&["fsync=on"]);
            if server.is_none() {
                test_postgres::did_not_run();
            }
            Ok(server.as_ref().map(test_postgres::Server::database))
        }
        Some(other) => Err(format!("unknown store {other}; known: postgres")),
    }
}

pub fn run_suites(suites: &[&str]) -> Outcome {
    run_as_wished(&Wishes::default(), suites)
}

fn run_as_wished(wishes: &Wishes, suites: &[&str]) -> Outcome {
    let binary = if let Some(path) = &wishes.binary {
        path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?
    } else {
        step("release build", cargo().args(["build", "--release", "--quiet"]))?;
        target().join("release/twinhub")
    };
    if shell::shared().is_none() {
        let missing =
            "the shared folder is missing, so the published ontologies are not tried; set TWINHUB_SHARED";
        if test_data::in_ci() {
            return Err(missing.to_owned());
        }
        eprintln!("hint: {missing}");
    }
    let uploads = !wishes.pages_only && suites.iter().any(|suite| matches!(*suite, "python" | "node"));
    let azurite = if uploads { Azurite::start()? } else { None };
    let server = Server::start(binary, wishes, azurite)?;
    for suite in suites {
        match *suite {
            "shell" => in_a_shell(&server)?,
            "python" => python(&server)?,
            "node" => node(&server)?,
            "sdk" => sdk(&server)?,
            "az" => az(&server)?,
            "java" => java(&server)?,
            "go" => go(&server)?,
            other => return Err(format!("unknown suite {other}; known: {}", ALL.join(", "))),
        }
    }
    server.stop()
}

/// The pages that need nothing but what Debian packages.
fn in_a_shell(server: &Server) -> Outcome {
    for (program, package) in [
        ("mosquitto_rr", "mosquitto-clients"),
        ("mosquitto", "mosquitto"),
        ("curl", "curl"),
        ("jq", "jq"),
        ("cc", "gcc"),
        ("/usr/include/mosquitto.h", "libmosquitto-dev"),
    ] {
        shell::ensure_debian(program, package)?;
    }
    server.pages("shell", &target().join("conform/shell"), |command| server.surround(command, None))
}

/// Whether that is there which a suite compiles with. A user may lack it, and hears that nothing was run; CI may not.
fn has_toolchain(suite: &str, programs: &[&str]) -> Result<bool, String> {
    let Some(missing) = programs.iter().find(|program| !shell::exists(program)) else { return Ok(true) };
    let told = format!("{missing} is missing, so the suite {suite} did not run");
    if test_data::in_ci() {
        return Err(told);
    }
    eprintln!("hint: {told}");
    Ok(false)
}

/// The clients of Java as one plain program, and then the pages, which build theirs with Maven too.
fn java(server: &Server) -> Outcome {
    if shell::exists("javac") {
        // Where it may not be installed, the next line says what is missing.
        let _ = shell::ensure_debian("mvn", "maven");
    }
    if !has_toolchain("java", &["javac", "mvn"])? {
        return Ok(());
    }
    let ours = root().join("conformance/java");
    let folder = environment("java", &ours.join("pom.xml"), |folder| {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        fs::copy(ours.join("pom.xml"), folder.join("pom.xml")).map_err(|error| error.to_string())?;
        let mut packages = Command::new("mvn");
        packages.args(["--quiet", "--batch-mode", "dependency:copy-dependencies"]);
        packages.arg("-DoutputDirectory=packages").current_dir(folder);
        step("java packages", &mut packages)
    })?;
    let sources = fs::read_dir(ours.join("src/main/java")).map_err(|error| error.to_string())?;
    let mut compile = Command::new("javac");
    compile.args(["-cp", "packages/*", "-d", "classes"]).current_dir(&folder);
    compile.args(sources.flatten().map(|entry| entry.path()));
    step("java programs", &mut compile)?;
    let mut command = Command::new("java");
    command.args(["-cp", "classes:packages/*", "Conformance"]).current_dir(&folder);
    server.clients("conformance: java", &mut command)?;
    server.pages("java", &folder, |command| server.surround(command, None))
}

/// The clients of Go as one program of tests. It is compiled before it is told of the server, whose root is not that of the registry.
fn go(server: &Server) -> Outcome {
    if !has_toolchain("go", &["go"])? {
        return Ok(());
    }
    let folder = target().join("conform/go");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let program = folder.join("clients");
    let mut compile = Command::new("go");
    compile.args(["test", "-c", "-o"]).arg(&program).arg(".").current_dir(root().join("conformance/go"));
    step("go packages and programs", &mut compile)?;
    let mut command = Command::new(program);
    server.clients("conformance: go", command.args(["-test.timeout", "10m"]))?;
    server.pages("go", &folder, |command| server.surround(command, None))
}

fn requirements() -> PathBuf {
    root().join("conformance/python/requirements.txt")
}

fn python_environment(name: &str, requirements: &Path) -> Result<PathBuf, String> {
    environment(name, requirements, |folder| {
        step("python environment", Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let pip = folder.join("bin/pip");
        step("python packages", Command::new(pip).args(["install", "--quiet", "-r"]).arg(requirements))
    })
}

fn pytest(python: &Path, tests: &Path) -> Command {
    let mut command = Command::new(python.join("bin/python"));
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(tests);
    // A test that hangs shows where, and ends the run.
    command.args(["--override-ini", "faulthandler_timeout=180"]);
    command.args(["--override-ini", "faulthandler_exit_on_timeout=true"]);
    // Said aloud, since its plug-in warns of the default that is going to change.
    command.args(["--override-ini", "asyncio_default_fixture_loop_scope=function"]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn python(server: &Server) -> Outcome {
    if let Some(azurite) = server.azurite.as_ref().filter(|_| !server.pages_only) {
        let mut test = cargo();
        test.args(["test", "--quiet", "--package", "delivery", "--test", "azurite"]);
        azurite.surround(&mut test, None)?;
        step("conformance: our client of storage accounts", &mut test)?;
    }
    let python = python_environment("python", &requirements())?;
    let mut command = pytest(&python, &root().join("conformance/python"));
    server.clients("conformance: python", &mut command)?;
    server.pages("python", &target().join("conform"), |command| {
        server.surround(command, Some(&python.join("bin")));
    })
}

/// `az` has 700 MB of packages of its own.
fn az(server: &Server) -> Outcome {
    let tests = root().join("conformance/az");
    let python = python_environment("az", &tests.join("requirements.txt"))?;
    server.clients("conformance: az", &mut pytest(&python, &tests))?;
    let folder = target().join("conform");
    server.pages("az", &folder, |command| {
        server.surround(command, Some(&python.join("bin")));
        command.env("AZURE_CONFIG_DIR", folder.join("pages/az")).env("AZURE_CORE_COLLECT_TELEMETRY", "false");
    })
}

/// The suite that comes with the sources of Microsoft's Digital Twins client, as it is, over fixtures of ours.
fn sdk(server: &Server) -> Outcome {
    let python = python_environment("python", &requirements())?;
    let sources = environment("sdk", &requirements(), |folder| client_sources(&python, folder))?;
    let (ours, tests) = (root().join("conformance/sdk"), sources.join("tests"));
    fs::copy(ours.join("conftest.py"), tests.join("conftest.py")).map_err(|error| error.to_string())?;
    let mut command = pytest(&python, &tests);
    command.args(["--override-ini", "asyncio_mode=auto"]).env("PYTHONPATH", &ours);
    step("conformance: the suite of azure-digitaltwins-core", server.environment(&mut command))
}

/// Fetches and unpacks the sources of the very version that the other suites run with.
fn client_sources(python: &Path, folder: &Path) -> Outcome {
    const PACKAGE: &str = "azure-digitaltwins-core";
    let pins = fs::read_to_string(requirements()).map_err(|error| error.to_string())?;
    let pin = pins.lines().find(|line| line.starts_with(PACKAGE)).ok_or("the client is not pinned")?;
    let mut pip = Command::new(python.join("bin/pip"));
    pip.args(["download", "--quiet", "--no-deps", "--no-binary", PACKAGE, pin, "--dest"]).arg(folder);
    step("sources of the client", &mut pip)?;
    let files = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let archive =
        files.flatten().map(|file| file.path()).find(|path| path.extension().is_some_and(|e| e == "gz"));
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--gzip", "--strip-components=1", "--file"]);
    unpack.arg(archive.ok_or("no sources came")?).arg("--directory").arg(folder);
    step("sources unpacked", &mut unpack)
}

fn node(server: &Server) -> Outcome {
    let folder = root().join("conformance/node");
    let environment = environment("node", &folder.join("package-lock.json"), |environment| {
        fs::create_dir_all(environment).map_err(|error| error.to_string())?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(folder.join(file), environment.join(file)).map_err(|error| error.to_string())?;
        }
        step(
            "node packages",
            Command::new("npm").args(["ci", "--silent", "--no-audit"]).current_dir(environment),
        )
    })?;
    // Node finds packages beside a test's own file, so the tests run from a copy in the environment.
    for entry in fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "mjs") {
            fs::copy(entry.path(), environment.join(entry.file_name())).map_err(|error| error.to_string())?;
        }
    }
    let mut command = Command::new("node");
    command.args(["--test", "--test-concurrency=1", "--test-timeout=120000"]).current_dir(&environment);
    server.clients("conformance: node", &mut command)?;
    server.pages("node", &environment, |command| server.surround(command, None))
}

/// A folder made by `make` once for each content of `pins`.
pub fn environment(name: &str, pins: &Path, make: impl FnOnce(&Path) -> Outcome) -> Result<PathBuf, String> {
    let folder = target().join("conform").join(name);
    let stamp = folder.join(".pins");
    let wanted = fs::read(pins).map_err(|error| format!("{}: {error}", pins.display()))?;
    if fs::read(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(target().join("conform")).map_err(|error| error.to_string())?;
    make(&folder)?;
    fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// One twinhub on a data directory of its own.
struct Server {
    child: Child,
    /// The account for files of devices.
    azurite: Option<Azurite>,
    binary: PathBuf,
    data: PathBuf,
    pages_only: bool,
    clients_only: bool,
}

impl Server {
    fn start(binary: PathBuf, wishes: &Wishes, azurite: Option<Azurite>) -> Result<Self, String> {
        let data = target().join("conform/data");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).map_err(|error| error.to_string())?;
        let log = fs::File::create(target().join("conform/server.log")).map_err(|error| error.to_string())?;
        let mut child = Command::new(&binary)
            .args(["serve", "--data-dir"])
            .arg(&data)
            .args(wishes.listen.iter().flat_map(|address| ["--listen", address]))
            .envs(wishes.store.iter().map(|store| ("TWINHUB_STORE", store)))
            .envs(azurite.iter().map(|azurite| ("SSL_CERT_FILE", &azurite.authority)))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("the server could not start: {error}"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        if !line.starts_with("twinhub is ready") {
            let _ = child.kill();
            return Err(format!(
                "the server did not get ready; see {}",
                target().join("conform/server.log").display()
            ));
        }
        let (pages_only, clients_only) = (wishes.pages_only, wishes.clients_only);
        Ok(Self { child, azurite, binary, data, pages_only, clients_only })
    }

    /// Runs the tests of official clients, unless the pages alone are wanted.
    fn clients(&self, name: &str, command: &mut Command) -> Outcome {
        if self.pages_only {
            return Ok(());
        }
        self.environment(command);
        if let Some(azurite) = &self.azurite {
            let of_command = command.get_envs().find(|(name, _)| *name == "NODE_EXTRA_CA_CERTS");
            let own = of_command.and_then(|(_, value)| Some(value?.to_str()?.to_owned()));
            azurite.surround(command, own.as_deref())?;
        }
        step(name, command)
    }

    /// Runs the blocks of a suite's pages, unless the clients alone are wanted.
    fn pages(&self, suite: &str, folder: &Path, prepare: impl Fn(&mut Command)) -> Outcome {
        if self.clients_only { Ok(()) } else { docs::run(suite, folder, prepare) }
    }

    /// Gives a client everything of `twinhub env`.
    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let json = shell::output(
            Command::new(&self.binary).args(["env", "--format", "json", "--data-dir"]).arg(&self.data),
        );
        let variables: serde_json::Value =
            json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
        for (name, value) in variables.as_object().into_iter().flatten() {
            command.env(name, value.as_str().unwrap_or_default());
        }
        command.env("CONFORM_BINARY", &self.binary).env("TWINHUB_DATA_DIR", &self.data);
        if let Some(shared) = shell::shared() {
            command.env("TWINHUB_SHARED", shared.canonicalize().unwrap_or(shared));
        }
        command
    }

    /// Gives a page's script the same, and a path on which `twinhub` and the programs of the suite come first.
    fn surround(&self, command: &mut Command, programs: Option<&Path>) {
        let own = self.binary.parent().expect("a file lies in a folder");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = programs.into_iter().chain([own]).map(Path::to_path_buf);
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&path)));
        self.environment(command).env("PATH", path.expect("no folder of ours has a colon"));
    }

    /// Ends it the way an operator does, and insists that it drains.
    fn stop(mut self) -> Outcome {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let ended =
            shell::wait_until(Duration::from_secs(20), || matches!(self.child.try_wait(), Ok(Some(_))));
        let status = self.child.try_wait().ok().flatten();
        match (ended, status) {
            (true, Some(status)) if status.success() => Ok(()),
            (true, status) => Err(format!("the server ended badly: {status:?}")),
            (false, _) => Err("the server did not end within 20 s of SIGTERM".to_owned()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
