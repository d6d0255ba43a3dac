//! Azure's built-in roles that matter here, as data. Role assignments name them by id.
//! Ids and actions are Azure's published ones (`arm-and-auth.md` §6); nothing here decides who holds a role.

/// A role: what it allows on resources (`actions`) and on their data (`data_actions`).
#[derive(Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// The GUID, Azure's `name` of the definition.
    pub id: &'static str,
    pub role_name: &'static str,
    pub description: &'static str,
    pub actions: &'static [&'static str],
    pub not_actions: &'static [&'static str],
    pub data_actions: &'static [&'static str],
}

pub const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
pub const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
pub const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
pub const USER_ACCESS_ADMINISTRATOR: &str = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9";
pub const IOT_HUB_DATA_CONTRIBUTOR: &str = "4fc6c259-987e-4a07-842e-c321cc9d413f";
pub const IOT_HUB_DATA_READER: &str = "b447c946-2db7-41ec-983d-d8bf3b1c77e3";
pub const IOT_HUB_REGISTRY_CONTRIBUTOR: &str = "4ea46cd5-c1b2-4a8e-910b-273211f9ce47";
pub const IOT_HUB_TWIN_CONTRIBUTOR: &str = "494bdba2-168f-4f31-a0a1-191d2f7c028c";
pub const DIGITAL_TWINS_DATA_OWNER: &str = "bcd981a7-7f74-457b-83e1-cceb9e632ffe";
pub const DIGITAL_TWINS_DATA_READER: &str = "d57506d4-4c8d-48b1-8587-93c323f6a5a3";
pub const PROVISIONING_DATA_CONTRIBUTOR: &str = "dfce44e4-17b7-4bd1-a6d1-04996ec95633";
pub const PROVISIONING_DATA_READER: &str = "10745317-c249-44a1-a5ce-3a4353c0bbd8";
pub const EVENT_HUBS_DATA_OWNER: &str = "f526a384-b230-433a-b45c-95f59c4a2dec";
pub const EVENT_HUBS_DATA_SENDER: &str = "2b629674-e913-4c01-ae53-ef4638d8f975";
pub const EVENT_HUBS_DATA_RECEIVER: &str = "a638d3c7-ab3a-418d-83e6-5f17a39d4fde";

