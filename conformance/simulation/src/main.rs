//! Runs seeds one after the other, for so many minutes or one alone: what `cargo xtask soak` starts.

use std::process::ExitCode;
use std::time::Duration;

use base::Clock;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut seed, mut minutes) = (None, 10);
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--seed" => seed = value.parse().ok(),
            [name, value] if name == "--minutes" => minutes = value.parse().unwrap_or(minutes),
            _ => {
                eprintln!("usage: simulation [--seed S] [--minutes M]");
                return ExitCode::FAILURE;
            }
        }
    }
    match seed {
        Some(seed) => tell(&simulation::run(seed)),
        None => soak(Duration::from_mins(minutes)),
    }
}

/// Until time is over or something is wrong.
fn soak(length: Duration) -> ExitCode {
    let clock = Clock::system();
    let end = clock.elapsed().plus(length);
    let mut seed = clock.now().ticks().unsigned_abs();
    while clock.elapsed() < end {
        let report = simulation::run(seed);
        if report.fault.is_some() {
            return tell(&report);
        }
        println!("seed {seed}: {} things happened, and all is well", report.notes.len());
        seed = seed.wrapping_add(1);
    }
    ExitCode::SUCCESS
}

fn tell(report: &simulation::Report) -> ExitCode {
    let simulation::Report { seed, sum, fault, notes } = report;
    for note in notes {
        println!("{note}");
    }
    println!("seed {seed}: {} things happened, sum {sum:016x}", notes.len());
    match fault {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("WRONG: {why}\nagain with: cargo xtask soak --seed {seed}");
            ExitCode::FAILURE
        }
    }
}
