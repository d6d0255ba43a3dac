//! No process of a test outlives its deadline. Whoever waits for a killed one, for its output or for its answers, fails and does
//! not hang.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// The longest that any process of these tests may live. The slowest takes a few seconds.
const LIFE: Duration = Duration::from_mins(3);

/// Kills its process when the time is up; dropped before that, it lets it be.
pub(crate) struct Deadline(#[expect(dead_code, reason = "its drop is what the thread hears")] SyncSender<()>);

impl Deadline {
    pub(crate) fn of(child: &Child) -> Self {
        let (ended, told) = mpsc::sync_channel(0);
        let id = child.id().to_string();
        std::thread::spawn(move || {
            if told.recv_timeout(LIFE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("process {id} was still there after {} s and is killed", LIFE.as_secs());
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        Self(ended)
    }
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child);
    child.wait_with_output().unwrap()
}
