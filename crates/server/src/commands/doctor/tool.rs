//! Programs of others, run to see whether they trust the server. None of them lives longer than its time.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base::{Clock, caps};

const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ended {
        code: i32,
        said: String,
    },
    TimedOut,
    /// It could not be started.
    Missing,
}

/// Whether a program of this name is in the path.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Runs it with further variables, and ends it when its time is over.
pub(super) fn run(
    program: &str,
    arguments: &[&str],
    variables: &BTreeMap<String, String>,
    patience: Duration,
) -> Outcome {
    let mut command = Command::new(program);
    command.args(arguments).envs(variables).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else { return Outcome::Missing };
    // Read beside it, so that it never waits for us.
    let reading = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.take(caps::DOCTOR_TOOL_SAID_BYTES_MAX).read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        })
    });
    let clock = Clock::system();
    let begun = clock.elapsed();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let said = reading.and_then(|reading| reading.join().ok()).unwrap_or_default();
                return Outcome::Ended { code: status.code().unwrap_or(-1), said };
            }
            Ok(None) if clock.elapsed().since(begun) < patience => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Outcome::TimedOut;
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_and_one_that_is_not_there_is_missing() {
        let none = BTreeMap::new();
        let short = Duration::from_millis(100);
        assert_eq!(run("sleep", &["60"], &none, short), Outcome::TimedOut);
        assert_eq!(run("no-such-program", &[], &none, short), Outcome::Missing);
        let variables = BTreeMap::from([("WHAT".to_owned(), "this".to_owned())]);
        let ended = run("sh", &["-c", "echo $WHAT >&2; exit 3"], &variables, Duration::from_secs(20));
        assert_eq!(ended, Outcome::Ended { code: 3, said: "this\n".to_owned() });
        assert!(find("sh").is_some() && find("no-such-program").is_none());
    }
}
