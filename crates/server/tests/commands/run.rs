//! `twinhub run`: the command has a server, and afterwards neither of them is left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

use crate::fixture::deadline::{self, Deadline};
use crate::fixture::own_address;

const TWINHUB: &str = env!("CARGO_BIN_EXE_twinhub");

/// Runs of one test, which keep their data below a directory of the test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// `twinhub run OPTIONS -- sh -c SCRIPT`; the script has our binary as `$twinhub`.
    fn command(&self, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(TWINHUB);
        command.arg("run").args(options).args(["--", "sh", "-c", script]);
        command.env("TMPDIR", self.0.path()).env("twinhub", TWINHUB).stdin(Stdio::null());
        command
    }

    fn run(&self, options: &[&str], script: &str) -> Output {
        deadline::output(&mut self.command(options, script))
    }

    fn start(&self, script: &str) -> Running {
        Running::start(self.command(&[], script))
    }

    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// What is removed by somebody else is gone in a moment.
    fn is_left_empty(&self) {
        wait_until(|| self.left().is_empty(), "nothing is left behind");
    }
}

/// A run that has printed its first line and waits, for instance to read a line.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    said: BufReader<std::process::ChildStdout>,
    first_line: String,
    _deadline: Deadline,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let deadline = Deadline::of(&child);
        let (stdin, mut said) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut first_line = String::new();
        said.read_line(&mut first_line).unwrap();
        Self { child, stdin, said, first_line: first_line.trim().to_owned(), _deadline: deadline }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn end(mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

fn wait_until(is_so: impl Fn() -> bool, what: &str) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// A zombie that nobody has waited for yet is as good as gone.
fn is_running(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_command_has_everything_that_env_prints_and_its_exit_code_is_that_of_the_run() {
    let place = Place::new();
    let script = r#"env; echo; "$twinhub" env --format json && "$twinhub" wait --timeout 0 && "$twinhub" events && exit 7"#;
    let output = place.run(&[], script);
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{said}{wrong}");
    assert!(!said.contains("twinhub is ready"), "the output is the command's alone: {said}");
    let (given, json) = said.split_once("\n\n").unwrap();
    let given: BTreeMap<_, _> = given.lines().filter_map(|line| line.split_once('=')).collect();
    let printed: BTreeMap<String, String> = serde_json::from_str(json).unwrap();
    assert!(printed.len() > 20, "{printed:?}");
    for (name, value) in &printed {
        assert_eq!(given.get(name.as_str()), Some(&value.as_str()), "{name}");
    }
    assert!(given.contains_key("PATH"), "what was there before is there still");
    place.is_left_empty();
}

#[test]
fn our_own_commands_find_the_server_of_the_run_and_so_does_a_device() {
    let place = Place::new();
    let script = r#""$twinhub" device create d1 > "$TMPDIR/made" && "$twinhub" device send d1 --body '{"t": 21}' > "$TMPDIR/sent" &&
        "$twinhub" events --from earliest --json; code=$?; rm "$TMPDIR/made" "$TMPDIR/sent"; exit $code"#;
    let output = place.run(&[], script);
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{wrong}");
    assert!(said.contains(r#""deviceId":"d1""#) && said.contains(r#"{"t":21}"#), "{said}");
    place.is_left_empty();
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_removed_at_the_end_is_in_memory_where_nobody_says_otherwise() {
    let mut command = Place::new().command(&[], "echo $TWINHUB_DATA_DIR");
    let said = text(&deadline::output(command.env_remove("TMPDIR")).stdout);
    let path = Path::new(said.trim());
    let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    assert_eq!(path.parent(), Some(Path::new(place)));
    assert!(!path.exists());
}

#[test]
fn the_command_has_the_streams_of_the_run() {
    let place = Place::new();
    let mut run = Running::start(place.command(&[], "echo begun; read line; echo \"$line and back\""));
    std::io::Write::write_all(run.stdin.as_mut().unwrap(), b"there\n").unwrap();
    assert_eq!(run.end(), (Some(0), "there and back\n".to_owned()));
}

#[test]
fn a_command_that_crashes_gives_128_and_its_signal_and_what_it_left_running_is_ended() {
    let place = Place::new();
    let output = place.run(&[], "sleep 100 > /dev/null 2>&1 & echo $!; kill -9 $$");
    assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
    let left = text(&output.stdout).trim().to_owned();
    assert!(!left.is_empty() && !is_running(&left), "process {left} is left");
    place.is_left_empty();
}

#[test]
fn what_the_command_left_running_is_killed_when_it_does_not_listen() {
    let place = Place::new();
    let output =
        place.run(&[], "(trap '' TERM; for i in $(seq 100); do sleep 1; done) > /dev/null 2>&1 & echo $!");
    assert_eq!(output.status.code(), Some(0));
    let left = text(&output.stdout).trim().to_owned();
    assert!(!left.is_empty() && !is_running(&left), "process {left} is left");
}

#[test]
fn a_signal_reaches_the_command_and_ends_both() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130), ("-HUP", 129), ("-QUIT", 131)] {
        let place = Place::new();
        let run = place.start("echo $TWINHUB_DATA_DIR; exec sleep 100");
        assert!(Path::new(&run.first_line).is_dir());
        run.signal(signal);
        assert_eq!(run.end().0, Some(code), "{signal}");
        place.is_left_empty();
    }
}

#[test]
fn a_command_that_ends_in_its_own_way_when_it_is_told_to_gives_its_own_code() {
    let place = Place::new();
    let run = place.start("trap 'exit 3' TERM; echo begun; while :; do sleep 0.05; done");
    run.signal("-TERM");
    assert_eq!(run.end().0, Some(3));
    place.is_left_empty();
}

#[test]
fn told_a_second_time_the_command_is_killed() {
    let place = Place::new();
    let mut run = place.start("trap 'echo told' TERM; echo begun; while :; do sleep 0.05; done");
    run.signal("-TERM");
    let mut told = String::new();
    run.said.read_line(&mut told).unwrap();
    assert_eq!(told, "told\n");
    run.signal("-TERM");
    assert_eq!(run.end().0, Some(137));
    place.is_left_empty();
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_killed_takes_command_and_data_with_it() {
    let place = Place::new();
    let mut run = place.start("sleep 100 > /dev/null & echo $$ $!; wait");
    let processes: Vec<String> = run.first_line.split(' ').map(str::to_owned).collect();
    assert!(processes.len() == 2 && processes.iter().all(|process| is_running(process)));
    run.signal("-KILL");
    // Its output would have no end if the command had none.
    assert_eq!(run.child.wait().unwrap().code(), None);
    wait_until(|| !processes.iter().any(|process| is_running(process)), "the command ends");
    place.is_left_empty();
}

#[cfg(target_os = "linux")]
#[test]
fn two_at_once_do_not_meet_and_both_have_the_ports_that_clients_dial() {
    let place = Place::new();
    let script = r#"echo "$IOTHUB_HOSTNAME $TWINHUB_MQTT_PORT $AZURE_AUTHORITY_HOST"; read line"#;
    let (one, other) = (place.start(script), place.start(script));
    let words = |run: &Running| -> Vec<String> { run.first_line.split(' ').map(str::to_owned).collect() };
    let (first, second) = (words(&one), words(&other));
    assert_ne!(first[0], second[0]);
    assert_ne!(first[2], second[2]);
    for [address, port] in [[&first[0], &first[1]], [&second[0], &second[1]]] {
        assert_eq!(port, "8883");
        assert!(address.starts_with("127."), "{address}");
        TcpStream::connect((address.as_str(), 8883)).unwrap();
    }
    one.end();
    TcpStream::connect((second[0].as_str(), 8883)).expect("the other one is still there");
    other.end();
    place.is_left_empty();
}

#[test]
fn a_port_that_is_taken_gives_way_and_it_is_said_who_cannot_follow() {
    let (place, address) = (Place::new(), own_address());
    let _taken = TcpListener::bind((address.as_str(), 8883)).unwrap();
    let output = place.run(&["--listen", &address], r#"echo "$TWINHUB_MQTT_PORT"; "$twinhub" wait"#);
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{wrong}");
    let port = said.trim();
    assert!(port != "8883" && port.parse::<u16>().is_ok(), "{said}");
    assert_eq!(
        wrong.matches(&format!("MQTT is on port {port}. SDKs for devices cannot")).count(),
        1,
        "{wrong}"
    );
}

#[test]
fn without_443_it_is_said_once_and_addresses_carry_the_other_port() {
    let place = Place::new();
    let mut command = place.command(&[], "echo $AZURE_AUTHORITY_HOST");
    let output = deadline::output(command.env("TWINHUB_PORTS__HTTPS_STANDARD", "0"));
    assert!(text(&output.stdout).trim().ends_with(":8443"));
    let wrong = text(&output.stderr);
    assert_eq!(wrong.matches("Clients that cannot be given a port do not work").count(), 1, "{wrong}");
}

#[test]
fn kept_data_stay_where_it_is_said_and_can_be_served_again() {
    let place = Place::new();
    let output = place.run(&["--keep"], "echo $PROVISIONING_IDSCOPE");
    assert_eq!(output.status.code(), Some(0));
    let [kept] = <[String; 1]>::try_from(place.left()).unwrap();
    let directory = place.0.path().join(kept);
    let said = text(&output.stderr);
    assert!(said.contains(&format!("twinhub serve --data-dir {}", directory.display())), "{said}");
    let again = place.run(&["--data-dir", directory.to_str().unwrap()], "echo $PROVISIONING_IDSCOPE");
    assert_eq!(text(&again.stdout), text(&output.stdout), "it is the same service");
    assert!(directory.join("records.db").is_file(), "what somebody named is nobody else's to remove");
}

#[test]
fn what_is_configured_for_another_server_does_not_concern_a_run() {
    let place = Place::new();
    let other = tempfile::tempdir().unwrap();
    let mut command = place.command(&[], "echo $TWINHUB_DATA_DIR $IOTHUB_HOSTNAME");
    command.env("TWINHUB_DATA_DIR", other.path()).env("TWINHUB_LISTEN", "192.0.2.1");
    command.env("TWINHUB_ADVERTISE", "iot.example.com").env("TWINHUB_STORE", "postgres://elsewhere");
    command.env("TWINHUB_CLUSTER_KEY_FILE", "/nowhere");
    let said = text(&deadline::output(&mut command).stdout);
    assert!(said.contains("twinhub-run-") && said.contains(" 127."), "{said}");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_run_is_told_as_shells_tell_it() {
    let place = Place::new();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(TWINHUB);
        let output = deadline::output(command.arg("run").args(arguments).env("TMPDIR", place.0.path()));
        (output.status.code(), text(&output.stderr))
    };
    let file = place.0.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, code, word) in [
        (&["--", "no-such-command"][..], 127, "no-such-command cannot be run"),
        (&["--", file], 126, "cannot be run"),
        (&["--data-dir", file, "--", "true"], 125, "file"),
        (&["--listen", "192.0.2.1", "--", "true"], 125, "cannot listen on 192.0.2.1"),
    ] {
        let (given, said) = run(arguments);
        assert_eq!(given, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert_eq!(place.left(), ["file"]);
}

#[test]
fn what_a_run_could_not_remove_the_next_one_does() {
    let place = Place::new();
    let make = |name: &str, minutes_ago: u64| {
        let path = place.0.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("serve.lock"), "").unwrap();
        let touched =
            Command::new("touch").args(["-d", &format!("{minutes_ago} minutes ago")]).arg(path).status();
        assert!(touched.unwrap().success());
    };
    make("twinhub-run-abandoned", 5);
    make("twinhub-run-just-begun", 0);
    make("twinhub-kept-for-good", 5);
    make("somebody-elses", 5);
    place.run(&[], "true");
    let mut left = place.left();
    left.sort();
    assert_eq!(left, ["somebody-elses", "twinhub-kept-for-good", "twinhub-run-just-begun"]);
}
