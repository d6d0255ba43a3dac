//! `twinhub completions SHELL`: the commands and flags of this very program, in the words of a shell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use server::out;

use super::Cli;

#[derive(Args)]
#[command(
    after_help = "bash:        source <(twinhub completions bash), or write it into ~/.local/share/bash-completion/completions/twinhub
zsh:         write it as _twinhub into a directory of $fpath
fish:        twinhub completions fish > ~/.config/fish/completions/twinhub.fish
powershell:  twinhub completions powershell | Out-String | Invoke-Expression"
)]
pub(crate) struct CompletionsArgs {
    /// The shell that shall complete
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> ExitCode {
    // Into memory first: the generator panics where it cannot write, as into a pipe that was closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "twinhub", &mut script);
    out::write(String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
