//! Runs the blocks of a suite: those of one page are one bash script, since a reader goes through a page from top to bottom in one
//! shell. The script stops at the first command that fails, and says at which line of which page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::all;
use super::blocks::{Block, Marker};
use crate::shell::{Outcome, root, step};

/// Runs every block that belongs to `suite`, in a new folder below `environment`, where a copy of the samples lies too. `surround`
/// gives each script the variables of the suite.
pub fn run(suite: &str, environment: &Path, surround: impl Fn(&mut Command)) -> Outcome {
    let blocks = all()?;
    let of_suite: Vec<_> =
        blocks.into_iter().filter(|block| block.marker == Marker::Run(suite.to_owned())).collect();
    if of_suite.is_empty() {
        return Err(format!("no block of docs/ is run by the suite {suite}"));
    }
    let folder = environment.join("pages");
    let _ = fs::remove_dir_all(&folder);
    lay_out_samples(&folder)?;
    for page in of_suite.chunk_by(|one, next| one.page == next.page) {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script(page)]).current_dir(&folder);
        surround(&mut command);
        step(&format!("docs/{} ({suite}, {} blocks)", page[0].page, page.len()), &mut command)?;
    }
    Ok(())
}

/// Each block announces its place, so that the one that failed is the last that was announced.
fn script(page: &[Block]) -> String {
    let mut script = "trap 'echo \"$place failed\" >&2' ERR\n".to_owned();
    for block in page {
        let _ = write!(script, "place='{}'\n{}", block.place(), block.text);
    }
    script
}

/// A copy, since Node looks for packages in the folders above a file, and Maven writes beside it.
fn lay_out_samples(folder: &Path) -> Outcome {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in crate::tidy::tracked(&["samples"]) {
        let to = folder.join(&path);
        fs::create_dir_all(to.parent().expect("it lies below samples")).map_err(|error| error.to_string())?;
        fs::copy(root().join(&path), to).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}
