//! What may be asked for, in one list. Each permission knows its Azure action and the shared access right that grants it.

use serde::{Deserialize, Serialize};

/// The rights of shared access policies, of hubs and of provisioning services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Right {
    RegistryRead,
    RegistryWrite,
    ServiceConnect,
    DeviceConnect,
    ServiceConfig,
    EnrollmentRead,
    EnrollmentWrite,
    RegistrationStatusRead,
    RegistrationStatusWrite,
}

impl Right {
    pub const ALL: [Self; 9] = [
        Self::RegistryRead,
        Self::RegistryWrite,
        Self::ServiceConnect,
        Self::DeviceConnect,
        Self::ServiceConfig,
        Self::EnrollmentRead,
        Self::EnrollmentWrite,
        Self::RegistrationStatusRead,
        Self::RegistrationStatusWrite,
    ];

    /// The spelling that policies use in Resource Manager's `rights` string.
    pub fn name(self) -> &'static str {
        match self {
            Self::RegistryRead => "RegistryRead",
            Self::RegistryWrite => "RegistryWrite",
            Self::ServiceConnect => "ServiceConnect",
            Self::DeviceConnect => "DeviceConnect",
            Self::ServiceConfig => "ServiceConfig",
            Self::EnrollmentRead => "EnrollmentRead",
            Self::EnrollmentWrite => "EnrollmentWrite",
            Self::RegistrationStatusRead => "RegistrationStatusRead",
            Self::RegistrationStatusWrite => "RegistrationStatusWrite",
        }
    }

    /// Whether holding `self` is as good as holding `wanted`: a writer may read, and the enrollment owner may do
    /// everything with registrations (`dps.md` §3.1).
    fn implies(self, wanted: Self) -> bool {
        self == wanted
            || matches!(
                (self, wanted),
                (Self::RegistryWrite, Self::RegistryRead)
                    | (
                        Self::EnrollmentWrite,
                        Self::EnrollmentRead | Self::RegistrationStatusRead | Self::RegistrationStatusWrite
                    )
                    | (Self::RegistrationStatusWrite, Self::RegistrationStatusRead)
            )
    }

    /// Parses Resource Manager's `"RegistryWrite, ServiceConnect"`; `None` if a name is unknown or none is given.
    pub fn parse_list(text: &str) -> Option<Vec<Self>> {
        let parse = |name: &str| Self::ALL.into_iter().find(|r| r.name().eq_ignore_ascii_case(name.trim()));
        text.split(',').map(parse).collect::<Option<Vec<_>>>().filter(|rights| !rights.is_empty())
    }

    /// The inverse of [`Self::parse_list`], with Azure's `", "` between the names.
    pub fn write_list(rights: &[Self]) -> String {
        rights.iter().map(|right| right.name()).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn any_grants(rights: &[Self], wanted: Self) -> bool {
        rights.iter().any(|right| right.implies(wanted))
    }
}

/// Declares the permissions with their action and, where one exists, the shared access right.
macro_rules! permissions {
    ($($name:ident: $kind:ident $action:literal $(by $right:ident)?,)+) => {
        /// Everything that an operation can ask its caller for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Permission {
            $($name,)+
            /// An action on a resource in Resource Manager, by its name (`Microsoft.X/type/write`).
            Management(&'static str),
        }

        impl Permission {
            /// Azure's name of the action, as roles list it and refusals print it.
            pub fn action(self) -> &'static str {
                match self {
                    $(Self::$name => $action,)+
                    Self::Management(action) => action,
                }
            }

            /// Data actions and management actions are granted by separate lists of a role.
            pub fn is_data_action(self) -> bool {
                match self {
                    $(Self::$name => permissions!(@$kind),)+
                    Self::Management(_) => false,
                }
            }

            /// The shared access right that grants it; `None`: no policy can.
            pub fn right(self) -> Option<Right> {
                match self {
                    $(Self::$name => permissions!(@right $($right)?),)+
                    Self::Management(_) => None,
                }
            }
        }
    };
    (@data) => { true };
    (@right) => { None };
    (@right $right:ident) => { Some(Right::$right) };
}

