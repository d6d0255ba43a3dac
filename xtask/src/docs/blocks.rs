//! The fenced blocks of a Markdown page and the marker above each. Pure.

/// What the comment in the line above a block says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// `<!-- run: SUITE -->`: a script for bash that this suite runs.
    Run(String),
    /// `<!-- file: PATH -->`: the text of this file.
    File(String),
    /// `<!-- not run here: REASON -->`.
    NotRun(String),
    None,
}

#[derive(Clone, Debug)]
pub struct Block {
    pub page: String,
    /// Of its opening fence.
    pub line: usize,
    pub marker: Marker,
    pub text: String,
}

impl Block {
    pub fn place(&self) -> String {
        format!("docs/{}:{}", self.page, self.line)
    }
}

pub fn of(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut above = "";
    while let Some((index, line)) = lines.next() {
        if is_fence(line) {
            let indent = line.len() - line.trim_start().len();
            let within = lines.by_ref().map(|(_, line)| line).take_while(|line| !is_fence(line));
            let text = within.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
            found.push(Block { page: page.to_owned(), line: index + 1, marker: marker(above), text });
        }
        above = line;
    }
    found
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}

fn marker(line: &str) -> Marker {
    let comment = line.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
    match comment.and_then(|comment| comment.split_once(':')) {
        Some((what, rest)) => match what.trim() {
            "run" => Marker::Run(rest.trim().to_owned()),
            "file" => Marker::File(rest.trim().to_owned()),
            "not run here" => Marker::NotRun(rest.trim().to_owned()),
            _ => Marker::None,
        },
        None => Marker::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_in_lists_lose_their_indent_and_keep_what_lies_deeper() {
        let page = "1. First\n   <!-- run: shell -->\n   ```sh\n   if true; then\n     echo\n   fi\n   ```\n\ntext\n";
        let [block] = &of("p.md", page)[..] else { panic!("one block") };
        assert_eq!(block.text, "if true; then\n  echo\nfi\n");
        assert_eq!((block.line, &block.marker), (3, &Marker::Run("shell".to_owned())));
    }

    #[test]
    fn a_marker_counts_for_the_block_below_it_alone() {
        let page = "<!-- run: shell -->\n```sh\none\n```\n\n```sh\ntwo\n```\n";
        let markers: Vec<_> = of("p.md", page).into_iter().map(|block| block.marker).collect();
        assert_eq!(markers, [Marker::Run("shell".to_owned()), Marker::None]);
    }
}
