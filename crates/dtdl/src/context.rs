//! `@context`: which version and extensions are active in an element, from its own entries and those around it.
//! Called by the element reader for every element that has one. Fetches nothing.

use crate::{
    Dtmi, Options, UndefinedExtensions,
    document::{Kind, Node, Place, values},
    dtmi,
    issue::Issues,
    vocabulary::{Context, classes::LANGUAGES, extensions},
};

const CORE: &str = "dtmi:dtdl:context";
const NOT_TEXT: &str = "an entry of '@context' must be a string";

/// Reads the `@context` of a top-level element. None: there is no version to read the rest by.
pub(crate) fn top_level<'n>(
    node: &'n Node,
    place: &Place<'n>,
    options: &Options,
    issues: &mut Issues,
) -> Option<Context> {
    let Some(entry) = node.member("@context") else {
        issues.add(place, "missingContext", "a top-level element needs '@context' with the DTDL version");
        return None;
    };
    let place = place.name("@context", entry);
    if matches!(&entry.kind, Kind::List(items) if items.is_empty()) {
        issues.add(&place, "emptyContext", "'@context' is empty; the DTDL version is missing");
        return None;
    }
    read(entry, &place, None, options, issues)
}

/// Reads the `@context` of an element inside another.
pub(crate) fn nested<'n>(
    node: &'n Node,
    place: &Place<'n>,
    outer: Context,
    options: &Options,
    issues: &mut Issues,
) -> Context {
    let Some(entry) = node.member("@context") else { return outer };
    read(entry, &place.name("@context", entry), Some(outer), options, issues).unwrap_or(outer)
}

/// First those that stand for a DTDL version themselves, then the DTDL context, then all others.
fn read<'n>(
    entry: &'n Node,
    place: &Place<'n>,
    outer: Option<Context>,
    options: &Options,
    issues: &mut Issues,
) -> Option<Context> {
    let entries = values(entry, place);
    let is_central = |node: &Node| node.text() == Some(extensions::CENTRAL);
    let (early, rest) = entries.split_at(entries.iter().take_while(|(node, _)| is_central(node)).count());
    let dtdl = rest.iter().take_while(|(node, _)| is_dtdl(node)).count();
    let mut context = outer;
    for (node, place) in &rest[..dtdl] {
        let version = version(node.text().unwrap_or_default(), place, options, issues)?;
        context = Some(Context { version, ..context.unwrap_or_default() });
    }
    let Some(mut context) = context else {
        let (first, place) = entries.first()?;
        match first.text() {
            Some(text) => issues.add(
                place,
                "missingDtdlContext",
                format!("the DTDL context must come before all others, but '{text}' does"),
            ),
            None => issues.add(place, "invalidContext", NOT_TEXT),
        }
        return None;
    };
    for (node, place) in early.iter().chain(&rest[dtdl..]) {
        match &node.kind {
            Kind::Text(text) if is_dtdl(node) => {
                let message = format!("'{text}' must come before all other contexts");
                issues.add(place, "dtdlContextFollowsAffiliate", message);
            }
            Kind::Text(text) => extension(text, place, &mut context, options, issues),
            Kind::Members(_) => {
                issues.add(place, "disallowedLocalContext", "'@context' may not define terms of its own");
            }
            _ => issues.add(place, "invalidContext", NOT_TEXT),
        }
    }
    Some(context)
}

fn is_dtdl(node: &Node) -> bool {
    node.text().is_some_and(|text| text.split([';', '#']).next() == Some(CORE))
}

fn version(text: &str, place: &Place<'_>, options: &Options, issues: &mut Issues) -> Option<u8> {
    if text.contains('#') {
        issues.add(place, "disallowedContextFragment", format!("'{text}' may not have a fragment"));
        return None;
    }
    if text == CORE {
        issues.add(place, "missingContextVersion", format!("'{text}' lacks a version"));
        return None;
    }
    let found = LANGUAGES
        .iter()
        .find(|language| language.context == text && options.versions.contains(&language.version));
    if found.is_none() {
        issues.add(
            place,
            "unrecognizedContextVersion",
            format!("'{text}' is no DTDL version that is supported here"),
        );
    }
    found.map(|language| language.version)
}

fn extension(text: &str, place: &Place<'_>, context: &mut Context, options: &Options, issues: &mut Issues) {
    if !text.starts_with("dtmi:") {
        return issues.add(place, "nonDtmiContextSpecifier", format!("'{text}' is not a DTMI"));
    }
    let (path, fragment) =
        text.split_once('#').map_or((text, None), |(path, fragment)| (path, Some(fragment)));
    if !dtmi::has_dtmi_shape(path) {
        return issues.add(place, "invalidContextSpecifier", format!("'{text}' is not a valid DTMI"));
    }
    if fragment.is_some() {
        return issues.add(place, "disallowedContextFragment", format!("'{text}' may not have a fragment"));
    }
    let Some((_, version)) = text.split_once(';') else {
        return issues.add(place, "missingContextVersion", format!("'{text}' lacks a version"));
    };
    if version.contains('.') && !path.parse().is_ok_and(|dtmi: Dtmi| dtmi.allowed_in(context.version)) {
        let message = format!("'{text}' has a minor version, which DTDL {} does not take", context.version);
        return issues.add(place, "invalidContextSpecifierForVersion", message);
    }
    let allowed = options.extensions.is_none_or(|allowed| allowed.contains(&text));
    if let Some(position) = extensions::position(text).filter(|_| allowed) {
        context.extensions |= 1 << position;
        return;
    }
    let tolerated = match options.undefined_extensions {
        UndefinedExtensions::Allow => true,
        UndefinedExtensions::Refuse => false,
        UndefinedExtensions::ByVersion => crate::vocabulary::classes::language(context.version).tolerant,
    };
    if tolerated {
        context.open = true;
    } else if extensions::is_known_in_another_version(text) {
        issues.add(
            place,
            "unresolvableContextVersion",
            format!("'{text}' is not a supported version of that extension"),
        );
    } else {
        issues.add(place, "unresolvableContextSpecifier", format!("'{text}' is not a supported extension"));
    }
}
