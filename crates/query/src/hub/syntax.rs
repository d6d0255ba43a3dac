//! Text to `Select` or `Condition`: the grammar, and which names mean the same.

use base::caps;

use super::{Aggregate, Condition, Item, ItemValue, Order, Projection, Property, Select, Source, Total};
use crate::cursor::Cursor;
use crate::error::SyntaxError;
use crate::parser::{self, Dialect};
use crate::token::{Kind, Span};
use crate::tree::{Function, Path};

/// Words that name nothing at the start of a path or as an alias, unless they stand in double brackets.
pub(super) const RESERVED: &[&str] = &[
    "AND",
    "AS",
    "ASC",
    "BY",
    "DESC",
    "FALSE",
    "FROM",
    "GROUP",
    "IN",
    "NIN",
    "NOT",
    "NULL",
    "OR",
    "ORDER",
    "SELECT",
    "TOP",
    "TRUE",
    "UNDEFINED",
    "WHERE",
];

/// Names that may be written in any case, by the case that documents have.
const OF_TWINS: &[&[&str]] = &[
    &["deviceId"],
    &["moduleId"],
    &["etag"],
    &["deviceEtag"],
    &["status"],
    &["statusReason"],
    &["statusUpdateTime"],
    &["connectionState"],
    &["lastActivityTime"],
    &["cloudToDeviceMessageCount"],
    &["authenticationType"],
    &["x509Thumbprint", "primaryThumbprint"],
    &["x509Thumbprint", "secondaryThumbprint"],
    &["modelId"],
    &["version"],
    &["tags"],
    &["properties", "desired"],
    &["properties", "reported"],
    &["capabilities", "iotEdge"],
    &["configurations"],
    &["deviceScope"],
    &["parentScopes"],
];
const OF_JOBS: &[&[&str]] = &[
    &["deviceId"],
    &["moduleId"],
    &["jobId"],
    &["jobType"],
    &["status"],
    &["startTimeUtc"],
    &["endTimeUtc"],
    &["createdDateTimeUtc"],
    &["lastUpdatedDateTimeUtc"],
    &["outcome", "deviceMethodResponse"],
    &["error", "code"],
    &["error", "description"],
];

pub(super) fn select(text: &str) -> Result<Select, SyntaxError> {
    let cursor = &mut Cursor::new(text, caps::QUERY_CHARACTERS_MAX)?;
    let is_explained = cursor.eat_keyword("EXPLAIN");
    cursor.expect_keyword("SELECT", false)?;
    let top = top(cursor)?;
    let items_at = cursor.span();
    let written = projection(cursor)?;
    cursor.expect_keyword("FROM", cursor.is_keyword("devices"))?;
    let names = Names { text, source: source(cursor)? };
    let condition = if cursor.eat_keyword("WHERE") { Some(parser::condition(&names, cursor)?) } else { None };
    let group_at = cursor.span();
    let group_by = list(cursor, "GROUP", |cursor| names.property(cursor))?;
    let order_at = cursor.span();
    let order_by = list(cursor, "ORDER", |cursor| names.order(cursor))?;
    cursor.expect_end()?;
    let projection = match written {
        None => Projection::All,
        Some(items) => {
            let items = items.into_iter().map(|item| names.item(item, &group_by));
            Projection::Items(items.collect::<Result<_, _>>()?)
        }
    };
    let select =
        Select { is_explained, top, projection, source: names.source, condition, group_by, order_by };
    check(&select).map_err(|(clause, why)| {
        let span = match clause {
            Clause::Items => items_at,
            Clause::Group => group_at,
            Clause::Order => order_at,
        };
        SyntaxError::new(text, span, why)
    })?;
    Ok(select)
}

pub(super) fn condition(text: &str) -> Result<Condition, SyntaxError> {
    let cursor = &mut Cursor::new(text, caps::QUERY_CHARACTERS_MAX)?;
    if cursor.eat(Kind::Star) {
        cursor.expect_end()?;
        return Ok(Condition { source: Source::Devices, expression: None });
    }
    let has_source = cursor.eat_keyword("FROM");
    let at = cursor.span();
    let source = if has_source { source(cursor)? } else { Source::Devices };
    if source == Source::Jobs {
        return Err(cursor.error_at(at, "a condition is over devices or devices.modules"));
    }
    let names = Names { text, source };
    let expression = if !has_source || cursor.eat_keyword("WHERE") {
        Some(parser::condition(&names, cursor)?)
    } else {
        None
    };
    cursor.expect_end()?;
    Ok(Condition { source, expression })
}

