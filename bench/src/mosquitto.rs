//! Mosquitto as Debian packages it: no persistence, a plain listener and one with TLS.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use server::client::Trust;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::Failure;
use crate::certificate::{CERTIFICATE, KEY, ROOT, certify};
use crate::clock::now;
use crate::load::{DeviceLogin, Listener};
use crate::loopback;
use crate::process::Process;

/// Debian puts it where only administrators look.
const PROGRAMS: [&str; 2] = ["/usr/sbin/mosquitto", "mosquitto"];
const START_SECONDS_MAX: u64 = 20;

pub(crate) struct Mosquitto {
    pub(crate) process: Process,
    pub(crate) plain: Listener,
    pub(crate) encrypted: Listener,
    /// From its start to the first connection that it accepts.
    pub(crate) ready_after: Duration,
}

impl Mosquitto {
    pub(crate) async fn start(directory: &Path) -> Result<Self, Failure> {
        let [plain, encrypted] = loopback::free_ports()?;
        let root = certify(directory, encrypted.ip())?;
        let config = directory.join("mosquitto.conf");
        std::fs::write(&config, configuration(directory, plain, encrypted)?)?;
        let mut command = Command::new(program());
        command.arg("-c").arg(&config);
        let start = now();
        let (mut process, _) = Process::start(command, &directory.join("mosquitto.log"))?;
        while TcpStream::connect(encrypted).await.is_err() {
            process.check()?;
            if start.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                return Err("mosquitto does not listen".into());
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        let ready_after = start.elapsed();
        let trust = Some(Trust::only_with_aes_128_gcm(&root)?);
        Ok(Self {
            process,
            plain: Listener { at: plain, trust: None },
            encrypted: Listener { at: encrypted, trust },
            ready_after,
        })
    }

    /// Logins as long as those of an IoT hub's devices, so that both servers read the same bytes.
    pub(crate) fn logins(count: usize) -> Vec<DeviceLogin> {
        let login = |index| {
            let device_id = format!("bench-{index:05}");
            let user_name = format!("hub.azure-devices.localhost/{device_id}/?api-version=2021-04-12");
            DeviceLogin { device_id, user_name, password: "x".repeat(180) }
        };
        (0..count).map(login).collect()
    }

    pub(crate) fn version() -> Option<String> {
        // It has no option for its version; its usage begins with it.
        let output = std::process::Command::new(program()).arg("-h").output().ok()?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
    }
}

fn program() -> &'static str {
    PROGRAMS.iter().find(|path| Path::new(path).exists()).unwrap_or(&"mosquitto")
}

fn configuration(directory: &Path, plain: SocketAddr, encrypted: SocketAddr) -> Result<String, Failure> {
    let mut text = String::new();
    // Without a user it would give up root's rights, and with them the key in our directory.
    if rustix::process::getuid().is_root() {
        text.push_str("user root\n");
    }
    text.push_str("per_listener_settings false\nallow_anonymous true\npersistence false\n");
    text.push_str("max_inflight_messages 0\nset_tcp_nodelay true\nlog_dest stderr\nlog_type error\n");
    writeln!(text, "listener {} {}", plain.port(), plain.ip())?;
    writeln!(text, "listener {} {}", encrypted.port(), encrypted.ip())?;
    for (setting, file) in [("certfile", CERTIFICATE), ("keyfile", KEY), ("cafile", ROOT)] {
        writeln!(text, "{setting} {}", directory.join(file).display())?;
    }
    Ok(text)
}
