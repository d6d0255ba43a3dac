//! Columns and labelled lines for people.

use std::fmt::Write as _;

/// Rows below their heading, as wide as their widest cell. The last column is not padded.
pub(super) fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|at| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([heading[at].len()]).max().unwrap_or_default()
    });
    let mut out = String::new();
    for row in std::iter::once(&heading.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// `label  value` lines; those without a value are left out.
pub(super) fn labelled(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    let shown = rows.iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(label, value)| format!("{label:<width$}  {value}\n")).collect()
}

/// A time of the registry to the second, or `never`.
pub(super) fn time(text: &str) -> String {
    if text.is_empty() || text.starts_with("0001-01-01") {
        return "never".to_owned();
    }
    text.get(..19).map_or_else(|| text.to_owned(), |seconds| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "b".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(columns(["one", "two"], &rows), "one     two\na       b\nlonger\n");
    }

    #[test]
    fn a_time_that_never_was_is_never() {
        assert_eq!(time("0001-01-01T00:00:00"), "never");
        assert_eq!(time("2026-01-02T03:04:05.6789012Z"), "2026-01-02T03:04:05Z");
    }
}
