//! What ARCHITECTURE.md says is absent, as far as text shows it: caps that are not in `caps.rs`, caps that nobody uses, SQL outside
//! of the engine, and what only doors name.

const CAPS: &str = "crates/base/src/caps.rs";

/// Where SQL may stand.
const SQL: &[&str] = &["crates/store/src/postgres/", "crates/store/src/render/", "crates/store/src/sqlite/"];
/// Beginnings of statements that no query language of a service has.
const STATEMENTS: &[&str] = &[
    "INSERT INTO ",
    "INSERT OR ",
    "DELETE FROM ",
    "CREATE TABLE ",
    "CREATE INDEX ",
    "PRAGMA ",
    "WITH RECURSIVE ",
];

/// Where a request's status may be named: the doors, and clients of our own server.
const DOORS: &[&str] = &["crates/rest/", "crates/mqtt/", "crates/server/", "crates/delivery/"];
const STATUS: &[&str] = &["http_status", "StatusCode", "status_code"];

/// Paths and texts of every source file.
pub(super) fn check(sources: &[(String, String)]) -> Vec<String> {
    let mut faults = dead_caps(sources);
    for (path, text) in sources {
        let is_ours = path.starts_with("crates/") && !is_test_file(path);
        if !is_ours {
            continue;
        }
        for (number, line) in production(text).lines().enumerate() {
            if let Some(fault) = fault_of(path, line) {
                faults.push(format!("{path}:{}: {fault}: {}", number + 1, line.trim()));
            }
        }
    }
    faults
}

fn fault_of(path: &str, line: &str) -> Option<&'static str> {
    let is_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let code = line.split("//").next().unwrap_or_default();
    if path != CAPS && is_cap(code) {
        return Some("a cap belongs into base/src/caps.rs");
    }
    if !is_in(SQL) && STATEMENTS.iter().any(|statement| code.contains(&format!("\"{statement}"))) {
        return Some("SQL belongs into the engine");
    }
    if !is_in(DOORS) && STATUS.iter().any(|name| code.contains(name)) {
        return Some("a status belongs to a door");
    }
    None
}

/// A constant named as caps are, that does not take its value from `caps.rs`.
fn is_cap(code: &str) -> bool {
    let Some((declaration, value)) = code.split_once('=') else { return false };
    let Some((_, declared)) = declaration.split_once("const ") else { return false };
    let name = declared.split(':').next().unwrap_or_default().trim();
    name.ends_with("_MAX")
        && !value.contains("caps::")
        && !value.contains("_MAX")
        && !value.trim_start().starts_with('"')
}

fn dead_caps(sources: &[(String, String)]) -> Vec<String> {
    let Some((_, caps)) = sources.iter().find(|(path, _)| path == CAPS) else {
        return vec![format!("{CAPS} is missing")];
    };
    let declared = caps.lines().filter_map(|line| line.strip_prefix("pub const "));
    let names = declared.filter_map(|line| line.split(':').next());
    let is_used = |name: &&str| {
        let mut uses = sources.iter().flat_map(|(path, text)| {
            let own = path == CAPS;
            text.lines().filter(move |line| !(own && line.starts_with(&format!("pub const {name}:"))))
        });
        uses.any(|line| has_word(line.split("//").next().unwrap_or_default(), name))
    };
    names.filter(|name| !is_used(name)).map(|name| format!("{CAPS}: {name} is used nowhere")).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

fn is_test_file(path: &str) -> bool {
    let names = ["/tests/", "/tests.rs", "/testing.rs", "/fixture.rs", "/contract.rs", "/test_wire.rs"];
    names.iter().any(|name| path.contains(name))
}

/// A file up to the tests that stand in it, which come last.
fn production(text: &str) -> &str {
    let mut starts = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at);
    let is_block = |at: &usize| {
        let mut lines = text[*at..].lines().skip(1).skip_while(|line| line.starts_with("#["));
        let begins = |line: &str| line.starts_with("mod ") || line.starts_with("impl ");
        lines.next().is_some_and(|line| begins(line) && line.ends_with('{'))
    };
    starts.find(is_block).map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, line: &str) -> usize {
        let caps = "pub const USED_MAX: usize = 1;\nfn f() { g(USED_MAX) }\n";
        check(&[(CAPS.to_owned(), caps.to_owned()), (path.to_owned(), line.to_owned())]).len()
    }

    #[test]
    fn a_cap_elsewhere_is_a_fault_unless_it_is_made_of_caps() {
        let path = "crates/hub/src/twin/rules.rs";
        assert_eq!(faults(path, "const TAGS_MAX: usize = 10;"), 1);
        assert_eq!(faults(path, "    pub(crate) const TAGS_MAX: usize = 10;"), 1);
        assert_eq!(faults(path, "const TAGS_MAX: usize = caps::TWIN_TAGS_BYTES_MAX;"), 0);
        assert_eq!(faults(path, "const TAGS_MAX: &str = \"2018\";"), 0);
        assert_eq!(faults("crates/hub/src/twin/tests.rs", "const TAGS_MAX: usize = 10;"), 0);
        assert_eq!(faults(path, "f();\n#[cfg(test)]\nmod tests {\nconst TAGS_MAX: usize = 10;"), 0);
        assert_eq!(faults(path, "#[cfg(test)]\nmod tests;\nconst TAGS_MAX: usize = 10;"), 1);
    }

    #[test]
    fn a_cap_that_nobody_uses_is_a_fault() {
        let check = |caps: &str| check(&[(CAPS.to_owned(), caps.to_owned())]).len();
        assert_eq!(check("pub const A_MAX: usize = 1;"), 1);
        assert_eq!(check("pub const A_MAX: usize = 1;\n// A_MAX is nice.\nf(OTHER_A_MAX);"), 1);
        assert_eq!(check("pub const A_MAX: usize = 1;\npub fn f() -> usize { A_MAX }"), 0);
        assert_eq!(super::check(&[]).len(), 1);
    }

    #[test]
    fn sql_and_statuses_have_their_places() {
        let sql = "let text = \"DELETE FROM outbox\";";
        assert_eq!(faults("crates/hub/src/hub.rs", sql), 1);
        assert_eq!(faults("crates/store/src/store.rs", sql), 1);
        assert_eq!(faults("crates/store/src/sqlite/write.rs", sql), 0);
        assert_eq!(faults("crates/hub/src/error.rs", "pub fn http_status(&self) -> u16 {"), 1);
        assert_eq!(faults("crates/rest/src/hub/error.rs", "let status: StatusCode = x;"), 0);
    }
}
