//! `api-version`: required on every call, and of a set that the resource type gives (`arm-and-auth.md` §1.1).

use resource_manager::{location, provider};

use super::error::Refusal;
use crate::wire::Head;

/// The first version that Resource Manager itself had.
const OLDEST: &str = "2014-01-01";

pub(super) fn check(head: &Head) -> Result<(), Refusal> {
    let version = head.api_version().ok_or(Refusal::MissingApiVersion)?;
    let Some((namespace, type_path)) = provider_of(&head.segments) else { return check_own(version) };
    let rows: Vec<_> =
        provider::TYPES.iter().filter(|row| row.namespace.eq_ignore_ascii_case(&namespace)).collect();
    let is_part = |row: &&&provider::TypeRow| {
        type_path == row.type_name
            || type_path.starts_with(&format!("{}/", row.type_name.to_ascii_lowercase()))
            || type_path.eq_ignore_ascii_case(row.type_name)
    };
    let row = rows.iter().filter(is_part).max_by_key(|row| row.type_name.len());
    let is_accepted = match row {
        Some(row) => provider::accepts(row, version),
        // An action of the namespace itself, such as a name check: any version of any of its types.
        None => rows.is_empty() || rows.iter().any(|row| provider::accepts(row, version)),
    };
    if is_accepted {
        return Ok(());
    }
    let (type_name, versions) =
        row.map_or((type_path.as_str(), String::new()), |row| (row.type_name, row.api_versions.join(", ")));
    Err(Refusal::NoRegisteredProvider {
        version: version.chars().take(64).collect(),
        resource_type: type_name.to_owned(),
        versions,
        locations: location::list(),
    })
}

/// Resource Manager's own types grow new versions all the time; every date since the first is taken.
fn check_own(version: &str) -> Result<(), Refusal> {
    if provider::is_well_formed(version) && version >= OLDEST {
        return Ok(());
    }
    let row = provider::find_row(provider::RESOURCES, "resourceGroups");
    let versions = row.map(|row| row.api_versions.join(",")).unwrap_or_default();
    Err(Refusal::InvalidApiVersion { version: version.chars().take(64).collect(), versions })
}

/// Namespace and type path, in lower case, of `…/providers/{namespace}/{type}/{name}/{child type}/…`; `None` for what is
/// Resource Manager's own, the namespaces as such included.
pub(super) fn provider_of(segments: &[String]) -> Option<(String, String)> {
    let at = segments.iter().rposition(|segment| segment.eq_ignore_ascii_case("providers"))?;
    let namespace = segments.get(at + 1)?;
    let first = segments.get(at + 2)?;
    if ["register", "unregister"].iter().any(|verb| first.eq_ignore_ascii_case(verb)) {
        return None;
    }
    let types: Vec<&str> = segments[at + 2..].iter().step_by(2).map(String::as_str).collect();
    Some((namespace.to_ascii_lowercase(), types.join("/").to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_path_leaves_names_out() {
        let of = |path: &str| {
            provider_of(&path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(
            of(
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.DigitalTwins/digitalTwinsInstances/I/endpoints/E"
            ),
            Some(("microsoft.digitaltwins".into(), "digitaltwinsinstances/endpoints".into()))
        );
        assert_eq!(of("/subscriptions/s/providers/Microsoft.Devices"), None);
        assert_eq!(of("/subscriptions/s/providers/Microsoft.Devices/register"), None);
        assert_eq!(of("/subscriptions/s/resourceGroups/g"), None);
    }
}