/// `TOP 10` or `TOP(10)`.
fn top(cursor: &mut Cursor<'_>) -> Result<Option<u64>, SyntaxError> {
    if !cursor.eat_keyword("TOP") {
        return Ok(None);
    }
    let in_parentheses = cursor.eat(Kind::LeftParenthesis);
    let Ok(rows) = cursor.slice().parse() else { return Err(cursor.unexpected("INTEGER")) };
    cursor.advance();
    if in_parentheses {
        cursor.expect(Kind::RightParenthesis, "')'")?;
    }
    Ok(Some(rows))
}

/// What stands between SELECT and FROM, before it is known what it is over.
struct Written {
    value: WrittenValue,
    alias: Option<String>,
}

enum WrittenValue {
    Path(Path),
    Count,
    Total(Total, Path),
}

/// `None` is `*`.
fn projection(cursor: &mut Cursor<'_>) -> Result<Option<Vec<Written>>, SyntaxError> {
    if cursor.eat(Kind::Star) {
        return Ok(None);
    }
    let mut items = vec![written(cursor)?];
    while cursor.eat(Kind::Comma) {
        if items.len() == caps::QUERY_TERMS_MAX {
            return Err(cursor.error(format!("more than {} items are selected", caps::QUERY_TERMS_MAX)));
        }
        items.push(written(cursor)?);
    }
    Ok(Some(items))
}

fn written(cursor: &mut Cursor<'_>) -> Result<Written, SyntaxError> {
    let is_call = cursor.kind() == Kind::Word && cursor.next_kind() == Kind::LeftParenthesis;
    let value =
        if is_call { aggregate(cursor)? } else { WrittenValue::Path(parser::path(cursor, RESERVED)?) };
    let alias = if cursor.eat_keyword("AS") { Some(parser::name(cursor, RESERVED)?) } else { None };
    Ok(Written { value, alias })
}

fn aggregate(cursor: &mut Cursor<'_>) -> Result<WrittenValue, SyntaxError> {
    let of = match cursor.slice().to_ascii_uppercase().as_str() {
        "COUNT" => None,
        "SUM" => Some(Total::Sum),
        "AVG" => Some(Total::Average),
        "MIN" => Some(Total::Minimum),
        "MAX" => Some(Total::Maximum),
        _ => return Err(cursor.unexpected("{COUNT, SUM, AVG, MIN, MAX}")),
    };
    cursor.advance();
    cursor.expect(Kind::LeftParenthesis, "'('")?;
    let value = if let Some(total) = of {
        WrittenValue::Total(total, parser::path(cursor, RESERVED)?)
    } else {
        cursor.eat(Kind::Star);
        WrittenValue::Count
    };
    cursor.expect(Kind::RightParenthesis, "')'")?;
    Ok(value)
}

fn source(cursor: &mut Cursor<'_>) -> Result<Source, SyntaxError> {
    if !cursor.eat_keyword("devices") {
        return Err(cursor.unexpected("{devices, devices.modules, devices.jobs}"));
    }
    if !cursor.eat(Kind::Dot) {
        return Ok(Source::Devices);
    }
    if cursor.eat_keyword("modules") {
        Ok(Source::Modules)
    } else if cursor.eat_keyword("jobs") {
        Ok(Source::Jobs)
    } else {
        Err(cursor.unexpected("{modules, jobs}"))
    }
}

/// GROUP BY or ORDER BY, if it stands here.
fn list<T>(
    cursor: &mut Cursor<'_>,
    keyword: &str,
    mut item: impl FnMut(&mut Cursor<'_>) -> Result<T, SyntaxError>,
) -> Result<Vec<T>, SyntaxError> {
    if !cursor.eat_keyword(keyword) {
        return Ok(Vec::new());
    }
    cursor.expect_keyword("BY", false)?;
    let mut items = vec![item(cursor)?];
    while cursor.eat(Kind::Comma) {
        if items.len() == caps::QUERY_SORT_PATHS_MAX {
            let max = caps::QUERY_SORT_PATHS_MAX;
            return Err(cursor.error(format!("more than {max} paths after {keyword} BY")));
        }
        items.push(item(cursor)?);
    }
    Ok(items)
}

enum Clause {
    Items,
    Group,
    Order,
}

/// What no rule about a single clause says.
fn check(select: &Select) -> Result<(), (Clause, &'static str)> {
    let is_grouped = select.is_grouped();
    if select.source == Source::Jobs && (is_grouped || select.projection != Projection::All) {
        return Err((Clause::Items, "devices.jobs is queried with SELECT * only"));
    }
    if is_grouped && select.projection == Projection::All {
        return Err((Clause::Group, "'*' cannot be grouped; name what is grouped, and aggregates"));
    }
    if is_grouped && select.group_by.is_empty() && select.has_plain_items() {
        return Err((Clause::Items, "beside an aggregate stands only what GROUP BY names"));
    }
    let is_known = |order: &Order| select.group_by.contains(&order.property) || select.names(&order.property);
    if is_grouped && !select.order_by.iter().all(is_known) {
        return Err((
            Clause::Order,
            "groups are ordered by what they are grouped by, or by what is selected",
        ));
    }
    Ok(())
}

/// Resolves paths.
struct Names<'t> {
    text: &'t str,
    source: Source,
}

