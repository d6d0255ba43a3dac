//! `twinhub serve`: builds the house from the ground up, opens its doors, and takes it down in the opposite order.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use access::{Certificates, Directory, ServerSecrets};
use base::hosts::{self, Hosts};
use base::tasks::Tasks;
use base::{Clock, Refusals, Secret, caps};
use rest::admin::Pieces;
use server::out;
use store::leases::Lease;
use store::{Store, StoreError, Streams};
use tokio::sync::Semaphore;

use crate::config::{Config, Ports, Purpose};
use crate::connections::{Connections, Counters};
use crate::ending::Ending;
use crate::health::Health;
use crate::hosts_file::HostsFile;
use crate::house::{Ground, House};
use crate::listeners::{CannotListen, Kind, Listeners};
use crate::machine::ThisMachine;
use crate::open_files::OpenFiles;
use crate::run_file::RunFile;
use crate::service_manager::ServiceManager;
use crate::status::Report;
use crate::tls::Tls;
use crate::{
    Failure, admin_key, backup, cluster_key, data_directory, free_address, logging, metrics, open_files,
    run_file, sole_server, warnings, well_known,
};

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config: &Config) -> Result<ExitCode, Failure> {
    run_until(config, async |run, ending| {
        announce(config, &run);
        ending.told().await;
        ExitCode::SUCCESS
    })
}

/// Runs until `until` is done, and ends with its code; it begins once the server is ready.
pub(crate) fn run_until(
    config: &Config,
    until: impl AsyncFnOnce(RunFile, &mut Ending) -> ExitCode,
) -> Result<ExitCode, Failure> {
    well_known::refuse_elsewhere(config)?;
    logging::start(&config.log, config.log_format)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.workers > 0 {
        builder.worker_threads(config.workers);
    }
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        // Before anyone can know that we run: a signal that nobody listens for ends the process where it stands.
        let mut ending = Ending::listen()?;
        let server = Server::start(config).await?;
        let code = until(server.run_file.clone(), &mut ending).await;
        server.stop(&mut ending).await;
        logging::finish();
        Ok(code)
    })
}

/// Everything that lives as long as the server.
struct Server {
    config: Config,
    tasks: Tasks,
    is_ready: Arc<AtomicBool>,
    hosts_file: Option<Arc<HostsFile>>,
    run_file: RunFile,
    service_manager: ServiceManager,
    /// Held to the end: dropping the last clone closes the files and gives up the directory, or the leases of a database.
    store: Store,
    _claim: File,
}

impl Server {
    async fn start(config: &Config) -> Result<Self, Failure> {
        let limit = open_files::raise_limit();
        let clock = Clock::system();
        let Data { claim, store, streams, lease } = open_data(config, &clock).await?;
        let secrets = cluster_key::secrets(config, &store).await?;
        let (key, certificates) = open_keys(config, &secrets).await?;
        let tasks = Tasks::new();
        let Bound { listeners, https_port, ports } = listen(config, &tasks)?;
        let hosts_file = keep_hosts_file(config, &listeners)?;
        // For one command there are no names, only the address that was found for it, so nobody waits for a resolver.
        let looks_up = config.purpose == Purpose::Serve;
        let machine = ThisMachine::new(listeners.clone(), hosts_file.clone(), looks_up);
        let settings = hosts::Settings {
            domain: config.domain.clone(),
            https_port,
            advertised: config.advertise.clone(),
        };
        let hosts = Hosts::with(settings, machine);
        if let Some(lease) = &lease {
            sole_server::keep(&store, lease, &tasks, &clock);
        }
        let own_hosts = hosts.advertised_host().into_iter().collect();
        let directory = Directory::with(access::directory::Context {
            store: store.clone(),
            clock: clock.clone(),
            domain: config.domain.clone(),
            own_hosts,
            vault: secrets.vault().cloned(),
        })
        .await?;
        let backup = backup_source(config, &store, &streams, &clock);
        let health = Health { store: store.clone(), streams: streams.clone(), tasks: tasks.clone() };
        health.keep_trying_the_disk(&clock);
        let refusals = Refusals::new(clock.clone());
        let open_files = Arc::new(OpenFiles::new(limit, streams.clone(), clock.clone()));
        let house = House::open(Ground {
            store: store.clone(),
            streams,
            clock: clock.clone(),
            hosts: hosts.clone(),
            tasks: tasks.clone(),
            directory,
            refusals: refusals.clone(),
            queue_depth: config.queue_depth,
            resource_manager: config.resource_manager.clone(),
            keys: config.well_known_keys.then_some(well_known::policy_keys),
        })
        .await?;
        well_known::check(&house, config.well_known_keys)?;
        if let Some(seed) = &config.seed {
            seed.apply(&house.ground_for_seed(config.well_known_keys)).await?;
        }
        let (counters, is_ready) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
        let services = metrics::Services::default();
        let admin = admin_door(AdminParts {
            key,
            config,
            clock: &clock,
            hosts: &hosts,
            house: &house,
            health: &health,
            counters: &counters,
            services: &services,
            listeners: &listeners,
            is_ready: &is_ready,
            backup,
        });
        let front = Arc::new(house.front(rest::mount(admin)));
        services.set(front.counted());
        let connections = Connections {
            tls: Arc::new(Tls::new(certificates.clone(), clock.clone())),
            front,
            mqtt: house.mqtt_door(counters.mqtt.clone()),
            tasks: tasks.clone(),
            places: Arc::new(Semaphore::new(open_files.https_connections_max())),
            open_files,
            counters,
            refusals,
            clock: clock.clone(),
        };
        listeners.start(Arc::new(connections), &clock);
        let run_file = {
            let (listeners, mqtt_port) = (listeners.clone(), ports.mqtt);
            let describe =
                move || RunFile::describe(&house, &certificates, listeners.dialled(), https_port, mqtt_port);
            keep_run_file(config, &tasks, &clock, describe)?
        };
        is_ready.store(true, Ordering::Relaxed);
        if config.well_known_keys {
            well_known::warn();
        }
        warnings::tell(config, ports, listeners.is_open(), &hosts);
        tell_start(config, &listeners, &run_file);
        let service_manager = ServiceManager::of_environment();
        service_manager.ready(&tasks);
        let config = config.clone();
        Ok(Self { config, tasks, is_ready, hosts_file, run_file, service_manager, store, _claim: claim })
    }

