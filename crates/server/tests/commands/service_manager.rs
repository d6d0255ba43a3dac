//! `serve` below a service manager: what arrives at the socket that `NOTIFY_SOCKET` names.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::fixture::{Server, own_address};

/// The longest that a word may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

fn next(manager: &UnixDatagram) -> String {
    let mut word = [0; 64];
    let length = manager.recv(&mut word).expect("the server tells its manager");
    String::from_utf8_lossy(&word[..length]).into_owned()
}

fn serve_below(manager: &UnixDatagram, name: &str, directory: &std::path::Path) -> Server {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = own_address();
    let mut command = Server::command(directory, &address);
    command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "200000");
    Server::spawn(command, address)
}

#[test]
fn a_service_manager_hears_that_the_server_is_ready_turns_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let server = serve_below(&manager, &path.display().to_string(), &directory.path().join("data"));
    assert_eq!(next(&manager), "READY=1");
    assert_eq!(next(&manager), "WATCHDOG=1");
    assert_eq!(next(&manager), "WATCHDOG=1");
    assert!(server.terminate().success());
    let last = std::iter::repeat_with(|| next(&manager)).find(|word| word != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_without_a_file_is_reached_too() {
    use std::os::linux::net::SocketAddrExt;
    let directory = tempfile::tempdir().unwrap();
    let name = format!("twinhub-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    let _server = serve_below(&manager, &format!("@{name}"), directory.path());
    assert_eq!(next(&manager), "READY=1");
}

#[test]
fn a_manager_that_is_not_there_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Server::command(directory.path(), &address);
    command.env("NOTIFY_SOCKET", directory.path().join("nobody"));
    let server = Server::spawn(command, address);
    assert!(server.ready_line.starts_with("twinhub is ready"), "{}", server.ready_line);
    assert!(server.terminate().success());
}
