//! The pages for readers, below `docs/`: each block in them is run by a suite of `cargo xtask conform`, or says why not. Read by
//! `tidy`, which fails over a block without a marker, and by `conform`, which runs them.

mod blocks;
mod run;

use std::fs;

use blocks::{Block, Marker};

use crate::shell::root;

pub use run::run;

/// Pages about how twinhub is made; their blocks are formats and figures.
const NOT_FOR_HANDS: &[&str] =
    &["adding-an-operation.md", "benchmarks.md", "compatibility.md", "data.md", "log-format.md", "tls.md"];

/// The suites that run blocks. A toolchain that has none is not run here.
const SUITES: &[&str] = &["shell", "python", "node", "az", "java", "go"];

/// Every block of every page, in the order of the pages.
fn all() -> Result<Vec<Block>, String> {
    let mut pages: Vec<_> = fs::read_dir(root().join("docs"))
        .map_err(|error| format!("docs: {error}"))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            name.rsplit_once('.').is_some_and(|(_, extension)| extension == "md")
                && !NOT_FOR_HANDS.contains(&name.as_str())
        })
        .collect();
    pages.sort();
    let read = |page: &String| {
        let text = fs::read_to_string(root().join("docs").join(page)).map_err(|error| error.to_string())?;
        Ok::<_, String>(blocks::of(page, &text))
    };
    Ok(pages.iter().map(read).collect::<Result<Vec<_>, _>>()?.concat())
}

/// What is wrong with the pages, a line for each fault.
pub fn check() -> Vec<String> {
    let blocks = match all() {
        Ok(blocks) => blocks,
        Err(why) => return vec![why],
    };
    let read = |path: &str| fs::read_to_string(root().join(path)).ok();
    let mut faults: Vec<_> = blocks.iter().filter_map(|block| fault(block, read)).collect();
    faults.extend(samples_that_no_page_runs(&blocks));
    faults
}

fn fault(block: &Block, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let what = match &block.marker {
        Marker::None => {
            "no marker stands above this block: <!-- run: SUITE -->, <!-- file: PATH --> or <!-- not run here: REASON -->".to_owned()
        }
        Marker::Run(suite) if !SUITES.contains(&suite.as_str()) => {
            format!("no suite is called {suite}; there are {}", SUITES.join(", "))
        }
        Marker::NotRun(reason) if reason.is_empty() => "the reason is missing".to_owned(),
        Marker::File(path) => match read(path) {
            None => format!("{path} does not exist"),
            Some(text) if text.trim() != block.text.trim() => format!("{path} says something else"),
            Some(_) => return None,
        },
        Marker::Run(_) | Marker::NotRun(_) => return None,
    };
    Some(format!("{}: {what}", block.place()))
}

/// A sample that no block names is one that nobody runs.
fn samples_that_no_page_runs(blocks: &[Block]) -> Vec<String> {
    let tracked = crate::tidy::tracked(&["samples"]);
    let is_program = |path: &&String| {
        let programs = ["py", "mjs", "java", "go", "cs", "sh", "c", "tf", "ps1"];
        path.rsplit_once('.').is_some_and(|(_, extension)| programs.contains(&extension))
    };
    let is_named = |path: &String| {
        // A project is named by its folder: samples/java, not what lies in it.
        let folder: String = path.split('/').take(2).collect::<Vec<_>>().join("/");
        let is_project = |text: &str| text.split(&folder).skip(1).any(|rest| !rest.starts_with('/'));
        let names = |block: &Block| block.text.contains(path.as_str()) || is_project(&block.text);
        blocks.iter().any(|block| !matches!(block.marker, Marker::File(_)) && names(block))
    };
    let unnamed = tracked.iter().filter(is_program).filter(|path| !is_named(path));
    unnamed.map(|path| format!("{path}: no block of docs/ runs this sample or says why not")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(page: &str) -> Vec<String> {
        let read = |path: &str| (path == "samples/one.sh").then(|| "echo one\n".to_owned());
        blocks::of("page.md", page).iter().filter_map(|block| fault(block, read)).collect()
    }

    #[test]
    fn a_block_without_a_marker_is_a_fault_with_its_place() {
        let found = faults("Do this:\n\n```sh\ntrue\n```\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("docs/page.md:3: no marker"), "{found:?}");
    }

    #[test]
    fn a_block_that_is_run_by_a_suite_or_says_why_not_is_none() {
        let page =
            "<!-- run: shell -->\n```sh\ntrue\n```\n<!-- not run here: no such machine -->\n```\nx\n```\n";
        assert_eq!(faults(page), Vec::<String>::new());
    }

    #[test]
    fn a_suite_that_does_not_exist_and_an_empty_reason_are_faults() {
        let found = faults("<!-- run: fortran -->\n```sh\nx\n```\n<!-- not run here:  -->\n```sh\nx\n```\n");
        assert!(found[0].contains("fortran") && found[1].contains("reason"), "{found:?}");
    }

    #[test]
    fn a_block_that_shows_a_file_says_what_the_file_says() {
        assert_eq!(faults("<!-- file: samples/one.sh -->\n```sh\necho one\n```\n"), Vec::<String>::new());
        let found = faults(
            "<!-- file: samples/one.sh -->\n```sh\necho two\n```\n<!-- file: samples/two.sh -->\n```\n```\n",
        );
        assert!(found[0].contains("something else") && found[1].contains("does not exist"), "{found:?}");
    }
}
