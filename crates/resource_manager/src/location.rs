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
}