impl Names<'_> {
    fn property(&self, cursor: &mut Cursor<'_>) -> Result<Property, SyntaxError> {
        self.resolve(parser::path(cursor, RESERVED)?)
    }

    fn order(&self, cursor: &mut Cursor<'_>) -> Result<Order, SyntaxError> {
        let property = self.property(cursor)?;
        let descending = cursor.eat_keyword("DESC");
        if !descending {
            cursor.eat_keyword("ASC");
        }
        Ok(Order { property, descending })
    }

    /// `devices.tags.x` is `tags.x`, `devices.modules.tags.x` too, and `DEVICEID` is `deviceId`.
    fn resolve(&self, path: Path) -> Result<Property, SyntaxError> {
        let Path { mut segments, span } = path;
        let is_name = |segment: Option<&String>, name: &str| {
            segment.is_some_and(|segment| segment.eq_ignore_ascii_case(name))
        };
        let is_bracketed = self.text[span.start..].starts_with('[');
        if !is_bracketed && is_name(segments.first(), "devices") {
            segments.remove(0);
            let inner = match self.source {
                Source::Devices => None,
                Source::Modules => Some("modules"),
                Source::Jobs => Some("jobs"),
            };
            if inner.is_some_and(|inner| is_name(segments.first(), inner)) {
                segments.remove(0);
            }
        }
        if segments.is_empty() {
            let message = format!("'{}' is a collection; name a property of it", self.written(span));
            return Err(SyntaxError::new(self.text, span, message));
        }
        spell(&mut segments, if self.source == Source::Jobs { OF_JOBS } else { OF_TWINS });
        if self.source == Source::Jobs
            && ["tags", "properties"].iter().any(|name| is_name(segments.first(), name))
        {
            let message =
                format!("'{}' is of a twin, which a query of jobs does not see", self.written(span));
            return Err(SyntaxError::new(self.text, span, message));
        }
        Ok(Property(segments))
    }

    fn written(&self, span: Span) -> &str {
        &self.text[span.start..span.end]
    }

    fn item(&self, written: Written, group_by: &[Property]) -> Result<Item, SyntaxError> {
        let Written { value, alias } = written;
        let (value, name) = match value {
            WrittenValue::Count => (ItemValue::Aggregate(Aggregate::Count), "count".to_owned()),
            WrittenValue::Total(total, path) => {
                let aggregate = Aggregate::Of(total, self.resolve(path)?);
                (ItemValue::Aggregate(aggregate), total.name().to_ascii_lowercase())
            }
            WrittenValue::Path(path) => {
                let span = path.span;
                let property = self.resolve(path)?;
                if !group_by.is_empty() && !group_by.contains(&property) {
                    let message = format!("'{}' is neither grouped nor an aggregate", self.written(span));
                    return Err(SyntaxError::new(self.text, span, message));
                }
                let name = property.0.last().cloned().unwrap_or_default();
                (ItemValue::Property(property), name)
            }
        };
        Ok(Item { value, name: alias.unwrap_or(name) })
    }
}

/// Gives names that documents spell in one way that way: as many of the first as are such names.
fn spell(segments: &mut [String], known: &[&[&str]]) {
    for names in known {
        let pairs = segments.iter_mut().zip(names.iter());
        for (segment, name) in pairs {
            if !segment.eq_ignore_ascii_case(name) {
                break;
            }
            (*name).clone_into(segment);
        }
    }
}

impl Dialect for Names<'_> {
    type Leaf = Property;
    const HAS_VALUES: bool = true;

    fn leaf(&self, cursor: &mut Cursor<'_>) -> Result<Property, SyntaxError> {
        if cursor.kind() == Kind::Word && cursor.next_kind() == Kind::LeftParenthesis {
            return Err(cursor.error(format!("'{}' is no function of this language", cursor.slice())));
        }
        self.property(cursor)
    }

    fn function(&self, name: &str) -> Option<Function> {
        // Those of routing conditions have two names.
        let name = match name.to_ascii_uppercase().as_str() {
            "STARTS_WITH" => "STARTSWITH",
            "ENDS_WITH" => "ENDSWITH",
            _ => name,
        };
        Function::named(name)
    }
}

impl Total {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sum => "SUM",
            Self::Average => "AVG",
            Self::Minimum => "MIN",
            Self::Maximum => "MAX",
        }
    }
}