permissions! {
    // Hub (iothub-service.md §1.3, §1.5).
    RegistryRead: data "Microsoft.Devices/IotHubs/devices/read" by RegistryRead,
    RegistryWrite: data "Microsoft.Devices/IotHubs/devices/write" by RegistryWrite,
    RegistryDelete: data "Microsoft.Devices/IotHubs/devices/delete" by RegistryWrite,
    TwinRead: data "Microsoft.Devices/IotHubs/twins/read" by ServiceConnect,
    TwinWrite: data "Microsoft.Devices/IotHubs/twins/write" by ServiceConnect,
    DirectMethodInvoke: data "Microsoft.Devices/IotHubs/directMethods/invoke/action" by ServiceConnect,
    CloudToDeviceSend: data "Microsoft.Devices/IotHubs/cloudToDeviceMessages/send/action" by ServiceConnect,
    CloudToDeviceFeedback: data "Microsoft.Devices/IotHubs/cloudToDeviceMessages/feedback/action" by ServiceConnect,
    CloudToDevicePurge: data "Microsoft.Devices/IotHubs/cloudToDeviceMessages/queue/purge/action" by ServiceConnect,
    FileNotification: data "Microsoft.Devices/IotHubs/fileUpload/notifications/action" by ServiceConnect,
    JobRead: data "Microsoft.Devices/IotHubs/jobs/read" by ServiceConnect,
    JobWrite: data "Microsoft.Devices/IotHubs/jobs/write" by ServiceConnect,
    JobDelete: data "Microsoft.Devices/IotHubs/jobs/delete" by ServiceConnect,
    ConfigurationRead: data "Microsoft.Devices/IotHubs/configurations/read" by RegistryRead,
    ConfigurationWrite: data "Microsoft.Devices/IotHubs/configurations/write" by RegistryWrite,
    ConfigurationDelete: data "Microsoft.Devices/IotHubs/configurations/delete" by RegistryWrite,
    ConfigurationTestQueries: data "Microsoft.Devices/IotHubs/configurations/testQueries/action" by RegistryWrite,
    ConfigurationApply: data "Microsoft.Devices/IotHubs/configurations/applyToEdgeDevice/action" by RegistryWrite,
    HubStatisticsRead: data "Microsoft.Devices/IotHubs/statistics/read" by RegistryRead,
    HubConnectionStatisticsRead: data "Microsoft.Devices/IotHubs/statistics/read" by ServiceConnect,
    HubEventsRead: data "Microsoft.Devices/IotHubs/events/read" by ServiceConnect,
    DeviceConnect: data "Microsoft.Devices/IotHubs/devices/connect/action" by DeviceConnect,
    // Provisioning (dps.md §3.1).
    EnrollmentRead: data "Microsoft.Devices/provisioningServices/enrollments/read" by EnrollmentRead,
    EnrollmentWrite: data "Microsoft.Devices/provisioningServices/enrollments/write" by EnrollmentWrite,
    EnrollmentDelete: data "Microsoft.Devices/provisioningServices/enrollments/delete" by EnrollmentWrite,
    EnrollmentGroupRead: data "Microsoft.Devices/provisioningServices/enrollmentGroups/read" by EnrollmentRead,
    EnrollmentGroupWrite: data "Microsoft.Devices/provisioningServices/enrollmentGroups/write" by EnrollmentWrite,
    EnrollmentGroupDelete: data "Microsoft.Devices/provisioningServices/enrollmentGroups/delete" by EnrollmentWrite,
    AttestationMechanismRead: data "Microsoft.Devices/provisioningServices/attestationmechanism/details/action" by EnrollmentWrite,
    RegistrationRead: data "Microsoft.Devices/provisioningServices/registrationStates/read" by RegistrationStatusRead,
    RegistrationDelete: data "Microsoft.Devices/provisioningServices/registrationStates/delete" by RegistrationStatusWrite,
    // Digital Twins (arm-and-auth.md §6).
    DigitalTwinRead: data "Microsoft.DigitalTwins/digitaltwins/read",
    DigitalTwinWrite: data "Microsoft.DigitalTwins/digitaltwins/write",
    DigitalTwinDelete: data "Microsoft.DigitalTwins/digitaltwins/delete",
    DigitalTwinTelemetry: data "Microsoft.DigitalTwins/digitaltwins/sendtelemetry/action",
    RelationshipRead: data "Microsoft.DigitalTwins/digitaltwins/relationships/read",
    RelationshipWrite: data "Microsoft.DigitalTwins/digitaltwins/relationships/write",
    RelationshipDelete: data "Microsoft.DigitalTwins/digitaltwins/relationships/delete",
    ModelRead: data "Microsoft.DigitalTwins/models/read",
    ModelWrite: data "Microsoft.DigitalTwins/models/write",
    ModelDelete: data "Microsoft.DigitalTwins/models/delete",
    EventRouteRead: data "Microsoft.DigitalTwins/eventroutes/read",
    EventRouteWrite: data "Microsoft.DigitalTwins/eventroutes/write",
    EventRouteDelete: data "Microsoft.DigitalTwins/eventroutes/delete",
    DigitalTwinQuery: data "Microsoft.DigitalTwins/query/action",
    // Event Hubs (messaging.md).
    EventHubSend: data "Microsoft.EventHub/namespaces/messages/send/action",
    EventHubReceive: data "Microsoft.EventHub/namespaces/messages/receive/action",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_written_as_azure_writes_them_and_read_back() {
        let owner = "RegistryWrite, ServiceConnect, DeviceConnect";
        assert_eq!(Right::write_list(&Right::parse_list(owner).unwrap()), owner);
        assert_eq!(Right::parse_list("Nonsense"), None);
        assert_eq!(Right::parse_list(""), None);
    }

    #[test]
    fn a_writer_may_read_but_a_reader_may_not_write() {
        assert!(Right::any_grants(&[Right::RegistryWrite], Right::RegistryRead));
        assert!(!Right::any_grants(&[Right::RegistryRead], Right::RegistryWrite));
        assert!(!Right::any_grants(&[Right::RegistryWrite], Right::ServiceConnect));
    }
}
