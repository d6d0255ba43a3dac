//! What the server needs of the machine: a clock that is right, files, room on the disk, a directory of its own.

use std::time::Duration;

use base::caps;

use super::{Finding, Patient};
use crate::commands::status::bytes;
use crate::live::Live;
use crate::metrics::Places;
use crate::open_files;

/// Before this year no clock is right: the product is younger.
const YEAR_MIN: i64 = 2025;
const SECONDS_OF_A_YEAR: i64 = 31_556_952;
/// How long the two clocks are compared.
const COMPARED: Duration = Duration::from_millis(200);
const APART_ALLOWED: Duration = Duration::from_millis(100);
const FREE_BYTES_MIN: u64 = 100_000_000;
const FREE_BYTES_FEW: u64 = 1_000_000_000;
const FILES_MIN: u64 = 256;
const FILES_FEW: u64 = 4096;

pub(super) fn clock(patient: &Patient) -> Vec<Finding> {
    const CHECK: &str = "clock";
    let clock = &patient.clock;
    let (wall, steady) = (clock.now().unix_millis(), clock.elapsed());
    std::thread::sleep(COMPARED);
    let walked = clock.now().unix_millis() - wall;
    let passed = i64::try_from(clock.elapsed().since(steady).as_millis()).unwrap_or(i64::MAX);
    let year = 1970 + clock.now().unix_seconds() / SECONDS_OF_A_YEAR;
    if year < YEAR_MIN {
        let remedy = "Set it, or let NTP do so: clients with a right clock take tokens and certificates of this machine for expired.";
        return vec![Finding::problem(CHECK, format!("this machine believes that it is {year}"), remedy)];
    }
    let apart = u64::try_from((walked - passed).abs()).unwrap_or(u64::MAX);
    if Duration::from_millis(apart) > APART_ALLOWED {
        let message =
            format!("the wall clock moved {walked} ms while {passed} ms passed: somebody is setting it");
        return vec![Finding::note(
            CHECK,
            message,
            "See whether two programs set the time (ntpd, chronyd, a hypervisor).",
        )];
    }
    let mut findings = vec![Finding::ok(CHECK, format!("it is {} here", clock.now()))];
    findings.extend(of_server(patient));
    findings
}

/// A server whose time was moved by tests judges tokens by that.
fn of_server(patient: &Patient) -> Option<Finding> {
    patient.run.as_ref()?;
    let live = Live::of_running(&patient.config.data_dir).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let told = runtime.block_on(live.json("GET", "/_twinhub/clock")).ok()?;
    let now: base::Timestamp = serde_json::from_value(told["now"].clone()).ok()?;
    let apart = (now.unix_seconds() - patient.clock.now().unix_seconds()).abs();
    // Tokens are refused when clocks are further apart.
    if apart.unsigned_abs() <= caps::SAS_CLOCK_SKEW_SECONDS {
        return None;
    }
    let message = format!("the server goes by {now}, {apart} s from this machine's clock");
    Some(Finding::problem(
        "clock",
        message,
        "Its time was moved (/_twinhub/clock): start it again, or make tokens that are good then.",
    ))
}

pub(super) fn files(_: &Patient) -> Vec<Finding> {
    const CHECK: &str = "files";
    let remedy = "Raise the hard limit: LimitNOFILE= of the service, --ulimit nofile= of the container, /etc/security/limits.conf.";
    vec![match open_files::hard_limit() {
        None => Finding::ok(CHECK, "no limit of open files is known"),
        Some(limit) if limit < FILES_MIN => Finding::problem(
            CHECK,
            format!("only {limit} files may be open; every connection is one"),
            remedy,
        ),
        Some(limit) if limit < FILES_FEW => Finding::note(
            CHECK,
            format!("{limit} files may be open, enough for {} devices or so", limit * 3 / 4),
            remedy,
        ),
        Some(limit) => Finding::ok(CHECK, format!("{limit} files may be open")),
    }]
}

pub(super) fn disk(patient: &Patient) -> Vec<Finding> {
    const CHECK: &str = "disk";
    let places = Places::of(&patient.config);
    let place = places.directory().to_owned();
    // What is not there yet will lie where what is above it lies.
    let there = place.ancestors().find(|path| path.exists()).unwrap_or(&place);
    let Some(free) = crate::metrics::free_bytes(there) else {
        return vec![Finding::unknown(CHECK, "the system does not say how much room there is")];
    };
    let message = format!("{} free at {}", bytes(free), there.display());
    let remedy =
        "Make room, or choose another place with --data-dir: where the disk is full nothing is acknowledged.";
    vec![match free {
        0..FREE_BYTES_MIN => Finding::problem(CHECK, message, remedy),
        FREE_BYTES_MIN..FREE_BYTES_FEW => Finding::note(CHECK, message, remedy),
        _ => Finding::ok(CHECK, message),
    }]
}

pub(super) fn data_directory(patient: &Patient) -> Vec<Finding> {
    const CHECK: &str = "data";
    let path = &patient.config.data_dir;
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            vec![Finding::ok(CHECK, format!("{shown} is not there yet; the first start makes it"))]
        }
        Err(error) => vec![Finding::problem(
            CHECK,
            format!("{shown}: {error}"),
            "Run this as the user whose server it is, or name another place with --data-dir.",
        )],
        Ok(metadata) if !metadata.is_dir() => vec![Finding::problem(
            CHECK,
            format!("{shown} is no directory"),
            "Name another place with --data-dir.",
        )],
        Ok(metadata) => rights(path, &metadata),
    }
}

#[cfg(unix)]
fn rights(path: &std::path::Path, metadata: &std::fs::Metadata) -> Vec<Finding> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let shown = path.display();
    let (owner, us) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != us && us != 0 {
        let message =
            format!("{shown} belongs to user {owner}, and this is user {us}: its keys cannot be read");
        return vec![Finding::problem(
            "data",
            message,
            format!("Run as that user: sudo -u '#{owner}' twinhub …"),
        )];
    }
    let secrets = ["admin.key", "run.json", "records.db", "ca-key.pem"];
    let is_open = |path: &std::path::Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    };
    let open: Vec<&str> = secrets.into_iter().filter(|name| is_open(&path.join(name))).collect();
    if open.is_empty() {
        return vec![Finding::ok("data", format!("{shown} is its owner's alone"))];
    }
    let message = format!("others may read {} in {shown}: they hold keys", open.join(", "));
    vec![Finding::problem("data", message, format!("chmod -R go-rwx {shown}"))]
}

#[cfg(not(unix))]
fn rights(path: &std::path::Path, _: &std::fs::Metadata) -> Vec<Finding> {
    vec![Finding::unknown("data", format!("who may read {} is not looked at on this system", path.display()))]
}