    /// Takes nothing new, finishes what is in hand, and leaves nothing behind that says we run.
    async fn stop(self, ending: &mut Ending) {
        tracing::info!("draining");
        self.service_manager.stopping();
        self.is_ready.store(false, Ordering::Relaxed);
        let patience = Duration::from_secs(caps::DRAIN_SECONDS_MAX);
        let cut = tokio::select! {
            cut = self.tasks.drain(patience) => cut,
            () = ending.told() => {
                tracing::warn!("told twice: not waiting any longer");
                return;
            }
        };
        if cut > 0 {
            tracing::warn!(tasks = cut, "not everything ended in time");
        }
        self.store.close();
        let run_file = RunFile::path(&self.config.data_dir);
        if let Err(error) = std::fs::remove_file(&run_file) {
            tracing::warn!(%error, path = %run_file.display(), "cannot be removed");
        }
        if let Some(Err(error)) = self.hosts_file.map(|file| file.clear()) {
            tracing::warn!(%error, "the hosts file keeps our names");
        }
        tracing::info!("ended");
    }
}

/// What live control looks at.
struct AdminParts<'a> {
    key: Secret,
    config: &'a Config,
    clock: &'a Clock,
    hosts: &'a Hosts,
    house: &'a House,
    health: &'a Health,
    counters: &'a Arc<Counters>,
    services: &'a metrics::Services,
    listeners: &'a Arc<Listeners>,
    is_ready: &'a Arc<AtomicBool>,
    backup: Box<dyn Fn() -> Result<Pieces, String> + Send + Sync>,
}

fn admin_door(parts: AdminParts<'_>) -> rest::admin::Admin {
    let AdminParts { config, clock, house, health, counters, services, .. } = parts;
    let places = &metrics::Places::of(config);
    let metrics = metrics::all(&metrics::Sources { counters, clock, health, house, services, places });
    let report = Report::new(config, clock, house, counters, parts.listeners);
    let (troubled, remarked) = (health.clone(), health.clone());
    rest::admin::Admin::new(rest::admin::Context {
        key: parts.key,
        clock: clock.clone(),
        allow_clock_control: config.allow_clock_control,
        hosts: parts.hosts.clone(),
        hubs: house.hubs.clone(),
        events: house.events.clone(),
        tasks: health.tasks.clone(),
        metrics,
        backup: parts.backup,
        is_ready: parts.is_ready.clone(),
        troubles: Box::new(move || troubled.troubles()),
        remarks: Box::new(move || remarked.remarks()),
        report: Box::new(move || report.make()),
    })
}

