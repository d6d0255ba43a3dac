//! What a CONNECT says about itself: which service, which identity, with which proof and which last words
//! (`iothub-device.md` §2.3, `dps.md` §1.3).
//! Pure; called once per connection, before anything is asked of a service.

use base::ids::IdentityId;
use base::sas::SasToken;

use crate::codec::{Connect, ConnectReturnCode, Login, Qos, Will};
use crate::property_bag;
use crate::topic::from_device::telemetry_bag;
use crate::user_name::{HubUserName, ProvisioningUserName, UserName};

/// Why a CONNECT is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Answered with a CONNACK, then closed. `None`: closed without a word.
    pub(crate) code: Option<ConnectReturnCode>,
    /// For the log.
    pub(crate) why: &'static str,
}

impl Refusal {
    pub(crate) fn with(code: ConnectReturnCode, why: &'static str) -> Self {
        Self { code: Some(code), why }
    }

    pub(crate) fn close(why: &'static str) -> Self {
        Self { code: None, why }
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

/// A will that nobody would hear is taken out.
pub(crate) fn parse(connect: &mut Connect) -> Result<Request, Refusal> {
    use ConnectReturnCode::{BadUserNameOrPassword, IdentifierRejected, NotAuthorized};
    let login = connect.login.as_ref();
    let login = login.ok_or(Refusal::with(BadUserNameOrPassword, "it presented no user name"))?;
    let name = UserName::parse(&login.user_name, &connect.client_id);
    let name = name.map_err(|_| {
        Refusal::with(BadUserNameOrPassword, "its user name names neither a device nor a registration")
    })?;
    match name {
        UserName::Hub(name) => {
            check_client_id(&connect.client_id, &name.identity)?;
            check_will(&mut connect.will, &name.identity)?;
            if name.auth_chain.as_ref().is_some_and(|chain| chain.contains(';')) {
                return Err(Refusal::with(NotAuthorized, "nested edge gateways are not served"));
            }
            Ok(Request::Hub { name, credential: credential(login)? })
        }
        UserName::Provisioning(name) => {
            if connect.client_id.is_empty() {
                return Err(Refusal::with(IdentifierRejected, "its client id is empty"));
            }
            if !connect.client_id.eq_ignore_ascii_case(&name.registration_id) {
                return Err(Refusal::with(NotAuthorized, "its client id is not its registration id"));
            }
            connect.will = None;
            Ok(Request::Provisioning { name, credential: credential(login)? })
        }
    }
}

/// A client id that could be nobody's is rejected as such; one that is somebody else's is not authorized.
fn check_client_id(client_id: &str, identity: &IdentityId) -> Result<(), Refusal> {
    let named: IdentityId = client_id.parse().map_err(|_| {
        Refusal::with(ConnectReturnCode::IdentifierRejected, "its client id can be no device's or module's")
    })?;
    let other = Refusal::with(ConnectReturnCode::NotAuthorized, "its client id is not that of its user name");
    if named == *identity { Ok(()) } else { Err(other) }
}

/// A will is telemetry of the device itself. On any other topic it is none: clients that were not written for a hub set such
/// wills and mean no harm by them. One of the device's own has to be good.
fn check_will(will: &mut Option<Will>, identity: &IdentityId) -> Result<(), Refusal> {
    let Some(wanted) = will else { return Ok(()) };
    let Some(bag) = telemetry_bag(&wanted.topic, identity) else {
        tracing::debug!(%identity, topic = %*wanted.topic, "a will on a foreign topic is left out");
        *will = None;
        return Ok(());
    };
    if wanted.qos == Qos::ExactlyOnce {
        return Err(Refusal::close("a will at QoS 2"));
    }
    property_bag::parse(bag).map(drop).map_err(|_| Refusal::close("a will with a malformed property bag"))
}

fn credential(login: &Login) -> Result<Credential, Refusal> {
    let Some(password) = login.password.as_ref().filter(|password| !password.is_empty()) else {
        return Ok(Credential::Certificate);
    };
    let text = std::str::from_utf8(password).ok();
    let token = text.and_then(|text| SasToken::parse(text).ok()).ok_or(Refusal::with(
        ConnectReturnCode::BadUserNameOrPassword,
        "its password is no shared access signature",
    ))?;
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

    fn refusal(connect: &mut Connect) -> Refusal {
        parse(connect).expect_err("a refusal")
    }

    #[test]
    fn a_device_and_a_registration_are_told_apart() {
        let hub = parse(&mut connect("d/m", "h/d/m/?api-version=2021-04-12", Some(TOKEN))).unwrap();
        assert!(matches!(hub, Request::Hub { credential: Credential::Sas(_), .. }));
        let dps = parse(&mut connect("REG", "0ne1/registrations/reg/api-version=2019-03-31", None)).unwrap();
        assert!(matches!(dps, Request::Provisioning { credential: Credential::Certificate, .. }));
        let empty = parse(&mut connect("d", "h/d/?api-version=2021-04-12", Some(""))).unwrap();
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
        for (mut connect, code) in cases {
            assert_eq!(refusal(&mut connect).code, Some(code), "{connect:?}");
        }
    }

    #[test]
    fn a_will_on_a_foreign_topic_is_none_and_a_bad_one_of_its_own_is_refused() {
        let mut with_will = connect("d", "h/d", Some(TOKEN));
        let mut set = |topic: &str, qos| {
            let topic = Text::try_from(topic).unwrap();
            with_will.will = Some(Will { qos, retain: true, topic, payload: Bytes::new() });
            parse(&mut with_will).map(|_| with_will.will.is_some()).map_err(|refusal| refusal.code)
        };
        assert_eq!(set("devices/d/messages/events/a=b", Qos::AtLeastOnce), Ok(true));
        // The last one is Tasmota's.
        for foreign in ["devices/e/messages/events/", "devices/d/modules/m/messages/events/", "tele/plug/LWT"]
        {
            for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
                assert_eq!(set(foreign, qos), Ok(false), "{foreign}");
            }
        }
        assert_eq!(set("devices/d/messages/events/&", Qos::AtLeastOnce), Err(None));
        assert_eq!(set("devices/d/messages/events/", Qos::ExactlyOnce), Err(None));
    }
}
