//! What a CONNECT says about itself: which service, which identity, with which proof (`iothub-device.md` §2.3, `dps.md` §1.3).
//! Pure; called once per connection, before anything is asked of a service.

use base::ids::IdentityId;
use base::sas::SasToken;

use crate::codec::{Connect, ConnectReturnCode, Login, Qos, Will};
use crate::topic::from_device::telemetry_bag;
use crate::user_name::{HubUserName, ProvisioningUserName, UserName};
use crate::{property_bag, topic};

/// Why a CONNECT is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Answered with a CONNACK, then closed.
    Code(ConnectReturnCode),
    /// Closed without a word.
    Close,
}

impl From<ConnectReturnCode> for Refusal {
    fn from(code: ConnectReturnCode) -> Self {
        Self::Code(code)
    }
}

/// How the client wants to prove who it is.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Sas(SasToken),
    /// No password: the certificate of the TLS handshake, if there was one.
    Certificate,
}

#[derive(Debug)]
pub(crate) enum Request {
    Hub { name: HubUserName, credential: Credential },
    Provisioning { name: ProvisioningUserName, credential: Credential },
}

pub(crate) fn parse(connect: &Connect) -> Result<Request, Refusal> {
    let login = connect.login.as_ref().ok_or(ConnectReturnCode::BadUserNameOrPassword)?;
    let name = UserName::parse(&login.user_name).map_err(|_| ConnectReturnCode::BadUserNameOrPassword)?;
    match name {
        UserName::Hub(name) => {
            check_client_id(&connect.client_id, &name.identity)?;
            if let Some(will) = &connect.will {
                check_will(will, &name.identity)?;
            }
            if name.auth_chain.as_ref().is_some_and(|chain| chain.contains(';')) {
                // Nested edge gateways are not served.
                return Err(ConnectReturnCode::NotAuthorized.into());
            }
            Ok(Request::Hub { name, credential: credential(login)? })
        }
        UserName::Provisioning(name) => {
            if connect.client_id.is_empty() {
                return Err(ConnectReturnCode::IdentifierRejected.into());
            }
            if !connect.client_id.eq_ignore_ascii_case(&name.registration_id) {
                return Err(ConnectReturnCode::NotAuthorized.into());
            }
            if connect.will.is_some() {
                return Err(Refusal::Close);
            }
            Ok(Request::Provisioning { name, credential: credential(login)? })
        }
    }
}

/// A client id that could be nobody's is rejected as such; one that is somebody else's is not authorized.
fn check_client_id(client_id: &str, identity: &IdentityId) -> Result<(), Refusal> {
    let named: IdentityId = client_id.parse().map_err(|_| ConnectReturnCode::IdentifierRejected)?;
    if named == *identity { Ok(()) } else { Err(ConnectReturnCode::NotAuthorized.into()) }
}

/// A will is telemetry of the device itself.
fn check_will(will: &Will, identity: &IdentityId) -> Result<(), Refusal> {
    let bag = telemetry_bag(&will.topic, identity).ok_or(topic::UnknownTopic).map_err(|_| Refusal::Close)?;
    let bag_is_good = property_bag::parse(bag).is_ok();
    if bag_is_good && will.qos != Qos::ExactlyOnce { Ok(()) } else { Err(Refusal::Close) }
}

fn credential(login: &Login) -> Result<Credential, Refusal> {
    let Some(password) = login.password.as_ref().filter(|password| !password.is_empty()) else {
        return Ok(Credential::Certificate);
    };
    let text = std::str::from_utf8(password).map_err(|_| ConnectReturnCode::BadUserNameOrPassword)?;
    let token = SasToken::parse(text).map_err(|_| ConnectReturnCode::BadUserNameOrPassword)?;
    Ok(Credential::Sas(token))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::Text;

    const TOKEN: &str = "SharedAccessSignature sr=h%2Fdevices%2Fd&sig=AAAA&se=1";

    fn connect(client_id: &str, user_name: &str, password: Option<&str>) -> Connect {
        let password = password.map(|password| Bytes::copy_from_slice(password.as_bytes()));
        Connect {
            client_id: client_id.try_into().unwrap(),
            clean_session: false,
            keep_alive_seconds: 60,
            will: None,
            login: Some(Login { user_name: user_name.try_into().unwrap(), password }),
        }
    }

    fn refusal(connect: &Connect) -> Refusal {
        parse(connect).expect_err("a refusal")
    }

    #[test]
    fn a_device_and_a_registration_are_told_apart() {
        let hub = parse(&connect("d/m", "h/d/m/?api-version=2021-04-12", Some(TOKEN))).unwrap();
        assert!(matches!(hub, Request::Hub { credential: Credential::Sas(_), .. }));
        let dps = parse(&connect("REG", "0ne1/registrations/reg/api-version=2019-03-31", None)).unwrap();
        assert!(matches!(dps, Request::Provisioning { credential: Credential::Certificate, .. }));
        let empty = parse(&connect("d", "h/d/?api-version=2021-04-12", Some(""))).unwrap();
        assert!(matches!(empty, Request::Hub { credential: Credential::Certificate, .. }));
    }

    #[test]
    fn each_fault_has_its_return_code() {
        use ConnectReturnCode::{BadUserNameOrPassword, IdentifierRejected, NotAuthorized};
        let user = "h/d/?api-version=2021-04-12";
        let mut anonymous = connect("d", user, None);
        anonymous.login = None;
        let cases = [
            (anonymous, BadUserNameOrPassword),
            (connect("d", "nonsense", Some(TOKEN)), BadUserNameOrPassword),
            (connect("d", user, Some("no token")), BadUserNameOrPassword),
            (connect("", user, Some(TOKEN)), IdentifierRejected),
            (connect("a b", user, Some(TOKEN)), IdentifierRejected),
            (connect("D", user, Some(TOKEN)), NotAuthorized),
            (connect("d/m", user, Some(TOKEN)), NotAuthorized),
            (connect("d", "h/d/?api-version=1&auth-chain=d%3Bedge", Some(TOKEN)), NotAuthorized),
            (connect("", "0ne1/registrations/r/api-version=1", None), IdentifierRejected),
            (connect("x", "0ne1/registrations/r/api-version=1", None), NotAuthorized),
        ];
        for (connect, code) in cases {
            assert_eq!(refusal(&connect), Refusal::Code(code), "{connect:?}");
        }
    }

    #[test]
    fn a_will_goes_to_the_devices_own_telemetry_topic() {
        let mut with_will = connect("d", "h/d", Some(TOKEN));
        let mut set = |topic: &str, qos| {
            let topic = Text::try_from(topic).unwrap();
            with_will.will = Some(Will { qos, retain: false, topic, payload: Bytes::new() });
            parse(&with_will).map(|_| ())
        };
        assert_eq!(set("devices/d/messages/events/a=b", Qos::AtLeastOnce), Ok(()));
        assert_eq!(set("devices/e/messages/events/", Qos::AtLeastOnce), Err(Refusal::Close));
        assert_eq!(set("devices/d/messages/events/&", Qos::AtLeastOnce), Err(Refusal::Close));
        assert_eq!(set("devices/d/messages/events/", Qos::ExactlyOnce), Err(Refusal::Close));
    }
}
