//! A server that we started: what it and its children use of the machine, and its end. Reads `/proc`, so Linux only.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdout, Command};

use crate::Failure;

/// How long a server may take to end before it is killed.
const STOP_SECONDS_MAX: u64 = 20;

/// Killed when dropped; better stopped.
pub(crate) struct Process {
    child: Child,
    id: u32,
    stop_with: Signal,
}

/// Memory in bytes; shared pages are divided among those who share them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) proportional_bytes: u64,
    pub(crate) resident_bytes: u64,
}

impl Process {
    /// Starts a server whose log goes to `log`; its stdout is handed back for those who wait for a line there.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<(Self, ChildStdout), Failure> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(log)?)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{name} does not start: {error}"))?;
        let id = child.id().expect("nobody has waited for it yet");
        let stdout = child.stdout.take().expect("it was piped");
        Ok((Self { child, id, stop_with: Signal::TERM }, stdout))
    }

    /// PostgreSQL waits for its clients when told with SIGTERM, and not when told with SIGINT.
    pub(crate) fn stopped_with(mut self, signal: Signal) -> Self {
        self.stop_with = signal;
        self
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// An error as soon as the process has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the server ended by itself: {status}").into()),
        }
    }

    /// CPU time since it began, of the process and all below it.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        // A child may end between the listing and the look at it; then its parent has its time.
        Ok(tree(self.id)?.into_iter().filter_map(|id| cpu_of(id).ok()).sum())
    }

    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        let mut sum = Memory::default();
        for id in tree(self.id)? {
            let Ok(text) = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")) else { continue };
            sum.proportional_bytes += number_at(&text, "Pss:") * 1024;
            sum.resident_bytes += number_at(&text, "Rss:") * 1024;
        }
        if sum.resident_bytes == 0 {
            return Err(format!("the memory of process {} cannot be read", self.id).into());
        }
        Ok(sum)
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.check()?;
        let id = Pid::from_raw(i32::try_from(self.id)?).ok_or("process ids are not zero")?;
        kill_process(id, self.stop_with)?;
        let limit = Duration::from_secs(STOP_SECONDS_MAX);
        if tokio::time::timeout(limit, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            return Err(format!("process {} had to be killed after {STOP_SECONDS_MAX} s", self.id).into());
        }
        Ok(())
    }
}

/// CPU time of a single process, with that of its children that have ended.
pub(crate) fn cpu_of(id: u32) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let stat = Stat::parse(&text).ok_or("/proc gives a stat line of another form")?;
    Ok(ticks(stat.own_ticks + stat.ended_children_ticks))
}

/// CPU time by thread name. Threads with the same name count as one.
pub(crate) fn threads_of(id: u32) -> Result<HashMap<String, Duration>, Failure> {
    let mut sums: HashMap<String, Duration> = HashMap::new();
    for entry in std::fs::read_dir(format!("/proc/{id}/task"))?.flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some(fields) = Stat::parse(&stat) else { continue };
        *sums.entry(fields.name.to_owned()).or_default() += ticks(fields.own_ticks);
    }
    Ok(sums)
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs(1) * u32::try_from(count).unwrap_or(u32::MAX)
        / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)
}

/// The process and all below it.
fn tree(root: u32) -> Result<Vec<u32>, Failure> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some(stat) = Stat::parse(&text) else { continue };
        children.entry(stat.parent).or_default().push(id);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(id) = found.get(next) {
        found.extend(children.remove(id).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// The fields of a `/proc/…/stat` line that we use.
struct Stat<'a> {
    name: &'a str,
    parent: u32,
    own_ticks: u64,
    ended_children_ticks: u64,
}

impl<'a> Stat<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // The name may hold blanks and parentheses; the last parenthesis is its end.
        let (head, tail) = line.rsplit_once(") ")?;
        let (_, name) = head.split_once('(')?;
        let fields: Vec<_> = tail.split(' ').collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            name,
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: number(11)? + number(12)?,
            ended_children_ticks: number(13)? + number(14)?,
        })
    }
}

/// The number after a label at the start of a line; 0 when the label is absent.
fn number_at(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let line = "12 (a (b) c) S 7 12 12 0 -1 4194560 100 0 0 0 30 12 5 6 20 0 1 0 99 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.name, stat.parent), ("a (b) c", 7));
        assert_eq!((stat.own_ticks, stat.ended_children_ticks), (42, 11));
    }

    #[tokio::test]
    async fn a_child_of_a_child_counts_and_everything_ends_with_stop() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; (while [ $i -lt 300000 ]; do i=$((i+1)); done); exec sleep 60"]);
        let (process, _stdout) = Process::start(command, &directory.path().join("log")).unwrap();
        for _ in 0..2000 {
            if process.cpu().unwrap() > Duration::from_millis(50) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(process.cpu().unwrap() > Duration::from_millis(50));
        assert!(process.memory().unwrap().resident_bytes > 100_000);
        let id = process.id();
        process.stop().await.unwrap();
        assert!(cpu_of(id).is_err(), "it is gone");
    }
}
