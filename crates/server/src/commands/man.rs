//! `twinhub man`: manual pages from the same declarations that `--help` reads. Whoever packs twinhub writes them into a directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use server::out;

use super::Cli;
use crate::config::SETTINGS;
use crate::{Failure, data_directory};

#[derive(Args)]
#[command(after_help = "To read it at once: twinhub man | man -l -")]
pub(crate) struct ManArgs {
    /// Writes twinhub.1, twinhub-serve.1 and so on here instead of printing twinhub.1
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs) -> Result<ExitCode, Failure> {
    let mut root = Cli::command();
    root.build();
    match &args.directory {
        None => out::write(String::from_utf8_lossy(&page(&root)?)),
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(data_directory::at(directory))?;
            write_all(&root, directory)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and those of the commands below it.
fn write_all(command: &Command, directory: &Path) -> Result<(), Failure> {
    let path = directory.join(format!("{}.1", name(command)));
    std::fs::write(&path, page(command)?).map_err(data_directory::at(&path))?;
    below(command).try_for_each(|below| write_all(below, directory))
}

/// `twinhub-config-check`
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// `help` repeats the others and has no page.
fn below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set())
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut text)?;
    }
    if below(command).next().is_some() {
        commands(command).to_writer(&mut text)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut text)?;
    }
    if name(command) == "twinhub" {
        settings().to_writer(&mut text)?;
        man.render_version_section(&mut text)?;
    }
    Ok(text)
}

/// What there is below a command, with the page of each.
fn commands(command: &Command) -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["COMMANDS"]);
    for below in below(command) {
        page.control("TP", []);
        page.text([bold(format!("{}(1)", name(below)))]);
        page.text([roman(below.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    page
}

/// Every setting with its variable, and where files are looked for.
fn settings() -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["ENVIRONMENT"]);
    page.text([roman(
        "Settings come from flags, then from these variables, then from twinhub.toml here or in the data directory, then from defaults.",
    )]);
    for setting in SETTINGS {
        page.control("TP", []);
        page.text([bold(setting.variable())]);
        let default =
            if setting.default.is_empty() { String::new() } else { format!(" [{}]", setting.default) };
        page.text([roman(format!("{}: {}{default}", setting.name, setting.meaning))]);
    }
    page.control("SH", ["FILES"]);
    page.control("TP", []);
    page.text([bold("twinhub.toml")]);
    page.text([roman("Settings, here or in the data directory. twinhub config check prints them all.")]);
    page.control("TP", []);
    page.text([bold(data_directory::DESCRIBED)]);
    page.text([roman(
        "Records, log, certificate authority and keys, unless --data-dir names another place.",
    )]);
    page
}