/// Tells the other commands of us, now and whenever an instance comes or goes.
fn keep_run_file(
    config: &Config,
    tasks: &Tasks,
    clock: &Clock,
    describe: impl Fn() -> RunFile + Send + Sync + 'static,
) -> Result<RunFile, Failure> {
    let run_file = describe();
    run_file.write(&config.data_dir)?;
    let (data_dir, written, stopping) = (config.data_dir.clone(), run_file.clone(), tasks.stopping());
    let describe = Arc::new(describe);
    tasks.keep("run.json", clock, move || {
        run_file::keep_true(data_dir.clone(), written.clone(), describe.clone(), stopping.clone())
    });
    Ok(run_file)
}

/// Begins our block of the hosts file with the one name that belongs to no instance; fails where the file may not be written.
fn keep_hosts_file(config: &Config, listeners: &Listeners) -> Result<Option<Arc<HostsFile>>, Failure> {
    let Some(path) = &config.hosts_file else { return Ok(None) };
    let file = HostsFile::new(path, &config.data_dir);
    let global = base::hosts::global_provisioning_host(&config.domain);
    file.add(&global, listeners.dialled())
        .map_err(|error| format!("--manage-hosts: {} cannot be written: {error}", path.display()))?;
    Ok(Some(Arc::new(file)))
}

/// What is stored, and the right to it.
pub(crate) struct Data {
    pub(crate) claim: File,
    pub(crate) store: Store,
    pub(crate) streams: Streams,
    /// Of a database.
    lease: Option<Lease>,
}

/// Takes the data directory, or the database, for this server and opens what is stored in it.
pub(crate) async fn open_data(config: &Config, clock: &Clock) -> Result<Data, Failure> {
    let path = config.data_dir.display();
    data_directory::make(&config.data_dir)
        .map_err(|error| format!("{path} cannot be the data directory: {error}"))?;
    let claim = data_directory::claim(&config.data_dir)?;
    backup::refuse_half_restored(&config.data_dir)?;
    backup::remove_leftovers(&config.data_dir)?;
    if let store::Location::File(directory) = &config.store {
        data_directory::prepare_store(directory)?;
    }
    let (store, streams) = open_store(config)?;
    let lease = match &config.store {
        store::Location::Postgres(_) => Some(sole_server::claim(&store, clock).await?),
        store::Location::File(_) | store::Location::Memory => None,
    };
    if store.raise_outbox(streams.greatest_origin()).await? {
        tracing::warn!(
            "the records are older than the log, as after an older copy was put back; the log keeps its events, and new ones go behind them"
        );
    }
    Ok(Data { claim, store, streams, lease })
}

fn open_store(config: &Config) -> Result<(Store, Streams), Failure> {
    if config.durability == store::Durability::Relaxed && config.purpose == Purpose::Serve {
        tracing::warn!(
            "durability is relaxed: a power cut loses what was acknowledged last. For tests only."
        );
    }
    let options = store::Options {
        location: config.store.clone(),
        durability: config.durability,
        declared_paths: config.declared_paths.clone(),
    };
    let store = Store::open(&options).map_err(|error| match error {
        StoreError::InUse(directory) => data_directory::in_use(directory.as_ref()),
        error => error.to_string(),
    })?;
    let streams = Streams::beside(&store, &options)?;
    Ok((store, streams))
}

fn backup_source(
    config: &Config,
    store: &Store,
    streams: &Streams,
    clock: &Clock,
) -> Box<dyn Fn() -> Result<Pieces, String> + Send + Sync> {
    let nothing = match &config.store {
        store::Location::File(_) => None,
        store::Location::Memory => {
            Some("This server keeps everything in memory (sqlite::memory:), so there is nothing to back up.")
        }
        store::Location::Postgres(_) => Some(
            "This server keeps everything in PostgreSQL: back up the database with its own tools (pg_dump, pgBackRest), and keep \
             a copy of the file of --cluster-key-file, if there is one, elsewhere.",
        ),
    };
    if let Some(why) = nothing {
        return Box::new(|| Err(why.to_owned()));
    }
    let source = backup::Source {
        data_dir: config.data_dir.clone(),
        store: store.clone(),
        streams: streams.clone(),
        clock: clock.clone(),
        is_busy: Arc::default(),
    };
    Box::new(move || source.begin())
}

