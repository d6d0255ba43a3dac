//! The regions that resources may be placed in, in Azure's two spellings. Called by every operation that takes a location.
//! Names only: twinhub runs where it runs, whatever region a resource says.

/// One region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub name: &'static str,
    pub display_name: &'static str,
    pub geography: &'static str,
}

const fn region(name: &'static str, display_name: &'static str, geography: &'static str) -> Location {
    Location { name, display_name, geography }
}

/// The public regions of the three services (`arm-and-auth.md` §1.6), and those that tests of official clients name.
pub const ALL: &[Location] = &[
    region("eastus", "East US", "US"),
    region("eastus2", "East US 2", "US"),
    region("westus", "West US", "US"),
    region("westus2", "West US 2", "US"),
    region("westus3", "West US 3", "US"),
    region("centralus", "Central US", "US"),
    region("northcentralus", "North Central US", "US"),
    region("southcentralus", "South Central US", "US"),
    region("westcentralus", "West Central US", "US"),
    region("canadacentral", "Canada Central", "Canada"),
    region("canadaeast", "Canada East", "Canada"),
    region("brazilsouth", "Brazil South", "South America"),
    region("northeurope", "North Europe", "Europe"),
    region("westeurope", "West Europe", "Europe"),
    region("uksouth", "UK South", "Europe"),
    region("ukwest", "UK West", "Europe"),
    region("francecentral", "France Central", "Europe"),
    region("germanywestcentral", "Germany West Central", "Europe"),
    region("italynorth", "Italy North", "Europe"),
    region("norwayeast", "Norway East", "Europe"),
    region("polandcentral", "Poland Central", "Europe"),
    region("spaincentral", "Spain Central", "Europe"),
    region("swedencentral", "Sweden Central", "Europe"),
    region("switzerlandnorth", "Switzerland North", "Europe"),
    region("australiaeast", "Australia East", "Asia Pacific"),
    region("australiasoutheast", "Australia Southeast", "Asia Pacific"),
    region("centralindia", "Central India", "Asia Pacific"),
    region("southindia", "South India", "Asia Pacific"),
    region("eastasia", "East Asia", "Asia Pacific"),
    region("southeastasia", "Southeast Asia", "Asia Pacific"),
    region("japaneast", "Japan East", "Asia Pacific"),
    region("japanwest", "Japan West", "Asia Pacific"),
    region("koreacentral", "Korea Central", "Asia Pacific"),
    region("koreasouth", "Korea South", "Asia Pacific"),
    region("qatarcentral", "Qatar Central", "Middle East"),
    region("uaenorth", "UAE North", "Middle East"),
    region("israelcentral", "Israel Central", "Middle East"),
    region("southafricanorth", "South Africa North", "Africa"),
];

/// The region that a hub fails over to, by its display name: Azure's pairs of regions. Newer regions have none.
const PAIRS: &[(&str, &str)] = &[
    ("eastus", "West US"),
    ("eastus2", "Central US"),
    ("westus", "East US"),
    ("westus2", "West Central US"),
    ("westus3", "East US"),
    ("centralus", "East US 2"),
    ("northcentralus", "South Central US"),
    ("southcentralus", "North Central US"),
    ("westcentralus", "West US 2"),
    ("canadacentral", "Canada East"),
    ("canadaeast", "Canada Central"),
    ("brazilsouth", "South Central US"),
    ("northeurope", "West Europe"),
    ("westeurope", "North Europe"),
    ("uksouth", "UK West"),
    ("ukwest", "UK South"),
    ("francecentral", "France South"),
    ("germanywestcentral", "Germany North"),
    ("norwayeast", "Norway West"),
    ("swedencentral", "Sweden South"),
    ("switzerlandnorth", "Switzerland West"),
    ("australiaeast", "Australia Southeast"),
    ("australiasoutheast", "Australia East"),
    ("centralindia", "South India"),
    ("southindia", "Central India"),
    ("eastasia", "Southeast Asia"),
    ("southeastasia", "East Asia"),
    ("japaneast", "Japan West"),
    ("japanwest", "Japan East"),
    ("koreacentral", "Korea South"),
    ("koreasouth", "Korea Central"),
    ("uaenorth", "UAE Central"),
    ("southafricanorth", "South Africa West"),
];

impl Location {
    /// The display name of the region that this one is paired with.
    pub fn pair(&self) -> Option<&'static str> {
        PAIRS.iter().find(|(name, _)| *name == self.name).map(|(_, pair)| *pair)
    }
}

/// `West US 2` and `WestUS2` are `westus2`: lower case without spaces.
pub fn normalise(text: &str) -> String {
    text.split_whitespace().collect::<String>().to_ascii_lowercase()
}

/// The region that `text` names in either spelling.
pub fn find(text: &str) -> Option<&'static Location> {
    let name = normalise(text);
    ALL.iter().find(|location| location.name == name)
}

/// `eastus,eastus2,…`, as refusals print it.
pub fn list() -> String {
    ALL.iter().map(|location| location.name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_a_region() {
        assert_eq!(find("WestUS2").unwrap().name, "westus2");
        assert_eq!(find("West US 2").unwrap().display_name, "West US 2");
        assert!(find("atlantis").is_none());
    }

    #[test]
    fn pairs_are_of_regions_that_there_are() {
        for (name, pair) in PAIRS {
            assert!(find(name).is_some_and(|found| found.name == *name), "{name}");
            assert_ne!(normalise(pair), *name);
        }
        assert_eq!(find("West US").unwrap().pair(), Some("East US"));
        assert_eq!(find("polandcentral").unwrap().pair(), None);
    }
}
