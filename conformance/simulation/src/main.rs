//! Runs seeds one after the other, for so many minutes or one alone: what `cargo xtask soak` starts.

use std::process::ExitCode;
use std::time::Duration;

use base::Clock;

const MINUTES: u64 = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => soak(MINUTES),
        ["--seed", seed] => seed.parse().map_or_else(|_| usage(), |seed| tell(&simulation::run(seed))),
        ["--minutes", minutes] => minutes.parse().map_or_else(|_| usage(), soak),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: cargo xtask soak [--minutes M | --seed S], both whole numbers; without, {MINUTES} minutes"
    );
    ExitCode::FAILURE
}

/// Until time is over or something is wrong.
fn soak(minutes: u64) -> ExitCode {
    let clock = Clock::system();
    let (begun, mut well) = (clock.elapsed(), 0_u32);
    let end = begun.plus(Duration::from_mins(minutes));
    let mut seed = clock.now().ticks().unsigned_abs();
    while clock.elapsed() < end {
        let report = simulation::run(seed);
        if report.fault.is_some() {
            return tell(&report);
        }
        well += 1;
        let seconds = clock.elapsed().since(begun).as_secs();
        let a_minute = f64::from(well) * 60.0 / clock.elapsed().since(begun).as_secs_f64();
        println!(
            "{:>2}:{:02} of {minutes}:00  seed {seed} is well, {} things happened; {well} seeds, {a_minute:.0} a minute",
            seconds / 60,
            seconds % 60,
            report.notes.len()
        );
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
