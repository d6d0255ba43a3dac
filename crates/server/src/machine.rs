//! What only the running machine knows of names: whether they resolve to us, and which addresses we may take.
//! `base::hosts` decides with it which host an answer carries.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use base::hosts::{Machine, Reach};

use crate::hosts_file::HostsFile;
use crate::listeners::Listeners;

/// A resolver that does not answer must not hold the start up.
const LOOKUP: Duration = Duration::from_millis(700);

pub(crate) struct ThisMachine {
    listeners: Arc<Listeners>,
    hosts_file: Option<Arc<HostsFile>>,
    /// Set once a look-up timed out; no further one is tried, as each would cost as much. Or names are not wanted at all.
    resolver_is_silent: AtomicBool,
}

impl ThisMachine {
    pub(crate) fn new(listeners: Arc<Listeners>, hosts_file: Option<Arc<HostsFile>>, looks_up: bool) -> Self {
        Self { listeners, hosts_file, resolver_is_silent: AtomicBool::new(!looks_up) }
    }
}

impl Machine for ThisMachine {
    fn reach(&self, name: &str) -> Reach {
        let added = self.hosts_file.as_ref().map(|file| file.add(name, self.listeners.dialled()));
        if let Some(Err(error)) = added {
            tracing::warn!(%error, name, "the hosts file cannot be kept");
        }
        if self.resolver_is_silent.load(Ordering::Relaxed) {
            return Reach::Nowhere;
        }
        let Some(addresses) = look_up(name) else {
            self.resolver_is_silent.store(true, Ordering::Relaxed);
            tracing::info!(name, "names do not resolve in time; addresses are advertised instead");
            return Reach::Nowhere;
        };
        let ours = || addresses.iter().filter(|address| self.listeners.covers(**address));
        match ours().next() {
            None => Reach::Nowhere,
            Some(_) if ours().all(IpAddr::is_loopback) => Reach::ThisMachine,
            Some(_) => Reach::Beyond,
        }
    }

    fn listen_no_longer(&self, address: Ipv4Addr) {
        self.listeners.listen_no_longer(address);
    }

    fn is_open(&self) -> bool {
        self.listeners.is_open()
    }

    fn listen_also(&self, address: Ipv4Addr) -> bool {
        self.listeners.listen_also(address)
    }

    fn default_address(&self) -> IpAddr {
        self.listeners.dialled()
    }

    fn forgotten(&self, name: &str) {
        if let Some(Err(error)) = self.hosts_file.as_ref().map(|file| file.remove(name)) {
            tracing::warn!(%error, name, "the hosts file cannot be kept");
        }
    }
}

/// The addresses of a name, none when it has none; `None` when nobody answers in time.
pub(crate) fn look_up(name: &str) -> Option<Vec<IpAddr>> {
    let (answer, answered) = sync_channel(1);
    let name = name.to_owned();
    std::thread::spawn(move || {
        let addresses = (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|at| at.ip()).collect());
        let _ = answer.send(addresses.unwrap_or_default());
    });
    answered.recv_timeout(LOOKUP).ok()
}
