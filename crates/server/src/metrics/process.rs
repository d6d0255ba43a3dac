//! The process as the system sees it, under the names that Prometheus' own libraries use. Where the system does not tell (it is read
//! from Linux' `/proc`), the families are there without numbers.

use base::Clock;
use rest::admin::{Family, Kind};

pub(super) fn families(clock: &Clock) -> Vec<Family> {
    let started_at = as_number(u64::try_from(clock.now().unix_millis()).unwrap_or(0)) / 1e3;
    let mut all = vec![Family::one(
        Kind::Gauge,
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        move || started_at,
    )];
    all.extend(ROWS.iter().map(|(kind, name, help, pick)| {
        Family::new(*kind, name, help, move |samples| {
            if let Some(value) = Figures::read().as_ref().and_then(pick) {
                samples.add(&[], value);
            }
        })
    }));
    all
}

type Row = (Kind, &'static str, &'static str, fn(&Figures) -> Option<f64>);

const ROWS: [Row; 6] = [
    (
        Kind::Counter,
        "process_cpu_seconds_total",
        "Time that the process spent on processors, in seconds.",
        |figures| Some(figures.cpu_seconds),
    ),
    (Kind::Gauge, "process_resident_memory_bytes", "Memory that the process holds.", |figures| {
        Some(figures.resident_bytes)
    }),
    (Kind::Gauge, "process_virtual_memory_bytes", "Addresses that the process has taken.", |figures| {
        Some(figures.virtual_bytes)
    }),
    (Kind::Gauge, "process_threads", "Threads of the process.", |figures| Some(figures.threads)),
    (Kind::Gauge, "process_open_fds", "Files that the process holds open.", |_| open_files()),
    (Kind::Gauge, "process_max_fds", "Files that the system lets the process hold open.", |_| files_max()),
];

struct Figures {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    threads: f64,
}

impl Figures {
    #[cfg(target_os = "linux")]
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let (ticks, page) = (rustix::param::clock_ticks_per_second(), rustix::param::page_size());
        Self::parse(&text, as_number(ticks), as_number(page as u64))
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> Option<Self> {
        None
    }

    /// `proc_pid_stat(5)`. The name in parentheses may hold anything, so what follows the last one is counted.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has the file"))]
    fn parse(text: &str, ticks_per_second: f64, page_bytes: f64) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first one here is the file's third.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks_per_second,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

fn open_files() -> Option<f64> {
    // The listing itself is one of them.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(as_number(count.saturating_sub(1) as u64))
}

fn files_max() -> Option<f64> {
    crate::open_files::limit().map(as_number)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are doubles")]
fn as_number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_line_is_read_whatever_the_process_is_called() {
        let text = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 12 0 99 1048576 300 18446744073709551615";
        let figures = Figures::parse(text, 100.0, 4096.0).unwrap();
        let Figures { cpu_seconds, resident_bytes, virtual_bytes, threads } = figures;
        let read = [cpu_seconds, threads, virtual_bytes, resident_bytes].map(|number| number.to_string());
        assert_eq!(read, ["4", "12", "1048576", "1228800"]);
        assert!(Figures::parse("7 (a) S 1", 100.0, 4096.0).is_none());
    }
}
