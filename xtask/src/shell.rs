//! Running other programs and finding our way around the checkout. Used by every verb.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// `Err` carries what a person should read.
pub type Outcome = Result<(), String>;

/// The checkout's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}

/// Where build products, environments and results go.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder of published facts that some suites read; `None` when it is not there.
pub fn shared() -> Option<PathBuf> {
    Some(test_data::shared_folder()).filter(|path| path.is_dir())
}

pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// A step that runs longer hangs: the longest takes a third of this.
const STEP: Duration = Duration::from_mins(40);

/// Every step so far and how long it took.
static TIMES: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Runs a step, says how long it took, and fails with its name.
pub fn step(name: &str, command: &mut Command) -> Outcome {
    eprintln!("── {name}");
    let start = now();
    let status = status_within(STEP, command);
    TIMES.lock().expect("nobody panics while holding it").push((name.to_owned(), start.elapsed()));
    let status = status.map_err(|why| format!("{name} {why}"))?;
    if !status.success() {
        return Err(format!("{name} failed ({status})"));
    }
    eprintln!("── {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command to its end; one that takes longer than `limit` is killed.
pub fn status_within(limit: Duration, command: &mut Command) -> Result<ExitStatus, String> {
    let mut child = command.spawn().map_err(|error| format!("could not start: {error}"))?;
    let mut status = None;
    wait_until(limit, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    status.ok_or_else(|| {
        let _ = child.kill();
        let _ = child.wait();
        format!("hangs: it was killed after {} minutes", limit.as_secs() / 60)
    })
}

/// The minutes of every step, so that a suite that grows too long is seen.
pub fn print_minutes() {
    let times = TIMES.lock().expect("nobody panics while holding it");
    let total: Duration = times.iter().map(|(_, took)| *took).sum();
    eprintln!("\nminutes per suite");
    for (name, took) in times.iter().chain([&("together".to_owned(), total)]) {
        eprintln!("  {:6.1}  {name}", took.as_secs_f64() / 60.0);
    }
}

/// What a command prints on stdout, trimmed; `None` if it failed or is not installed.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Takes `--name VALUE` out of the arguments.
pub fn take_option(arguments: &mut Vec<String>, name: &str) -> Result<Option<String>, String> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else { return Ok(None) };
    if at + 1 == arguments.len() {
        return Err(format!("{name} wants a value"));
    }
    arguments.remove(at);
    Ok(Some(arguments.remove(at)))
}

/// Whether a program can be started at all.
pub fn exists(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program} >/dev/null")])
        .status()
        .is_ok_and(|s| s.success())
}

/// Installs Debian packages where a program is missing, or a file that is given by its whole path, and we may; says what to do where we
/// may not.
pub fn ensure_debian(program: &str, package: &str) -> Outcome {
    let sbin = Path::new("/usr/sbin").join(program);
    if exists(program) || sbin.exists() {
        return Ok(());
    }
    let script =
        format!("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q {package}");
    eprintln!("── {program} is missing: installing Debian's {package}");
    let installed = Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success());
    if installed { Ok(()) } else { Err(format!("{program} is missing; install Debian's package {package}")) }
}

#[expect(clippy::disallowed_methods, reason = "a tool that times its own steps; no product code runs here")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until `ready` says yes, at most `limit`.
pub fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let start = now();
    while start.elapsed() < limit {
        if ready() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