/// The admin key and the certificates, which may lie in a database: off the workers.
async fn open_keys(config: &Config, secrets: &ServerSecrets) -> Result<(Secret, Certificates), Failure> {
    let (secrets, data_dir, tls) = (secrets.clone(), config.data_dir.clone(), config.tls.clone());
    let open = move || {
        let key = admin_key::ensure(&secrets)?;
        // The clock of certificates is never moved by tests: clients judge validity by theirs.
        let certificates = match tls {
            None => Certificates::open(&secrets, Clock::system()),
            Some((certificate, key)) => Certificates::operator(&data_dir, &certificate, &key),
        };
        Ok((key, certificates?))
    };
    tokio::task::spawn_blocking(open).await?
}

/// What we listen on.
pub(crate) struct Bound {
    pub(crate) listeners: Arc<Listeners>,
    /// The port that HTTPS addresses carry.
    pub(crate) https_port: u16,
    /// As they are, whatever was wanted.
    pub(crate) ports: Ports,
}

/// Binds every port, and says once what does not work without 443.
fn listen(config: &Config, tasks: &Tasks) -> Result<Bound, Failure> {
    let wanted = config.ports;
    if wanted.mqtt_plain != 0 {
        tracing::warn!(port = wanted.mqtt_plain, "MQTT without TLS is open: for benchmarks only");
    }
    let (listeners, failures) = match config.purpose {
        Purpose::Serve => bind(config.listen, wanted, tasks).map_err(|why| cannot_serve(&why, wanted))?,
        Purpose::OneCommand { any_address } => {
            let address = if any_address { None } else { Some(config.listen) };
            free_address::bind(address, wanted, tasks)?
        }
    };
    let ports = Ports {
        https: listeners.port_of(0).expect("HTTPS comes first"),
        mqtt: listeners.port_of(1).expect("then MQTT"),
        ..wanted
    };
    for failure in &failures {
        explain(failure, ports.https);
    }
    let is_standard = wanted.has_standard() && listeners.has_port(wanted.https_standard);
    let https_port = if is_standard { wanted.https_standard } else { ports.https };
    Ok(Bound { listeners, https_port, ports })
}

/// HTTPS and MQTT on the ports that there must be, and HTTPS on the usual one where that may be.
pub(crate) fn bind(
    address: IpAddr,
    ports: Ports,
    tasks: &Tasks,
) -> Result<(Arc<Listeners>, Vec<CannotListen>), CannotListen> {
    let mut required = vec![(ports.https, Kind::Https), (ports.mqtt, Kind::Mqtt)];
    if ports.mqtt_plain != 0 {
        required.push((ports.mqtt_plain, Kind::MqttPlain));
    }
    let standard = [(ports.https_standard, Kind::Https)];
    Listeners::bind(address, &required, if ports.has_standard() { &standard } else { &[] }, tasks)
}

/// Without these ports there is no server; says which setting helps.
fn cannot_serve(failure: &CannotListen, ports: Ports) -> String {
    let port = failure.at.port();
    let setting = match port {
        port if port == ports.https => "ports.https",
        port if port == ports.mqtt => "ports.mqtt",
        _ => "ports.mqtt_plain",
    };
    let remedy = match failure.source.kind() {
        ErrorKind::AddrInUse => format!(
            "Stop what uses the port, give this server another address with --listen (127.0.0.2), or another port with {setting}."
        ),
        ErrorKind::PermissionDenied => format!("Give another port with {setting}, one above 1023."),
        _ => "Give an address of this machine with --listen.".to_owned(),
    };
    format!("{failure}. {remedy}")
}

fn explain(failure: &CannotListen, https: u16) {
    let remedy = if failure.source.kind() == ErrorKind::PermissionDenied {
        "Allow it once with: sudo sysctl -w net.ipv4.ip_unprivileged_port_start=443, or: sudo setcap cap_net_bind_service=+ep $(command -v twinhub), or run in a container."
    } else {
        "Stop what uses the port, or switch it off here with ports.https_standard = 0."
    };
    tracing::warn!("{failure}. {} {remedy}", warnings::without_443(https));
}

/// What whoever reads a log of long ago wants to know first.
fn tell_start(config: &Config, listeners: &Listeners, run: &RunFile) {
    let durability = config.durability_name();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %config.data_dir.display(),
        addresses = listeners.addresses().join(" "),
        durability,
        domain = config.domain,
        dialled = %run.address,
        process_id = run.process_id,
        "twinhub serves"
    );
}

/// The line that whoever started us waits for.
pub(crate) fn announce(config: &Config, run: &RunFile) {
    let authority = run.environment.get("AZURE_AUTHORITY_HOST").map_or("", String::as_str);
    let line = format!(
        "twinhub is ready at {authority}, MQTT on {}, data in {}",
        SocketAddr::new(run.address, run.mqtt_port),
        config.data_dir.display()
    );
    out::line(line);
}
