//! How a message's properties lie in the headers of a stream's record: a version byte, then entries in the order they were
//! added. A system property is its number, a length and the value; an application property is 0, then name and value, each
//! with its length. Lengths are LEB128. Written on the hot path, read by whoever prints or routes. Numbers are a promise to
//! the disk: add, never change.

const VERSION: u8 = 1;
const APPLICATION: u8 = 0;

macro_rules! system_properties {
    ($($name:ident = $number:literal $text:literal,)+) => {
        /// What the hub knows of a message, by the names that Event Hubs clients see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SystemProperty {
            $($name = $number,)+
        }

        impl SystemProperty {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

system_properties! {
    MessageId = 1 "message-id",
    CorrelationId = 2 "correlation-id",
    UserId = 3 "user-id",
    To = 4 "to",
    ContentType = 5 "content-type",
    ContentEncoding = 6 "content-encoding",
    AbsoluteExpiryTime = 7 "absolute-expiry-time",
    CreationTimeUtc = 8 "iothub-creation-time-utc",
    MessageSchema = 9 "iothub-message-schema",
    OutputName = 10 "iothub-outputname",
    InterfaceId = 11 "iothub-interface-id",
    Subject = 12 "dt-subject",
    DiagnosticId = 13 "Diagnostic-Id",
    CorrelationContext = 14 "Correlation-Context",
    ConnectionDeviceId = 32 "iothub-connection-device-id",
    ConnectionModuleId = 33 "iothub-connection-module-id",
    ConnectionAuthGenerationId = 34 "iothub-connection-auth-generation-id",
    ConnectionAuthMethod = 35 "iothub-connection-auth-method",
    MessageSource = 36 "iothub-message-source",
    DataSchema = 37 "dt-dataschema",
}

impl SystemProperty {
    /// Whether the hub alone writes it; a device cannot.
    pub fn is_stamped(self) -> bool {
        self as u8 >= Self::ConnectionDeviceId as u8
    }
}

/// One property as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    System(SystemProperty, &'a str),
    Application(&'a str, &'a str),
}

/// Headers without a property.
pub fn begin() -> Vec<u8> {
    vec![VERSION]
}

pub fn push_system(headers: &mut Vec<u8>, property: SystemProperty, value: &str) {
    headers.push(property as u8);
    push_text(headers, value);
}

pub fn push_application(headers: &mut Vec<u8>, name: &str, value: &str) {
    headers.push(APPLICATION);
    push_text(headers, name);
    push_text(headers, value);
}

fn push_text(headers: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= 7;
        if length == 0 {
            headers.push(low);
            break;
        }
        headers.push(low | 0x80);
    }
    headers.extend_from_slice(text.as_bytes());
}

/// The properties in order. Ends early at what it does not understand, as a newer version may have written.
pub fn read(headers: &[u8]) -> impl Iterator<Item = Property<'_>> {
    let mut rest = match headers.split_first() {
        Some((&VERSION, rest)) => rest,
        _ => &[],
    };
    std::iter::from_fn(move || next(&mut rest))
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Property<'a>> {
    let (&number, after) = rest.split_first()?;
    *rest = after;
    if number == APPLICATION {
        return Some(Property::Application(take_text(rest)?, take_text(rest)?));
    }
    let property = SystemProperty::from_number(number)?;
    Some(Property::System(property, take_text(rest)?))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let mut length = 0_usize;
    for shift in (0..32).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (text, after) = rest.split_at_checked(length)?;
            *rest = after;
            return std::str::from_utf8(text).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_system_property_has_a_number_of_its_own() {
        for property in SystemProperty::ALL {
            assert_eq!(SystemProperty::from_number(*property as u8), Some(*property));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(pairs in vec((".{0,200}", ".{0,300}"), 0..8), id in ".{0,200}") {
            let mut headers = begin();
            push_system(&mut headers, SystemProperty::MessageId, &id);
            for (name, value) in &pairs {
                push_application(&mut headers, name, value);
            }
            let mut expected = vec![Property::System(SystemProperty::MessageId, id.as_str())];
            expected.extend(pairs.iter().map(|(name, value)| Property::Application(name, value)));
            prop_assert_eq!(read(&headers).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn reading_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes).count();
            let _ = read(&[&[VERSION], bytes.as_slice()].concat()).count();
        }
    }
}
