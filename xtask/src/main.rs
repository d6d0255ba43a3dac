//! The project's verbs: `cargo xtask` lists them. CI runs the same ones and nothing else.
//! Each verb is a file here; this one only chooses. It must never do what a verb does not say.

#![allow(unreachable_pub, reason = "a binary: `pub` means visible to the other verbs")]

mod azurite;
mod bench;
mod conform;
mod demo;
mod dist;
mod docs;
mod first_hour;
mod on_postgres;
mod shell;
mod soak;
mod test;
mod tidy;

use std::process::ExitCode;

/// Name, what it does, and how.
type Verb = (&'static str, &'static str, fn(&[String]) -> shell::Outcome);

const VERBS: &[Verb] = &[
    (
        "test",
        "everything that must hold: tidy, format, lints, unit and process tests, conformance [--no-conform|--all] [--store postgres [--postgres-version 18]]",
        test::run,
    ),
    (
        "within",
        "runs one suite and kills it when it takes too long; `test` starts its suites so [PROGRAM…]",
        test::within,
    ),
    ("fix", "formats, and applies what clippy can apply by itself", test::fix),
    ("tidy", "layers, licences, pages whose blocks nobody runs, stray text; prints size hints", tidy::run),
    ("deny", "licences, sources, refused and unused crates of everything we build from", |_| {
        tidy::dependencies()
    }),
    (
        "conform",
        "official clients and the pages of docs/, against the release binary [--binary PATH] [--store postgres] [shell|python|node|sdk|az|java|go]",
        conform::run,
    ),
    (
        "dist",
        "what people install: binary, .deb, container image, licences, checksums [--binary PATH] [--output DIR] [--version V]",
        dist::run,
    ),
    (
        "first-hour",
        "five people who have just heard of twinhub, from nothing to their first success [--binary PATH] [PERSON…]",
        first_hour::run,
    ),
    ("bench", "benchmarks beside their anchors; prints ratios and writes JSON [NAME…]", bench::run),
    (
        "soak",
        "the whole house on an engine that goes wrong by a seed; prints seeds, and how one replays [--seed S] [--minutes M]; or the models of single nouns [--models STEPS]",
        soak::run,
    ),
    ("demo", "the main job on a fresh data directory", demo::run),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let Some((_, _, run)) = VERBS.iter().find(|(name, _, _)| *name == verb) else {
        eprintln!("usage: cargo xtask VERB\n");
        for (name, what, _) in VERBS {
            eprintln!("  {name:<10} {what}");
        }
        return if verb.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    match run(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\n{verb}: {message}");
            ExitCode::FAILURE
        }
    }
}
