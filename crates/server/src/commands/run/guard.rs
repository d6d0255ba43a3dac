//! What a command started and left running, and who ends it: `twinhub run` itself, or when that is killed, a second process of ours
//! that does nothing but wait for this.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use base::{Clock, caps};
use clap::Args;
use rustix::process::{self, Pid, Signal};
use tokio::process::Child;

use crate::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits for the end of its standard input, then cleans up after a run.
#[derive(Args)]
pub(crate) struct GuardArgs {
    #[arg(long)]
    group: Option<i32>,
    #[arg(long)]
    process: Option<i32>,
    #[arg(long)]
    remove: Option<PathBuf>,
}

/// The processes of a command.
#[derive(Clone, Copy)]
pub(crate) enum Group {
    /// A process group of its own, by its id.
    Own(Pid),
    /// Ours, which has the terminal: the command alone, and what it leaves to us when it ends.
    Shared(Pid),
}

impl Group {
    pub(crate) fn of(child: &Child, shares_terminal: bool) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.expect("nobody has waited for it");
        if shares_terminal { Self::Shared(id) } else { Self::Own(id) }
    }

    pub(crate) fn shares_terminal(self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// For the command while it runs.
    pub(crate) fn signal(self, signal: Signal) {
        // One that has just ended hears nothing.
        let _ = match self {
            Self::Own(group) => process::kill_process_group(group, signal),
            Self::Shared(command) => process::kill_process(command, signal),
        };
    }

    /// Ends what is left once the command has ended: kindly, then not.
    pub(crate) async fn end(self) {
        let clock = Clock::system();
        let patience = Duration::from_millis(caps::LEFT_RUNNING_MS_MAX);
        for signal in [Signal::TERM, Signal::KILL] {
            let begun = clock.elapsed();
            if self.is_left() {
                self.signal_left(signal);
            }
            while self.is_left() && clock.elapsed().since(begun) < patience {
                clock.sleep(LOOK_EVERY).await;
            }
        }
    }

    fn is_left(self) -> bool {
        match self {
            Self::Own(group) => {
                // The dead among those that came to us count for nothing.
                while let Ok(Some(_)) = process::waitpgid(group, process::WaitOptions::NOHANG) {}
                process::test_kill_process_group(group).is_ok()
            }
            Self::Shared(_) => !left_to_us().is_empty(),
        }
    }

    fn signal_left(self, signal: Signal) {
        match self {
            Self::Own(_) => self.signal(signal),
            Self::Shared(_) => {
                for left in left_to_us() {
                    let _ = process::kill_process(left, signal);
                }
            }
        }
    }
}

/// Whatever loses its parent below us becomes our child, so that we can end it and see it ended.
pub(crate) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if let Err(error) = process::set_child_subreaper(Some(process::getpid())) {
        tracing::debug!(%error, "orphans go to process 1");
    }
}

/// Living children in our own group. Linux alone tells of them.
fn left_to_us() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let children = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("children")).ok()?;
        Some(text.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect::<Vec<_>>())
    });
    let is_dead = |id: Pid| !matches!(process::waitpid(Some(id), process::WaitOptions::NOHANG), Ok(None));
    let is_left = |id: &Pid| process::getpgid(Some(*id)) == Ok(process::getpgrp()) && !is_dead(*id);
    children.flatten().filter(is_left).collect()
}

/// Whether we are in the foreground of a terminal. Then the command stays in our group: in one of its own it could not read from
/// the terminal, and Ctrl-Z would stop it alone.
pub(crate) fn holds_terminal() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| rustix::termios::tcgetpgrp(&terminal) == Ok(process::getpgrp()))
}

/// Starts the process that cleans up should we be killed. Without it all is well but for that.
pub(crate) fn start(group: Group, remove: Option<&Path>) -> Option<Child> {
    let (kind, id) = match group {
        Group::Own(id) => ("--group", id),
        Group::Shared(id) => ("--process", id),
    };
    let mut command = tokio::process::Command::new(std::env::current_exe().ok()?);
    command.args(["guard", kind, &id.as_raw_nonzero().to_string()]);
    if let Some(path) = remove {
        command.arg("--remove").arg(path);
    }
    // It holds nothing of ours but the pipe, and no signal for our group reaches it.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().inspect_err(|error| tracing::warn!(%error, "nobody cleans up if we are killed")).ok()
}

/// The guard: our end is the end of its input.
pub(crate) fn run(args: &GuardArgs) -> Result<ExitCode, Failure> {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    let id = |given: Option<i32>| given.and_then(Pid::from_raw);
    let group = id(args.group).map(Group::Own).or_else(|| id(args.process).map(Group::Shared));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    if let Some(group) = group {
        group.signal(Signal::TERM);
        runtime.block_on(async {
            if group.shares_terminal() {
                Clock::system().sleep(Duration::from_millis(caps::LEFT_RUNNING_MS_MAX)).await;
                group.signal(Signal::KILL);
            }
            group.end().await;
        });
    }
    if let Some(path) = &args.remove {
        std::fs::remove_dir_all(path)?;
    }
    Ok(ExitCode::SUCCESS)
}