pub const ALL: &[RoleDefinition] = &[
    RoleDefinition {
        id: OWNER,
        role_name: "Owner",
        description: "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
        actions: &["*"],
        not_actions: &[],
        data_actions: &[],
    },
    RoleDefinition {
        id: CONTRIBUTOR,
        role_name: "Contributor",
        description: "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC, manage assignments in Azure Blueprints, or share image galleries.",
        actions: &["*"],
        not_actions: &[
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ],
        data_actions: &[],
    },
    RoleDefinition {
        id: READER,
        role_name: "Reader",
        description: "View all resources, but does not allow you to make any changes.",
        actions: &["*/read"],
        not_actions: &[],
        data_actions: &[],
    },
    RoleDefinition {
        id: USER_ACCESS_ADMINISTRATOR,
        role_name: "User Access Administrator",
        description: "Lets you manage user access to Azure resources.",
        actions: &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
        not_actions: &[],
        data_actions: &[],
    },
    RoleDefinition {
        id: IOT_HUB_DATA_CONTRIBUTOR,
        role_name: "IoT Hub Data Contributor",
        description: "Allows for full access to IoT Hub data plane operations.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/IotHubs/*"],
    },
    RoleDefinition {
        id: IOT_HUB_DATA_READER,
        role_name: "IoT Hub Data Reader",
        description: "Allows for full read access to IoT Hub data-plane properties",
        actions: &[],
        not_actions: &[],
        data_actions: &[
            "Microsoft.Devices/IotHubs/*/read",
            "Microsoft.Devices/IotHubs/fileUpload/notifications/action",
        ],
    },
    RoleDefinition {
        id: IOT_HUB_REGISTRY_CONTRIBUTOR,
        role_name: "IoT Hub Registry Contributor",
        description: "Allows for full access to IoT Hub device registry.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/IotHubs/devices/*"],
    },
    RoleDefinition {
        id: IOT_HUB_TWIN_CONTRIBUTOR,
        role_name: "IoT Hub Twin Contributor",
        description: "Allows for read and write access to all IoT Hub device and module twins.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/IotHubs/twins/*"],
    },
    RoleDefinition {
        id: DIGITAL_TWINS_DATA_OWNER,
        role_name: "Azure Digital Twins Data Owner",
        description: "Full access role for Digital Twins data-plane",
        actions: &[],
        not_actions: &[],
        data_actions: &[
            "Microsoft.DigitalTwins/digitaltwins/*",
            "Microsoft.DigitalTwins/digitaltwins/commands/*",
            "Microsoft.DigitalTwins/digitaltwins/relationships/*",
            "Microsoft.DigitalTwins/eventroutes/*",
            "Microsoft.DigitalTwins/jobs/*",
            "Microsoft.DigitalTwins/models/*",
            "Microsoft.DigitalTwins/query/*",
        ],
    },
    RoleDefinition {
        id: DIGITAL_TWINS_DATA_READER,
        role_name: "Azure Digital Twins Data Reader",
        description: "Read-only role for Digital Twins data-plane properties",
        actions: &[],
        not_actions: &[],
        data_actions: &[
            "Microsoft.DigitalTwins/digitaltwins/read",
            "Microsoft.DigitalTwins/digitaltwins/relationships/read",
            "Microsoft.DigitalTwins/eventroutes/read",
            "Microsoft.DigitalTwins/jobs/import/read",
            "Microsoft.DigitalTwins/jobs/imports/read",
            "Microsoft.DigitalTwins/jobs/deletions/read",
            "Microsoft.DigitalTwins/models/read",
            "Microsoft.DigitalTwins/query/action",
        ],
    },
    RoleDefinition {
        id: PROVISIONING_DATA_CONTRIBUTOR,
        role_name: "Device Provisioning Service Data Contributor",
        description: "Allows for full access to Device Provisioning Service data-plane operations.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/provisioningServices/*"],
    },
    RoleDefinition {
        id: PROVISIONING_DATA_READER,
        role_name: "Device Provisioning Service Data Reader",
        description: "Allows for full read access to Device Provisioning Service data-plane properties.",
        actions: &[],
        not_actions: &[],
        data_actions: &["Microsoft.Devices/provisioningServices/*/read"],
    },
    RoleDefinition {
        id: EVENT_HUBS_DATA_OWNER,
        role_name: "Azure Event Hubs Data Owner",
        description: "Allows for full access to Azure Event Hubs resources.",
        actions: &["Microsoft.EventHub/*"],
        not_actions: &[],
        data_actions: &["Microsoft.EventHub/*"],
    },
    RoleDefinition {
        id: EVENT_HUBS_DATA_SENDER,
        role_name: "Azure Event Hubs Data Sender",
        description: "Allows send access to Azure Event Hubs resources.",
        actions: &["Microsoft.EventHub/*/eventhubs/read"],
        not_actions: &[],
        data_actions: &["Microsoft.EventHub/*/send/action"],
    },
    RoleDefinition {
        id: EVENT_HUBS_DATA_RECEIVER,
        role_name: "Azure Event Hubs Data Receiver",
        description: "Allows receive access to Azure Event Hubs resources.",
        actions: &["Microsoft.EventHub/*/eventhubs/consumergroups/read"],
        not_actions: &[],
        data_actions: &["Microsoft.EventHub/*/receive/action"],
    },
];

/// The role with this GUID, in any case.
pub fn find(id: &str) -> Option<&'static RoleDefinition> {
    ALL.iter().find(|role| role.id.eq_ignore_ascii_case(id))
}
