//! The command of a run as a process: started with our terminal and our streams, given every signal that we get, and ended together
//! with whatever it started and left running.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitStatus;

use tokio::process::Child;

use crate::ending::Ending;

/// As shells have it.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(super) struct Command<'a> {
    pub(super) line: &'a [OsString],
    pub(super) variables: &'a BTreeMap<String, String>,
    /// What is removed at the end.
    pub(super) data: Option<&'a Path>,
}

impl Command<'_> {
    /// Runs it to its end. Its exit code, or 128 and the number of the signal that ended it.
    pub(super) async fn run(&self, ending: &mut Ending) -> u8 {
        let (program, arguments) = self.line.split_first().expect("clap wants a command");
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).envs(self.variables);
        match self.run_through(command, ending).await {
            Ok(status) => code(status),
            Err(error) => {
                eprintln!("twinhub run: {} cannot be run: {error}", program.display());
                if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
            }
        }
    }
}

#[cfg(unix)]
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(not(unix))]
fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(unix)]
mod unix {
    use std::pin::pin;
    use std::time::Duration;

    use base::{Clock, caps};
    use rustix::process::Signal;
    use tokio::signal::unix::SignalKind;

    use super::{Child, Command, Ending, ExitStatus};
    use crate::commands::run::guard::{self, Group};

    impl Command<'_> {
        pub(super) async fn run_through(
            &self,
            mut command: tokio::process::Command,
            ending: &mut Ending,
        ) -> std::io::Result<ExitStatus> {
            ending.hear(&[SignalKind::quit(), SignalKind::user_defined1(), SignalKind::user_defined2()])?;
            guard::adopt_orphans();
            let shares_terminal = guard::holds_terminal();
            if !shares_terminal {
                command.process_group(0);
            }
            let mut child = command.spawn()?;
            let group = Group::of(&child, shares_terminal);
            let guard = guard::start(group, self.data);
            let status = attend(&mut child, group, ending).await;
            group.end().await;
            if let Some(mut guard) = guard {
                let _ = guard.kill().await;
            }
            status
        }
    }

    /// Passes signals on until the command has ended, and kills it when it is told to end a second time or takes too long over it.
    async fn attend(child: &mut Child, group: Group, ending: &mut Ending) -> std::io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                kind = ending.next() => {
                    pass_on(kind, group);
                    if ends(kind) {
                        break;
                    }
                }
            }
        }
        let clock = Clock::system();
        let mut patience = pin!(clock.sleep(Duration::from_secs(caps::COMMAND_END_SECONDS_MAX)));
        loop {
            tokio::select! {
                status = child.wait() => return status,
                kind = ending.next() => {
                    if ends(kind) {
                        break;
                    }
                    pass_on(kind, group);
                }
                () = &mut patience => break,
            }
        }
        group.signal(Signal::KILL);
        child.wait().await
    }

    fn ends(kind: SignalKind) -> bool {
        ![SignalKind::user_defined1(), SignalKind::user_defined2()].contains(&kind)
    }

    /// Ctrl-C in a terminal that is shared has reached the command already, and many take a second one for impatience.
    fn pass_on(kind: SignalKind, group: Group) {
        let is_known = group.shares_terminal() && kind == SignalKind::interrupt();
        if let Some(signal) = Signal::from_named_raw(kind.as_raw_value()).filter(|_| !is_known) {
            group.signal(signal);
        }
    }
}

#[cfg(not(unix))]
impl Command<'_> {
    async fn run_through(
        &self,
        mut command: tokio::process::Command,
        ending: &mut Ending,
    ) -> std::io::Result<ExitStatus> {
        let mut child: Child = command.kill_on_drop(true).spawn()?;
        tokio::select! {
            status = child.wait() => status,
            // Ctrl-C reaches the command too.
            () = ending.told() => child.wait().await,
        }
    }
}
